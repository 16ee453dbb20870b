//! How users are spread: the share that each mirror is offered, decided by the writer ([`Offer`]).
//!
//! ```text
//!  agents: connections by network ─┐                        ┌──────── one domain ────────────────┐
//!  queries, sampled ───────────────┴▶ demand: networks, ───▶│ scale: users per unit of demand    │
//!                                     bounded, fading       │ weights among equals: free capacity│
//!  agents: connections, capacity ──────────────────────────▶│ floors: slow start, reported load  │
//!  health: who is eligible ────────────────────────────────▶│ placing: choose() for every part ──┼─▶ Offer of each
//!                                                           └────────────────────────────────────┘   mirror, figures
//! ```
//!
//! Queries choose by ranking, health and offers ([`crate::ranking::choose`]); offers are all that this
//! module controls. It plays the queries of a domain's demand through the same function and plans so that
//!
//! * among near-equals, users are shared by weight × free capacity (`withheld`), a mirror that came back
//!   taking from 10 % to all of its share within a minute (slow start, by `shed`);
//! * no mirror is planned above its high-water mark while another has room: what is too much goes to
//!   the next nearest (`shed`, see `placing`);
//! * after a failure no survivor is planned above its capacity in the very plan that follows: what was
//!   displaced is known, and where it would go is tried out beforehand;
//! * nothing swings: planned loads have no delay, points move at bounded speed and rest while the load is
//!   between two marks, weights have a deadband.
//!
//! A reported load that the demand does not explain (or where no demand is known) raises the shed step by
//! step (`mirror`). Domains without declared capacities cost nothing but a look at who is eligible.
//!
//! **Alike everywhere.** Nothing here is random: brokers that got the same inputs in the same order make
//! the same offers. After a restart, or when inputs came at other times, they differ by no more than
//! the marks leave open.

mod config;
mod demand;
mod domain;
mod figures;
mod mirror;
mod placing;
mod room;
#[cfg(test)]
mod tests;
mod weight;

pub use config::{DemandConfig, Marks, Rates, SpreadConfig};
pub use figures::{DomainFigures, Plan};

use crate::live::{Live, Offer};
use crate::map::Map;
use crate::registry::{DomainIndex, Registry};
use crate::time::MonoTime;
use demand::Memory;
use domain::{Domain, Inputs};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Fewest networks of a domain that are kept, however many domains there are.
const FEWEST_SAMPLES: usize = 64;

/// The allocator of all domains.
pub struct Spread {
    config: SpreadConfig,
    domains: BTreeMap<Arc<str>, Domain>,
    /// When the first plan was made.
    started: Option<MonoTime>,
    /// Domains that are planned.
    planning: usize,
}

impl Spread {
    /// Nothing known yet.
    pub fn new(config: SpreadConfig) -> Spread {
        Spread { config, domains: BTreeMap::new(), started: None, planning: 0 }
    }

    /// Notes that `users` of a domain (its registered name) are in the network of `addr`, counted as
    /// in reports that come every [`DemandConfig::period`]. Only proportions count: the sum is
    /// taken from the connections that agents report. What is not a positive number is ignored, and so
    /// are domains that are not planned (no plan yet, or nobody declared a capacity).
    pub fn demand(&mut self, domain: &str, addr: IpAddr, users: f32, now: MonoTime) {
        let memory = self.memory();
        if let Some(domain) = self.domains.get_mut(domain).filter(|d| d.planning()) {
            domain.demand.add(addr, users, now, &memory);
        }
    }

    fn memory(&self) -> Memory {
        let fair = self.config.demand.total_samples / self.planning.max(1);
        Memory {
            half_life: self.config.demand.half_life,
            period: self.config.demand.period,
            stay: self.config.stay,
            limit: self.config.demand.samples.min(fair).max(FEWEST_SAMPLES),
        }
    }

    /// Plans the domains whose time has come or whose mirrors came, went or changed their capacity, and
    /// gives the offers of all mirrors. `registry`, `map` and `live` belong together; the offers in
    /// `live` are not read, but compared with.
    pub fn plan(&mut self, registry: &Registry, map: &Map, live: &Live, now: MonoTime) -> Plan {
        let started = *self.started.get_or_insert(now);
        let warms = now.since(started) >= self.config.start_grace && !self.config.slow_start.is_zero();
        self.forget(registry);
        let memory = self.memory();
        // Not tallied: what is tried out must be seen at once.
        let mut scratch = Live::new(live.mirrors.clone());
        scratch.window = live.window;
        for (domain, i) in registry.domains.iter().zip(0..) {
            let inputs =
                Inputs { config: &self.config, registry, map, domain: DomainIndex(i), memory, now, warms };
            let state = self.domains.entry(domain.name.clone()).or_default();
            state.plan(&inputs, &mut scratch);
            state.show(registry, DomainIndex(i), &mut scratch);
        }
        self.planning = self.domains.values().filter(|d| d.planning()).count();
        self.sum_up(registry, live, &scratch, now)
    }

    /// Forgets domains that are no more.
    fn forget(&mut self, registry: &Registry) {
        let known = |name: &Arc<str>| registry.domains.binary_search_by(|d| d.name.cmp(name)).is_ok();
        self.domains.retain(|name, _| known(name));
    }

    fn sum_up(&self, registry: &Registry, live: &Live, planned: &Live, now: MonoTime) -> Plan {
        let offers: Vec<Offer> = planned.mirrors.iter().map(|m| m.offer).collect();
        let changed = live.mirrors.iter().zip(&offers).any(|(l, o)| l.offer != *o);
        let states = registry.domains.iter().filter_map(|d| self.domains.get(&d.name));
        let planning: Vec<&Domain> = states.filter(|d| d.planning()).collect();
        let users: f32 = planning.iter().map(|d| d.figures.users).sum();
        let moved = planning.iter().filter(|d| d.planned_at(now)).map(|d| d.figures.moved * d.figures.users);
        Plan {
            offers,
            changed,
            moved: moved.sum::<f32>() / users.max(f32::MIN_POSITIVE),
            domains: planning.iter().map(|d| d.figures.clone()).collect(),
        }
    }

    /// When to plan next, if nothing changes before; `None` while there is nothing to decide.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.domains.values().filter_map(|d| d.due).min()
    }
}
