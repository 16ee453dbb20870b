//! The one place of the broker that reads clocks.

use nearmost_core::time::{MonoTime, Now, UnixMillis};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, from one epoch for the whole broker.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic epoch is now.
    #[expect(clippy::disallowed_methods, reason = "the broker's clock module")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both clocks at this moment.
    #[expect(clippy::disallowed_methods, reason = "the broker's clock module")]
    pub fn now(&self) -> Now {
        let mono = MonoTime::ZERO + Instant::now().saturating_duration_since(self.start);
        Now { mono, unix: unix_now() }
    }

    /// When a moment of logic is, for timers.
    pub fn instant(&self, at: MonoTime) -> tokio::time::Instant {
        (self.start + Duration::from_micros(at.0)).into()
    }
}

/// Wall time; a clock before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "the broker's clock module")]
pub fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic time, for measuring durations.
#[expect(clippy::disallowed_methods, reason = "the broker's clock module")]
pub fn mono_now() -> Instant {
    Instant::now()
}
