//! What the broker learns of round trips.
//!
//! ```text
//! clients (HTTP, QUIC) ─┐
//! agents' reports       ├─ Lesson ─▶ bounded queue ─▶ learner (core::rtt) ─▶ driver: the next map
//! one-time names        ┘
//! ```
//!
//! Lessons are hints: when the queue is full they are dropped and counted, and nobody waits.

use crate::telemetry::LearningMetrics;
use ipnet::IpNet;
use nearmost_core::rtt::{Observation, Target};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lessons waiting for the learner.
const QUEUE: usize = 4096;

/// Something to learn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Lesson {
    /// Round trips between client networks and targets.
    Observed(Vec<Observation>),
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

/// For everything that has something to teach.
#[derive(Clone)]
pub struct LearnHandle {
    queue: mpsc::Sender<Lesson>,
    metrics: Arc<LearningMetrics>,
}

impl LearnHandle {
    /// Hands over a lesson unless the queue is full; a lesson that is dropped is counted.
    pub fn teach(&self, lesson: Lesson) {
        if self.queue.try_send(lesson).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

/// The channel into a learner.
pub fn channel(metrics: Arc<LearningMetrics>) -> (LearnHandle, mpsc::Receiver<Lesson>) {
    let (queue, lessons) = mpsc::channel(QUEUE);
    (LearnHandle { queue, metrics }, lessons)
}

/// Takes lessons until nobody has any more to give.
pub async fn run(mut lessons: mpsc::Receiver<Lesson>, metrics: Arc<LearningMetrics>) {
    while let Some(lesson) = lessons.recv().await {
        match lesson {
            Lesson::Observed(observations) => {
                for o in observations {
                    metrics.observations.with_label_values(&[o.source.as_str()]).inc();
                }
            }
            Lesson::Between { .. } => {
                metrics.observations.with_label_values(&[nearmost_core::rtt::Source::Probe.as_str()]).inc()
            }
            Lesson::Behind { .. } => metrics.resolver_ties.inc(),
        }
    }
}
