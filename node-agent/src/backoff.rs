//! How long to wait before the next attempt.
//!
//! Exponential with full jitter: a delay is drawn evenly from zero to a ceiling that doubles with
//! each failure, so that agents that lost one broker together do not return together.

use std::time::Duration;

/// First ceiling and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first delay.
    pub first: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after so many failures in a row before this one; `uniform` lies in `0..1`.
    pub fn delay(&self, failures: u32, uniform: f64) -> Duration {
        self.ceiling(failures).mul_f64(uniform.clamp(0.0, 1.0))
    }

    /// The longest delay after so many failures.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(30) };

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ms: Vec<u128> =
            [0, 1, 2, 5, 6, 31, 32, 33, u32::MAX].map(|n| BACKOFF.ceiling(n).as_millis()).into();
        assert_eq!(ms, [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000]);
    }

    proptest! {
        #[test]
        fn a_delay_never_exceeds_its_ceiling(failures: u32, uniform in 0.0f64..1.0) {
            prop_assert!(BACKOFF.delay(failures, uniform) <= BACKOFF.ceiling(failures));
        }

        #[test]
        fn all_of_the_range_is_used(failures in 0u32..64) {
            prop_assert_eq!(BACKOFF.delay(failures, 0.0), Duration::ZERO);
            prop_assert_eq!(BACKOFF.delay(failures, 1.0), BACKOFF.ceiling(failures));
        }
    }
}
