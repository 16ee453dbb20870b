//! What is told of how load is spread.

use super::{counter, gauge, registered, seconds};
use nearmost_core::spread::Plan;
use prometheus::{Error, Gauge, Histogram, IntCounter, IntGauge, Registry};
use std::time::Duration;

/// How load is spread.
#[derive(Clone)]
pub struct SteeringMetrics {
    /// `nearmost_spread_plans_total`: plans made.
    plans: IntCounter,
    /// `nearmost_spread_plan_seconds`: time to make one.
    plan_seconds: Histogram,
    /// `nearmost_spread_domains`: domains that are planned, as a mirror of theirs declares a capacity or
    /// is starting slowly.
    domains: IntGauge,
    /// `nearmost_spread_shedding_mirrors`: mirrors that send a part of their users on.
    shedding: IntGauge,
    /// `nearmost_spread_warming_mirrors`: mirrors that get only a part of their share, as they came back.
    warming: IntGauge,
    /// `nearmost_spread_moved_share`: share of known users that the last plan sends to another mirror.
    moved: Gauge,
    /// `nearmost_spread_rebalanced_share_per_minute`: the same, of the last minute and for the sake of
    /// load alone; of the domain where it is most.
    rebalanced: Gauge,
    /// `nearmost_spread_crowded_users`: users for whom no mirror has room.
    crowded: Gauge,
    /// `nearmost_spread_demand_dropped_total`: sightings of users dropped because too many waited.
    pub dropped: IntCounter,
}

impl SteeringMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<SteeringMetrics, Error> {
        let share = |name: &str, help: &str| registered(registry, Gauge::new(name, help)?);
        Ok(SteeringMetrics {
            plans: counter(registry, "nearmost_spread_plans_total", "Plans of what mirrors are offered.")?,
            plan_seconds: seconds(registry, "nearmost_spread_plan_seconds", "Time to make a plan.")?,
            domains: gauge(registry, "nearmost_spread_domains", "Domains whose load is planned.")?,
            shedding: gauge(
                registry,
                "nearmost_spread_shedding_mirrors",
                "Mirrors that send a part of their users on.",
            )?,
            warming: gauge(
                registry,
                "nearmost_spread_warming_mirrors",
                "Mirrors that came back and get a part of their share.",
            )?,
            moved: share(
                "nearmost_spread_moved_share",
                "Share of known users that the last plan sends to another mirror.",
            )?,
            rebalanced: share(
                "nearmost_spread_rebalanced_share_per_minute",
                "Share of a domain's users moved in a minute for the sake of load, where it is most.",
            )?,
            crowded: share("nearmost_spread_crowded_users", "Users for whom no mirror has room.")?,
            dropped: counter(
                registry,
                "nearmost_spread_demand_dropped_total",
                "Sightings of users dropped because too many waited.",
            )?,
        })
    }

    pub(crate) fn planned(&self, plan: &Plan, took: Duration) {
        self.plans.inc();
        self.plan_seconds.observe(took.as_secs_f64());
        self.domains.set(i64::try_from(plan.domains.len()).unwrap_or(i64::MAX));
        self.shedding.set(plan.domains.iter().map(|d| i64::from(d.shedding)).sum());
        self.warming.set(plan.domains.iter().map(|d| i64::from(d.cold)).sum());
        // A sum of nothing is -0.0.
        self.moved.set(f64::from(plan.moved) + 0.0);
        let rebalanced = plan.domains.iter().map(|d| d.rebalanced_a_minute).fold(0.0, f32::max);
        self.rebalanced.set(f64::from(rebalanced));
        self.crowded.set(plan.domains.iter().map(|d| f64::from(d.crowded)).sum::<f64>() + 0.0);
    }
}
