//! What DNS counts. Every label has a small fixed set of values. What every message counts is on the
//! sheets; here is what happens to connections and sockets.

mod connections;

pub(super) use connections::QuicFault;
pub use connections::{
    CertificateMetrics, ConnectionMetrics, Connections, EncryptedMetrics, HandshakeMetrics,
};

use super::cpu::Threads;
use super::sheet::Sheets;
use super::tally::Book;
use super::xdp::XdpMetrics;
use nearmost_config::MetricsConfig;
use prometheus::{IntCounter, Registry};

/// DNS as Prometheus sees it.
#[derive(Debug)]
pub struct DnsMetrics {
    /// What is counted of every message.
    pub sheets: Sheets,
    /// What is counted by domain and mirror.
    pub book: Book,
    /// CPU time of the threads that answer over UDP.
    pub cpu: Threads,
    /// Connections of TCP, TLS and QUIC.
    pub connections: Connections,
    /// Handshakes, certificates and the rules of DNS over QUIC.
    pub encrypted: EncryptedMetrics,
    /// Past the sockets.
    pub xdp: XdpMetrics,
    /// `nearmost_dns_socket_errors_total`: reads, sends and accepts that failed.
    pub socket_errors: IntCounter,
}

impl DnsMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<DnsMetrics, prometheus::Error> {
        DnsMetrics::limited(registry, MetricsConfig::default())
    }

    /// The same with a bound of one's own of domains and mirrors that have series.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn limited(registry: &Registry, most: MetricsConfig) -> Result<DnsMetrics, prometheus::Error> {
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help)?);
        Ok(DnsMetrics {
            sheets: registered(registry, Sheets::new()?)?,
            book: registered(registry, Book::new(most)?)?,
            cpu: registered(registry, Threads::new()?)?,
            connections: Connections::register(registry)?,
            encrypted: EncryptedMetrics::register(registry)?,
            xdp: XdpMetrics::register(registry)?,
            socket_errors: counter(
                "nearmost_dns_socket_errors_total",
                "Reads, sends and accepts of DNS sockets that failed.",
            )?,
        })
    }
}

/// Registers a collector and gives it back.
pub(super) fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
