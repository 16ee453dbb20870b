//! What the API asks of the running fleet beside the snapshot: who is connected, and what verdicts rest on.

use super::error::Problem;
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
/// How long one who asks waits for those before it, of whom one makes what all are told.
const TURN: Duration = Duration::from_secs(5);

/// What was told of a snapshot last, so that it is made once for many.
pub(super) struct Told<S = Snapshot> {
    last: Mutex<Option<Made<S>>>,
    /// Whoever makes the next.
    turn: Semaphore,
    /// For how long it is told again.
    life: Duration,
}

/// What was made of a snapshot.
struct Made<S> {
    of: Weak<S>,
    /// From before it was loaded, when it was the newest.
    loaded: Instant,
    /// When it was finished.
    made: Instant,
    bytes: Bytes,
}

impl Default for Told {
    fn default() -> Told {
        Told::lasting(TOLD)
    }
}

impl<S> Told<S> {
    fn lasting(life: Duration) -> Told<S> {
        Told { last: Mutex::new(None), turn: Semaphore::new(1), life }
    }

    /// What was told a moment ago of the snapshot that `load` answers, or of a newer one; else what `make` makes of
    /// it. Of many who ask at once one has it made, and the others wait for that.
    ///
    /// # Errors
    /// Those of `make`, and 503 where the turn does not come.
    pub(super) async fn or_made<F: Future<Output = Result<Bytes, Problem>>>(
        &self,
        load: impl Fn() -> Arc<S>,
        make: impl FnOnce(Arc<S>) -> F,
    ) -> Result<Bytes, Problem> {
        // In this order: what is loaded after that moment is no older than this.
        let (snapshot, asked) = (load(), mono_now());
        if let Some(told) = self.fresh(&snapshot, asked) {
            return Ok(told);
        }
        let turn = tokio::time::timeout(TURN, self.turn.acquire()).await;
        // The semaphore is never closed.
        let Ok(_turn) = turn else {
            return Err(Problem::unavailable(
                "busy",
                "others are told of the fleet; try again in a moment",
                5,
            ));
        };
        if let Some(told) = self.fresh(&snapshot, asked) {
            return Ok(told);
        }
        // Another may have come meanwhile; what is made of it is good for all who wait.
        let (loaded, snapshot) = (mono_now(), load());
        let of = Arc::downgrade(&snapshot);
        let bytes = make(snapshot).await?;
        *self.lock() = Some(Made { of, loaded, made: mono_now(), bytes: bytes.clone() });
        Ok(bytes)
    }

    /// What was made last, if it is of this snapshot, or of one that was the newest after `asked`.
    fn fresh(&self, snapshot: &Arc<S>, asked: Instant) -> Option<Bytes> {
        let last = self.lock();
        let made = last.as_ref()?;
        // While it is pointed to weakly no other snapshot is in its place.
        let good = made.loaded > asked || std::ptr::eq(made.of.as_ptr(), Arc::as_ptr(snapshot));
        (good && made.made.elapsed() < self.life).then(|| made.bytes.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made<S>>> {
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

#[cfg(test)]
mod unit {
    use super::*;
    use arc_swap::ArcSwap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_who_ask_at_once_are_told_what_is_made_once() {
        let (now, makes) = (ArcSwap::from_pointee(1_u8), &AtomicUsize::new(0));
        let told = Told::lasting(Duration::from_secs(3600));
        let ask = || {
            told.or_made(
                || now.load_full(),
                |snapshot: Arc<u8>| async move {
                    makes.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(Bytes::copy_from_slice(&[*snapshot]))
                },
            )
        };
        let (one, other, third) = tokio::join!(ask(), ask(), ask());
        assert!([one, other, third].iter().all(|told| told.as_ref().is_ok_and(|told| told[..] == [1])));
        assert_eq!(makes.load(Ordering::Relaxed), 1);
        // Of another it is made anew, and once.
        now.store(Arc::new(2));
        let (one, other) = tokio::join!(ask(), ask());
        assert!([one, other].iter().all(|told| told.as_ref().is_ok_and(|told| told[..] == [2])));
        assert_eq!(makes.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_a_newer_snapshot_and_of_no_older_one() {
        let now = ArcSwap::from_pointee(1_u8);
        let told = Told::lasting(Duration::from_secs(3600));
        let makes = &AtomicUsize::new(0);
        let ask = || {
            told.or_made(
                || now.load_full(),
                |snapshot: Arc<u8>| async move {
                    makes.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(Bytes::copy_from_slice(&[*snapshot]))
                },
            )
        };
        // The first makes it of 1; two more wait, with 2 and 3 as the newest.
        let later = |snapshot: u8| {
            now.store(Arc::new(snapshot));
            ask()
        };
        let (first, second, third) = tokio::join!(ask(), async { later(2).await }, async { later(3).await });
        let text = |told: Result<Bytes, Problem>| told.ok().map(|told| told.to_vec());
        assert_eq!((text(first), text(second), text(third)), (Some(vec![1]), Some(vec![3]), Some(vec![3])));
        assert_eq!(makes.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_old_is_made_anew() {
        let now = ArcSwap::from_pointee(1_u8);
        let told = Told::<u8>::lasting(Duration::ZERO);
        let makes = &AtomicUsize::new(0);
        for _ in 0..2 {
            let made = told.or_made(
                || now.load_full(),
                |_| async {
                    makes.fetch_add(1, Ordering::Relaxed);
                    Ok(Bytes::new())
                },
            );
            assert!(made.await.is_ok());
        }
        assert_eq!(makes.load(Ordering::Relaxed), 2);
    }
}
