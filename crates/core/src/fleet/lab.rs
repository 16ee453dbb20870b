//! Several nodes in networks of their own, and what of them is alive: for tests.

use super::tests::{PASSED, at, report};
use super::*;
use crate::check::{CheckKind, CheckSpec};
use crate::health::{Reason, State, Vantage};
use crate::id::NodeId;
use crate::registry::{Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Node, NodeIndex};
use std::net::{IpAddr, Ipv4Addr};

pub(super) const V4: Family = Family::V4;
/// How long a witness's probe takes.
const ANSWER: Duration = Duration::from_millis(5);

pub(super) fn addr(i: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, i as u8 + 1, 0, 1)
}

pub(super) fn id(i: u32) -> NodeId {
    NodeId([i as u8 + 1; 32])
}

/// `n` nodes, each in a /16 of its own, each with a mirror of one domain.
pub(super) fn registry(n: u32) -> Registry {
    let mut registry = super::tests::registry(&[HealthMode::Agent]);
    let (node, mirror) = (registry.nodes.remove(0), registry.mirrors.remove(0));
    registry.domains[0] = Domain { mirrors: 0..n, ..registry.domains[0].clone() };
    registry.nodes =
        (0..n).map(|i| Node { id: Some(id(i)), name: format!("n{i}").into(), ..node.clone() }).collect();
    registry.mirrors = (0..n)
        .map(|i| Mirror {
            name: format!("m{i}").into(),
            domain: DomainIndex(0),
            node: Some(NodeIndex(i)),
            address: MirrorAddress::Declared { v4: Some(addr(i)), v6: None },
            ..mirror.clone()
        })
        .collect();
    registry
}

/// How the world answers, beside who is alive.
#[derive(Default)]
pub(super) struct Ways {
    /// Reference addresses that answer.
    pub(super) references: u32,
    /// A witness that says it reaches everything.
    pub(super) liar: Option<NodeId>,
    /// Answers take a tenth of a second.
    pub(super) slow: bool,
}

/// What the fleet asked for.
#[derive(Default)]
pub(super) struct Tally {
    /// Of which witnesses.
    pub(super) asked: Vec<NodeId>,
    /// Probes of which mirrors.
    pub(super) probed: Vec<MirrorIndex>,
}

/// A fleet and what of it is alive, a millisecond at a time.
pub(super) struct Lab {
    pub(super) fleet: Fleet,
    pub(super) registry: Registry,
    pub(super) now: u64,
    /// Send beacons.
    pub(super) beating: Vec<bool>,
    /// Answer the broker; answer witnesses.
    pub(super) answers: Vec<(bool, bool)>,
    pub(super) ways: Ways,
    seq: u64,
    pub(super) tally: Tally,
    /// Probes on their way, and when they end how.
    pub(super) pending: Vec<(u64, ProbeToken, ProbeAnswer)>,
    pub(super) log: Vec<(u64, Transition)>,
}

impl Lab {
    pub(super) fn new(n: u32, config: FleetConfig) -> Lab {
        let registry = registry(n);
        let mut fleet = Fleet::new(config, 7);
        fleet.set_registry(Arc::new(registry.clone()), at(0));
        for i in 0..n {
            fleet.on_session_up(id(i), u64::from(i) + 1, 1, IpAddr::V4(addr(i)), at(0));
            fleet.on_report(id(i), &report(&[&format!("m{i}")]), at(0));
        }
        let all = n as usize;
        let (beating, answers) = (vec![true; all], vec![(true, true); all]);
        Lab::all_up(fleet, registry, beating, answers)
    }

    fn all_up(fleet: Fleet, registry: Registry, beating: Vec<bool>, answers: Vec<(bool, bool)>) -> Lab {
        let (ways, tally) = (Ways::default(), Tally::default());
        let (pending, log) = (Vec::new(), Vec::new());
        let mut lab = Lab { fleet, registry, now: 0, beating, answers, ways, seq: 0, tally, pending, log };
        lab.run(2000);
        for i in 0..lab.answers.len() {
            assert_eq!(lab.shown(i as u32).0, State::Up, "{:?}", lab.log);
        }
        lab.log.clear();
        lab
    }

    /// Mirrors without agents that the broker probes by TCP, so often, and counts so many failures.
    pub(super) fn probed(n: u32, interval: Duration, fall: u8) -> Lab {
        let mut registry = registry(n);
        registry.nodes.clear();
        for mirror in &mut registry.mirrors {
            mirror.node = None;
            mirror.health = HealthMode::Probe;
            let timeout = Duration::from_secs(1);
            mirror.probe = Some(CheckSpec { kind: CheckKind::Tcp, interval, timeout, rise: 1, fall });
        }
        registry.index();
        let mut fleet = Fleet::new(FleetConfig::default(), 7);
        fleet.set_registry(Arc::new(registry.clone()), at(0));
        let all = n as usize;
        Lab::all_up(fleet, registry, vec![false; all], vec![(true, true); all])
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            let now = at(self.now);
            if self.now.is_multiple_of(200) {
                self.seq += 1;
                for i in (0..self.beating.len()).filter(|i| self.beating[*i]) {
                    self.fleet.on_beacon(id(i as u32), 1, self.seq, false, now);
                }
            }
            let over = self.pending.extract_if(.., |(until, ..)| *until <= self.now).collect::<Vec<_>>();
            for (_, token, answer) in over {
                self.fleet.on_probe_result(token, answer, now);
            }
            if self.fleet.next_deadline().is_some_and(|due| due <= now.mono) {
                self.fleet.on_deadline(now);
            }
            self.outputs();
        }
    }

    pub(super) fn outputs(&mut self) {
        let now = at(self.now);
        while let Some(output) = self.fleet.poll_output() {
            match output {
                Output::Probe(order) => self.probe(&order),
                Output::Witness(order) => {
                    let i = self.registry.nodes.iter().position(|n| n.id == Some(order.witness)).unwrap();
                    self.tally.asked.push(order.witness);
                    let said = match self.answers[order.mirror.0 as usize].1 {
                        _ if self.ways.liar == Some(order.witness) => Witnessed::Passed(ANSWER),
                        true => Witnessed::Passed(ANSWER),
                        false => Witnessed::Failed,
                    };
                    if self.beating[i] {
                        self.fleet.on_witness(order.token, order.witness, said, now);
                    }
                }
                Output::References => self.fleet.on_references(self.ways.references, now),
                Output::AskPeers(_) => {}
                Output::Transition(t) => self.log.push((self.now, t)),
            }
        }
    }

    fn probe(&mut self, order: &ProbeOrder) {
        self.tally.probed.push(order.mirror);
        let (after, answer) = match self.answers[order.mirror.0 as usize].0 {
            true if !self.ways.slow => return self.fleet.on_probe_result(order.token, PASSED, at(self.now)),
            true => (100, PASSED),
            false => (order.spec.timeout.as_millis() as u64, ProbeAnswer::Silent),
        };
        self.pending.push((self.now + after, order.token, answer));
    }

    pub(super) fn kill(&mut self, i: u32) {
        self.beating[i as usize] = false;
        self.answers[i as usize] = (false, false);
    }

    pub(super) fn revive(&mut self, i: u32) {
        self.beating[i as usize] = true;
        self.answers[i as usize] = (true, true);
    }

    pub(super) fn shown(&self, i: u32) -> (State, Reason, Vantage) {
        let v = self.fleet.live().mirror(MirrorIndex(i)).verdict(V4);
        (v.state, v.reason, v.vantage)
    }

    pub(super) fn apply(&mut self) {
        self.fleet.set_registry(Arc::new(self.registry.clone()), at(self.now));
        self.outputs();
    }

    /// From now until a mirror was first told to be in a state, in milliseconds.
    pub(super) fn until(&mut self, i: u32, state: State, within: u64) -> u64 {
        let from = self.now;
        while self.shown(i).0 != state {
            assert!(self.now - from < within, "{i} is {:?} after {within} ms: {:?}", self.shown(i), self.log);
            self.run(1);
        }
        self.now - from
    }
}
