//! The fleet's driver: the dull shell around [`Fleet`].
//!
//! One task owns fleet, registry and map. Everything that happens reaches it through one bounded
//! channel; it hands each input to the fleet with `now`, carries out what the fleet orders (probes,
//! events) and publishes the snapshot, at most once each [`COALESCE`].

use crate::clock::Clock;
use crate::events::EventLog;
use crate::placing;
use crate::probing::Probes;
use crate::publish::Publisher;
use crate::telemetry::FleetMetrics;
use nearmost_core::fleet::{Fleet, NodeReport, Output, PersistedVerdict, ProbeToken, Transition};
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::Family;
use nearmost_core::id::NodeId;
use nearmost_core::live::Live;
use nearmost_core::map::Map;
use nearmost_core::registry::{MirrorAddress, MirrorIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::{MonoTime, Now};
use nearmost_wire::api::EventView;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Most often that a snapshot is published.
pub const COALESCE: Duration = Duration::from_millis(10);
/// Inputs waiting for the driver; senders wait beyond that, beacons are dropped and counted.
const QUEUE: usize = 16 * 1024;
/// How long changed verdicts wait to be written together.
const PERSIST_AFTER: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug)]
pub enum DriverInput {
    /// The geo databases were compiled anew.
    Places(Arc<PlaceTable>),
    /// An agent's session began.
    SessionUp {
        /// Whose.
        node: NodeId,
        /// Counts sessions.
        session: u64,
        /// When its agent started, as it says: the epoch of its beacons.
        boot: u64,
        /// Where it comes from.
        remote: IpAddr,
    },
    /// A session's remote address changed (QUIC migration).
    SessionMoved {
        /// Whose.
        node: NodeId,
        /// Which session.
        session: u64,
        /// Where it comes from now.
        remote: IpAddr,
    },
    /// A session ended without a goodbye.
    SessionLost {
        /// Whose.
        node: NodeId,
        /// Which session.
        session: u64,
    },
    /// An agent said goodbye.
    SessionLeft {
        /// Whose.
        node: NodeId,
        /// Which session.
        session: u64,
    },
    /// Authenticated beacons, in the order they came.
    Beacons(Vec<BeaconSeen>),
    /// An agent's report; answered when it is part of what queries read.
    Report {
        /// Whose.
        node: NodeId,
        /// What it says.
        report: NodeReport,
        /// Told when published.
        done: oneshot::Sender<()>,
    },
    /// A probe ended.
    ProbeResult {
        /// Which.
        token: ProbeToken,
        /// How.
        passed: bool,
        /// How long it took.
        rtt: Option<Duration>,
    },
    /// A probe could not be started: too many were on their way.
    ProbeSkipped(ProbeToken),
    /// What a mirror's host name resolves to, or that it resolves to nothing; told again and again.
    Address {
        /// Its domain.
        domain: Arc<str>,
        /// Its name.
        mirror: Arc<str>,
        /// The host name; counts only while the mirror is given by it.
        host: Arc<str>,
        /// Of which family.
        family: Family,
        /// The address.
        addr: Option<IpAddr>,
    },
}

/// One authenticated beacon.
#[derive(Clone, Copy, Debug)]
pub struct BeaconSeen {
    /// Whose.
    pub node: NodeId,
    /// The agent's start.
    pub boot: u64,
    /// Its number.
    pub seq: u64,
    /// Its agent drains.
    pub draining: bool,
}

/// For everything that feeds the driver.
#[derive(Clone)]
pub struct DriverHandle(mpsc::Sender<DriverInput>);

impl DriverHandle {
    /// The queue, for metrics.
    pub(crate) fn queue(&self) -> &mpsc::Sender<DriverInput> {
        &self.0
    }

    /// Hands over an input, waiting for room; a driver that is gone needs none.
    pub async fn send(&self, input: DriverInput) {
        let _ = self.0.send(input).await;
    }

    /// Hands over an input unless the queue is full; says whether it was taken.
    pub fn try_send(&self, input: DriverInput) -> bool {
        self.0.try_send(input).is_ok()
    }
}

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
    /// Probe orders go here.
    pub probes: Probes,
    /// Transitions go here.
    pub events: Arc<EventLog>,
    /// Counters.
    pub metrics: Arc<FleetMetrics>,
    /// Verdicts to keep go here.
    pub sink: Box<dyn VerdictSink>,
}

/// The channel into a driver.
pub fn channel() -> (DriverHandle, mpsc::Receiver<DriverInput>) {
    let (tx, rx) = mpsc::channel(QUEUE);
    (DriverHandle(tx), rx)
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
    /// As the registrar built it.
    given: Arc<Registry>,
    /// With the places that follow from the mirrors' addresses.
    registry: Arc<Registry>,
    map: Arc<Map>,
    /// Addresses that mirrors' places were derived from.
    placed: Vec<[Option<IpAddr>; 2]>,
    waiting: Vec<oneshot::Sender<()>>,
    /// What the newest snapshot was made from.
    shown: Shown,
    due: Due,
}

/// Versions of the parts of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    live: u64,
    registry: u64,
    map: u64,
}

impl Driver {
    /// Publishes the first snapshot.
    pub fn new(mut parts: DriverParts, handle: DriverHandle) -> Driver {
        let now = parts.clock.now();
        let registry = parts.registry.borrow_and_update().clone();
        let map = Arc::new(Map::of_places(1, parts.places.clone()));
        parts.fleet.set_registry(registry.clone(), now);
        parts.fleet.resume(std::mem::take(&mut parts.verdicts), now);
        let mut driver = Driver {
            parts,
            handle,
            given: registry.clone(),
            registry,
            map,
            placed: Vec::new(),
            waiting: Vec::new(),
            shown: Shown::default(),
            due: Due::default(),
        };
        driver.outputs(now);
        driver.publish(now);
        driver
    }

    /// Runs until cancelled; then writes the verdicts.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<DriverInput>, cancel: CancellationToken) {
        let mut batch = Vec::with_capacity(256);
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
            }
            // What an input speaks of may have been registered just before it was sent.
            if self.parts.registry.has_changed().unwrap_or(false) {
                self.new_registry();
            }
            let now = self.parts.clock.now();
            for input in batch.drain(..) {
                self.input(input, now);
            }
            if self.parts.fleet.next_deadline().is_some_and(|d| d <= now.mono) {
                self.parts.fleet.on_deadline(now);
            }
            self.outputs(now);
            self.own_deadlines(now);
        }
        self.parts.sink.save(self.parts.fleet.persisted());
    }

    fn next_wake(&self) -> MonoTime {
        // An idle fleet is looked at once an hour, which costs nothing and needs no special case.
        let hour = self.parts.clock.now().mono + Duration::from_secs(3600);
        [self.parts.fleet.next_deadline(), self.due.publish, self.due.persist]
            .into_iter()
            .flatten()
            .fold(hour, MonoTime::min)
    }

    fn new_registry(&mut self) {
        let now = self.parts.clock.now();
        self.given = self.parts.registry.borrow_and_update().clone();
        self.registry = self.given.clone();
        self.parts.fleet.set_registry(self.registry.clone(), now);
        self.placed.clear();
        self.changed(now);
    }

    fn input(&mut self, input: DriverInput, now: Now) {
        let fleet = &mut self.parts.fleet;
        match input {
            DriverInput::Places(places) if Arc::ptr_eq(&places, &self.map.places) => return,
            DriverInput::Places(places) => {
                self.map = Arc::new(Map::of_places(self.map.version + 1, places));
                self.placed.clear();
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
                for b in beacons {
                    let outcome = fleet.on_beacon(b.node, b.boot, b.seq, b.draining, now);
                    self.parts.metrics.beacon(outcome);
                }
                // What they changed is told as transitions.
                return;
            }
            DriverInput::Report { node, report, done } => {
                fleet.on_report(node, &report, now);
                self.waiting.push(done);
            }
            DriverInput::ProbeResult { token, passed, rtt } => fleet.on_probe_result(token, passed, rtt, now),
            DriverInput::ProbeSkipped(token) => fleet.on_probe_skipped(token, now),
            DriverInput::Address { domain, mirror, host, family, addr } => {
                let registry = &self.registry;
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

    /// Something that queries read may have changed: publish soon.
    fn changed(&mut self, now: Now) {
        self.due.changed.get_or_insert(now.mono);
        let earliest = self.due.last_publish + COALESCE;
        self.due.publish.get_or_insert(earliest.max(now.mono));
    }

    fn outputs(&mut self, now: Now) {
        while let Some(output) = self.parts.fleet.poll_output() {
            match output {
                Output::Probe(order) => self.parts.probes.start(order, self.handle.clone()),
                Output::Transition(t) => self.transition(&t, now),
            }
        }
    }

    fn transition(&mut self, t: &Transition, now: Now) {
        tracing::info!(
            domain = %t.domain, mirror = %t.mirror, family = t.family.as_str(),
            from = t.from.state.as_str(), to = t.to.state.as_str(),
            reason = t.to.reason.code(), vantage = t.to.vantage.as_str(), "transition"
        );
        self.parts.metrics.transition(t.from.state, t.to.state);
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
        });
        self.due.persist.get_or_insert(now.mono + PERSIST_AFTER);
        self.changed(now);
    }

    fn own_deadlines(&mut self, now: Now) {
        if self.due.publish.is_some_and(|d| d <= now.mono) {
            self.publish(now);
        }
        if self.due.persist.is_some_and(|d| d <= now.mono) {
            self.due.persist = None;
            self.parts.sink.save(self.parts.fleet.persisted());
        }
    }

    fn publish(&mut self, now: Now) {
        let versions = Shown {
            live: self.parts.fleet.live_version(),
            registry: self.given.version,
            map: self.map.version,
        };
        // Most reports change nothing that queries read; then nothing is copied.
        if versions != self.shown {
            let live = Arc::new(self.parts.fleet.live().clone());
            self.place_mirrors(&live);
            let (places, model) = (self.map.places.clone(), self.map.model.clone());
            self.map = Arc::new(self.map.follow(&self.registry, &places, &model, None));
            let (registry, map) = (self.registry.clone(), self.map.clone());
            self.parts.publisher.publish(Snapshot { registry, map, live, published: now.unix });
            let waited =
                self.due.changed.map_or(Duration::ZERO, |since| self.parts.clock.now().mono.since(since));
            self.parts.metrics.published_after(waited);
            self.shown = Shown { map: self.map.version, ..versions };
        }
        self.due.publish = None;
        self.due.changed = None;
        self.due.last_publish = now.mono;
        for done in self.waiting.drain(..) {
            // An agent that left does not wait for its answer.
            let _ = done.send(());
        }
    }

    /// Gives mirrors the places that follow from their addresses; the registry is copied only when
    /// an address, the registry or the map changed.
    fn place_mirrors(&mut self, live: &Live) {
        let addresses =
            |i: usize| live.mirrors.get(i).map_or([None, None], |m| Family::ALL.map(|f| m.addr(f)));
        let same = self.placed.len() == live.mirrors.len()
            && self.placed.iter().enumerate().all(|(i, placed)| *placed == addresses(i));
        if same {
            return;
        }
        self.placed = (0..live.mirrors.len()).map(addresses).collect();
        let mut registry = Registry::clone(&self.given);
        for (mirror, addrs) in registry.mirrors.iter_mut().zip(&self.placed) {
            (mirror.place, mirror.place_source) = placing::place(mirror, *addrs, &self.map);
        }
        self.registry = Arc::new(registry);
    }
}

#[cfg(test)]
mod tests;
