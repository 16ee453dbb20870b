//! What is counted of learning.

use super::{counter, counters};
use prometheus::{Error, IntCounter, IntCounterVec, Registry};

/// What the learner counts.
#[derive(Clone)]
pub struct LearningMetrics {
    /// `nearmost_rtt_observations_total{source}`: measured round trips that arrived.
    pub observations: IntCounterVec,
    /// `nearmost_rtt_lessons_dropped_total`: lessons dropped because the learner's queue was full.
    pub dropped: IntCounter,
    /// `nearmost_rtt_resolver_ties_total`: client networks tied to their resolver by one-time names.
    pub resolver_ties: IntCounter,
}

impl LearningMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<LearningMetrics, Error> {
        Ok(LearningMetrics {
            observations: counters(
                registry,
                "nearmost_rtt_observations_total",
                "Measured round trips that arrived, by how they were measured.",
                &["source"],
            )?,
            dropped: counter(
                registry,
                "nearmost_rtt_lessons_dropped_total",
                "Lessons dropped because the learner's queue was full.",
            )?,
            resolver_ties: counter(
                registry,
                "nearmost_rtt_resolver_ties_total",
                "Client networks tied to their resolver by one-time names.",
            )?,
        })
    }
}
