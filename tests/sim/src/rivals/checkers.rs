//! Route 53's health checks at their fast setting: checkers all over the world, each by itself, open
//! a TCP connection every 10 s, which has 10 s to be made. A checker changes its mind after three
//! results in a row that contradict it; a host is healthy while more than 18 % of them say so. How
//! long their words take to the name servers is not published: here it is nothing.

use crate::probe::{Outcome, Target};
use crate::world::{Arrival, Detector, Ground};
use nearmost_core::health::Family;

/// How many checkers there are.
pub const CHECKERS: u32 = 16;
const INTERVAL_US: u64 = 10_000_000;
const TIMEOUT_US: u64 = 10_000_000;
const THRESHOLD: u32 = 3;
const HEALTHY_SHARE: f64 = 0.18;

/// One checker's mind about one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checker {
    /// What it says.
    pub healthy: bool,
    against: u32,
}

impl Default for Checker {
    fn default() -> Self {
        Checker { healthy: true, against: 0 }
    }
}

impl Checker {
    /// A connection was made or not.
    pub fn result(&mut self, passed: bool) {
        self.against = if passed == self.healthy { 0 } else { self.against + 1 };
        if self.against == THRESHOLD {
            *self = Checker { healthy: passed, against: 0 };
        }
    }
}

/// Whether so many healthy words of so many checkers make a healthy host.
pub fn is_healthy(healthy: usize, of: usize) -> bool {
    healthy as f64 > HEALTHY_SHARE * of as f64
}

/// A checker (by number) is due to look at a host.
#[derive(Clone, Copy, Debug)]
pub struct Due(u32, u32);

/// All checkers of all hosts. They stand at the world's observers.
pub struct Checks(Vec<([Checker; CHECKERS as usize], bool)>);

impl Checks {
    /// Checks of so many hosts.
    pub fn new(hosts: u32) -> Checks {
        Checks(vec![([Checker::default(); CHECKERS as usize], true); hosts as usize])
    }
}

impl Detector for Checks {
    type Event = Due;

    fn start(&mut self, ground: &mut Ground<Due>) {
        for host in 0..self.0.len() as u32 {
            for checker in 0..CHECKERS {
                let first = ground.rng.below(INTERVAL_US);
                ground.after(first, Due(checker, host));
            }
        }
    }

    fn handle(&mut self, Due(checker, to): Due, ground: &mut Ground<Due>) {
        let from = ground.broker() + 1 + checker;
        let tag = u64::from(checker);
        ground.probe(Target { from, to, family: Family::V4, timeout_us: TIMEOUT_US, tag });
        ground.after(INTERVAL_US, Due(checker, to));
    }

    fn arrival(&self, _: &Due) -> Arrival {
        // Checkers are machines of their own: the broker's pauses are none of theirs.
        Arrival::Elsewhere
    }

    fn probed(&mut self, target: Target, outcome: Outcome, ground: &mut Ground<Due>) {
        let (checkers, up) = &mut self.0[target.to as usize];
        if let Some(checker) = checkers.get_mut(target.tag as usize) {
            checker.result(outcome.passed());
        }
        let healthy = is_healthy(checkers.iter().filter(|c| c.healthy).count(), checkers.len());
        if std::mem::replace(up, healthy) != healthy {
            ground.tell(target.to, healthy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_change_a_checkers_mind() {
        let mut checker = Checker::default();
        for passed in [false, false, true, false, false] {
            checker.result(passed);
            assert!(checker.healthy);
        }
        checker.result(false);
        assert!(!checker.healthy);
        [true, true, false, true, true].into_iter().for_each(|p| checker.result(p));
        assert!(!checker.healthy);
        checker.result(true);
        assert!(checker.healthy);
    }

    #[test]
    fn eighteen_percent_are_too_few() {
        // 18 % of 16 are 2.88.
        assert!(is_healthy(3, 16) && !is_healthy(2, 16));
        assert!(!is_healthy(18, 100) && is_healthy(19, 100));
    }
}
