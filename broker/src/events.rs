//! The log of transitions: what `GET /v1/events` sends.
//!
//! ```text
//! driver ── publish ──> [ ring of the last 1024 | broadcast ] ── subscribe ──> each reader
//! ```
//! Both are fed under one short lock, so a reader's backlog and its live events join without a gap
//! or a repetition. A reader that falls more than [`RETAINED`] behind is told how many it missed;
//! the driver never waits for one. Beside that each is handed to the [`keeper`], which has it outlive a
//! restart.
//!
//! Numbers go up by one. They begin at a number that grows from start to start (the broker gives
//! its start time in microseconds), so that a number of an earlier run is recognised when a reader
//! resumes from it.

pub mod evidence;
pub mod keeper;

use keeper::Feeder;
use nearmost_wire::api::EventView;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events kept for readers that resume, and the most that a reader may fall behind.
pub const RETAINED: usize = 1024;

/// The last transitions, and whoever waits for the next.
pub struct EventLog {
    ring: Mutex<Ring>,
    live: broadcast::Sender<Arc<EventView>>,
    kept: Option<Feeder>,
}

struct Ring {
    next: u64,
    kept: VecDeque<Arc<EventView>>,
}

/// A reader's place in the log.
pub struct Subscription {
    /// Retained events after the number asked for, oldest first.
    pub backlog: Vec<Arc<EventView>>,
    /// Whether events between the number asked for and the backlog are no longer retained, or
    /// belong to an earlier run of the broker.
    pub gap: bool,
    /// Every event after the backlog.
    pub live: broadcast::Receiver<Arc<EventView>>,
}

impl Default for EventLog {
    /// A log whose first event is number 1.
    fn default() -> Self {
        EventLog::starting_at(1)
    }
}

impl EventLog {
    /// An empty log whose first event has number `first`.
    pub fn starting_at(first: u64) -> EventLog {
        let (live, _) = broadcast::channel(RETAINED);
        let ring = Mutex::new(Ring { next: first, kept: VecDeque::with_capacity(RETAINED) });
        EventLog { ring, live, kept: None }
    }

    /// The same, with every event handed on to be kept.
    #[must_use]
    pub fn keeping(self, feeder: Feeder) -> EventLog {
        EventLog { kept: Some(feeder), ..self }
    }

    /// Adds an event; its `number` is set here. Returns the number of the newest: what leaves the state
    /// as it was (another reason for it, say) is no transition and not added.
    pub fn publish(&self, mut event: EventView) -> u64 {
        let mut ring = self.ring();
        if event.from == event.to {
            return ring.next.saturating_sub(1);
        }
        let number = ring.next;
        ring.next += 1;
        event.number = number;
        let event = Arc::new(event);
        if ring.kept.len() == RETAINED {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event.clone());
        if let Some(feeder) = &self.kept {
            feeder.keep(event.clone());
        }
        // Nobody listening is no error.
        let _ = self.live.send(event);
        number
    }

    /// Events from now on; with `since`, the retained ones after that number first.
    pub fn subscribe(&self, since: Option<u64>) -> Subscription {
        let ring = self.ring();
        let live = self.live.subscribe();
        let Some(since) = since else { return Subscription { backlog: Vec::new(), gap: false, live } };
        let backlog: Vec<_> = ring.kept.iter().filter(|e| e.number > since).cloned().collect();
        // What would come next after `since`, and what does: a number of the future is no number of ours.
        let first = backlog.first().map_or(ring.next, |e| e.number);
        let gap = since.checked_add(1) != Some(first);
        let backlog = if since >= ring.next { ring.kept.iter().cloned().collect() } else { backlog };
        Subscription { backlog, gap, live }
    }

    /// The retained events after a number, oldest first.
    pub fn after(&self, number: u64) -> Vec<Arc<EventView>> {
        self.ring().kept.iter().filter(|e| e.number > number).cloned().collect()
    }

    /// Number of the newest event, or of the one before the first.
    pub fn newest(&self) -> u64 {
        self.ring().next.saturating_sub(1)
    }

    /// Readers at this moment.
    pub fn readers(&self) -> usize {
        self.live.receiver_count()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing inside the lock leaves the ring half changed.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::sync::broadcast::error::RecvError;

    fn event() -> EventView {
        EventView {
            number: 0,
            at_unix_ms: 5,
            domain: "play.test".into(),
            mirror: "lon".into(),
            family: "v4".into(),
            from: "up".into(),
            to: "down".into(),
            reason: "session_lost".into(),
            vantage: "broker".into(),
            evidence: String::new(),
        }
    }

    fn numbers(events: &[Arc<EventView>]) -> Vec<u64> {
        events.iter().map(|e| e.number).collect()
    }

    #[tokio::test]
    async fn a_reader_resumes_where_it_stopped_and_goes_on() {
        let log = EventLog::default();
        for n in 1..=5 {
            assert_eq!(log.publish(event()), n);
        }
        let mut at = log.subscribe(Some(3));
        assert_eq!((numbers(&at.backlog), at.gap), (vec![4, 5], false));
        log.publish(event());
        assert_eq!(at.live.recv().await.unwrap().number, 6);
        assert!(log.subscribe(None).backlog.is_empty());
        assert!(!log.subscribe(Some(6)).gap);
    }

    #[tokio::test]
    async fn what_changes_no_state_is_no_event() {
        let log = EventLog::default();
        let mut at = log.subscribe(None);
        assert_eq!(log.publish(event()), 1);
        assert_eq!(log.publish(EventView { from: "down".into(), reason: "forced".into(), ..event() }), 1);
        assert_eq!(log.publish(event()), 2);
        assert_eq!((at.live.recv().await.unwrap().number, at.live.recv().await.unwrap().number), (1, 2));
        assert_eq!(log.newest(), 2);
    }

    #[test]
    fn a_number_of_an_earlier_run_or_long_ago_is_a_gap() {
        let log = EventLog::starting_at(1_000_000);
        log.publish(event());
        assert!(log.subscribe(Some(400)).gap);
        let ahead = log.subscribe(Some(2_000_000));
        assert_eq!((numbers(&ahead.backlog), ahead.gap), (vec![1_000_000], true));
        assert!(log.subscribe(Some(u64::MAX)).gap);
        for _ in 0..RETAINED {
            log.publish(event());
        }
        let old = log.subscribe(Some(1_000_000));
        assert_eq!((old.backlog.len(), old.gap), (RETAINED, false));
        assert!(log.subscribe(Some(999_999)).gap);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_missed() {
        let log = EventLog::default();
        let mut at = log.subscribe(None);
        for _ in 0..RETAINED + 7 {
            log.publish(event());
        }
        assert_eq!(at.live.recv().await, Err(RecvError::Lagged(7)));
        assert_eq!(at.live.recv().await.unwrap().number, 8);
    }

    proptest! {
        #[test]
        fn backlog_and_live_events_join_without_gap_or_repetition(before in 0_u64..2000, after in 0_u64..50, since in 0_u64..2100) {
            let log = EventLog::default();
            (0..before).for_each(|_| { log.publish(event()); });
            let mut at = log.subscribe(Some(since));
            (0..after).for_each(|_| { log.publish(event()); });
            let mut all = numbers(&at.backlog);
            while let Ok(event) = at.live.try_recv() {
                all.push(event.number);
            }
            prop_assert!(all.windows(2).all(|w| w[1] == w[0] + 1));
            if !at.gap && since < before + after {
                prop_assert_eq!(all.first().copied(), Some(since + 1));
            }
        }
    }
}
