//! The one place of this crate that reads clocks.

use nearmost_core::time::{MonoTime, UnixMillis};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Monotonic time since the agent's start, and wall time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose epoch is now.
    #[expect(clippy::disallowed_methods, reason = "the clock module of this crate")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Time since the epoch.
    #[expect(clippy::disallowed_methods, reason = "the clock module of this crate")]
    pub fn now(&self) -> MonoTime {
        MonoTime::ZERO + (Instant::now() - self.start)
    }

    /// The moment at which `now` will be `t`, for sleeping until then.
    pub fn instant(&self, t: MonoTime) -> Instant {
        self.start + Duration::from_micros(t.0)
    }
}

/// Wall time, for the boot epoch.
#[expect(clippy::disallowed_methods, reason = "the clock module of this crate")]
pub fn unix() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
