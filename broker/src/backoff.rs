//! Waiting longer after each failure in a row.

use std::time::Duration;

/// The pauses between attempts: doubled after each failure, up to a longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// From the first pause to the longest.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, next: first }
    }

    /// It worked: the next failure is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// It failed: how long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        assert_eq!([0; 4].map(|_| backoff.pause().as_secs()), [1, 2, 4, 5]);
        backoff.reset();
        assert_eq!(backoff.pause(), seconds(1));
    }
}
