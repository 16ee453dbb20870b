//! When checks that are set together start: a few at once, many over a while.

use std::time::Duration;

/// So many start at once: no herd, and their results are there at once.
const AT_ONCE: usize = 8;
/// The longest time over which first starts are spread. First reports wait for first results, so this
/// is well below their patience.
const LONGEST: Duration = Duration::from_secs(2);

/// First starts of checks that are set together.
pub struct Spread {
    count: usize,
    given: usize,
}

/// How one check begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Before the first start.
    pub first: Duration,
    /// Between the first start and the second, where that is not the usual interval: with many checks the
    /// second starts are spread over the whole interval, which may be far longer than [`LONGEST`].
    pub second: Option<Duration>,
}

impl Spread {
    /// Of so many checks.
    pub fn of(count: usize) -> Spread {
        Spread { count, given: 0 }
    }

    /// The next check's; `uniform` lies in `0..1`.
    pub fn next(&mut self, interval: Duration, uniform: f64) -> Start {
        let number = self.given;
        self.given += 1;
        if self.count <= AT_ONCE {
            return Start { first: Duration::ZERO, second: None };
        }
        let late = number.saturating_sub(AT_ONCE - 1) as f64 / (self.count - AT_ONCE) as f64;
        let first = interval.min(LONGEST).mul_f64(late.min(1.0));
        let second = (interval > LONGEST).then(|| interval.mul_f64(uniform.clamp(0.0, 1.0)));
        Start { first, second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(count: usize, interval: Duration) -> Vec<Start> {
        let mut spread = Spread::of(count);
        (0..count).map(|i| spread.next(interval, i as f64 / count as f64)).collect()
    }

    #[test]
    fn a_few_checks_start_at_once() {
        let at_once = Start { first: Duration::ZERO, second: None };
        assert_eq!(starts(1, Duration::from_secs(60)), [at_once]);
        assert_eq!(starts(AT_ONCE, Duration::from_secs(1)), [at_once; AT_ONCE]);
    }

    #[test]
    fn many_are_spread_over_their_interval_and_first_results_come_soon() {
        for interval in [Duration::from_secs(1), Duration::from_secs(60)] {
            let window = interval.min(LONGEST);
            let starts = starts(1000, interval);
            for tenth in 0..10 {
                let part =
                    window.mul_f64(f64::from(tenth) / 10.0)..window.mul_f64(f64::from(tenth + 1) / 10.0);
                let count = starts.iter().filter(|s| part.contains(&s.first)).count();
                assert!((90..=115).contains(&count), "{count} in {part:?}");
            }
            assert!(starts.iter().all(|s| s.first <= window));
        }
        let second: Vec<_> =
            starts(1000, Duration::from_secs(60)).into_iter().filter_map(|s| s.second).collect();
        assert_eq!(second.len(), 1000);
        assert_eq!(second.iter().filter(|s| **s < Duration::from_secs(30)).count(), 500);
    }
}
