//! Load is spread: where users are, in; what each mirror is offered, out.
//!
//! ```text
//!  agents' connections by network ─┐
//!  answers, one in many            ├─▶ bounded queue ─▶ Spread (core::spread) ─▶ driver: offers
//!  snapshot: health, load, map ────┘        │                due, or a mirror came or went
//!                                           └─▶ Traffic (core::traffic) ─▶ /v1/traffic, metrics
//! ```
//!
//! A plan is made in a blocking thread, beside the driver: a failure is published at once, and the
//! offers that follow from it a moment later.

mod demand;
mod seen;

pub(crate) use demand::Sampler;
pub use demand::{Demand, DemandHandle, DemandInbox, Seen, channel};
pub use seen::{Told, TrafficHandle};

use crate::clock::Clock;
use crate::driver::{DriverHandle, DriverInput};
use crate::publish::{News, SnapshotReader};
use crate::telemetry::SteeringMetrics;
use nearmost_core::health::Family;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::spread::{Plan, Spread, SpreadConfig};
use nearmost_core::time::MonoTime;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the demand that waits is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// So long after agents last told where a domain's users are, queries tell it.
const COUNTED: Duration = Duration::from_secs(300);

/// What the task works with.
pub struct SteeringParts {
    /// Mirrors, their health and load are read from it.
    pub snapshot: SnapshotReader,
    /// Tells of changes.
    pub news: watch::Receiver<News>,
    /// Where users are.
    pub demand: DemandInbox,
    /// Keeps who is where.
    pub traffic: TrafficHandle,
    /// Offers go there.
    pub driver: DriverHandle,
    /// Clocks.
    pub clock: Clock,
    /// How load is spread.
    pub config: SpreadConfig,
    /// Figures.
    pub metrics: SteeringMetrics,
}

/// Plans for as long as it is let.
pub async fn run(parts: SteeringParts) {
    let SteeringParts { snapshot, mut news, demand, traffic, driver, clock, config, metrics } = parts;
    let mut task = Task {
        spread: Spread::new(config.clone()),
        counted: HashMap::new(),
        demand,
        traffic,
        planned_for: None,
        config,
        metrics,
    };
    let mut sent = None;
    loop {
        let now = clock.now().mono;
        let seen = snapshot.load_full();
        task.take_demand(&seen, now);
        if task.is_due(&seen, now) {
            let registry = seen.registry.version;
            // Compared with what was sent, not with what is published: that may be on its way.
            if let Some(plan) = task.plan(seen, now).await
                && sent.as_ref() != Some(&(registry, plan.offers.clone()))
            {
                sent = Some((registry, plan.offers.clone()));
                driver.send(DriverInput::Offers { registry, offers: plan.offers }).await;
            }
        }
        // A plan that is overdue must not keep a core busy.
        let wake = task.spread.next_deadline().map_or(now + LOOK, |due| due.min(now + LOOK));
        tokio::select! {
            // Without a driver there is nothing to steer; who notices that it is gone says so.
            changed = news.changed() => if changed.is_err() { return std::future::pending().await },
            () = tokio::time::sleep_until(clock.instant(wake.max(now + Duration::from_millis(1)))) => {}
        }
    }
}

struct Task {
    spread: Spread,
    /// When agents last told where a domain's users are.
    counted: HashMap<Arc<str>, MonoTime>,
    demand: DemandInbox,
    traffic: TrafficHandle,
    /// What the last plan was made for.
    planned_for: Option<u64>,
    config: SpreadConfig,
    metrics: SteeringMetrics,
}

impl Task {
    fn take_demand(&mut self, snapshot: &Snapshot, now: MonoTime) {
        for demand in self.demand.take() {
            self.traffic.see(snapshot, &demand, now);
            let Demand { domain, addr, users, seen, .. } = demand;
            match seen {
                Seen::Connections => {
                    self.counted.insert(domain.clone(), now);
                }
                // A query stands for nobody knows how many, and anybody can send many.
                Seen::Query if self.counted.get(&domain).is_some_and(|at| now.since(*at) < COUNTED) => {
                    continue;
                }
                Seen::Query => {}
            }
            self.spread.demand(&domain, addr, users, now);
        }
        self.counted.retain(|_, at| now.since(*at) < COUNTED);
    }

    /// Whether mirrors came, went or changed in what plans depend on at once, or time has passed.
    fn is_due(&mut self, snapshot: &Snapshot, now: MonoTime) -> bool {
        let mut hasher = DefaultHasher::new();
        snapshot.registry.version.hash(&mut hasher);
        for mirror in &snapshot.live.mirrors {
            (Family::ALL.map(|f| mirror.eligible(f)), mirror.load.capacity).hash(&mut hasher);
        }
        let matters = Some(hasher.finish());
        let changed = matters != self.planned_for;
        self.planned_for = matters;
        changed || self.spread.next_deadline().is_some_and(|due| due <= now)
    }

    /// A plan, unless planning failed.
    async fn plan(&mut self, snapshot: Arc<Snapshot>, now: MonoTime) -> Option<Plan> {
        let mut spread = std::mem::replace(&mut self.spread, Spread::new(self.config.clone()));
        let began = crate::clock::mono_now();
        let work = move || {
            let plan = spread.plan(&snapshot.registry, &snapshot.map, &snapshot.live, now);
            (spread, plan)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (spread, plan) =
            done.inspect_err(|error| tracing::error!(%error, "planning has failed; starting anew")).ok()?;
        self.spread = spread;
        self.metrics.planned(&plan, crate::clock::mono_now() - began);
        Some(plan)
    }
}

#[cfg(test)]
mod tests;
