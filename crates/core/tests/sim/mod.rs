//! A small discrete-event world around a `Fleet`: hosts with agents and services, a network with
//! delay and loss, and a broker that can be held up. Everything random comes from one seed.

use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_core::fleet::{
    Fleet, FleetConfig, NodeReport, Output, PersistedVerdict, ProbeToken, ServiceReport, Transition,
};
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::health::{Family, State, Verdict};
use nearmost_core::id::NodeId;
use nearmost_core::registry::{
    AllDown, Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Node, NodeIndex, Orders,
    Policy, Registry,
};
use nearmost_core::time::{MonoTime, Now, UnixMillis};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// Wall time at the world's beginning, in milliseconds.
pub const EPOCH_MS: u64 = 1_800_000_000_000;
pub const DOMAIN: &str = "play.example";

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < p
    }
}

/// How a host's service answers outside probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Answers,
    Refuses,
    Swallows,
}

pub struct Host {
    pub service: [Service; 2],
    pub healthy: bool,
    pub draining: bool,
    agent: bool,
    life: u64,
    boot: u64,
    seq: u64,
    session: u64,
    delay_us: u64,
    /// The agent stands still until then.
    paused_until: u64,
    /// Every beacon is lost until then.
    lossy_until: u64,
    /// How far its clock is behind.
    pub skew_us: u64,
}

/// What reaches the broker.
#[derive(Clone, Debug)]
enum Arrival {
    SessionUp(usize, u64, u64),
    SessionLost(usize, u64),
    SessionLeft(usize, u64),
    Beacon(usize, u64, u64, bool),
    Report(usize, NodeReport),
    Probed(ProbeToken, bool, Duration),
}

#[derive(Clone, Debug)]
enum Event {
    SendBeacon(usize, u64),
    SendReport(usize, u64),
    Arrive(Arrival),
}

struct Scheduled(u64, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub struct World {
    pub rng: Rng,
    pub fleet: Fleet,
    pub hosts: Vec<Host>,
    pub registry: Registry,
    /// Every transition with its time in microseconds.
    pub log: Vec<(u64, Transition)>,
    /// Share of beacons lost.
    pub loss: f64,
    /// Chance at each beacon that a burst of losses begins, of up to three seconds.
    pub bursts: f64,
    /// Share of probes' results that never come.
    pub lost_results: f64,
    pub now_us: u64,
    held_until: u64,
    agenda: Agenda,
}

#[derive(Default)]
struct Agenda {
    heap: BinaryHeap<Reverse<Scheduled>>,
    count: u64,
}

impl Agenda {
    fn at(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Scheduled(at, self.count, event)));
    }
}

pub fn id(host: usize) -> NodeId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(host as u64).to_be_bytes());
    NodeId(bytes)
}

pub fn tcp_probe() -> CheckSpec {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    CheckSpec { kind: CheckKind::Tcp, interval, timeout, rise: 2, fall: 3 }
}

pub fn address(host: usize) -> MirrorAddress {
    MirrorAddress::Declared {
        v4: Some(Ipv4Addr::new(192, 0, 2, host as u8 + 1)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16 + 1)),
    }
}

/// One domain with a mirror on each of `hosts` nodes.
pub fn registry(hosts: usize) -> Registry {
    let mut r = Registry { version: 1, ..Registry::default() };
    let policy = Policy {
        answers: 2,
        ttl: Duration::from_secs(20),
        negative_ttl: Duration::from_secs(20),
        tie_band_ms: 5.0,
        tie_band_share: 0.05,
        failover: Default::default(),
        alpn: vec![],
        ..Policy::default()
    };
    let name: Arc<str> = DOMAIN.into();
    r.domains.push(Domain {
        name: name.clone(),
        mirrors: 0..hosts as u32,
        policy,
        records: vec![],
        redirect_hosts: vec![],
    });
    r.domain_by_name.insert(name.clone(), DomainIndex(0));
    for host in 0..hosts {
        r.node_by_id.insert(id(host), NodeIndex(host as u32));
        r.nodes.push(Node {
            name: format!("n{host:03}").into(),
            id: Some(id(host)),
            revoked: false,
            domains: vec![name.clone()],
            drained: false,
            place: None,
        });
        r.mirrors.push(Mirror {
            name: format!("m{host:03}").into(),
            domain: DomainIndex(0),
            node: Some(NodeIndex(host as u32)),
            address: address(host),
            port: 443,
            weight: 1,
            place: Place::default(),
            place_source: PlaceSource::Unknown,
            health: HealthMode::Agent,
            probe: Some(tcp_probe()),
            url: None,
            orders: Orders::default(),
        });
    }
    r
}

impl World {
    /// Hosts with an agent each; agents start within half a second.
    pub fn new(seed: u64, hosts: usize) -> World {
        World::with(seed, registry(hosts))
    }

    pub fn with(seed: u64, registry: Registry) -> World {
        let mut rng = Rng::new(seed);
        let hosts = registry.nodes.len();
        let fleet = Fleet::new(FleetConfig::default(), rng.next());
        let mut world = World {
            rng,
            fleet,
            hosts: Vec::new(),
            registry,
            log: Vec::new(),
            loss: 0.0,
            bursts: 0.0,
            lost_results: 0.0,
            now_us: 1_000_000,
            held_until: 0,
            agenda: Agenda::default(),
        };
        for host in 0..hosts {
            let delay_us = world.rng.between(1_000, 120_000);
            world.hosts.push(Host {
                service: [Service::Answers; 2],
                healthy: true,
                draining: false,
                agent: false,
                life: 0,
                boot: 0,
                seq: 0,
                session: 0,
                delay_us,
                paused_until: 0,
                lossy_until: 0,
                skew_us: 0,
            });
            let at = world.now_us + world.rng.below(500_000);
            world.start_agent(host, at);
        }
        world.apply();
        world
    }

    pub fn now(&self) -> Now {
        Now { mono: MonoTime(self.now_us), unix: UnixMillis(EPOCH_MS + self.now_us / 1000) }
    }

    /// Hands the registry to the fleet, after a change.
    pub fn apply(&mut self) {
        self.registry.version += 1;
        self.fleet.set_registry(Arc::new(self.registry.clone()), self.now());
        self.take_outputs();
    }

    /// A new boot, a session, a report, beacons.
    pub fn start_agent(&mut self, host: usize, at: u64) {
        let h = &mut self.hosts[host];
        h.agent = true;
        h.life += 1;
        h.boot = at.saturating_sub(h.skew_us);
        h.seq = 0;
        let life = h.life;
        self.connect(host, at);
        let first = at + 2 * self.hosts[host].delay_us + self.rng.below(200_000);
        self.agenda.at(first, Event::SendBeacon(host, life));
    }

    /// A session and, with it, a report.
    pub fn connect(&mut self, host: usize, at: u64) {
        let h = &mut self.hosts[host];
        h.session += 1;
        let arrives = at + 2 * h.delay_us;
        self.agenda.at(arrives, Event::Arrive(Arrival::SessionUp(host, h.session, h.boot)));
        self.agenda.at(arrives, Event::SendReport(host, h.life));
    }

    /// Process ended without a goodbye: the session is missed after three seconds.
    pub fn kill_agent(&mut self, host: usize) {
        self.hosts[host].agent = false;
        let session = self.hosts[host].session;
        self.agenda.at(self.now_us + 3_000_000, Event::Arrive(Arrival::SessionLost(host, session)));
    }

    /// The agent's process stands still; its session is lost when that takes longer than the
    /// session's idle time, and begun anew afterwards.
    pub fn pause_agent(&mut self, host: usize, us: u64) {
        let until = self.now_us + us;
        self.hosts[host].paused_until = until;
        if us > 3_000_000 {
            let session = self.hosts[host].session;
            self.agenda.at(self.now_us + 3_000_000, Event::Arrive(Arrival::SessionLost(host, session)));
            self.connect(host, until);
        }
    }

    pub fn lose_session(&mut self, host: usize) {
        let session = self.hosts[host].session;
        self.agenda.at(self.now_us, Event::Arrive(Arrival::SessionLost(host, session)));
    }

    pub fn leave(&mut self, host: usize) {
        self.hosts[host].agent = false;
        let (session, delay) = (self.hosts[host].session, self.hosts[host].delay_us);
        self.agenda.at(self.now_us + delay, Event::Arrive(Arrival::SessionLeft(host, session)));
    }

    pub fn report_now(&mut self, host: usize) {
        let life = self.hosts[host].life;
        self.agenda.at(self.now_us, Event::SendReport(host, life));
    }

    /// The broker stands still; what arrives meanwhile waits in its sockets.
    pub fn hold(&mut self, us: u64) {
        self.held_until = self.now_us + us;
    }

    /// The broker ends and begins again with what it had stored.
    pub fn restart_broker(&mut self, away_us: u64) -> Vec<PersistedVerdict> {
        let stored = self.fleet.persisted();
        self.now_us += away_us;
        let old = std::mem::take(&mut self.agenda.heap);
        // Sessions, and what was under way to or from the old process, are gone.
        for Reverse(Scheduled(at, _, event)) in old.into_sorted_vec().into_iter().rev() {
            if !matches!(event, Event::Arrive(_)) {
                self.agenda.at(at.max(self.now_us), event);
            }
        }
        self.fleet = Fleet::new(FleetConfig::default(), self.rng.next());
        self.apply();
        self.fleet.resume(stored.clone(), self.now());
        self.take_outputs();
        stored
    }

    pub fn run_for(&mut self, us: u64) {
        self.run_until(self.now_us + us);
    }

    pub fn run_until(&mut self, end: u64) {
        loop {
            let deadline =
                self.fleet.next_deadline().map_or(u64::MAX, |d| d.0).max(self.held_until).max(self.now_us);
            let event = self.agenda.heap.peek().map_or(u64::MAX, |Reverse(s)| s.0).max(self.now_us);
            let next = deadline.min(event);
            if next > end {
                self.now_us = end;
                return;
            }
            self.now_us = next;
            // When both are due, either may come first.
            if event == next && (deadline > next || self.rng.chance(0.5)) {
                if let Some(Reverse(Scheduled(_, _, event))) = self.agenda.heap.pop() {
                    self.handle(event);
                }
            } else {
                self.fleet.on_deadline(self.now());
            }
            self.take_outputs();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::SendBeacon(host, life) => self.send_beacon(host, life),
            Event::SendReport(host, life) => self.send_report(host, life),
            Event::Arrive(_) if self.now_us < self.held_until => self.agenda.at(self.held_until, event),
            Event::Arrive(arrival) => self.arrive(arrival),
        }
    }

    fn send_beacon(&mut self, host: usize, life: u64) {
        let h = &mut self.hosts[host];
        if !h.agent || h.life != life {
            return;
        }
        if self.now_us < h.paused_until {
            return self.agenda.at(h.paused_until, Event::SendBeacon(host, life));
        }
        let arrival = Arrival::Beacon(host, h.boot, h.seq, h.draining);
        h.seq += 1;
        let arrives = self.now_us + h.delay_us + self.rng.below(15_000);
        if self.now_us >= self.hosts[host].lossy_until && self.rng.chance(self.bursts) {
            self.hosts[host].lossy_until = self.now_us + self.rng.between(100_000, 3_000_000);
        }
        let lost = self.now_us < self.hosts[host].lossy_until || self.rng.chance(self.loss);
        if !lost {
            self.agenda.at(arrives, Event::Arrive(arrival));
        }
        self.agenda.at(self.now_us + 200_000, Event::SendBeacon(host, life));
    }

    fn send_report(&mut self, host: usize, life: u64) {
        let h = &self.hosts[host];
        if !h.agent || h.life != life {
            return;
        }
        if self.now_us < h.paused_until {
            return self.agenda.at(h.paused_until, Event::SendReport(host, life));
        }
        let service = ServiceReport {
            domain: DOMAIN.into(),
            mirror: format!("m{host:03}"),
            healthy: h.healthy,
            ready: true,
            ..ServiceReport::default()
        };
        let report = NodeReport { draining: h.draining, services: vec![service], ..NodeReport::default() };
        self.agenda.at(self.now_us + h.delay_us, Event::Arrive(Arrival::Report(host, report)));
        self.agenda.at(self.now_us + 5_000_000, Event::SendReport(host, life));
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = self.now();
        match arrival {
            Arrival::SessionUp(host, n, boot) => {
                let remote = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host as u8 + 1));
                self.fleet.on_session_up(id(host), n, boot, remote, now);
            }
            Arrival::SessionLost(host, n) => self.fleet.on_session_lost(id(host), n, now),
            Arrival::SessionLeft(host, n) => self.fleet.on_session_left(id(host), n, now),
            Arrival::Beacon(host, boot, seq, draining) => {
                self.fleet.on_beacon(id(host), boot, seq, draining, now);
            }
            Arrival::Report(host, report) => {
                self.fleet.on_report(id(host), &report, now);
            }
            Arrival::Probed(token, passed, rtt) => {
                self.fleet.on_probe_result(token, passed, passed.then_some(rtt), now)
            }
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.fleet.poll_output() {
            match output {
                Output::Transition(t) => self.log.push((self.now_us, t)),
                Output::Probe(order) => {
                    let h = &self.hosts[order.mirror.0 as usize % self.hosts.len()];
                    let rtt = Duration::from_micros(2 * h.delay_us);
                    let (passed, after) = match h.service[order.family.index()] {
                        Service::Answers => (rtt < order.spec.timeout, rtt.min(order.spec.timeout)),
                        Service::Refuses => (false, rtt.min(order.spec.timeout)),
                        Service::Swallows => (false, order.spec.timeout),
                    };
                    if !self.rng.chance(self.lost_results) {
                        let at = self.now_us + after.as_micros() as u64;
                        self.agenda.at(at, Event::Arrive(Arrival::Probed(order.token, passed, rtt)));
                    }
                }
            }
        }
    }

    pub fn verdict(&self, host: usize, family: Family) -> Verdict {
        *self.fleet.live().mirror(MirrorIndex(host as u32)).verdict(family)
    }

    pub fn states(&self, family: Family) -> Vec<State> {
        (0..self.hosts.len()).map(|h| self.verdict(h, family).state).collect()
    }

    /// Times and names of transitions that took a mirror out of the answers.
    pub fn evictions(&self) -> Vec<&(u64, Transition)> {
        self.log.iter().filter(|(_, t)| t.from.state.eligible() && !t.to.state.eligible()).collect()
    }
}
