//! The fleet's periods, bounds and schedules.

use crate::health::damping::DampingRules;
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
    /// Longest wait for one attempt while a mirror is suspect and what its answers usually take is not
    /// known; never more than its probe's own timeout.
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
    /// How many brokers of a federation probe each mirror as a matter of routine; at least 1.
    pub probe_vantages: usize,
    /// How reluctantly mirrors are taken out, and how calmly they come back.
    pub caution: Caution,
}

/// How reluctantly mirrors are taken out, and how calmly they come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Caution {
    /// Most of a domain's mirrors of one continent that may be out on the broker's word alone, as a
    /// share of 0..=1; one may always.
    pub region_cap: f64,
    /// Below this share of a domain's weight, those that are out on the broker's word alone are
    /// answered again, 0..=1.
    pub panic_below: f64,
    /// How repeated failures count; whether fail-back is manual is the domain's to say.
    pub damping: DampingRules,
    /// Rounds of probing that fail before the broker alone takes a mirror out, where no witness can say.
    pub alone_rounds: u32,
    /// Time between two of those rounds.
    pub alone_gap: Duration,
    /// An answer whose mirrors have not changed for this long is told with the longest TTL.
    pub calm_after: Duration,
    /// The broker has reference addresses to probe.
    pub references: bool,
    /// Whether agents are asked as witnesses.
    pub witnesses: bool,
}

impl Default for Caution {
    fn default() -> Self {
        Caution {
            region_cap: 0.3,
            panic_below: 0.5,
            damping: DampingRules::default(),
            alone_rounds: 3,
            alone_gap: Duration::from_millis(400),
            calm_after: Duration::from_secs(600),
            references: false,
            witnesses: true,
        }
    }
}

impl Default for FleetConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        FleetConfig {
            beacon_period: ms(200),
            missed_for_suspect: 2,
            silence_k: (5, 50),
            burst: vec![ms(0), ms(20), ms(40)],
            burst_timeout: ms(600),
            reprobe_interval: ms(10_000),
            unattended_reprobe: ms(1_000),
            resume_grace: ms(5_000),
            warm_for: Duration::ZERO,
            probe_vantages: 3,
            caution: Caution::default(),
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
