//! Has nodes measure the way to one another: the shell around [`Pairs`].
//!
//! Who is connected is looked up in the table of sessions, what is to be measured in the snapshot,
//! each every few seconds; orders go out through the sessions.

use super::orders::{Order, Ordered};
use super::table::SessionTable;
use crate::clock::Clock;
use crate::publish::SnapshotReader;
use crate::telemetry::PathMetrics;
use nearmost_core::health::Family;
use nearmost_core::id::NodeId;
use nearmost_core::live::Live;
use nearmost_core::registry::{Mirror, MirrorIndex, Registry};
use nearmost_core::rtt::Target;
use nearmost_core::rtt::pairs::{PairConfig, PairNode, PairTarget, Pairs};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::MonoTime;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked who and what is there.
const LOOK: Duration = Duration::from_secs(2);

/// What the schedule works with.
pub struct PairParts {
    /// How much is measured; `None` for nothing at all.
    pub config: Option<PairConfig>,
    /// Order of the ring, and jitter.
    pub seed: u64,
    /// Who is connected.
    pub table: Arc<SessionTable>,
    /// What is registered, and where it is.
    pub snapshot: SnapshotReader,
    /// Counters.
    pub metrics: PathMetrics,
}

/// Orders measurements for as long as the broker serves.
pub async fn run(parts: PairParts) {
    let Some(config) = parts.config else { return std::future::pending().await };
    let clock = Clock::start();
    let mut pairing =
        Pairing { pairs: Pairs::new(config, parts.seed), addresses: BTreeMap::new(), seen: None, parts };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = pairing.pairs.next_deadline().map(|at| clock.instant(at));
        tokio::select! {
            _ = look.tick() => pairing.look(clock.now().mono),
            () = until(due) => {}
        }
        pairing.order(clock.now().mono);
    }
}

/// The schedule, and what it was last told.
struct Pairing {
    parts: PairParts,
    pairs: Pairs,
    /// Where each target is.
    addresses: BTreeMap<Target, SocketAddr>,
    seen: Option<Seen>,
}

/// What was there at the last look.
struct Seen {
    sessions: u64,
    registry: Arc<Registry>,
    live: Arc<Live>,
}

impl Pairing {
    /// Looks who and what is there; nothing is worked out again that cannot have changed.
    fn look(&mut self, now: MonoTime) {
        let snapshot = self.parts.snapshot.load_full();
        // Read before the nodes are: a session that begins between the two is seen at the next look.
        let sessions = self.parts.table.version();
        let same_registry = self.seen.as_ref().is_some_and(|s| Arc::ptr_eq(&s.registry, &snapshot.registry));
        let same_live = self.seen.as_ref().is_some_and(|s| Arc::ptr_eq(&s.live, &snapshot.live));
        if !(same_registry && same_live) {
            let (targets, addresses) = targets(&snapshot);
            self.addresses = addresses;
            self.pairs.set_targets(targets, now);
        }
        if !(same_registry && self.seen.as_ref().is_some_and(|s| s.sessions == sessions)) {
            self.pairs.set_nodes(present(self.parts.table.nodes(), &snapshot.registry), now);
        }
        self.parts.metrics.pairs.set(i64::try_from(self.pairs.pairs()).unwrap_or(i64::MAX));
        let (registry, live) = (snapshot.registry.clone(), snapshot.live.clone());
        self.seen = Some(Seen { sessions, registry, live });
    }

    /// Sends what is due.
    fn order(&mut self, now: MonoTime) {
        while let Some(order) = self.pairs.poll(now) {
            // A target without an address is none, and those of the last look are in both.
            let Some(at) = self.addresses.get(&order.target).copied() else { continue };
            let sent =
                self.parts.table.order(&order.node, Ordered::Measure(Order { target: order.target, at }));
            let label = if sent { "sent" } else { "dropped" };
            self.parts.metrics.orders.with_label_values(&[label]).inc();
        }
    }
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What can be measured, and where each is. Of the mirrors of one node one stands for all: the first
/// that is not known to speak UDP, since what is measured is a TCP connection.
fn targets(snapshot: &Snapshot) -> (Vec<PairTarget>, BTreeMap<Target, SocketAddr>) {
    let registry = &snapshot.registry;
    let mut found: BTreeMap<Target, (bool, SocketAddr, &Mirror)> = BTreeMap::new();
    for (mirror, i) in registry.mirrors.iter().zip(0u32..) {
        let index = MirrorIndex(i);
        let live = snapshot.live.mirrors.get(i as usize);
        let address = live.and_then(|l| Family::ALL.into_iter().find_map(|f| l.addr(f)));
        let Some(address) = address.filter(|_| mirror.port != 0 && !revoked(registry, mirror)) else {
            continue;
        };
        let udp = mirror.probe.as_ref().is_some_and(|p| p.kind.over_udp());
        let candidate = (udp, SocketAddr::new(address, mirror.port), mirror);
        let best = found.entry(Target::of(registry, index)).or_insert(candidate);
        if best.0 && !udp {
            *best = candidate;
        }
    }
    let target = |(target, (_, _, mirror)): (&Target, &(bool, SocketAddr, &Mirror))| PairTarget {
        target: target.clone(),
        position: mirror.place.position,
    };
    let targets = found.iter().map(target).collect();
    (targets, found.into_iter().map(|(target, (_, at, _))| (target, at)).collect())
}

fn revoked(registry: &Registry, mirror: &Mirror) -> bool {
    mirror.node.and_then(|n| registry.nodes.get(n.0 as usize)).is_some_and(|n| n.revoked)
}

/// The connected nodes and where they are: as people said, else where their first mirror is.
fn present(connected: Vec<NodeId>, registry: &Registry) -> Vec<PairNode> {
    let mut positions = vec![None; registry.nodes.len()];
    for mirror in &registry.mirrors {
        if let Some(slot) = mirror.node.and_then(|n| positions.get_mut(n.0 as usize)) {
            *slot = slot.or(mirror.place.position);
        }
    }
    let node = |id: NodeId| {
        let index = registry.node_by_id.get(&id)?.0 as usize;
        let given = registry.nodes.get(index)?.place.and_then(|p| p.position);
        Some(PairNode { id, position: given.or(positions.get(index).copied().flatten()) })
    };
    connected.into_iter().filter_map(node).collect()
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
