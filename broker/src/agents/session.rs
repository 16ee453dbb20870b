//! One agent's session.
//!
//! ```text
//! connected ── Join ──> joined ── close by agent
//!     │
//!     └────── Hello ──> declared ──> running ──> left (Goodbye) | lost (anything else)
//! ```
//!
//! While it runs, three things happen at once: reports and hints are read, acknowledgements and orders
//! written, and the connection itself looked at. Hints (round trips) have a rate of their own: beyond
//! it they are dropped, and only a flood of them ends the session.

use super::beacons::BeaconKeys;
use super::endpoint::AgentParts;
use super::orders::{Given, Order, Ordered};
use super::standing::{self, Services};
use super::table::{authorise, close};
use crate::admin::Refused;
use crate::clock::mono_now;
use crate::driver::DriverInput;
use crate::quic::gate::Permit;
use crate::quic::rate::Bucket;
use nearmost_core::fleet::{NodeReport, ProbeToken, ServiceReport};
use nearmost_core::id::NodeId;
use nearmost_core::live::Load;
use nearmost_core::registry::Registry;
use nearmost_wire::agent::{BeaconGrant, Hello, Refusal, Report, ServiceDecl, ToAgent, ToBroker};
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::paths::{MeasureOrder, Measurement};
use nearmost_wire::tls::peer_key;
use nearmost_wire::witness::{WitnessOrder, WitnessResult};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Acknowledgements waiting to be written to one agent.
const OUTBOX: usize = 32;
/// How often a session looks whether its agent's address changed.
const WATCH_REMOTE: Duration = Duration::from_secs(1);
/// Reports that one session may send at once …
const REPORT_BURST: u32 = 200;
/// … and time between two in the long run.
const REPORT_EVERY: Duration = Duration::from_millis(50);
/// Messages with hints that are listened to at once …
const HINT_BURST: u32 = 128;
/// … and time between two in the long run.
const HINT_EVERY: Duration = Duration::from_millis(200);
/// So many at once end the session …
const FLOOD_BURST: u32 = 2048;
/// … as does one each so often in the long run.
const FLOOD_EVERY: Duration = Duration::from_millis(20);
/// Orders waiting to be written to one agent.
const ORDERS: usize = 16;
/// How often the session's own round trip is looked at, in looks at its address …
const RTT_EVERY: u32 = 60;
/// … and the first time: by then it is more than the handshake's.
const RTT_FIRST: u32 = 5;

/// What a session works with.
pub struct SessionParts {
    /// The broker's.
    pub shared: Arc<AgentParts>,
    /// Counts sessions; a newer one of the same node wins.
    pub number: u64,
    /// A connection that has not said hello by then is closed.
    pub hello_timeout: Duration,
}

/// How a session ended.
enum End {
    Goodbye,
    Lost(String),
    Refused(Refused),
}

impl From<FrameError> for End {
    fn from(e: FrameError) -> End {
        match e {
            FrameError::Ended | FrameError::Io(_) => End::Lost(e.to_string()),
            bad => End::Refused(Refused::new(Refusal::BadMessage, bad.to_string())),
        }
    }
}

impl From<Refused> for End {
    fn from(r: Refused) -> End {
        End::Refused(r)
    }
}

/// Serves one incoming connection to its end.
pub async fn serve(incoming: quinn::Incoming, permit: Permit, parts: SessionParts) {
    let failed = |kind| parts.shared.metrics.handshakes_refused.with_label_values(&[kind]).inc();
    let connection = match tokio::time::timeout(parts.hello_timeout, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "agent handshake failed");
            failed("failed");
            return;
        }
        Err(_) => {
            failed("timeout");
            return;
        }
    };
    let Some(key) = peer_key(&connection) else {
        refuse(&connection, &parts, &Refused::new(Refusal::UnknownKey, "no raw public key was presented"));
        return;
    };
    if let Some(refused) = converse(&connection, key, permit, &parts).await {
        refuse(&connection, &parts, &refused);
    }
}

fn refuse(connection: &quinn::Connection, parts: &SessionParts, refused: &Refused) {
    parts.shared.metrics.refusals.with_label_values(&[refused.refusal.label()]).inc();
    tracing::info!(remote = %connection.remote_address(), reason = refused.refusal.label(), detail = refused.detail, "agent refused");
    close(connection, refused.refusal, &refused.detail);
}

/// The whole conversation; what it returns is to be refused.
async fn converse(
    connection: &quinn::Connection,
    key: [u8; 32],
    permit: Permit,
    parts: &SessionParts,
) -> Option<Refused> {
    let first = async {
        let (send, mut receive) = connection.accept_bi().await.map_err(|e| FrameError::Io(e.into()))?;
        let message: ToBroker = frame::read(&mut receive).await?;
        Ok::<_, FrameError>((send, receive, message))
    };
    let late = || Refused::new(Refusal::OutOfOrder, "no hello in time");
    let (mut send, mut receive, message) = match tokio::time::timeout(parts.hello_timeout, first).await {
        Err(_) => return Some(late()),
        Ok(Err(FrameError::Ended | FrameError::Io(_))) => return None,
        Ok(Err(bad)) => {
            parts.shared.metrics.bad_messages.inc();
            return Some(Refused::new(Refusal::BadMessage, bad.to_string()));
        }
        Ok(Ok(first)) => first,
    };
    let source = connection.remote_address().ip();
    match message {
        ToBroker::Join { secret, name } => match parts.shared.admin.join((key, source), secret, name).await {
            Ok(joined) => {
                drop(permit);
                parts.shared.metrics.joins.inc();
                let answer = ToAgent::Joined { name: joined.name, domains: joined.domains };
                if frame::write(&mut send, &answer).await.is_ok() {
                    // The agent closes when it has read its answer.
                    let _ = tokio::time::timeout(parts.hello_timeout, connection.closed()).await;
                }
                None
            }
            Err(refused) => Some(refused),
        },
        ToBroker::Hello(hello) => {
            let node = NodeId(key);
            let allowed = authorise(&parts.shared.registry.borrow(), &node);
            if let Err(refusal) = allowed {
                return Some(not_allowed(refusal, &node));
            }
            drop(permit);
            session(connection, node, hello, send, &mut receive, parts).await
        }
        _ => Some(Refused::new(Refusal::OutOfOrder, "the first message must be Hello or Join")),
    }
}

async fn session(
    connection: &quinn::Connection,
    node: NodeId,
    hello: Hello,
    mut send: quinn::SendStream,
    receive: &mut quinn::RecvStream,
    parts: &SessionParts,
) -> Option<Refused> {
    let shared = &parts.shared;
    let named = |s: &ServiceDecl| (s.domain.clone(), s.mirror.clone());
    let services: Services = hello.services.iter().map(named).collect();
    let warnings = match shared.admin.declare(node.0, hello.services, hello.place).await {
        Ok(warnings) => warnings,
        Err(refused) => return Some(refused),
    };
    for warning in &warnings {
        tracing::warn!(%node, warning, "service not taken as declared");
    }
    let remote = connection.remote_address().ip().to_canonical();
    let (orders, ordered) = mpsc::channel(ORDERS);
    shared.table.enter(node, parts.number, connection.clone(), orders);
    shared.metrics.sessions.set(shared.table.len() as i64);
    // A revocation since the first look found no session in the table to close.
    if let Err(refusal) = admit(&shared.registry, &shared.beacons, &node) {
        shared.table.leave(&node, parts.number);
        shared.metrics.sessions.set(shared.table.len() as i64);
        return Some(not_allowed(refusal, &node));
    }
    shared
        .driver
        .send(DriverInput::SessionUp { node, session: parts.number, boot: hello.boot, remote })
        .await;
    tracing::info!(%node, %remote, version = hello.version, "agent attached");
    let welcome = ToAgent::Welcome { beacon: grant(parts, &node), observed: remote, warnings };
    let end = match frame::write(&mut send, &welcome).await {
        Ok(()) => run(connection, (node, remote, services), (send, receive), ordered, parts).await,
        Err(e) => e.into(),
    };
    shared.table.leave(&node, parts.number);
    shared.metrics.sessions.set(shared.table.len() as i64);
    finish(connection, node, end, parts).await
}

/// Lets a node's beacons in ahead of the registry's change, if it still may have a session.
fn admit(
    registry: &watch::Receiver<Arc<Registry>>,
    beacons: &BeaconKeys,
    node: &NodeId,
) -> Result<(), Refusal> {
    // While this is borrowed no newer registry is published, so none that revokes the node can have
    // been loaded before its key is entered.
    let registry = registry.borrow();
    authorise(&registry, node)?;
    beacons.admit(node);
    Ok(())
}

fn not_allowed(refusal: Refusal, node: &NodeId) -> Refused {
    Refused::new(refusal, format!("{node} may not begin a session"))
}

async fn finish(
    connection: &quinn::Connection,
    node: NodeId,
    end: End,
    parts: &SessionParts,
) -> Option<Refused> {
    let session = parts.number;
    match end {
        End::Goodbye => {
            tracing::info!(%node, "agent left");
            parts.shared.driver.send(DriverInput::SessionLeft { node, session }).await;
            connection.close(0u8.into(), b"goodbye");
            None
        }
        End::Lost(why) => {
            tracing::info!(%node, why, "agent lost");
            parts.shared.driver.send(DriverInput::SessionLost { node, session }).await;
            None
        }
        End::Refused(refused) => {
            if refused.refusal == Refusal::BadMessage {
                parts.shared.metrics.bad_messages.inc();
            }
            parts.shared.driver.send(DriverInput::SessionLost { node, session }).await;
            Some(refused)
        }
    }
}

fn grant(parts: &SessionParts, node: &NodeId) -> BeaconGrant {
    let beacons = &parts.shared.beacons;
    BeaconGrant {
        secret: parts.shared.site.beacon_secret(node, beacons.key_epoch()),
        port: beacons.port(),
        period_ms: beacons.period_ms(),
    }
}

async fn run(
    connection: &quinn::Connection,
    (node, remote, services): (NodeId, IpAddr, Services),
    (send, receive): (quinn::SendStream, &mut quinn::RecvStream),
    ordered: mpsc::Receiver<Ordered>,
    parts: &SessionParts,
) -> End {
    let (acks, outbox) = mpsc::channel(OUTBOX);
    let given = Waiting {
        measures: Mutex::new(Given::new(rand::random())),
        asks: Mutex::new(Given::new(rand::random())),
    };
    let mut reader = Reader::new(node, parts, &given);
    let end = tokio::select! {
        end = reader.read(receive, acks) => end,
        end = write(node, send, outbox, ordered, &given, parts) => end,
        end = watch(connection, node, remote, parts) => end,
        () = standing::tell(connection, (&node, &services), &parts.shared.telling, &parts.shared.beacons) => End::Lost("untold".into()),
    };
    let lost = lock(&given.measures).len() as u64;
    parts.shared.hints.metrics.results.with_label_values(&["lost"]).inc_by(lost);
    end
}

/// What this session's agent was ordered to do and has not answered.
struct Waiting {
    measures: Mutex<Given<Order>>,
    asks: Mutex<Given<ProbeToken>>,
}

fn lock<T>(given: &Mutex<Given<T>>) -> MutexGuard<'_, Given<T>> {
    // The orders are consistent between any two operations, so a poisoned lock is usable.
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading side of a session.
struct Reader<'a> {
    node: NodeId,
    parts: &'a SessionParts,
    given: &'a Waiting,
    reports: Bucket,
    hints: Bucket,
    flood: Bucket,
}

impl<'a> Reader<'a> {
    fn new(node: NodeId, parts: &'a SessionParts, given: &'a Waiting) -> Reader<'a> {
        let now = mono_now();
        Reader {
            node,
            parts,
            given,
            reports: Bucket::new(REPORT_BURST, REPORT_EVERY, now),
            hints: Bucket::new(HINT_BURST, HINT_EVERY, now),
            flood: Bucket::new(FLOOD_BURST, FLOOD_EVERY, now),
        }
    }

    async fn read(&mut self, receive: &mut quinn::RecvStream, acks: mpsc::Sender<Ack>) -> End {
        loop {
            let done = match frame::read::<ToBroker>(receive).await {
                Ok(ToBroker::Report(report)) => self.report(report, &acks).await,
                Ok(ToBroker::Paths { domain, mirror, samples }) => self.may_hint().map(|listen| {
                    let hints = &self.parts.shared.hints;
                    match listen {
                        true => {
                            let registry = self.parts.shared.registry.borrow().clone();
                            hints.paths(self.node, &registry, (&domain, &mirror), &samples);
                        }
                        false => hints.too_fast(samples.len()),
                    }
                }),
                Ok(ToBroker::Measured { results }) => self.may_hint().map(|listen| {
                    self.measured(&results, listen);
                }),
                // Of what was not asked of this agent nothing is believed.
                Ok(ToBroker::Witnessed { results }) => self.witnessed(results).await,
                Ok(ToBroker::Goodbye) => return End::Goodbye,
                Ok(ToBroker::Hello(_) | ToBroker::Join { .. }) => {
                    return End::Refused(Refused::new(Refusal::OutOfOrder, "Hello or Join within a session"));
                }
                Err(e) => return e.into(),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn report(&mut self, report: Report, acks: &mpsc::Sender<Ack>) -> Result<(), End> {
        if !self.reports.take(1, mono_now()) {
            return Err(End::Refused(Refused::new(Refusal::OutOfOrder, "too many reports")));
        }
        let shared = &self.parts.shared;
        shared.metrics.reports.inc();
        let seq = report.seq;
        let (done, published) = oneshot::channel();
        shared.driver.send(DriverInput::Report { node: self.node, report: plain(report), done }).await;
        let acked = acks.send(Ack { seq, published }).await;
        acked.map_err(|_| End::Lost("the answering side ended".into()))
    }

    /// What the agent found as a witness. Only what it was asked is heard; a flood ends the session.
    async fn witnessed(&mut self, results: Vec<WitnessResult>) -> Result<(), End> {
        if !self.flood.take(1, mono_now()) {
            return Err(End::Refused(Refused::new(Refusal::OutOfOrder, "too many answers")));
        }
        for result in results {
            let asked = lock(&self.given.asks).answered(result.id);
            let said = self.parts.shared.witnesses.heard(asked.is_some(), &result.outcome);
            if let Some(token) = asked {
                let input = DriverInput::Witnessed { token, witness: self.node, said };
                self.parts.shared.driver.send(input).await;
            }
        }
        Ok(())
    }

    /// Whether a message with hints is listened to; the end of the session where there is a flood.
    fn may_hint(&mut self) -> Result<bool, End> {
        let now = mono_now();
        if !self.flood.take(1, now) {
            self.parts.shared.hints.metrics.floods.inc();
            return Err(End::Refused(Refused::new(Refusal::OutOfOrder, "too many hints")));
        }
        Ok(self.hints.take(1, now))
    }

    fn measured(&self, results: &[Measurement], listen: bool) {
        let hints = &self.parts.shared.hints;
        for result in results {
            let order = lock(&self.given.measures).answered(result.id);
            match listen {
                true => hints.measured(self.node, order, result),
                false => hints.metrics.results.with_label_values(&["rate"]).inc(),
            }
        }
    }
}

/// A report that waits to be part of what queries read.
struct Ack {
    seq: u64,
    published: oneshot::Receiver<()>,
}

async fn write(
    node: NodeId,
    mut send: quinn::SendStream,
    mut acks: mpsc::Receiver<Ack>,
    mut ordered: mpsc::Receiver<Ordered>,
    given: &Waiting,
    parts: &SessionParts,
) -> End {
    let mut periods = parts.shared.beacons.periods();
    periods.mark_unchanged();
    loop {
        let message = tokio::select! {
            biased;
            ack = acks.recv() => match ack {
                Some(ack) => match ack.published.await {
                    Ok(()) => ToAgent::Ack { seq: ack.seq },
                    Err(_) => return End::Lost("the broker is stopping".into()),
                },
                // The reading side ends the session; it dropped the sender just now.
                None => std::future::pending().await,
            },
            // A newer session in the table takes the orders.
            Some(order) = ordered.recv() => message(order, given, parts),
            Ok(()) = periods.changed() => ToAgent::Beacon(grant(parts, &node)),
        };
        if let Err(e) = frame::write(&mut send, &message).await {
            return e.into();
        }
    }
}

/// An order as it is sent, noted as given.
fn message(order: Ordered, given: &Waiting, parts: &SessionParts) -> ToAgent {
    match order {
        Ordered::Measure(order) => {
            let (address, port) = (order.at.ip(), order.at.port());
            let (id, lost) = lock(&given.measures).give(order, mono_now());
            parts.shared.hints.metrics.results.with_label_values(&["lost"]).inc_by(lost as u64);
            ToAgent::Measure { orders: vec![MeasureOrder { id, address, port }] }
        }
        Ordered::Witness(ask) => {
            // Those that are given up were not waited for any more.
            let (id, _) = lock(&given.asks).give(ask.token, mono_now());
            ToAgent::Witness { orders: vec![WitnessOrder { id, ..ask.order }] }
        }
    }
}

/// Tells the driver when the agent's address changed: QUIC sessions survive it, observed mirrors move.
/// Now and then, teaches the connection's own round trip.
async fn watch(connection: &quinn::Connection, node: NodeId, mut last: IpAddr, parts: &SessionParts) -> End {
    let mut tick = tokio::time::interval(WATCH_REMOTE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut looks = 0u32;
    loop {
        tick.tick().await;
        looks = looks.wrapping_add(1);
        if looks % RTT_EVERY == RTT_FIRST {
            let (local, remote) = (connection.local_ip(), connection.remote_address().ip());
            parts.shared.hints.session(node, local, remote, connection.rtt());
        }
        let remote = connection.remote_address().ip().to_canonical();
        if remote != last {
            last = remote;
            tracing::info!(%node, %remote, "agent moved");
            parts.shared.driver.send(DriverInput::SessionMoved { node, session: parts.number, remote }).await;
        }
    }
}

fn plain(report: Report) -> NodeReport {
    let finite = |share: f32| if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let service = |s: nearmost_wire::agent::ServiceReport| ServiceReport {
        domain: s.domain,
        mirror: s.mirror,
        healthy: s.healthy,
        ready: s.ready,
        failing_check: s.problem.map(|p| p.chars().take(200).collect()),
        connections: s.connections,
        capacity: s.capacity,
        stopped: s.stopped,
    };
    NodeReport {
        draining: report.draining,
        load: Load { cpu: finite(report.cpu), memory: finite(report.memory), ..Load::default() },
        services: report.services.into_iter().map(service).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::registry::{Node, NodeIndex};
    use nearmost_wire::beacon::{Beacon, SiteKey};

    fn registry(node: NodeId, revoked: bool) -> Arc<Registry> {
        let mut registry = Registry::default();
        let domains = Vec::new();
        let name = "one".into();
        registry.nodes.push(Node {
            name,
            id: Some(node),
            revoked,
            domains,
            drained: false,
            windows: Vec::new(),
            place: None,
        });
        registry.node_by_id.insert(node, NodeIndex(0));
        Arc::new(registry)
    }

    #[test]
    fn a_node_revoked_before_its_session_is_entered_is_not_let_in() {
        let node = NodeId([1; 32]);
        let site = SiteKey::new(&[9; 32]);
        let beacons = BeaconKeys::new(site.clone(), 1, Duration::from_millis(200));
        let secret = site.beacon_secret(&node, beacons.key_epoch());
        let beacon = Beacon { flags: 0, key_epoch: 1, tag: secret.tag, boot: 1, seq: 1, sent_us: 1 };
        let heard = |beacons: &BeaconKeys| beacons.authenticate(&beacon.encode(&secret.prepare())).is_ok();
        let (changes, seen) = watch::channel(registry(node, false));
        changes.send_replace(registry(node, true));
        assert_eq!(admit(&seen, &beacons, &node), Err(Refusal::Revoked));
        assert!(!heard(&beacons));
        changes.send_replace(Arc::default());
        assert_eq!(admit(&seen, &beacons, &node), Err(Refusal::UnknownKey));
        changes.send_replace(registry(node, false));
        assert_eq!(admit(&seen, &beacons, &node), Ok(()));
        assert!(heard(&beacons));
    }
}
