//! Counters and the state of the fleet.

use super::{IntakeMetrics, counter, counters, gauge, seconds};
use crate::clock::unix_now;
use crate::publish::SnapshotReader;
use nearmost_core::fleet::BeaconOutcome;
use nearmost_core::health::{Family, State};
use nearmost_core::snapshot::Snapshot;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::time::Duration;

/// What the fleet's driver counts. States of mirrors are read from the snapshot at each scrape.
#[derive(Clone)]
pub struct FleetMetrics {
    /// `nearmost_transitions_total{from,to}`: verdicts that changed their state.
    pub transitions: IntCounterVec,
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
}

impl FleetMetrics {
    /// Registers them, and what is read from the snapshot.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry, snapshot: SnapshotReader) -> Result<FleetMetrics, Error> {
        registry.register(Box::new(SnapshotCollector { snapshot, desc: Families::new()?.desc() }))?;
        Ok(FleetMetrics {
            transitions: counters(
                registry,
                "nearmost_transitions_total",
                "Verdicts on mirrors that changed their state.",
                &["from", "to"],
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
        })
    }

    /// Counts a transition.
    pub fn transition(&self, from: State, to: State) {
        self.transitions.with_label_values(&[from.as_str(), to.as_str()]).inc();
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

/// What a scrape reads from the snapshot.
struct Families {
    state: IntGaugeVec,
    /// Why, by whom, and since when.
    verdict: GaugeVec,
    eligible: IntGaugeVec,
    nodes: IntGauge,
    registry_version: IntGauge,
    map_version: IntGauge,
    age: Gauge,
}

impl Families {
    fn new() -> Result<Families, Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        Ok(Families {
            state: IntGaugeVec::new(
                opts("nearmost_mirror_state", "1 for the state that a mirror is in, 0 for the others."),
                &["domain", "mirror", "family", "state"],
            )?,
            verdict: GaugeVec::new(
                opts(
                    "nearmost_mirror_verdict_since_seconds",
                    "Unix time since when the verdict is what it is; its age is time() less this.",
                ),
                &["domain", "mirror", "family", "state", "reason", "vantage"],
            )?,
            eligible: IntGaugeVec::new(
                opts(
                    "nearmost_mirrors_eligible",
                    "Mirrors that new users are sent to, in any address family.",
                ),
                &["domain"],
            )?,
            nodes: IntGauge::new("nearmost_nodes", "Nodes registered, revoked ones not counted.")?,
            registry_version: IntGauge::new("nearmost_registry_version", "Version of the registry in use.")?,
            map_version: IntGauge::new(
                "nearmost_map_version",
                "Version of the map of client addresses in use.",
            )?,
            age: Gauge::new("nearmost_snapshot_age_seconds", "Time since the last snapshot was published.")?,
        })
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [
            &self.state,
            &self.verdict,
            &self.eligible,
            &self.nodes,
            &self.registry_version,
            &self.map_version,
            &self.age,
        ]
    }

    fn desc(&self) -> Vec<Desc> {
        self.all().into_iter().flat_map(Collector::desc).cloned().collect()
    }

    fn fill(&self, snapshot: &Snapshot) {
        let registry = &snapshot.registry;
        for (domain, live_of) in registry.domains.iter().map(|d| (d, d.mirrors.clone())) {
            let mut eligible = 0;
            for i in live_of {
                let (Some(mirror), Some(live)) =
                    (registry.mirrors.get(i as usize), snapshot.live.mirrors.get(i as usize))
                else {
                    continue;
                };
                eligible += i64::from(live.eligible_any());
                for family in Family::ALL.into_iter().filter(|f| live.addr(*f).is_some()) {
                    for state in State::ALL {
                        let labels = [&*domain.name, &*mirror.name, family.as_str(), state.as_str()];
                        let is = i64::from(live.verdict(family).state == state);
                        self.state.with_label_values(&labels).set(is);
                    }
                    let v = live.verdict(family);
                    let (reason, vantage) = (v.reason.code(), v.vantage.as_str());
                    let labels =
                        [&*domain.name, &*mirror.name, family.as_str(), v.state.as_str(), reason, vantage];
                    self.verdict.with_label_values(&labels).set(v.since.0 as f64 / 1000.0);
                }
            }
            self.eligible.with_label_values(&[&*domain.name]).set(eligible);
        }
        let nodes = registry.nodes.iter().filter(|n| !n.revoked).count();
        let as_gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.nodes.set(as_gauge(nodes as u64));
        self.registry_version.set(as_gauge(registry.version));
        self.map_version.set(as_gauge(snapshot.map.version));
        let age = unix_now().0.saturating_sub(snapshot.published.0);
        self.age.set(Duration::from_millis(age).as_secs_f64());
    }
}

/// Reads the snapshot at each scrape, so that removed mirrors vanish.
struct SnapshotCollector {
    snapshot: SnapshotReader,
    desc: Vec<Desc>,
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names and labels were accepted at registration, so there is no error to lose.
        let Ok(families) = Families::new() else { return Vec::new() };
        families.fill(&self.snapshot.load());
        families.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_removed_mirror_vanishes_and_a_changed_state_moves() {
        let mut fixture = Fixture::five_mirrors();
        let registry = Registry::new();
        FleetMetrics::register(&registry, fixture.reader()).unwrap();
        assert!(text(&registry).contains("mirror=\"syd\""));
        fixture.set_state("lon", State::Down);
        fixture.remove("syd");
        let text = text(&registry);
        assert!(!text.contains("mirror=\"syd\""), "{text}");
        assert!(text.contains("family=\"v4\",mirror=\"lon\",state=\"down\"} 1"), "{text}");
        assert!(text.contains("family=\"v4\",mirror=\"lon\",state=\"up\"} 0"), "{text}");
        assert!(text.contains("nearmost_mirrors_eligible{domain=\"play.nearmost.test\"} 3"), "{text}");
    }
}
