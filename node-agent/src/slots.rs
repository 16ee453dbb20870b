//! Which broker to try next.
//!
//! An agent holds up to `max_sessions` sessions, each to another broker (a broker ends the older of
//! two sessions with one key). A broker that is lost or cannot be reached leaves its slot to the
//! next one at once and is tried again after a [`Backoff`]. All addresses of a broker are tried in
//! turn before it counts as failed.
//!
//! ```text
//!            next()               attached()
//!   idle ───────────▶ connecting ───────────▶ attached
//!    ▲ (until retry)      │                       │
//!    └────────────────────┴───────────────────────┘
//!           failed(), refused()        lost()
//! ```

use crate::backoff::Backoff;
use nearmost_core::time::MonoTime;
use std::time::Duration;

/// A session shorter than this does not wipe out the failures before it, so that a broker which
/// accepts and hangs up is not tried without pause.
const STABLE: Duration = Duration::from_secs(10);
/// Pause after another agent with our key took the session over. The two would otherwise take it from
/// each other without end, and neither would serve.
pub const SUPERSEDED: Duration = Duration::from_secs(30);

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Position of the broker in the configuration.
    pub broker: usize,
    /// Position of the address among that broker's.
    pub address: usize,
}

/// The slots and what is known of every broker.
#[derive(Debug)]
pub struct Slots {
    brokers: Vec<Broker>,
    max_sessions: usize,
    backoff: Backoff,
}

#[derive(Debug)]
struct Broker {
    addresses: usize,
    /// The address to try next.
    address: usize,
    /// Addresses that failed since the broker was last given a pause.
    tried: usize,
    /// Rounds of addresses that failed in a row.
    failures: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle { retry: MonoTime },
    Connecting,
    Attached { since: MonoTime },
}

impl Slots {
    /// Slots for brokers of which each has so many addresses (at least one).
    pub fn new(addresses: &[usize], max_sessions: usize, backoff: Backoff) -> Slots {
        let broker = |&addresses: &usize| Broker {
            addresses: addresses.max(1),
            address: 0,
            tried: 0,
            failures: 0,
            phase: Phase::Idle { retry: MonoTime::ZERO },
        };
        let brokers = addresses.iter().map(broker).collect();
        Slots { brokers, max_sessions: max_sessions.max(1), backoff }
    }

    /// What to try now, if there is a free slot and a broker whose pause is over: the one with the
    /// fewest failures, then the first in the configuration. It counts as connecting from here on.
    pub fn next(&mut self, now: MonoTime) -> Option<Attempt> {
        if !self.has_room() {
            return None;
        }
        let due = |b: &Broker| matches!(b.phase, Phase::Idle { retry } if retry <= now);
        let idle = self.brokers.iter_mut().enumerate().filter(|(_, b)| due(b));
        let (index, broker) = idle.min_by_key(|(i, b)| (b.failures, *i))?;
        broker.phase = Phase::Connecting;
        Some(Attempt { broker: index, address: broker.address })
    }

    /// When [`Slots::next`] may have something; `None` while it cannot before an event.
    pub fn deadline(&self) -> Option<MonoTime> {
        let retry = |b: &Broker| match b.phase {
            Phase::Idle { retry } => Some(retry),
            _ => None,
        };
        self.brokers.iter().filter_map(retry).min().filter(|_| self.has_room())
    }

    /// The session to a broker is on.
    pub fn attached(&mut self, broker: usize, now: MonoTime) {
        if let Some(b) = self.brokers.get_mut(broker) {
            b.phase = Phase::Attached { since: now };
            b.tried = 0;
        }
    }

    /// The attempt, or the session, ended. `uniform` in `0..1` is the jitter's randomness.
    pub fn ended(&mut self, broker: usize, now: MonoTime, uniform: f64) {
        let backoff = self.backoff;
        let Some(b) = self.brokers.get_mut(broker) else { return };
        let paused = match b.phase {
            // The same address first: a session that stood says that it is right.
            Phase::Attached { since } => {
                if now.since(since) >= STABLE {
                    b.failures = 0;
                }
                true
            }
            Phase::Connecting | Phase::Idle { .. } => {
                b.address = (b.address + 1) % b.addresses;
                b.tried += 1;
                b.tried >= b.addresses
            }
        };
        let mut retry = now;
        if paused {
            retry = now + backoff.delay(b.failures, uniform);
            b.failures = b.failures.saturating_add(1);
            b.tried = 0;
        }
        b.phase = Phase::Idle { retry };
    }

    /// The broker refused for a reason that time alone will not change: it is tried again only
    /// after the longest pause. `uniform` in `0..1` is the jitter's randomness.
    pub fn refused(&mut self, broker: usize, now: MonoTime, uniform: f64) {
        let cap = self.backoff.cap;
        let Some(b) = self.brokers.get_mut(broker) else { return };
        b.failures = b.failures.saturating_add(1);
        b.tried = 0;
        b.phase = Phase::Idle { retry: now + cap.mul_f64(0.5 + uniform.clamp(0.0, 1.0) / 2.0) };
    }

    /// Another agent with our key took the session over.
    pub fn superseded(&mut self, broker: usize, now: MonoTime) {
        if let Some(b) = self.brokers.get_mut(broker) {
            b.failures = b.failures.saturating_add(1);
            b.tried = 0;
            b.phase = Phase::Idle { retry: now + SUPERSEDED };
        }
    }

    /// The address that a broker is tried at, or that its session stands on.
    pub fn address(&self, broker: usize) -> usize {
        self.brokers.get(broker).map_or(0, |b| b.address)
    }

    /// The session was ended by ourselves, to begin it anew.
    pub fn again(&mut self, broker: usize, now: MonoTime) {
        if let Some(b) = self.brokers.get_mut(broker) {
            b.phase = Phase::Idle { retry: now };
        }
    }

    fn has_room(&self) -> bool {
        let busy = self.brokers.iter().filter(|b| !matches!(b.phase, Phase::Idle { .. })).count();
        busy < self.max_sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    fn attempt(broker: usize, address: usize) -> Option<Attempt> {
        Some(Attempt { broker, address })
    }

    #[test]
    fn sessions_go_to_different_brokers_up_to_the_limit() {
        let mut slots = Slots::new(&[1, 1, 1], 2, BACKOFF);
        assert_eq!(slots.next(at(0)), attempt(0, 0));
        assert_eq!(slots.next(at(0)), attempt(1, 0));
        assert_eq!((slots.next(at(0)), slots.deadline()), (None, None));
        slots.attached(0, at(0));
        slots.attached(1, at(0));
        assert_eq!((slots.next(at(99)), slots.deadline()), (None, None));
    }

    #[test]
    fn a_lost_broker_leaves_its_slot_to_another_at_once() {
        let mut slots = Slots::new(&[1, 1], 1, BACKOFF);
        assert_eq!(slots.next(at(0)), attempt(0, 0));
        slots.attached(0, at(0));
        slots.ended(0, at(100), 0.5);
        assert_eq!(slots.next(at(100)), attempt(1, 0));
        slots.ended(1, at(100), 1.0);
        assert_eq!(slots.deadline(), Some(at(100) + Duration::from_millis(500)));
        assert_eq!(slots.next(at(101)), attempt(0, 0));
    }

    #[test]
    fn every_address_is_tried_before_the_pause() {
        let mut slots = Slots::new(&[3], 1, BACKOFF);
        for address in [0, 1, 2] {
            assert_eq!(slots.next(at(0)), attempt(0, address));
            slots.ended(0, at(0), 1.0);
        }
        assert_eq!(slots.next(at(0)), None);
        assert_eq!(slots.deadline(), Some(at(1)));
        assert_eq!(slots.next(at(1)), attempt(0, 0));
    }

    #[test]
    fn a_session_that_stood_returns_to_its_address() {
        let mut slots = Slots::new(&[2], 1, BACKOFF);
        slots.next(at(0));
        slots.ended(0, at(0), 1.0);
        assert_eq!(slots.next(at(0)), attempt(0, 1));
        slots.attached(0, at(0));
        slots.ended(0, at(50), 1.0);
        assert_eq!(slots.next(at(51)), attempt(0, 1));
    }

    #[test]
    fn pauses_grow_until_a_session_was_stable() {
        let mut slots = Slots::new(&[1], 1, BACKOFF);
        let mut now = at(0);
        for pause in [1, 2, 4] {
            assert!(slots.next(now).is_some());
            slots.attached(0, now);
            slots.ended(0, now, 1.0);
            assert_eq!(slots.deadline(), Some(now + Duration::from_secs(pause)));
            now = now + Duration::from_secs(pause);
        }
        slots.next(now);
        slots.attached(0, now);
        now = now + STABLE;
        slots.ended(0, now, 1.0);
        assert_eq!(slots.deadline(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_refusal_waits_long_and_a_restart_of_our_own_does_not() {
        let mut slots = Slots::new(&[1], 1, BACKOFF);
        slots.next(at(0));
        slots.refused(0, at(0), 0.0);
        assert_eq!(slots.deadline(), Some(at(30)));
        slots.next(at(30));
        slots.attached(0, at(30));
        slots.again(0, at(31));
        assert_eq!(slots.next(at(31)), attempt(0, 0));
    }

    #[test]
    fn a_session_lost_to_our_double_waits_long_however_short_other_pauses_are() {
        let hasty = Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(2) };
        let mut slots = Slots::new(&[2], 1, hasty);
        slots.next(at(0));
        slots.ended(0, at(0), 1.0);
        assert_eq!((slots.next(at(0)), slots.address(0)), (attempt(0, 1), 1));
        slots.attached(0, at(0));
        slots.superseded(0, at(7));
        assert_eq!((slots.next(at(36)), slots.deadline()), (None, Some(at(37))));
        assert_eq!(slots.next(at(37)), attempt(0, 1));
    }

    proptest! {
        /// Whatever happens, no broker is tried twice at once, the limit holds, and with a free
        /// slot and an idle broker there is always a next time.
        #[test]
        fn any_history_keeps_the_limit(
            addresses in proptest::collection::vec(1usize..4, 1..5),
            max in 1usize..4,
            events in proptest::collection::vec((0u8..5, 0usize..5, 0u64..20, 0.0f64..1.0), 0..200),
        ) {
            let mut slots = Slots::new(&addresses, max, BACKOFF);
            let mut now = at(0);
            let mut busy = std::collections::BTreeSet::new();
            for (event, broker, seconds, uniform) in events {
                now = now + Duration::from_secs(seconds);
                match event {
                    0 | 1 => if let Some(a) = slots.next(now) {
                        prop_assert!(busy.insert(a.broker));
                        prop_assert!(a.address < addresses[a.broker]);
                    },
                    2 if busy.contains(&broker) => slots.attached(broker, now),
                    3 if busy.remove(&broker) => slots.ended(broker, now, uniform),
                    4 if busy.remove(&broker) => slots.refused(broker, now, uniform),
                    _ => {}
                }
                prop_assert!(busy.len() <= max);
                let room = busy.len() < max && busy.len() < addresses.len();
                prop_assert_eq!(slots.deadline().is_some(), room);
            }
        }
    }
}
