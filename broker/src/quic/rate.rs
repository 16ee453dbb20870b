//! A token bucket: so much at once, so much sustained.

use std::time::{Duration, Instant};

/// Holds at most `burst` tokens and gains one each `every`; begins full.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    burst: f64,
    every: Duration,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket. `every` must not be zero.
    pub fn new(burst: u32, every: Duration, now: Instant) -> Bucket {
        Bucket { burst: burst.into(), every, level: burst.into(), at: now }
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.level_at(now) >= self.burst
    }

    fn level_at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).div_duration_f64(self.every);
        (self.level + gained).min(self.burst)
    }

    /// Takes so many tokens if they are there. More than the bucket holds asks for all of it, so
    /// that nothing is refused for ever.
    pub fn take(&mut self, tokens: u32, now: Instant) -> bool {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
        let wanted = f64::from(tokens).min(self.burst);
        let there = self.level >= wanted;
        if there {
            self.level -= wanted;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = mono_now();
        let mut bucket = Bucket::new(3, Duration::from_secs(2), start);
        assert!((0..3).all(|_| bucket.take(1, start)));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1, start + Duration::from_millis(1900)));
        assert!(bucket.take(1, start + Duration::from_secs(2)));
        assert!(!bucket.take(1, start + Duration::from_secs(2)));
        let later = start + Duration::from_secs(60);
        assert!(bucket.take(9, later), "more than it holds empties it");
        assert!(!bucket.take(1, later));
        assert!(!bucket.take(1, start), "a time before the last gives nothing");
    }
}
