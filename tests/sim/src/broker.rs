//! The detector that all this is for: the broker's [`Fleet`] behind a driver as thin as the real one.
//!
//! Everything that touches the fleet's inputs and outputs is in this file.

use crate::agent::Agent;
use crate::evidence::Evidence;
use crate::faults::Fault;
use crate::fleet_of::{DOMAIN, host_at, host_of, id, mirror_name, place, v4};
use crate::probe::{Answer, Outcome, Target};
use crate::session::{Body, Post, Sessions, Step};
use crate::witness::{Looking, Order, References, Seen, Testimony};
use crate::world::{Arrival, Detector, Ground, Plan, World};
use nearmost_core::fleet::{
    BeaconOutcome, Caution, Fleet, FleetConfig, NodeReport, Output, PersistedVerdict, ProbeAnswer,
    ProbeOrder, ProbeToken, ServiceReport, Transition, WitnessOrder, Witnessed,
};
use nearmost_core::health::{Family, State, Verdict};
use nearmost_core::id::NodeId;
use nearmost_core::registry::{MirrorIndex, Registry};
use nearmost_core::time::{MonoTime, Now, UnixMillis};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The detector's own events.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "fields are hosts, agents' lives and numbers of sessions, as everywhere")]
pub enum Happening {
    /// An agent's beacon is due.
    Beacon { host: u32, life: u32 },
    /// A beacon reaches the broker.
    BeaconArrives { host: u32, boot: u64, seq: u32, draining: bool },
    /// An agent's report is due.
    ReportDue { host: u32, life: u32 },
    /// Something happens to a message.
    Message(u32, u32, Step),
    /// The broker looks whether it still hears a session.
    Idle { host: u32, session: u64 },
    /// An agent learns that its session is not known.
    Reset { host: u32, session: u64, life: u32 },
    /// A witness makes an attempt.
    Attempt(u64),
    /// A session is lost at once.
    Lost { host: u32, session: u64 },
}

/// What a probe was for.
pub(crate) enum Ask {
    Own(ProbeToken, u32, Family),
    Attempt(u64),
    Reference,
}

/// Probes and orders that have not ended.
#[derive(Default)]
pub(crate) struct Asks {
    next: u64,
    probes: HashMap<u64, Ask>,
    pub looking: HashMap<u64, Looking>,
    /// Orders that the fleet gave, and whom it asked.
    ordered: HashMap<u64, (ProbeToken, NodeId)>,
}

/// How long the broker waits for a reference, in microseconds.
const REFERENCE_US: u64 = 600_000;

impl Asks {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes whom the fleet asked by an order.
    pub fn note(&mut self, order: u64, asked: Option<(ProbeToken, NodeId)>) {
        self.ordered.extend(asked.map(|asked| (order, asked)));
    }

    pub fn add(&mut self, ask: Ask) -> u64 {
        let number = self.number();
        self.probes.insert(number, ask);
        number
    }
}

/// What the fleet concluded, and what it was told besides.
#[derive(Default)]
pub struct Log {
    /// Every transition with its time in microseconds.
    pub transitions: Vec<(u64, Transition)>,
    /// What witnesses told.
    pub testimonies: Vec<Testimony>,
    /// Whether transitions are kept and checked; long runs keep none.
    pub keeps: bool,
}

/// How the broker's process works.
pub struct Settings {
    /// The fleet's.
    pub config: FleetConfig,
    /// Share of probes' results that never reach the fleet.
    pub lost_results: f64,
    /// Share of beacons that the broker's own limits drop, beside what the network loses.
    pub lost_beacons: f64,
    runs: bool,
}

/// The fleet and its driver.
pub struct Nearmost {
    /// The fleet.
    pub fleet: Fleet,
    /// What exists; [`World::apply`] tells the fleet of changes.
    pub registry: Registry,
    /// What was concluded.
    pub log: Log,
    /// Whether that is explained.
    pub evidence: Evidence,
    /// How the last look at the references ended.
    pub references: References,
    pub(crate) agents: Vec<Agent>,
    pub(crate) sessions: Sessions,
    pub(crate) asks: Asks,
    /// How it works.
    pub settings: Settings,
}

impl Nearmost {
    /// A fleet that knows nothing yet.
    pub fn new(registry: Registry, config: FleetConfig) -> Nearmost {
        let hosts = registry.nodes.len();
        Nearmost {
            fleet: Fleet::new(config.clone(), 0),
            registry,
            log: Log { keeps: true, ..Log::default() },
            evidence: Evidence::new(hosts),
            references: References::default(),
            agents: vec![Agent::default(); hosts],
            sessions: Sessions::new(hosts),
            asks: Asks::default(),
            settings: Settings { config, lost_results: 0.0, lost_beacons: 0.0, runs: true },
        }
    }

    fn apply(&mut self, ground: &mut Ground<Happening>) {
        self.registry.version += 1;
        self.fleet.set_registry(Arc::new(self.registry.clone()), now(ground));
        self.take(ground);
    }

    /// A message of an agent reaches the broker.
    pub(crate) fn hear(&mut self, post: &Post, body: Body, ground: &mut Ground<Happening>) {
        let (host, at) = (post.host, now(ground));
        self.evidence.said(host, body);
        match body {
            Body::Up { boot } => {
                self.sessions.at_broker[host as usize] = Some(post.session);
                let idle = Happening::Idle { host, session: post.session };
                ground.after(crate::session::IDLE_US, idle);
                self.fleet.on_session_up(id(host), post.session, boot, IpAddr::V4(v4(host)), at);
            }
            Body::Report { healthy, ready, draining } => {
                let (domain, mirror) = (DOMAIN.into(), mirror_name(host));
                let service = ServiceReport { domain, mirror, healthy, ready, ..ServiceReport::default() };
                let report = NodeReport { draining, services: vec![service], ..NodeReport::default() };
                self.fleet.on_report(id(host), &report, at);
            }
            Body::Left => {
                self.sessions.at_broker[host as usize] = None;
                self.fleet.on_session_left(id(host), post.session, at);
            }
            Body::Answer(number, seen) => self.testify(number, seen, ground),
            Body::Order(_) => {}
        }
        self.take(ground);
    }

    /// A session ended without a goodbye.
    pub(crate) fn lost(&mut self, host: u32, session: u64, ground: &mut Ground<Happening>) {
        self.fleet.on_session_lost(id(host), session, now(ground));
        self.take(ground);
    }

    /// A witness answered, or could not be asked.
    pub(crate) fn testify(&mut self, order: u64, seen: Seen, ground: &mut Ground<Happening>) {
        let Some(Looking { order: asked, .. }) = self.asks.looking.remove(&order) else { return };
        if let Seen::Passed(_) | Seen::Failed = seen {
            let reached = seen != Seen::Failed;
            self.evidence.testified(asked.host, asked.witness, asked.family, reached, ground.now);
        }
        if self.log.keeps {
            self.log.testimonies.push(Testimony { order, asked, seen, at: ground.now });
        }
        let Some((token, witness)) = self.asks.ordered.remove(&order) else { return };
        let said = match seen {
            Seen::Passed(us) => Witnessed::Passed(Duration::from_micros(us)),
            Seen::Failed => Witnessed::Failed,
            Seen::Declined => Witnessed::Declined,
        };
        self.fleet.on_witness(token, witness, said, now(ground));
        self.take(ground);
    }

    /// All references have answered or failed.
    pub(crate) fn referred(&mut self, ground: &mut Ground<Happening>) {
        self.fleet.on_references(self.references.answered, now(ground));
        self.take(ground);
    }

    /// Does what the fleet wants done.
    fn take(&mut self, ground: &mut Ground<Happening>) {
        while let Some(output) = self.fleet.poll_output() {
            match output {
                Output::Probe(order) => self.carry_out(&order, ground),
                Output::Witness(order) => self.ask_witness(&order, ground),
                Output::References => self.ask_references(REFERENCE_US, ground),
                Output::AskPeers(_) => {}
                Output::Transition(t) => self.note(t, ground),
            }
        }
    }

    fn carry_out(&mut self, order: &ProbeOrder, ground: &mut Ground<Happening>) {
        let Some(host) = host_at(order.addr, self.agents.len()) else { return };
        let tag = self.asks.add(Ask::Own(order.token, host, order.family));
        let timeout_us = order.spec.timeout.as_micros() as u64;
        let target = Target { from: ground.broker(), to: host, family: order.family, timeout_us, tag };
        ground.probe(target);
    }

    fn ask_witness(&mut self, asked: &WitnessOrder, ground: &mut Ground<Happening>) {
        let Some(host) = host_at(asked.addr, self.agents.len()) else { return };
        let family = if asked.addr.is_ipv4() { Family::V4 } else { Family::V6 };
        let timeout_us = asked.spec.timeout.as_micros() as u64;
        let attempts = asked.attempts.iter().map(|at| at.as_micros() as u64).collect();
        let order = Order { witness: host_of(&asked.witness), host, family, timeout_us, attempts };
        self.order_for(order, Some((asked.token, asked.witness)), ground);
    }

    fn note(&mut self, t: Transition, ground: &mut Ground<Happening>) {
        // Mirrors are named after their hosts.
        let Some(host) = t.mirror.get(1..).and_then(|n| n.parse::<u32>().ok()) else { return };
        let (was, is) = (t.from.state.eligible(), t.to.state.eligible());
        if was != is {
            ground.tell(host, is);
        }
        if self.log.keeps {
            let lossy = self.settings.lost_results > 0.0;
            let silence_us = self.settings.config.beacon_period.as_micros() as u64;
            self.evidence.check(host, &t, ground.now, silence_us, lossy);
            self.log.transitions.push((ground.now, t));
        }
    }
}

/// The moment on the broker's clocks.
fn now<E: Copy>(ground: &Ground<E>) -> Now {
    Now { mono: MonoTime(ground.now), unix: UnixMillis(ground.broker_clock_us() / 1000) }
}

impl Detector for Nearmost {
    type Event = Happening;

    fn start(&mut self, ground: &mut Ground<Happening>) {
        self.fleet = Fleet::new(self.settings.config.clone(), ground.rng.bits());
        self.apply(ground);
        for host in 0..self.agents.len() as u32 {
            self.agents[host as usize].boot = ground.host_clock_us(host);
            self.start_agent(host, ground);
        }
    }

    fn handle(&mut self, event: Happening, ground: &mut Ground<Happening>) {
        if !self.settings.runs && self.arrival(&event) != Arrival::Elsewhere {
            return;
        }
        match event {
            Happening::Beacon { host, life } => self.beacon(host, life, ground),
            Happening::BeaconArrives { host, boot, seq, draining } => {
                if ground.rng.chance(self.settings.lost_beacons) {
                    return;
                }
                let outcome = self.fleet.on_beacon(id(host), boot, u64::from(seq), draining, now(ground));
                if outcome == BeaconOutcome::Accepted {
                    self.evidence.beacon(host, draining, ground.now);
                }
                self.take(ground);
            }
            Happening::ReportDue { host, life } => self.report_due(host, life, ground),
            Happening::Message(slot, serial, step) => self.message(slot, serial, step, ground),
            Happening::Idle { host, session } => self.idle(host, session, ground),
            Happening::Reset { host, session, life } => self.reset(host, session, life, ground),
            Happening::Attempt(order) => self.attempt(order, ground),
            Happening::Lost { host, session } => self.lost(host, session, ground),
        }
    }

    fn arrival(&self, event: &Happening) -> Arrival {
        match event {
            Happening::BeaconArrives { .. } => Arrival::Datagram,
            Happening::Message(slot, _, step) => self.sessions.arrival(*slot, *step),
            Happening::Idle { .. } | Happening::Lost { .. } => Arrival::Timer,
            _ => Arrival::Elsewhere,
        }
    }

    fn probed(&mut self, target: Target, outcome: Outcome, ground: &mut Ground<Happening>) {
        match self.asks.probes.remove(&target.tag) {
            Some(Ask::Own(token, host, family)) => {
                self.evidence.probed(host, family, outcome.passed(), ground.now);
                if !ground.rng.chance(self.settings.lost_results) {
                    let answer = match outcome.answer {
                        Answer::Accepted => ProbeAnswer::Passed(Duration::from_micros(outcome.took_us)),
                        Answer::Refused => ProbeAnswer::Refused,
                        Answer::Nothing => ProbeAnswer::Silent,
                    };
                    self.fleet.on_probe_result(token, answer, now(ground));
                    self.take(ground);
                }
            }
            Some(Ask::Attempt(number)) => self.attempted(number, outcome, ground),
            Some(Ask::Reference) => {
                self.references.left -= 1;
                self.references.answered += u32::from(outcome.passed());
                if self.references.left == 0 {
                    self.referred(ground);
                }
            }
            None => {}
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.fleet.next_deadline().filter(|_| self.settings.runs).map(|at| at.0)
    }

    fn look(&mut self, ground: &mut Ground<Happening>) {
        self.fleet.on_deadline(now(ground));
        self.take(ground);
    }

    fn fault(&mut self, fault: &Fault, ground: &mut Ground<Happening>) {
        match *fault {
            Fault::HostReturns(host) | Fault::AgentStarts(host) => self.start_agent(host, ground),
            Fault::AgentLeaves(host) => self.leave(host, ground),
            _ => {}
        }
    }
}

/// Default settings; the observers of a plan are the broker's references.
pub fn settings_of(plan: &Plan) -> FleetConfig {
    let caution = Caution { references: plan.observers > 0, ..Caution::default() };
    FleetConfig { caution, ..FleetConfig::default() }
}

impl World<Nearmost> {
    /// A world that is watched by a fleet with default settings.
    pub fn of_fleet(plan: &Plan, mut registry: Registry) -> World<Nearmost> {
        place(&mut registry, plan);
        World::new(plan, Nearmost::new(registry, settings_of(plan)))
    }

    /// Hands the registry to the fleet, after a change.
    pub fn apply(&mut self) {
        self.detector.apply(&mut self.ground);
    }

    /// An agent reports now.
    pub fn report_now(&mut self, host: u32) {
        self.detector.report(host, &mut self.ground);
    }

    /// A session is lost at once, and begun anew so many microseconds later.
    pub fn lose_session(&mut self, host: u32, back_us: u64) {
        let Agent { session, life, .. } = self.detector.agents[host as usize];
        self.ground.after(0, Happening::Lost { host, session });
        self.ground.after(back_us, Happening::Reset { host, session, life });
    }

    /// What the broker would store now.
    pub fn persisted(&self) -> Vec<PersistedVerdict> {
        self.detector.fleet.persisted(now(&self.ground))
    }

    /// The broker's process ends and begins again, so many microseconds later, with what it stored.
    pub fn restart_broker(&mut self, away_us: u64) -> Vec<PersistedVerdict> {
        let stored = self.persisted();
        self.detector.settings.runs = false;
        self.detector.sessions.forget();
        self.detector.asks = Asks { next: self.detector.asks.next, ..Asks::default() };
        self.run_for(away_us);
        self.detector.settings.runs = true;
        self.detector.fleet = Fleet::new(self.detector.settings.config.clone(), self.ground.rng.bits());
        self.apply();
        self.detector.fleet.resume(stored.clone(), now(&self.ground));
        self.detector.take(&mut self.ground);
        stored
    }

    /// The verdict of the mirror at a position of the registry.
    pub fn verdict(&self, mirror: u32, family: Family) -> Verdict {
        *self.detector.fleet.live().mirror(MirrorIndex(mirror)).verdict(family)
    }

    /// The states of all mirrors.
    pub fn states(&self, family: Family) -> Vec<State> {
        self.detector.fleet.live().mirrors.iter().map(|m| m.verdict(family).state).collect()
    }

    /// Transitions that took a mirror out of the answers.
    pub fn evictions(&self) -> Vec<&(u64, Transition)> {
        let out = |t: &Transition| t.from.state.eligible() && !t.to.state.eligible();
        self.detector.log.transitions.iter().filter(|(_, t)| out(t)).collect()
    }

    /// The node's host of a mirror at a position of the registry.
    pub fn host_of(&self, mirror: u32) -> Option<u32> {
        let node = self.detector.registry.mirrors.get(mirror as usize)?.node?;
        self.detector.registry.nodes.get(node.0 as usize)?.id.as_ref().map(host_of)
    }
}
