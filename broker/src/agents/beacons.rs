//! Receives beacons on their own UDP port, authenticates them and hands them to the driver in
//! batches.
//!
//! The key of every registered node is prepared when the registry changes, so a beacon costs one
//! look-up and one HMAC. A forged one costs no more and is counted by what is wrong with it; what forged
//! ones cost is no reason to ask agents for fewer ([`super::pace`]), or anyone could make detection slow.
//! When the driver's queue is full, beacons are dropped and counted: a lost beacon is what the fleet is
//! made for.

use crate::batched::{BatchedSocket, MAX_READ, datagrams};
use crate::clock::mono_now;
use crate::driver::{BeaconSeen, DriverHandle, DriverInput};
use crate::quic::EndpointError;
use crate::telemetry::{AgentMetrics, IntakeMetrics};
use arc_swap::ArcSwap;
use nearmost_core::id::NodeId;
use nearmost_core::registry::Registry;
use nearmost_wire::beacon::{self, Beacon, BeaconError, SiteKey};
use quinn_udp::RecvMeta;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The epoch of the keys in use.
const KEY_EPOCH: u16 = 1;
/// Reads of one system call.
const READS: usize = 32;
/// System calls before other tasks get their turn.
const CALLS: usize = 8;
/// So many failing turns in a row, [`PAUSE`] apart, end a socket.
const MAX_FAILURES: u32 = 100;
/// Between two turns of a socket that fails.
const PAUSE: Duration = Duration::from_millis(10);

type Keys = HashMap<u64, Known, BuildHasherDefault<Tag>>;

/// A node whose beacons are heard.
#[derive(Clone)]
struct Known {
    node: NodeId,
    key: ring::hmac::Key,
    /// Beacons in its name whose signature was wrong.
    refused: Arc<AtomicU64>,
}

/// What a node's beacons are found by.
pub(super) struct Claimed(u64);

impl Claimed {
    /// Of a node.
    pub(super) fn new(keys: &BeaconKeys, node: &NodeId) -> Claimed {
        Claimed(keys.site.beacon_secret(node, KEY_EPOCH).tag)
    }
}

/// Tags are output of a key derivation, so they are their own hash.
#[derive(Clone, Copy, Default)]
struct Tag(u64);

impl Hasher for Tag {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u64(&mut self, tag: u64) {
        self.0 = tag;
    }
}

/// The keys of all nodes, and what agents are told about beacons.
pub struct BeaconKeys {
    site: SiteKey,
    keys: ArcSwap<Keys>,
    port: u16,
    period: watch::Sender<Duration>,
}

impl BeaconKeys {
    /// For beacons to `port`, one each `period`.
    pub fn new(site: SiteKey, port: u16, period: Duration) -> BeaconKeys {
        BeaconKeys {
            site,
            keys: ArcSwap::from_pointee(Keys::default()),
            port,
            period: watch::Sender::new(period),
        }
    }

    /// The epoch of the keys in use.
    pub fn key_epoch(&self) -> u16 {
        KEY_EPOCH
    }

    /// Where beacons go.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Time between two beacons of one agent, in milliseconds.
    pub fn period_ms(&self) -> u32 {
        u32::try_from(self.period().as_millis()).unwrap_or(u32::MAX)
    }

    /// Time between two beacons of one agent.
    pub fn period(&self) -> Duration {
        *self.period.borrow()
    }

    /// Another period; sessions tell their agents.
    pub fn set_period(&self, period: Duration) {
        self.period.send_replace(period);
    }

    /// Wakes when the period changes.
    pub fn periods(&self) -> watch::Receiver<Duration> {
        self.period.subscribe()
    }

    /// Prepares the keys of the registry's nodes; revoked ones lose theirs.
    pub fn load(&self, registry: &Registry) {
        let old = self.keys.load();
        let nodes = registry.nodes.iter().filter(|n| !n.revoked).filter_map(|n| n.id);
        let keys = nodes.map(|node| {
            let secret = self.site.beacon_secret(&node, KEY_EPOCH);
            let fresh = || Known { node, key: secret.prepare(), refused: Arc::default() };
            (secret.tag, old.get(&secret.tag).cloned().unwrap_or_else(fresh))
        });
        self.keys.store(Arc::new(keys.collect()));
    }

    /// Makes sure that a node's key is there, ahead of the registry's change.
    pub fn admit(&self, node: &NodeId) {
        let secret = self.site.beacon_secret(node, KEY_EPOCH);
        if !self.keys.load().contains_key(&secret.tag) {
            self.keys.rcu(|keys| {
                let mut keys = Keys::clone(keys);
                let known = Known { node: *node, key: secret.prepare(), refused: Arc::default() };
                keys.insert(secret.tag, known);
                keys
            });
        }
    }

    /// Beacons in a node's name whose signature was wrong, since this broker began to hear it.
    pub(super) fn refused(&self, claimed: &Claimed) -> u64 {
        self.keys.load().get(&claimed.0).map_or(0, |known| known.refused.load(Ordering::Relaxed))
    }

    /// Whose beacon a datagram is.
    pub fn authenticate(&self, datagram: &[u8]) -> Result<BeaconSeen, BeaconError> {
        let b = Beacon::decode(datagram)?;
        let keys = self.keys.load();
        match keys.get(&b.tag) {
            Some(known) if b.key_epoch == KEY_EPOCH => {
                if let Err(e) = beacon::authenticate(datagram, &known.key) {
                    known.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(e);
                }
                Ok(BeaconSeen {
                    node: known.node,
                    boot: b.boot,
                    seq: b.seq,
                    draining: b.flags & beacon::FLAG_DRAINING != 0,
                })
            }
            _ => Err(BeaconError::Mac),
        }
    }
}

/// Bound sockets, not receiving yet.
pub struct BeaconServer {
    sockets: Vec<BatchedSocket>,
}

impl BeaconServer {
    /// Binds.
    pub fn bind(listen: &[SocketAddr]) -> Result<BeaconServer, EndpointError> {
        let bind = |&address: &SocketAddr| {
            let named = |source| EndpointError::Bind { what: "beacons (UDP)", address, source };
            crate::net::udp_socket(address, 8 << 20).and_then(BatchedSocket::new).map_err(named)
        };
        Ok(BeaconServer { sockets: listen.iter().map(bind).collect::<Result<_, _>>()? })
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|s| s.io.local_addr().ok()).collect()
    }

    /// Receives until cancelled, or until a socket fails for good: then whoever watches must act.
    pub async fn run(
        self,
        keys: Arc<BeaconKeys>,
        driver: DriverHandle,
        mut registry: watch::Receiver<Arc<Registry>>,
        metrics: Intake,
        cancel: CancellationToken,
    ) {
        let mut tasks = tokio::task::JoinSet::new();
        for socket in self.sockets {
            tasks.spawn(receive(socket, keys.clone(), driver.clone(), metrics.clone()));
        }
        loop {
            keys.load(&registry.borrow_and_update());
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = registry.changed() => if changed.is_err() { return },
                Some(_) = tasks.join_next() => {
                    tracing::error!("a receiver of beacons has ended");
                    return;
                }
            }
        }
    }
}

/// What is counted while beacons are taken in.
#[derive(Clone)]
pub struct Intake {
    /// Beacons.
    pub agents: Arc<AgentMetrics>,
    /// Time.
    pub time: IntakeMetrics,
}

async fn receive(socket: BatchedSocket, keys: Arc<BeaconKeys>, driver: DriverHandle, intake: Intake) {
    let mut failures = 0;
    let mut buffers = vec![vec![0; MAX_READ]; READS];
    loop {
        if let Err(error) = socket.io.readable().await {
            tracing::error!(%error, "beacons cannot be received");
            return;
        }
        let began = mono_now();
        let turn = turn(&keys, &intake.agents, |meta, each| {
            let reads = socket.read(&mut buffers, meta)?;
            for (buffer, meta) in buffers.iter().zip(meta.iter()).take(reads) {
                datagrams(buffer, meta).for_each(&mut *each);
            }
            Ok(reads)
        });
        let Turn { batch, failed, rejected } = turn;
        let share = share(batch.len(), rejected);
        let count = batch.len() as u64;
        if count > 0 {
            intake.agents.beacons.inc_by(count);
            if !driver.try_send(DriverInput::Beacons(batch)) {
                intake.agents.beacons_dropped.inc_by(count);
            }
        }
        intake.time.spent(mono_now().saturating_duration_since(began).mul_f64(share));
        match failed {
            None => failures = 0,
            Some(error) => {
                failures += 1;
                if failures >= MAX_FAILURES {
                    tracing::error!(%error, "beacons cannot be received");
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        // Under a flood the socket is always readable, and other tasks want to run too.
        tokio::task::yield_now().await;
    }
}

/// What was read at once.
struct Turn {
    batch: Vec<BeaconSeen>,
    /// Datagrams that are no beacon of an agent of ours.
    rejected: usize,
    failed: Option<std::io::Error>,
}

/// The share of a turn that authenticated beacons took, 0..=1. One that is rejected is taken to cost as
/// much as one that is not.
fn share(accepted: usize, rejected: usize) -> f64 {
    match accepted {
        0 => 0.0,
        _ => accepted as f64 / (accepted + rejected) as f64,
    }
}

/// Reads what is there, at most [`CALLS`] times. `read` hands each datagram of one system call over, and
/// says how many reads it was.
fn turn(
    keys: &BeaconKeys,
    metrics: &AgentMetrics,
    mut read: impl FnMut(&mut [RecvMeta; READS], &mut dyn FnMut(&[u8])) -> std::io::Result<usize>,
) -> Turn {
    let (mut batch, mut rejected) = (Vec::new(), 0);
    let mut meta = [RecvMeta::default(); READS];
    for _ in 0..CALLS {
        let mut take = |datagram: &[u8]| match keys.authenticate(datagram) {
            Ok(seen) => batch.push(seen),
            Err(e) => {
                rejected += 1;
                metrics.beacons_rejected.with_label_values(&[e.kind()]).inc();
            }
        };
        match read(&mut meta, &mut take) {
            // More would have been read, had more been there.
            Ok(reads) if reads < READS => break,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(e) => return Turn { batch, rejected, failed: Some(e) },
        }
    }
    Turn { batch, rejected, failed: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::registry::{Node, NodeIndex};

    fn registry(nodes: &[(u8, bool)]) -> Registry {
        let mut registry = Registry::default();
        for (i, (id, revoked)) in nodes.iter().enumerate() {
            let id = NodeId([*id; 32]);
            registry.nodes.push(Node {
                name: format!("n{i}").into(),
                id: Some(id),
                revoked: *revoked,
                domains: Vec::new(),
                drained: false,
                windows: Vec::new(),
                place: None,
            });
            registry.node_by_id.insert(id, NodeIndex(i as u32));
        }
        registry
    }

    #[test]
    fn a_turn_ends_under_a_flood_of_forgeries_and_at_an_error() {
        let keys = BeaconKeys::new(SiteKey::new(&[9; 32]), 1, Duration::from_millis(200));
        let metrics = AgentMetrics::register(&prometheus::Registry::new()).unwrap();
        let mut reads = 0;
        let flood = turn(&keys, &metrics, |_, each| {
            reads += 1;
            (0..READS).for_each(|_| each(&[0; 52]));
            Ok(READS)
        });
        assert!(flood.batch.is_empty() && flood.failed.is_none());
        assert_eq!((reads, flood.rejected), (CALLS, CALLS * READS));
        assert_eq!(share(flood.batch.len(), flood.rejected), 0.0, "agents pay for no flood");
        assert_eq!(metrics.beacons_rejected.with_label_values(&["version"]).get(), (CALLS * READS) as u64);
        reads = 0;
        let failing = turn(&keys, &metrics, |_, _| {
            reads += 1;
            Err(std::io::ErrorKind::ConnectionRefused.into())
        });
        assert!(failing.failed.is_some());
        assert_eq!(reads, 1);
    }

    #[test]
    fn only_the_share_of_beacons_that_are_heard_counts_as_their_cost() {
        let site = SiteKey::new(&[9; 32]);
        let keys = BeaconKeys::new(site.clone(), 1, Duration::from_millis(200));
        keys.load(&registry(&[(1, false)]));
        let secret = site.beacon_secret(&NodeId([1; 32]), KEY_EPOCH);
        let good = Beacon { flags: 0, key_epoch: KEY_EPOCH, tag: secret.tag, boot: 7, seq: 8, sent_us: 9 }
            .encode(&secret.prepare());
        let mut forged = good;
        forged[51] ^= 1;
        let metrics = AgentMetrics::register(&prometheus::Registry::new()).unwrap();
        let mixed = turn(&keys, &metrics, |_, each| {
            [&good[..], &forged, &forged, &[0; 9]].into_iter().for_each(&mut *each);
            Ok(4)
        });
        assert_eq!((mixed.batch.len(), mixed.rejected), (1, 3));
        // Those that claim to be of a node are counted for it, over changes of the registry.
        keys.load(&registry(&[(1, false), (2, false)]));
        let refused = |node: u8| keys.refused(&Claimed::new(&keys, &NodeId([node; 32])));
        assert_eq!([refused(1), refused(2), refused(3)], [2, 0, 0]);
        assert_eq!(share(mixed.batch.len(), mixed.rejected), 0.25);
        assert_eq!([share(5, 0), share(0, 0)], [1.0, 0.0]);
    }

    #[test]
    fn only_registered_nodes_are_heard() {
        let site = SiteKey::new(&[9; 32]);
        let keys = BeaconKeys::new(site.clone(), 1, Duration::from_millis(200));
        keys.load(&registry(&[(1, false), (2, true)]));
        let beacon = |node: u8| {
            let secret = site.beacon_secret(&NodeId([node; 32]), KEY_EPOCH);
            Beacon { flags: 0, key_epoch: KEY_EPOCH, tag: secret.tag, boot: 7, seq: 8, sent_us: 9 }
                .encode(&secret.prepare())
        };
        let seen = keys.authenticate(&beacon(1)).unwrap();
        assert_eq!((seen.node, seen.boot, seen.seq), (NodeId([1; 32]), 7, 8));
        assert!(matches!(keys.authenticate(&beacon(2)), Err(BeaconError::Mac)));
        assert!(matches!(keys.authenticate(&beacon(3)), Err(BeaconError::Mac)));
        keys.admit(&NodeId([3; 32]));
        assert!(keys.authenticate(&beacon(3)).is_ok());
    }
}
