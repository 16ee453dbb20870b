//! One mirror: its machines, its addresses and its probing, in both families.

use super::complaints::Complaints;
use super::config::FleetConfig;
use super::facts::Word;
use super::inquiry::Inquiry;
use super::peers::Abroad;
use super::probing::{Ask, Concluded, Prober, Probing};
use super::slots::Slots;
use super::standing::Standing;
use super::types::{PersistedVerdict, ProbeAnswer, ProbeToken};
use crate::check::CheckSpec;
use crate::health::machine::{Cadence, Input, Machine, Mode, Rules};
use crate::health::phase::Phase;
use crate::health::{Family, Reason};
use crate::id::NodeId;
use crate::registry::{MirrorAddress, MirrorIndex};
use crate::time::{MonoTime, Now, UnixMillis};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often orders with a date are compared with the wall clock.
const WALL_CLOCK_LOOK: Duration = Duration::from_secs(30);
/// Within this time what others looked at is looked at here, once they do not any more.
const TAKE_OVER: Duration = Duration::from_secs(1);

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
        let running = |m: &MirrorState, f: Family| {
            let side = &m.sides[f.index()];
            side.probing.is_running() || side.inquiry.panel.is_some()
        };
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
    /// The same, with the time limits of suspicion.
    Briskly,
    /// What is being asked is asked again from the beginning.
    Again,
}

/// How thoroughly to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Attempts of a burst.
    pub attempts: usize,
    /// Nothing is urgent, or the network is rough: attempts are spread out and given more time.
    pub patient: bool,
    /// Routine looks are others' duty.
    pub excused: bool,
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
    /// What its agent last reported here.
    pub said: Option<Word>,
    pub standing: Standing,
    /// By [`Family::index`].
    pub sides: [Side; 2],
}

/// One mirror in one family.
pub(super) struct Side {
    pub machine: Machine,
    pub probing: Probing,
    pub inquiry: Inquiry,
    pub complaints: Complaints,
    /// What passes between this broker and others.
    pub abroad: Abroad,
    pub addr: Option<IpAddr>,
    warm_until: Option<MonoTime>,
    /// For which cadence the next probe was planned.
    planned: Cadence,
    /// When its verdict last changed.
    pub changed: MonoTime,
    /// When to judge its silence again, where nobody can be asked.
    pub look_again: Option<MonoTime>,
    pub armed: Option<MonoTime>,
}

impl Side {
    pub fn new(mode: Mode, rules: Rules, now: Now) -> Side {
        Side {
            machine: Machine::new(mode, rules, now),
            probing: Probing::default(),
            inquiry: Inquiry::default(),
            complaints: Complaints::default(),
            abroad: Abroad::default(),
            addr: None,
            warm_until: None,
            planned: Cadence::Idle,
            changed: now.mono,
            look_again: None,
            armed: None,
        }
    }

    /// Takes inputs; whether a burst of probes must start.
    pub fn take(&mut self, inputs: &[Input], burst: Burst, now: Now) -> bool {
        let mut wanted = matches!(burst, Burst::Now | Burst::Briskly);
        self.abroad.brisk = burst == Burst::Briskly;
        for input in inputs {
            match (input, self.machine.phase()) {
                // What was asked because of its silence: nobody is interested any more.
                (Input::BeaconsResumed, Phase::Unattended) => self.drop_inquiry(),
                (Input::BeaconsResumed, Phase::Suspect(why)) if why != Reason::ClientsFail => {
                    self.drop_inquiry();
                }
                (Input::BeaconsResumed | Input::AgentStarted, _) => self.inquiry.reset(),
                _ => {}
            }
            if self.machine.handle(*input, now) {
                wanted = true;
                // Something new is to be found out, and not only whether what is out is still out.
                self.inquiry.anew();
            }
        }
        if burst == Burst::Again {
            // What witnesses said meanwhile waits to be heard, but the broker's time was not theirs.
            let broker_done = self.inquiry.panel.take().is_some() && !self.probing.is_running();
            self.probing.again(now.mono);
            wanted |= broker_done;
        }
        wanted
    }

    /// Ends what ends by time alone: the warm-up and holds.
    pub fn keep_time(&mut self, config: &FleetConfig, now: Now) {
        self.keep_warm(config, now);
        if self.machine.hold_deadline().is_some_and(|until| until <= now.mono) {
            // The end of a hold asks for no probes.
            let _ = self.machine.handle(Input::HoldOver, now);
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
    pub fn plan(
        &mut self,
        wanted: bool,
        burst: Manner,
        spec: &CheckSpec,
        prober: &mut Prober,
        now: MonoTime,
    ) {
        let cadence = self.machine.cadence();
        let longest = prober.config.reprobe_interval.max(prober.config.unattended_reprobe);
        let regular = cadence == Cadence::Regular;
        let interval = match cadence {
            Cadence::Idle => return self.idle(),
            Cadence::Steady => prober.config.reprobe_interval,
            Cadence::Quick if self.machine.phase().eligible() => prober.config.unattended_reprobe,
            // What is out and stays out is asked about ever more rarely: its agent says when it is back.
            Cadence::Quick => self.inquiry.backed_off(prober.config.unattended_reprobe).min(longest),
            Cadence::Regular => spec.interval,
        };
        let attempts = match regular {
            // The regular probe that raised suspicion was the first failure.
            true => usize::from(spec.fall.saturating_sub(1)).max(1),
            false => burst.attempts,
        };
        let brisk = std::mem::take(&mut self.abroad.brisk);
        let again = self.inquiry.again.is_some_and(|at| at <= now);
        if again {
            self.inquiry.again = None;
        }
        // While witnesses are awaited, what is known of the broker's own asking stands.
        let awaited = self.inquiry.panel.is_some() && !self.probing.is_running();
        if (wanted || again) && !awaited {
            let ask = match again || self.machine.urgent() {
                true if burst.patient => Ask::Patiently(attempts),
                true => Ask::Urgently(attempts),
                false if brisk => Ask::Briskly(burst.attempts),
                false if regular => Ask::Burst(attempts),
                false => self.probing.look(attempts),
            };
            self.probing.start(ask, now);
        }
        if self.probing.is_running() || awaited || self.inquiry.again.is_some() {
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
        if self.abroad.excuse.given && !burst.excused {
            // Nobody else looks any more. Not all at once, where that holds for many.
            self.abroad.excuse.given = false;
            let soon = now + prober.part_of(TAKE_OVER);
            self.probing.next = self.probing.next.map(|next| next.min(soon));
        }
        if self.probing.next.is_some_and(|next| next <= now) {
            if burst.excused && self.abroad.excuse.skip() {
                self.probing.next = Some(now + prober.jittered(interval));
                return;
            }
            self.probing.start(if regular { Ask::Once } else { self.probing.look(attempts) }, now);
        }
    }

    fn drop_inquiry(&mut self) {
        self.probing.stop();
        self.inquiry.stop();
    }

    pub fn idle(&mut self) {
        self.drop_inquiry();
        self.planned = Cadence::Idle;
    }
}

impl MirrorState {
    /// Notes what its agent says here, for other brokers. A drain that a beacon tells of lasts until a report.
    pub fn agent_said(&mut self, inputs: &[Input]) {
        for input in inputs {
            match input {
                Input::AgentStarted => {
                    self.said = None;
                    self.sides.iter_mut().for_each(|side| side.abroad.heard_here());
                }
                Input::ReportHealthy if self.said == Some(Word::Draining) => {}
                Input::AgentUndrained => self.said = None,
                other => self.said = Word::of(*other).or(self.said),
            }
        }
    }

    /// Takes the result of an attempt; whether it concludes the broker's asking.
    pub fn result(&mut self, token: ProbeToken, answer: ProbeAnswer, now: MonoTime) -> bool {
        let side = &mut self.sides[token.family.index()];
        let concluded: Option<Concluded> = side.probing.result(token, answer, now);
        side.inquiry.concluded = concluded.or(side.inquiry.concluded);
        concluded.is_some()
    }

    /// When one side wants to be driven again.
    pub fn deadline(&self, family: Family, prober: &Prober, now: Now) -> Option<MonoTime> {
        let side = &self.sides[family.index()];
        // The wall clock may jump: however far off an order's moment seems, it is looked at again soon.
        let at = |unix: UnixMillis| {
            now.mono + Duration::from_millis(unix.0.saturating_sub(now.unix.0)).min(WALL_CLOCK_LOOK)
        };
        let orders = self.standing.deadline(now.unix).map(at);
        let calm = Some(side.changed + prober.config.caution.calm_after).filter(|at| *at > now.mono);
        let asking = [side.probing.deadline(prober), side.inquiry.deadline(), side.look_again];
        let waiting =
            [side.warm_until, side.machine.hold_deadline().filter(|at| *at > now.mono), orders, calm];
        let paused = side.complaints.deadline(now.mono);
        asking.into_iter().chain(waiting).chain([paused, side.abroad.deadline(now.mono)]).flatten().min()
    }
}
