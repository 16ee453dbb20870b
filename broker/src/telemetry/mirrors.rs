//! Mirrors, domains and regions, read from the snapshot at each scrape, so that what is removed vanishes.
//!
//! ```text
//!                 ┌─ sums: by region and state, domains by how they are served      always whole
//! snapshot ─ walk ┤
//!                 └─ series of their own: the first so many mirrors and domains     bounded by settings
//!                      (those in trouble come first), the rest is counted as left out
//! ```

use super::gauge_of;
use crate::clock::unix_now;
use crate::publish::SnapshotReader;
use nearmost_config::MetricsConfig;
use nearmost_core::geo::CountryCode;
use nearmost_core::geo::countries;
use nearmost_core::health::{Family, State};
use nearmost_core::live::LiveMirror;
use nearmost_core::registry::{Domain, Mirror, Registry as Registered};
use nearmost_core::snapshot::Snapshot;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where something is that is nowhere.
const UNKNOWN: &str = "unknown";
/// Continents, as geo databases divide the world.
const REGIONS: [&str; 8] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA", UNKNOWN];
/// How a domain is served: by a mirror at least, by none of those it has, or it has none.
const SERVED: [&str; 3] = ["served", "unserved", "empty"];

/// The continent of a country.
fn region(country: Option<CountryCode>) -> &'static str {
    country.and_then(countries::find).map_or(UNKNOWN, |c| c.continent.code())
}

/// The state that users meet: that of an eligible family if there is one, IPv4 first.
fn state(live: &LiveMirror) -> State {
    let addressed = || Family::ALL.into_iter().filter(|f| live.addr(*f).is_some());
    let family = addressed().find(|f| live.eligible(*f)).or_else(|| addressed().next());
    live.verdict(family.unwrap_or(Family::V4)).state
}

/// What a scrape reads of one mirror.
struct PerMirror {
    state: IntGaugeVec,
    /// Why, by whom, and since when.
    verdict: GaugeVec,
    info: IntGaugeVec,
    connections: IntGaugeVec,
    capacity: IntGaugeVec,
    cpu: GaugeVec,
    memory: GaugeVec,
    shed: GaugeVec,
}

impl PerMirror {
    fn new() -> Result<PerMirror, Error> {
        let mirror = &["domain", "mirror"];
        let ints = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let floats = |name, help, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        Ok(PerMirror {
            state: ints(
                "nearmost_mirror_state",
                "1 for the state that a mirror is in, 0 for the others.",
                &["domain", "mirror", "family", "state"],
            )?,
            verdict: floats(
                "nearmost_mirror_verdict_since_seconds",
                "Unix time since when the verdict is what it is; its age is time() less this.",
                &["domain", "mirror", "family", "state", "reason", "vantage"],
            )?,
            info: ints(
                "nearmost_mirror_info",
                "1; says on which node a mirror is, and where.",
                &["domain", "mirror", "node", "country", "region"],
            )?,
            connections: ints(
                "nearmost_mirror_connections",
                "Established connections on a mirror's service port, as its agent says.",
                mirror,
            )?,
            capacity: ints(
                "nearmost_mirror_capacity_connections",
                "Connections that a mirror's operator declared it can carry; 0 for none declared.",
                mirror,
            )?,
            cpu: floats(
                "nearmost_mirror_cpu_ratio",
                "CPU in use on a mirror's machine, 0 to 1, as its agent says.",
                mirror,
            )?,
            memory: floats(
                "nearmost_mirror_memory_ratio",
                "Memory in use on a mirror's machine, 0 to 1, as its agent says.",
                mirror,
            )?,
            shed: floats(
                "nearmost_mirror_shed_ratio",
                "Share of the users it is nearest to that a mirror sends on, 0 to 1.",
                mirror,
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 8] {
        let PerMirror { state, verdict, info, connections, capacity, cpu, memory, shed } = self;
        [state, verdict, info, connections, capacity, cpu, memory, shed]
    }

    fn fill(&self, registered: &Registered, domain: &Domain, mirror: &Mirror, live: &LiveMirror) {
        let name = [&*domain.name, &*mirror.name];
        for family in Family::ALL.into_iter().filter(|f| live.addr(*f).is_some()) {
            let v = live.verdict(family);
            for state in State::ALL {
                let labels = [name[0], name[1], family.as_str(), state.as_str()];
                self.state.with_label_values(&labels).set(i64::from(v.state == state));
            }
            let (reason, vantage) = (v.reason.code(), v.vantage.as_str());
            let labels = [name[0], name[1], family.as_str(), v.state.as_str(), reason, vantage];
            self.verdict.with_label_values(&labels).set(v.since.0 as f64 / 1000.0);
        }
        let node = mirror.node.and_then(|n| registered.nodes.get(n.0 as usize));
        let country = mirror.place.country;
        let code = country.map(|c| c.to_string());
        let labels = [
            name[0],
            name[1],
            node.map_or("", |n| &*n.name),
            code.as_deref().unwrap_or(UNKNOWN),
            region(country),
        ];
        self.info.with_label_values(&labels).set(1);
        self.connections.with_label_values(&name).set(live.load.connections.into());
        self.capacity.with_label_values(&name).set(live.load.capacity.into());
        self.cpu.with_label_values(&name).set(live.load.cpu.into());
        self.memory.with_label_values(&name).set(live.load.memory.into());
        let shed = f64::from(live.offer.shed) / f64::from(u16::MAX);
        self.shed.with_label_values(&name).set(shed);
    }
}

/// What a scrape reads of all together, and of each domain.
struct Whole {
    eligible: IntGaugeVec,
    mirrors: IntGaugeVec,
    regions: IntGaugeVec,
    domains: IntGaugeVec,
    left_out: IntGaugeVec,
    nodes: IntGauge,
    registry_version: IntGauge,
    map_version: IntGauge,
    age: Gauge,
}

impl Whole {
    fn new() -> Result<Whole, Error> {
        let ints = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        Ok(Whole {
            eligible: ints(
                "nearmost_mirrors_eligible",
                "Mirrors that new users are sent to, in any address family.",
                &["domain"],
            )?,
            mirrors: ints("nearmost_domain_mirrors", "Mirrors that a domain has.", &["domain"])?,
            regions: ints(
                "nearmost_region_mirrors",
                "Mirrors of all domains by continent and the state that users meet.",
                &["region", "state"],
            )?,
            domains: ints(
                "nearmost_domains",
                "Domains by whether a mirror is eligible (served), none of theirs is (unserved), or they have none (empty).",
                &["state"],
            )?,
            left_out: ints(
                "nearmost_series_left_out",
                "Mirrors, domains and nodes without series of their own, as settings allow no more.",
                &["kind"],
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

    fn all(&self) -> [&dyn Collector; 9] {
        let Whole {
            eligible,
            mirrors,
            regions,
            domains,
            left_out,
            nodes,
            registry_version,
            map_version,
            age,
        } = self;
        [eligible, mirrors, regions, domains, left_out, nodes, registry_version, map_version, age]
    }

    fn fill(&self, snapshot: &Snapshot) {
        let registry = &snapshot.registry;
        let nodes = registry.nodes.iter().filter(|n| !n.revoked).count();
        self.nodes.set(gauge_of(nodes));
        self.registry_version.set(i64::try_from(registry.version).unwrap_or(i64::MAX));
        self.map_version.set(i64::try_from(snapshot.map.version).unwrap_or(i64::MAX));
        let age = unix_now().0.saturating_sub(snapshot.published.0);
        self.age.set(Duration::from_millis(age).as_secs_f64());
        for region in REGIONS {
            State::ALL.into_iter().for_each(|s| self.regions.with_label_values(&[region, s.as_str()]).set(0));
        }
        SERVED.into_iter().for_each(|s| self.domains.with_label_values(&[s]).set(0));
        for (mirror, live) in registry.mirrors.iter().zip(&snapshot.live.mirrors) {
            let labels = [region(mirror.place.country), state(live).as_str()];
            self.regions.with_label_values(&labels).inc();
        }
    }
}

/// Mirrors of a domain, and those of them that are eligible.
struct Counted<'a> {
    domain: &'a Domain,
    mirrors: usize,
    eligible: usize,
}

impl Counted<'_> {
    fn state(&self) -> &'static str {
        match (self.eligible, self.mirrors) {
            (_, 0) => "empty",
            (0, _) => "unserved",
            _ => "served",
        }
    }
}

/// Reads the snapshot at each scrape.
pub(super) struct MirrorCollector {
    snapshot: SnapshotReader,
    most: MetricsConfig,
    desc: Vec<Desc>,
    /// Whether it was said that something is left out.
    said: AtomicBool,
}

impl MirrorCollector {
    pub fn register(registry: &Registry, snapshot: SnapshotReader, most: MetricsConfig) -> Result<(), Error> {
        let (mirrors, whole) = (PerMirror::new()?, Whole::new()?);
        let all = mirrors.all().into_iter().chain(whole.all());
        let desc = all.flat_map(Collector::desc).cloned().collect();
        registry.register(Box::new(MirrorCollector { snapshot, most, desc, said: AtomicBool::new(false) }))
    }

    fn fill(&self, snapshot: &Snapshot, mirrors: &PerMirror, whole: &Whole) {
        let (registry, live) = (&snapshot.registry, &snapshot.live.mirrors);
        whole.fill(snapshot);
        let of = |d: &Domain| d.mirrors.clone().filter_map(|i| live.get(i as usize));
        let counted = |domain| {
            let eligible = of(domain).filter(|l| l.eligible_any()).count();
            Counted { domain, mirrors: of(domain).count(), eligible }
        };
        let domains: Vec<Counted<'_>> = registry.domains.iter().map(counted).collect();
        domains.iter().for_each(|d| whole.domains.with_label_values(&[d.state()]).inc());
        for d in first(&domains, self.most.max_domains, |d| d.state() == "unserved") {
            whole.eligible.with_label_values(&[&*d.domain.name]).set(gauge_of(d.eligible));
            whole.mirrors.with_label_values(&[&*d.domain.name]).set(gauge_of(d.mirrors));
        }
        let all: Vec<(&Mirror, &LiveMirror)> = registry.mirrors.iter().zip(live).collect();
        let troubled = |(_, live): &(_, &LiveMirror)| state(live) != State::Up;
        for (mirror, live) in first(&all, self.most.max_mirrors, troubled) {
            if let Some(domain) = registry.domains.get(mirror.domain.0 as usize) {
                mirrors.fill(registry, domain, mirror, live);
            }
        }
        let nodes = registry.nodes.len();
        self.tell_left_out(
            whole,
            [
                ("mirrors", all.len().saturating_sub(self.most.max_mirrors)),
                ("domains", domains.len().saturating_sub(self.most.max_domains)),
                ("nodes", nodes.saturating_sub(self.most.max_nodes)),
            ],
        );
    }

    fn tell_left_out(&self, whole: &Whole, left_out: [(&'static str, usize); 3]) {
        for (kind, n) in left_out {
            whole.left_out.with_label_values(&[kind]).set(gauge_of(n));
        }
        let [(_, mirrors), (_, domains), (_, nodes)] = left_out;
        let any = mirrors + domains + nodes > 0;
        // Once, not with every scrape.
        if self.said.swap(any, Ordering::Relaxed) != any && any {
            tracing::warn!(
                mirrors,
                domains,
                nodes,
                "not all have series of their own in /metrics: settings [metrics] allow no more"
            );
        }
    }
}

/// The first so many, those that come first before all others.
fn first<T>(all: &[T], most: usize, comes_first: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
    let (before, after): (Vec<&T>, Vec<&T>) = all.iter().partition(|t| comes_first(t));
    before.into_iter().chain(after).take(most)
}

impl Collector for MirrorCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names and labels were accepted at registration, so there is no error to lose.
        let (Ok(mirrors), Ok(whole)) = (PerMirror::new(), Whole::new()) else { return Vec::new() };
        self.fill(&self.snapshot.load(), &mirrors, &whole);
        let all = mirrors.all().into_iter().chain(whole.all());
        // A family without a series cannot be written down.
        all.flat_map(Collector::collect).filter(|f| !f.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
