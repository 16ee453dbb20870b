//! Several brokers' fleets that tell each other what they see, a millisecond at a time: for tests.

use super::lab::{addr, id, registry};
use super::tests::{at, report};
use super::*;
use crate::hash::mix;
use crate::health::State;
use crate::id::BrokerId;
use crate::registry::{MirrorIndex, Registry};
use std::net::IpAddr;

/// What a broker makes of what it is about to tell.
pub(super) type Lie = fn(PeerFact) -> PeerFact;

/// A broker.
pub(super) struct Broker {
    pub(super) fleet: Fleet,
    /// Mirrors whose agents have sessions with it.
    pub(super) sessions: Vec<u32>,
    /// Mirrors that it does not reach, though they live.
    pub(super) blind: Vec<u32>,
    /// Nothing comes or goes.
    pub(super) cut: bool,
    pub(super) lie: Option<Lie>,
    /// How many probes it made of each mirror.
    pub(super) probes: Vec<u64>,
    /// What it concluded.
    pub(super) log: Vec<(u64, Transition)>,
    /// When it told all, and when it told changes.
    told: (u64, u64),
}

enum Post {
    Facts(usize, Vec<PeerFact>),
    Ask(PeerAsk),
    Probe(ProbeToken, ProbeAnswer),
}

/// The brokers and what is on its way between them.
pub(super) struct Federation {
    pub(super) brokers: Vec<Broker>,
    pub(super) registry: Registry,
    pub(super) alive: Vec<bool>,
    pub(super) now: u64,
    post: Vec<(u64, usize, Post)>,
    seq: u64,
    random: u64,
}

pub(super) fn key(broker: usize) -> BrokerId {
    BrokerId([broker as u8 + 1; 32])
}

impl Federation {
    /// So many brokers that know of each other; `sessions`: with which of them each mirror's agent has one.
    pub(super) fn new(brokers: usize, sessions: &[&[usize]], config: &FleetConfig, seed: u64) -> Federation {
        Federation::of(brokers, sessions, registry(sessions.len() as u32), config, seed)
    }

    pub(super) fn of(
        brokers: usize,
        sessions: &[&[usize]],
        registry: Registry,
        config: &FleetConfig,
        seed: u64,
    ) -> Federation {
        let mirrors = sessions.len();
        let of = |b: usize| {
            let mut fleet = Fleet::new(config.clone(), mix(seed + b as u64));
            fleet.set_broker(key(b));
            fleet.set_registry(Arc::new(registry.clone()), at(0));
            fleet.on_peers_connected((0..brokers).map(key).collect(), at(0));
            let sessions = (0u32..).zip(sessions).filter(|(_, at)| at.contains(&b)).map(|(m, _)| m);
            Broker {
                fleet,
                sessions: sessions.collect(),
                blind: Vec::new(),
                cut: false,
                lie: None,
                probes: vec![0; mirrors],
                log: Vec::new(),
                told: (0, 0),
            }
        };
        let brokers = (0..brokers).map(of).collect();
        let alive = vec![true; mirrors];
        let mut federation =
            Federation { brokers, registry, alive, now: 0, post: Vec::new(), seq: 0, random: seed };
        for b in 0..federation.brokers.len() {
            for m in federation.brokers[b].sessions.clone() {
                federation.attach(b, m);
            }
        }
        federation
    }

    /// A mirror's agent begins a session with a broker.
    pub(super) fn attach(&mut self, b: usize, m: u32) {
        let broker = &mut self.brokers[b];
        if !broker.sessions.contains(&m) {
            broker.sessions.push(m);
        }
        broker.fleet.on_session_up(id(m), u64::from(m) + 1, 1, IpAddr::V4(addr(m)), at(self.now));
        broker.fleet.on_report(id(m), &report(&[&format!("m{m}")]), at(self.now));
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            let now = at(self.now);
            let due: Vec<_> = self.post.extract_if(.., |(when, ..)| *when <= self.now).collect();
            for (_, to, post) in due {
                self.deliver(to, post);
            }
            self.seq += u64::from(self.now.is_multiple_of(200));
            for b in 0..self.brokers.len() {
                if self.now.is_multiple_of(200) {
                    self.beacons(b);
                }
                let fleet = &mut self.brokers[b].fleet;
                if fleet.next_deadline().is_some_and(|due| due <= now.mono) {
                    fleet.on_deadline(now);
                }
                self.outputs(b);
                self.tell(b);
            }
        }
    }

    fn beacons(&mut self, b: usize) {
        let broker = &mut self.brokers[b];
        for m in broker.sessions.iter().filter(|m| self.alive[**m as usize] && !broker.cut) {
            broker.fleet.on_beacon(id(*m), 1, self.seq, false, at(self.now));
        }
    }

    fn deliver(&mut self, to: usize, post: Post) {
        let now = at(self.now);
        let fleet = &mut self.brokers[to].fleet;
        match post {
            Post::Facts(from, facts) => assert_eq!(fleet.on_peer_facts(key(from), &facts, now), 0),
            Post::Ask(ask) => {
                let domain = self.registry.find_domain(&ask.domain).unwrap();
                let mirror = self.registry.find_mirror(domain, &ask.mirror).unwrap();
                fleet.on_asked_to_probe(mirror, ask.family, now);
            }
            Post::Probe(token, answer) => fleet.on_probe_result(token, answer, now),
        }
        self.outputs(to);
    }

    fn outputs(&mut self, b: usize) {
        while let Some(output) = self.brokers[b].fleet.poll_output() {
            let broker = &mut self.brokers[b];
            match output {
                Output::Probe(order) => {
                    let m = order.mirror.0;
                    broker.probes[m as usize] += 1;
                    let reached = self.alive[m as usize] && !broker.blind.contains(&m) && !broker.cut;
                    let (after, answer) = match reached {
                        true => (20, ProbeAnswer::Passed(Duration::from_millis(20))),
                        false => (order.spec.timeout.as_millis() as u64, ProbeAnswer::Silent),
                    };
                    self.post.push((self.now + after, b, Post::Probe(order.token, answer)));
                }
                Output::Witness(order) => {
                    broker.fleet.on_witness(order.token, order.witness, Witnessed::Declined, at(self.now));
                }
                Output::References => broker.fleet.on_references(0, at(self.now)),
                Output::AskPeers(ask) => self.send(b, |_| Post::Ask(ask.clone())),
                Output::Transition(t) => broker.log.push((self.now, t)),
            }
        }
    }

    /// As the driver does it: changes soon, all each five seconds.
    fn tell(&mut self, b: usize) {
        let now = at(self.now);
        let broker = &mut self.brokers[b];
        let facts: Vec<PeerFact> = if self.now >= broker.told.0 + 5_000 {
            broker.told = (self.now, self.now);
            broker.fleet.own_facts(now).collect()
        } else if broker.fleet.facts_changed() && self.now >= broker.told.1 + 200 {
            broker.told.1 = self.now;
            broker.fleet.changed_facts(now)
        } else {
            return;
        };
        let lie = broker.lie.unwrap_or(|fact| fact);
        let facts: Vec<PeerFact> = facts.into_iter().map(lie).collect();
        self.send(b, |from| Post::Facts(from, facts.clone()));
    }

    fn send(&mut self, from: usize, post: impl Fn(usize) -> Post) {
        for to in 0..self.brokers.len() {
            self.random = mix(self.random + 1);
            let trip = 20 + self.random % 100;
            if to != from && !self.brokers[from].cut && !self.brokers[to].cut {
                self.post.push((self.now + trip, to, post(from)));
            }
        }
    }

    pub(super) fn shown(&self, b: usize, m: u32) -> State {
        self.brokers[b].fleet.live().mirror(MirrorIndex(m)).verdict(Family::V4).state
    }

    /// Whether no broker among these has taken a mirror out since the logs were cleared.
    pub(super) fn keeps(&self, b: usize) -> bool {
        self.brokers[b].log.iter().all(|(_, t)| t.to.state.eligible())
    }

    pub(super) fn clear(&mut self) {
        for broker in &mut self.brokers {
            broker.log.clear();
            broker.probes.iter_mut().for_each(|n| *n = 0);
        }
    }
}
