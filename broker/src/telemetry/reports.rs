//! Counters of what clients report of round trips.

use super::{counter, counters, from_zero};
use prometheus::{Error, IntCounter, IntCounterVec, Registry};

/// Why reports are refused that could be read, apart from what is wrong with their session.
const REFUSALS: [&str; 7] = [
    "reports_too_often",
    "unknown_domain",
    "too_many_rtts",
    "no_rtts",
    "unknown_mirror",
    "rtt_range",
    "nonce_malformed",
];

/// What is counted of reports.
#[derive(Clone)]
pub struct ReportMetrics {
    /// `nearmost_rtt_reports_total{way}`: reports taken, over `http` or `quic`.
    pub taken: IntCounterVec,
    /// `nearmost_rtt_reports_refused_total{reason}`: reports refused, by code.
    pub refused: IntCounterVec,
    /// `nearmost_rtt_nonces_total`: one-time names that were asked for and noted.
    pub nonces: IntCounter,
    /// `nearmost_rtt_nonces_dropped_total{reason}`: one-time names forgotten before their time: `busy`
    /// (the query did not wait for the table), `source` (the resolver has its share), `full`.
    pub nonces_dropped: IntCounterVec,
}

impl ReportMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ReportMetrics, Error> {
        let metrics = ReportMetrics {
            taken: counters(
                registry,
                "nearmost_rtt_reports_total",
                "Reports of round trips taken from clients, by how they came.",
                &["way"],
            )?,
            refused: counters(
                registry,
                "nearmost_rtt_reports_refused_total",
                "Reports of round trips refused, by reason.",
                &["reason"],
            )?,
            nonces: counter(
                registry,
                "nearmost_rtt_nonces_total",
                "One-time names that were asked for and noted.",
            )?,
            nonces_dropped: counters(
                registry,
                "nearmost_rtt_nonces_dropped_total",
                "One-time names that were forgotten before their time, or not noted.",
                &["reason"],
            )?,
        };
        from_zero(&metrics.taken, ["http", "quic"]);
        from_zero(&metrics.refused, REFUSALS);
        from_zero(&metrics.nonces_dropped, ["busy", "source", "full"]);
        Ok(metrics)
    }
}
