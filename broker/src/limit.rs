//! How often one source may do something.
//!
//! Sources (an IPv4 address, an IPv6 /64) are hashed with a secret of this process into a fixed
//! number of buckets, so memory is bounded whatever the number of sources, and nobody can choose a
//! neighbour's bucket.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Buckets; two sources of the many that ask at once rarely share one.
const BUCKETS: u64 = 1 << 16;

/// Counts what sources do.
pub(crate) struct SourceLimiter {
    limiter: Option<DefaultKeyedRateLimiter<u64>>,
    hasher: RandomState,
    clock: DefaultClock,
}

impl SourceLimiter {
    /// So often a second, and so often at once after a pause; no limit when `rate` is zero.
    pub(crate) fn per_second(rate: u32, burst: u32) -> SourceLimiter {
        SourceLimiter::new(NonZeroU32::new(rate).map(Quota::per_second), burst)
    }

    /// Once each `period`, and so often at once after a pause; no limit when `period` is zero.
    pub(crate) fn every(period: Duration, burst: u32) -> SourceLimiter {
        SourceLimiter::new(Quota::with_period(period), burst)
    }

    fn new(quota: Option<Quota>, burst: u32) -> SourceLimiter {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = quota.map(|q| q.allow_burst(burst));
        SourceLimiter {
            limiter: quota.map(RateLimiter::keyed),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts what a source does now.
    ///
    /// # Errors
    /// How long to wait when it does it too often.
    pub(crate) fn check(&self, source: IpAddr) -> Result<(), Duration> {
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
        let limiter = SourceLimiter::per_second(1, 3);
        let asks = |ip: &str| limiter.check(ip.parse().unwrap()).is_ok();
        assert_eq!([0; 4].map(|_| asks("192.0.2.1")), [true, true, true, false]);
        assert_eq!([0; 4].map(|_| asks("2001:db8::1")), [true, true, true, false]);
        assert!(!asks("2001:db8::ffff:1"), "the same /64 is the same source");
        assert!(!asks("::ffff:192.0.2.1"), "a mapped address is the IPv4 address");
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_sources() {
        let limiter = SourceLimiter::per_second(1, 1);
        for n in 0..200_000_u32 {
            let _ = limiter.check(std::net::Ipv4Addr::from_bits(n).into());
        }
        assert!(limiter.limiter.as_ref().is_some_and(|l| l.len() as u64 <= BUCKETS));
    }

    #[test]
    fn zero_is_no_limit() {
        for limiter in [SourceLimiter::per_second(0, 0), SourceLimiter::every(Duration::ZERO, 0)] {
            assert!((0..1000).all(|_| limiter.check(std::net::Ipv4Addr::LOCALHOST.into()).is_ok()));
        }
    }

    #[test]
    fn a_long_period_has_its_burst_first() {
        let limiter = SourceLimiter::every(Duration::from_secs(3600), 2);
        let asks = || limiter.check(std::net::Ipv4Addr::LOCALHOST.into());
        assert_eq!([asks().is_ok(), asks().is_ok()], [true, true]);
        assert!(asks().unwrap_err() > Duration::from_secs(3500));
    }
}
