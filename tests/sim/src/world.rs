//! The world: virtual time, hosts, network, faults, and one detector that watches them.
//!
//! Everything random comes from one seed, in sequences of their own for places, packets, faults and
//! detectors: two detectors with one seed see the same hosts suffer the same faults.

use crate::faults::Fault;
use crate::host::Host;
use crate::net::{End, Net, Site};
use crate::probe::{Leg, Outcome, Probes, Target};
use crate::queue::Queue;
use crate::rng::Rng;
use nearmost_core::geo::Position;
use std::collections::VecDeque;

/// Time at the world's beginning, in microseconds: nothing starts at zero.
pub const BEGINNING_US: u64 = 1_000_000;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything random.
    pub seed: u64,
    /// How many hosts.
    pub hosts: u32,
    /// How many regions they lie in; the broker lies in none of them.
    pub regions: u16,
    /// Ends besides hosts and broker, for observers all over the world.
    pub observers: u32,
    /// Datagrams that wait for a broker that stands still; later ones are dropped.
    pub socket_buffer: usize,
}

impl Plan {
    /// Hosts in four regions.
    pub fn new(seed: u64, hosts: u32) -> Plan {
        Plan { seed, hosts, regions: 4, observers: 0, socket_buffer: 4096 }
    }
}

/// What happens next. `E` are the detector's own events.
#[derive(Clone, Copy, Debug)]
pub enum Event<E> {
    /// Something goes wrong, or is put right.
    Fault(Fault),
    /// Part of a probe.
    Probe(u32, u32, Leg),
    /// The broker goes on after a pause.
    Resumes,
    /// The detector's own.
    Own(E),
}

/// How an event of a detector's own reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It does not: it happens elsewhere.
    Elsewhere,
    /// As a datagram, which waits in a socket's buffer while there is room.
    Datagram,
    /// Through something that waits for as long as it takes.
    Waits,
    /// A timer of the broker's: one that stood still looks at it last.
    Timer,
}

/// Something that watches hosts from the broker.
pub trait Detector {
    /// Its own events.
    type Event: Copy;
    /// Begins to watch.
    fn start(&mut self, ground: &mut Ground<Self::Event>);
    /// One of its own events.
    fn handle(&mut self, event: Self::Event, ground: &mut Ground<Self::Event>);
    /// How one of its events reaches the broker.
    fn arrival(&self, event: &Self::Event) -> Arrival;
    /// A probe that it began has ended.
    fn probed(&mut self, target: Target, outcome: Outcome, ground: &mut Ground<Self::Event>);
    /// When it wants to look by itself, in microseconds.
    fn deadline(&self) -> Option<u64> {
        None
    }
    /// It looks by itself.
    fn look(&mut self, _ground: &mut Ground<Self::Event>) {}
    /// A fault has just happened.
    fn fault(&mut self, _fault: &Fault, _ground: &mut Ground<Self::Event>) {}
}

/// A detector took a host out, or in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in microseconds.
    pub at: u64,
    /// Which host.
    pub host: u32,
    /// In, or out.
    pub up: bool,
    /// How long its service had been answering users by then, if it was, in microseconds.
    pub serving_us: Option<u64>,
}

/// The world without its detector.
pub struct Ground<E> {
    /// Microseconds.
    pub now: u64,
    /// The agenda.
    pub queue: Queue<Event<E>>,
    /// The network.
    pub net: Net,
    /// What hosts really are like.
    pub hosts: Vec<Host>,
    /// Chance for detectors: jitter, choices.
    pub rng: Rng,
    /// What the detector concluded.
    pub changes: Vec<Change>,
    /// The broker.
    pub station: Station,
    /// Probes under way.
    pub probes: Probes,
}

/// The broker's process, as the operating system sees it.
#[derive(Default)]
pub struct Station {
    /// It stands still until then.
    pub paused_until: u64,
    /// How far its wall clock is ahead, in microseconds.
    pub clock_ahead_us: i64,
    /// Datagrams that found no room.
    pub dropped: u64,
    buffer: usize,
    datagrams: usize,
}

impl<E: Copy> Ground<E> {
    /// Puts an event of the detector's own on the agenda, so many microseconds from now.
    pub fn after(&mut self, us: u64, event: E) {
        self.queue.push(self.now + us, Event::Own(event));
    }

    /// Sends a datagram; the event happens when it arrives, twice when it was doubled.
    pub fn send(&mut self, from: End, to: End, event: E) {
        let fate = self.net.send(from, to, self.now);
        for delay in [fate.first, fate.second].into_iter().flatten() {
            self.after(delay, event);
        }
    }

    /// The broker's end.
    pub fn broker(&self) -> End {
        self.net.broker()
    }

    /// Whether an end's process stands still, and until when. Ends that are neither hosts nor the
    /// broker never do.
    pub fn paused_until(&self, end: End) -> Option<u64> {
        let until = match self.hosts.get(end as usize) {
            Some(host) => host.paused_until,
            None if end == self.broker() => self.station.paused_until,
            None => 0,
        };
        (until > self.now).then_some(until)
    }

    /// The detector took a host out, or in again.
    pub fn tell(&mut self, host: u32, up: bool) {
        let serving_us = self.hosts[host as usize].serving_since.map(|since| self.now - since);
        self.changes.push(Change { at: self.now, host, up, serving_us });
    }

    fn fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::HostDies(h) => self.hosts[h as usize].powered = false,
            Fault::HostReturns(h) => {
                let clock_ahead_us = self.hosts[h as usize].clock_ahead_us;
                self.hosts[h as usize] = Host { clock_ahead_us, serving_since: None, ..Host::default() };
            }
            Fault::Service(h, service) => self.hosts[h as usize].service = [service; 2],
            Fault::RegionCut(region, from) => self.net.cut(region, from),
            Fault::RegionHeals(region) => self.net.heal(region),
            other => return self.disturb(other),
        }
        self.note_serving();
    }

    /// What takes no service from its users.
    fn disturb(&mut self, fault: Fault) {
        let (now, broker) = (self.now, self.broker());
        match fault {
            Fault::AgentDies(h) | Fault::AgentLeaves(h) => self.hosts[h as usize].agent = false,
            Fault::AgentStarts(h) => self.hosts[h as usize].agent = true,
            Fault::AgentPauses(h, us) => self.hosts[h as usize].paused_until = now + us,
            Fault::BrokerPauses(us) => {
                self.station.paused_until = self.station.paused_until.max(now + us);
                self.queue.push(self.station.paused_until, Event::Resumes);
            }
            Fault::PathDark(from, to, us) => self.net.darken(from, to, now + us),
            Fault::PathLossy(from, to, share) => self.net.set_path_loss(from, to, share),
            Fault::BrokerDark(us) => {
                for end in (0..self.net.ends()).filter(|end| *end != broker) {
                    self.net.darken(end, broker, now + us);
                    self.net.darken(broker, end, now + us);
                }
            }
            Fault::AgentClockJumps(h, us) => self.hosts[h as usize].clock_ahead_us += us,
            Fault::BrokerClockJumps(us) => self.station.clock_ahead_us += us,
            Fault::Weather(conditions) => self.net.conditions = conditions,
            _ => {}
        }
    }

    /// Keeps since when hosts have been answering users.
    pub fn note_serving(&mut self) {
        for (end, host) in (0u32..).zip(&mut self.hosts) {
            let serves = host.answers() && self.net.is_reached_by_users(end);
            match (serves, host.serving_since) {
                (true, None) => host.serving_since = Some(self.now),
                (false, Some(_)) => host.serving_since = None,
                _ => {}
            }
        }
    }

    fn clock(&self, ahead_us: i64) -> u64 {
        const EPOCH_US: u64 = 1_800_000_000_000_000;
        (EPOCH_US + self.now).saturating_add_signed(ahead_us)
    }

    /// A host's wall clock, in microseconds since 1970.
    pub fn host_clock_us(&self, host: u32) -> u64 {
        self.clock(self.hosts[host as usize].clock_ahead_us)
    }

    /// The broker's wall clock, in microseconds since 1970.
    pub fn broker_clock_us(&self) -> u64 {
        self.clock(self.station.clock_ahead_us)
    }
}

/// A world and what watches it.
pub struct World<D: Detector> {
    /// The world.
    pub ground: Ground<D::Event>,
    /// What watches it.
    pub detector: D,
    /// What waits for a broker that stands still.
    backlog: VecDeque<Event<D::Event>>,
    /// The broker's timers that fired meanwhile.
    late: VecDeque<Event<D::Event>>,
    events: u64,
}

impl<D: Detector> World<D> {
    /// A world that begins now.
    pub fn new(plan: &Plan, detector: D) -> World<D> {
        let root = Rng::new(plan.seed);
        let net = Net::new(sites(plan), plan.hosts, root.fork(2));
        let ground = Ground {
            now: BEGINNING_US,
            queue: Queue::default(),
            net,
            hosts: vec![Host { serving_since: Some(BEGINNING_US), ..Host::default() }; plan.hosts as usize],
            rng: root.fork(3),
            changes: Vec::new(),
            station: Station { buffer: plan.socket_buffer, ..Station::default() },
            probes: Probes::default(),
        };
        let (backlog, late) = (VecDeque::new(), VecDeque::new());
        let mut world = World { ground, detector, backlog, late, events: 0 };
        world.detector.start(&mut world.ground);
        world
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Something happens now.
    pub fn fault(&mut self, fault: Fault) {
        self.ground.fault(&fault);
        self.detector.fault(&fault, &mut self.ground);
    }

    /// Something will happen at `at`, in microseconds.
    pub fn fault_at(&mut self, at: u64, fault: Fault) {
        self.ground.queue.push(at, Event::Fault(fault));
    }

    /// All this will happen.
    pub fn faults(&mut self, plan: impl IntoIterator<Item = (u64, Fault)>) {
        for (at, fault) in plan {
            self.fault_at(at, fault);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, us: u64) {
        self.run_until(self.ground.now + us);
    }

    /// Lets time pass until `end`, in microseconds.
    pub fn run_until(&mut self, end: u64) {
        loop {
            let ground = &mut self.ground;
            let deadline = self.detector.deadline().unwrap_or(u64::MAX);
            let deadline = deadline.max(ground.station.paused_until).max(ground.now);
            let event = ground.queue.next_at().unwrap_or(u64::MAX).max(ground.now);
            let next = deadline.min(event);
            if next > end {
                ground.now = end;
                return;
            }
            ground.now = next;
            self.events += 1;
            // When both are due, either may come first.
            if deadline == next && (event > next || ground.rng.chance(0.5)) {
                self.detector.look(ground);
            } else if let Some((_, event)) = ground.queue.pop() {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event<D::Event>) {
        if self.ground.now >= self.ground.station.paused_until {
            return self.handle(event);
        }
        let arrival = match &event {
            Event::Own(own) => self.detector.arrival(own),
            Event::Probe(slot, serial, leg) => self.probe_arrival(*slot, *serial, *leg),
            Event::Fault(_) | Event::Resumes => Arrival::Elsewhere,
        };
        let station = &mut self.ground.station;
        match arrival {
            Arrival::Elsewhere => self.handle(event),
            Arrival::Datagram if station.datagrams >= station.buffer => station.dropped += 1,
            Arrival::Datagram => {
                station.datagrams += 1;
                self.backlog.push_back(event);
            }
            Arrival::Waits => self.backlog.push_back(event),
            Arrival::Timer => self.late.push_back(event),
        }
    }

    fn probe_arrival(&self, slot: u32, serial: u32, leg: Leg) -> Arrival {
        let ours = self.ground.probes.prober(slot, serial) == Some(self.ground.broker());
        match leg {
            Leg::Answers { .. } if ours => Arrival::Waits,
            Leg::Over if ours => Arrival::Timer,
            // Kernels do not stand still.
            _ => Arrival::Elsewhere,
        }
    }

    fn handle(&mut self, event: Event<D::Event>) {
        match event {
            Event::Own(own) => self.detector.handle(own, &mut self.ground),
            Event::Fault(fault) => self.fault(fault),
            Event::Resumes => self.resume(),
            Event::Probe(slot, serial, leg) => self.probe(slot, serial, leg),
        }
    }

    fn probe(&mut self, slot: u32, serial: u32, leg: Leg) {
        let ends = matches!(leg, Leg::Answers { .. } | Leg::Over);
        let prober = self.ground.probes.prober(slot, serial).filter(|_| ends);
        if let Some(until) = prober.and_then(|end| self.ground.paused_until(end)) {
            // A prober that stands still looks later, at answers before its timers.
            let timer = u64::from(leg == Leg::Over);
            return self.ground.queue.push(until + timer, Event::Probe(slot, serial, leg));
        }
        if let Some((target, outcome)) = self.ground.probe_leg(slot, serial, leg) {
            self.detector.probed(target, outcome, &mut self.ground);
        }
    }

    fn resume(&mut self) {
        if self.ground.now < self.ground.station.paused_until {
            return;
        }
        self.ground.station.datagrams = 0;
        // Whether its timers or its sockets are looked at first is chance.
        if self.detector.deadline().is_some_and(|at| at <= self.ground.now) && self.ground.rng.chance(0.5) {
            self.detector.look(&mut self.ground);
        }
        while let Some(event) = self.backlog.pop_front().or_else(|| self.late.pop_front()) {
            self.handle(event);
        }
    }
}

/// Where the ends of a plan are: regions lie anywhere that people live, hosts within some hundred
/// kilometres of their middle.
pub fn sites(plan: &Plan) -> Vec<Site> {
    let mut rng = Rng::new(plan.seed).fork(1);
    let mut anywhere = |spread: Option<(f64, f64)>| {
        let (lat, lon) = match spread {
            Some((lat, lon)) => (lat + 8.0 * (rng.unit() - 0.5), lon + 8.0 * (rng.unit() - 0.5)),
            None => (-35.0 + 95.0 * rng.unit(), -170.0 + 340.0 * rng.unit()),
        };
        (lat, lon)
    };
    let middles: Vec<_> = (0..plan.regions.max(1)).map(|_| anywhere(None)).collect();
    let mut places = Vec::new();
    for host in 0..plan.hosts {
        let region = (host % u32::from(plan.regions.max(1))) as u16;
        places.push((anywhere(Some(middles[usize::from(region)])), region));
    }
    // The broker and the observers are regions of their own.
    for i in 0..=plan.observers {
        places.push((anywhere(None), plan.regions.max(1) + i as u16));
    }
    let origin = || Position::from_degrees(0.0, 0.0);
    let site = |((lat, lon), region)| {
        // All places above are on the globe; the origin stands in for none of them.
        let position = Position::from_degrees(lat, lon).or_else(origin)?;
        Some(Site { position, region })
    };
    places.into_iter().filter_map(site).collect()
}

impl Station {
    /// Whether it stands still at `now`.
    pub fn is_paused(&self, now: u64) -> bool {
        now < self.paused_until
    }
}
