//! Witnesses: agents that look at a mirror on the broker's order, from their own place, and the
//! broker's look at its own reference addresses.

use crate::broker::{Ask, Happening, Nearmost};
use crate::probe::{Outcome, Target};
use crate::session::{Body, Post};
use crate::world::Ground;
use nearmost_core::fleet::ProbeToken;
use nearmost_core::health::Family;
use nearmost_core::id::NodeId;

/// Who is to look at whom, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The witness's host.
    pub witness: u32,
    /// The host that is looked at.
    pub host: u32,
    /// In which family.
    pub family: Family,
    /// How long each attempt waits, in microseconds.
    pub timeout_us: u64,
    /// When attempts start, from the beginning, in microseconds.
    pub attempts: Vec<u64>,
}

/// What a witness saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An attempt passed, after so many microseconds.
    Passed(u64),
    /// Every attempt failed.
    Failed,
    /// It could not be asked.
    Declined,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Testimony {
    /// Number of the order.
    pub order: u64,
    /// The order.
    pub asked: Order,
    /// What was seen.
    pub seen: Seen,
    /// When the broker learned of it, in microseconds.
    pub at: u64,
}

/// An order and how far it is.
pub(crate) struct Looking {
    pub order: Order,
    /// Attempts that have not ended.
    left: usize,
    over: bool,
}

/// The broker's look at its references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// How many were asked.
    pub asked: u32,
    /// How many answered.
    pub answered: u32,
    /// How many have neither answered nor failed.
    pub(crate) left: u32,
}

impl Nearmost {
    /// Sends an order to a witness; its number.
    pub fn order(&mut self, order: Order, ground: &mut Ground<Happening>) -> u64 {
        self.order_for(order, None, ground)
    }

    /// The same, for the fleet, which is told the answer.
    pub(crate) fn order_for(
        &mut self,
        order: Order,
        asked: Option<(ProbeToken, NodeId)>,
        ground: &mut Ground<Happening>,
    ) -> u64 {
        let number = self.asks.number();
        self.asks.note(number, asked);
        let witness = order.witness;
        let agent = self.agents[witness as usize];
        let left = order.attempts.len();
        self.asks.looking.insert(number, Looking { order, left, over: false });
        match self.sessions.at_broker[witness as usize] {
            Some(session) => {
                let post = Post { host: witness, from_agent: false, session, life: agent.life };
                self.post(post, Body::Order(number), 0, ground);
            }
            None => self.testify(number, Seen::Declined, ground),
        }
        number
    }

    /// An order reaches its witness.
    pub(crate) fn told(&mut self, _witness: u32, body: Body, ground: &mut Ground<Happening>) {
        let Body::Order(number) = body else { return };
        let Some(looking) = self.asks.looking.get(&number) else { return };
        for start in &looking.order.attempts {
            ground.after(*start, Happening::Attempt(number));
        }
    }

    /// A witness makes one attempt.
    pub(crate) fn attempt(&mut self, number: u64, ground: &mut Ground<Happening>) {
        let Some(looking) = self.asks.looking.get(&number).filter(|l| !l.over) else { return };
        let Order { witness, host, family, timeout_us, .. } = looking.order;
        if !ground.hosts[witness as usize].has_agent() {
            return;
        }
        let tag = self.asks.add(Ask::Attempt(number));
        ground.probe(Target { from: witness, to: host, family, timeout_us, tag });
    }

    /// An attempt of a witness ended.
    pub(crate) fn attempted(&mut self, number: u64, outcome: Outcome, ground: &mut Ground<Happening>) {
        let Some(looking) = self.asks.looking.get_mut(&number).filter(|l| !l.over) else { return };
        looking.left -= 1;
        let seen = match outcome.passed() {
            true => Seen::Passed(outcome.took_us),
            false if looking.left == 0 => Seen::Failed,
            false => return,
        };
        looking.over = true;
        let host = looking.order.witness;
        let agent = self.agents[host as usize];
        let post = Post { host, from_agent: true, session: agent.session, life: agent.life };
        self.post(post, Body::Answer(number, seen), 0, ground);
    }

    /// The broker probes its references: ends that are no hosts. It learns how many answered.
    pub fn ask_references(&mut self, timeout_us: u64, ground: &mut Ground<Happening>) {
        let broker = ground.broker();
        let ends: Vec<u32> = (broker + 1..ground.net.ends()).collect();
        let asked = ends.len() as u32;
        self.references = References { asked, answered: 0, left: asked };
        for to in ends {
            let tag = self.asks.add(Ask::Reference);
            ground.probe(Target { from: broker, to, family: Family::V4, timeout_us, tag });
        }
        if asked == 0 {
            self.referred(ground);
        }
    }
}
