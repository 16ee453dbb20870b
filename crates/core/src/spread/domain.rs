//! One domain from plan to plan: who came and went, what is planned, what it comes to.

use super::config::{Marks, SpreadConfig};
use super::demand::{At, Demand, Memory, Sample};
use super::figures::DomainFigures;
use super::mirror::MirrorState;
use super::placing::{Patience, Placed, Placing, Request, entry};
use super::room::Room;
use crate::health::Family;
use crate::live::{Live, LiveMirror, Offer};
use crate::map::Map;
use crate::registry::{DomainIndex, Registry};
use crate::time::MonoTime;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How fast users per unit of demand follow the reports: half the way in this time.
const SCALE: Duration = Duration::from_secs(10);
/// Figures of the last minute fade with this.
const MINUTE: Duration = Duration::from_secs(60);

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) config: &'a SpreadConfig,
    pub(super) registry: &'a Registry,
    pub(super) map: &'a Map,
    pub(super) domain: DomainIndex,
    pub(super) memory: Memory,
    pub(super) now: MonoTime,
    /// Whether mirrors that become eligible now start slowly.
    pub(super) warms: bool,
}

/// Everything of one domain.
#[derive(Debug, Default)]
pub(super) struct Domain {
    mirrors: Vec<MirrorState>,
    offers: Vec<Offer>,
    pub(super) demand: Demand,
    /// Users per unit of demand; 0 while unknown.
    scale: f64,
    planned: Option<MonoTime>,
    /// Until then users of a mirror that went away are on their way, and reports lack them.
    unsettled: Option<MonoTime>,
    /// When to plan again; `None` where nothing is to be decided.
    pub(super) due: Option<MonoTime>,
    pub(super) figures: DomainFigures,
}

/// The requests of a plan, and which networks each stands for.
struct Requests<'m> {
    list: Vec<Request<'m>>,
    networks: Vec<(IpAddr, usize)>,
}

/// The pass that is kept.
struct Passed {
    rooms: Vec<Room>,
    placed: Placed,
    /// It is about the users of mirrors that went away.
    failing: bool,
}

impl Domain {
    /// Whether demand is of any use here.
    pub(super) fn planning(&self) -> bool {
        self.due.is_some()
    }

    /// Whether it was planned at this time.
    pub(super) fn planned_at(&self, now: MonoTime) -> bool {
        self.planned == Some(now)
    }

    /// Plans anew if there is reason to; `live` is a copy to try offers on.
    pub(super) fn plan(&mut self, inputs: &Inputs<'_>, live: &mut Live) {
        let changed = self.follow(inputs, live);
        let declared = self.mirrors.iter().any(|m| m.eligible && m.capacity > 0);
        if !declared && self.mirrors.iter().all(|m| m.cold_since.is_none()) {
            self.rest();
            return;
        }
        if !changed && self.due.is_some_and(|due| inputs.now < due) {
            return;
        }
        let elapsed = self.planned.map_or(inputs.config.period, |last| inputs.now.since(last));
        let samples = self.demand.samples(inputs.now, &inputs.memory);
        self.follow_reports(inputs, &samples, elapsed);
        let requests = self.requests(inputs, live, &samples);
        let passed = self.place(inputs, live, &requests.list, elapsed);
        self.settle(inputs, &requests, &passed, elapsed);
    }

    /// Nothing is to be decided: offers are whole.
    fn rest(&mut self) {
        self.offers.clear();
        self.offers.resize(self.mirrors.len(), Offer::default());
        if self.due.take().is_some() {
            (self.demand, self.figures) = Default::default();
            (self.scale, self.planned, self.unsettled) = (0.0, None, None);
        }
    }

    /// Takes over the mirrors and what is known of them. Whether a plan must follow at once.
    fn follow(&mut self, inputs: &Inputs<'_>, live: &Live) -> bool {
        let renamed = self.renumber(inputs, live);
        let others = |mirrors: &[MirrorState]| mirrors.iter().filter(|m| m.eligible).count();
        let start = inputs.registry.domain(inputs.domain).mirrors.start as usize;
        let mut changed = renamed;
        // One that comes back when nobody else is there is needed whole.
        let warms = inputs.warms && others(&self.mirrors) > 0;
        for (mirror, live) in self.mirrors.iter_mut().zip(live.mirrors.iter().skip(start)) {
            changed |= mirror.observe(live, inputs.now, warms);
            mirror.warm_up(inputs.config, inputs.now);
        }
        if others(&self.mirrors) == 1 {
            self.mirrors.iter_mut().for_each(|m| m.cold_since = None);
        }
        changed
    }

    /// Keeps what is known by name when the registry has other mirrors.
    fn renumber(&mut self, inputs: &Inputs<'_>, live: &Live) -> bool {
        let names = || inputs.registry.mirrors_of(inputs.domain).map(|(i, m)| (i, &m.name));
        if self.mirrors.iter().map(|m| &m.name).eq(names().map(|(_, name)| name)) {
            return false;
        }
        let before: Vec<MirrorState> = std::mem::take(&mut self.mirrors);
        let by_name: HashMap<&Arc<str>, usize> =
            before.iter().enumerate().map(|(at, m)| (&m.name, at)).collect();
        let mut to: Vec<At> = vec![None; before.len()];
        for ((i, name), slot) in names().zip(0..) {
            let known = by_name.get(name).copied();
            if let Some(old) = known {
                to[old] = Some(slot);
            }
            let unknown = LiveMirror::default();
            let fresh = || MirrorState::new(name.clone(), live.mirrors.get(i.0 as usize).unwrap_or(&unknown));
            self.mirrors.push(known.map_or_else(fresh, |old| before[old].clone()));
        }
        self.demand.renumber(&to);
        true
    }

    /// Lets scale, sheds and weights follow what agents report.
    fn follow_reports(&mut self, inputs: &Inputs<'_>, samples: &[Sample], elapsed: Duration) {
        self.rescale(inputs.now, samples, elapsed);
        let sampled = !samples.is_empty();
        let rates = inputs.config.rates.sensible();
        for mirror in &mut self.mirrors {
            mirror.feed_back(inputs.config, sampled, elapsed);
            mirror.weigh(&rates, sampled, inputs.now, elapsed);
        }
    }

    /// How many users a unit of demand is, by the mirrors that report and are still there.
    fn rescale(&mut self, now: MonoTime, samples: &[Sample], elapsed: Duration) {
        let reports = |m: &MirrorState| m.eligible && (m.capacity > 0 || m.connections > 0);
        let users: f64 = self.mirrors.iter().filter(|m| reports(m)).map(|m| f64::from(m.connections)).sum();
        let there = |at: At| at.and_then(|at| self.mirrors.get(at as usize)).is_some_and(reports);
        let total: f64 = samples.iter().map(|s| s.weight).sum();
        let seen: f64 = samples.iter().filter(|s| there(s.at)).map(|s| s.weight).sum();
        // As long as it is not known where most of them are, all of them are there.
        let seen = if seen > total / 2.0 { seen } else { total };
        if seen <= 0.0 || !seen.is_finite() {
            return;
        }
        let scale = users / seen;
        if scale < self.scale && self.unsettled.is_some_and(|until| now < until) {
            return;
        }
        let followed = (-elapsed.as_secs_f64() / SCALE.as_secs_f64()).exp2();
        let kept = if self.scale > 0.0 { followed } else { 0.0 };
        self.scale = scale + (self.scale - scale) * kept;
    }

    /// The demand by parts, in descending order of their turns.
    fn requests<'m>(&self, inputs: &Inputs<'m>, live: &Live, samples: &[Sample]) -> Requests<'m> {
        let start = inputs.registry.domain(inputs.domain).mirrors.start as usize;
        let eligible =
            |at: u32, family| live.mirrors.get(start + at as usize).is_some_and(|m| m.eligible(family));
        let mut found: Vec<(IpAddr, ipnet::IpNet, Request<'m>)> = Vec::with_capacity(samples.len());
        for sample in samples {
            let Some(view) = inputs.map.view(inputs.domain, sample.network) else { continue };
            let part = view.spread();
            let family = if sample.network.is_ipv4() { Family::V4 } else { Family::V6 };
            let gone = |at: At| at.is_some_and(|at| !eligible(at, family));
            let left = if gone(sample.from) { sample.staying } else { 0.0 };
            let displaced = if gone(sample.at) { 1.0 } else { left };
            let users = sample.weight * self.scale;
            let Sample { at, from, staying, .. } = *sample;
            let request = Request { turn: part.turn(), view, family, users, at, from, staying, displaced };
            found.push((sample.network, part.cell, request));
        }
        found.sort_by(|a, b| b.2.turn.cmp(&a.2.turn).then(a.1.cmp(&b.1)).then(a.0.cmp(&b.0)));
        let mut requests = Requests { list: Vec::with_capacity(found.len()), networks: Vec::new() };
        let mut last = None;
        for (network, cell, request) in found {
            match requests.list.last_mut() {
                Some(same) if last == Some(cell) => same.users += request.users,
                _ => requests.list.push(request),
            }
            last = Some(cell);
            requests.networks.push((network, requests.list.len() - 1));
        }
        requests
    }

    /// Places the requests with as much patience as there is room.
    fn place(
        &mut self,
        inputs: &Inputs<'_>,
        live: &mut Live,
        requests: &[Request<'_>],
        elapsed: Duration,
    ) -> Passed {
        let mut rooms = self.rooms(inputs, requests, elapsed);
        let failing = requests.iter().any(|r| r.displaced >= 1.0);
        let mut pass = |patience: Patience| {
            let (registry, domain) = (inputs.registry, inputs.domain);
            let placing =
                Placing { registry, domain, live: &mut *live, rooms: &mut rooms, patience, failing };
            let placed = placing.run(requests);
            Passed { rooms: rooms.clone(), placed, failing }
        };
        let mut best = pass(Patience::Gradual);
        for patience in [Patience::AtOnce, Patience::None] {
            if best.placed.crowded <= 0.0 {
                break;
            }
            let other = pass(patience);
            if other.placed.crowded < best.placed.crowded {
                best = other;
            }
        }
        best
    }

    fn rooms(&self, inputs: &Inputs<'_>, requests: &[Request<'_>], elapsed: Duration) -> Vec<Room> {
        let held = self.held(requests);
        let marks = self.marks(inputs.config, requests);
        let free: Vec<f64> = self.mirrors.iter().filter_map(MirrorState::free).collect();
        let most = free.iter().copied().fold(0.0, f64::max);
        let mean = free.iter().sum::<f64>() / free.len().max(1) as f64;
        let room = |(mirror, held): (&MirrorState, f64)| {
            let mut room = mirror.room(inputs.config, inputs.now, held, elapsed);
            room.marks = marks;
            // Of one that declares nothing, the mean is assumed.
            let share = mirror.free().unwrap_or(mean) / most.max(f64::MIN_POSITIVE);
            room.withheld = if most > 0.0 { Offer::share(1.0 - share as f32) } else { 0 };
            room
        };
        self.mirrors.iter().zip(held).map(room).collect()
    }

    /// Users that each mirror has, as reported or else as planned, and those who come whatever is planned
    /// now: users of a mirror that went away whose resolvers keep the answer of the last plan.
    fn held(&self, requests: &[Request<'_>]) -> Vec<f64> {
        let mut planned = vec![0.0; self.mirrors.len()];
        let mut coming = vec![0.0; self.mirrors.len()];
        let add = |to: &mut [f64], at: At, users: f64| {
            if let Some(to) = at.and_then(|at| to.get_mut(at as usize)) {
                *to += users;
            }
        };
        for request in requests {
            add(&mut planned, request.at, request.users * (1.0 - request.staying));
            add(&mut planned, request.from, request.users * request.staying);
            add(&mut coming, request.at, request.users * request.displaced);
        }
        let held = |(mirror, (planned, coming)): (&MirrorState, (f64, f64))| match mirror.connections {
            _ if !mirror.eligible => 0.0,
            0 => planned + coming,
            reported => f64::from(reported) + coming,
        };
        self.mirrors.iter().zip(planned.into_iter().zip(coming)).map(held).collect()
    }

    /// Marks for the demand as a whole.
    fn marks(&self, config: &SpreadConfig, requests: &[Request<'_>]) -> Marks {
        let marks = config.marks.sensible();
        let eligible = || self.mirrors.iter().filter(|m| m.eligible);
        if eligible().any(|m| m.capacity == 0) {
            return marks;
        }
        let capacity: f64 = eligible().map(|m| f64::from(m.capacity)).sum();
        let users: f64 = requests.iter().map(|r| r.users).sum();
        marks.under(users / capacity.max(1.0))
    }

    /// Keeps what was planned.
    fn settle(&mut self, inputs: &Inputs<'_>, requests: &Requests<'_>, passed: &Passed, elapsed: Duration) {
        let (now, config) = (inputs.now, inputs.config);
        self.offers = passed.rooms.iter().map(Room::offer).collect();
        for (mirror, room) in self.mirrors.iter_mut().zip(&passed.rooms) {
            mirror.planned = room.work.used;
            // What is closed while displaced users arrive is closed for them only.
            if !passed.failing || !mirror.eligible {
                mirror.closed = room.work.closed;
            }
        }
        for (network, at) in &requests.networks {
            let (Some(request), Some(seat)) = (requests.list.get(*at), passed.placed.seats.get(*at)) else {
                continue;
            };
            // Until the displaced have arrived, the others are where they are.
            if !passed.failing || request.displaced > 0.0 || request.at.is_none() {
                self.demand.sent(*network, seat.mirrors.first().copied(), now, &inputs.memory);
            }
        }
        self.planned = Some(now);
        self.unsettled = if passed.failing { Some(now + config.settle) } else { self.unsettled };
        let often = self.mirrors.iter().any(|m| m.busy(config));
        self.due = Some(match (passed.failing, often) {
            (true, _) => now + config.settle,
            (false, true) => now + config.period,
            (false, false) => now + config.period * 3,
        });
        self.figures = self.figure(inputs, requests, &passed.placed, elapsed);
    }

    fn figure(
        &self,
        inputs: &Inputs<'_>,
        requests: &Requests<'_>,
        placed: &Placed,
        elapsed: Duration,
    ) -> DomainFigures {
        let total: f64 = requests.list.iter().map(|r| r.users).sum();
        let sum = |counts: &dyn Fn(&Request<'_>) -> bool| {
            let seats = requests.list.iter().zip(&placed.seats);
            let moved =
                seats.filter(|(r, s)| r.at.is_some() && s.mirrors.first() != r.at.as_ref() && counts(r));
            let share = moved.map(|(r, _)| r.users).sum::<f64>() / total.max(f64::MIN_POSITIVE);
            // An empty sum is negative zero.
            share as f32 + 0.0
        };
        let rebalanced = sum(&|r| r.displaced <= 0.0);
        let left = (-elapsed.as_secs_f32() / MINUTE.as_secs_f32()).exp();
        DomainFigures {
            domain: inputs.registry.domain(inputs.domain).name.clone(),
            users: total as f32,
            samples: requests.networks.len() as u32,
            moved: sum(&|_| true),
            rebalanced,
            rebalanced_a_minute: self.figures.rebalanced_a_minute * left + rebalanced,
            crowded: placed.crowded as f32,
            shedding: self.offers.iter().filter(|o| o.shed > 0).count() as u32,
            cold: self.mirrors.iter().filter(|m| m.cold_since.is_some()).count() as u32,
            loads: self.mirrors.iter().map(|m| m.planned as f32).collect(),
        }
    }

    /// Shows its offers to queries.
    pub(super) fn show(&self, registry: &Registry, domain: DomainIndex, live: &mut Live) {
        for (offer, slot) in self.offers.iter().zip(0..) {
            if let Some(live) = entry(live, registry, domain, slot) {
                live.offer = *offer;
            }
        }
    }
}
