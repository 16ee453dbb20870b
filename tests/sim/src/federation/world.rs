//! The loop: brokers, the lines between them, and what happens when.
//!
//! A connection is an ordered line that may be cut, in one direction or both; it is then noticed after a
//! while, as QUIC's idle timeout does. Stores take a moment, in which a crash may fall.

use super::broker::{Broker, Time};
use super::oracle::Oracle;
use crate::rng::Rng;
use nearmost_replica::authority::Authority;
use nearmost_replica::federation::{Event, FederationConfig, Output, Ticket};
use nearmost_replica::message::{Answer, Message};
use nearmost_replica::set::slot_of_record;
use nearmost_replica::{PublicKey, SignedRecord};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Messages of one direction under way at most.
const LINE: usize = 16;
/// After how long a dead connection is noticed, in milliseconds.
const NOTICED_MS: u64 = 10_000;

/// What may happen.
#[derive(Clone, Debug)]
enum Happening {
    Arrives { line: u64, from: usize, to: usize, message: Message },
    Dialled { from: usize, to: usize, life: u64 },
    Noticed { line: u64 },
    Written { broker: usize, life: u64, ticket: Ticket, records: Vec<SignedRecord> },
    Due { broker: usize },
}

struct Line {
    id: u64,
    ends: [usize; 2],
    under_way: [usize; 2],
    broken: bool,
}

/// How things are between two brokers.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// One way, in milliseconds.
    pub delay_ms: u64,
    /// Nothing gets through in this direction.
    pub cut: bool,
}

/// A broker that speaks the protocol by hand: of whom it heard, and what, `None` once connected; and so what
/// it says to whom.
pub type Puppet = Box<dyn FnMut(Time, usize, Option<Message>) -> Vec<(usize, Message)>>;

/// What may go on here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Peers refuse statements for good: rights are taken away while statements are under way.
    pub refusals: bool,
    /// Authors fork.
    pub forks: bool,
}

/// What the world counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Statements that were refused for good.
    pub refused: u64,
    /// Times that an honest broker hung up on one that is not.
    pub hung_up: u64,
    /// Forks that brokers learnt of.
    pub forks: u64,
    /// The most records handed to one store and not written yet.
    pub most_storing: usize,
    /// Messages that arrived.
    pub messages: u64,
    /// Bytes of records that arrived.
    pub record_bytes: u64,
    /// Peers that fell behind.
    pub fell_behind: u64,
    /// The longest queue seen.
    pub longest_queue: usize,
}

/// Brokers and everything between them.
pub struct World<A> {
    /// By index.
    pub brokers: Vec<Broker<A>>,
    /// By (from, to).
    pub paths: BTreeMap<(usize, usize), Path>,
    /// The time.
    pub time: Time,
    /// What must hold.
    pub oracle: Oracle,
    /// What was counted.
    pub counts: Counts,
    /// Chance of a crash at a write of the store.
    pub crash_at_write: f64,
    /// Brokers that crashed at a write since they were last looked at.
    pub crashed: Vec<usize>,
    /// What may go on.
    pub allowed: Allowed,
    /// Brokers that are not honest, by index; they never run.
    pub puppets: BTreeMap<usize, Puppet>,
    /// By broker: records handed to the store and not written yet.
    storing: Vec<usize>,
    authority: Box<dyn Fn(usize) -> A>,
    config: FederationConfig,
    lines: BTreeMap<(usize, usize), Line>,
    next_line: u64,
    agenda: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    rng: Rng,
    index: BTreeMap<PublicKey, usize>,
    due: Vec<Time>,
}

impl<A: Authority> World<A> {
    /// A world of these brokers, none of which runs.
    pub fn new(
        brokers: Vec<Broker<A>>,
        config: FederationConfig,
        rng: Rng,
        authority: Box<dyn Fn(usize) -> A>,
    ) -> Self {
        let index = brokers.iter().enumerate().map(|(i, b)| (b.id(), i)).collect();
        let brokers_n = brokers.len();
        let mut world = World {
            due: vec![Time::MAX; brokers.len()],
            brokers,
            paths: BTreeMap::new(),
            time: 0,
            oracle: Oracle::default(),
            counts: Counts::default(),
            crash_at_write: 0.0,
            crashed: Vec::new(),
            allowed: Allowed::default(),
            puppets: BTreeMap::new(),
            storing: vec![0; brokers_n],
            authority,
            config,
            lines: BTreeMap::new(),
            next_line: 0,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            rng,
            index,
        };
        let n = world.brokers.len();
        for (from, to) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
            let delay_ms = world.rng.between(1, 150);
            world.paths.insert((from, to), Path { delay_ms, cut: false });
        }
        world
    }

    fn at(&mut self, time: Time, what: Happening) {
        self.next_happening += 1;
        self.agenda.push(Reverse((time, self.next_happening)));
        self.happenings.insert(self.next_happening, what);
    }

    /// Starts a broker's process.
    pub fn start(&mut self, broker: usize) {
        if self.brokers[broker].running.is_some() || self.puppets.contains_key(&broker) {
            return;
        }
        self.storing[broker] = 0;
        let peers: Vec<PublicKey> = self.brokers.iter().map(Broker::id).collect();
        let peers: Vec<PublicKey> = peers.into_iter().filter(|p| *p != self.brokers[broker].id()).collect();
        let authority = (self.authority)(broker);
        self.brokers[broker].start(authority, &peers, &self.config, self.time);
        self.due[broker] = Time::MAX;
        self.brokers[broker].collect(self.time);
        self.pump(broker);
    }

    /// Kills a broker's process.
    pub fn kill(&mut self, broker: usize) {
        self.brokers[broker].running = None;
        let lines: Vec<_> = self.lines.values().filter(|l| l.ends.contains(&broker)).map(|l| l.id).collect();
        // Its machine resets connections that it does not know, once it is asked.
        for line in lines {
            self.break_line(line, 1000);
        }
    }

    /// Cuts or mends one direction.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        if let Some(path) = self.paths.get_mut(&(from, to)) {
            path.cut = cut;
        }
        if cut {
            let line = self.lines.get(&(from.min(to), from.max(to))).map(|line| line.id);
            if let Some(line) = line {
                self.break_line(line, NOTICED_MS);
            }
        }
    }

    /// A connection that is lost by itself.
    pub fn reset(&mut self, a: usize, b: usize) {
        if let Some(line) = self.lines.get(&(a.min(b), a.max(b))).map(|line| line.id) {
            self.break_line(line, 1);
        }
    }

    fn break_line(&mut self, id: u64, noticed_ms: u64) {
        if let Some(line) = self.lines.values_mut().find(|line| line.id == id && !line.broken) {
            line.broken = true;
            self.at(self.time + noticed_ms, Happening::Noticed { line: id });
        }
    }

    /// Runs until then.
    pub fn run_until(&mut self, until: Time) {
        while let Some(Reverse((at, _))) = self.agenda.peek()
            && *at <= until
        {
            let Some(Reverse((at, number))) = self.agenda.pop() else { return };
            self.time = at;
            if let Some(what) = self.happenings.remove(&number) {
                self.happen(what);
            }
        }
        self.time = until;
    }

    /// Lets a broker do what follows from something that was done to it.
    pub fn pump(&mut self, broker: usize) {
        loop {
            let mut quiet = true;
            while let Some(output) =
                self.brokers[broker].running.as_mut().and_then(|r| r.machine.poll_output())
            {
                quiet = false;
                self.obey(broker, output);
            }
            quiet &= !self.send(broker);
            if quiet {
                break;
            }
        }
        self.arm(broker);
    }

    fn arm(&mut self, broker: usize) {
        let Some(running) = &self.brokers[broker].running else { return };
        self.counts.longest_queue = self.counts.longest_queue.max(running.machine.longest_queue());
        let due = running.machine.next_deadline_ms().max(self.time + 1);
        if due < self.due[broker] {
            self.due[broker] = due;
            self.at(due, Happening::Due { broker });
        }
    }

    fn obey(&mut self, broker: usize, output: Output) {
        let life = self.brokers[broker].life;
        match output {
            Output::Dial(peer) => {
                let to = self.index[&peer];
                let path = self.paths[&(broker, to)];
                self.at(self.time + 2 * path.delay_ms, Happening::Dialled { from: broker, to, life });
            }
            Output::Store { ticket, records, .. } => {
                let took = self.rng.between(1, 20);
                self.storing[broker] += records.len();
                self.counts.most_storing = self.counts.most_storing.max(self.storing[broker]);
                self.at(self.time + took, Happening::Written { broker, life, ticket, records });
            }
            Output::Save(peer, state) => drop(self.brokers[broker].disk.peers.insert(peer, state)),
            Output::Event(_, Event::FellBehind(..)) => self.counts.fell_behind += 1,
            Output::Forked { a, b } if self.allowed.forks => self.forked(broker, &a, &b),
            Output::Forked { .. } => panic!("an honest broker has forked"),
            Output::Event(peer, Event::Refused(item)) => {
                let by_puppet = self.puppets.contains_key(&self.index[&peer]);
                assert!(self.allowed.refusals || by_puppet, "refused: {item:?}");
                self.counts.refused += 1;
            }
            Output::Event(..) => {}
        }
    }

    fn forked(&mut self, broker: usize, a: &SignedRecord, b: &SignedRecord) {
        self.counts.forks += 1;
        self.brokers[broker].forked(a, b);
    }

    /// Has a puppet say something, if it is connected.
    pub fn say(&mut self, puppet: usize, to: usize, message: Message) {
        let Some(line) = self.lines.get(&(puppet.min(to), puppet.max(to))) else { return };
        let (line, delay) = (line.id, self.paths[&(puppet, to)].delay_ms);
        self.at(self.time + delay, Happening::Arrives { line, from: puppet, to, message });
    }

    /// Tells a puppet what it heard.
    fn tell(&mut self, puppet: usize, from: usize, heard: Option<Message>) {
        let time = self.time;
        let said = self.puppets.get_mut(&puppet).map(|puppet| puppet(time, from, heard)).unwrap_or_default();
        said.into_iter().for_each(|(to, message)| self.say(puppet, to, message));
    }

    /// Puts on the lines what there is room for.
    fn send(&mut self, broker: usize) -> bool {
        let mut sent = false;
        for peer in 0..self.brokers.len() {
            let key = (broker.min(peer), broker.max(peer));
            let Some(line) = self.lines.get(&key) else { continue };
            let (id, side) = (line.id, usize::from(line.ends[1] == broker));
            let mut room = LINE.saturating_sub(line.under_way[side]);
            while room > 0 {
                let (now, to) = (self.brokers[broker].now(self.time), self.brokers[peer].id());
                let Some(running) = &mut self.brokers[broker].running else { break };
                let Some(message) = running.machine.poll_message(to, &running.set, now) else { break };
                room -= 1;
                sent = true;
                if let Some(line) = self.lines.get_mut(&key) {
                    line.under_way[side] += 1;
                }
                let delay = self.paths[&(broker, peer)].delay_ms;
                self.at(self.time + delay, Happening::Arrives { line: id, from: broker, to: peer, message });
            }
        }
        sent
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Due { broker } if self.due[broker] == self.time => {
                self.due[broker] = Time::MAX;
                let now = self.brokers[broker].now(self.time);
                if let Some(running) = &mut self.brokers[broker].running {
                    running.machine.on_deadline(now);
                }
                self.pump(broker);
            }
            Happening::Written { broker, life, ticket, records } if self.brokers[broker].life == life => {
                self.written(broker, ticket, &records);
            }
            Happening::Dialled { from, to, life } if self.brokers[from].life == life => {
                self.dialled(from, to)
            }
            Happening::Noticed { line } => self.noticed(line),
            Happening::Arrives { line, from, to, message } => self.arrives(line, from, to, message),
            _ => {}
        }
    }

    fn written(&mut self, broker: usize, ticket: Ticket, records: &[SignedRecord]) {
        if self.brokers[broker].running.is_none() {
            return;
        }
        let crashes = self.rng.chance(self.crash_at_write);
        if crashes && self.rng.chance(0.5) {
            // Before the transaction was durable.
            self.crashed.push(broker);
            return self.kill(broker);
        }
        let now = self.brokers[broker].now(self.time);
        self.storing[broker] = self.storing[broker].saturating_sub(records.len());
        let (results, _) = self.brokers[broker].store(records, self.time);
        for (signed, _) in records.iter().zip(&results).filter(|(_, stored)| stored.answer == Answer::Forked)
        {
            assert!(self.allowed.forks, "an honest broker has forked: {signed:?}");
            if let Some((a, b)) = self.brokers[broker].disk.evidence(signed) {
                self.forked(broker, &a, &b);
            }
        }
        for signed in records {
            self.oracle.check_monotone(broker, &self.brokers[broker], slot_of_record(signed.record()));
        }
        if crashes {
            self.crashed.push(broker);
            return self.kill(broker);
        }
        if let Some(running) = &mut self.brokers[broker].running {
            running.machine.on_stored(ticket, results, now);
        }
        self.pump(broker);
    }

    fn dialled(&mut self, from: usize, to: usize) {
        let key = (from.min(to), from.max(to));
        let now = self.brokers[from].now(self.time);
        let peer = self.brokers[to].id();
        if self.brokers[from].running.is_none() {
            return;
        }
        let through = !self.paths[&(from, to)].cut && !self.paths[&(to, from)].cut;
        let there = self.brokers[to].running.is_some() || self.puppets.contains_key(&to);
        if !through || !there || self.lines.contains_key(&key) {
            if let Some(running) = &mut self.brokers[from].running {
                running.machine.on_dial_failed(peer, "not reached", now);
            }
            return self.pump(from);
        }
        self.next_line += 1;
        let line = Line { id: self.next_line, ends: [key.0, key.1], under_way: [0, 0], broken: false };
        self.lines.insert(key, line);
        for (a, b) in [(from, to), (to, from)] {
            let (now, other) = (self.brokers[a].now(self.time), self.brokers[b].id());
            if let Some(running) = &mut self.brokers[a].running {
                running.machine.on_up(other, now);
            }
            self.pump(a);
            self.tell(a, b, None);
        }
    }

    fn noticed(&mut self, id: u64) {
        let Some(key) = self.lines.iter().find(|(_, line)| line.id == id).map(|(key, _)| *key) else {
            return;
        };
        self.lines.remove(&key);
        for (a, b) in [key, (key.1, key.0)] {
            let (now, other) = (self.brokers[a].now(self.time), self.brokers[b].id());
            if let Some(running) = &mut self.brokers[a].running {
                running.machine.on_down(other, "lost", now);
            }
            self.pump(a);
        }
    }

    fn arrives(&mut self, id: u64, from: usize, to: usize, message: Message) {
        let key = (from.min(to), from.max(to));
        let Some(line) = self.lines.get_mut(&key).filter(|line| line.id == id && !line.broken) else {
            return;
        };
        let side = usize::from(line.ends[1] == from);
        if self.puppets.contains_key(&from) {
            // What is not read waits with its sender.
            let sender = self.brokers[from].id();
            let reads = self.brokers[to].running.as_ref().is_some_and(|r| r.machine.wants_input(&sender));
            if !reads {
                return self.at(self.time + 5, Happening::Arrives { line: id, from, to, message });
            }
        } else {
            line.under_way[side] -= 1;
        }
        self.counts.messages += 1;
        if self.puppets.contains_key(&to) {
            self.tell(to, from, Some(message));
        } else {
            self.hears(id, from, to, message);
        }
        self.pump(to);
        self.pump(from);
    }

    fn hears(&mut self, line: u64, from: usize, to: usize, message: Message) {
        let (now, sender) = (self.brokers[to].now(self.time), self.brokers[from].id());
        let forged = self.puppets.contains_key(&from);
        let Some(running) = &mut self.brokers[to].running else { return };
        let label = message.label();
        let bytes = &mut self.counts.record_bytes;
        // Signatures are checked where somebody forges them; else that would be most of the time.
        let checked = message.map(|raw| {
            *bytes += raw.len() as u64;
            if forged { SignedRecord::decode_verified(&raw) } else { SignedRecord::decode(&raw) }
        });
        if let Err(breach) = running.machine.on_message(sender, checked, &running.set, now) {
            assert!(forged, "broker {to} was told by {from}, in {label}: {breach}");
            self.counts.hung_up += 1;
            self.break_line(line, 1);
        }
    }
}
