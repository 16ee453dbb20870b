//! Counters of the broker's own probes.

use super::counter;
use prometheus::{Error, IntCounter, Registry};

/// What became of the fleet's orders to probe.
#[derive(Clone)]
pub struct ProbeMetrics {
    /// `nearmost_probes_started_total`: probes that found a place.
    pub started: IntCounter,
    /// `nearmost_probes_passed_total`: those that the service answered well.
    pub passed: IntCounter,
    /// `nearmost_probes_failed_total`: those that it did not.
    pub failed: IntCounter,
    /// `nearmost_probes_skipped_total`: orders handed back, as too many probes were under way.
    pub skipped: IntCounter,
}

impl ProbeMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ProbeMetrics, Error> {
        Ok(ProbeMetrics {
            started: counter(registry, "nearmost_probes_started_total", "Probes of mirrors started.")?,
            passed: counter(registry, "nearmost_probes_passed_total", "Probes of mirrors that passed.")?,
            failed: counter(registry, "nearmost_probes_failed_total", "Probes of mirrors that failed.")?,
            skipped: counter(
                registry,
                "nearmost_probes_skipped_total",
                "Probes of mirrors not started, as too many were under way.",
            )?,
        })
    }
}
