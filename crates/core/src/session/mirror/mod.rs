//! The mirror's side: who is attached, as what, and how they leave.
//!
//! | file | its part |
//! |---|---|
//! | `types` | inputs, outputs, settings |
//! | `entry` | one session |
//!
//! The driver's loop is that of [`super::client`]. Whether a client has proved to be who it says is
//! checked before; sessions of two clients never meet, whatever number they give them.

mod entry;
#[cfg(test)]
mod tests;
mod types;

pub use types::{
    AttachRequest, Beacon, ClientId, CloseReason, MirrorConfig, MirrorInput, MirrorOutput, MirrorTally,
    RefuseReason, SessionKey, SessionPhase,
};

use super::{Ack, MirrorKey, Role};
use crate::time::MonoTime;
use entry::Entry;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

/// Between a call and the next deadline that it names.
const SOONEST: Duration = Duration::from_millis(1);

/// The sessions of one mirror.
///
/// Each of them:
///
/// ```text
///   attach as standby ──▶ STANDBY ──────┐ beacon with the role of primary, and room: PROMOTED
///                            │          ▼
///   attach as primary ──▶ PRIMARY   PROMOTED
///                            │          │
///                            └────┬─────┘
///                          drain  ▼
///                             DRAINING   told where to go; still serves, and is still promoted
///                                 │
///   detached, idle; retired with no work open for a moment; past the drain's deadline
///                                 ▼
///                               GONE
/// ```
///
/// Bounded: `capacity` sessions that are served and `standbys` that are not. A session that is attached
/// again by its client (from a new address, after a restart) begins anew.
pub struct Sessions {
    config: MirrorConfig,
    entries: HashMap<SessionKey, Entry>,
    served: usize,
    drain: Drain,
    go_to: Option<MirrorKey>,
    timers: BinaryHeap<Reverse<(MonoTime, SessionKey)>>,
    tally: MirrorTally,
    outputs: VecDeque<MirrorOutput>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// Clients may come.
    No,
    /// Those who are here were told to leave.
    Told,
    /// Nobody is left.
    Done,
}

impl Sessions {
    /// Nobody is attached.
    pub fn new(config: MirrorConfig) -> Sessions {
        Sessions {
            config,
            entries: HashMap::new(),
            served: 0,
            drain: Drain::No,
            go_to: None,
            timers: BinaryHeap::new(),
            tally: MirrorTally::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Changes how many may be served and how many kept warm. Nobody who is attached has to go.
    pub fn set_bounds(&mut self, capacity: usize, standbys: usize) {
        (self.config.capacity, self.config.standbys) = (capacity, standbys);
    }

    /// Where those who are refused or told to leave are sent.
    pub fn set_go_to(&mut self, mirror: Option<MirrorKey>) {
        self.go_to = mirror;
    }

    /// Takes an input and does what is due.
    pub fn handle(&mut self, input: MirrorInput, now: MonoTime) {
        match input {
            MirrorInput::Attach(request) => self.attach(request, now),
            MirrorInput::Packet { session, seq, beacon } => self.packet(session, seq, beacon, now),
            MirrorInput::Work { session, open } => self.with(session, now, |entry| entry.work(open, now)),
            MirrorInput::Retired(session) => self.retired(session, now),
            MirrorInput::Detach(session) => self.remove(session, None),
            MirrorInput::Drain { within } => self.drain(within, now),
            MirrorInput::Undrain => self.undrain(),
            MirrorInput::Tick => {}
        }
        self.due(now);
        self.drained();
    }

    /// The next thing for the driver to do. Take all after each input: nothing else bounds the queue.
    pub fn poll_output(&mut self) -> Option<MirrorOutput> {
        self.outputs.pop_front()
    }

    /// When [`MirrorInput::Tick`] is wanted at the latest. It may be early, never late.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Number and acknowledgement for a packet of data that leaves now.
    pub fn stamp(&mut self, session: SessionKey, now: MonoTime) -> Option<(u64, Option<Ack>)> {
        Some(self.entries.get_mut(&session)?.stamp(now))
    }

    /// Where a session stands; `None` when it is not attached.
    pub fn phase(&self, session: SessionKey) -> Option<SessionPhase> {
        self.entries.get(&session).map(|entry| entry.phase)
    }

    /// Whether new work of a session is to be done here.
    pub fn serves(&self, session: SessionKey) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.served)
    }

    /// Whether what the service pushes to a session is sent from here: it is served, or retired and not
    /// yet detached, so that nothing is missing until its next mirror has taken over.
    pub fn sends(&self, session: SessionKey) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.served || entry.retired())
    }

    /// Sessions that are served here.
    pub fn served(&self) -> usize {
        self.served
    }

    /// All sessions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is attached.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was refused or ignored.
    pub fn tally(&self) -> MirrorTally {
        self.tally
    }

    fn attach(&mut self, request: AttachRequest, now: MonoTime) {
        let AttachRequest { session, role, proven } = request;
        let held = self.entries.get(&session).map(|entry| entry.served);
        let reason = match (proven, self.admits(role, held)) {
            (false, _) => Some(RefuseReason::Unproven),
            _ if self.drain != Drain::No => Some(RefuseReason::Draining),
            (_, false) => Some(RefuseReason::Full),
            _ => None,
        };
        if let Some(reason) = reason {
            return self.refuse(session, reason);
        }
        if held.is_some() {
            self.tally.taken_over += 1;
            self.forget(session);
        }
        let entry = Entry::new(role, &self.config, now);
        self.served += usize::from(entry.served);
        self.entries.insert(session, entry);
        self.outputs.push_back(MirrorOutput::Accept { session, role });
        self.arm(session, now);
    }

    /// Whether there is room for one more; `held` says whether the session is served already.
    fn admits(&self, role: Role, held: Option<bool>) -> bool {
        let waiting = self.entries.len() - self.served;
        match role {
            Role::Primary => self.served - usize::from(held == Some(true)) < self.config.capacity,
            Role::Standby => waiting - usize::from(held == Some(false)) < self.config.standbys,
        }
    }

    fn refuse(&mut self, session: SessionKey, reason: RefuseReason) {
        match reason {
            RefuseReason::Full => self.tally.full += 1,
            RefuseReason::Draining => self.tally.draining += 1,
            RefuseReason::Unproven => self.tally.unproven += 1,
        }
        let helped = matches!(reason, RefuseReason::Full | RefuseReason::Draining);
        let go_to = self.go_to.filter(|_| helped);
        let retry_after = self.config.retry_after;
        self.outputs.push_back(MirrorOutput::Refuse { session, reason, retry_after, go_to });
    }

    fn packet(&mut self, session: SessionKey, seq: u64, beacon: Option<Beacon>, now: MonoTime) {
        let room = self.served < self.config.capacity;
        let Some(entry) = self.entries.get_mut(&session) else {
            self.tally.unknown += 1;
            return;
        };
        let Some(beacon) = beacon else { return entry.heard(seq, now) };
        entry.pace(beacon.period, now);
        let wants = beacon.role == Role::Primary && !entry.served && !entry.retired();
        let told = std::mem::replace(&mut entry.refused, wants && !room);
        entry.heard(seq, now);
        if wants && room {
            entry.promote();
            self.served += 1;
            self.outputs.push_back(MirrorOutput::Promoted(session));
        }
        if beacon.ask {
            self.outputs.push_back(entry.beacon(session, now));
        }
        // Once: the word comes for sure, and the same beacon comes every few milliseconds until then.
        if wants && !room && !told {
            self.refuse(session, RefuseReason::Full);
        }
        self.arm(session, now);
    }

    fn with(&mut self, session: SessionKey, now: MonoTime, f: impl FnOnce(&mut Entry)) {
        match self.entries.get_mut(&session) {
            Some(entry) => f(entry),
            None => self.tally.unknown += 1,
        }
        self.arm(session, now);
    }

    fn retired(&mut self, session: SessionKey, now: MonoTime) {
        let served = self.serves(session);
        self.with(session, now, |entry| entry.retire(now));
        self.served -= usize::from(served);
    }

    fn drain(&mut self, within: Duration, now: MonoTime) {
        if self.drain != Drain::No {
            return;
        }
        let until = now + within;
        self.drain = Drain::Told;
        let mut sessions: Vec<SessionKey> = self.entries.keys().copied().collect();
        sessions.sort_unstable();
        for session in sessions {
            self.with(session, now, |entry| entry.drain(until));
            self.outputs.push_back(MirrorOutput::TellDrain { session, go_to: self.go_to });
            self.arm(session, now);
        }
    }

    /// Those who were told to leave go; others may come.
    fn undrain(&mut self) {
        self.drain = Drain::No;
    }

    fn drained(&mut self) {
        if self.drain == Drain::Told && self.entries.is_empty() {
            self.drain = Drain::Done;
            self.outputs.push_back(MirrorOutput::Drained);
        }
    }

    fn due(&mut self, now: MonoTime) {
        while let Some(Reverse((at, session))) =
            self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.timers.pop();
            let Some(entry) = self.entries.get_mut(&session).filter(|entry| entry.armed == Some(at)) else {
                continue;
            };
            entry.armed = None;
            match entry.ended(&self.config, now) {
                Some(reason) => self.remove(session, Some(reason)),
                None => {
                    let beacon = (now >= entry.beacon_at).then(|| entry.beacon(session, now));
                    self.outputs.extend(beacon);
                    self.arm(session, now);
                }
            }
        }
    }

    fn remove(&mut self, session: SessionKey, reason: Option<CloseReason>) {
        if !self.forget(session) {
            self.tally.unknown += 1;
        } else if let Some(reason) = reason {
            self.outputs.push_back(MirrorOutput::Close { session, reason });
        }
    }

    fn forget(&mut self, session: SessionKey) -> bool {
        let gone = self.entries.remove(&session);
        self.served -= usize::from(gone.as_ref().is_some_and(|entry| entry.served));
        // Entries of sessions that are gone are dead; they must not pile up.
        if self.timers.len() > 64 + 4 * self.entries.len() {
            let entries = &self.entries;
            self.timers.retain(|Reverse((at, s))| entries.get(s).is_some_and(|e| e.armed == Some(*at)));
        }
        gone.is_some()
    }

    fn arm(&mut self, session: SessionKey, now: MonoTime) {
        let Some(entry) = self.entries.get_mut(&session) else { return };
        let due = entry.deadline(&self.config).max(now + SOONEST);
        if entry.armed.is_none_or(|at| due < at) {
            entry.armed = Some(due);
            self.timers.push(Reverse((due, session)));
        }
    }
}
