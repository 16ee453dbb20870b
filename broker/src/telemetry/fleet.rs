//! Counters and the state of the fleet.

use super::{BeaconBook, IntakeMetrics, MirrorCollector, counter, counters, from_zero, gauge, seconds};
use crate::publish::SnapshotReader;
use nearmost_config::MetricsConfig;
use nearmost_core::fleet::BeaconOutcome;
use nearmost_core::health::{Reason, State};
use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// What the fleet's driver counts. States of mirrors are read from the snapshot at each scrape.
#[derive(Clone)]
pub struct FleetMetrics {
    /// `nearmost_transitions_total{from,to}`: verdicts that changed their state.
    pub transitions: IntCounterVec,
    /// `nearmost_failovers_total{reason}`: verdicts that took a mirror away from new users, by why.
    pub failovers: IntCounterVec,
    /// `nearmost_snapshots_published_total`: snapshots published.
    pub snapshots: IntCounter,
    /// `nearmost_publish_delay_seconds`: from a change of health to the snapshot that holds it.
    pub publish_delay: Histogram,
    /// `nearmost_fleet_beacons_total{outcome}`: authenticated beacons, by what the fleet made of them.
    pub beacons: IntCounterVec,
    /// `nearmost_client_failures_total{result}`: clients' reports of failure, by whether one had a mirror
    /// probed (`probed`), told nothing new (`known`), or came when too many waited (`dropped`).
    pub client_failures: IntCounterVec,
    /// `nearmost_peer_facts_total{result}`: what other brokers told of mirrors: `taken`, or `left_out` where
    /// the mirror is not registered here or too many brokers tell.
    pub peer_facts: IntCounterVec,
    /// `nearmost_self_doubt`: 1 while the broker takes itself to be cut off.
    pub self_doubt: IntGauge,
    /// What beacons cost.
    pub intake: IntakeMetrics,
    /// Beacons by node.
    pub beacons_by_node: BeaconBook,
}

impl FleetMetrics {
    /// Registers them, and what is read from the snapshot.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(
        registry: &Registry,
        snapshot: SnapshotReader,
        most: MetricsConfig,
    ) -> Result<FleetMetrics, Error> {
        let metrics = FleetMetrics::of(registry, snapshot.clone(), most.max_nodes)?;
        MirrorCollector::register(registry, snapshot, most)?;
        for from in State::ALL {
            let to = State::ALL.into_iter().filter(|to| *to != from);
            to.for_each(|to| metrics.transitions.with_label_values(&[from.as_str(), to.as_str()]).inc_by(0));
        }
        from_zero(&metrics.failovers, Reason::ALL.map(Reason::code));
        from_zero(&metrics.beacons, BeaconOutcome::ALL.map(BeaconOutcome::label));
        from_zero(&metrics.client_failures, ["probed", "known", "dropped"]);
        from_zero(&metrics.peer_facts, ["taken", "left_out"]);
        Ok(metrics)
    }

    fn of(registry: &Registry, snapshot: SnapshotReader, nodes: usize) -> Result<FleetMetrics, Error> {
        Ok(FleetMetrics {
            transitions: counters(
                registry,
                "nearmost_transitions_total",
                "Verdicts on mirrors that changed their state.",
                &["from", "to"],
            )?,
            failovers: counters(
                registry,
                "nearmost_failovers_total",
                "Verdicts that took a mirror away from new users, by why.",
                &["reason"],
            )?,
            snapshots: counter(registry, "nearmost_snapshots_published_total", "Snapshots published.")?,
            publish_delay: seconds(
                registry,
                "nearmost_publish_delay_seconds",
                "Time from a change of health to the snapshot that holds it.",
            )?,
            beacons: counters(
                registry,
                "nearmost_fleet_beacons_total",
                "Authenticated beacons, by what the fleet made of them.",
                &["outcome"],
            )?,
            client_failures: counters(
                registry,
                "nearmost_client_failures_total",
                "Clients' reports that they do not reach a mirror, by what became of one.",
                &["result"],
            )?,
            peer_facts: counters(
                registry,
                "nearmost_peer_facts_total",
                "What other brokers told of mirrors, by what became of it.",
                &["result"],
            )?,
            self_doubt: gauge(
                registry,
                "nearmost_self_doubt",
                "1 while the broker takes itself to be cut off and evicts nobody on its own word.",
            )?,
            intake: IntakeMetrics::register(registry)?,
            beacons_by_node: BeaconBook::register(registry, snapshot, nodes)?,
        })
    }

    /// Counts a transition and, where it took a mirror away from new users, why.
    pub fn transition(&self, from: State, to: State, why: Reason) {
        // Only the reason of a verdict may change.
        if from != to {
            self.transitions.with_label_values(&[from.as_str(), to.as_str()]).inc();
        }
        if from.eligible() && !to.eligible() {
            self.failovers.with_label_values(&[why.code()]).inc();
        }
    }

    /// Counts a client's report of failure; whether it had the mirror probed.
    pub fn client_failure(&self, asks: bool) {
        self.client_failures.with_label_values(&[if asks { "probed" } else { "known" }]).inc();
    }

    /// Counts what another broker told, and how much of it was left out.
    pub fn peer_facts(&self, told: usize, left_out: usize) {
        let taken = told.saturating_sub(left_out);
        for (result, count) in [("taken", taken), ("left_out", left_out)] {
            self.peer_facts.with_label_values(&[result]).inc_by(count as u64);
        }
    }

    /// Counts clients' reports of failure that the driver had no room for.
    pub fn complaints_dropped(&self) -> IntCounter {
        self.client_failures.with_label_values(&["dropped"])
    }

    /// Counts an authenticated beacon.
    pub fn beacon(&self, outcome: BeaconOutcome) {
        self.beacons.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a snapshot, and how long its oldest change waited for it.
    pub fn published_after(&self, delay: Duration) {
        self.snapshots.inc();
        self.publish_delay.observe(delay.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;

    #[test]
    fn a_mirror_that_new_users_lose_is_a_failover_and_others_are_not() {
        let fixture = Fixture::five_mirrors();
        let registry = Registry::new();
        let fleet = FleetMetrics::register(&registry, fixture.reader(), MetricsConfig::default()).unwrap();
        fleet.transition(State::Up, State::Suspect, Reason::MissedBeacons);
        fleet.transition(State::Suspect, State::Down, Reason::SilentAndUnreachable);
        fleet.transition(State::Down, State::Down, Reason::HeldDown);
        fleet.transition(State::Down, State::Warming, Reason::Proven);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "nearmost_failovers_total{reason=\"silent_and_unreachable\"} 1",
            "nearmost_failovers_total{reason=\"missed_beacons\"} 0",
            "nearmost_failovers_total{reason=\"held_down\"} 0",
            "nearmost_transitions_total{from=\"suspect\",to=\"down\"} 1",
            "nearmost_transitions_total{from=\"down\",to=\"warming\"} 1",
            "nearmost_transitions_total{from=\"up\",to=\"draining\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("from=\"down\",to=\"down\""));
    }
}
