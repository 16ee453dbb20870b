//! The fleet's driver: the dull shell around [`Fleet`].
//!
//! One task owns fleet, registry and map. Everything that happens reaches it through one bounded
//! channel, but for what clients complain of, which has one of its own and waits for all else; it hands each input to the fleet with `now`, carries out what the fleet orders (probes,
//! events) and publishes the snapshot, at most once each [`COALESCE`]. What takes long (geo tables,
//! models, cells, offers) is made elsewhere and comes in as an input.

mod input;
mod telling;
mod world;

pub use input::{AllEvidence, BeaconSeen, Complaint, Complaints, DriverHandle, DriverInput};
pub use input::{channel, complaints};

use self::telling::Telling;
use self::world::{Parts, World};
use crate::agents::witnessing::Witnesses;
use crate::clock::{Clock, mono_now};
use crate::events::{EventLog, evidence};
use crate::probing::Probes;
use crate::publish::Publisher;
use crate::references::References;
use crate::telemetry::FleetMetrics;
use nearmost_core::fleet::{Fleet, Output, PeerAsk, PersistedVerdict, Transition, Witnessed};
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::Family;
use nearmost_core::registry::{MirrorAddress, MirrorIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::{MonoTime, Now, UnixMillis};
use nearmost_wire::api::EventView;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Most often that a snapshot is published.
pub const COALESCE: Duration = Duration::from_millis(10);
/// How long changed verdicts wait to be written together.
const PERSIST_AFTER: Duration = Duration::from_secs(1);
/// How long the same networks try out mirrors, then others do.
const WINDOW: Duration = Duration::from_secs(600);

/// Where verdicts are kept over a restart.
pub trait VerdictSink: Send + 'static {
    /// Writes all of them.
    fn save(&self, verdicts: Vec<PersistedVerdict>);
}

/// What the driver works with.
pub struct DriverParts {
    /// Empty.
    pub fleet: Fleet,
    /// Verdicts of before a restart.
    pub verdicts: Vec<PersistedVerdict>,
    /// Clocks.
    pub clock: Clock,
    /// The registry and its changes.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// First map.
    pub places: Arc<PlaceTable>,
    /// Snapshots go here.
    pub publisher: Publisher,
    /// What is asked of mirrors goes here.
    pub asking: Asking,
    /// Transitions go here.
    pub events: Arc<EventLog>,
    /// Counters.
    pub metrics: Arc<FleetMetrics>,
    /// Verdicts to keep go here.
    pub sink: Box<dyn VerdictSink>,
}

/// The ways to ask about mirrors, and about the broker itself.
pub struct Asking {
    /// The broker's own probes.
    pub probes: Probes,
    /// Agents as witnesses.
    pub witnesses: Witnesses,
    /// The broker's own line.
    pub references: References,
}

/// Deadlines of the driver itself.
#[derive(Default)]
struct Due {
    publish: Option<MonoTime>,
    /// When the oldest change that is not published yet happened.
    changed: Option<MonoTime>,
    persist: Option<MonoTime>,
    last_publish: MonoTime,
}

/// The running driver.
pub struct Driver {
    parts: DriverParts,
    handle: DriverHandle,
    world: World,
    waiting: Vec<oneshot::Sender<()>>,
    /// What the newest snapshot was made from.
    shown: Shown,
    due: Due,
    telling: Telling,
}

/// Versions of the parts of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    live: u64,
    registry: u64,
    world: u64,
    window: u64,
}

impl Driver {
    /// Publishes the first snapshot.
    pub fn new(mut parts: DriverParts, handle: DriverHandle) -> Driver {
        let now = parts.clock.now();
        let registry = parts.registry.borrow_and_update().clone();
        let world = World::new(registry.clone(), parts.places.clone());
        parts.fleet.set_places(parts.places.clone());
        parts.fleet.set_registry(registry, now);
        parts.fleet.resume(std::mem::take(&mut parts.verdicts), now);
        let mut driver = Driver {
            parts,
            handle,
            world,
            waiting: Vec::new(),
            shown: Shown::default(),
            due: Due::default(),
            telling: Telling::default(),
        };
        driver.outputs(now);
        driver.publish(now);
        driver
    }

    /// Runs until cancelled; then writes the verdicts.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<DriverInput>,
        mut complaints: mpsc::Receiver<Complaint>,
        cancel: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(256);
        let mut complaint = None;
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                changed = self.parts.registry.changed() => match changed {
                    Ok(()) => self.new_registry(),
                    Err(_) => break,
                },
                n = inputs.recv_many(&mut batch, 256) => if n == 0 { break },
                () = tokio::time::sleep_until(self.parts.clock.instant(wake)) => {}
                Some(told) = complaints.recv() => complaint = Some(told),
            }
            // What an input speaks of may have been registered just before it was sent.
            if self.parts.registry.has_changed().unwrap_or(false) {
                self.new_registry();
            }
            let now = self.parts.clock.now();
            for input in batch.drain(..) {
                self.input(input, now);
            }
            if let Some(complaint) = complaint.take() {
                self.complaint(&complaint, now);
            }
            if self.parts.fleet.next_deadline().is_some_and(|d| d <= now.mono) {
                self.parts.fleet.on_deadline(now);
            }
            self.outputs(now);
            self.parts.metrics.self_doubt.set(i64::from(self.parts.fleet.doubts_itself()));
            self.own_deadlines(now);
            self.parts.metrics.beacons_by_node.lay_down(mono_now(), || self.parts.fleet.beacons(now));
            self.tell_peers(now);
        }
        self.parts.sink.save(self.parts.fleet.persisted(self.parts.clock.now()));
    }

    fn next_wake(&self) -> MonoTime {
        let now = self.parts.clock.now();
        let next_window = now.mono + until_next_window(now.unix);
        // Publishing, if it is due already, places them.
        let world = self.world.next_deadline().filter(|_| self.due.publish.is_none());
        let telling = self.telling.deadline(self.parts.fleet.facts_changed());
        [self.parts.fleet.next_deadline(), self.due.publish, self.due.persist, world, telling]
            .into_iter()
            .flatten()
            .fold(next_window, MonoTime::min)
    }

    fn new_registry(&mut self) {
        let now = self.parts.clock.now();
        let given = self.parts.registry.borrow_and_update().clone();
        self.parts.fleet.set_registry(given.clone(), now);
        self.world.set_registry(given);
        self.changed(now);
    }

    fn input(&mut self, input: DriverInput, now: Now) {
        let fleet = &mut self.parts.fleet;
        match input {
            DriverInput::Places(places) => {
                fleet.set_places(places.clone());
                if !self.world.set_places(places) {
                    return;
                }
            }
            DriverInput::Model { model, prepared } => self.world.set_model(model, prepared),
            DriverInput::Cells(built) => {
                if !self.world.set_cells(built) {
                    return;
                }
            }
            DriverInput::Offers { registry, offers } => {
                if !self.world.set_offers(registry, offers) {
                    return;
                }
            }
            DriverInput::SessionUp { node, session, boot, remote } => {
                fleet.on_session_up(node, session, boot, remote, now)
            }
            DriverInput::SessionMoved { node, session, remote } => {
                fleet.on_session_moved(node, session, remote, now)
            }
            DriverInput::SessionLost { node, session } => fleet.on_session_lost(node, session, now),
            DriverInput::SessionLeft { node, session } => fleet.on_session_left(node, session, now),
            DriverInput::Beacons(beacons) => {
                let began = self.parts.clock.now().mono;
                for b in beacons {
                    let outcome = fleet.on_beacon(b.node, b.boot, b.seq, b.draining, now);
                    self.parts.metrics.beacon(outcome);
                }
                self.parts.metrics.intake.spent(self.parts.clock.now().mono.since(began));
                // What they changed is told as transitions.
                return;
            }
            DriverInput::Report { node, report, done } => {
                fleet.on_report(node, &report, now);
                self.waiting.push(done);
            }
            DriverInput::ProbeResult { token, answer } => fleet.on_probe_result(token, answer, now),
            DriverInput::Witnessed { token, witness, said } => fleet.on_witness(token, witness, said, now),
            DriverInput::References { answered } => fleet.on_references(answered, now),
            DriverInput::PeerFacts { broker, facts } => {
                let left_out = fleet.on_peer_facts(broker, &facts, now);
                self.parts.metrics.peer_facts(facts.len(), left_out);
                return self.changed_if_live(now);
            }
            DriverInput::PeersConnected(brokers) => {
                self.telling.connected(brokers.iter().map(|broker| broker.0).collect(), now.mono);
                return fleet.on_peers_connected(brokers, now);
            }
            DriverInput::PeerHeard => return fleet.on_peer_contact(now),
            DriverInput::AskedToProbe(ask) => return self.asked_to_probe(&ask, now),
            DriverInput::BeaconPeriod(period) => fleet.set_beacon_period(period, now),
            DriverInput::Evidence(reply) => {
                // Whoever asked may have left.
                let _ = reply.send(self.evidence(now));
                return;
            }
            DriverInput::Alive(reply) => {
                // Whoever asked may have left.
                let _ = reply.send(());
                return;
            }
            DriverInput::ProbeSkipped(token) => fleet.on_probe_skipped(token, now),
            DriverInput::Address { domain, mirror, host, family, addr } => {
                let registry = self.world.given();
                let index = registry.find_domain(&domain).and_then(|d| registry.find_mirror(d, &mirror));
                // It may be given in another way by now, and what was resolved come late.
                let given = |i: &MirrorIndex| registry.mirror(*i).address == MirrorAddress::Hostname(host);
                if let Some(index) = index.filter(given) {
                    fleet.set_address(index, family, addr, now);
                }
            }
        }
        self.changed(now);
    }

    /// Another broker asks for a look; what it asks of that is not known here says nothing.
    fn asked_to_probe(&mut self, ask: &PeerAsk, now: Now) {
        let registry = self.world.given();
        let domain = registry.find_domain(&ask.domain);
        if let Some(mirror) = domain.and_then(|d| registry.find_mirror(d, &ask.mirror)) {
            self.parts.fleet.on_asked_to_probe(mirror, ask.family, now);
        }
    }

    /// Publishes soon if what queries read has changed.
    fn changed_if_live(&mut self, now: Now) {
        if self.parts.fleet.live_version() != self.shown.live {
            self.changed(now);
        }
    }

    /// A client does not reach a mirror. Where the fleet does nothing about it, nothing has changed, and
    /// nothing is published for it.
    fn complaint(&mut self, complaint: &Complaint, now: Now) {
        let registry = self.world.given();
        let domain = registry.find_domain(&complaint.domain);
        let mirror = domain.and_then(|d| registry.find_mirror(d, &complaint.mirror));
        let (family, client) = (complaint.family, complaint.client);
        let asks = mirror.is_some_and(|m| self.parts.fleet.on_client_failure(m, family, client, now));
        self.parts.metrics.client_failure(asks);
        // A pause of new users shows in what queries read, whether or not it asks for probes.
        if asks || self.parts.fleet.live_version() != self.shown.live {
            self.changed(now);
        }
    }

    /// Something that queries read may have changed: publish soon.
    fn changed(&mut self, now: Now) {
        self.due.changed.get_or_insert(now.mono);
        let earliest = self.due.last_publish + COALESCE;
        self.due.publish.get_or_insert(earliest.max(now.mono));
    }

    fn outputs(&mut self, now: Now) {
        while let Some(output) = self.parts.fleet.poll_output() {
            match output {
                Output::Probe(order) => self.parts.asking.probes.start(order, self.handle.clone()),
                Output::Witness(order) => {
                    if !self.parts.asking.witnesses.ask(&order, self.world.given()) {
                        let declined = Witnessed::Declined;
                        self.parts.fleet.on_witness(order.token, order.witness, declined, now);
                    }
                }
                Output::AskPeers(ask) => {
                    // Nobody may be listening.
                    let _ = self.handle.to_peers().asks.send(ask);
                }
                Output::References => self.parts.asking.references.ask(self.handle.clone()),
                Output::Transition(t) => self.transition(&t, now),
            }
        }
    }

    fn evidence(&self, now: Now) -> AllEvidence {
        let fleet = &self.parts.fleet;
        let of = |i| Family::ALL.map(|family| fleet.evidence(MirrorIndex(i), family, now));
        AllEvidence {
            registry: fleet.registry().version,
            mirrors: (0..fleet.registry().mirrors.len() as u32).map(of).collect(),
            doubts_itself: fleet.doubts_itself(),
        }
    }

    /// What is known of a mirror at its transition, in a sentence.
    fn evidence_of(&self, t: &Transition, now: Now) -> String {
        let fleet = &self.parts.fleet;
        let registry = fleet.registry();
        let mirror = registry.find_domain(&t.domain).and_then(|d| registry.find_mirror(d, &t.mirror));
        let known = mirror.and_then(|m| fleet.evidence(m, t.family, now));
        known.map_or_else(String::new, |known| evidence::sentence(&known, now.unix))
    }

    fn transition(&mut self, t: &Transition, now: Now) {
        tracing::info!(
            domain = %t.domain, mirror = %t.mirror, family = t.family.as_str(),
            from = t.from.state.as_str(), to = t.to.state.as_str(),
            reason = t.to.reason.code(), vantage = t.to.vantage.as_str(), "transition"
        );
        self.parts.metrics.transition(t.from.state, t.to.state, t.to.reason);
        self.parts.events.publish(EventView {
            number: 0,
            at_unix_ms: now.unix.0,
            domain: t.domain.to_string(),
            mirror: t.mirror.to_string(),
            family: t.family.as_str().into(),
            from: t.from.state.as_str().into(),
            to: t.to.state.as_str().into(),
            reason: t.to.reason.code().into(),
            vantage: t.to.vantage.as_str().into(),
            evidence: self.evidence_of(t, now),
        });
        self.due.persist.get_or_insert(now.mono + PERSIST_AFTER);
        self.changed(now);
    }

    fn own_deadlines(&mut self, now: Now) {
        let moved = self.world.next_deadline().is_some_and(|d| d <= now.mono);
        if moved || window(now.unix) != self.shown.window {
            self.changed(now);
        }
        if self.due.publish.is_some_and(|d| d <= now.mono) {
            self.publish(now);
        }
        if self.due.persist.is_some_and(|d| d <= now.mono) {
            self.due.persist = None;
            self.parts.sink.save(self.parts.fleet.persisted(now));
        }
    }

    fn versions(&self, now: Now) -> Shown {
        Shown {
            live: self.parts.fleet.live_version(),
            registry: self.world.given().version,
            world: self.world.version(),
            window: window(now.unix),
        }
    }

    fn publish(&mut self, now: Now) {
        let versions = self.versions(now);
        if versions.live != self.shown.live {
            self.world.addresses_changed();
        }
        let moved = self.world.next_deadline().is_some_and(|d| d <= now.mono);
        // Most reports change nothing that queries read; then nothing is copied.
        if moved || versions != self.shown {
            let mut live = self.parts.fleet.live().clone();
            live.window = versions.window;
            let clock = self.parts.clock;
            let Parts { registry, map } = self.world.settle(&mut live, || clock.now().mono);
            let snapshot = Snapshot { registry, map, live: Arc::new(live), published: now.unix };
            self.parts.publisher.publish(snapshot);
            let waited =
                self.due.changed.map_or(Duration::ZERO, |since| self.parts.clock.now().mono.since(since));
            self.parts.metrics.published_after(waited);
            self.shown = self.versions(now);
        }
        self.due.publish = None;
        self.due.changed = None;
        self.due.last_publish = now.mono;
        for done in self.waiting.drain(..) {
            // An agent that left does not wait for its answer.
            let _ = done.send(());
        }
    }
}

/// Counts [`WINDOW`]s.
fn window(now: UnixMillis) -> u64 {
    now.0 / WINDOW.as_millis() as u64
}

fn until_next_window(now: UnixMillis) -> Duration {
    let length = WINDOW.as_millis() as u64;
    Duration::from_millis(length - now.0 % length)
}

#[cfg(test)]
mod tests;
