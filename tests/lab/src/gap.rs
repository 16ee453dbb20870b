//! What a user felt of a trial: how long nothing came, what was lost, and what came twice.

use crate::seen::{Mode, Session, Told};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Between two packets or blocks of a user, in microseconds.
pub const PERIOD_US: u64 = 10_000;

/// A session's trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Felt {
    /// The longest time between two answers that came first for their number, less the time that lies
    /// between two of them anyway; in microseconds.
    pub gap_us: u64,
    /// When that gap began and ended.
    pub between: (u64, u64),
    /// The same before anything was done to the network: how steady the machine itself is.
    pub quiet_us: u64,
    /// Median time from number to answer before anything was done, in microseconds.
    pub rtt_us: u64,
    /// Numbers that were never answered, though they were sent early enough.
    pub lost: u64,
    /// Numbers that were answered more than once.
    pub duplicated: u64,
    /// Numbers of which nobody can tell.
    pub unsure: u64,
    /// Wrong answers.
    pub corrupt: u64,
    /// How often the session moved since, by why.
    pub moves: BTreeMap<String, u64>,
}

/// From when to when it is looked, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Sessions are settled.
    pub settled: u64,
    /// Something is done.
    pub fault: u64,
    /// The end.
    pub end: u64,
    /// What is sent so shortly before the end need not be answered any more.
    pub grace: u64,
}

/// What a session felt.
pub fn felt(mode: Mode, session: &Session, window: Window) -> Felt {
    let mut times: HashMap<u64, u64> = HashMap::new();
    for answer in &session.answers {
        *times.entry(answer.seq).or_default() += 1;
    }
    let usual = usual(mode, session, window);
    let firsts: Vec<u64> = firsts(session).into_iter().map(|(at, _)| at).collect();
    let (gap_us, between) = longest(&firsts, window.fault, window.end, usual);
    let (quiet_us, _) = longest(&firsts, window.settled, window.fault, usual);
    let in_time =
        |seq: usize| (window.settled..window.end.saturating_sub(window.grace)).contains(&session.sent[seq]);
    let never = |seq: &usize| in_time(*seq) && !times.contains_key(&(*seq as u64));
    let missing = (0..session.sent.len()).filter(never);
    let unsure = session.unsure.len() as u64;
    Felt {
        gap_us,
        between,
        quiet_us,
        rtt_us: rtt(session, window),
        lost: missing.filter(|seq| !session.unsure.contains(&(*seq as u64))).count() as u64,
        duplicated: times.values().filter(|n| **n > 1).count() as u64,
        unsure,
        corrupt: session.corrupt,
        moves: moves(session, window.fault, window.end),
    }
}

/// How often a session moved in a time, by why.
fn moves(session: &Session, from: u64, to: u64) -> BTreeMap<String, u64> {
    let mut moves = BTreeMap::new();
    for (at, told) in &session.events {
        if let Told::Moved(_, reason) = told
            && (from..to).contains(at)
        {
            *moves.entry(reason.clone()).or_default() += 1;
        }
    }
    moves
}

/// Moments of first answers, in order, and whose they were.
pub(crate) fn firsts(session: &Session) -> Vec<(u64, u8)> {
    let mut seen = HashSet::new();
    let mut at: Vec<_> =
        session.answers.iter().filter(|a| seen.insert(a.seq)).map(|a| (a.at, a.by)).collect();
    at.sort_unstable();
    at
}

/// The time between two answers when all is well. Requests wait for each other, so that theirs hangs on
/// the round trip: it is the median before anything was done.
pub(crate) fn usual(mode: Mode, session: &Session, window: Window) -> u64 {
    if mode != Mode::Http {
        return PERIOD_US;
    }
    let firsts: Vec<u64> = firsts(session).into_iter().map(|(at, _)| at).collect();
    let calm = firsts.windows(2).filter(|w| w[0] >= window.settled && w[1] <= window.fault);
    let mut apart: Vec<u64> = calm.map(|w| w[1] - w[0]).collect();
    apart.sort_unstable();
    apart.get(apart.len() / 2).copied().unwrap_or(PERIOD_US)
}

/// How long answers took while all was well.
fn rtt(session: &Session, window: Window) -> u64 {
    let calm = session.answers.iter().filter(|a| (window.settled..window.fault).contains(&a.at));
    let took =
        calm.filter_map(|a| Some(a.at.saturating_sub(*session.sent.get(usize::try_from(a.seq).ok()?)?)));
    let mut took: Vec<u64> = took.collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or(0)
}

/// The longest time without an answer that ends within a time, or lasts to its end.
fn longest(firsts: &[u64], from: u64, to: u64, usual: u64) -> (u64, (u64, u64)) {
    let inside = firsts.iter().copied().filter(|at| (from..=to).contains(at));
    let before = firsts.iter().copied().take_while(|at| *at < from).last();
    let mut moments: Vec<u64> = before.into_iter().chain(inside).collect();
    if moments.is_empty() {
        moments.push(from);
    }
    moments.push(to);
    let widest = moments.windows(2).max_by_key(|w| w[1] - w[0]).map_or((from, to), |w| (w[0], w[1]));
    ((widest.1 - widest.0).saturating_sub(usual), widest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::Answer;

    const MS: u64 = 1000;

    fn stream(sent: u64, answered: impl Fn(u64) -> Vec<(u64, u8)>) -> Session {
        let answers = (0..sent).flat_map(|seq| {
            answered(seq).into_iter().map(move |(after, by)| Answer { seq, at: seq * PERIOD_US + after, by })
        });
        let mut answers: Vec<_> = answers.collect();
        answers.sort_by_key(|a| a.at);
        Session { sent: (0..sent).map(|seq| seq * PERIOD_US).collect(), answers, ..Session::default() }
    }

    fn window() -> Window {
        Window { settled: 500 * MS, fault: 1000 * MS, end: 2000 * MS, grace: 200 * MS }
    }

    #[test]
    fn a_steady_stream_has_no_gap() {
        let felt = felt(Mode::Udp, &stream(201, |_| vec![(20 * MS, 1)]), window());
        assert_eq!(felt, Felt { between: felt.between, rtt_us: 20 * MS, ..Felt::default() });
    }

    #[test]
    fn silence_is_a_gap_and_what_came_in_it_is_lost() {
        // Numbers 100 to 119 find nobody.
        let session = stream(201, |seq| if (100..120).contains(&seq) { vec![] } else { vec![(20 * MS, 1)] });
        let felt = felt(Mode::Udp, &session, window());
        assert_eq!((felt.gap_us, felt.lost, felt.quiet_us), (200 * MS, 20, 0));
        assert_eq!(felt.between, (1010 * MS, 1220 * MS));
    }

    #[test]
    fn silence_to_the_end_counts_up_to_there() {
        let session = stream(201, |seq| if seq >= 100 { vec![] } else { vec![(0, 1)] });
        let felt = felt(Mode::Udp, &session, window());
        assert_eq!((felt.gap_us, felt.lost), (1000 * MS, 80), "the last 20 need not be answered");
        let none = stream(201, |_| vec![]);
        assert_eq!(super::felt(Mode::Udp, &none, window()).gap_us, 990 * MS);
    }

    #[test]
    fn copies_count_once_each_and_fill_no_gap() {
        let session =
            stream(201, |seq| if seq == 110 { vec![(20 * MS, 1), (30 * MS, 2)] } else { vec![(20 * MS, 1)] });
        let felt = felt(Mode::Udp, &session, window());
        assert_eq!((felt.duplicated, felt.lost, felt.gap_us), (1, 0, 0));
    }

    #[test]
    fn requests_are_held_to_their_own_pace() {
        let answers = (0..40).map(|seq| Answer { seq, at: seq * 50 * MS, by: 1 }).collect();
        let session = Session { sent: (0..40).map(|s| s * 50 * MS).collect(), answers, ..Session::default() };
        assert_eq!(felt(Mode::Http, &session, window()).gap_us, 0);
    }
}
