//! A hybrid logical clock (Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014).
//!
//! It orders writes so that what was written after having seen another write sorts after it, even
//! where wall clocks disagree, and stays close to wall time, so that expiry dates mean something.
//! A remote clock too far ahead is refused: accepting it would drag every clock with it.

use std::fmt;
use std::time::Duration;

/// How far ahead of our wall clock another's write may be.
pub const DEFAULT_MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

/// A moment on the hybrid logical clock; totally ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Milliseconds since the Unix epoch: the highest wall time seen when it was issued.
    pub millis: u64,
    /// Orders what was issued within one millisecond.
    pub counter: u16,
}

impl Hlc {
    /// The next moment after this one. The clock stands still only at the very end of its range.
    fn successor(self) -> Hlc {
        match self.counter.checked_add(1) {
            Some(counter) => Hlc { millis: self.millis, counter },
            None => match self.millis.checked_add(1) {
                Some(millis) => Hlc { millis, counter: 0 },
                None => self,
            },
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis, self.counter)
    }
}

/// Why a remote moment was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HlcError {
    /// The writer's clock is ahead of ours by more than the bound.
    #[error("the clock of the writer is {ahead_ms} ms ahead of ours, more than {limit_ms} ms are refused")]
    TooFarAhead {
        /// How far, in milliseconds.
        ahead_ms: u64,
        /// The bound, in milliseconds.
        limit_ms: u64,
    },
}

/// One writer's clock. Wall time is handed in, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct HlcClock {
    last: Hlc,
    max_ahead_ms: u64,
}

impl HlcClock {
    /// A clock that continues after `last`, the highest moment seen before a restart.
    pub fn new(last: Hlc, max_ahead: Duration) -> Self {
        HlcClock { last, max_ahead_ms: u64::try_from(max_ahead.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The highest moment issued or observed.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// A moment for a new write: after everything issued and observed, even when the wall clock
    /// was set back.
    pub fn tick(&mut self, now_unix_ms: u64) -> Hlc {
        let wall = Hlc { millis: now_unix_ms, counter: 0 };
        self.last = wall.max(self.last.successor());
        self.last
    }

    /// Takes note of another writer's moment.
    ///
    /// # Errors
    /// [`HlcError::TooFarAhead`]; the clock is then unchanged.
    pub fn observe(&mut self, remote: Hlc, now_unix_ms: u64) -> Result<(), HlcError> {
        let ahead_ms = remote.millis.saturating_sub(now_unix_ms);
        if ahead_ms > self.max_ahead_ms {
            return Err(HlcError::TooFarAhead { ahead_ms, limit_ms: self.max_ahead_ms });
        }
        self.last = self.last.max(remote);
        Ok(())
    }
}

impl Default for HlcClock {
    fn default() -> Self {
        HlcClock::new(Hlc::default(), DEFAULT_MAX_AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_the_wall_and_counts_within_a_millisecond() {
        let mut clock = HlcClock::default();
        assert_eq!(clock.tick(1000), Hlc { millis: 1000, counter: 0 });
        assert_eq!(clock.tick(1000), Hlc { millis: 1000, counter: 1 });
        assert_eq!(clock.tick(900), Hlc { millis: 1000, counter: 2 }, "the wall clock was set back");
        assert_eq!(clock.tick(1001), Hlc { millis: 1001, counter: 0 });
    }

    #[test]
    fn a_full_counter_borrows_the_next_millisecond() {
        let mut clock = HlcClock::new(Hlc { millis: 5, counter: u16::MAX }, DEFAULT_MAX_AHEAD);
        assert_eq!(clock.tick(5), Hlc { millis: 6, counter: 0 });
        assert_eq!(clock.tick(5), Hlc { millis: 6, counter: 1 });
    }

    #[test]
    fn refuses_a_clock_ahead_of_the_bound_and_stays_as_it_was() {
        let mut clock = HlcClock::default();
        let before = clock.tick(1_000);
        let bound = 1_000 + 300_000;
        clock.observe(Hlc { millis: bound, counter: 9 }, 1_000).unwrap();
        let seen = clock.last();
        assert!(seen > before);
        let refused = clock.observe(Hlc { millis: bound + 1, counter: 0 }, 1_000);
        assert_eq!(refused, Err(HlcError::TooFarAhead { ahead_ms: 300_001, limit_ms: 300_000 }));
        assert_eq!(clock.last(), seen);
    }

    proptest! {
        #[test]
        fn never_issues_a_moment_that_is_not_after_all_before(
            steps in prop::collection::vec((any::<bool>(), 0u64..50, 0u64..50, any::<u16>()), 1..60)
        ) {
            let mut clock = HlcClock::new(Hlc::default(), Duration::from_millis(20));
            let mut highest = Hlc::default();
            for (remote, now, millis, counter) in steps {
                let seen = Hlc { millis, counter };
                if remote {
                    if clock.observe(seen, now).is_ok() {
                        highest = highest.max(seen);
                    } else {
                        prop_assert!(millis > now + 20);
                    }
                } else {
                    let issued = clock.tick(now);
                    prop_assert!(issued > highest, "{issued} is not after {highest}");
                    highest = issued;
                }
            }
        }
    }
}
