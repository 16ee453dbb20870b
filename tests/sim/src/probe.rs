//! Probes: TCP connections that one end opens to a host, packet by packet.
//!
//! A lost packet is sent again after 1, 2, 4 s, as kernels do, as long as the prober waits.

use crate::host::Service;
use crate::net::End;
use crate::world::{Event, Ground};
use nearmost_core::health::Family;

/// First wait before a connection's packet is sent again.
const RETRANSMIT_US: u64 = 1_000_000;

/// What a probe is to find out.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Who probes.
    pub from: End,
    /// Which end is probed; ends that are no hosts always answer.
    pub to: End,
    /// Of which family its address is.
    pub family: Family,
    /// How long the prober waits, in microseconds.
    pub timeout_us: u64,
    /// The prober's own mark.
    pub tag: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The connection was accepted.
    Accepted,
    /// It was refused.
    Refused,
    /// Nothing came back in time.
    Nothing,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What came back.
    pub answer: Answer,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

impl Outcome {
    /// Whether the connection was accepted.
    pub fn passed(&self) -> bool {
        self.answer == Answer::Accepted
    }
}

/// Part of a probe under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The connection's packet reaches the target.
    Asks,
    /// The answer reaches the prober.
    Answers {
        /// Or else refused.
        accepted: bool,
    },
    /// Nothing came back: it is sent again.
    Again,
    /// The prober waits no longer.
    Over,
}

struct Running {
    target: Target,
    began: u64,
    tries: u32,
    serial: u32,
}

/// All probes under way.
#[derive(Default)]
pub struct Probes {
    places: Vec<Option<Running>>,
    free: Vec<u32>,
    serial: u32,
}

impl Probes {
    fn get(&mut self, slot: u32, serial: u32) -> Option<&mut Running> {
        self.places.get_mut(slot as usize)?.as_mut().filter(|r| r.serial == serial)
    }

    fn insert(&mut self, running: Running) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.places[slot as usize] = Some(running);
            return slot;
        }
        self.places.push(Some(running));
        (self.places.len() - 1) as u32
    }

    /// Who probes, and whether the probe is still under way.
    pub fn prober(&self, slot: u32, serial: u32) -> Option<End> {
        let running = self.places.get(slot as usize)?.as_ref()?;
        (running.serial == serial).then_some(running.target.from)
    }

    fn finish(&mut self, slot: u32) -> Option<Running> {
        let running = self.places.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(running)
    }
}

impl<E: Copy> Ground<E> {
    /// Begins a probe.
    pub fn probe(&mut self, target: Target) {
        self.probes.serial = self.probes.serial.wrapping_add(1);
        let serial = self.probes.serial;
        let slot = self.probes.insert(Running { target, began: self.now, tries: 0, serial });
        self.queue.push(self.now + target.timeout_us, Event::Probe(slot, serial, Leg::Over));
        self.ask(slot, serial);
    }

    fn ask(&mut self, slot: u32, serial: u32) {
        let Some(running) = self.probes.get(slot, serial) else { return };
        let Target { from, to, timeout_us, .. } = running.target;
        let again = self.now + (RETRANSMIT_US << running.tries.min(5));
        running.tries += 1;
        if again < running.began + timeout_us {
            self.queue.push(again, Event::Probe(slot, serial, Leg::Again));
        }
        if let Some(delay) = self.net.send(from, to, self.now).first {
            self.queue.push(self.now + delay, Event::Probe(slot, serial, Leg::Asks));
        }
    }

    /// One part of a probe; its mark, target and outcome when that was the last.
    pub fn probe_leg(&mut self, slot: u32, serial: u32, leg: Leg) -> Option<(Target, Outcome)> {
        let running = self.probes.get(slot, serial)?;
        let (target, began) = (running.target, running.began);
        let answer = match leg {
            Leg::Again => {
                self.ask(slot, serial);
                return None;
            }
            Leg::Asks => {
                self.answer(slot, serial, target);
                return None;
            }
            Leg::Answers { accepted: true } => Answer::Accepted,
            Leg::Answers { accepted: false } => Answer::Refused,
            Leg::Over => Answer::Nothing,
        };
        self.probes.finish(slot)?;
        Some((target, Outcome { answer, took_us: self.now - began }))
    }

    fn answer(&mut self, slot: u32, serial: u32, target: Target) {
        let met = self.hosts.get(target.to as usize).map_or(Service::Answers, |h| h.meets(target.family));
        if met == Service::Swallows {
            return;
        }
        if let Some(delay) = self.net.send(target.to, target.from, self.now).first {
            let leg = Leg::Answers { accepted: met == Service::Answers };
            self.queue.push(self.now + delay, Event::Probe(slot, serial, leg));
        }
    }
}
