//! The one place where this crate reads clocks.

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
pub fn now_unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock module")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic time, for measuring durations.
pub fn mono_now() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock module")]
    std::time::Instant::now()
}
