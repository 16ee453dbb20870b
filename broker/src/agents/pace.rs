//! The beacons' period, stretched while taking them in costs more than it may. Only what authenticated
//! beacons cost counts: a flood of others would not become less by asking agents for fewer.
//!
//! ```text
//!            over budget, or beacons dropped: ×2, up to ×16
//!   usual ──────────────────────────────────────────────▶ stretched
//!     ▲                                                       │
//!     └──── half would do with room to spare for CALM: ÷2 ────┘
//! ```
//!
//! When it grows, the fleet is patient first and agents are told then; when it shrinks, agents are told
//! first and the fleet stays patient until they have heard.

use super::beacons::BeaconKeys;
use crate::clock::mono_now;
use crate::driver::{DriverHandle, DriverInput};
use crate::telemetry::{AgentMetrics, IntakeMetrics};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long there must be room to spare before the period shrinks.
const CALM: Duration = Duration::from_secs(30);
/// Largest stretch.
const MOST: u32 = 16;
/// Share of the budget that half the period may take.
const SPARE: f64 = 0.6;
/// How long agents may take to hear of a shorter period.
const HEARD: Duration = Duration::from_secs(5);

/// Decides on the period.
#[derive(Debug)]
struct Pace {
    budget: f64,
    factor: u32,
    spare_since: Option<Instant>,
}

impl Pace {
    fn new(budget: f64) -> Pace {
        Pace { budget, factor: 1, spare_since: None }
    }

    /// Takes in how much of a core the last second took, and whether beacons were dropped in it; the
    /// factor from now on.
    fn look(&mut self, busy: f64, dropped: bool, now: Instant) -> u32 {
        if dropped || busy > self.budget {
            self.factor = (self.factor * 2).min(MOST);
            self.spare_since = None;
            return self.factor;
        }
        if self.factor == 1 || busy * 2.0 > self.budget * SPARE {
            self.spare_since = None;
            return self.factor;
        }
        let since = *self.spare_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CALM {
            self.factor /= 2;
            self.spare_since = None;
        }
        self.factor
    }
}

/// What the task works with.
pub struct PaceParts {
    /// Told to agents through their sessions.
    pub keys: Arc<BeaconKeys>,
    /// Told to the fleet.
    pub driver: DriverHandle,
    /// Counts dropped beacons.
    pub agents: Arc<AgentMetrics>,
    /// Counts time.
    pub intake: IntakeMetrics,
    /// Most of a core that taking in beacons may take, 0..=1.
    pub budget: f64,
}

/// Keeps the period for as long as the broker serves.
pub async fn run(parts: PaceParts) {
    let usual = parts.keys.period();
    let mut pace = Pace::new(parts.budget);
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut seconds, mut dropped, mut at) = (0.0, 0, mono_now());
    parts.intake.period.set(usual.as_secs_f64());
    loop {
        tick.tick().await;
        let (now, spent, lost) = (mono_now(), parts.intake.seconds.get(), parts.agents.beacons_dropped.get());
        let busy = (spent - seconds) / now.saturating_duration_since(at).as_secs_f64().max(0.001);
        let period = usual * pace.look(busy, lost > dropped, now);
        let dropped_now = lost - dropped;
        (seconds, dropped, at) = (spent, lost, now);
        change(&parts, period, busy, dropped_now).await;
    }
}

async fn change(parts: &PaceParts, period: Duration, busy: f64, dropped: u64) {
    let before = parts.keys.period();
    if period == before {
        return;
    }
    let (millis, percent) = (period.as_millis(), (busy * 100.0).round());
    parts.intake.period.set(period.as_secs_f64());
    if period > before {
        tracing::warn!(
            period_ms = millis,
            percent,
            dropped,
            "beacons are asked for less often: they cost too much of a core, or some found no room"
        );
        parts.driver.send(DriverInput::BeaconPeriod(period)).await;
        parts.keys.set_period(period);
    } else {
        tracing::info!(period_ms = millis, percent, "beacons are asked for more often again");
        parts.keys.set_period(period);
        tokio::time::sleep(HEARD + before * 3).await;
        parts.driver.send(DriverInput::BeaconPeriod(period)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_grows_at_once_and_shrinks_after_a_calm() {
        let start = mono_now();
        let at = |s| start + Duration::from_secs(s);
        let mut pace = Pace::new(0.5);
        assert_eq!(pace.look(0.4, false, at(0)), 1);
        assert_eq!(pace.look(0.6, false, at(1)), 2);
        assert_eq!(pace.look(0.1, true, at(2)), 4, "dropped");
        // Half the period would be within the budget, but not well within.
        for second in 3..100 {
            assert_eq!(pace.look(0.2, false, at(second)), 4);
        }
        for second in 100..130 {
            assert_eq!(pace.look(0.1, false, at(second)), 4);
        }
        assert_eq!(pace.look(0.1, false, at(130)), 2);
        assert_eq!(pace.look(0.1, false, at(131)), 2, "and again after another calm");
        for second in 132..200 {
            pace.look(0.9, false, at(second));
        }
        assert_eq!(pace.factor, MOST);
    }
}
