//! Where acts are handed in that are no change of the registry, and refused attempts.
//!
//! Refused ones go through bounded queues to a task that coalesces them: of one actor, act and code the
//! first is written at once and the others of that minute as one entry with their number. All together at
//! most [`MAX_A_MINUTE`] entries a minute; what exceeds that is written as one entry that says how many. So is
//! all that comes after [`MAX_A_DAY`] entries of a day. Agents and peers, who need prove nothing to be refused, have
//! a queue and such bounds of their own.

use super::{Act, By, Ending, Via, Who, acts};
use crate::admin::AdminError;
use crate::clock::{mono_now, unix_now};
use crate::store::{Beside, StoreError, StoreHandle};
use prometheus::{Error, IntCounter, Registry};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Refused attempts that wait for the task, of people, and as many of others.
const QUEUE: usize = 256;
/// How long those that repeat are gathered.
const WINDOW: Duration = Duration::from_secs(60);
/// Entries of refused attempts in one window, but for the last one that tells of the others.
const MAX_A_MINUTE: usize = 60;

/// Entries of refused attempts in a day, before all others share one each minute.
const MAX_A_DAY: u64 = 2000;
/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// What is told of the audit log beside `nearmost_audit_entries_total`, which the store counts.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// `nearmost_audit_refused_coalesced_total`: refused attempts that have no entry of their own.
    pub coalesced: IntCounter,
    /// `nearmost_audit_refused_dropped_total`: refused attempts that are in no entry.
    pub dropped: IntCounter,
    /// `nearmost_audit_errors_total`: entries that could not be written.
    pub errors: IntCounter,
}

impl AuditMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<AuditMetrics, Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, Error>(counter)
        };
        Ok(AuditMetrics {
            coalesced: counter(
                "nearmost_audit_refused_coalesced_total",
                "Refused attempts that share an entry of the audit log with others.",
            )?,
            dropped: counter(
                "nearmost_audit_refused_dropped_total",
                "Refused attempts that are in no entry: the queue was full.",
            )?,
            errors: counter(
                "nearmost_audit_errors_total",
                "Entries of the audit log that could not be written.",
            )?,
        })
    }
}

/// Takes acts in; clones share one task.
#[derive(Clone)]
pub struct Desk {
    store: StoreHandle,
    people: mpsc::Sender<Act>,
    /// Of agents and peers: whatever flood of them there is, it does not fill the others' queue.
    agents: mpsc::Sender<Act>,
    metrics: AuditMetrics,
}

/// Writes refused attempts.
pub struct DeskTask {
    store: StoreHandle,
    people: mpsc::Receiver<Act>,
    agents: mpsc::Receiver<Act>,
    metrics: AuditMetrics,
}

impl Desk {
    /// A desk and its task.
    pub fn new(store: StoreHandle, metrics: AuditMetrics) -> (Desk, DeskTask) {
        let (people, of_people) = mpsc::channel(QUEUE);
        let (agents, of_agents) = mpsc::channel(QUEUE);
        let task =
            DeskTask { store: store.clone(), people: of_people, agents: of_agents, metrics: metrics.clone() };
        (Desk { store, people, agents, metrics }, task)
    }

    /// Writes an act; returns once it is durable.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn done(&self, act: Act) -> Result<(), StoreError> {
        let at_unix_ms = unix_now().0;
        let written = self.store.write_act(Act { at_unix_ms, ..act }, Beside::Nothing).await;
        if let Err(error) = &written {
            self.metrics.errors.inc();
            tracing::error!(%error, "an entry of the audit log could not be written");
        }
        written.map(drop)
    }

    /// Hands in an attempt that came to nothing; never waits.
    pub fn refused(&self, who: &Who, act: &'static str, ending: Ending, target: &str, note: &str) {
        self.refused_of(who.by(), act, ending, target, note);
    }

    /// The same, of somebody who is no administrator.
    pub(crate) fn refused_of(&self, by: By, act: &'static str, ending: Ending, target: &str, note: &str) {
        let act = Act {
            by,
            code: act.into(),
            ending,
            at_unix_ms: unix_now().0,
            target: target.chars().take(256).collect(),
            note: note.chars().take(256).collect(),
            ..Act::default()
        };
        let queue = if act.by.via.is_of_agents() { &self.agents } else { &self.people };
        if queue.try_send(act).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// Passes an answer on, and hands in a refusal.
    pub fn told<T>(
        &self,
        who: &Who,
        act: &'static str,
        target: &str,
        answer: Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        if let Err(error) = &answer {
            let ending = match error.status() {
                500.. => Ending::Failed(error.code()),
                _ => Ending::Refused(error.code()),
            };
            self.refused(who, act, ending, target, &error.to_string());
        }
        answer
    }
}

/// What makes attempts alike.
type Alike = (By, String, Ending);

impl DeskTask {
    /// Runs until it is cancelled; then what was gathered is written.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut windows = Windows::default();
        let mut flush = tokio::time::interval_at((mono_now() + WINDOW).into(), WINDOW);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let act = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = flush.tick() => {
                    self.write_all(windows.end(unix_now().0)).await;
                    continue;
                }
                act = self.people.recv() => act,
                act = self.agents.recv() => act,
            };
            // Both ways in end together.
            let Some(act) = act else { break };
            match windows.take(act) {
                Some(act) => self.write_all(vec![act]).await,
                None => self.metrics.coalesced.inc(),
            }
        }
        let mut left = Vec::new();
        while let Ok(act) = self.people.try_recv().or_else(|_| self.agents.try_recv()) {
            left.extend(windows.take(act));
        }
        left.extend(windows.end(unix_now().0));
        self.write_all(left).await;
    }

    async fn write_all(&self, acts: Vec<Act>) {
        let count = acts.len() as u64;
        if count == 0 {
            return;
        }
        if let Err(error) = self.store.write_acts(acts).await {
            self.metrics.errors.inc_by(count);
            tracing::error!(%error, count, "refused attempts could not be written to the audit log");
        }
    }
}

/// The attempts of administrators, and of agents and peers.
#[derive(Default)]
pub(super) struct Windows {
    people: Window,
    agents: Window,
}

impl Windows {
    /// An attempt that is to be written at once; others are gathered.
    pub(super) fn take(&mut self, act: Act) -> Option<Act> {
        match act.by.via.is_of_agents() {
            true => self.agents.take(act),
            false => self.people.take(act),
        }
    }

    /// What was gathered; the next windows begin empty.
    pub(super) fn end(&mut self, now_unix_ms: u64) -> Vec<Act> {
        let mut acts = self.people.end(now_unix_ms, Via::Broker);
        acts.extend(self.agents.end(now_unix_ms, Via::Agents));
        acts
    }
}

/// The attempts of one window.
#[derive(Default)]
pub(super) struct Window {
    gathered: HashMap<Alike, Option<Act>>,
    others: u64,
    /// The day, and how many entries it has.
    today: (u64, u64),
}

impl Window {
    /// An attempt that is to be written at once; others are gathered.
    pub(super) fn take(&mut self, act: Act) -> Option<Act> {
        let alike = (act.by.clone(), act.code.clone(), act.ending);
        let day = act.at_unix_ms / DAY_MS;
        if self.today.0 != day {
            self.today = (day, 0);
        }
        let room = self.gathered.len() < MAX_A_MINUTE / 2 && self.today.1 < MAX_A_DAY;
        match self.gathered.get_mut(&alike) {
            Some(Some(more)) => {
                more.count += 1;
                *more = Act { count: more.count, ..act };
                None
            }
            Some(more) => {
                *more = Some(Act { count: 1, ..act });
                None
            }
            None if room => {
                self.gathered.insert(alike, None);
                self.today.1 += 1;
                Some(Act { count: 1, ..act })
            }
            None => {
                self.others += 1;
                None
            }
        }
    }

    /// What was gathered; the next window begins empty. One entry tells of those that found no room.
    pub(super) fn end(&mut self, now_unix_ms: u64, others_via: Via) -> Vec<Act> {
        let mut acts: Vec<Act> = self.gathered.drain().filter_map(|(_, more)| more).collect();
        acts.sort_by_key(|act| act.at_unix_ms);
        self.today.1 += acts.len() as u64;
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            acts.push(Act {
                by: By { actor: "several".into(), via: others_via, source: None },
                code: acts::REFUSED.into(),
                ending: Ending::Refused("too_many"),
                at_unix_ms: now_unix_ms,
                count: others,
                note: "attempts of others, which were too many to be written one by one".into(),
                ..Act::default()
            });
        }
        acts
    }
}
