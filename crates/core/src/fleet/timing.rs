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
/// There and back over a kilometre that takes twice as much fibre, and over no distance at all.
const PER_KM: Duration = Duration::from_micros(20);
const DETOUR_LEAST: Duration = Duration::from_millis(20);
/// How long a brisk attempt waits at least, one whose answer's longest time is known, …
const LEAST_BRISK: Duration = Duration::from_millis(120);
const LEAST_BOUNDED: Duration = Duration::from_millis(80);
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
    (usual + (usual / 8).clamp(MARGIN.0, MARGIN.1)).max(LEAST_BRISK)
}

/// The same where nothing is urgent, or the network is bad.
pub(super) fn patient(usual: Duration) -> Duration {
    (usual * 2).max(LEAST_PATIENT)
}

/// How long to wait for an answer that takes `bound` at most, by all that is known.
pub(super) fn bounded(bound: Duration) -> Duration {
    (bound + MARGIN.0).max(LEAST_BOUNDED)
}

/// How long an answer between two places takes at most, with what the broker measured of each: there
/// and back over twice the distance in fibre, and by way of the broker at most. Places may be wrong,
/// measured times are not: the way between the two is never shorter than their difference.
pub(super) fn between(km: Option<f64>, (one, other): (Duration, Duration)) -> Duration {
    let by_broker = one + other;
    let difference = one.abs_diff(other);
    let along = km.map(|km| DETOUR_LEAST + PER_KM.mul_f64(km.clamp(0.0, 20_100.0)));
    along.map_or(by_broker, |along| along.clamp(difference, by_broker))
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

    #[test]
    fn between_two_places_it_takes_as_long_as_distance_and_the_broker_say() {
        assert_eq!(between(None, (ms(80), ms(150))), ms(230));
        assert_eq!(between(Some(1_000.0), (ms(80), ms(100))), ms(40));
        // A place that is wrong is overruled by what was measured.
        assert_eq!(between(Some(0.0), (ms(20), ms(150))), ms(130));
        assert_eq!(between(Some(20_000.0), (ms(20), ms(30))), ms(50));
        assert_eq!(between(Some(f64::INFINITY), (ms(200), ms(300))), ms(422));
        assert!(bounded(ms(40)) >= ms(80) && bounded(ms(300)) == ms(350));
    }
}
