//! What the broker counts and logs.
//!
//! One structure a subsystem, each registered once with the registry that `GET /metrics` encodes.
//! Names begin with `nearmost_` (those of the process itself with `process_`, as everywhere), durations are in
//! seconds, counters end in `_total`. Every label takes its values from a fixed list, or from a bounded number
//! of mirrors, domains, nodes (`[metrics]` of the configuration) and peers, so series are bounded; what belongs
//! to a mirror is read from the snapshot at each scrape and vanishes with the mirror. Counters whose labels
//! have a fixed list begin at 0 with each of its values.

mod agents;
mod api;
mod beacons;
mod certificate;
mod clients;
mod fleet;
mod intake;
mod learning;
mod map;
mod mirrors;
mod paths;
mod peers;
mod probes;
pub mod process;
mod queues;
mod reports;
mod resolver;
mod sessions;
mod steering;
mod store;
pub mod traffic;
mod witnesses;

pub use agents::AgentMetrics;
pub use api::ApiMetrics;
pub use beacons::BeaconBook;
pub use certificate::HttpCertificateMetrics;
pub use clients::{ClientMetrics, ListMetrics};
pub use fleet::FleetMetrics;
pub use intake::IntakeMetrics;
pub use learning::LearningMetrics;
pub use map::MapMetrics;
pub use paths::PathMetrics;
pub use peers::{PeerMetrics, PeerSample};
pub use probes::ProbeMetrics;
pub use queues::QueueMetrics;
pub use reports::ReportMetrics;
pub use resolver::ResolverMetrics;
pub use sessions::{FollowedSession, SessionMetrics};
pub use steering::SteeringMetrics;
pub use store::StoreMetrics;
pub use witnesses::WitnessMetrics;

use mirrors::MirrorCollector;

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// Upper bounds of durations, in seconds: 100 µs to 10 s.
const SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    registered(registry, IntCounter::new(name, help)?)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

/// Lets counters begin at 0 with each of the values of their one label: what never happened is seen not to
/// have happened, and the first time shows as an increase.
fn from_zero<'a>(counters: &IntCounterVec, labels: impl IntoIterator<Item = &'a str>) {
    labels.into_iter().for_each(|label| counters.with_label_values(&[label]).inc_by(0));
}

fn gauge_of(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    registered(registry, IntGauge::new(name, help)?)
}

fn seconds(registry: &Registry, name: &str, help: &str) -> Result<Histogram, Error> {
    registered(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?)
}

fn seconds_by(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, Error> {
    registered(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use crate::store::{RedbStore, StoreHandle, StoreThread};
    use nearmost_config::MetricsConfig;
    use nearmost_core::fleet::BeaconOutcome;
    use nearmost_core::health::{Reason, State};
    use nearmost_core::time::UnixMillis;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// Every structure on one registry, each metric touched.
    fn all(store: &StoreHandle) -> Registry {
        let registry = Registry::new();
        let fixture = Fixture::five_mirrors();
        let api = ApiMetrics::register(&registry).unwrap();
        api.answered("/v1/fleet", 200, Duration::from_millis(2));
        api.auth_failures.with_label_values(&["token_unknown"]).inc();
        let agents = AgentMetrics::register(&registry).unwrap();
        agents.refusals.with_label_values(&["unknown_token"]).inc();
        agents.beacons_rejected.with_label_values(&["signature"]).inc();
        let fleet = FleetMetrics::register(&registry, fixture.reader(), MetricsConfig::default()).unwrap();
        fleet.transition(State::Up, State::Down, Reason::ProbeFailed);
        fleet.published_after(Duration::from_millis(3));
        fleet.beacon(BeaconOutcome::Accepted);
        StoreMetrics::register(&registry).unwrap().follow(store);
        ProbeMetrics::register(&registry).unwrap().skipped.inc();
        let paths = PathMetrics::register(&registry).unwrap();
        for counters in [&paths.samples, &paths.sessions, &paths.orders, &paths.results] {
            counters.with_label_values(&["taken"]).inc();
        }
        ResolverMetrics::register(&registry).unwrap().looked_up(Some(true));
        let clients = ClientMetrics::register(&registry).unwrap();
        clients.refusals.with_label_values(&["too_fast"]).inc();
        clients.messages.with_label_values(&["resolve"]).inc();
        clients.told.not_taken("refused");
        clients.handshakes_refused.with_label_values(&["limit"]).inc();
        let reports = ReportMetrics::register(&registry).unwrap();
        reports.taken.with_label_values(&["http"]).inc();
        reports.refused.with_label_values(&["rtt_range"]).inc();
        reports.nonces_dropped.with_label_values(&["busy"]).inc();
        let peers = PeerMetrics::register(&registry).unwrap();
        for counters in
            [&peers.delivered, &peers.received, &peers.refused, &peers.breaches, &peers.connections_refused]
        {
            counters.with_label_values(&["malformed"]).inc();
        }
        let some = Some(Duration::from_millis(5));
        peers.set(vec![PeerSample {
            name: "bob".into(),
            state: "up",
            queued: 1,
            oldest: some,
            rtt: some,
            contact: UnixMillis(1),
            compared: UnixMillis(0),
        }]);
        process::register(&registry, std::path::Path::new("/")).unwrap();
        let (queue, _) = tokio::sync::mpsc::channel::<()>(1);
        QueueMetrics::new().unwrap().with("driver", &queue).register(&registry).unwrap();
        registry
    }

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    fn with_all<T>(test: impl FnOnce(&Registry) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = StoreThread::spawn(Box::new(RedbStore::open(dir.path()).unwrap())).unwrap();
        test(&all(&store))
    }

    #[test]
    fn the_subsystems_share_one_registry() {
        let text = with_all(text);
        for name in [
            "nearmost_http_requests_total{code=\"2xx\",route=\"/v1/fleet\"} 1",
            "nearmost_mirror_state{domain=\"play.nearmost.test\",family=\"v4\",mirror=\"lon\",state=\"up\"} 1",
            "nearmost_transitions_total{from=\"up\",to=\"down\"} 1",
            "nearmost_mirrors_eligible{domain=\"play.nearmost.test\"} 5",
            "nearmost_store_batches_total 0",
            "nearmost_store_errors_total 0",
            "nearmost_probes_skipped_total 1",
            "nearmost_peer_delivered_total{answer=\"malformed\"} 1",
            "nearmost_resolver_lookups_total{result=\"found\"} 1",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn names_and_units_are_as_prometheus_likes_them() {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        // A machine with only Rust has no promtool; the rules it checks are few and checked below.
        if let Ok(mut child) = child {
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), with_all(text).as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "promtool: {said}");
        }
        for family in with_all(Registry::gather) {
            let ours = family.name().starts_with("nearmost_") || family.name().starts_with("process_");
            assert!(ours, "{}", family.name());
            let counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(family.name().ends_with("_total"), counter, "{}", family.name());
            assert!(!family.help().is_empty(), "{}", family.name());
        }
    }
}
