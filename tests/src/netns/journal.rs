//! Every transition since the broker's start, with when it was heard of.

use crate::Stopwatch;
use nearmost_client::events::Notice;
use nearmost_client::{Auth, Client, Endpoint};
use nearmost_wire::api::EventView;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A transition, and when it was heard of.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Since the journal's beginning.
    pub at: Duration,
    /// What it said.
    pub event: EventView,
}

/// Reads the broker's events for as long as it lives.
pub struct Journal {
    began: std::sync::Arc<Stopwatch>,
    seen: watch::Receiver<Vec<Seen>>,
    reader: JoinHandle<()>,
}

impl Journal {
    /// Of the broker at `endpoint`.
    pub fn start(endpoint: Endpoint) -> Journal {
        let began = std::sync::Arc::new(Stopwatch::start());
        let (tell, seen) = watch::channel(Vec::new());
        let clock = began.clone();
        let reader = tokio::spawn(async move {
            // No event has number 0: all that are kept come first, and none is missed while it connects.
            let mut events = Client::new(endpoint, Auth::None).events(Some(0));
            while let Ok(notice) = events.next().await {
                if let Notice::Event(event) = notice {
                    tell.send_modify(|seen| seen.push(Seen { at: clock.elapsed(), event }));
                }
            }
        });
        Journal { began, seen, reader }
    }

    /// A moment to look on from.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The first transition of a mirror to a state since `from`, and how long after `from` it was heard.
    ///
    /// # Panics
    /// When there is none in time; it tells all that was seen instead.
    pub async fn until(&self, from: Duration, mirror: &str, state: &str) -> (EventView, Duration) {
        let wanted = |s: &&Seen| s.at >= from && s.event.mirror == mirror && s.event.to == state;
        let mut seen = self.seen.clone();
        let found = seen.wait_for(|all| all.iter().any(|s| wanted(&s)));
        if let Ok(Ok(all)) = tokio::time::timeout(crate::PATIENCE, found).await {
            let first = all.iter().find(wanted).expect("it was just found");
            return (first.event.clone(), first.at - from);
        }
        panic!("{mirror} is not {state} in time:\n{}", self.told(from));
    }

    /// Watches for `span` and fails when any mirror that passes `whose` leaves service.
    pub async fn nobody_down_for(&self, span: Duration, whose: impl Fn(&str) -> bool) {
        let from = self.now();
        let bad = |all: &Vec<Seen>| {
            all.iter().any(|s| s.at >= from && s.event.to == "down" && whose(&s.event.mirror))
        };
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(span, seen.wait_for(bad)).await.is_ok();
        assert!(!found, "a mirror is down, or the events ended:\n{}", self.told(from));
    }

    /// Fails when a mirror was in a state since `from`.
    pub fn never(&self, from: Duration, mirror: &str, state: &str) {
        let was = self.since(from).into_iter().any(|s| s.event.mirror == mirror && s.event.to == state);
        assert!(!was, "{mirror} was {state}:\n{}", self.told(from));
    }

    /// What was seen since a moment.
    pub fn since(&self, from: Duration) -> Vec<Seen> {
        self.seen.borrow().iter().filter(|s| s.at >= from).cloned().collect()
    }

    /// The same, a line each.
    pub fn told(&self, from: Duration) -> String {
        let line = |s: Seen| {
            let e = s.event;
            let after = s.at.saturating_sub(from).as_millis();
            format!("{after:>6} ms  {}: {} -> {}, {} ({})\n", e.mirror, e.from, e.to, e.reason, e.vantage)
        };
        self.since(from).into_iter().map(line).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
