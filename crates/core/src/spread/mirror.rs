//! What the allocator remembers of one mirror: when it came back, what it sheds, what it weighs.

use super::config::{Rates, SpreadConfig};
use super::room::{Before, Room};
use super::weight::Weight;
use crate::live::{LiveMirror, Offer};
use crate::time::MonoTime;
use std::sync::Arc;
use std::time::Duration;

/// A load that was this share of now's or more is not on its way down.
const FALLING: f64 = 0.99;
/// The load that the plan expects explains the reported one if it is this share of it.
const EXPLAINED: f64 = 0.9;
/// What reported loads are compared with fades by half in this time.
const TREND: Duration = Duration::from_secs(60);

/// One mirror, from plan to plan.
#[derive(Clone, Debug)]
pub(super) struct MirrorState {
    pub(super) name: Arc<str>,
    pub(super) eligible: bool,
    /// Since when it gets its share step by step.
    pub(super) cold_since: Option<MonoTime>,
    /// Connections it can carry; 0 when not declared.
    pub(super) capacity: u32,
    /// Connections it reports.
    pub(super) connections: u32,
    /// What these were of late.
    trend: f64,
    /// Share shed because it reports more than is planned for.
    floor: f32,
    /// Where the last plan closed it.
    pub(super) closed: u16,
    /// Users the last plan gives it.
    pub(super) planned: f64,
    weight: Weight,
}

impl MirrorState {
    /// As first seen.
    pub(super) fn new(name: Arc<str>, live: &LiveMirror) -> MirrorState {
        MirrorState {
            name,
            eligible: live.eligible_any(),
            cold_since: None,
            capacity: live.load.capacity,
            connections: live.load.connections,
            trend: f64::from(live.load.connections),
            floor: 0.0,
            closed: 0,
            planned: 0.0,
            weight: Weight::default(),
        }
    }

    /// Takes over what is known of it now. Whether something changed that a plan must follow at once.
    pub(super) fn observe(&mut self, live: &LiveMirror, now: MonoTime, warms: bool) -> bool {
        let eligible = live.eligible_any();
        let changed = eligible != self.eligible || live.load.capacity != self.capacity;
        if eligible && !self.eligible {
            self.cold_since = warms.then_some(now);
            (self.floor, self.closed, self.weight) = (0.0, 0, Weight::default());
            self.trend = f64::from(live.load.connections);
        }
        if !eligible {
            self.cold_since = None;
        }
        (self.eligible, self.capacity) = (eligible, live.load.capacity);
        self.connections = live.load.connections;
        changed
    }

    fn declared(&self) -> Option<f64> {
        (self.capacity > 0).then(|| f64::from(self.capacity))
    }

    /// Sheds more, step by step, while more connections are reported than the high mark allows and than
    /// the plan explains; less when there is room again. This is all there is where nobody knows where
    /// users come from. Users stay for a while, so a load that falls is left to fall.
    pub(super) fn feed_back(&mut self, config: &SpreadConfig, sampled: bool, elapsed: Duration) {
        let left = (-elapsed.as_secs_f64() / TREND.as_secs_f64()).exp2();
        let reported = f64::from(self.connections);
        let rising = reported >= FALLING * self.trend;
        self.trend = reported + (self.trend - reported) * left;
        let (Some(capacity), true) = (self.declared(), self.eligible) else {
            self.floor = 0.0;
            return;
        };
        let (marks, rates) = (config.marks.sensible(), config.rates.sensible());
        let minutes = elapsed.as_secs_f32() / 60.0;
        let explained = sampled && self.planned >= EXPLAINED * reported;
        // Where demand is known, this is for what the plan does not see only.
        let (enough, room) = if sampled { (marks.hard, marks.high) } else { (marks.high, marks.low) };
        if reported > capacity * f64::from(enough) && rising && !explained {
            let kept = capacity * f64::from(marks.refill) / reported;
            let wanted = 1.0 - (1.0 - self.floor) * kept as f32;
            self.floor = wanted.min(self.floor + rates.rise * minutes).clamp(0.0, 1.0);
        } else if explained || reported < capacity * f64::from(room) {
            self.floor = (self.floor - rates.fall * minutes).max(0.0);
        }
    }

    /// Lets the weight follow the free capacity.
    pub(super) fn weigh(&mut self, rates: &Rates, sampled: bool, now: MonoTime, elapsed: Duration) {
        let Some(capacity) = self.declared() else { return };
        let load = if sampled && self.planned > 0.0 { self.planned } else { f64::from(self.connections) };
        self.weight.follow((capacity, load), rates, now, elapsed);
    }

    /// The free capacity its weight knows, of those that declare any.
    pub(super) fn free(&self) -> Option<f64> {
        self.weight.free().filter(|_| self.capacity > 0 && self.eligible)
    }

    /// For a pass: `held` users, after `elapsed` since the last plan.
    pub(super) fn room(&self, config: &SpreadConfig, now: MonoTime, held: f64, elapsed: Duration) -> Room {
        let rates = config.rates.sensible();
        let minutes = elapsed.as_secs_f32() / 60.0;
        let before = Before {
            closed: self.closed,
            rise_to: self.closed.saturating_add(Offer::share(rates.rise * minutes)),
            fall_to: self.closed.saturating_sub(Offer::share(rates.fall * minutes)),
            held,
        };
        Room {
            capacity: self.declared(),
            marks: config.marks.sensible(),
            before,
            floor: Offer::share(self.floor),
            cold: self.cold_since.map_or(0, |since| Offer::share(1.0 - config.warmth(now.since(since)))),
            ..Room::default()
        }
    }

    /// Ends a slow start that is over.
    pub(super) fn warm_up(&mut self, config: &SpreadConfig, now: MonoTime) {
        self.cold_since = self.cold_since.filter(|since| now.since(*since) < config.slow_start);
    }

    /// Whether it is near enough to its marks, or on its way, to look at it often.
    pub(super) fn busy(&self, config: &SpreadConfig) -> bool {
        let load = self.planned.max(f64::from(self.connections));
        let near = load > f64::from(self.capacity) * f64::from(config.marks.sensible().low) / 2.0;
        self.eligible
            && (self.cold_since.is_some() || self.closed > 0 || self.floor > 0.0 || self.capacity > 0 && near)
    }
}
