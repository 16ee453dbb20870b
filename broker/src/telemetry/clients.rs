//! Counters of clients' sessions.

use super::{SessionMetrics, counter, counters, from_zero, gauge};
use nearmost_wire::client::Refusal;
use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Registry};

/// What the listeners for clients count.
#[derive(Clone)]
pub struct ClientMetrics {
    /// `nearmost_client_sessions`: clients connected over QUIC.
    pub sessions: IntGauge,
    /// `nearmost_client_tunnels`: tunnels of clients over TCP.
    pub tunnels: IntGauge,
    /// `nearmost_client_handshakes_refused_total{kind}`: connections dropped before a session
    /// (`limit`, `network_limit`, `tunnel_limit`, `timeout`, `failed`).
    pub handshakes_refused: IntCounterVec,
    /// `nearmost_client_messages_total{kind}`: messages read, `resolve`, `rtt` or `subscribe`.
    pub messages: IntCounterVec,
    /// `nearmost_client_refusals_total{reason}`: sessions ended by the broker, by code.
    pub refusals: IntCounterVec,
    /// What clients tell of their sessions with mirrors.
    pub told: SessionMetrics,
}

impl ClientMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ClientMetrics, Error> {
        let metrics = ClientMetrics {
            sessions: gauge(registry, "nearmost_client_sessions", "Clients connected over QUIC.")?,
            tunnels: gauge(registry, "nearmost_client_tunnels", "Tunnels of clients over TCP.")?,
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
            told: SessionMetrics::register(registry)?,
        };
        from_zero(
            &metrics.handshakes_refused,
            ["limit", "network_limit", "tunnel_limit", "timeout", "failed"],
        );
        from_zero(&metrics.messages, ["resolve", "rtt", "subscribe"]);
        from_zero(&metrics.refusals, Refusal::ALL.map(Refusal::label));
        Ok(metrics)
    }
}

/// What the lists that follow clients count.
#[derive(Clone)]
pub struct ListMetrics {
    /// `nearmost_list_subscribers`: clients that are followed by a list.
    pub subscribers: IntGauge,
    /// `nearmost_list_groups`: client networks and domains whose lists are told apart.
    pub groups: IntGauge,
    /// `nearmost_list_pushed_total`: changes handed to subscribers' queues.
    pub pushed: IntCounter,
    /// `nearmost_list_dropped_total`: subscribers that did not keep up.
    pub dropped: IntCounter,
    /// `nearmost_list_delay_seconds`: from the snapshot to a group's queues.
    pub delay: Histogram,
}

impl ListMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<ListMetrics, Error> {
        let delay = HistogramOpts::new(
            "nearmost_list_delay_seconds",
            "From a snapshot to the queues of subscribers.",
        )
        .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0]);
        let delay = Histogram::with_opts(delay)?;
        registry.register(Box::new(delay.clone()))?;
        Ok(ListMetrics {
            subscribers: gauge(registry, "nearmost_list_subscribers", "Clients followed by a list.")?,
            groups: gauge(registry, "nearmost_list_groups", "Client networks and domains with a list.")?,
            pushed: counter(
                registry,
                "nearmost_list_pushed_total",
                "Changes of lists handed to subscribers.",
            )?,
            dropped: counter(registry, "nearmost_list_dropped_total", "Subscribers that did not keep up.")?,
            delay,
        })
    }
}
