//! Time as logic sees it: handed in, never read.

use std::ops::Add;
use std::time::Duration;

/// Monotonic time, microseconds since an epoch that the driver chose (usually its own start).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// The driver's epoch.
    pub const ZERO: MonoTime = MonoTime(0);

    /// `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        MonoTime(millis * 1000)
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoTime {
    type Output = MonoTime;
    fn add(self, d: Duration) -> MonoTime {
        MonoTime(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Wall time, milliseconds since the Unix epoch. Only for people, expiry dates and records:
/// it can jump, so no timeout is measured with it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct UnixMillis(pub u64);

/// One moment on both clocks, read together by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and ages.
    pub mono: MonoTime,
    /// For people, expiry dates and records.
    pub unix: UnixMillis,
}
