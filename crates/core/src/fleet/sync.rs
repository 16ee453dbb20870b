//! Following the registry, and going on after a restart.
//!
//! State is kept by name: a mirror by its domain's and its own, a node by its key. What a registry
//! change does not touch goes on as if nothing had happened, probes under way included.

use super::Fleet;
use super::config::FleetConfig;
use super::live::set_address;
use super::mirror::{Burst, Key, MirrorState, Side};
use super::node::Stage;
use super::standing::Standing;
use super::types::PersistedVerdict;
use crate::check::{CheckKind, CheckSpec};
use crate::health::damping::{DampingRules, Flaps};
use crate::health::machine::{Input, Mode, Rules};
use crate::health::{Family, Verdict};
use crate::live::{Live, LiveMirror};
use crate::registry::{DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Node, Registry};
use crate::time::Now;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

impl Fleet {
    /// Follows a new version of the registry. [`Fleet::live`] is aligned with it from here on.
    pub fn set_registry(&mut self, registry: Arc<Registry>, now: Now) {
        self.attend(now);
        self.registry = registry;
        self.sync_nodes();
        self.sync_mirrors(now);
        for slot in self.mirrors.by_index.clone() {
            self.follow(slot, now);
        }
        self.resume_awaited(now);
        for domain in 0..self.registry.domains.len() as u32 {
            for family in Family::ALL {
                self.remember(DomainIndex(domain), family);
            }
        }
        self.live_version += 1;
    }

    fn sync_nodes(&mut self) {
        let kept: HashSet<_> =
            self.registry.nodes.iter().filter(|n| !n.revoked).filter_map(|n| n.id).collect();
        self.nodes.retain(&kept);
        // In the registry's order: what happens at one moment happens alike in every run.
        for id in self.registry.nodes.iter().filter_map(|n| n.id).filter(|id| kept.contains(id)) {
            match self.nodes.find(&id) {
                Some((_, node)) => node.mirrors.clear(),
                None => self.nodes.insert(id),
            }
        }
    }

    /// Aligns slots and live entries with the registry; settings are followed afterwards.
    fn sync_mirrors(&mut self, now: Now) {
        let old = std::mem::take(&mut self.live.mirrors);
        let mut live = Live::new(Vec::with_capacity(self.registry.mirrors.len()));
        let mut gone = std::mem::take(&mut self.mirrors.by_key);
        self.mirrors.by_index.clear();
        for (i, mirror) in (0u32..).zip(&self.registry.mirrors) {
            let key: Key = (self.registry.domain(mirror.domain).name.clone(), mirror.name.clone());
            let (slot, entry) = match gone.remove(&key) {
                Some(slot) => (slot, self.mirrors.slots.get(slot).and_then(|m| old.get(m.index.0 as usize))),
                None => (self.mirrors.slots.insert(newcomer(&key, mirror, &self.config, now)), None),
            };
            if let Some(state) = self.mirrors.slots.get_mut(slot) {
                state.index = MirrorIndex(i);
                live.mirrors.push(entry_of(state, entry));
            }
            self.mirrors.by_index.push(slot);
            self.mirrors.by_key.insert(key, slot);
            let node = node_of(&self.registry, mirror).and_then(|n| n.id);
            if let Some((_, node)) = node.and_then(|id| self.nodes.find(&id)) {
                node.mirrors.push(slot);
            }
        }
        for slot in gone.into_values() {
            self.mirrors.slots.remove(slot);
        }
        self.live = live;
    }

    /// Brings one mirror in line with what the registry says of it.
    fn follow(&mut self, slot: u32, now: Now) {
        let registry = self.registry.clone();
        let Some(state) = self.mirrors.slots.get_mut(slot) else { return };
        let mirror = registry.mirror(state.index);
        let node = node_of(&registry, mirror);
        let mut inputs = state.standing.follow(mirror, node, now);
        let manual_failback = registry.domain(mirror.domain).policy.failover.manual_failback;
        let (mode, rules) = (mode(mirror), rules(mirror, manual_failback, &self.config));
        let id = node.filter(|n| !n.revoked).and_then(|n| n.id);
        let other_node = std::mem::replace(&mut state.node, id) != id && mode == Mode::Agent;
        let other_port = std::mem::replace(&mut state.port, mirror.port) != mirror.port;
        let spec = askable(mirror).cloned();
        let other_spec = state.spec != spec;
        state.spec = spec;
        let mut bursts = [Burst::AsWanted; 2];
        for (side, burst) in state.sides.iter_mut().zip(&mut bursts) {
            let mut wanted = side.machine.configure(mode, rules, now);
            wanted |= other_node && side.machine.restart(now);
            if other_spec || other_port || other_node {
                side.probing.stop();
                side.inquiry.stop();
            }
            if wanted || other_spec {
                *burst = Burst::Now;
            }
        }
        if other_node && self.is_silent(slot) {
            inputs.push(Input::SecondBeaconMissed);
        }
        for (family, burst) in Family::ALL.into_iter().zip(bursts) {
            self.follow_address(slot, family, mirror, now);
            let addressed =
                self.mirrors.slots.get(slot).is_some_and(|m| m.sides[family.index()].addr.is_some());
            self.drive(slot, family, &inputs, burst, now);
            if other_port && addressed {
                self.drive(slot, family, &[Input::AddressKnown], Burst::AsWanted, now);
            }
            self.refresh(slot, family);
        }
        if let Some(state) = self.mirrors.slots.get_mut(slot) {
            state.address = mirror.address.clone();
        }
    }

    fn is_silent(&self, mirror: u32) -> bool {
        let id = self.mirrors.slots.get(mirror).and_then(|m| m.node);
        let node = id.and_then(|id| self.nodes.by_id.get(&id)).and_then(|slot| self.nodes.slots.get(*slot));
        node.is_some_and(|n| matches!(n.hearing.stage, Stage::Silent { .. }))
    }

    fn follow_address(&mut self, slot: u32, family: Family, mirror: &Mirror, now: Now) {
        let Some(state) = self.mirrors.slots.get(slot) else { return };
        let addr = match &mirror.address {
            MirrorAddress::Declared { v4, v6 } => match family {
                Family::V4 => v4.map(IpAddr::V4),
                Family::V6 => v6.map(IpAddr::V6),
            },
            // What was resolved or observed goes on until something else is.
            kept if *kept == state.address && state.sides[family.index()].addr.is_some() => return,
            MirrorAddress::Hostname(_) => None,
            MirrorAddress::Observed => {
                let node = state.node.and_then(|id| self.nodes.by_id.get(&id));
                node.and_then(|slot| self.nodes.slots.get(*slot))
                    .and_then(|n| n.sessions.remote[family.index()])
            }
        };
        self.put_address(slot, family, addr, now);
    }

    /// A machine that was configured anew may conclude otherwise without any input.
    fn refresh(&mut self, slot: u32, family: Family) {
        let Some(state) = self.mirrors.slots.get(slot) else { return };
        let to = *state.sides[family.index()].machine.verdict();
        let shown = self.live.mirrors.get(state.index.0 as usize).map(|l| *l.verdict(family));
        if let Some(from) = shown.filter(|from| *from != to) {
            self.show(slot, family, from, to);
        }
    }

    /// Goes on with the verdicts of before a restart, marked stale, and re-checks at once. What is
    /// not registered yet waits for the next [`Fleet::set_registry`], and no longer. Agents have
    /// [`FleetConfig::resume_grace`] to come back.
    pub fn resume(&mut self, verdicts: Vec<PersistedVerdict>, now: Now) {
        self.attend(now);
        for persisted in verdicts {
            match self.slot_of(&persisted) {
                Some(slot) => self.resume_one(slot, &persisted, now),
                None => self.mirrors.awaited.push(persisted),
            }
        }
    }

    fn resume_awaited(&mut self, now: Now) {
        for persisted in std::mem::take(&mut self.mirrors.awaited) {
            if let Some(slot) = self.slot_of(&persisted) {
                self.resume_one(slot, &persisted, now);
            }
        }
    }

    fn slot_of(&self, persisted: &PersistedVerdict) -> Option<u32> {
        let domain = self.registry.find_domain(&persisted.domain)?;
        self.mirrors.slot(self.registry.find_mirror(domain, &persisted.mirror)?)
    }

    fn resume_one(&mut self, slot: u32, persisted: &PersistedVerdict, now: Now) {
        let Some(state) = self.mirrors.slots.get(slot) else { return };
        let node = state.node;
        let declared = matches!(state.address, MirrorAddress::Declared { .. });
        let side = &state.sides[persisted.family.index()];
        if !declared && side.addr.is_none() {
            self.put_address(slot, persisted.family, persisted.addr, now);
        }
        if let Some((slot, node)) = node.and_then(|id| self.nodes.find(&id))
            && node.hearing.stage == Stage::Never
        {
            node.hearing.expect(&self.config, self.config.resume_grace, now.mono);
            self.arm_node(slot, now);
        }
        let released = state_released(self.mirrors.slots.get(slot), persisted);
        if let (Some(flaps), Some(state)) = (persisted.flaps, self.mirrors.slots.get_mut(slot)) {
            let flaps = Flaps { held_until: flaps.held_until.filter(|_| !released), ..flaps };
            state.sides[persisted.family.index()].machine.resume_flaps(&flaps, now);
        }
        let mut inputs = vec![Input::Resume(persisted.verdict)];
        inputs.extend((persisted.awaits_release && !released).then_some(Input::AwaitRelease));
        // Who was frozen while the broker was away is frozen as the broker last knew it.
        inputs.push(Input::Refreeze(persisted.frozen.unwrap_or(persisted.verdict.state)));
        self.drive(slot, persisted.family, &inputs, Burst::AsWanted, now);
    }

    /// What a restart needs to know: all verdicts about mirrors with an address that say anything.
    pub fn persisted(&self, now: Now) -> Vec<PersistedVerdict> {
        let mut all = Vec::new();
        for slot in &self.mirrors.by_index {
            let Some(state) = self.mirrors.slots.get(*slot) else { continue };
            for family in Family::ALL {
                let side = &state.sides[family.index()];
                let frozen = side.machine.frozen();
                let says = side.machine.underlying().state != Verdict::default().state;
                if side.addr.is_some() && (says || frozen.is_some()) {
                    all.push(PersistedVerdict {
                        domain: state.key.0.to_string(),
                        mirror: state.key.1.to_string(),
                        family,
                        verdict: *side.machine.underlying(),
                        addr: side.addr,
                        awaits_release: side.machine.awaits_release(),
                        frozen,
                        flaps: side.machine.flaps(now),
                    });
                }
            }
        }
        all
    }
}

fn newcomer(key: &Key, mirror: &Mirror, config: &FleetConfig, now: Now) -> MirrorState {
    // Whether fail-back is manual is followed at once.
    let side = || Side::new(mode(mirror), rules(mirror, false, config), now);
    MirrorState {
        key: key.clone(),
        index: MirrorIndex(0),
        node: None,
        address: mirror.address.clone(),
        port: mirror.port,
        spec: askable(mirror).cloned(),
        said: None,
        standing: Standing::default(),
        sides: [side(), side()],
    }
}

fn entry_of(state: &MirrorState, old: Option<&LiveMirror>) -> LiveMirror {
    let mut entry = old.copied().unwrap_or_default();
    for family in Family::ALL {
        let side = &state.sides[family.index()];
        set_address(&mut entry, family, side.addr);
        entry.verdicts[family.index()] = *side.machine.verdict();
    }
    entry
}

fn node_of<'a>(registry: &'a Registry, mirror: &Mirror) -> Option<&'a Node> {
    registry.nodes.get(mirror.node?.0 as usize)
}

/// How the broker may probe a mirror; it runs no commands.
fn askable(mirror: &Mirror) -> Option<&CheckSpec> {
    mirror.probe.as_ref().filter(|spec| !matches!(spec.kind, CheckKind::Command { .. }))
}

fn mode(mirror: &Mirror) -> Mode {
    match mirror.health {
        HealthMode::Agent => Mode::Agent,
        HealthMode::Probe => Mode::Probe,
        HealthMode::Manual { up } => Mode::Manual { up },
    }
}

fn rules(mirror: &Mirror, manual_failback: bool, config: &FleetConfig) -> Rules {
    let spec = askable(mirror);
    Rules {
        probed: spec.is_some(),
        warms: !config.warm_for.is_zero(),
        rise: spec.map_or(1, |s| s.rise.max(1)),
        damping: DampingRules { manual_failback, ..config.caution.damping },
    }
}

/// Whether a person let a mirror back after it was evicted, while the broker was away.
fn state_released(state: Option<&MirrorState>, persisted: &PersistedVerdict) -> bool {
    state.and_then(|s| s.standing.released()).is_some_and(|at| at >= persisted.verdict.since)
}
