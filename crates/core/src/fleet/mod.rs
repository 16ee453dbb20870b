//! The health of all mirrors: nodes, beacons, reports and probes go in, verdicts and probe orders
//! come out.
//!
//! [`Fleet`] owns one [`crate::health::machine::Machine`] for each mirror and family and turns what
//! the driver saw into the machines' inputs:
//!
//! | file | its part |
//! |---|---|
//! | `config` | periods, bounds and schedules |
//! | `types` | what goes in and comes out |
//! | `node` | hearing one agent: replay window, loss, silence |
//! | `sessions` | its sessions, and the addresses they come from |
//! | `timing` | how long answers take, and how long to wait |
//! | `probing` | asking one address: bursts, attempts, their own time limits |
//! | `panel`, `inquiry` | what broker and witnesses found of an address, and what follows |
//! | `witnesses` | which agents are asked |
//! | `facts` | what this broker tells others |
//! | `peers` | what others tell, and what follows |
//! | `duty` | which brokers probe a mirror as a matter of routine |
//! | `links` | whether the broker itself is connected |
//! | `caps` | how much may be out on the broker's word alone |
//! | `complaints` | clients that report failure |
//! | `asking` | driving one mirror: inputs, probes, witnesses, judgement |
//! | `standing` | what people ordered of one mirror |
//! | `mirror` | one mirror: its machines, its addresses, its probing |
//! | `timers` | one heap of deadlines for everything |
//! | `sync` | following the registry, resuming after a restart |
//! | `live` | what queries read of all this |
//!
//! The driver's loop: call the `on_*` that fits, then [`Fleet::poll_output`] until it is empty,
//! then publish [`Fleet::live`] if [`Fleet::live_version`] grew, then sleep until
//! [`Fleet::next_deadline`] or the next event; at the deadline, [`Fleet::on_deadline`].
//!
//! A beacon costs one hash lookup and a few stores: deadlines are lazy, a node's timer looks when
//! it fires whether a beacon has come meanwhile. When the driver itself was held up (a stopped
//! process, a starved machine), nothing that was not heard or answered meanwhile counts: every
//! node gets a fresh window and every probe under way is asked again.

#[cfg(test)]
mod alone_tests;
mod asking;
#[cfg(test)]
mod burst_tests;
mod caps;
mod complaints;
mod config;
mod duty;
mod events;
mod facts;
#[cfg(test)]
mod federation_lab;
#[cfg(test)]
mod federation_tests;
mod inquiry;
#[cfg(test)]
mod lab;
mod links;
mod live;
mod mirror;
mod node;
#[cfg(test)]
mod outside_tests;
mod panel;
mod peers;
mod probing;
#[cfg(test)]
mod session_tests;
mod sessions;
mod slots;
mod standing;
mod sync;
#[cfg(test)]
mod tests;
mod timers;
mod timing;
mod types;
mod witnesses;

pub use config::{Caution, FleetConfig};
pub use facts::{AgentWord, LIFE as FACT_LIFE, OutsideLook, PeerFact, PeerView, Word};
pub use types::{
    BeaconOutcome, BeaconTally, Evidence, NodeReport, Output, PeerAsk, PersistedVerdict, ProbeAnswer,
    ProbeOrder, ProbeToken, ServiceReport, Transition, WitnessOrder, Witnessed,
};

use crate::geo::table::PlaceTable;
use crate::health::Family;
use crate::health::machine::Input;
use crate::live::Live;
use crate::registry::Registry;
use crate::time::{MonoTime, Now};
use duty::Peers;
use links::Links;
use mirror::MirrorTable;
use node::NodeTable;
use probing::Prober;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use timers::{Timer, Timers};

/// The health of all mirrors of the registry.
pub struct Fleet {
    config: FleetConfig,
    registry: Arc<Registry>,
    nodes: NodeTable,
    mirrors: MirrorTable,
    prober: Prober,
    places: Arc<PlaceTable>,
    links: Links,
    peers: Peers,
    timers: Timers,
    attention: Attention,
    live: Live,
    live_version: u64,
    outputs: VecDeque<Output>,
}

/// When the driver last looked, and since when it has been looking without a pause.
#[derive(Default)]
struct Attention {
    last: Option<MonoTime>,
    since: MonoTime,
}

impl Fleet {
    /// An empty fleet; `seed` drives the jitter of probes.
    pub fn new(config: FleetConfig, seed: u64) -> Fleet {
        Fleet {
            prober: Prober::new(&config, seed),
            config,
            registry: Arc::default(),
            places: Arc::default(),
            links: Links::default(),
            peers: Peers::default(),
            nodes: NodeTable::default(),
            mirrors: MirrorTable::default(),
            timers: Timers::default(),
            attention: Attention::default(),
            live: Live::default(),
            live_version: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Where addresses are: whom to ask as a witness, and what is one region.
    pub fn set_places(&mut self, places: Arc<PlaceTable>) {
        self.places = places;
    }

    /// Time between two beacons that agents are told to keep.
    pub fn beacon_period(&self) -> Duration {
        self.config.beacon_period
    }

    /// Agents are asked for beacons this often from now on; the fleet's patience follows at once.
    pub fn set_beacon_period(&mut self, period: Duration, now: Now) {
        self.attend(now);
        self.config.beacon_period = period;
        self.prober.config.beacon_period = period;
        for (slot, _) in self.nodes.all() {
            self.arm_node(slot, now);
        }
    }

    /// What queries read; entry *i* belongs to mirror *i* of the registry last set.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Grows with every change of [`Fleet::live`].
    pub fn live_version(&self) -> u64 {
        self.live_version
    }

    /// The registry last set.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The next thing for the driver to do. Take all after each call of another method: nothing
    /// else bounds the queue.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Fleet::on_deadline`] wants to be called at the latest. It may be early, never late.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        // With anything to watch, look in every period, so that a pause can be told from quiet.
        let heartbeat = match (self.attention.last, self.nodes.is_empty() && self.mirrors.is_empty()) {
            (Some(last), false) => Some(last + self.config.beacon_period),
            _ => None,
        };
        [heartbeat, self.timers.next(), self.links.deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now) {
        self.attend(now);
        if self.links.pulse(now.mono) {
            self.pulse(now);
        }
        while let Some((at, timer)) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::Node(slot) => self.node_due(slot, at, now),
                Timer::Mirror(slot, family) => self.mirror_due(slot, family, at, now),
            }
        }
    }

    /// Notes that the driver is looking. After a pause, nothing missed meanwhile counts.
    fn attend(&mut self, now: Now) {
        let paused = self.attention.last.is_some_and(|last| now.mono.since(last) > self.config.pause());
        self.attention.last = Some(self.attention.last.map_or(now.mono, |last| last.max(now.mono)));
        if !paused || self.nodes.is_empty() && self.mirrors.is_empty() {
            return;
        }
        self.attention.since = now.mono;
        for (slot, family) in self.mirrors.being_probed() {
            self.drive(slot, family, &[], mirror::Burst::Again, now);
        }
    }

    fn node_due(&mut self, slot: u32, at: MonoTime, now: Now) {
        let Some(node) = self.nodes.slots.get_mut(slot) else { return };
        if node.armed != Some(at) {
            return;
        }
        node.armed = None;
        node.hearing.set_k(node.loss.k(self.config.silence_k));
        let input = node.hearing.due(&self.config, self.attention.since, now.mono);
        let left = node.sessions.due(self.attention.since, now.mono);
        self.arm_node(slot, now);
        for family in left {
            self.observed(slot, family, None, now);
        }
        match input {
            Some(Input::SilenceConfirmedLong) => self.long_silent(slot, now),
            Some(input) => self.drive_node(slot, &[input], now),
            None => {}
        }
    }

    fn long_silent(&mut self, node: u32, now: Now) {
        let slots = self.nodes.slots.get(node).map(|n| n.mirrors.clone()).unwrap_or_default();
        for slot in slots {
            for family in Family::ALL {
                self.long_silence(slot, family, now);
            }
        }
    }

    fn mirror_due(&mut self, slot: u32, family: Family, at: MonoTime, now: Now) {
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
        let side = &mut mirror.sides[family.index()];
        if side.armed != Some(at) {
            return;
        }
        side.armed = None;
        let inputs = mirror.standing.due(now.unix);
        for family in Family::ALL.into_iter().filter(|_| !inputs.is_empty()) {
            self.drive(slot, family, &inputs, mirror::Burst::AsWanted, now);
        }
        if self.look_again(slot, family, now.mono) {
            return self.long_silence(slot, family, now);
        }
        let relayed = self.relay(slot, family, now);
        self.drive(slot, family, &relayed, mirror::Burst::AsWanted, now);
    }

    fn arm_node(&mut self, slot: u32, now: Now) {
        let since = self.attention.since;
        if let Some(node) = self.nodes.slots.get_mut(slot) {
            let due = node.deadline(&self.config, since);
            self.timers.arm(&mut node.armed, due, Timer::Node(slot), now.mono);
        }
    }

    /// Hands inputs to all mirrors of a node, in both families.
    fn drive_node(&mut self, slot: u32, inputs: &[Input], now: Now) {
        let count = self.nodes.slots.get(slot).map_or(0, |n| n.mirrors.len());
        for i in 0..count {
            let mirror = self.nodes.slots.get(slot).and_then(|n| n.mirrors.get(i).copied());
            if let Some(mirror) = mirror {
                self.drive_mirror(mirror, inputs, now);
            }
        }
    }

    fn drive_mirror(&mut self, slot: u32, inputs: &[Input], now: Now) {
        if let Some(mirror) = self.mirrors.slots.get_mut(slot) {
            mirror.agent_said(inputs);
        }
        for family in Family::ALL {
            self.drive(slot, family, inputs, mirror::Burst::AsWanted, now);
        }
    }
}
