//! The free capacity that a mirror's weight among equals follows, slowly.
//!
//! A weight changes loads, and loads the free capacity: where parts are large, a step too many
//! brings back what the step before sent away. So a weight that turns back waits, twice as long each
//! time.

use super::config::Rates;
use crate::time::MonoTime;
use std::time::Duration;

/// Least share of its capacity that counts as free: near the marks a little load more would change
/// weights a lot, and there sheds decide.
const LEAST_FREE: f64 = 0.3;
/// Shortest wait after turning back, …
const SHORTEST: Duration = Duration::from_secs(120);
/// … and longest.
const LONGEST: Duration = Duration::from_secs(7200);

/// Of one mirror.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// Users; 0 while unknown.
    free: f64,
    /// Which way it went last.
    rising: Option<bool>,
    wait: Duration,
    until: MonoTime,
}

impl Weight {
    /// The free capacity as the weight knows it.
    pub(super) fn free(&self) -> Option<f64> {
        (self.free > 0.0).then_some(self.free)
    }

    /// Takes a step towards what is free of a capacity under a load.
    pub(super) fn follow(
        &mut self,
        (capacity, load): (f64, f64),
        rates: &Rates,
        now: MonoTime,
        elapsed: Duration,
    ) {
        let free = capacity * (1.0 - load / capacity).clamp(LEAST_FREE, 1.0);
        if self.free <= 0.0 {
            self.free = free;
            return;
        }
        let ratio = free / self.free;
        if (ratio - 1.0).abs() <= f64::from(rates.deadband) || now < self.until {
            return;
        }
        let rising = ratio > 1.0;
        if self.rising.replace(rising).is_some_and(|before| before != rising) {
            self.wait = (self.wait * 2).clamp(SHORTEST, LONGEST);
            self.until = now + self.wait;
            return;
        }
        let step = 1.0 + f64::from(rates.weight) * elapsed.as_secs_f64() / 60.0;
        self.free *= ratio.clamp(1.0 / step, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_turns_back_waits_twice_as_long_each_time() {
        let (mut weight, rates) = (Weight::default(), Rates::default());
        let mut changes = Vec::new();
        for minute in 0..240 {
            let now = MonoTime::from_millis(60_000 * minute);
            let before = weight.free;
            // One step too many or too few: a large part comes or goes.
            let load = if weight.free > 450.0 { 700.0 } else { 300.0 };
            weight.follow((1000.0, load), &rates, now, Duration::from_secs(60));
            if weight.free != before {
                changes.push(minute);
            }
        }
        let late = changes.iter().filter(|m| **m > 120).count();
        assert!(late <= 8, "{changes:?}");
    }
}
