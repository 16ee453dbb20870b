//! Keeps transitions in the store, so that they outlive a restart, and forgets the old ones; of the audit
//! log too.
//!
//! ```text
//! driver ── publish ──> bounded queue ──> keeper ── batches ──> store
//! ```
//! The driver never waits: what finds the queue full is not kept, and counted. Every half minute the keeper
//! notes that the broker runs, so that the next start knows for how long nobody looked; also while a disk
//! takes no transitions, which are tried again in between.

use crate::backoff::Backoff;
use crate::clock::{mono_now, unix_now};
use crate::store::{Keep, MAX_PRUNED, StoreError, StoreHandle};
use nearmost_config::{AuditConfig, EventsConfig};
use nearmost_wire::api::EventView;
use prometheus::{Error, IntCounter, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Transitions that wait to be kept: a whole fleet may change at once, and change back.
const QUEUE: usize = 64 * 1024;
/// Transitions written together.
const BATCH: usize = 1024;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// How often it is noted that the broker runs.
const ALIVE: Duration = Duration::from_secs(30);
/// How often old entries are looked for.
const PRUNE: Duration = Duration::from_secs(600);
/// It is also looked for them after so many transitions, or a twentieth of all that are kept.
const PRUNE_AFTER: u64 = 1000;
/// Pauses between attempts to write.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// Where in the store it is noted.
const ALIVE_BLOB: &str = "alive";
/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// How much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Of the audit log.
    pub audit: AuditConfig,
    /// Of transitions.
    pub events: EventsConfig,
}

/// What is told of keeping.
#[derive(Clone, Debug)]
pub struct KeeperMetrics {
    /// `nearmost_events_stored_total`.
    pub stored: IntCounter,
    /// `nearmost_events_dropped_total`.
    pub dropped: IntCounter,
    /// `nearmost_events_errors_total`.
    pub errors: IntCounter,
    /// `nearmost_events_forgotten_early_total`.
    pub early_events: IntCounter,
    /// `nearmost_audit_forgotten_early_total`.
    pub early_acts: IntCounter,
}

impl KeeperMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<KeeperMetrics, Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, Error>(counter)
        };
        Ok(KeeperMetrics {
            stored: counter("nearmost_events_stored_total", "Transitions of mirrors written to the store.")?,
            dropped: counter(
                "nearmost_events_dropped_total",
                "Transitions of mirrors that are not kept: the queue was full.",
            )?,
            errors: counter(
                "nearmost_events_errors_total",
                "Attempts to write transitions to the store that failed.",
            )?,
            early_events: counter(
                "nearmost_events_forgotten_early_total",
                "Transitions forgotten before events.keep_days: there were more than events.max_entries.",
            )?,
            early_acts: counter(
                "nearmost_audit_forgotten_early_total",
                "Entries of the audit log forgotten before audit.keep_days: there were more than audit.max_entries, or audit.max_agent_entries of agents.",
            )?,
        })
    }
}

/// The queue's end of whoever publishes.
#[derive(Clone, Debug)]
pub struct Feeder {
    queue: mpsc::Sender<Arc<EventView>>,
    dropped: IntCounter,
}

impl Feeder {
    /// Hands a transition over; never waits.
    pub(super) fn keep(&self, event: Arc<EventView>) {
        if self.queue.try_send(event).is_err() {
            self.dropped.inc();
        }
    }
}

/// The task.
pub struct Keeper {
    store: StoreHandle,
    queue: mpsc::Receiver<Arc<EventView>>,
    keeping: watch::Receiver<Keeping>,
    metrics: KeeperMetrics,
}

/// A queue and its task.
pub fn keeper(
    store: StoreHandle,
    keeping: watch::Receiver<Keeping>,
    metrics: KeeperMetrics,
) -> (Feeder, Keeper) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let feeder = Feeder { queue: sender, dropped: metrics.dropped.clone() };
    (feeder, Keeper { store, queue, keeping, metrics })
}

/// Notes in the store for how long the broker did not run before `started_unix_ms`; answers the number that
/// transitions begin with, above all that are kept.
///
/// # Errors
/// Those of the disk.
pub async fn begin(store: &StoreHandle, started_unix_ms: u64) -> Result<u64, StoreError> {
    let noted = store.get_meta(ALIVE_BLOB).await?;
    let noted = noted.and_then(|blob| std::str::from_utf8(&blob).ok()?.parse::<u64>().ok());
    if let Some(alive) = noted.filter(|alive| *alive < started_unix_ms) {
        store.add_gap(alive, started_unix_ms).await?;
    }
    Ok(started_unix_ms.saturating_mul(1000).max(store.newest_event().await?.saturating_add(1)))
}

impl Keeper {
    /// Runs until it is cancelled; what waits then is written, and when the broker ended.
    pub async fn run(mut self, cancel: CancellationToken) {
        let every = |period: Duration| {
            let mut ticks = tokio::time::interval_at((mono_now() + period).into(), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut alive, mut prune) = (every(ALIVE), every(PRUNE));
        // What is being written; where that fails, from when on it is tried again.
        let (mut batch, mut again, mut backoff) = (Vec::new(), mono_now(), RETRY);
        let mut grown = 0;
        self.say_alive().await;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = alive.tick() => { self.say_alive().await; continue },
                _ = prune.tick() => { self.prune(&cancel).await; continue },
                () = tokio::time::sleep_until(again.into()), if !batch.is_empty() => {}
                read = self.queue.recv_many(&mut batch, BATCH), if batch.is_empty() => match read {
                    0 => break,
                    _ => self.gather(&mut batch).await,
                },
            }
            if !self.write(&batch).await {
                again = mono_now() + backoff.pause();
                continue;
            }
            backoff.reset();
            grown += batch.len() as u64;
            batch.clear();
            let most = self.keeping.borrow().events.max_entries;
            if grown >= PRUNE_AFTER.max(most / 20) {
                grown = 0;
                self.prune(&cancel).await;
            }
        }
        while let Ok(event) = self.queue.try_recv() {
            batch.push(event);
        }
        for batch in batch.chunks(BATCH) {
            // One attempt: the broker is ending.
            self.write(batch).await;
        }
        self.say_alive().await;
    }

    /// Takes what comes soon after the first of a batch.
    async fn gather(&mut self, batch: &mut Vec<Arc<EventView>>) {
        let until = (mono_now() + GATHER).into();
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(until, self.queue.recv_many(batch, room)).await {
                Ok(read) if read > 0 => {}
                _ => break,
            }
        }
    }

    async fn write(&self, batch: &[Arc<EventView>]) -> bool {
        let events = batch.iter().map(|event| EventView::clone(event)).collect();
        match self.store.append_events(events).await {
            Ok(()) => {
                self.metrics.stored.inc_by(batch.len() as u64);
                true
            }
            Err(error) => {
                self.metrics.errors.inc();
                tracing::warn!(%error, events = batch.len(), "transitions of mirrors are not kept yet");
                false
            }
        }
    }

    async fn say_alive(&self) {
        let now = unix_now().0.to_string().into_bytes();
        if let Err(error) = self.store.put_meta(ALIVE_BLOB, now).await {
            tracing::debug!(%error, "it is not noted that the broker runs");
        }
    }

    /// Forgets what is too old, and then what is too much.
    async fn prune(&self, cancel: &CancellationToken) {
        let Keeping { audit, events } = self.keeping.borrow().clone();
        let now = unix_now().0;
        let old =
            |days: u32| Keep { since_unix_ms: now.saturating_sub(u64::from(days) * DAY_MS), most: u64::MAX };
        let many = |most| Keep { since_unix_ms: 0, most };
        let pruned = async {
            let acts = self.all_of(cancel, old(audit.keep_days), Pruned::Acts).await?;
            let transitions = self.all_of(cancel, old(events.keep_days), Pruned::Transitions).await?;
            let early_acts = self.all_of(cancel, many(audit.max_entries), Pruned::Acts).await?
                + self.all_of(cancel, many(audit.max_agent_entries), Pruned::Agents).await?;
            let early = self.all_of(cancel, many(events.max_entries), Pruned::Transitions).await?;
            self.metrics.early_acts.inc_by(early_acts);
            self.metrics.early_events.inc_by(early);
            Ok::<_, StoreError>(((acts, transitions), (early_acts, early)))
        };
        match pruned.await {
            Ok(((0, 0), (0, 0))) => {}
            Ok(((audit, events), (0, 0))) => tracing::info!(audit, events, "old entries were forgotten"),
            Ok((_, (audit, events))) => tracing::warn!(
                audit,
                events,
                "entries were forgotten before keep_days has passed: there are more than max_entries"
            ),
            Err(error) => tracing::warn!(%error, "old entries are not forgotten yet"),
        }
    }

    /// Prunes in steps, so that others come to write in between; answers how many went.
    async fn all_of(&self, cancel: &CancellationToken, keep: Keep, what: Pruned) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let step = match what {
                Pruned::Acts => self.store.prune_audit(keep).await?,
                Pruned::Agents => self.store.prune_agents(keep.most, unix_now().0).await?,
                Pruned::Transitions => self.store.prune_events(keep).await?,
            };
            gone += step;
            if step < MAX_PRUNED as u64 || cancel.is_cancelled() {
                return Ok(gone);
            }
        }
    }
}

/// What is pruned.
#[derive(Clone, Copy)]
enum Pruned {
    Acts,
    /// What agents and peers did.
    Agents,
    Transitions,
}
