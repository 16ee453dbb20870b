//! How long answers take, and how long to wait for one.
//!
//! A lost opening packet is sent again by the kernel a second later, so of a mirror behind a lossy path
//! one answer in ten takes a second longer than the path does. What is usual is therefore the median of
//! the last answers, which such answers do not move.

use arrayvec::ArrayVec;
use std::time::Duration;

/// Answers that are remembered; an odd number has one in the middle.
const ANSWERS: usize = 5;
/// Shortest and longest time that an answer may be later than is usual.
const MARGIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(150));
/// How long a brisk attempt waits at least, …
const LEAST_BRISK: Duration = Duration::from_millis(120);
/// … and a patient one.
const LEAST_PATIENT: Duration = Duration::from_millis(300);

/// How one mirror's answers took lately, in microseconds, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Took(ArrayVec<u32, ANSWERS>);

impl Took {
    /// An answer took so long.
    pub fn answered(&mut self, took: Duration) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        // Longer than an hour is no answer's time, and still not the shortest.
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// What is usual; `None` before the first answer.
    pub fn usual(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len().saturating_sub(1) / 2)?;
        Some(Duration::from_micros(u64::from(*middle)))
    }
}

/// How long to wait for an answer that usually takes `usual`, where users wait for the conclusion.
pub(super) fn brisk(usual: Duration) -> Duration {
    (usual + (usual / 4).clamp(MARGIN.0, MARGIN.1)).max(LEAST_BRISK)
}

/// The same where nothing is urgent, or the network is bad.
pub(super) fn patient(usual: Duration) -> Duration {
    (usual * 2).max(LEAST_PATIENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn answers_to_repeated_packets_do_not_set_the_pace() {
        let mut took = Took::default();
        assert_eq!(took.usual(), None);
        for (i, answer) in [40, 1_040, 42, 1_041, 41, 43, 3_040].into_iter().enumerate() {
            took.answered(ms(answer));
            assert!(took.usual().is_some_and(|usual| usual <= ms(43)), "{i}: {:?}", took.usual());
        }
        // A service that has become slow is given more time soon.
        for _ in 0..3 {
            took.answered(ms(700));
        }
        assert_eq!(took.usual(), Some(ms(700)));
        took.answered(Duration::MAX);
        assert!(took.usual() >= Some(ms(700)));
    }

    #[test]
    fn waits_are_longer_than_what_is_usual() {
        for usual in [0, 1, 40, 160, 300, 2_000].map(ms) {
            assert!(brisk(usual) >= usual + MARGIN.0 && patient(usual) >= usual * 2);
            assert!(patient(usual) >= brisk(usual) || usual < ms(40));
        }
    }
}
