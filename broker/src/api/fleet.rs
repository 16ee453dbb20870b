//! What the API asks of the running fleet beside the snapshot: who is connected, and what verdicts rest on.

use crate::agents::SessionTable;
use crate::clock::mono_now;
use crate::driver::{AllEvidence, DriverHandle, DriverInput};
use crate::steering::{DemandHandle, TrafficHandle};
use axum::body::Bytes;
use nearmost_core::fleet::{Evidence, Witnessed};
use nearmost_core::id::{BrokerId, NodeId};
use nearmost_core::registry::Registry;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::{EvidenceView, PeerSaidView, SaidView, WitnessView};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// What is told of the fleet stays the same for so long, however many ask.
const TOLD: Duration = Duration::from_millis(250);

/// What was told of the fleet last: the moment, the snapshot, and the JSON.
pub(super) struct Told {
    last: Mutex<Option<(Instant, Weak<Snapshot>, Bytes)>>,
    /// Whoever makes the next.
    turn: Semaphore,
}

impl Default for Told {
    fn default() -> Told {
        Told { last: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Told {
    /// What was told a moment ago of this snapshot, or what `make` makes. Of many who ask at once one has it made,
    /// and the others wait for that.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) async fn or_made<E>(
        &self,
        snapshot: &Arc<Snapshot>,
        make: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        if let Some(told) = self.fresh(snapshot) {
            return Ok(told);
        }
        // From before it is made: what changes meanwhile is told by the next.
        let at = mono_now();
        let bytes = make.await?;
        *self.lock() = Some((at, Arc::downgrade(snapshot), bytes.clone()));
        Ok(bytes)
    }

    fn fresh(&self, snapshot: &Arc<Snapshot>) -> Option<Bytes> {
        let last = self.lock();
        let (at, of, bytes) = last.as_ref()?;
        // While it is pointed to weakly no other snapshot is in its place.
        let same = std::ptr::eq(of.as_ptr(), Arc::as_ptr(snapshot));
        (same && at.elapsed() < TOLD).then(|| bytes.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Weak<Snapshot>, Bytes)>> {
        // It is replaced as a whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the driver may take: it is asked for what is nice to know.
const PATIENCE: Duration = Duration::from_millis(500);

/// The ways to the running fleet.
#[derive(Clone)]
pub struct FleetAccess {
    /// Who is connected.
    pub sessions: Arc<SessionTable>,
    /// Knows what verdicts rest on.
    pub driver: DriverHandle,
    /// Knows who uses which mirror.
    pub traffic: TrafficHandle,
    /// Is told who asks for one.
    pub demand: DemandHandle,
}

impl FleetAccess {
    /// What verdicts rest on now; nothing when the driver does not say so in time.
    pub async fn evidence(&self) -> AllEvidence {
        let (reply, answer) = oneshot::channel();
        if !self.driver.try_send(DriverInput::Evidence(reply)) {
            return AllEvidence::default();
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(evidence)) => evidence,
            _ => AllEvidence::default(),
        }
    }
}

/// Evidence for people.
pub(super) fn view(evidence: &Evidence, registry: &Registry, now: UnixMillis) -> EvidenceView {
    let ago = |at: UnixMillis| now.0.saturating_sub(at.0);
    let witness = |(node, said, at): &(NodeId, Witnessed, UnixMillis)| WitnessView {
        node: name(registry, node),
        said: match said {
            Witnessed::Passed(_) => "passed",
            Witnessed::Failed => "failed",
            Witnessed::Declined => "declined",
        }
        .into(),
        ms_ago: ago(*at),
    };
    let peer = |(broker, reached, at): &(BrokerId, bool, UnixMillis)| PeerSaidView {
        broker: broker.to_string(),
        reached: *reached,
        ms_ago: ago(*at),
    };
    EvidenceView {
        agent_heard_ms_ago: evidence.agent_heard.map(ago),
        broker: evidence.broker.map(|(reached, at)| SaidView { reached, ms_ago: ago(at) }),
        witnesses: evidence.witnesses.iter().map(witness).collect(),
        peers: evidence.peers.iter().map(peer).collect(),
        complaints: evidence.complaints,
        penalty: (evidence.penalty * 100.0).round() / 100.0,
    }
}

fn name(registry: &Registry, node: &NodeId) -> String {
    let known = registry.node_by_id.get(node).and_then(|i| registry.nodes.get(i.0 as usize));
    known.map_or_else(|| node.to_string(), |n| n.name.to_string())
}
