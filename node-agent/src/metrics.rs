//! What the agent counts, for Prometheus.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `nearmost_agent_build_info` | `version` | 1; says which version runs |
//! | `process_…` | | CPU, memory, files, threads and start of the process, named as of any program |
//! | `nearmost_agent_sessions` | | sessions with brokers that are on |
//! | `nearmost_agent_session_ends_total` | `reason` | attempts and sessions that ended, by reason |
//! | `nearmost_agent_beacons_total` | | beacons sent |
//! | `nearmost_agent_beacon_errors_total` | | beacons that the system did not take |
//! | `nearmost_agent_reports_total` | | reports sent, over all sessions |
//! | `nearmost_agent_report_acks_total` | | reports that brokers acknowledged |
//! | `nearmost_agent_service_healthy` | `domain`, `mirror` | 1 while all checks of the service pass |
//! | `nearmost_agent_service_ready` | `domain`, `mirror` | 1 while the service may get users |
//! | `nearmost_agent_service_connections` | `domain`, `mirror` | established connections on its port |
//! | `nearmost_agent_service_capacity_connections` | `domain`, `mirror` | connections that it is declared to carry; 0 for none declared |
//! | `nearmost_agent_service_stopped` | `domain`, `mirror` | 1 while its process ended or stands still, or was not proven since |
//! | `nearmost_agent_service_process` | `domain`, `mirror` | 1 while its process runs; only where it is watched |
//! | `nearmost_agent_told_eligible` | `broker`, `domain`, `mirror`, `family` | 1 while that broker sends new users there, as it says itself |
//! | `nearmost_agent_told_users` | `broker`, `domain`, `mirror` | users of the mirror that the broker knows of |
//! | `nearmost_agent_told_users_ratio` | `broker`, `domain`, `mirror` | those as a share of all its domain's users, 0 to 1; absent while there are none |
//! | `nearmost_agent_told_beacons_refused` | `broker` | beacons in this node's name whose signature was wrong, since the broker began |
//! | `nearmost_agent_checks_stuck` | | checks that hang: run far beyond their timeout, or are not started |
//! | `nearmost_agent_draining` | | 1 while draining |
//! | `nearmost_agent_cpu_ratio` | | CPU in use on the machine, 0 to 1 |
//! | `nearmost_agent_memory_ratio` | | memory in use on the machine, 0 to 1 |
//! | `nearmost_agent_path_readings_total` | `result` | readings of connections' round trips (`read`, `refused`) |
//! | `nearmost_agent_path_networks` | | client networks of the last reading |
//! | `nearmost_agent_path_connections` | | connections that their round trips were read off |
//! | `nearmost_agent_path_networks_dropped_total` | `reason` | client networks not told: beyond `limit`, or to a `slow` broker |
//! | `nearmost_agent_path_connections_dropped_total` | | connections beyond what one reading looks at |
//! | `nearmost_agent_measures_total` | `result` | what became of orders to measure (`measured`, `failed`, `forbidden`, `overload`), and answers that found no room (`untold`) |
//! | `nearmost_agent_witness_orders_total` | `result` | what became of orders to probe other nodes' mirrors (`passed`, `failed`; declined: `disabled`, `forbidden`, `too_fast`, `overload`, `bad_order`), and answers that found no room (`untold`) |
//! | `nearmost_agent_ingress_connections` | | connections of clients |
//! | `nearmost_agent_ingress_sessions` | `role` | sessions of clients that are served (`primary`) and kept warm (`standby`) |
//! | `nearmost_agent_ingress_flows` | `kind` | flows that are handed to services (`udp`, `tcp`) |
//! | `nearmost_agent_ingress_flow_ends_total` | `kind`, `reason` | flows that ended: `udp` by `idle`, `refused` (ICMP), `failed`, `no_socket`, `session`; `tcp` by `ended`, `broken` |
//! | `nearmost_agent_ingress_flows_failed_total` | `reason` | streams that got no connection (`not_served`, `not_primary`, `too_many`, `refused`, `timeout`, `unreachable`) |
//! | `nearmost_agent_ingress_bytes_total` | `kind`, `way` | payload of flows, `up` to services and `down` to clients |
//! | `nearmost_agent_ingress_datagrams_total` | `way` | datagrams of clients, beacons among them |
//! | `nearmost_agent_ingress_duplicates_total` | | packets of flows that had come before |
//! | `nearmost_agent_ingress_dropped_total` | `reason` | packets of flows not handed on (`not_served`, `not_attached`, `too_many`, `too_old`, `too_large`, `overload`, `socket`, `connection`, `range`) |
//! | `nearmost_agent_ingress_refused_total` | `reason` | connections refused (`limit`, `network_limit`, `network_rate`, `rate`, `protocol`, `handshake`, `handshake_timeout`, `tripwire_limit`) and sessions (`full`, `draining`, `unproven`, `unknown_domain`) |
//! | `nearmost_agent_ingress_bad_frames_total` | `reason` | what could not be read of messages, stream headers and datagrams |
//! | `nearmost_agent_ingress_closed_total` | `reason` | connections closed from here |
//! | `nearmost_agent_ingress_tripwires` | | tripwire connections |
//! | `nearmost_agent_ingress_tunnels` | | tunnels of clients whose network lets no UDP through |
//!
//! Labels are bounded: reasons are a fixed list, services and brokers are those of the configuration. Counters whose
//! labels have a fixed list begin at 0 with each of its values.

use crate::dial::LinkError;
use crate::ingress::IngressMetrics;
use crate::link::ReportBody;
use crate::paths::Reading;
use crate::status::{AgentStatus, ProcessStatus};
use nearmost_wire::agent::Refusal;
use nearmost_wire::witness::Decline;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::{Mutex, PoisonError};

/// What the agent counts.
pub struct Metrics {
    registry: Registry,
    /// Sessions with brokers.
    pub sessions: SessionMetrics,
    /// Beacons.
    pub beacons: BeaconMetrics,
    /// Reports.
    pub reports: ReportMetrics,
    /// Checks that hang.
    pub checks_stuck: IntGauge,
    /// Round trips.
    pub paths: PathMetrics,
    /// What became of orders to probe other nodes' mirrors, by `result`.
    pub witnesses: IntCounterVec,
    /// The ingress.
    pub ingress: IngressMetrics,
    services: Services,
    told: Told,
    machine: Machine,
}

/// What brokers say of this node.
struct Told {
    eligible: IntGaugeVec,
    users: GaugeVec,
    share: GaugeVec,
    beacons_refused: GaugeVec,
    /// Held while they are taken over, so that no page lacks what is still so.
    turn: Mutex<()>,
}

/// What is counted of sessions with brokers.
pub struct SessionMetrics {
    /// Those that are on.
    pub on: IntGauge,
    /// Attempts and sessions that ended, by `reason`.
    pub ends: IntCounterVec,
}

/// What is counted of reports.
pub struct ReportMetrics {
    /// Sent.
    pub sent: IntCounter,
    /// Acknowledged.
    pub acks: IntCounter,
}

/// What is counted of beacons.
pub struct BeaconMetrics {
    /// Sent.
    pub sent: IntCounter,
    /// Not taken by the system.
    pub failed: IntCounter,
}

/// What is counted of round trips.
#[derive(Clone)]
pub struct PathMetrics {
    readings: IntCounterVec,
    networks: IntGauge,
    connections: IntGauge,
    /// Client networks that were not told, by `reason`.
    pub networks_dropped: IntCounterVec,
    connections_dropped: IntCounter,
    /// What became of orders to measure, by `result`.
    pub measures: IntCounterVec,
}

struct Services {
    healthy: IntGaugeVec,
    ready: IntGaugeVec,
    connections: IntGaugeVec,
    capacity: IntGaugeVec,
    stopped: IntGaugeVec,
    process: IntGaugeVec,
}

struct Machine {
    draining: IntGauge,
    cpu: Gauge,
    memory: Gauge,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A metric whose name or labels the library refuses.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = IntGaugeVec::new(opts("build_info", "1; says which version runs"), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let services = Services {
            healthy: per_service(r, "healthy", "1 while all checks of the service pass")?,
            ready: per_service(r, "ready", "1 while the service may get users")?,
            connections: per_service(r, "connections", "Established connections on the service's port")?,
            capacity: per_service(
                r,
                "capacity_connections",
                "Connections that the service is declared to carry; 0 for none declared",
            )?,
            stopped: per_service(r, "stopped", "1 while the service's process ended or stands still")?,
            process: per_service(r, "process", "1 while the service's process runs, where it is watched")?,
        };
        let told = Told::new(r)?;
        let machine = Machine {
            draining: gauge(r, "draining", "1 while draining")?,
            cpu: ratio(r, "cpu_ratio", "CPU in use on the machine, 0 to 1")?,
            memory: ratio(r, "memory_ratio", "Memory in use on the machine, 0 to 1")?,
        };
        let metrics = Metrics {
            sessions: SessionMetrics {
                on: gauge(r, "sessions", "Sessions with brokers that are on")?,
                ends: counters(
                    r,
                    "session_ends_total",
                    "Attempts and sessions with brokers that ended, by reason",
                    "reason",
                )?,
            },
            beacons: BeaconMetrics {
                sent: counter(r, "beacons_total", "Beacons sent")?,
                failed: counter(r, "beacon_errors_total", "Beacons that the system did not take")?,
            },
            reports: ReportMetrics {
                sent: counter(r, "reports_total", "Reports sent, over all sessions")?,
                acks: counter(r, "report_acks_total", "Reports that brokers acknowledged")?,
            },
            checks_stuck: gauge(
                r,
                "checks_stuck",
                "Checks that hang: run far beyond their timeout, or are not started",
            )?,
            paths: PathMetrics::new(r)?,
            witnesses: counters(
                r,
                "witness_orders_total",
                "What became of orders to probe other nodes' mirrors, by result",
                "result",
            )?,
            ingress: IngressMetrics::new(r)?,
            services,
            told,
            machine,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Lets what never happened be seen not to have happened.
    fn begin(&self) {
        from_zero(&self.sessions.ends, LinkError::LABELS);
        from_zero(&self.sessions.ends, Refusal::ALL.map(Refusal::label));
        from_zero(&self.witnesses, ["passed", "failed", "untold"]);
        from_zero(&self.witnesses, Decline::ALL.map(Decline::label));
        from_zero(&self.paths.readings, ["read", "refused"]);
        from_zero(&self.paths.networks_dropped, ["limit", "slow"]);
        from_zero(&self.paths.measures, ["measured", "failed", "forbidden", "overload", "untold"]);
    }

    /// Takes over what is reported.
    pub fn reported(&self, report: &ReportBody) {
        self.machine.draining.set(report.draining.into());
        self.machine.cpu.set(report.cpu.into());
        self.machine.memory.set(report.memory.into());
        let Services { healthy, ready, connections, capacity, stopped, .. } = &self.services;
        for service in &report.services {
            let labels = [service.domain.as_str(), service.mirror.as_str()];
            healthy.with_label_values(&labels).set(service.healthy.into());
            ready.with_label_values(&labels).set(service.ready.into());
            connections.with_label_values(&labels).set(service.connections.into());
            capacity.with_label_values(&labels).set(service.capacity.into());
            stopped.with_label_values(&labels).set(service.stopped.into());
        }
    }

    /// Takes over what brokers say of this node. Of mirrors that it does not have nothing is told.
    pub fn told(&self, status: &AgentStatus) {
        let Told { eligible, users, share, beacons_refused, turn } = &self.told;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        eligible.reset();
        [users, share, beacons_refused].into_iter().for_each(GaugeVec::reset);
        let ours = |domain: &str, mirror: &str| {
            status.services.iter().any(|s| s.domain == domain && s.mirror == mirror)
        };
        for broker in &status.brokers {
            let id = broker.id.as_str();
            for said in broker.standing.iter().filter(|s| ours(&s.domain, &s.mirror)) {
                let family = if said.family == "v6" { "v6" } else { "v4" };
                let labels = [id, &said.domain, &said.mirror, family];
                eligible.with_label_values(&labels).set(said.eligible.into());
            }
            let Some(usage) = &broker.usage else { continue };
            beacons_refused.with_label_values(&[id]).set(usage.beacons_refused as f64);
            for used in usage.mirrors.iter().filter(|u| ours(&u.domain, &u.mirror)) {
                let labels = [id, &*used.domain, &*used.mirror];
                users.with_label_values(&labels).set(used.users.into());
                if let Some(part) = used.share {
                    share.with_label_values(&labels).set(part.into());
                }
            }
        }
    }

    /// Takes over what is known of processes.
    pub fn processes(&self, processes: &[ProcessStatus]) {
        for process in processes {
            let labels = [process.domain.as_str(), process.mirror.as_str()];
            let runs = matches!(process.state.as_str(), "running" | "proving");
            self.services.process.with_label_values(&labels).set(runs.into());
        }
    }

    /// Drops what is known of services, because their configuration changed.
    pub fn forget_services(&self) {
        let Services { healthy, ready, connections, capacity, stopped, process } = &self.services;
        for vec in [healthy, ready, connections, capacity, stopped, process] {
            vec.reset();
        }
    }

    /// The page in Prometheus' text format.
    ///
    /// # Errors
    /// What the library could not write.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let all = {
            let _turn = self.told.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.registry.gather()
        };
        let mut page = Vec::new();
        TextEncoder::new().encode(&all, &mut page)?;
        Ok(page)
    }
}

impl Told {
    fn new(r: &Registry) -> Result<Told, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let vec = GaugeVec::new(opts(name, help), labels)?;
            r.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let mirror = ["broker", "domain", "mirror"];
        let eligible = opts("told_eligible", "1 while that broker sends new users to the mirror");
        let eligible = IntGaugeVec::new(eligible, &["broker", "domain", "mirror", "family"])?;
        r.register(Box::new(eligible.clone()))?;
        Ok(Told {
            eligible,
            users: gauges("told_users", "Users of the mirror that the broker knows of", &mirror)?,
            share: gauges("told_users_ratio", "The mirror's share of its domain's users, 0 to 1", &mirror)?,
            beacons_refused: gauges(
                "told_beacons_refused",
                "Beacons in this node's name whose signature was wrong, since the broker began",
                &["broker"],
            )?,
            turn: Mutex::default(),
        })
    }
}

impl PathMetrics {
    fn new(registry: &Registry) -> Result<PathMetrics, prometheus::Error> {
        let r = registry;
        Ok(PathMetrics {
            readings: counters(
                r,
                "path_readings_total",
                "Readings of connections' round trips, by result",
                "result",
            )?,
            networks: gauge(r, "path_networks", "Client networks of the last reading")?,
            connections: gauge(
                r,
                "path_connections",
                "Connections that the last reading's round trips were read off",
            )?,
            networks_dropped: counters(
                r,
                "path_networks_dropped_total",
                "Client networks that were not told, by reason",
                "reason",
            )?,
            connections_dropped: counter(
                r,
                "path_connections_dropped_total",
                "Connections beyond what one reading looks at",
            )?,
            measures: counters(r, "measures_total", "What became of orders to measure, by result", "result")?,
        })
    }

    /// A reading was made.
    pub fn read(&self, reading: &Reading) {
        let networks: usize = reading.services.iter().map(|s| s.samples.len()).sum();
        self.readings.with_label_values(&["read"]).inc();
        self.networks.set(i64::try_from(networks).unwrap_or(i64::MAX));
        self.connections.set(i64::try_from(reading.connections).unwrap_or(i64::MAX));
        self.networks_dropped.with_label_values(&["limit"]).inc_by(reading.left_out);
        self.connections_dropped.inc_by(reading.unread);
    }

    /// A reading could not be made.
    pub fn not_read(&self) {
        self.readings.with_label_values(&["refused"]).inc();
        self.networks.set(0);
        self.connections.set(0);
    }
}

/// Lets counters begin at 0 with each of the values of their one label.
pub(crate) fn from_zero<'a>(counters: &IntCounterVec, labels: impl IntoIterator<Item = &'a str>) {
    labels.into_iter().for_each(|label| counters.with_label_values(&[label]).inc_by(0));
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("nearmost_agent")
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let metric = IntCounter::with_opts(opts(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(opts(name, help), &[label])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn ratio(registry: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    let metric = Gauge::with_opts(opts(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn per_service(registry: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(opts(name, help).subsystem("service"), &["domain", "mirror"])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::agent::ServiceReport;

    #[test]
    fn the_page_shows_what_is_reported() {
        let metrics = Metrics::new().expect("metrics");
        let service = ServiceReport {
            domain: "play.example".into(),
            mirror: "lon".into(),
            healthy: true,
            ready: false,
            stopped: false,
            problem: None,
            connections: 7,
            capacity: 0,
        };
        metrics.sessions.on.set(2);
        metrics.ingress.refused("full");
        metrics.sessions.ends.with_label_values(&["lost"]).inc();
        let reading = Reading { connections: 9, left_out: 3, unread: 2, ..Reading::default() };
        metrics.paths.read(&reading);
        metrics.paths.measures.with_label_values(&["forbidden"]).inc();
        metrics.reported(&ReportBody { draining: true, cpu: 0.5, memory: 0.25, services: vec![service] });
        let page = String::from_utf8(metrics.render().expect("a page")).expect("text");
        for line in [
            "nearmost_agent_sessions 2",
            "nearmost_agent_session_ends_total{reason=\"lost\"} 1",
            "nearmost_agent_service_healthy{domain=\"play.example\",mirror=\"lon\"} 1",
            "nearmost_agent_service_ready{domain=\"play.example\",mirror=\"lon\"} 0",
            "nearmost_agent_service_connections{domain=\"play.example\",mirror=\"lon\"} 7",
            "nearmost_agent_service_capacity_connections{domain=\"play.example\",mirror=\"lon\"} 0",
            "nearmost_agent_session_ends_total{reason=\"wrong_key\"} 0",
            concat!("nearmost_agent_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "nearmost_agent_checks_stuck 0",
            "nearmost_agent_ingress_refused_total{reason=\"full\"} 1",
            "nearmost_agent_draining 1",
            "nearmost_agent_cpu_ratio 0.5",
            "nearmost_agent_beacons_total 0",
            "nearmost_agent_path_readings_total{result=\"read\"} 1",
            "nearmost_agent_path_networks 0",
            "nearmost_agent_path_connections 9",
            "nearmost_agent_path_networks_dropped_total{reason=\"limit\"} 3",
            "nearmost_agent_path_connections_dropped_total 2",
            "nearmost_agent_measures_total{result=\"forbidden\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line:?} is not in\n{page}");
        }
        metrics.forget_services();
        let page = String::from_utf8(metrics.render().expect("a page")).expect("text");
        assert!(!page.contains("play.example"));
    }

    #[test]
    fn what_brokers_say_is_shown_of_our_mirrors_while_they_say_it() {
        use crate::status::{MirrorUsageStatus, ServiceStatus, UsageStatus};
        use nearmost_wire::identity::{KeyPair, Role};
        let metrics = Metrics::new().expect("metrics");
        let id = |role| KeyPair::from_seed(role, &[1; 32]).id();
        let mut status = AgentStatus::new(id(Role::Node), [id(Role::Broker)]);
        let service = |mirror: &str| ServiceStatus {
            domain: "play.example".into(),
            mirror: mirror.into(),
            healthy: true,
            ready: true,
            problem: None,
            connections: 0,
            capacity: 0,
        };
        status.services = vec![service("lon")];
        let used = |mirror: &str, share| MirrorUsageStatus {
            domain: "play.example".into(),
            mirror: mirror.into(),
            users: 12.0,
            share,
        };
        status.brokers[0].usage = Some(UsageStatus {
            mirrors: vec![used("lon", Some(0.4)), used("other", None)],
            beacons_refused: 3,
        });
        metrics.told(&status);
        let page = || String::from_utf8(metrics.render().expect("a page")).expect("UTF-8");
        let shown = page();
        let broker = &status.brokers[0].id;
        let labels = format!("{{broker=\"{broker}\",domain=\"play.example\",mirror=\"lon\"}}");
        for line in [
            format!("nearmost_agent_told_users{labels} 12\n"),
            format!("nearmost_agent_told_users_ratio{labels} 0.4"),
            format!("nearmost_agent_told_beacons_refused{{broker=\"{broker}\"}} 3\n"),
        ] {
            assert!(shown.contains(&line), "{line} is not in {shown}");
        }
        assert!(!shown.contains("mirror=\"other\""), "a broker makes no series of its own: {shown}");
        // Whoever asks in the middle of it misses nothing.
        std::thread::scope(|scope| {
            let again = scope.spawn(|| (0..500).for_each(|_| metrics.told(&status)));
            while !again.is_finished() {
                assert!(page().contains("nearmost_agent_told_users{"), "it was said before, and is still");
            }
        });
        status.brokers[0].usage = None;
        metrics.told(&status);
        assert!(!page().contains("nearmost_agent_told_users{"), "it says nothing any more");
    }
}
