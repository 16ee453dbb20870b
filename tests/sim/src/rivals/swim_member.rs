//! One member of a SWIM group, after memberlist's published behaviour and LAN figures: a probe every
//! second with 500 ms to be acknowledged, then three indirect ones and one over TCP until the second is
//! over; suspicion, refutation, gossip, and Lifeguard's local health, nacks and buddies.
//!
//! It takes packets and timers with `now` and leaves packets, timers and changes in [`Out`].

use super::suspicion::Suspicion;
use crate::rng::Rng;

/// Time between two probes of a member in good health, in microseconds.
pub const INTERVAL_US: u64 = 1_000_000;
/// How long a direct probe waits for its acknowledgement, in microseconds.
pub const TIMEOUT_US: u64 = 500_000;
/// Time between two rounds of gossip, in microseconds.
pub const GOSSIP_US: u64 = 200_000;
/// Members that are asked to probe for one.
const INDIRECT: usize = 3;
/// Members that a round of gossip goes to.
const GOSSIP_NODES: usize = 3;
/// How long the dead are still told, in microseconds.
const TELL_THE_DEAD_US: u64 = 30_000_000;
/// Words are passed on so many times ⌈log₁₀(n + 1)⌉.
const RETRANSMIT_MULT: u32 = 4;
/// Worst local health.
const WORST_HEALTH: u32 = 7;
/// About as many words fit into a datagram.
const WORDS: usize = 20;

/// What is thought of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is there.
    Alive,
    /// It did not answer.
    Suspect(Suspicion),
    /// It is gone, since then.
    Dead(u64),
}

/// What members tell each other of one: number, incarnation, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is there.
    Alive(u32, u32),
    /// It did not answer the last one.
    Suspect(u32, u32, u32),
    /// It is gone.
    Dead(u32, u32),
}

impl Word {
    fn of(self) -> u32 {
        match self {
            Word::Alive(of, _) | Word::Suspect(of, ..) | Word::Dead(of, _) => of,
        }
    }
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Acknowledge this number.
    Ping(u32),
    /// The number is acknowledged.
    Ack(u32),
    /// Ping that member for me, and acknowledge this number.
    PingFor(u32, u32),
    /// It did not answer.
    Nack(u32),
    /// As a ping, over TCP.
    TcpPing(u32),
    /// Words only.
    Gossip,
    /// All that is known, over TCP; whether the same is wanted back.
    Sync(bool),
}

/// One packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Sender.
    pub from: u32,
    /// Receiver.
    pub to: u32,
    /// What it is for.
    pub say: Say,
    /// What it tells besides.
    pub words: Vec<Word>,
}

/// A member's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The next probe is due.
    Probe,
    /// A direct probe was not acknowledged in time.
    Unanswered(u32),
    /// A probe is over.
    Over(u32),
    /// A probe for another member was not acknowledged in time.
    Nack(u32),
    /// A suspicion may be over.
    Suspicion(u32),
}

/// What a member wants done.
#[derive(Default)]
pub struct Out {
    /// To be sent.
    pub packets: Vec<Packet>,
    /// To be fired so many microseconds from now.
    pub timers: Vec<(u64, Timer)>,
    /// Members that went or came.
    pub changes: Vec<(u32, bool)>,
}

struct Probe {
    target: u32,
    seq: u32,
    acked: bool,
    nacks: (u32, u32),
}

/// A probe for another member: its own number, who asked, and by which number.
struct Relay {
    seq: u32,
    asker: u32,
    their: u32,
}

struct Known {
    status: Status,
    incarnation: u32,
}

/// One member.
pub struct Member {
    me: u32,
    known: Vec<Known>,
    round: Vec<u32>,
    seq: u32,
    /// Lifeguard's local health: 0 is good.
    health: u32,
    probe: Option<Probe>,
    relays: Vec<Relay>,
    words: Vec<(u32, Word)>,
    rng: Rng,
}

impl Member {
    /// One of `n` members, all of which are there.
    pub fn new(me: u32, n: u32, rng: Rng) -> Member {
        let known = (0..n).map(|_| Known { status: Status::Alive, incarnation: 0 }).collect();
        let (round, relays, words) = (Vec::new(), Vec::new(), Vec::new());
        Member { me, known, round, seq: 0, health: 0, probe: None, relays, words, rng }
    }

    /// Whether a member counts as there.
    pub fn thinks_alive(&self, of: u32) -> bool {
        !matches!(self.known[of as usize].status, Status::Dead(_))
    }

    fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    fn feel(&mut self, worse: i64) {
        self.health = (i64::from(self.health) + worse).clamp(0, i64::from(WORST_HEALTH)) as u32;
    }

    /// One of its timers fired.
    pub fn fired(&mut self, timer: Timer, now: u64, out: &mut Out) {
        match timer {
            Timer::Probe => self.begin_probe(out),
            Timer::Unanswered(seq) => self.ask_others(seq, out),
            Timer::Over(seq) => self.end_probe(seq, now, out),
            Timer::Nack(seq) => {
                if let Some(at) = self.relays.iter().position(|r| r.seq == seq) {
                    let relay = self.relays.remove(at);
                    self.say(relay.asker, Say::Nack(relay.their), out);
                }
            }
            Timer::Suspicion(of) => self.suspicion_due(of, now, out),
        }
    }

    fn begin_probe(&mut self, out: &mut Out) {
        let interval = INTERVAL_US * u64::from(self.health + 1);
        out.timers.push((interval, Timer::Probe));
        let Some(target) = self.next_target() else { return };
        let seq = self.next_seq();
        self.probe = Some(Probe { target, seq, acked: false, nacks: (0, 0) });
        self.say(target, Say::Ping(seq), out);
        out.timers.push((TIMEOUT_US, Timer::Unanswered(seq)));
        // Just before the next one begins.
        out.timers.push((interval - 1, Timer::Over(seq)));
    }

    /// Members are probed in rounds, each in another order.
    fn next_target(&mut self) -> Option<u32> {
        for _ in 0..2 {
            while let Some(target) = self.round.pop() {
                if target != self.me && self.thinks_alive(target) {
                    return Some(target);
                }
            }
            self.round = (0..self.known.len() as u32).collect();
            self.rng.shuffle(&mut self.round);
        }
        None
    }

    fn ask_others(&mut self, seq: u32, out: &mut Out) {
        let Some(probe) = self.probe.as_ref().filter(|p| p.seq == seq && !p.acked) else { return };
        let target = probe.target;
        let helpers = self.pick(INDIRECT, |known, of| of != target && known.status == Status::Alive);
        if let Some(probe) = &mut self.probe {
            probe.nacks.0 = helpers.len() as u32;
        }
        for helper in helpers {
            self.say(helper, Say::PingFor(target, seq), out);
        }
        self.say(target, Say::TcpPing(seq), out);
    }

    fn end_probe(&mut self, seq: u32, now: u64, out: &mut Out) {
        let Some(probe) = self.probe.take_if(|p| p.seq == seq) else { return };
        if probe.acked {
            return self.feel(-1);
        }
        let (wanted, came) = probe.nacks;
        self.feel(if wanted > 0 { i64::from(wanted) - i64::from(came) } else { 1 });
        let incarnation = self.known[probe.target as usize].incarnation;
        self.hear(Word::Suspect(probe.target, incarnation, self.me), now, out);
    }

    /// So many random members of a kind, other than itself.
    fn pick(&mut self, count: usize, kind: impl Fn(&Known, u32) -> bool) -> Vec<u32> {
        let n = self.known.len() as u64;
        let mut picked = Vec::new();
        for _ in 0..3 * n {
            let of = self.rng.below(n) as u32;
            let fits = of != self.me && kind(&self.known[of as usize], of) && !picked.contains(&of);
            if fits {
                picked.push(of);
            }
            if picked.len() == count {
                break;
            }
        }
        picked
    }

    fn say(&mut self, to: u32, say: Say, out: &mut Out) {
        let mut words = self.take_words();
        if let Known { status: Status::Suspect(_), incarnation } = self.known[to as usize] {
            // Lifeguard's buddies: who is suspected is told so first.
            words.insert(0, Word::Suspect(to, incarnation, self.me));
        }
        out.packets.push(Packet { from: self.me, to, say, words });
    }

    /// A round of gossip is due.
    pub fn gossip(&mut self, now: u64, out: &mut Out) {
        if self.words.is_empty() {
            return;
        }
        let told = |known: &Known, _| match known.status {
            Status::Dead(since) => now - since < TELL_THE_DEAD_US,
            _ => true,
        };
        for to in self.pick(GOSSIP_NODES, told) {
            let words = self.take_words();
            if !words.is_empty() {
                out.packets.push(Packet { from: self.me, to, say: Say::Gossip, words });
            }
        }
    }

    /// A full exchange with one member is due.
    pub fn sync(&mut self, out: &mut Out) {
        if let Some(to) = self.pick(1, |known, _| known.status == Status::Alive).pop() {
            out.packets.push(Packet { from: self.me, to, say: Say::Sync(true), words: self.all() });
        }
    }

    /// All that is known, as an exchange tells it: the dead as suspects, so that they can refute.
    fn all(&self) -> Vec<Word> {
        let word = |(of, known): (u32, &Known)| match known.status {
            Status::Alive => Word::Alive(of, known.incarnation),
            _ => Word::Suspect(of, known.incarnation, self.me),
        };
        (0u32..).zip(&self.known).map(word).collect()
    }

    /// The words that were passed on least, once more.
    fn take_words(&mut self) -> Vec<Word> {
        let n = self.known.len() as f64;
        let most = RETRANSMIT_MULT * (n + 1.0).log10().ceil() as u32;
        self.words.sort_by_key(|(sent, _)| *sent);
        let taken = self.words.iter_mut().take(WORDS).map(|(sent, word)| {
            *sent += 1;
            *word
        });
        let taken = taken.collect();
        self.words.retain(|(sent, _)| *sent < most);
        taken
    }

    fn pass_on(&mut self, word: Word) {
        self.words.retain(|(_, old)| old.of() != word.of());
        self.words.push((0, word));
    }

    /// A packet came.
    pub fn received(&mut self, packet: Packet, now: u64, out: &mut Out) {
        for word in packet.words {
            self.hear(word, now, out);
        }
        match packet.say {
            Say::Ping(seq) | Say::TcpPing(seq) => self.say(packet.from, Say::Ack(seq), out),
            Say::PingFor(target, their) => {
                let seq = self.next_seq();
                self.relays.push(Relay { seq, asker: packet.from, their });
                self.say(target, Say::Ping(seq), out);
                out.timers.push((TIMEOUT_US, Timer::Nack(seq)));
            }
            Say::Ack(seq) => {
                if let Some(probe) = self.probe.as_mut().filter(|p| p.seq == seq) {
                    probe.acked = true;
                } else if let Some(at) = self.relays.iter().position(|r| r.seq == seq) {
                    let relay = self.relays.remove(at);
                    self.say(relay.asker, Say::Ack(relay.their), out);
                }
            }
            Say::Nack(seq) => {
                if let Some(probe) = self.probe.as_mut().filter(|p| p.seq == seq) {
                    probe.nacks.1 += 1;
                }
            }
            Say::Sync(true) => {
                let words = self.all();
                out.packets.push(Packet { from: self.me, to: packet.from, say: Say::Sync(false), words });
            }
            Say::Gossip | Say::Sync(false) => {}
        }
    }

    fn hear(&mut self, word: Word, now: u64, out: &mut Out) {
        let of = word.of();
        match word {
            Word::Suspect(_, incarnation, _) | Word::Dead(_, incarnation) if of == self.me => {
                self.refute(incarnation)
            }
            Word::Alive(_, incarnation) => {
                let known = &mut self.known[of as usize];
                if of == self.me || incarnation <= known.incarnation {
                    return;
                }
                known.incarnation = incarnation;
                let old = std::mem::replace(&mut known.status, Status::Alive);
                if matches!(old, Status::Dead(_)) {
                    out.changes.push((of, true));
                }
                self.pass_on(word);
            }
            Word::Suspect(_, incarnation, from) => self.suspect(of, incarnation, from, now, out),
            Word::Dead(_, incarnation) => {
                let known = &mut self.known[of as usize];
                if incarnation >= known.incarnation && !matches!(known.status, Status::Dead(_)) {
                    *known = Known { status: Status::Dead(now), incarnation };
                    out.changes.push((of, false));
                    self.pass_on(word);
                }
            }
        }
    }

    fn refute(&mut self, incarnation: u32) {
        let own = &mut self.known[self.me as usize].incarnation;
        if incarnation < *own {
            return;
        }
        *own = incarnation + 1;
        let word = Word::Alive(self.me, *own);
        self.feel(1);
        self.pass_on(word);
    }

    fn suspect(&mut self, of: u32, incarnation: u32, from: u32, now: u64, out: &mut Out) {
        let n = self.known.len();
        let known = &mut self.known[of as usize];
        if incarnation < known.incarnation {
            return;
        }
        let until = match &mut known.status {
            Status::Dead(_) => return,
            Status::Suspect(suspicion) => {
                if !suspicion.confirm(from) {
                    return;
                }
                suspicion.until()
            }
            Status::Alive => {
                let suspicion = Suspicion::new(from, n, INTERVAL_US, now);
                let until = suspicion.until();
                *known = Known { status: Status::Suspect(suspicion), incarnation };
                until
            }
        };
        out.timers.push((until.saturating_sub(now), Timer::Suspicion(of)));
        self.pass_on(Word::Suspect(of, incarnation, from));
    }

    fn suspicion_due(&mut self, of: u32, now: u64, out: &mut Out) {
        let known = &self.known[of as usize];
        if matches!(&known.status, Status::Suspect(suspicion) if suspicion.until() <= now) {
            self.hear(Word::Dead(of, known.incarnation), now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> (Member, Out) {
        (Member::new(0, 10, Rng::new(1)), Out::default())
    }

    fn probed(out: &Out) -> (u32, u32) {
        match out.packets[0] {
            Packet { to, say: Say::Ping(seq), .. } => (to, seq),
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_answers_nobody_is_suspected_and_then_dead() {
        let (mut member, mut out) = member();
        member.fired(Timer::Probe, 0, &mut out);
        let (target, seq) = probed(&out);
        let mut out = Out::default();
        member.fired(Timer::Unanswered(seq), TIMEOUT_US, &mut out);
        let says = |say: fn(&Say) -> bool| out.packets.iter().filter(|p| say(&p.say)).count();
        assert_eq!((says(|s| matches!(s, Say::PingFor(..))), says(|s| matches!(s, Say::TcpPing(_)))), (3, 1));
        let mut out = Out::default();
        member.fired(Timer::Over(seq), INTERVAL_US, &mut out);
        // Four seconds for up to ten members, six times that without confirmations.
        assert_eq!(out.timers, [(24_000_000, Timer::Suspicion(target))]);
        assert_eq!(member.health, 3, "no nack came: it may be its own fault");
        member.fired(Timer::Suspicion(target), 24_000_000, &mut out);
        assert!(out.changes.is_empty(), "too early");
        member.fired(Timer::Suspicion(target), 25_000_000, &mut out);
        assert_eq!(out.changes, [(target, false)]);
        assert!(!member.thinks_alive(target));
    }

    #[test]
    fn an_acknowledgement_of_any_kind_ends_a_probe() {
        let (mut member, mut out) = member();
        member.fired(Timer::Probe, 0, &mut out);
        let (target, seq) = probed(&out);
        member.fired(Timer::Unanswered(seq), 1, &mut out);
        let ack = Packet { from: (target + 1) % 10, to: 0, say: Say::Ack(seq), words: vec![] };
        member.received(ack, 2, &mut out);
        let mut out = Out::default();
        member.fired(Timer::Over(seq), 3, &mut out);
        assert!(out.timers.is_empty() && member.words.is_empty());
    }

    #[test]
    fn the_suspected_refute_and_the_dead_come_back() {
        let (mut member, mut out) = member();
        member.hear(Word::Suspect(0, 0, 4), 0, &mut out);
        assert_eq!(member.take_words(), [Word::Alive(0, 1)]);
        member.hear(Word::Suspect(0, 0, 5), 0, &mut out);
        assert_eq!(member.known[0].incarnation, 1, "old news");
        member.hear(Word::Dead(3, 0), 5, &mut out);
        member.hear(Word::Alive(3, 0), 6, &mut out);
        assert_eq!(out.changes, [(3, false)]);
        member.hear(Word::Alive(3, 1), 7, &mut out);
        assert_eq!(out.changes, [(3, false), (3, true)]);
    }

    #[test]
    fn a_helper_relays_acknowledgements_or_says_that_none_came() {
        let (mut member, mut out) = member();
        for target in [5, 6] {
            let ask = Packet { from: 9, to: 0, say: Say::PingFor(target, 70 + target), words: vec![] };
            member.received(ask, 0, &mut out);
        }
        let mut out = Out::default();
        member.received(Packet { from: 5, to: 0, say: Say::Ack(1), words: vec![] }, 1, &mut out);
        member.fired(Timer::Nack(1), TIMEOUT_US, &mut out);
        member.fired(Timer::Nack(2), TIMEOUT_US, &mut out);
        let says: Vec<_> = out.packets.iter().map(|p| (p.to, p.say)).collect();
        assert_eq!(says, [(9, Say::Ack(75)), (9, Say::Nack(76))]);
    }

    #[test]
    fn words_are_passed_on_a_bounded_number_of_times() {
        let (mut member, mut out) = member();
        member.hear(Word::Dead(3, 0), 5, &mut out);
        // 4 × ⌈log₁₀ 11⌉.
        let passed = (0..100).filter(|_| !member.take_words().is_empty()).count();
        assert_eq!(passed, 8);
    }
}
