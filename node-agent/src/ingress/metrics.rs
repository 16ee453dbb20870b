//! What the ingress counts; the table is in [`crate::metrics`].

use crate::metrics::from_zero;
use crate::status::IngressStatus;
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::flow::OpenError;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Why connections and sessions are refused.
const REFUSED: [&str; 12] = [
    "limit",
    "network_limit",
    "network_rate",
    "rate",
    "protocol",
    "handshake",
    "handshake_timeout",
    "tripwire_limit",
    "full",
    "draining",
    "unproven",
    "unknown_domain",
];
/// Why packets are not handed on.
const DROPPED: [&str; 9] = [
    "not_served",
    "not_attached",
    "too_many",
    "too_old",
    "too_large",
    "overload",
    "socket",
    "connection",
    "range",
];

/// What is counted of the ingress.
#[derive(Clone)]
pub struct IngressMetrics {
    /// Connections of clients.
    pub connections: IntGauge,
    /// Tripwire connections.
    pub tripwires: IntGauge,
    /// Sessions inside TLS over TCP.
    pub tunnels: IntGauge,
    sessions: IntGaugeVec,
    flows: FlowMetrics,
    datagrams: IntCounterVec,
    duplicates: IntCounter,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    bad_frames: IntCounterVec,
    closed: IntCounterVec,
}

#[derive(Clone)]
struct FlowMetrics {
    open: IntGaugeVec,
    ends: IntCounterVec,
    failed: IntCounterVec,
    bytes: IntCounterVec,
}

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a client to the service.
    Up,
    /// From the service to a client.
    Down,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Way::Up => "up",
            Way::Down => "down",
        }
    }
}

/// The kinds of flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Packets.
    Udp,
    /// A connection.
    Tcp,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Udp => "udp",
            Kind::Tcp => "tcp",
        }
    }
}

impl IngressMetrics {
    /// All at zero.
    ///
    /// # Errors
    /// A metric whose name or labels the library refuses.
    pub fn new(registry: &Registry) -> Result<IngressMetrics, prometheus::Error> {
        let r = registry;
        let flows = FlowMetrics {
            open: gauges(r, "flows", "Flows that are handed to services, by kind", "kind")?,
            ends: counters(
                r,
                "flow_ends_total",
                "Flows that ended, by kind and reason",
                &["kind", "reason"],
            )?,
            failed: counters(
                r,
                "flows_failed_total",
                "Flows that did not come about, by reason",
                &["reason"],
            )?,
            bytes: counters(r, "bytes_total", "Payload of flows, by kind and way", &["kind", "way"])?,
        };
        let metrics = IngressMetrics {
            connections: gauge(r, "connections", "Connections of clients")?,
            tripwires: gauge(r, "tripwires", "Tripwire connections")?,
            tunnels: gauge(r, "tunnels", "Sessions inside TLS over TCP")?,
            sessions: gauges(r, "sessions", "Sessions of clients, by what this mirror is to them", "role")?,
            flows,
            datagrams: counters(r, "datagrams_total", "Datagrams of clients, by way", &["way"])?,
            duplicates: counter(r, "duplicates_total", "Packets of flows that had come before")?,
            dropped: counters(r, "dropped_total", "Packets of flows not handed on, by reason", &["reason"])?,
            refused: counters(
                r,
                "refused_total",
                "Connections and sessions refused, by reason",
                &["reason"],
            )?,
            bad_frames: counters(r, "bad_frames_total", "What could not be read, by reason", &["reason"])?,
            closed: counters(r, "closed_total", "Connections closed from here, by reason", &["reason"])?,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Lets what never happened be seen not to have happened.
    fn begin(&self) {
        self.sessions(0, 0);
        from_zero(&self.refused, REFUSED);
        from_zero(&self.closed, Refusal::ALL.map(Refusal::label));
        from_zero(&self.dropped, DROPPED);
        from_zero(&self.datagrams, [Way::Up, Way::Down].map(Way::label));
        from_zero(&self.bad_frames, ["truncated", "too_large", "empty", "version", "body"]);
        from_zero(&self.flows.failed, OpenError::ALL.map(OpenError::label));
        for kind in [Kind::Udp, Kind::Tcp] {
            self.flows.open.with_label_values(&[kind.label()]).set(0);
            for way in [Way::Up, Way::Down] {
                self.flows.bytes.with_label_values(&[kind.label(), way.label()]).inc_by(0);
            }
        }
    }

    /// A connection, or a session's attaching or promotion, was refused.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A message, stream header or datagram could not be read.
    pub fn bad_frame(&self, reason: &str) {
        self.bad_frames.with_label_values(&[reason]).inc();
    }

    /// A connection was closed from here.
    pub fn closed(&self, refusal: Refusal) {
        self.closed.with_label_values(&[refusal.label()]).inc();
    }

    /// A datagram of a client came, or left.
    pub fn datagram(&self, way: Way) {
        self.datagrams.with_label_values(&[way.label()]).inc();
    }

    /// A copy was dropped.
    pub fn duplicate(&self) {
        self.duplicates.inc();
    }

    /// A packet of a flow was not handed on.
    pub fn dropped(&self, reason: &str) {
        self.dropped.with_label_values(&[reason]).inc();
    }

    /// Payload was handed on.
    pub fn bytes(&self, kind: Kind, way: Way, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.flows.bytes.with_label_values(&[kind.label(), way.label()]).inc_by(bytes);
    }

    /// A stream got no connection.
    pub fn flow_failed(&self, error: OpenError) {
        self.flows.failed.with_label_values(&[error.label()]).inc();
    }

    /// A flow is open while the result lives.
    pub fn flow(&self, kind: Kind) -> OpenFlow {
        let open = self.flows.open.with_label_values(&[kind.label()]);
        open.inc();
        OpenFlow { open, ends: self.flows.ends.clone(), kind }
    }

    /// Sessions of one service changed by so many: those that are served, and those kept warm.
    pub fn sessions(&self, served: i64, warm: i64) {
        self.sessions.with_label_values(&["primary"]).add(served);
        self.sessions.with_label_values(&["standby"]).add(warm);
    }

    /// In short, for the status page.
    pub fn status(&self, port: u16) -> IngressStatus {
        let of = |vec: &IntGaugeVec, label: &str| {
            u64::try_from(vec.with_label_values(&[label]).get()).unwrap_or(0)
        };
        IngressStatus {
            port,
            served: of(&self.sessions, "primary"),
            warm: of(&self.sessions, "standby"),
            udp_flows: of(&self.flows.open, "udp"),
            tcp_flows: of(&self.flows.open, "tcp"),
        }
    }
}

/// Counts a flow as open until dropped.
pub struct OpenFlow {
    open: IntGauge,
    ends: IntCounterVec,
    kind: Kind,
}

impl OpenFlow {
    /// The flow ended for this reason.
    pub fn ended(self, reason: &str) {
        self.ends.with_label_values(&[self.kind.label(), reason]).inc();
    }
}

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Counts something as there until dropped.
pub(super) struct Held(IntGauge);

/// One more of what `gauge` counts, while the result lives.
pub(super) fn held(gauge: &IntGauge) -> Held {
    gauge.inc();
    Held(gauge.clone())
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("nearmost_agent").subsystem("ingress")
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let metric = IntCounter::with_opts(opts(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(opts(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(opts(name, help), &[label])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
