//! When to try again: full jitter over a doubling bound (Brooker, "Exponential Backoff And Jitter", 2015).

use std::time::Duration;

/// Pauses between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first pause.
    pub first: Duration,
    /// The bound of the longest.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_secs(1), most: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The pause after so many failed attempts, at least one, in milliseconds: `random` picks it evenly
    /// from nothing to the bound.
    pub fn pause_ms(&self, attempts: u32, random: u64) -> u64 {
        let doublings = attempts.saturating_sub(1).min(32);
        let bound = self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.most);
        let bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        // The high half of a 128-bit product: even over 0..=bound.
        ((u128::from(random) * (u128::from(bound_ms) + 1)) >> 64) as u64
    }
}

/// A small generator (SplitMix64): jitter and choices that no one gains from guessing.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_longest() {
        let backoff = Backoff::default();
        let bounds: Vec<u64> = (1..12).map(|n| backoff.pause_ms(n, u64::MAX) / 1000).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.pause_ms(u32::MAX, u64::MAX), 300_000);
        assert_eq!(backoff.pause_ms(5, 0), 0);
        assert_eq!(backoff.pause_ms(0, u64::MAX), 1000);
    }

    #[test]
    fn pauses_are_spread_over_the_whole_bound() {
        let mut random = Random::new(7);
        let pauses: Vec<u64> = (0..1000).map(|_| Backoff::default().pause_ms(4, random.bits())).collect();
        let low = pauses.iter().filter(|p| **p < 4000).count();
        assert!((400..600).contains(&low), "{low}");
        assert!(pauses.iter().all(|p| *p <= 8000));
    }
}
