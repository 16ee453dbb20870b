//! The learner's task: takes lessons, fits a model from time to time, keeps what was learned.

use super::memory::{self, MemoryError, MemoryFile};
use super::{Lesson, Lessons};
use crate::clock::{mono_now, unix_now};
use crate::driver::{DriverHandle, DriverInput};
use crate::publish::{News, SnapshotReader};
use crate::telemetry::LearningMetrics;
use nearmost_core::geo::Place;
use nearmost_core::map::Map;
use nearmost_core::registry::{MirrorIndex, Registry};
use nearmost_core::rtt::routes::Routes;
use nearmost_core::rtt::{
    Learner, LearnerConfig, Memory, Model, Observation, Source, Target, Unbelievable, World,
};
use nearmost_core::snapshot::Snapshot;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

/// Lessons taken at once before anything else is looked at.
const BATCH: usize = 256;
/// Least pause between two fits, in times of how long the last one took.
const REST: u32 = 10;
/// What is remembered weighs less with time: a model is fitted to it again after this, whatever came.
const AGES: Duration = Duration::from_secs(600);
/// The same while clients do not reach something, which they are believed for minutes.
const AGES_WHILE_MISSED: Duration = Duration::from_secs(60);
/// How often what was learned is written.
const SAVE: Duration = Duration::from_secs(300);

/// How it learns.
#[derive(Clone, Debug)]
pub struct LearnerSettings {
    /// Whether it does at all.
    pub enabled: bool,
    /// How much is remembered, and how coarse.
    pub config: LearnerConfig,
    /// Whether it is kept over a restart …
    pub persist: bool,
    /// … and where, if it can be.
    pub file: Option<MemoryFile>,
    /// Least time from one fit to the next.
    pub fit_interval: Duration,
}

/// What the task works with.
pub struct LearnerParts {
    /// What is taught.
    pub lessons: Lessons,
    /// How.
    pub settings: LearnerSettings,
    /// Mirrors and places are read from it.
    pub snapshot: SnapshotReader,
    /// Tells of new ones.
    pub news: watch::Receiver<News>,
    /// Models go there.
    pub driver: DriverHandle,
    /// Counters.
    pub metrics: Arc<LearningMetrics>,
}

/// Learns until cancelled; then what was learned is written.
pub async fn run(parts: LearnerParts, cancel: CancellationToken) {
    let LearnerParts { lessons, mut settings, snapshot, news, driver, metrics } = parts;
    let memory = load(&mut settings, &metrics).await;
    let learner = Learner::new(settings.config, Arc::new(Routes::new()), memory);
    let now = mono_now();
    let due = Due { fit: now, ages: now, save: now + SAVE };
    let dirty = !learner.is_empty();
    let fitted = snapshot.load_full();
    let mut task = Task { learner, settings, snapshot, driver, metrics, fitted, due, dirty, unsaved: false };
    task.run(lessons, news, cancel).await;
    task.save().await;
}

/// What was learned before. A file that cannot be read is not written either: it may be good.
async fn load(settings: &mut LearnerSettings, metrics: &LearningMetrics) -> Memory {
    let file = settings.file.clone();
    if !(settings.enabled && settings.persist) {
        settings.file = None;
        let removed = tokio::task::spawn_blocking(move || file.map_or(Ok(()), |f| f.remove())).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, "what was learned of round trips should be removed");
            metrics.memory_errors.inc();
        }
        return Memory::default();
    }
    let Some(file) = file else { return Memory::default() };
    let loaded = tokio::task::spawn_blocking(move || file.load()).await;
    let error = match loaded {
        Ok(Ok(memory)) => return memory,
        Ok(Err(error)) => error,
        Err(_) => return Memory::default(),
    };
    tracing::error!(%error, "what was learned of round trips is not there");
    metrics.memory_errors.inc();
    if matches!(error, MemoryError::Unreadable { .. }) {
        settings.file = None;
    }
    Memory::default()
}

/// When what is to be done.
struct Due {
    fit: Instant,
    /// A fit even if nothing new came.
    ages: Instant,
    save: Instant,
}

struct Task {
    learner: Learner,
    settings: LearnerSettings,
    snapshot: SnapshotReader,
    driver: DriverHandle,
    metrics: Arc<LearningMetrics>,
    /// What the last model was fitted over.
    fitted: Arc<Snapshot>,
    due: Due,
    /// There is something that the last model does not know.
    dirty: bool,
    unsaved: bool,
}

impl Task {
    async fn run(
        &mut self,
        mut lessons: Lessons,
        mut news: watch::Receiver<News>,
        cancel: CancellationToken,
    ) {
        loop {
            let fit = if self.dirty { self.due.fit } else { self.due.ages.max(self.due.fit) };
            tokio::select! {
                () = cancel.cancelled() => return,
                lesson = lessons.recv() => {
                    let Some(lesson) = lesson else { return cancel.cancelled().await };
                    self.take(lesson);
                    for _ in 1..BATCH {
                        let Ok(lesson) = lessons.try_recv() else { break };
                        self.take(lesson);
                    }
                }
                () = sleep_until(fit.into()), if !self.learner.is_empty() => self.fit().await,
                () = sleep_until(self.due.save.into()), if self.unsaved => self.save().await,
                changed = news.changed() => {
                    if changed.is_err() {
                        return cancel.cancelled().await;
                    }
                    self.world_changed();
                }
            }
        }
    }

    /// Mirrors or places that are not those of the last fit call for another.
    fn world_changed(&mut self) {
        let now = self.snapshot.load();
        let same = Arc::ptr_eq(&now.registry, &self.fitted.registry)
            && Arc::ptr_eq(&now.map.places, &self.fitted.map.places);
        self.dirty |= !same;
    }

    fn take(&mut self, lesson: Lesson) {
        match &lesson {
            Lesson::Observed(observations) => {
                for o in observations {
                    self.metrics.observations.with_label_values(&[o.source.as_str()]).inc();
                }
            }
            Lesson::Between { .. } => {
                self.metrics.observations.with_label_values(&[Source::Probe.as_str()]).inc()
            }
            Lesson::Missed { targets, .. } => self.metrics.missed.inc_by(targets.len() as u64),
            Lesson::Behind { .. } => self.metrics.resolver_ties.inc(),
        }
        if self.settings.enabled {
            self.learn(lesson);
            self.metrics.networks.set(i64::try_from(self.learner.network_count()).unwrap_or(i64::MAX));
        }
    }

    fn learn(&mut self, lesson: Lesson) {
        let now = unix_now();
        let refused = |e: Unbelievable| self.metrics.refused.with_label_values(&[e.as_str()]).inc();
        match lesson {
            Lesson::Observed(observations) => {
                let observe = |o: &Observation| self.learner.observe(o, now).err();
                observations.iter().filter_map(observe).for_each(refused);
            }
            Lesson::Missed { network, targets, reporter } => {
                let missed = |t: &Target| self.learner.missed(network, t, reporter, now).err();
                targets.iter().filter_map(missed).for_each(refused);
                // Nothing of it outlives a restart.
                self.dirty = true;
                return;
            }
            Lesson::Between { from, to, rtt_ms } => {
                self.learner.probed(&from, &to, rtt_ms, now).unwrap_or_else(refused);
            }
            Lesson::Behind { resolver, network, reporter } => {
                self.learner.behind(resolver, network, reporter, now);
            }
        }
        self.dirty = true;
        self.unsaved = true;
    }

    /// Makes a model of what is remembered, where blocking is allowed.
    async fn fit(&mut self) {
        let began = mono_now();
        let snapshot = self.snapshot.load_full();
        let empty = Learner::new(self.settings.config, Arc::default(), Memory::default());
        let learner = std::mem::replace(&mut self.learner, empty);
        let over = snapshot.clone();
        let fitted = tokio::task::spawn_blocking(move || fit(learner, &over)).await;
        let took = mono_now() - began;
        self.due.fit = mono_now() + self.settings.fit_interval.max(took * REST);
        self.due.ages = mono_now() + AGES;
        self.dirty = false;
        match fitted {
            Ok((learner, model, prepared)) => {
                self.learner = learner;
                if self.learner.misses() {
                    self.due.ages = mono_now() + AGES_WHILE_MISSED;
                }
                self.fitted = snapshot;
                self.metrics.fits.inc();
                self.metrics.fit_seconds.observe(took.as_secs_f64());
                tracing::debug!(networks = model.network_count(), ?took, "round trips fitted");
                self.driver.send(DriverInput::Model { model, prepared }).await;
                self.world_changed();
            }
            Err(error) => {
                tracing::error!(%error, "fitting has failed; learning starts from what was kept");
                let memory = load(&mut self.settings, &self.metrics).await;
                self.learner = Learner::new(self.settings.config, Arc::default(), memory);
                self.unsaved = false;
            }
        }
    }

    async fn save(&mut self) {
        self.due.save = mono_now() + SAVE;
        let Some(file) = self.settings.file.clone().filter(|_| self.unsaved) else { return };
        self.unsaved = false;
        let Some(bytes) = memory::encode(self.learner.memory()) else { return };
        match tokio::task::spawn_blocking(move || file.save(&bytes)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "what was learned of round trips is not kept"),
            Err(error) => tracing::error!(%error, "what was learned of round trips is not kept"),
        }
        self.metrics.memory_errors.inc();
        self.unsaved = true;
    }
}

/// A model of what is remembered, and a map of it for the registry of now.
fn fit(mut learner: Learner, snapshot: &Snapshot) -> (Learner, Arc<Model>, Arc<Map>) {
    let (registry, map) = (&snapshot.registry, &snapshot.map);
    if learner.misses() {
        let all = (0..registry.mirrors.len() as u32).map(MirrorIndex);
        let out = all.filter(|i| !snapshot.live.mirror(*i).eligible_any());
        out.for_each(|i| learner.forgive(&Target::of(registry, i)));
    }
    let sites = sites(registry);
    let locate = |addr: IpAddr| map.locate(addr).place;
    let model = Arc::new(learner.fit(&World { sites: &sites, locate: &locate }, unix_now()));
    let prepared = Map::default().follow(registry, &map.places, &model, None);
    (learner, model, Arc::new(prepared))
}

fn sites(registry: &Registry) -> HashMap<Target, Place> {
    let all = (0..registry.mirrors.len() as u32).map(MirrorIndex);
    all.map(|i| (Target::of(registry, i), registry.mirror(i).place)).collect()
}
