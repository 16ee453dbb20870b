//! What is counted of learning.

use super::{counter, counters, from_zero, gauge, seconds};
use nearmost_core::rtt::Source;
use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

/// What the learner counts.
#[derive(Clone)]
pub struct LearningMetrics {
    /// `nearmost_rtt_observations_total{source}`: measured round trips that arrived.
    pub observations: IntCounterVec,
    /// `nearmost_rtt_missed_total`: times that a client said that it does not reach a mirror.
    pub missed: IntCounter,
    /// `nearmost_rtt_lessons_dropped_total`: lessons dropped because the learner's queue was full.
    pub dropped: IntCounter,
    /// `nearmost_rtt_resolver_ties_total`: client networks tied to their resolver by one-time names.
    pub resolver_ties: IntCounter,
    /// `nearmost_rtt_refused_total{reason}`: measured round trips that cannot be.
    pub refused: IntCounterVec,
    /// `nearmost_rtt_networks`: client networks that are remembered.
    pub networks: IntGauge,
    /// `nearmost_rtt_fits_total`: models fitted to what is remembered.
    pub fits: IntCounter,
    /// `nearmost_rtt_fit_seconds`: time to fit a model.
    pub fit_seconds: Histogram,
    /// `nearmost_rtt_memory_errors_total`: times that what was learned could not be read or written.
    pub memory_errors: IntCounter,
}

impl LearningMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<LearningMetrics, Error> {
        let metrics = LearningMetrics {
            observations: counters(
                registry,
                "nearmost_rtt_observations_total",
                "Measured round trips that arrived, by how they were measured.",
                &["source"],
            )?,
            missed: counter(
                registry,
                "nearmost_rtt_missed_total",
                "Times that a client said that it does not reach a mirror.",
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
            refused: counters(
                registry,
                "nearmost_rtt_refused_total",
                "Measured round trips that cannot be, by what is wrong.",
                &["reason"],
            )?,
            networks: gauge(registry, "nearmost_rtt_networks", "Client networks that are remembered.")?,
            fits: counter(registry, "nearmost_rtt_fits_total", "Models fitted to what is remembered.")?,
            fit_seconds: seconds(registry, "nearmost_rtt_fit_seconds", "Time to fit a model.")?,
            memory_errors: counter(
                registry,
                "nearmost_rtt_memory_errors_total",
                "Times that what was learned could not be read or written.",
            )?,
        };
        from_zero(&metrics.observations, Source::ALL.map(Source::as_str));
        from_zero(&metrics.refused, ["not_a_number", "too_long", "too_many_targets", "itself"]);
        Ok(metrics)
    }
}
