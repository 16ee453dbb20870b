//! The fleet's periods, bounds and schedules.

use std::time::Duration;

/// How patient the fleet is.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Time between two beacons of a node.
    pub beacon_period: Duration,
    /// Beacons missing in a row that raise suspicion; at least 1.
    pub missed_for_suspect: u32,
    /// Fewest and most missing beacons that evict where nobody can be asked; between them, the
    /// measured loss decides (ten while nothing was measured).
    pub silence_k: (u32, u32),
    /// When the attempts of a burst of probes start, from its beginning; at least one, at most 16.
    pub burst: Vec<Duration>,
    /// Longest wait for one attempt while a mirror is suspect; twice the mirror's usual answering
    /// time where that is longer, never more than its probe's own timeout.
    pub burst_timeout: Duration,
    /// Time between probes of a mirror that is up and watched by its agent; jittered by a fifth.
    pub reprobe_interval: Duration,
    /// Time between probes of a mirror on which a verdict hangs (unattended, or down and waiting
    /// for a passing probe); jittered by a fifth.
    pub unattended_reprobe: Duration,
    /// How long an agent has after the broker's restart before it counts as silent.
    pub resume_grace: Duration,
    /// How long a newly proven mirror warms up; zero for not at all.
    pub warm_for: Duration,
}

impl Default for FleetConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        FleetConfig {
            beacon_period: ms(200),
            missed_for_suspect: 2,
            silence_k: (5, 50),
            burst: vec![ms(0), ms(100), ms(300)],
            burst_timeout: ms(600),
            reprobe_interval: ms(10_000),
            unattended_reprobe: ms(1_000),
            resume_grace: ms(5_000),
            warm_for: Duration::ZERO,
        }
    }
}

impl FleetConfig {
    /// A beacon counts as missed when it is late by a quarter of the period: jitter of a long path.
    fn allowance(&self) -> Duration {
        self.beacon_period / 4
    }

    /// From the last beacon until `missed` are missing.
    pub(super) fn silence(&self, missed: u32) -> Duration {
        self.beacon_period * missed.max(1) + self.allowance()
    }

    /// A driver that looked away for longer than this was held up.
    pub(super) fn pause(&self) -> Duration {
        (self.beacon_period * 3).max(Duration::from_millis(500))
    }

    /// From a session's beginning until its first beacon is missed: the agent must hear of its key.
    pub(super) fn first_beacon(&self) -> Duration {
        Duration::from_secs(1) + self.silence(self.missed_for_suspect)
    }
}
