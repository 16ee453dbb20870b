//! How long a path takes there and back, and how much that varies.
//!
//! SRTT and RTTVAR of RFC 6298 §2. The granularity G is the least allowance: timers of a client's
//! machine fire that late.

use std::time::Duration;

/// G of RFC 6298: the least that is allowed for a late packet.
pub const LEAST_ALLOWANCE: Duration = Duration::from_millis(10);
/// The most: a path that varies by more is judged by silence alone.
pub const MOST_ALLOWANCE: Duration = Duration::from_millis(200);
/// Longer samples say that something was held up, not how long the path is.
const LONGEST: Duration = Duration::from_secs(10);

/// The round trip of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    smoothed: Duration,
    variation: Duration,
    measured: bool,
}

impl Rtt {
    /// What was predicted; the first sample replaces it.
    pub fn predicted(rtt: Duration) -> Rtt {
        let rtt = rtt.min(LONGEST);
        Rtt { smoothed: rtt, variation: Duration::ZERO, measured: false }
    }

    /// Takes a sample.
    pub fn sample(&mut self, rtt: Duration) {
        let rtt = rtt.min(LONGEST);
        if !self.measured {
            *self = Rtt { smoothed: rtt, variation: rtt / 2, measured: true };
            return;
        }
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(rtt)) / 4;
        self.smoothed = (self.smoothed * 7 + rtt) / 8;
    }

    /// Smoothed.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// Whether there was a sample.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// How much later than usual a packet may be without being missed: 4 RTTVAR in bounds.
    pub fn allowance(&self) -> Duration {
        (self.variation * 4).clamp(LEAST_ALLOWANCE, MOST_ALLOWANCE)
    }

    /// The network has changed: the next sample counts like a first one.
    pub fn forget(&mut self) {
        self.measured = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_samples_go_as_the_rfc_says() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::predicted(ms(300));
        assert_eq!((rtt.smoothed(), rtt.allowance(), rtt.is_measured()), (ms(300), ms(10), false));
        rtt.sample(ms(80));
        assert_eq!((rtt.smoothed(), rtt.allowance()), (ms(80), ms(160)));
        rtt.sample(ms(120));
        assert_eq!((rtt.smoothed(), rtt.allowance()), (ms(85), ms(160)));
        for _ in 0..40 {
            rtt.sample(ms(85));
        }
        assert_eq!(rtt.allowance(), LEAST_ALLOWANCE);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_samples(samples in prop::collection::vec(0u64..20_000, 1..100)) {
            let mut rtt = Rtt::predicted(Duration::ZERO);
            samples.iter().for_each(|ms| rtt.sample(Duration::from_millis(*ms)));
            let bound = |ms: Option<&u64>| Duration::from_millis(*ms.unwrap()).min(LONGEST);
            prop_assert!(rtt.smoothed() <= bound(samples.iter().max()));
            // Rounding down takes a nanosecond a step at most.
            prop_assert!(rtt.smoothed() + Duration::from_micros(1) >= bound(samples.iter().min()));
            prop_assert!((LEAST_ALLOWANCE..=MOST_ALLOWANCE).contains(&rtt.allowance()));
        }
    }
}
