//! What is being found out about one mirror in one family, and what was found last.

use super::panel::{Broker, Panel, Settled};
use super::peers::Abroad;
use super::probing::Concluded;
use super::types::Witnessed;
use crate::health::machine::Outside;
use crate::id::NodeId;
use crate::time::{MonoTime, Now};
use arrayvec::ArrayVec;
use std::time::Duration;

/// How long what a witness said stands in for what it declines to find out again.
const RECALL: Duration = Duration::from_secs(3);

/// After so many rounds in a row in which a lone witness reached it and more did not, these are believed.
const DISSENT: u8 = 3;
/// How often witnesses are asked about what is out already.
const WITNESSES_AGAIN: Duration = Duration::from_secs(30);
/// Rounds that failed in a row and make the next rarer, at most: each doubles the time.
const MOST_DOUBLINGS: u32 = 5;

/// The asking of one mirror in one family, beyond the broker's own probes.
#[derive(Default)]
pub(super) struct Inquiry {
    /// Witnesses are being asked, or the broker's failure waits for them.
    pub panel: Option<Panel>,
    /// How the broker's own probing ended, not looked at yet.
    pub concluded: Option<Concluded>,
    /// When to ask again, because that round of asking was not enough.
    pub again: Option<MonoTime>,
    /// Rounds that failed.
    rounds: u32,
    /// Rounds in a row in which a lone witness stood against more that did not reach it.
    dissent: u8,
    /// When witnesses were asked last.
    convened: Option<MonoTime>,
    /// The last conclusion of the broker's own probes.
    pub last: Option<(bool, Now)>,
    /// What witnesses last said.
    pub said: ArrayVec<(NodeId, Witnessed, Now), { super::panel::WITNESSES_LOSSY }>,
}

/// What an inquiry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One regular probe failed.
    Missed(Broker),
    /// The panel is settled.
    Settled(Settled),
}

impl Inquiry {
    /// Forgets what was being asked; what was found stays.
    pub fn stop(&mut self) {
        self.panel = None;
        self.concluded = None;
        self.reset();
    }

    /// It was reached, or its agent is heard again: what failed before no longer counts.
    pub fn reset(&mut self) {
        self.again = None;
        self.rounds = 0;
    }

    /// How the broker's own probing ended. Whether witnesses are wanted now.
    pub fn broker(&mut self, concluded: Concluded, now: Now) -> Option<Found> {
        match concluded {
            Concluded::Passed => {
                self.last = Some((true, now));
                self.panel = None;
                self.dissent = 0;
                self.reset();
                Some(Found::Settled(Settled::Reached(Outside::Broker)))
            }
            Concluded::Missed(how) => Some(Found::Missed(how)),
            Concluded::Failed(how) => {
                self.last = Some((false, now));
                self.failed(how);
                None
            }
        }
    }

    fn failed(&mut self, how: Broker) {
        self.panel.get_or_insert_default().broker_failed(how);
    }

    /// What the panel has come to, if it has come to anything; it is dissolved then.
    pub fn settle(&mut self, now: MonoTime) -> Option<Found> {
        let panel = self.panel.as_ref()?;
        let settled = panel.settle(now)?;
        let (passed, failed) = panel.votes();
        self.dissent = match passed {
            0 => self.dissent,
            _ if failed > passed => self.dissent.saturating_add(1),
            _ => 0,
        };
        let settled = match settled {
            // It may be lied about, or reached through something that answers for everybody.
            Settled::Reached(Outside::Witnesses) if self.dissent >= DISSENT => {
                Settled::Unreached(Outside::BrokerAndWitnesses)
            }
            settled => settled,
        };
        self.panel = None;
        if matches!(settled, Settled::Reached(_)) {
            self.reset();
        }
        Some(Found::Settled(settled))
    }

    /// Takes a witness's answer; whether it was awaited.
    ///
    /// Agents probe no address again too soon and decline; what such a witness said a moment ago stands
    /// then, with the time when it said so.
    pub fn hear(&mut self, serial: u64, witness: NodeId, said: Witnessed, now: Now) -> bool {
        let before = self.said.iter().find(|(w, before, at)| {
            let recent = now.mono.since(at.mono) < RECALL;
            *w == witness && recent && *before != Witnessed::Declined
        });
        let (said, at) = match (said, before) {
            (Witnessed::Declined, Some((_, before, at))) => (*before, *at),
            _ => (said, now),
        };
        let awaited = self.panel.as_mut().is_some_and(|panel| panel.hear(serial, witness, said));
        if awaited {
            self.said.retain(|(w, ..)| *w != witness);
            if self.said.is_full() {
                self.said.remove(0);
            }
            self.said.push((witness, said, at));
        }
        awaited
    }

    /// Takes what other brokers found meanwhile, if anything is being found out; whether that is news.
    pub fn hear_peers(&mut self, abroad: &Abroad, now: MonoTime) -> bool {
        let Some((panel, began)) = self.panel.as_mut().and_then(|p| p.began().map(|at| (p, at))) else {
            return false;
        };
        // Each is heard.
        abroad
            .voices(began, now)
            .fold(false, |news, (broker, reached)| panel.hear_peer(broker, reached) || news)
    }

    /// Another round failed; whether these are enough. While they are not, the next begins after `gap`.
    pub fn failed_round(&mut self, enough: u32, gap: Duration, now: MonoTime) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        let more = self.rounds < enough;
        self.again = more.then(|| now + gap);
        !more
    }

    /// Asks again after that time, although enough was asked.
    pub fn ask_again(&mut self, at: MonoTime) {
        self.again = Some(at);
    }

    /// `d`, doubled for each round that failed in a row.
    pub fn backed_off(&self, d: Duration) -> Duration {
        d * (1 << self.rounds.saturating_sub(1).min(MOST_DOUBLINGS))
    }

    /// Whether witnesses are to be asked now about a mirror that is in service or not.
    pub fn may_convene(&self, in_service: bool, now: MonoTime) -> bool {
        in_service || self.convened.is_none_or(|at| now.since(at) >= WITNESSES_AGAIN)
    }

    /// Witnesses may be asked at once, whenever they were asked before.
    pub fn anew(&mut self) {
        self.convened = None;
    }

    /// Witnesses are asked.
    pub fn convene(&mut self, panel: Panel, now: MonoTime) {
        self.panel = Some(panel);
        self.convened = Some(now);
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<MonoTime> {
        [self.panel.as_ref().and_then(Panel::deadline), self.again].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    #[test]
    fn what_a_witness_said_a_moment_ago_stands_while_it_declines() {
        let witness = NodeId([1; 32]);
        let at = |ms: u64| Now { mono: MonoTime::from_millis(ms), unix: UnixMillis(ms) };
        for (later, expected) in [(2_999, Witnessed::Failed), (3_000, Witnessed::Declined)] {
            let mut inquiry = Inquiry {
                panel: Some(Panel::convene(1, [witness].into_iter(), MonoTime(9), false)),
                ..Inquiry::default()
            };
            assert!(inquiry.hear(1, witness, Witnessed::Failed, at(0)));
            inquiry.panel = Some(Panel::convene(2, [witness].into_iter(), MonoTime(9), false));
            assert!(inquiry.hear(2, witness, Witnessed::Declined, at(later)));
            assert_eq!(inquiry.said[0].1, expected, "after {later} ms");
        }
    }
}
