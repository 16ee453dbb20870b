//! What DNS counts. Every label has a small fixed set of values, and every child is looked up once,
//! here: counting a query is one addition.

use super::tcp::Refusal;
use nearmost_dns::limiter::{Reason, Verdict};
use nearmost_dns::{CookieState, ErrorKind, Outcome, Rcode, Transport};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
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
/// What becomes of a reply that is held back.
const ACTIONS: [&str; 2] = ["slip", "drop"];

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
    /// `nearmost_dns_tcp_connections`: open connections.
    pub tcp_connections: IntGauge,
    /// `nearmost_dns_tcp_refused_total{limit}`: connections closed at once for a limit, `total` or
    /// `source`.
    tcp_refused: [IntCounter; 2],
    /// `nearmost_dns_tcp_timeouts_total`: connections closed for idling or slowness.
    pub tcp_timeouts: IntCounter,
    /// What is known of sources, and what is held back from them.
    abuse: AbuseMetrics,
    /// `nearmost_dns_socket_errors_total`: reads, sends and accepts that failed.
    pub socket_errors: IntCounter,
}

/// What is known of sources, and what is held back from them.
#[derive(Debug)]
struct AbuseMetrics {
    /// `nearmost_dns_cookies_total{state}`: queries by what their cookie says.
    cookies: [IntCounter; CookieState::ALL.len()],
    /// `nearmost_dns_limited_total{action,reason}`: replies that a limit shortened or held back.
    limited: [[IntCounter; Reason::ALL.len()]; ACTIONS.len()],
}

impl AbuseMetrics {
    fn new(registry: &Registry) -> Result<AbuseMetrics, prometheus::Error> {
        let cookies = Opts::new("nearmost_dns_cookies_total", "DNS queries by the state of their cookie.");
        let cookies = registered(registry, IntCounterVec::new(cookies, &["state"])?)?;
        let limited =
            Opts::new("nearmost_dns_limited_total", "DNS replies shortened or not sent for a limit.");
        let limited = registered(registry, IntCounterVec::new(limited, &["action", "reason"])?)?;
        Ok(AbuseMetrics {
            cookies: CookieState::ALL.map(|s| cookies.with_label_values(&[s.as_str()])),
            limited: ACTIONS.map(|a| Reason::ALL.map(|r| limited.with_label_values(&[a, r.as_str()]))),
        })
    }
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
        let refused = family(
            "nearmost_dns_tcp_refused_total",
            "DNS connections closed at once because a limit was reached.",
            &["limit"],
        )?;
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
            tcp_connections: registered(
                registry,
                IntGauge::new("nearmost_dns_tcp_connections", "Open DNS connections.")?,
            )?,
            tcp_refused: ["total", "source"].map(|limit| refused.with_label_values(&[limit])),
            tcp_timeouts: counter(
                "nearmost_dns_tcp_timeouts_total",
                "DNS connections closed for idling or slowness.",
            )?,
            abuse: AbuseMetrics::new(registry)?,
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
        if outcome.error.is_none() {
            self.abuse.cookies[outcome.account.cookie as usize].inc();
        }
        let qtype = QTYPES.iter().position(|(t, _)| *t == outcome.qtype).unwrap_or(QTYPES.len());
        self.queries[transport as usize][qtype][outcome.rcode as usize].inc();
        self.response_seconds.observe(took.as_secs_f64());
    }

    /// Counts what a limit did to a reply.
    pub fn limited(&self, verdict: Verdict) {
        match verdict {
            Verdict::Send => {}
            Verdict::Slip(reason) => self.abuse.limited[0][reason as usize].inc(),
            Verdict::Drop(reason) => self.abuse.limited[1][reason as usize].inc(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_dns::Account;

    #[test]
    fn cookies_and_limits_are_counted_by_what_they_are() {
        let registry = Registry::new();
        let metrics = DnsMetrics::new(&registry).unwrap();
        for cookie in CookieState::ALL {
            let account = Account { cookie, ..Account::default() };
            let outcome = Outcome { account, ..Outcome::default() };
            metrics.record(Transport::Udp, &outcome, Duration::ZERO);
        }
        for reason in Reason::ALL {
            metrics.limited(Verdict::Slip(reason));
            metrics.limited(Verdict::Drop(reason));
        }
        metrics.limited(Verdict::Send);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for state in CookieState::ALL {
            let line = format!("nearmost_dns_cookies_total{{state=\"{}\"}} 1\n", state.as_str());
            assert!(text.contains(&line), "{line}{text}");
        }
        for reason in Reason::ALL.map(Reason::as_str) {
            for action in ACTIONS {
                let line =
                    format!("nearmost_dns_limited_total{{action=\"{action}\",reason=\"{reason}\"}} 1\n");
                assert!(text.contains(&line), "{line}{text}");
            }
        }
    }
}
