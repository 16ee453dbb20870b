//! What was measured, and the model made of it from time to time.

use super::field::Kernel;
use super::fit;
use super::missed::Missed;
use super::model::Model;
use super::networks::{Ballot, Measured, Networks};
use super::observation::{Coarseness, Observation, Target};
use super::resolvers::Resolvers;
use super::routes::{Access, Routes, Tolls};
use crate::geo::Place;
use crate::time::UnixMillis;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest round trip that is believed, in milliseconds.
const MAX_RTT_MS: f32 = 10_000.0;
/// Most targets that are remembered.
const MAX_TARGETS: usize = 100_000;
/// Most pairs of nodes that are remembered.
const MAX_PAIRS: usize = 1_000_000;
/// Probes between one pair of nodes that are remembered.
const PROBES: usize = 3;

/// How much is remembered, and how coarse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerConfig {
    /// Of client networks.
    pub coarseness: Coarseness,
    /// Most client networks remembered.
    pub max_networks: usize,
    /// What was not measured again for this long is forgotten.
    pub keep: Duration,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        LearnerConfig {
            coarseness: Coarseness::default(),
            max_networks: 100_000,
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Why a measurement was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelievable {
    /// Not a positive number of milliseconds.
    #[error("the round trip is not a positive number of milliseconds")]
    NotANumber,
    /// Longer than anyone waits.
    #[error("the round trip is longer than {} s", MAX_RTT_MS / 1000.0)]
    TooLong,
    /// Too many targets are remembered.
    #[error("more than {MAX_TARGETS} targets were measured")]
    TooManyTargets,
    /// A node measured itself.
    #[error("from a node to itself")]
    Itself,
}

impl Unbelievable {
    /// Label for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Unbelievable::NotANumber => "not_a_number",
            Unbelievable::TooLong => "too_long",
            Unbelievable::TooManyTargets => "too_many_targets",
            Unbelievable::Itself => "itself",
        }
    }
}

/// Where everything is, at the moment of a fit.
pub struct World<'a> {
    /// Places of targets.
    pub sites: &'a HashMap<Target, Place>,
    /// Places of addresses.
    pub locate: &'a dyn Fn(IpAddr) -> Place,
}

/// Last probes between two nodes: milliseconds and when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Probes(Vec<(f32, UnixMillis)>);

/// What survives a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    targets: Vec<Target>,
    networks: Networks,
    between: HashMap<(u32, u32), Probes>,
    resolvers: Resolvers,
}

/// Remembers measurements and fits models to them.
#[derive(Debug)]
pub struct Learner {
    config: LearnerConfig,
    routes: Arc<Routes>,
    kernel: Kernel,
    numbers: HashMap<Target, u32>,
    memory: Memory,
    missed: Missed,
    fits: u64,
}

impl Learner {
    /// A learner that goes on with what was remembered before.
    pub fn new(config: LearnerConfig, routes: Arc<Routes>, memory: Memory) -> Learner {
        let mut memory = memory;
        // What was kept finer than it may be now goes.
        memory.networks.coarsen(config.coarseness);
        memory.resolvers.coarsen(config.coarseness);
        let numbers = memory.targets.iter().zip(0..).map(|(t, i)| (t.clone(), i)).collect();
        Learner {
            config,
            kernel: Kernel::new(&routes),
            routes,
            numbers,
            memory,
            missed: Missed::default(),
            fits: 0,
        }
    }

    /// What is to survive a restart.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Client networks remembered.
    pub fn network_count(&self) -> usize {
        self.memory.networks.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        let memory = &self.memory;
        let nothing = memory.networks.len() == 0 && memory.between.is_empty() && memory.resolvers.is_empty();
        nothing && self.missed.is_empty()
    }

    /// Takes a measurement between a client network and a target.
    ///
    /// # Errors
    /// [`Unbelievable`] says why it was not taken.
    pub fn observe(&mut self, observation: &Observation, now: UnixMillis) -> Result<(), Unbelievable> {
        believable(observation.rtt_ms)?;
        let target = self.number(&observation.target)?;
        let ballot = Ballot {
            target,
            rtt_ms: observation.rtt_ms,
            reporter: observation.reporter,
            source: observation.source,
            users: observation.users,
        };
        let network = self.config.coarseness.network(observation.network.addr());
        self.missed.reached(network, target, observation.reporter, now);
        self.memory.networks.vote(network, ballot, self.config.max_networks, now);
        Ok(())
    }

    /// A client of a network says that it does not reach a target: it is demoted for that network alone.
    ///
    /// # Errors
    /// [`Unbelievable::TooManyTargets`].
    pub fn missed(
        &mut self,
        network: IpNet,
        target: &Target,
        reporter: u64,
        now: UnixMillis,
    ) -> Result<(), Unbelievable> {
        let target = self.number(target)?;
        self.missed.failed(self.config.coarseness.network(network.addr()), target, reporter, now);
        Ok(())
    }

    /// A target is out of reach for everybody: what clients said of it says nothing of their networks.
    pub fn forgive(&mut self, target: &Target) {
        if let Some(number) = self.numbers.get(target) {
            self.missed.forgive(*number);
        }
    }

    /// Whether clients lately said that they do not reach something: that is forgotten within minutes.
    pub fn misses(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Takes a node's measurement of another.
    ///
    /// # Errors
    /// [`Unbelievable`] says why it was not taken.
    pub fn probed(
        &mut self,
        from: &Target,
        to: &Target,
        rtt_ms: f32,
        now: UnixMillis,
    ) -> Result<(), Unbelievable> {
        believable(rtt_ms)?;
        if from == to {
            return Err(Unbelievable::Itself);
        }
        let pair = (self.number(from)?, self.number(to)?);
        if self.memory.between.len() >= MAX_PAIRS && !self.memory.between.contains_key(&pair) {
            self.forget_pairs();
        }
        let probes = &mut self.memory.between.entry(pair).or_default().0;
        if probes.len() >= PROBES {
            probes.remove(0);
        }
        probes.push((rtt_ms, now));
        Ok(())
    }

    /// Forgets the sixteenth of the pairs that was probed longest ago.
    fn forget_pairs(&mut self) {
        let newest = |probes: &Probes| probes.0.iter().map(|p| p.1).max();
        let mut times: Vec<_> = self.memory.between.values().map(newest).collect();
        let at = times.len() / 16;
        let Some((_, limit, _)) = (at < times.len()).then(|| times.select_nth_unstable(at)) else { return };
        let limit = *limit;
        self.memory.between.retain(|_, probes| newest(probes) > limit);
    }

    /// Notes that a reporter's network is behind a resolver.
    pub fn behind(&mut self, resolver: IpAddr, network: IpNet, reporter: u64, now: UnixMillis) {
        let network = self.config.coarseness.network(network.addr());
        self.memory.resolvers.tie(resolver, network, reporter, now);
    }

    /// Fits a model to what is remembered; what is stale, or of targets that no longer exist, is
    /// forgotten first.
    pub fn fit(&mut self, world: &World<'_>, now: UnixMillis) -> Model {
        self.forget(world, now);
        // Every mirror has a number, so that a client's first measurement of it can be told apart.
        for target in world.sites.keys() {
            // One too many is measured by nobody.
            let _ = self.number(target);
        }
        self.fits += 1;
        fit::fit(self, world, now)
    }

    fn forget(&mut self, world: &World<'_>, now: UnixMillis) {
        let since =
            UnixMillis(now.0.saturating_sub(u64::try_from(self.config.keep.as_millis()).unwrap_or(u64::MAX)));
        let memory = &mut self.memory;
        let known: Vec<bool> = memory.targets.iter().map(|t| world.sites.contains_key(t)).collect();
        let known = |t: u32| known.get(t as usize).copied().unwrap_or(false);
        memory.networks.prune(known, now, self.config.keep);
        self.missed.prune(known, now);
        memory.between.retain(|(from, to), probes| {
            probes.0.retain(|(_, at)| *at >= since);
            known(*from) && known(*to) && !probes.0.is_empty()
        });
        memory.resolvers.prune(since);
        if memory.targets.iter().any(|t| !world.sites.contains_key(t)) {
            self.renumber(|t| world.sites.contains_key(t));
        }
    }

    /// Drops the numbers of targets that are not kept.
    fn renumber(&mut self, keep: impl Fn(&Target) -> bool) {
        let old = std::mem::take(&mut self.memory.targets);
        let mut new = Vec::with_capacity(old.len());
        for target in old {
            new.push(keep(&target).then(|| {
                self.memory.targets.push(target);
                self.memory.targets.len() as u32 - 1
            }));
        }
        let number = |t: u32| new.get(t as usize).copied().flatten();
        self.memory.networks.renumber(number);
        self.missed.renumber(number);
        let between = std::mem::take(&mut self.memory.between);
        let moved = between.into_iter().filter_map(|((a, b), p)| Some(((number(a)?, number(b)?), p)));
        self.memory.between = moved.collect();
        self.numbers = self.memory.targets.iter().zip(0..).map(|(t, i)| (t.clone(), i)).collect();
    }

    fn number(&mut self, target: &Target) -> Result<u32, Unbelievable> {
        if let Some(number) = self.numbers.get(target) {
            return Ok(*number);
        }
        if self.memory.targets.len() >= MAX_TARGETS {
            return Err(Unbelievable::TooManyTargets);
        }
        // Bounded just now, so it fits.
        let number = self.memory.targets.len() as u32;
        self.memory.targets.push(target.clone());
        self.numbers.insert(target.clone(), number);
        Ok(number)
    }
}

/// What a fit reads.
impl Learner {
    pub(super) fn targets(&self) -> &[Target] {
        &self.memory.targets
    }

    pub(super) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    pub(super) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub(super) fn fits(&self) -> u64 {
        self.fits
    }

    pub(super) fn coarseness(&self) -> Coarseness {
        self.config.coarseness
    }

    /// From, to, milliseconds (the median of the last probes), weight.
    pub(super) fn between(&self, now: UnixMillis) -> impl Iterator<Item = (u32, u32, f32, f32)> {
        self.memory.between.iter().filter_map(move |((from, to), probes)| {
            let mut ms: Vec<f32> = probes.0.iter().map(|p| p.0).collect();
            ms.sort_by(f32::total_cmp);
            let newest = probes.0.iter().map(|p| p.1).max()?;
            let days = now.0.saturating_sub(newest.0) as f32 / (24.0 * 3_600_000.0);
            Some((*from, *to, *ms.get(ms.len() / 2)?, (-days).exp2()))
        })
    }

    /// Network, users, values.
    pub(super) fn measured(&self, now: UnixMillis) -> impl Iterator<Item = (IpNet, u32, Vec<Measured>)> {
        self.memory.networks.measured(now, self.config.keep)
    }

    /// Network, targets out of its reach.
    pub(super) fn out_of_reach(&self, now: UnixMillis) -> impl Iterator<Item = (IpNet, Box<[u32]>)> {
        self.missed.by_network(now)
    }

    pub(super) fn middles(&self, reach: impl Fn(IpNet) -> Option<(Access, Tolls)>) -> Vec<(IpNet, IpAddr)> {
        self.memory.resolvers.middles(reach)
    }
}

fn believable(rtt_ms: f32) -> Result<(), Unbelievable> {
    match rtt_ms {
        ms if !(ms.is_finite() && ms > 0.0) => Err(Unbelievable::NotANumber),
        ms if ms > MAX_RTT_MS => Err(Unbelievable::TooLong),
        _ => Ok(()),
    }
}
