//! Counters of clients' sessions.

use super::{counters, gauge};
use prometheus::{Error, IntCounterVec, IntGauge, Registry};

/// What the listeners for clients count.
#[derive(Clone)]
pub struct ClientMetrics {
    /// `nearmost_client_sessions`: clients connected over QUIC.
    pub sessions: IntGauge,
    /// `nearmost_client_handshakes_refused_total{kind}`: connections dropped before a session
    /// (`limit`, `network_limit`, `timeout`, `failed`).
    pub handshakes_refused: IntCounterVec,
    /// `nearmost_client_messages_total{kind}`: messages read, `resolve` or `rtt`.
    pub messages: IntCounterVec,
    /// `nearmost_client_refusals_total{reason}`: sessions ended by the broker, by code.
    pub refusals: IntCounterVec,
}

impl ClientMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ClientMetrics, Error> {
        Ok(ClientMetrics {
            sessions: gauge(registry, "nearmost_client_sessions", "Clients connected over QUIC.")?,
            handshakes_refused: counters(
                registry,
                "nearmost_client_handshakes_refused_total",
                "Connections of clients dropped before a session.",
                &["kind"],
            )?,
            messages: counters(
                registry,
                "nearmost_client_messages_total",
                "Messages of clients read.",
                &["kind"],
            )?,
            refusals: counters(
                registry,
                "nearmost_client_refusals_total",
                "Sessions of clients that the broker ended, by reason.",
                &["reason"],
            )?,
        })
    }
}
