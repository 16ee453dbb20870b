//! The lab's clock: the time since the machine's start, the same in all processes.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Now.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec.clamp(0, 999_999_999) as u32)
}

/// Now, for spans within one process.
#[expect(clippy::disallowed_methods, reason = "this is the lab's clock")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
