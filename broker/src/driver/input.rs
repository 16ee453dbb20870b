//! What reaches the driver, and the channel it comes through.

use super::telling::ToPeers;
use nearmost_core::fleet::{Evidence, NodeReport, PeerAsk, PeerFact, ProbeAnswer, ProbeToken, Witnessed};
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::Family;
use nearmost_core::id::{BrokerId, NodeId};
use nearmost_core::live::Offer;
use nearmost_core::map::{CellTable, Map, MirrorSet};
use nearmost_core::rtt::Model;
use prometheus::IntCounter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Inputs waiting for the driver; senders wait beyond that, beacons are dropped and counted.
const QUEUE: usize = 16 * 1024;

/// Complaints of clients waiting for the driver.
const COMPLAINTS: usize = 256;

/// Something that happened.
#[derive(Debug)]
pub enum DriverInput {
    /// The geo databases were compiled anew.
    Places(Arc<PlaceTable>),
    /// Round trips were learned.
    Model {
        /// What predicts them from now on.
        model: Arc<Model>,
        /// A map of that model made for a registry of just before, whose sets need not be made again.
        prepared: Arc<Map>,
    },
    /// Cells were built, or given up: those of the sets that still exist are taken over.
    Cells(Vec<(Arc<MirrorSet>, Option<Arc<CellTable>>)>),
    /// How much of its share of users each mirror is offered.
    Offers {
        /// Of which registry's mirrors.
        registry: u64,
        /// One a mirror.
        offers: Vec<Offer>,
    },
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
        answer: ProbeAnswer,
    },
    /// A witness answered.
    Witnessed {
        /// What it was asked.
        token: ProbeToken,
        /// Who it is.
        witness: NodeId,
        /// What it found.
        said: Witnessed,
    },
    /// The reference addresses were asked.
    References {
        /// How many answered.
        answered: u32,
    },
    /// Another broker tells what it saw of mirrors.
    PeerFacts {
        /// Which.
        broker: BrokerId,
        /// What.
        facts: Vec<PeerFact>,
    },
    /// These brokers are connected now, and no others.
    PeersConnected(Vec<BrokerId>),
    /// Anything came from another broker.
    PeerHeard,
    /// Another broker asks for a look at a mirror.
    AskedToProbe(PeerAsk),
    /// Agents are asked for beacons this often.
    BeaconPeriod(Duration),
    /// What is known of all mirrors, by who measured it, is asked for.
    Evidence(oneshot::Sender<AllEvidence>),
    /// Whether the driver turns is asked.
    Alive(oneshot::Sender<()>),
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

/// What is known of all mirrors of a registry.
#[derive(Debug, Default)]
pub struct AllEvidence {
    /// Of which registry's mirrors.
    pub registry: u64,
    /// By mirror and family.
    pub mirrors: Vec<[Option<Evidence>; 2]>,
    /// The broker doubts whether it is connected itself.
    pub doubts_itself: bool,
}

/// A client says that it does not reach a mirror.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The mirror's domain.
    pub domain: Arc<str>,
    /// Its name.
    pub mirror: Arc<str>,
    /// In which family.
    pub family: Family,
    /// Where the client is.
    pub client: IpAddr,
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
pub struct DriverHandle {
    queue: mpsc::Sender<DriverInput>,
    to_peers: ToPeers,
}

impl DriverHandle {
    /// The queue, for metrics.
    pub(crate) fn queue(&self) -> &mpsc::Sender<DriverInput> {
        &self.queue
    }

    /// What other brokers are told and asked.
    pub(super) fn to_peers(&self) -> &ToPeers {
        &self.to_peers
    }

    /// Hands over an input, waiting for room; a driver that is gone needs none.
    pub async fn send(&self, input: DriverInput) {
        let _ = self.queue.send(input).await;
    }

    /// Hands over an input unless the queue is full; says whether it was taken.
    pub fn try_send(&self, input: DriverInput) -> bool {
        self.queue.try_send(input).is_ok()
    }
}

/// For the connections to other brokers, which are known by their keys.
impl DriverHandle {
    /// A broker tells what it saw of mirrors; waits for room, so that one that tells too much slows itself
    /// down. Names must be in their canonical form.
    pub async fn peer_facts(&self, broker: [u8; 32], facts: Vec<PeerFact>) {
        self.send(DriverInput::PeerFacts { broker: BrokerId(broker), facts }).await;
    }

    /// These brokers are connected now, and no others: to be told at every change. What those told that
    /// no longer are stands until its life is over.
    pub async fn peers_connected(&self, brokers: Vec<[u8; 32]>) {
        self.send(DriverInput::PeersConnected(brokers.into_iter().map(BrokerId).collect())).await;
    }

    /// Anything came from a broker: this one's line works. Facts say so by themselves. One that finds no
    /// room is left out, as the next says the same.
    pub fn peer_heard(&self) {
        self.try_send(DriverInput::PeerHeard);
    }

    /// A broker asks for a look at a mirror; what comes of it is told to all, as a fact. Whether there was
    /// room: one that finds none may ask again.
    pub fn asked_to_probe(&self, ask: PeerAsk) -> bool {
        self.try_send(DriverInput::AskedToProbe(ask))
    }

    /// What this broker saw itself, for all that are connected: what changed within a fifth of a second, and
    /// all every five seconds and when one has connected. Whoever lags behind misses the oldest, and goes on.
    pub fn own_facts(&self) -> broadcast::Receiver<Arc<Vec<PeerFact>>> {
        self.to_peers.facts.subscribe()
    }

    /// Mirrors that all connected brokers are to be asked to probe.
    pub fn peer_asks(&self) -> broadcast::Receiver<PeerAsk> {
        self.to_peers.asks.subscribe()
    }
}

/// For what clients say. It has a small place of its own, which the driver looks into after everything
/// else: anyone can be a client, and however many complain, no beacon waits or is dropped for it.
#[derive(Clone)]
pub struct Complaints {
    queue: mpsc::Sender<Complaint>,
    dropped: IntCounter,
}

impl Complaints {
    /// Hands one over; one that finds no room is dropped and counted, as clients say it again.
    pub fn tell(&self, complaint: Complaint) {
        if self.queue.try_send(complaint).is_err() {
            self.dropped.inc();
        }
    }
}

/// The channel for complaints into a driver; `dropped` counts those that find no room.
pub fn complaints(dropped: IntCounter) -> (Complaints, mpsc::Receiver<Complaint>) {
    let (queue, told) = mpsc::channel(COMPLAINTS);
    (Complaints { queue, dropped }, told)
}

/// The channel into a driver.
pub fn channel() -> (DriverHandle, mpsc::Receiver<DriverInput>) {
    let (tx, rx) = mpsc::channel(QUEUE);
    (DriverHandle { queue: tx, to_peers: ToPeers::default() }, rx)
}
