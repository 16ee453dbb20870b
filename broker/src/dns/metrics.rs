//! What DNS counts. Every label has a small fixed set of values, and every child is looked up once,
//! here: counting a query is one addition.

mod connections;

pub(super) use connections::QuicFault;
pub use connections::{
    CertificateMetrics, ConnectionMetrics, Connections, EncryptedMetrics, HandshakeMetrics,
};

use nearmost_dns::{ErrorKind, Outcome, Rcode, Transport};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// Types that have a label of their own, by number.
const QTYPES: [(u16, &str); 16] = [
    (1, "a"),
    (28, "aaaa"),
    (65, "https"),
    (64, "svcb"),
    (33, "srv"),
    (16, "txt"),
    (2, "ns"),
    (6, "soa"),
    (5, "cname"),
    (15, "mx"),
    (257, "caa"),
    (12, "ptr"),
    (43, "ds"),
    (48, "dnskey"),
    (255, "any"),
    // The question was not readable.
    (0, "none"),
];
/// The label of every other type.
const OTHER: &str = "other";
/// Labels of types, `other` included.
const QTYPE_LABELS: usize = QTYPES.len() + 1;
const TRANSPORTS: usize = Transport::ALL.len();
const RCODES: usize = Rcode::ALL.len();

/// DNS as Prometheus sees it.
#[derive(Debug)]
pub struct DnsMetrics {
    /// `nearmost_dns_queries_total{transport,qtype,rcode}`: messages answered.
    queries: [[[IntCounter; RCODES]; QTYPE_LABELS]; TRANSPORTS],
    /// `nearmost_dns_malformed_total{kind}`: messages that were not accepted as queries.
    malformed: [IntCounter; ErrorKind::ALL.len()],
    /// `nearmost_dns_dropped_total`: messages left without a reply, as being none or responses.
    pub dropped: IntCounter,
    /// `nearmost_dns_truncated_total`: replies with TC set.
    pub truncated: IntCounter,
    /// `nearmost_dns_response_seconds`: from a message read to its reply ready to be sent.
    pub response_seconds: Histogram,
    /// Connections of TCP, TLS and QUIC.
    pub connections: Connections,
    /// Handshakes, certificates and the rules of DNS over QUIC.
    pub encrypted: EncryptedMetrics,
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
        let queries =
            family("nearmost_dns_queries_total", "DNS messages answered.", &["transport", "qtype", "rcode"])?;
        let malformed =
            family("nearmost_dns_malformed_total", "DNS messages not accepted as queries.", &["kind"])?;
        let buckets = prometheus::exponential_buckets(1e-6, 2.0, 16)?;
        let seconds = HistogramOpts::new(
            "nearmost_dns_response_seconds",
            "From a DNS message read to its reply ready to be sent.",
        );
        Ok(DnsMetrics {
            queries: std::array::from_fn(|t| {
                std::array::from_fn(|q| {
                    std::array::from_fn(|r| {
                        let qtype = QTYPES.get(q).map_or(OTHER, |(_, label)| label);
                        queries.with_label_values(&[
                            Transport::ALL[t].as_str(),
                            qtype,
                            Rcode::ALL[r].as_str(),
                        ])
                    })
                })
            }),
            malformed: ErrorKind::ALL.map(|k| malformed.with_label_values(&[k.as_str()])),
            dropped: counter("nearmost_dns_dropped_total", "DNS messages left without a reply.")?,
            truncated: counter("nearmost_dns_truncated_total", "DNS replies with the TC bit set.")?,
            response_seconds: registered(registry, Histogram::with_opts(seconds.buckets(buckets))?)?,
            connections: Connections::register(registry)?,
            encrypted: EncryptedMetrics::register(registry)?,
            socket_errors: counter(
                "nearmost_dns_socket_errors_total",
                "Reads, sends and accepts of DNS sockets that failed.",
            )?,
        })
    }

    /// Counts one message.
    pub(super) fn record(&self, transport: Transport, outcome: &Outcome, took: Duration) {
        if let Some(error) = outcome.error {
            self.malformed[error.kind as usize].inc();
        }
        if outcome.dropped() {
            self.dropped.inc();
            return;
        }
        if outcome.truncated {
            self.truncated.inc();
        }
        let qtype = QTYPES.iter().position(|(t, _)| *t == outcome.qtype).unwrap_or(QTYPES.len());
        self.queries[transport as usize][qtype][outcome.rcode as usize].inc();
        self.response_seconds.observe(took.as_secs_f64());
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
