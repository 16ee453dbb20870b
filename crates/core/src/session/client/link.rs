//! One attached mirror: what was sent, what came, and since when it is in doubt.

use super::types::{MoveReason, Pace};
use crate::session::list::FailureDomain;
use crate::session::loss::{Loss, Patience};
use crate::session::rtt::Rtt;
use crate::session::{Ack, MirrorKey, Role};
use crate::time::MonoTime;
use std::collections::VecDeque;
use std::time::Duration;

/// Sent packets whose time is remembered, and the least time between two of them: 640 ms and more.
const LOG: usize = 128;
const SPACING: Duration = Duration::from_millis(5);
/// More loss than this asks for the brisk pace, less than this ends it.
const BRISK: (f64, f64) = (0.01, 0.005);
/// How long a promotion is repeated at the quickest pace.
const PROVING: Duration = Duration::from_millis(300);

pub(super) struct Link {
    pub mirror: MirrorKey,
    pub domain: FailureDomain,
    pub rtt: Rtt,
    pub loss: Loss,
    sent: Sent,
    /// When it was last heard, or is expected from.
    pub heard: MonoTime,
    /// When the newest packet that it has was sent.
    pub proven: MonoTime,
    rhythm: Rhythm,
    pub doubt: Option<Doubt>,
    pub tripwire: Tripwire,
}

/// The packets sent.
#[derive(Default)]
struct Sent {
    next: u64,
    log: VecDeque<(u64, MonoTime)>,
    acked: Option<u64>,
    /// Until the mirror is known to serve.
    promotion: Option<Promotion>,
}

/// A role that the mirror has not confirmed yet.
struct Promotion {
    since: MonoTime,
    /// Beacons that carried it. Only they say so: that a later packet of data came proves nothing.
    beacons: VecDeque<u64>,
}

/// How often packets go out, and how often they come.
struct Rhythm {
    role: Role,
    /// What the mirror is asked for, and since which packet.
    asked: (Duration, u64),
    /// What it is known to keep.
    kept: Duration,
    next: MonoTime,
    /// When the last packet that carries role and period went out.
    told: MonoTime,
}

/// Why a link is in doubt, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub since: MonoTime,
    pub cause: Cause,
}

/// What raised a doubt; a later one outweighs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Something was missed.
    Silence,
    /// Its tripwire closed.
    Tripwire,
    /// Its connection ended: nothing more can come.
    Ended,
}

impl Cause {
    pub fn reason(self) -> MoveReason {
        match self {
            Cause::Silence => MoveReason::Silence,
            Cause::Tripwire | Cause::Ended => MoveReason::Tripwire,
        }
    }
}

/// What is known of a mirror's tripwire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tripwire {
    /// Nothing that is bad since the mirror was attached: it holds, or there is none.
    Quiet { since: MonoTime },
    /// It was closed as soon as it was opened.
    Refused,
    /// It held, and closed.
    Closed,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hearing {
    pub false_ack: bool,
    pub restored: bool,
    /// The mirror is now known to be promoted.
    pub proved: bool,
}

impl Sent {
    fn log(&mut self, seq: u64, now: MonoTime) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((seq, now));
    }
}

impl Link {
    pub fn new(
        mirror: MirrorKey,
        domain: FailureDomain,
        rtt: Rtt,
        role: Role,
        pace: &Pace,
        now: MonoTime,
    ) -> Link {
        let period = match role {
            Role::Primary => pace.steady,
            Role::Standby => pace.standby,
        };
        let rhythm = Rhythm { role, asked: (period, 0), kept: period, next: now, told: now };
        Link {
            mirror,
            domain,
            rtt,
            loss: Loss::default(),
            sent: Sent::default(),
            heard: now,
            proven: now,
            rhythm,
            doubt: None,
            tripwire: Tripwire::Quiet { since: now },
        }
    }

    /// Takes the number of the next packet.
    pub fn number(&mut self) -> u64 {
        let seq = self.sent.next;
        self.sent.next += 1;
        seq
    }

    /// Takes the number of a packet that leaves now.
    pub fn stamp(&mut self, now: MonoTime) -> u64 {
        let seq = self.number();
        if self.sent.log.back().is_none_or(|(_, at)| now.since(*at) >= SPACING) {
            self.sent.log(seq, now);
        }
        seq
    }

    /// Data was sent: the next beacon can wait, but once a second the mirror is told role and period.
    pub fn sent_data(&mut self, now: MonoTime) {
        if self.doubt.is_none()
            && self.sent.promotion.is_none()
            && now.since(self.rhythm.told).as_millis() < 1000
        {
            self.rhythm.next = self.rhythm.next.max(now + self.rhythm.asked.0);
        }
    }

    pub fn hear(&mut self, seq: u64, ack: Option<Ack>, now: MonoTime) -> Hearing {
        let mut hearing = Hearing::default();
        if self.loss.received(seq) {
            self.heard = self.heard.max(now);
        }
        match ack {
            Some(ack) if ack.seq >= self.sent.next => hearing.false_ack = true,
            Some(ack) => hearing.proved = self.acked(ack, now),
            None => {}
        }
        if self.doubt.is_some_and(|doubt| self.allayed(doubt, now)) {
            self.doubt = None;
            hearing.restored = true;
        }
        hearing
    }

    /// Whether that was the proof of a promotion.
    fn acked(&mut self, ack: Ack, now: MonoTime) -> bool {
        if self.sent.acked.is_some_and(|acked| ack.seq <= acked) {
            return false;
        }
        self.sent.acked = Some(ack.seq);
        let mut at = None;
        while let Some(entry) = self.sent.log.front().copied().filter(|(seq, _)| *seq <= ack.seq) {
            at = Some(entry);
            self.sent.log.pop_front();
        }
        if let Some((seq, at)) = at {
            self.proven = self.proven.max(at);
            if let Some(rtt) = now.since(at).checked_sub(ack.held).filter(|_| seq == ack.seq) {
                self.rtt.sample(rtt);
            }
        }
        if ack.seq >= self.rhythm.asked.1 {
            self.rhythm.kept = self.rhythm.asked.0;
        }
        self.sent.promotion.take_if(|promotion| promotion.beacons.contains(&ack.seq)).is_some()
    }

    /// A mirror whose tripwire closed is trusted again only by an answer to what was sent since.
    fn allayed(&self, doubt: Doubt, now: MonoTime) -> bool {
        match doubt.cause {
            Cause::Silence => now < self.missed_at(),
            Cause::Tripwire => self.proven > doubt.since,
            Cause::Ended => false,
        }
    }

    /// When a packet will have been missed, in either direction.
    pub fn missed_at(&self) -> MonoTime {
        let down = self.heard + self.rhythm.kept + self.rtt.allowance();
        down.min(self.answer_due() + self.rhythm.kept * 2)
    }

    /// When silence will have lasted long enough to mean that it is gone.
    pub fn gone_at(&self, patience: &Patience) -> MonoTime {
        match self.doubt {
            Some(Doubt { since, cause: Cause::Ended }) => since,
            _ => {
                let bound = patience.bound(&self.loss, self.rhythm.kept);
                (self.heard + bound + self.rtt.allowance()).min(self.answer_due() + bound)
            }
        }
    }

    /// When an answer is due that carries news of packets later than the last one known to have come:
    /// a period until there is one, its way there and back, and a period until the answer leaves.
    fn answer_due(&self) -> MonoTime {
        self.proven + self.rtt.smoothed() + self.rhythm.kept * 2 + self.rtt.allowance()
    }

    /// Whether it was heard so lately that nothing seems wrong with it: two packets in a row get lost.
    pub fn is_fresh(&self, now: MonoTime) -> bool {
        now <= self.heard + self.rhythm.kept * 3 + self.rtt.allowance()
    }

    /// It serves from now on. Until it says so, its answers are due like a primary's.
    pub fn promote(&mut self, pace: &Pace, now: MonoTime) {
        self.rhythm.role = Role::Primary;
        self.rhythm.asked = (pace.steady, self.sent.next);
        (self.rhythm.kept, self.rhythm.next) = (pace.steady, now);
        self.heard = self.heard.max(now + self.rtt.smoothed());
        self.proven = self.proven.max(now);
        self.sent.promotion = Some(Promotion { since: now, beacons: VecDeque::new() });
        self.doubt = None;
    }

    /// New work goes elsewhere: it is asked for no more than a standby.
    pub fn demote(&mut self) {
        self.rhythm.role = Role::Standby;
        self.sent.promotion = None;
    }

    /// Whether its mirror calls itself well, as far as anybody knows.
    pub fn is_well(&self) -> bool {
        matches!(self.tripwire, Tripwire::Quiet { .. })
    }

    /// When it will be known whether its tripwire closes as soon as it is opened; `None` when it did.
    pub fn tried_at(&self) -> Option<MonoTime> {
        match self.tripwire {
            Tripwire::Quiet { since } => Some(since + self.rtt.smoothed() * 2 + self.rtt.allowance()),
            Tripwire::Refused | Tripwire::Closed => None,
        }
    }

    /// Whether it has answered over this link and its tripwire holds, as far as there is one.
    pub fn is_tried(&self, now: MonoTime) -> bool {
        self.sent.acked.is_some() && self.tried_at().is_some_and(|at| now >= at)
    }

    /// Nothing that was missed until now counts, since nobody listened.
    pub fn excuse(&mut self, now: MonoTime) {
        (self.heard, self.proven) = (self.heard.max(now), self.proven.max(now));
        if let Some(doubt) = &mut self.doubt {
            // Later than the proofs that were just excused: those confirm nothing.
            doubt.since = now + Duration::from_micros(1);
        }
    }

    pub fn role(&self) -> Role {
        self.rhythm.role
    }

    /// What the mirror is to be asked for.
    pub fn period(&self) -> Duration {
        self.rhythm.asked.0
    }

    /// When the next beacon is due.
    pub fn beacon_at(&self) -> MonoTime {
        self.rhythm.next
    }

    /// A doubt arose: ask at once.
    pub fn hurry(&mut self, now: MonoTime) {
        self.rhythm.next = self.rhythm.next.min(now);
    }

    /// The number of a beacon that leaves now, and whether it asks for an answer.
    pub fn beacon(&mut self, pace: &Pace, doubting: bool, now: MonoTime) -> (u64, bool) {
        self.choose_period(pace);
        let proving = self.sent.promotion.as_ref().map(|promotion| now.since(promotion.since) < PROVING);
        let (next, ask) = match (proving, doubting) {
            (Some(true), _) => (pace.proving, true),
            (Some(false), _) | (None, true) => (pace.doubting, true),
            (None, false) => (self.rhythm.asked.0, false),
        };
        (self.rhythm.next, self.rhythm.told) = (now + next, now);
        let seq = self.number();
        self.sent.log(seq, now);
        if let Some(promotion) = &mut self.sent.promotion {
            if promotion.beacons.len() == LOG {
                promotion.beacons.pop_front();
            }
            promotion.beacons.push_back(seq);
        }
        (seq, ask)
    }

    fn choose_period(&mut self, pace: &Pace) {
        let rate = self.loss.rate();
        let brisk = rate > BRISK.0 || rate > BRISK.1 && self.rhythm.asked.0 == pace.brisk;
        let period = match self.rhythm.role {
            Role::Standby => pace.standby,
            Role::Primary if brisk => pace.brisk.min(pace.steady),
            Role::Primary => pace.steady,
        };
        if period != self.rhythm.asked.0 {
            self.rhythm.asked = (period, self.sent.next);
            // A slower pace may be kept from now on, a quicker one only once it is known.
            self.rhythm.kept = self.rhythm.kept.max(period);
        }
    }
}
