//! What DNS counts. Every label has a small fixed set of values. What every message counts is on the
//! sheets; here is what happens to connections and sockets.

use super::sheet::Sheets;
use super::tcp::Refusal;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// DNS as Prometheus sees it.
#[derive(Debug)]
pub struct DnsMetrics {
    /// What is counted of every message.
    pub sheets: Sheets,
    /// `nearmost_dns_tcp_connections`: open connections.
    pub tcp_connections: IntGauge,
    /// `nearmost_dns_tcp_refused_total{limit}`: connections closed at once for a limit, `total` or
    /// `source`.
    tcp_refused: [IntCounter; 2],
    /// `nearmost_dns_tcp_timeouts_total`: connections closed for idling or slowness.
    pub tcp_timeouts: IntCounter,
    /// `nearmost_dns_socket_errors_total`: reads, sends and accepts that failed.
    pub socket_errors: IntCounter,
}

impl DnsMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<DnsMetrics, prometheus::Error> {
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help)?);
        let family = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let refused = family(
            "nearmost_dns_tcp_refused_total",
            "DNS connections closed at once because a limit was reached.",
            &["limit"],
        )?;
        Ok(DnsMetrics {
            sheets: registered(registry, Sheets::new()?)?,
            tcp_connections: registered(
                registry,
                IntGauge::new("nearmost_dns_tcp_connections", "Open DNS connections.")?,
            )?,
            tcp_refused: ["total", "source"].map(|limit| refused.with_label_values(&[limit])),
            tcp_timeouts: counter(
                "nearmost_dns_tcp_timeouts_total",
                "DNS connections closed for idling or slowness.",
            )?,
            socket_errors: counter(
                "nearmost_dns_socket_errors_total",
                "Reads, sends and accepts of DNS sockets that failed.",
            )?,
        })
    }

    /// The counter of a refusal.
    pub(super) fn refused(&self, refusal: Refusal) -> &IntCounter {
        match refusal {
            Refusal::Total => &self.tcp_refused[0],
            Refusal::Source => &self.tcp_refused[1],
        }
    }
}

/// Registers a collector and gives it back.
fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
