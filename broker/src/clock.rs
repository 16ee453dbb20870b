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

/// A time for people: RFC 3339 in UTC, to the second.
pub(crate) fn utc(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // Days since 0000-03-01, so that the leap day is a year's last, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
