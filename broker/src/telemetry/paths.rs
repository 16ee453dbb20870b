//! What is counted of the round trips that agents tell and measure.

use super::{counter, counters, from_zero, gauge};
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, Registry};

/// What sessions and the schedule of pairs count.
#[derive(Clone)]
pub struct PathMetrics {
    /// `nearmost_path_samples_total{result}`: client networks that agents told of (`taken`), and why
    /// others were not taken (`mirror`: not one of the node's; `network`, `rtt`: not plausible;
    /// `rate`: too many messages).
    pub samples: IntCounterVec,
    /// `nearmost_session_rtts_total{result}`: round trips of agents' own sessions (`taken`), and those
    /// that say nothing (`address`: the broker does not know at which of its addresses; `loopback`;
    /// `absurd`).
    pub sessions: IntCounterVec,
    /// `nearmost_pairs`: ordered pairs of a node and a target to measure.
    pub pairs: IntGauge,
    /// `nearmost_pair_orders_total{result}`: orders to measure that were `sent`, or `dropped` because
    /// the session had no room or was gone.
    pub orders: IntCounterVec,
    /// `nearmost_pair_results_total{result}`: what came back (`measured`, `failed`, `rate`, `absurd`; of a
    /// `loopback` address, which teaches nothing), what was not asked for (`unknown`), and what never came (`lost`).
    pub results: IntCounterVec,
    /// `nearmost_agent_hint_floods_total`: sessions ended because of too many hints.
    pub floods: IntCounter,
}

impl PathMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<PathMetrics, Error> {
        let metrics = PathMetrics {
            samples: counters(
                registry,
                "nearmost_path_samples_total",
                "Client networks whose round trips agents told, by what became of them.",
                &["result"],
            )?,
            sessions: counters(
                registry,
                "nearmost_session_rtts_total",
                "Round trips read off agents' own sessions, by what became of them.",
                &["result"],
            )?,
            pairs: gauge(registry, "nearmost_pairs", "Ordered pairs of a node and a target to measure.")?,
            orders: counters(
                registry,
                "nearmost_pair_orders_total",
                "Orders to nodes to measure others, by what became of them.",
                &["result"],
            )?,
            results: counters(
                registry,
                "nearmost_pair_results_total",
                "What nodes measured of others, by result.",
                &["result"],
            )?,
            floods: counter(
                registry,
                "nearmost_agent_hint_floods_total",
                "Sessions of agents ended because of too many hints.",
            )?,
        };
        from_zero(&metrics.samples, ["taken", "mirror", "network", "rtt", "rate"]);
        from_zero(&metrics.sessions, ["taken", "address", "loopback", "absurd"]);
        from_zero(&metrics.orders, ["sent", "dropped"]);
        from_zero(&metrics.results, ["measured", "failed", "rate", "absurd", "loopback", "unknown", "lost"]);
        Ok(metrics)
    }
}
