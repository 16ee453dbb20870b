//! One session at a mirror.

use super::types::{CloseReason, MirrorConfig, MirrorOutput, SessionKey, SessionPhase};
use crate::session::{Ack, Role};
use crate::time::MonoTime;
use std::time::Duration;

/// What a client may ask for: no quicker, no slower.
const PERIODS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(super) struct Entry {
    pub phase: SessionPhase,
    /// New work of it is done here.
    pub served: bool,
    /// It asked for that, and was told that there is no room.
    pub refused: bool,
    hears: Hears,
    next_seq: u64,
    period: Duration,
    pub beacon_at: MonoTime,
    pub armed: Option<MonoTime>,
    leave: LeaveState,
}

/// What came from the client.
struct Hears {
    highest: Option<u64>,
    at: MonoTime,
}

#[derive(Default)]
struct LeaveState {
    open: u32,
    /// New work goes elsewhere, and since when nothing is under way here.
    retired: bool,
    quiet: Option<MonoTime>,
    until: Option<MonoTime>,
}

impl Entry {
    pub fn new(role: Role, config: &MirrorConfig, now: MonoTime) -> Entry {
        let (phase, period) = match role {
            Role::Primary => (SessionPhase::Primary, config.steady),
            Role::Standby => (SessionPhase::Standby, config.standby),
        };
        Entry {
            phase,
            served: role == Role::Primary,
            refused: false,
            hears: Hears { highest: None, at: now },
            next_seq: 0,
            period,
            beacon_at: now,
            armed: None,
            leave: LeaveState::default(),
        }
    }

    /// A packet came; one that was overtaken says nothing new. To a client an acknowledged promotion is
    /// one that was granted, so what comes of one that was refused is acknowledged no further.
    pub fn heard(&mut self, seq: u64, now: MonoTime) {
        if !self.refused && self.hears.highest.is_none_or(|highest| seq > highest) {
            self.hears = Hears { highest: Some(seq), at: now };
        }
    }

    /// The client wants to hear that often.
    pub fn pace(&mut self, period: Duration, now: MonoTime) {
        self.period = period.clamp(PERIODS.0, PERIODS.1);
        self.beacon_at = self.beacon_at.min(now + self.period);
    }

    pub fn promote(&mut self) {
        self.served = true;
        if self.phase == SessionPhase::Standby {
            self.phase = SessionPhase::Promoted;
        }
    }

    pub fn work(&mut self, open: u32, now: MonoTime) {
        self.leave.open = open;
        self.look(now);
    }

    pub fn retire(&mut self, now: MonoTime) {
        self.served = false;
        self.leave.retired = true;
        self.look(now);
    }

    pub fn retired(&self) -> bool {
        self.leave.retired
    }

    fn look(&mut self, now: MonoTime) {
        let quiet = self.leave.retired && self.leave.open == 0;
        self.leave.quiet = if quiet { self.leave.quiet.or(Some(now)) } else { None };
    }

    pub fn drain(&mut self, until: MonoTime) {
        self.phase = SessionPhase::Draining;
        self.leave.until = Some(until);
    }

    /// Number and acknowledgement of a packet that leaves now.
    pub fn stamp(&mut self, now: MonoTime) -> (u64, Option<Ack>) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.beacon_at = now + self.period;
        (seq, self.hears.highest.map(|seq| Ack { seq, held: now.since(self.hears.at) }))
    }

    pub fn beacon(&mut self, session: SessionKey, now: MonoTime) -> MirrorOutput {
        let (seq, ack) = self.stamp(now);
        MirrorOutput::Beacon { session, seq, ack }
    }

    /// Why it is over, if it is.
    pub fn ended(&self, config: &MirrorConfig, now: MonoTime) -> Option<CloseReason> {
        let past = |at: Option<MonoTime>| at.is_some_and(|at| now >= at);
        if past(self.leave.quiet.map(|since| since + config.linger)) {
            Some(CloseReason::Drained)
        } else if past(self.leave.until) {
            Some(CloseReason::DrainDeadline)
        } else if now >= self.hears.at + config.idle {
            Some(CloseReason::Idle)
        } else {
            None
        }
    }

    pub fn deadline(&self, config: &MirrorConfig) -> MonoTime {
        let quiet = self.leave.quiet.map(|since| since + config.linger);
        let idle = self.hears.at + config.idle;
        [quiet, self.leave.until].into_iter().flatten().fold(self.beacon_at.min(idle), MonoTime::min)
    }
}
