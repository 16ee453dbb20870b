//! How often one source may ask.
//!
//! Sources (an IPv4 address, an IPv6 /64) are hashed with a secret of this process into a fixed
//! number of buckets, so memory is bounded whatever the number of sources, and nobody can choose a
//! neighbour's bucket.

use super::settings::RateLimit;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Buckets; two sources of the many that ask at once rarely share one.
const BUCKETS: u64 = 1 << 16;

/// The limit of all listeners that are not on this machine alone.
pub(super) struct SourceLimiter {
    limiter: Option<DefaultKeyedRateLimiter<u64>>,
    hasher: RandomState,
    clock: DefaultClock,
}

impl SourceLimiter {
    /// No limit when `per_second` is zero.
    pub(super) fn new(limit: RateLimit) -> SourceLimiter {
        let quota = NonZeroU32::new(limit.per_second).map(|rate| {
            let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(rate).allow_burst(burst)
        });
        SourceLimiter {
            limiter: quota.map(RateLimiter::keyed),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of a source.
    ///
    /// # Errors
    /// How long to wait when it asks too often.
    pub(super) fn check(&self, source: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let key = match source.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        };
        let bucket = self.hasher.hash_one(key) % BUCKETS;
        limiter.check_key(&bucket).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_limited_and_others_are_not() {
        let limiter = SourceLimiter::new(RateLimit { per_second: 1, burst: 3 });
        let asks = |ip: &str| limiter.check(ip.parse().unwrap()).is_ok();
        assert_eq!([0; 4].map(|_| asks("192.0.2.1")), [true, true, true, false]);
        assert_eq!([0; 4].map(|_| asks("2001:db8::1")), [true, true, true, false]);
        assert!(!asks("2001:db8::ffff:1"), "the same /64 is the same source");
        assert!(!asks("::ffff:192.0.2.1"), "a mapped address is the IPv4 address");
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_sources() {
        let limiter = SourceLimiter::new(RateLimit { per_second: 1, burst: 1 });
        for n in 0..200_000_u32 {
            let _ = limiter.check(std::net::Ipv4Addr::from_bits(n).into());
        }
        assert!(limiter.limiter.as_ref().is_some_and(|l| l.len() as u64 <= BUCKETS));
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = SourceLimiter::new(RateLimit { per_second: 0, burst: 0 });
        assert!((0..1000).all(|_| limiter.check(std::net::Ipv4Addr::LOCALHOST.into()).is_ok()));
    }
}
