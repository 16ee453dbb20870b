//! What DNS counts of connections, and of what comes before and around them where they are encrypted.

use super::registered;
use crate::dns::gate::Refusal;
use nearmost_dns::Transport;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Of one transport.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    /// `nearmost_dns_connections{transport}`: open connections.
    pub open: IntGauge,
    /// `nearmost_dns_connections_refused_total{transport,limit}`: connections not taken for a limit,
    /// `total` or `source`.
    refused: [IntCounter; 2],
    /// `nearmost_dns_connection_timeouts_total{transport}`: connections closed for idling or slowness.
    pub timeouts: IntCounter,
}

impl ConnectionMetrics {
    /// The counter of a refusal.
    pub(in crate::dns) fn refused(&self, refusal: Refusal) -> &IntCounter {
        match refusal {
            Refusal::Total => &self.refused[0],
            Refusal::Source => &self.refused[1],
        }
    }
}

/// Of the transports that have connections.
#[derive(Debug)]
pub struct Connections {
    /// TCP.
    pub tcp: ConnectionMetrics,
    /// TLS.
    pub tls: ConnectionMetrics,
    /// QUIC.
    pub quic: ConnectionMetrics,
}

impl Connections {
    pub(super) fn register(registry: &Registry) -> Result<Connections, prometheus::Error> {
        let open = Opts::new("nearmost_dns_connections", "Open DNS connections.");
        let open = registered(registry, IntGaugeVec::new(open, &["transport"])?)?;
        let refused = family(
            registry,
            "nearmost_dns_connections_refused_total",
            "DNS connections not taken because a limit was reached.",
            &["transport", "limit"],
        )?;
        let timeouts = family(
            registry,
            "nearmost_dns_connection_timeouts_total",
            "DNS connections closed for idling or slowness.",
            &["transport"],
        )?;
        let of = |transport: Transport| {
            let transport = transport.as_str();
            ConnectionMetrics {
                open: open.with_label_values(&[transport]),
                refused: ["total", "source"].map(|limit| refused.with_label_values(&[transport, limit])),
                timeouts: timeouts.with_label_values(&[transport]),
            }
        };
        Ok(Connections { tcp: of(Transport::Tcp), tls: of(Transport::Tls), quic: of(Transport::Quic) })
    }
}

/// Handshakes that came to nothing.
#[derive(Clone, Debug)]
pub struct HandshakeMetrics {
    /// Broken off, by either side.
    pub error: IntCounter,
    /// Not done in time.
    pub timeout: IntCounter,
}

/// How a client broke the rules of DNS over QUIC (RFC 9250).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::dns) enum QuicFault {
    /// The message id is not 0 (§4.2.1).
    MessageId,
    /// A stream does not hold exactly one message with its length (§4.2).
    Framing,
    /// A message that gets no reply: a response, or less than a header.
    NoQuery,
    /// The keepalive option of TCP (§5.5.2).
    Keepalive,
    /// A query larger than is taken here.
    TooLarge,
    /// A query that did not arrive in time, or a reply that was not taken in time.
    TooSlow,
}

impl QuicFault {
    /// All, in the order of their discriminants.
    const ALL: [QuicFault; 6] = [
        QuicFault::MessageId,
        QuicFault::Framing,
        QuicFault::NoQuery,
        QuicFault::Keepalive,
        QuicFault::TooLarge,
        QuicFault::TooSlow,
    ];

    /// Label for metrics, and what the client is told.
    pub(in crate::dns) fn as_str(self) -> &'static str {
        match self {
            QuicFault::MessageId => "message_id",
            QuicFault::Framing => "framing",
            QuicFault::NoQuery => "no_query",
            QuicFault::Keepalive => "keepalive",
            QuicFault::TooLarge => "too_large",
            QuicFault::TooSlow => "too_slow",
        }
    }
}

/// The certificate of the encrypted transports.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    /// `nearmost_dns_certificate_expiry_seconds`: the Unix time when the certificate in use expires; absent
    /// while there is none.
    expiry: IntGaugeVec,
    /// `nearmost_dns_certificate_reloads_total{result}`: `ok`.
    pub reloaded: IntCounter,
    /// The same: `failed`; the old certificate stayed.
    pub failed: IntCounter,
}

impl CertificateMetrics {
    fn register(registry: &Registry) -> Result<CertificateMetrics, prometheus::Error> {
        let expiry = Opts::new(
            "nearmost_dns_certificate_expiry_seconds",
            "Unix time when the certificate of encrypted DNS expires.",
        );
        let reloads = family(
            registry,
            "nearmost_dns_certificate_reloads_total",
            "Changed certificates of encrypted DNS that were taken over, or could not be.",
            &["result"],
        )?;
        Ok(CertificateMetrics {
            expiry: registered(registry, IntGaugeVec::new(expiry, &[])?)?,
            reloaded: reloads.with_label_values(&["ok"]),
            failed: reloads.with_label_values(&["failed"]),
        })
    }

    /// When the certificate now in use expires, in seconds since 1970.
    pub(in crate::dns) fn expires(&self, unix_seconds: i64) {
        self.expiry.with_label_values::<&str>(&[]).set(unix_seconds);
    }
}

/// What there is beside connections where they are encrypted.
#[derive(Debug)]
pub struct EncryptedMetrics {
    /// `nearmost_dns_handshakes_failed_total{transport="tls",reason}`.
    pub tls: HandshakeMetrics,
    /// `nearmost_dns_handshakes_failed_total{transport="quic",reason}`.
    pub quic: HandshakeMetrics,
    /// `nearmost_dns_quic_closed_total{fault}`: connections closed because the client broke the rules.
    quic_closed: [IntCounter; QuicFault::ALL.len()],
    /// The certificate.
    pub certificate: CertificateMetrics,
}

impl EncryptedMetrics {
    pub(super) fn register(registry: &Registry) -> Result<EncryptedMetrics, prometheus::Error> {
        let failed = family(
            registry,
            "nearmost_dns_handshakes_failed_total",
            "Handshakes of encrypted DNS that came to nothing.",
            &["transport", "reason"],
        )?;
        let of = |transport: Transport| HandshakeMetrics {
            error: failed.with_label_values(&[transport.as_str(), "error"]),
            timeout: failed.with_label_values(&[transport.as_str(), "timeout"]),
        };
        let closed = family(
            registry,
            "nearmost_dns_quic_closed_total",
            "Connections of DNS over QUIC closed because the client broke the rules.",
            &["fault"],
        )?;
        Ok(EncryptedMetrics {
            tls: of(Transport::Tls),
            quic: of(Transport::Quic),
            quic_closed: QuicFault::ALL.map(|fault| closed.with_label_values(&[fault.as_str()])),
            certificate: CertificateMetrics::register(registry)?,
        })
    }

    /// The counter of a fault.
    pub(in crate::dns) fn closed(&self, fault: QuicFault) -> &IntCounter {
        &self.quic_closed[fault as usize]
    }
}

fn family(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}
