//! What the broker learns of round trips.
//!
//! ```text
//! clients (HTTP, QUIC) ─┐
//! agents' reports       ├─ Lesson ─▶ bounded queue ─▶ learner (core::rtt) ─▶ driver: the next map
//! one-time names        ┘                                ▲     │ now and then
//!                                                        └──── file in the data directory
//! ```
//!
//! Lessons are hints: when the queue is full they are dropped and counted, and nobody waits.

pub(crate) mod memory;
mod task;

pub use memory::{MemoryError, MemoryFile};
pub use task::{LearnerParts, LearnerSettings, run};

use crate::telemetry::LearningMetrics;
use ipnet::IpNet;
use nearmost_core::rtt::{Observation, Target};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Lessons waiting for the learner …
const QUEUE: usize = 4096;
/// … and round trips in them.
const MAX_WAITING: usize = 64 * 1024;

/// Something to learn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Lesson {
    /// Round trips between client networks and targets.
    Observed(Vec<Observation>),
    /// A client does not reach these.
    Missed {
        /// Where the client is.
        network: IpNet,
        /// What it does not reach.
        targets: Vec<Target>,
        /// Who says so, as a hash.
        reporter: u64,
    },
    /// A round trip from one node to another's service.
    Between {
        /// Who probed.
        from: Target,
        /// Whom.
        to: Target,
        /// Milliseconds.
        rtt_ms: f32,
    },
    /// A one-time name that a resolver asked for was reported from a client network: its users are
    /// behind that resolver.
    Behind {
        /// Where the query came from.
        resolver: IpAddr,
        /// The client network that the report came from.
        network: IpNet,
        /// Who reported, as a hash.
        reporter: u64,
    },
}

impl Lesson {
    /// Round trips, or as much memory as those take.
    fn len(&self) -> usize {
        match self {
            Lesson::Observed(observations) => observations.len(),
            Lesson::Missed { targets, .. } => targets.len(),
            Lesson::Between { .. } | Lesson::Behind { .. } => 1,
        }
    }
}

/// For everything that has something to teach.
#[derive(Clone)]
pub struct LearnHandle {
    queue: mpsc::Sender<Lesson>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<LearningMetrics>,
}

impl LearnHandle {
    /// Hands over a lesson unless the queue is full; a lesson that is dropped is counted.
    pub fn teach(&self, lesson: Lesson) {
        let n = lesson.len();
        let before = self.waiting.fetch_add(n, Ordering::Relaxed);
        if before + n > MAX_WAITING || self.queue.try_send(lesson).is_err() {
            self.waiting.fetch_sub(n, Ordering::Relaxed);
            self.metrics.dropped.inc();
        }
    }
}

/// What waits for the learner.
pub struct Lessons {
    queue: mpsc::Receiver<Lesson>,
    waiting: Arc<AtomicUsize>,
}

impl Lessons {
    /// The next lesson; `None` when nobody has any more to give. May be cancelled without loss.
    pub async fn recv(&mut self) -> Option<Lesson> {
        self.queue.recv().await.inspect(|lesson| self.taken(lesson))
    }

    /// The next lesson if one waits.
    ///
    /// # Errors
    /// When none does, or none will.
    pub fn try_recv(&mut self) -> Result<Lesson, mpsc::error::TryRecvError> {
        self.queue.try_recv().inspect(|lesson| self.taken(lesson))
    }

    fn taken(&self, lesson: &Lesson) {
        self.waiting.fetch_sub(lesson.len(), Ordering::Relaxed);
    }
}

/// The channel into a learner.
pub fn channel(metrics: Arc<LearningMetrics>) -> (LearnHandle, Lessons) {
    let (queue, lessons) = mpsc::channel(QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    let handle = LearnHandle { queue, waiting: waiting.clone(), metrics };
    (handle, Lessons { queue: lessons, waiting })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::rtt::Source;

    fn observed(n: u8) -> Lesson {
        let one = Observation {
            network: "192.0.2.0/24".parse().unwrap(),
            target: Target::Address([198, 51, 100, 1].into()),
            rtt_ms: 20.0,
            source: Source::Client,
            reporter: 1,
            users: 1,
        };
        Lesson::Observed(vec![one; usize::from(n)])
    }

    #[test]
    fn lessons_are_dropped_by_what_they_hold_and_room_comes_back() {
        let metrics = Arc::new(LearningMetrics::register(&prometheus::Registry::new()).unwrap());
        let (handle, mut lessons) = channel(metrics.clone());
        let fit = MAX_WAITING / 255;
        for _ in 0..fit + 3 {
            handle.teach(observed(255));
        }
        assert_eq!(metrics.dropped.get(), 3);
        lessons.try_recv().unwrap();
        handle.teach(observed(255));
        assert_eq!(metrics.dropped.get(), 3);
        while lessons.try_recv().is_ok() {}
        assert_eq!(lessons.waiting.load(Ordering::Relaxed), 0);
    }
}
