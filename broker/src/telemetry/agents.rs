//! Counters of agents' sessions and beacons.

use super::{counter, counters, from_zero, gauge};
use nearmost_wire::agent::Refusal;
use nearmost_wire::beacon::BeaconError;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, Registry};

/// What the listeners for agents count.
#[derive(Clone)]
pub struct AgentMetrics {
    /// `nearmost_agent_sessions`: agents connected.
    pub sessions: IntGauge,
    /// `nearmost_agent_joins_total`: nodes that joined with a token.
    pub joins: IntCounter,
    /// `nearmost_agent_refusals_total{reason}`: sessions and joins refused, by code.
    pub refusals: IntCounterVec,
    /// `nearmost_agent_handshakes_refused_total{kind}`: connections dropped before a session
    /// (`limit`, `timeout`, `failed`).
    pub handshakes_refused: IntCounterVec,
    /// `nearmost_beacons_total`: authenticated beacons.
    pub beacons: IntCounter,
    /// `nearmost_beacons_rejected_total{kind}`: datagrams on the beacons' port that were not taken.
    pub beacons_rejected: IntCounterVec,
    /// `nearmost_beacons_dropped_total`: beacons dropped because the fleet's queue was full.
    pub beacons_dropped: IntCounter,
    /// `nearmost_reports_total`: reports taken.
    pub reports: IntCounter,
    /// `nearmost_agent_bad_messages_total`: messages that broke the protocol and ended a session.
    pub bad_messages: IntCounter,
}

impl AgentMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<AgentMetrics, Error> {
        let metrics = AgentMetrics {
            sessions: gauge(registry, "nearmost_agent_sessions", "Agents connected.")?,
            joins: counter(registry, "nearmost_agent_joins_total", "Nodes that joined with a token.")?,
            refusals: counters(
                registry,
                "nearmost_agent_refusals_total",
                "Sessions and joins of agents refused, by reason.",
                &["reason"],
            )?,
            handshakes_refused: counters(
                registry,
                "nearmost_agent_handshakes_refused_total",
                "Connections of agents dropped before a session.",
                &["kind"],
            )?,
            beacons: counter(registry, "nearmost_beacons_total", "Authenticated beacons of agents.")?,
            beacons_rejected: counters(
                registry,
                "nearmost_beacons_rejected_total",
                "Datagrams to the port of beacons that were not taken, by what was wrong.",
                &["kind"],
            )?,
            beacons_dropped: counter(
                registry,
                "nearmost_beacons_dropped_total",
                "Authenticated beacons dropped because the queue of the fleet was full.",
            )?,
            reports: counter(registry, "nearmost_reports_total", "Reports of agents taken.")?,
            bad_messages: counter(
                registry,
                "nearmost_agent_bad_messages_total",
                "Messages of agents that broke the protocol and ended their session.",
            )?,
        };
        from_zero(&metrics.refusals, Refusal::ALL.map(Refusal::label));
        from_zero(&metrics.handshakes_refused, ["limit", "network_limit", "timeout", "failed"]);
        from_zero(&metrics.beacons_rejected, BeaconError::KINDS);
        Ok(metrics)
    }
}
