//! What the end to end tests share: the real binaries as processes, and a DNS client.
//!
//! The binaries come from the folder in `NEARMOST_BIN_DIR`, which `cargo xtask test` builds and
//! sets. Everything listens on port 0 and says where it is.

pub mod browser;
pub mod demo;
pub mod dns;
pub mod message;
pub mod netns;
pub mod process;
pub mod prometheus;
pub mod service;
pub mod switch;
pub mod tools;

use std::time::{Duration, Instant};

/// Longest that a test waits for something that should happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer satisfies; for what can only be observed from outside.
/// Fails with the last answer after [`PATIENCE`].
pub async fn eventually<T: std::fmt::Debug, F: Future<Output = T>>(
    what: &str,
    ask: impl FnMut() -> F,
    satisfied: impl Fn(&T) -> bool,
) -> T {
    eventually_within(PATIENCE, what, ask, satisfied).await
}

/// The same with a bound of its own, for what takes its time by nature.
pub async fn eventually_within<T: std::fmt::Debug, F: Future<Output = T>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
    satisfied: impl Fn(&T) -> bool,
) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut last = None;
    let asking = async {
        loop {
            tick.tick().await;
            let answer = ask().await;
            if satisfied(&answer) {
                return answer;
            }
            last = Some(answer);
        }
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what}: not within {patience:?}; last seen: {last:?}"),
    }
}

/// Measures how long something took.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now.
    #[expect(clippy::disallowed_methods, reason = "tests measure real time here only")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Until now.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
