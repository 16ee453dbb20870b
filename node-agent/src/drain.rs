//! Leaving in order: tell the brokers, wait until they answer without us, leave users time, go.
//!
//! ```text
//!            order              all acknowledged, or      grace over
//!  serving ────────▶ telling ── ACK_PATIENCE over ──▶ grace ────────▶ leaving
//! ```
//!
//! While telling and in grace the service goes on, and so do beacons (marked as draining) and
//! reports: users that already have the address finish. Without any session nobody needs to be
//! waited for, but users that were sent here earlier still get their grace.

use nearmost_core::time::MonoTime;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a broker may take to acknowledge the draining report.
pub const ACK_PATIENCE: Duration = Duration::from_secs(3);

/// How far the drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No drain was ordered.
    Serving,
    /// Brokers are being told.
    Telling {
        /// Not waited for longer than this.
        until: MonoTime,
    },
    /// Brokers know; users still here have time until then.
    Grace {
        /// The end of it.
        until: MonoTime,
    },
    /// Say goodbye and exit.
    Leaving,
}

/// The drain's state.
#[derive(Debug)]
pub struct Drain {
    stage: Stage,
    grace: Duration,
    /// Brokers that have a session and have not acknowledged.
    waiting: BTreeSet<usize>,
}

impl Drain {
    /// No drain yet; `grace` is the time that users get after the brokers know.
    pub fn new(grace: Duration) -> Drain {
        Drain { stage: Stage::Serving, grace, waiting: BTreeSet::new() }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether reports and beacons say that we drain.
    pub fn draining(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// Begins the drain; `attached` are the brokers with a session. A second order changes nothing.
    pub fn order(&mut self, attached: impl IntoIterator<Item = usize>, now: MonoTime) {
        if self.stage == Stage::Serving {
            self.waiting = attached.into_iter().collect();
            self.stage = Stage::Telling { until: now + ACK_PATIENCE };
            self.advance(now);
        }
    }

    /// A broker acknowledged a report that said we drain, or its session ended.
    pub fn settled(&mut self, broker: usize, now: MonoTime) {
        self.waiting.remove(&broker);
        self.advance(now);
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: MonoTime) {
        match self.stage {
            Stage::Telling { until } if self.waiting.is_empty() || until <= now => {
                self.stage = Stage::Grace { until: now + self.grace };
                self.advance(now);
            }
            Stage::Grace { until } if until <= now => self.stage = Stage::Leaving,
            Stage::Serving | Stage::Telling { .. } | Stage::Grace { .. } | Stage::Leaving => {}
        }
    }

    /// When [`Drain::advance`] must be called.
    pub fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::Telling { until } | Stage::Grace { until } => Some(until),
            Stage::Serving | Stage::Leaving => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(20);

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn ordered(attached: &[usize]) -> Drain {
        let mut drain = Drain::new(GRACE);
        drain.order(attached.iter().copied(), at(0));
        drain
    }

    #[test]
    fn every_stage_and_input() {
        let serving = || Drain::new(GRACE);
        let telling = || ordered(&[1]);
        let grace = || {
            let mut d = ordered(&[1]);
            d.settled(1, at(0));
            d
        };
        let leaving = || {
            let mut d = ordered(&[]);
            d.advance(at(20_000));
            d
        };
        let told = Stage::Telling { until: at(3000) };
        let grace_now = |ms: u64| Stage::Grace { until: at(ms + 20_000) };
        // (from, at ms, after order of [1], after settled 1, after settled 2, after advance)
        type Make<'a> = &'a dyn Fn() -> Drain;
        let table: [(&str, Make<'_>, u64, [Stage; 4]); 6] = [
            (
                "serving",
                &serving,
                5,
                [Stage::Telling { until: at(3005) }, Stage::Serving, Stage::Serving, Stage::Serving],
            ),
            ("telling, early", &telling, 5, [told, grace_now(5), told, told]),
            ("telling, late", &telling, 3000, [told, grace_now(3000), grace_now(3000), grace_now(3000)]),
            ("grace, early", &grace, 19_999, [grace_now(0); 4]),
            ("grace, late", &grace, 20_000, [grace_now(0), Stage::Leaving, Stage::Leaving, Stage::Leaving]),
            ("leaving", &leaving, 5, [Stage::Leaving; 4]),
        ];
        for (name, make, ms, expected) in table {
            let mut after: [Drain; 4] = std::array::from_fn(|_| make());
            after[0].order([1], at(ms));
            after[1].settled(1, at(ms));
            after[2].settled(2, at(ms));
            after[3].advance(at(ms));
            assert_eq!(after.map(|d| d.stage()), expected, "{name}");
        }
    }

    #[test]
    fn all_brokers_are_waited_for() {
        let mut drain = ordered(&[0, 3]);
        assert_eq!(drain.deadline(), Some(at(3000)));
        drain.settled(3, at(10));
        assert!(matches!(drain.stage(), Stage::Telling { .. }));
        drain.settled(0, at(20));
        assert_eq!(drain.deadline(), Some(at(20_020)));
    }

    #[test]
    fn without_grace_the_acknowledgement_is_the_end() {
        let mut drain = Drain::new(Duration::ZERO);
        drain.order([0], at(0));
        drain.settled(0, at(7));
        assert_eq!((drain.stage(), drain.deadline()), (Stage::Leaving, None));
    }
}
