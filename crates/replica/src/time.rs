//! The two clocks that are handed in.

/// A moment. The monotonic clock is for pauses and time limits; the wall clock for what outlives the
/// process or is told to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since some moment before the start.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch, by this machine's clock.
    pub unix_ms: u64,
}
