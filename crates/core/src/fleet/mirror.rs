//! One mirror: its machines, its addresses and its probing, in both families.

use super::config::FleetConfig;
use super::probing::{Ask, Concluded, Prober, Probing, Target};
use super::slots::Slots;
use super::types::{PersistedVerdict, ProbeToken};
use crate::check::CheckSpec;
use crate::health::Family;
use crate::health::machine::{Cadence, Input, Machine, Mode, Rules};
use crate::health::phase::Phase;
use crate::id::NodeId;
use crate::registry::{Force, MirrorAddress, MirrorIndex};
use crate::time::{MonoTime, Now};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Domain's and mirror's name: what a mirror keeps when the registry changes.
pub(super) type Key = (Arc<str>, Arc<str>);

/// All mirrors.
#[derive(Default)]
pub(super) struct MirrorTable {
    pub slots: Slots<MirrorState>,
    pub by_key: HashMap<Key, u32>,
    /// Slot of each mirror of the registry.
    pub by_index: Vec<u32>,
    /// Verdicts of before a restart about mirrors that the registry does not have yet.
    pub awaited: Vec<PersistedVerdict>,
}

impl MirrorTable {
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    pub fn slot(&self, mirror: MirrorIndex) -> Option<u32> {
        self.by_index.get(mirror.0 as usize).copied()
    }

    /// Which are being probed at the moment.
    pub fn being_probed(&self) -> Vec<(u32, Family)> {
        let running = |m: &MirrorState, f: Family| m.sides[f.index()].probing.is_running();
        let pairs = self.slots.iter().flat_map(|(slot, m)| Family::ALL.map(|f| (slot, f, running(m, f))));
        pairs.filter(|(_, _, running)| *running).map(|(slot, family, _)| (slot, family)).collect()
    }
}

/// What to do about probes besides what the inputs ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Burst {
    /// Nothing.
    AsWanted,
    /// Probe at once.
    Now,
    /// What is being asked is asked again from the beginning.
    Again,
}

/// One mirror.
pub(super) struct MirrorState {
    pub key: Key,
    pub index: MirrorIndex,
    /// Its node's key, while it is registered and not revoked.
    pub node: Option<NodeId>,
    pub address: MirrorAddress,
    pub port: u16,
    pub spec: Option<CheckSpec>,
    pub revoked: bool,
    pub drained: bool,
    pub force: Option<Force>,
    /// By [`Family::index`].
    pub sides: [Side; 2],
}

/// One mirror in one family.
pub(super) struct Side {
    pub machine: Machine,
    pub probing: Probing,
    pub addr: Option<IpAddr>,
    warm_until: Option<MonoTime>,
    /// For which cadence the next probe was planned.
    planned: Cadence,
    pub armed: Option<MonoTime>,
}

impl Side {
    pub fn new(mode: Mode, rules: Rules, now: Now) -> Side {
        Side {
            machine: Machine::new(mode, rules, now),
            probing: Probing::default(),
            addr: None,
            warm_until: None,
            planned: Cadence::Idle,
            armed: None,
        }
    }

    /// Ends the warm-up when its time has come.
    fn keep_warm(&mut self, config: &FleetConfig, now: Now) {
        if self.machine.phase() != Phase::Warming {
            self.warm_until = None;
            return;
        }
        let until = *self.warm_until.get_or_insert(now.mono + config.warm_for);
        if until <= now.mono {
            self.warm_until = None;
            // The end of a warm-up asks for no probes.
            let _ = self.machine.handle(Input::WarmedUp, now);
        }
    }

    /// Sees to it that what the machine wants is being asked or planned.
    fn plan(&mut self, wanted: bool, spec: &CheckSpec, prober: &mut Prober, now: MonoTime) {
        let cadence = self.machine.cadence();
        let regular = cadence == Cadence::Regular;
        let interval = match cadence {
            Cadence::Idle => return self.idle(),
            Cadence::Steady => prober.config.reprobe_interval,
            Cadence::Quick => prober.config.unattended_reprobe,
            Cadence::Regular => spec.interval,
        };
        let attempts = match regular {
            // The regular probe that raised suspicion was the first failure.
            true => usize::from(spec.fall.saturating_sub(1)).max(1),
            false => prober.config.burst.len(),
        };
        if wanted {
            let ask = if self.machine.urgent() { Ask::Urgently(attempts) } else { Ask::Burst(attempts) };
            self.probing.start(ask, now);
        }
        if self.probing.is_running() {
            return;
        }
        if cadence != self.planned || self.probing.next.is_none() {
            // Mirrors that were proven together, as after a start, would be probed together ever after:
            // the first probe of a regular row comes anywhere within the interval.
            let first = regular && cadence != self.planned;
            let at = now + if first { prober.part_of(interval) } else { prober.jittered(interval) };
            let sooner = self.probing.next.filter(|next| *next < at);
            self.probing.next = Some(sooner.unwrap_or(at));
            self.planned = cadence;
        }
        if self.probing.next.is_some_and(|next| next <= now) {
            self.probing.start(if regular { Ask::Once } else { Ask::Burst(attempts) }, now);
        }
    }

    fn idle(&mut self) {
        self.probing.stop();
        self.planned = Cadence::Idle;
    }
}

impl MirrorState {
    /// Hands inputs to one side's machine and keeps its probing going; orders are left in `prober`.
    pub fn drive(
        &mut self,
        slot: u32,
        family: Family,
        inputs: &[Input],
        burst: Burst,
        prober: &mut Prober,
        now: Now,
    ) {
        let side = &mut self.sides[family.index()];
        let mut wanted = burst == Burst::Now;
        for input in inputs {
            wanted |= side.machine.handle(*input, now);
        }
        if burst == Burst::Again {
            side.probing.again(now.mono);
        }
        loop {
            side.keep_warm(&prober.config, now);
            let (Some(addr), Some(spec)) = (side.addr, &self.spec) else { return side.idle() };
            side.plan(wanted, spec, prober, now.mono);
            let target = Target { slot, mirror: self.index, family, addr, port: self.port, spec };
            let Some(concluded) = side.probing.advance(&target, prober, now.mono) else { return };
            wanted = side.machine.handle(conclusion(concluded, spec), now);
        }
    }

    /// The input that a result of the driver amounts to, if it concludes anything.
    pub fn result(&mut self, token: ProbeToken, passed: bool, took: Option<Duration>) -> Option<Input> {
        let concluded = self.sides[token.family.index()].probing.result(token, passed, took)?;
        Some(conclusion(concluded, self.spec.as_ref()?))
    }

    /// When one side wants to be driven again.
    pub fn deadline(&self, family: Family, prober: &Prober, now: Now) -> Option<MonoTime> {
        let side = &self.sides[family.index()];
        let force =
            self.force.map(|f| now.mono + Duration::from_millis(f.until.0.saturating_sub(now.unix.0)));
        [side.probing.deadline(prober), side.warm_until, force].into_iter().flatten().min()
    }

    /// Whether a force has just run out.
    pub fn force_over(&mut self, now: Now) -> bool {
        let over = self.force.is_some_and(|force| force.until <= now.unix);
        if over {
            self.force = None;
        }
        over
    }
}

fn conclusion(concluded: Concluded, spec: &CheckSpec) -> Input {
    match concluded {
        Concluded::Passed => Input::ProbePassed,
        Concluded::Missed if spec.fall > 1 => Input::ProbeMissed,
        Concluded::Missed | Concluded::Failed => Input::ProbeFailed,
    }
}
