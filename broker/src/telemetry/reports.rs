//! Counters of what clients report of round trips.

use super::{counter, counters};
use prometheus::{Error, IntCounter, IntCounterVec, Registry};

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
        Ok(ReportMetrics {
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
        })
    }
}
