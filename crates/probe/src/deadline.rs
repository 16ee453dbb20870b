//! The one deadline that all steps of a check share.

use crate::failure::Failure;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// No check takes longer, whatever it asks for.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// When a check must have ended.
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// `timeout` after `start`, at most [`MAX_TIMEOUT`].
    pub fn new(start: Instant, timeout: Duration) -> Self {
        let timeout = timeout.min(MAX_TIMEOUT);
        Deadline { at: start + timeout, timeout }
    }

    /// The result of a step, or the reason that it did not end in time. `expected` says what the
    /// step was to bring.
    pub async fn bound<T>(&self, expected: &str, step: impl Future<Output = T>) -> Result<T, Failure> {
        let bounded = tokio::time::timeout_at(self.at, step).await;
        bounded.map_err(|_| Failure::silence(self.missed(expected)))
    }

    /// The moment itself.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The reason given when a step did not end in time.
    pub fn missed(&self, expected: &str) -> String {
        format!("{expected}, found none within {} ms", self.timeout.as_millis())
    }
}
