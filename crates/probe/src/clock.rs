//! The one place of this crate that reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Monotonic time, for deadlines and durations; follows tokio's paused time in tests.
#[expect(clippy::disallowed_methods, reason = "the clock module of this crate")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch, to compare with the dates in certificates.
#[expect(clippy::disallowed_methods, reason = "the clock module of this crate")]
pub fn unix_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
