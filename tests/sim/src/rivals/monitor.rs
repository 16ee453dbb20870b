//! gdnsd's monitors with their default figures: a TCP connection every 10 s, which has half of that
//! to be made. Ten failures take a host out; between them, ten successes in a row forgive all
//! earlier ones. Twenty successes in a row take it in again.

use crate::probe::{Outcome, Target};
use crate::world::{Arrival, Detector, Ground};
use nearmost_core::health::Family;

const INTERVAL_US: u64 = 10_000_000;
const TIMEOUT_US: u64 = INTERVAL_US / 2;
const UP_AFTER: u32 = 20;
const FORGIVEN_AFTER: u32 = 10;
const DOWN_AFTER: u32 = 10;

/// One host as its monitor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// In, or out.
    pub up: bool,
    failures: u32,
    successes: u32,
}

impl Default for Monitor {
    fn default() -> Self {
        Monitor { up: true, failures: 0, successes: 0 }
    }
}

impl Monitor {
    /// A connection was made or not; whether the verdict changed.
    pub fn result(&mut self, passed: bool) -> bool {
        let was = self.up;
        match (self.up, passed) {
            (true, true) if self.failures > 0 => {
                self.successes += 1;
                if self.successes == FORGIVEN_AFTER {
                    *self = Monitor::default();
                }
            }
            (true, true) => {}
            (true, false) => {
                self.successes = 0;
                self.failures += 1;
                if self.failures == DOWN_AFTER {
                    *self = Monitor { up: false, failures: 0, successes: 0 };
                }
            }
            (false, true) => {
                self.successes += 1;
                if self.successes == UP_AFTER {
                    *self = Monitor::default();
                }
            }
            (false, false) => self.successes = 0,
        }
        was != self.up
    }
}

/// A host's monitor is due.
#[derive(Clone, Copy, Debug)]
pub struct Due(u32);

/// The monitors of all hosts.
pub struct Monitors(Vec<Monitor>);

impl Monitors {
    /// Monitors of so many hosts.
    pub fn new(hosts: u32) -> Monitors {
        Monitors(vec![Monitor::default(); hosts as usize])
    }
}

impl Detector for Monitors {
    type Event = Due;

    fn start(&mut self, ground: &mut Ground<Due>) {
        for host in 0..self.0.len() as u32 {
            let first = ground.rng.below(INTERVAL_US);
            ground.after(first, Due(host));
        }
    }

    fn handle(&mut self, Due(to): Due, ground: &mut Ground<Due>) {
        let from = ground.broker();
        ground.probe(Target { from, to, family: Family::V4, timeout_us: TIMEOUT_US, tag: 0 });
        ground.after(INTERVAL_US, Due(to));
    }

    fn arrival(&self, _: &Due) -> Arrival {
        Arrival::Timer
    }

    fn probed(&mut self, target: Target, outcome: Outcome, ground: &mut Ground<Due>) {
        let monitor = &mut self.0[target.to as usize];
        if monitor.result(outcome.passed()) {
            let up = monitor.up;
            ground.tell(target.to, up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_take_out_and_twenty_successes_in() {
        let mut m = Monitor::default();
        assert!((0..9).all(|_| !m.result(false)) && m.result(false) && !m.up);
        assert!((0..19).all(|_| !m.result(true)) && !m.result(false));
        assert!((0..19).all(|_| !m.result(true)) && m.result(true) && m.up);
    }

    #[test]
    fn failures_add_up_until_ten_successes_in_a_row() {
        let mut m = Monitor::default();
        (0..9).for_each(|_| assert!(!m.result(false)));
        (0..9).for_each(|_| assert!(!m.result(true)));
        assert!(m.result(false), "nine successes forgive nothing");
        let mut m = Monitor::default();
        (0..9).for_each(|_| assert!(!m.result(false)));
        (0..10).for_each(|_| assert!(!m.result(true)));
        assert!(!m.result(false), "ten forgive all");
    }
}
