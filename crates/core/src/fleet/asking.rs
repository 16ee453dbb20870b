//! Driving one mirror: inputs to its machine, its probing, its witnesses, and what follows from them.
//!
//! ```text
//!  inputs ─▶ machine ─▶ wants to be asked ─▶ the broker's burst ─┐
//!              ▲                            ▶ witnesses ─────────┴▶ panel ─▶ judge ─┐
//!              └────────────── passed, failed, withheld ◀───────────────────────────┘
//! ```
//!
//! Silence and clients' complaints ask both at once; a burst of any other kind asks witnesses only
//! when it has failed, and takes out a mirror whose agent is heard only when it fails twice. Where nothing
//! is urgent, or the network is rough, attempts are spread over a second, so that no burst of loss takes
//! them all. What the broker alone concludes is asked again, more slowly, and then passes three gates: its
//! own line works ([`super::links`]), not too many are out like that, enough is left ([`super::caps`]).

use super::Fleet;
use super::inquiry::Found;
use super::links::{Neighbourhood, Trust};
use super::mirror::{Burst, Manner, Side};
use super::panel::{Broker, Panel, QUORUM, Settled};
use super::probing::Target;
use super::timers::Timer;
use super::timing;
use super::types::{Output, PeerAsk, ProbeToken, WitnessOrder, Witnessed};
use super::witnesses::{Choice, Chosen, Subject};
use crate::check::CheckSpec;
use crate::health::machine::{Input, Outside};
use crate::health::phase::Phase;
use crate::health::{Family, Reason, State};
use crate::id::NodeId;
use crate::time::{MonoTime, Now};
use arrayvec::ArrayVec;
use std::time::Duration;

/// Most mirrors that are looked at for some that were well, …
const LOOK_AT: usize = 256;
/// … and so many of these are probed to see whether the broker's line works.
const PULSED: usize = 2;
/// When a witness's attempts start, where users wait for the conclusion, …
const BRISK: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(40)];
/// … and where nothing is urgent or the network is rough: no burst of loss is as long, or hardly any.
const PATIENT: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(60), Duration::from_millis(400), Duration::from_millis(1_000)];
/// How long an answer to the broker takes while that is not known.
const UNKNOWN: Duration = Duration::from_millis(200);
/// Longest wait of a witness.
const LONGEST_WAIT: Duration = Duration::from_millis(2_500);
/// How long order and answer may be on their way together.
const WITNESS_TRIP: Duration = Duration::from_millis(500);
/// How long other brokers are waited for: a brisk burst of theirs, and their way.
const PEERS_WAIT: Duration = Duration::from_millis(1_200);
/// Rounds that are enough where one witness agrees with the broker.
const ROUNDS_WITH_ONE: u32 = 2;
/// Rounds that take out what its agent says is well.
const ROUNDS_WHILE_HEARD: u32 = 2;
/// How soon what cannot be probed is looked at again, after it was withheld.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Fleet {
    /// Hands inputs to one machine, keeps its probing going, and shows what came of it.
    pub(super) fn drive(&mut self, slot: u32, family: Family, inputs: &[Input], burst: Burst, now: Now) {
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
        let side = &mut mirror.sides[family.index()];
        let from = side.machine.verdict().to_owned();
        let mut wanted = side.take(inputs, burst, now);
        // Every turn uses up a conclusion, and the next takes time to come.
        while let Some(found) = self.ask(slot, family, wanted, now) {
            let input = self.judge(slot, family, found, now);
            let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
            wanted = input.is_some_and(|input| mirror.sides[family.index()].machine.handle(input, now));
        }
        self.outputs.extend(self.prober.orders.drain(..).map(Output::Probe));
        self.shown(slot, family, from, now);
    }

    /// Arms the next deadline and tells of a verdict that changed.
    fn shown(&mut self, slot: u32, family: Family, from: crate::health::Verdict, now: Now) {
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
        let due = mirror.deadline(family, &self.prober, now);
        let side = &mut mirror.sides[family.index()];
        self.timers.arm(&mut side.armed, due, Timer::Mirror(slot, family), now.mono);
        let to = side.machine.verdict().to_owned();
        if from != to {
            side.changed = now.mono;
            self.show(slot, family, from, to);
        }
        self.keep_pace(slot, family, now);
        self.tell(slot, family, now);
        if from.state.eligible() && !to.state.eligible() {
            let index = self.mirrors.slots.get(slot).map(|m| m.index);
            if let Some(domain) = index.map(|i| self.registry.mirror(i).domain) {
                self.return_if_panicking(domain, family, now);
            }
        }
    }

    /// Asks what is to be asked, and looks whether anything has come of it.
    fn ask(&mut self, slot: u32, family: Family, wanted: bool, now: Now) -> Option<Found> {
        let manner = self.manner(slot, family, now.mono);
        let mirror = self.mirrors.slots.get_mut(slot)?;
        let side = &mut mirror.sides[family.index()];
        side.keep_time(&self.prober.config, now);
        let (Some(addr), Some(spec)) = (side.addr, &mirror.spec) else {
            side.idle();
            return None;
        };
        side.plan(wanted, manner, spec, &mut self.prober, now.mono);
        let target = Target { slot, mirror: mirror.index, family, addr, port: mirror.port, spec };
        if side.inquiry.concluded.is_none() {
            side.inquiry.concluded = side.probing.advance(&target, &mut self.prober, now.mono);
        }
        let concluded = side.inquiry.concluded.take();
        let failed = matches!(concluded, Some(super::probing::Concluded::Failed(_)));
        let serves = side.machine.phase().eligible();
        let convene = side.inquiry.panel.is_none()
            && (side.probing.is_urgent() || failed)
            && side.inquiry.may_convene(serves, now.mono);
        if convene {
            self.convene(slot, family, now);
        }
        let side = &mut self.mirrors.slots.get_mut(slot)?.sides[family.index()];
        let found = concluded.and_then(|concluded| side.inquiry.broker(concluded, now));
        found.or_else(|| side.inquiry.settle(now.mono))
    }

    /// How thoroughly a mirror is to be asked about, as it is doing and as the network is.
    fn manner(&self, slot: u32, family: Family, now: MonoTime) -> Manner {
        let least = self.config.burst.len();
        let Some(mirror) = self.mirrors.slots.get(slot) else {
            return Manner { attempts: least, patient: true, excused: false };
        };
        let node =
            mirror.node.and_then(|id| self.nodes.by_id.get(&id)).and_then(|n| self.nodes.slots.get(*n));
        let rough = self.nodes.loss.is_rough() || node.is_some_and(|n| n.loss.is_rough());
        Manner {
            attempts: node.map_or(least, |n| n.loss.attempts(least)),
            patient: rough || !mirror.sides[family.index()].machine.urgent(),
            excused: self.excused(mirror, family, now),
        }
    }

    /// Asks witnesses, if there are any.
    fn convene(&mut self, slot: u32, family: Family, now: Now) {
        let patient = self.manner(slot, family, now.mono).patient;
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let side = &mirror.sides[family.index()];
        let (Some(addr), Some(spec)) = (side.addr, &mirror.spec) else { return };
        if !self.config.caution.witnesses && side.abroad.is_empty() && self.peers.connected.is_empty() {
            return;
        }
        let random = self.prober.random();
        let choice = Choice {
            nodes: &self.nodes,
            mirrors: &self.mirrors,
            registry: &self.registry,
            places: &self.places,
            config: &self.config,
        };
        let subject = Subject {
            addr,
            own: mirror.node,
            position: self.registry.mirror(mirror.index).place.position,
            usual: side.probing.took.usual().unwrap_or(UNKNOWN),
        };
        let chosen = match self.config.caution.witnesses {
            true => choice.choose(&subject, random, now.mono),
            false => ArrayVec::new(),
        };
        let attempts: &[Duration] = if patient { &PATIENT } else { &BRISK };
        let wait = |witness: &Chosen| {
            let wait = if patient { timing::patient(witness.look) } else { timing::bounded(witness.look) };
            wait.min(LONGEST_WAIT).min(spec.timeout)
        };
        let token = ProbeToken { slot, family, serial: self.prober.serial() };
        let order = |witness: &Chosen| {
            Output::Witness(WitnessOrder {
                token,
                witness: witness.id,
                mirror: mirror.index,
                addr,
                port: mirror.port,
                spec: CheckSpec { timeout: wait(witness), ..spec.clone() },
                attempts: attempts.to_vec(),
            })
        };
        self.outputs.extend(chosen.iter().map(order));
        let longest = chosen.iter().map(|w| wait(w) + w.trip).max().unwrap_or_default();
        let last = attempts.last().copied().unwrap_or_default();
        let mut panel = Panel::convene(
            token.serial,
            chosen.iter().map(|w| w.id),
            now.mono + last + longest + WITNESS_TRIP,
            patient,
        );
        self.ask_peers(slot, family, &mut panel, now.mono);
        if let Some(mirror) = self.mirrors.slots.get_mut(slot) {
            mirror.sides[family.index()].inquiry.convene(panel, now.mono);
        }
    }

    /// Hears what other brokers told, and asks them where too few can say.
    fn ask_peers(&mut self, slot: u32, family: Family, panel: &mut Panel, now: MonoTime) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        panel.begin(now);
        for (broker, reached) in mirror.sides[family.index()].abroad.voices(now, now) {
            panel.hear_peer(broker, reached);
        }
        let connected = self.peers.connected.len();
        if connected > 0 && panel.size() < QUORUM {
            panel.await_peers(connected, now + PEERS_WAIT);
            let (domain, mirror) = mirror.key.clone();
            self.outputs.push_back(Output::AskPeers(PeerAsk { domain, mirror, family }));
        }
    }

    /// The answer of a witness that was asked.
    pub fn on_witness(&mut self, token: ProbeToken, witness: NodeId, said: Witnessed, now: Now) {
        self.attend(now);
        let Some(mirror) = self.mirrors.slots.get_mut(token.slot) else { return };
        if mirror.sides[token.family.index()].inquiry.hear(token.serial, witness, said, now) {
            self.drive(token.slot, token.family, &[], Burst::AsWanted, now);
        }
    }

    /// The references were probed; how many of them answered.
    pub fn on_references(&mut self, answered: u32, now: Now) {
        self.attend(now);
        self.links.references(answered, now.mono);
    }

    /// Whether the broker takes itself to be cut off, and evicts nobody on its own word.
    pub fn doubts_itself(&self) -> bool {
        self.links.doubting()
    }

    /// The input that a conclusion amounts to; `None` while the broker stands alone and asks again.
    fn judge(&mut self, slot: u32, family: Family, found: Found, now: Now) -> Option<Input> {
        let mirror = self.mirrors.slots.get_mut(slot)?;
        let side = &mut mirror.sides[family.index()];
        match found {
            // However few failures its owner wants to see: silence is asked about before it counts.
            Found::Missed(Broker::Refused) if mirror.spec.as_ref().is_some_and(|s| s.fall <= 1) => {
                Some(Input::ProbeFailed(Outside::Refused))
            }
            Found::Missed(_) => Some(Input::ProbeMissed),
            Found::Settled(Settled::Reached(outside)) => {
                if let (Outside::Broker, Some(addr)) = (outside, side.addr) {
                    self.links.heard(Neighbourhood::of(addr), now.mono);
                }
                side.complaints.refuted(now.mono);
                Some(Input::ProbePassed(outside))
            }
            Found::Settled(Settled::Unreached(outside)) => {
                let heard = matches!(side.machine.phase(), Phase::Up | Phase::Warming);
                let rounds = if heard { ROUNDS_WHILE_HEARD } else { 1 };
                let enough = side.inquiry.failed_round(rounds, self.config.caution.alone_gap, now.mono);
                enough.then_some(Input::ProbeFailed(outside))
            }
            Found::Settled(Settled::Alone(agreeing)) => self.judge_alone(slot, family, agreeing, now),
        }
    }

    /// The broker alone does not reach it.
    fn judge_alone(&mut self, slot: u32, family: Family, agreeing: usize, now: Now) -> Option<Input> {
        let caution = &self.config.caution;
        let side = &mut self.mirrors.slots.get_mut(slot)?.sides[family.index()];
        let failed = Input::ProbeFailed(Outside::Broker);
        if !side.machine.phase().eligible() {
            // Counts, so that the next look comes later.
            let _ = side.inquiry.failed_round(1, caution.alone_gap, now.mono);
            return Some(failed);
        }
        let needed =
            if agreeing > 0 { ROUNDS_WITH_ONE.min(caution.alone_rounds) } else { caution.alone_rounds };
        let enough = side.inquiry.failed_round(needed, caution.alone_gap, now.mono);
        // Asks the references early, so that they have answered when it matters.
        let trusted = self.trusts_itself(slot, family, now);
        if !enough {
            return None;
        }
        // Two outside vantages, twice: more are not to be had.
        if agreeing > 0 {
            return Some(Input::ProbeFailed(Outside::BrokerAndWitnesses));
        }
        if !trusted {
            self.ask_again_later(slot, family, now);
            return Some(Input::Withheld(Reason::SelfDoubt));
        }
        Some(self.withheld(slot, family).map_or(failed, Input::Withheld))
    }

    /// What was withheld because the broker doubts itself is asked about again soon: while what its references
    /// say is fresh, and its line has been watched for long enough.
    fn ask_again_later(&mut self, slot: u32, family: Family, now: Now) {
        let later = now.mono + self.prober.jittered(LOOK_AGAIN);
        if let Some(mirror) = self.mirrors.slots.get_mut(slot) {
            mirror.sides[family.index()].inquiry.ask_again(later);
        }
    }

    /// Sees whether the broker's line works: two mirrors that were well are probed, of other networks than those
    /// in question where there are any. Fleets whose agents send beacons hardly need it; where mirrors are only
    /// probed nothing else is heard often enough to tell a dead line from a dead mirror.
    pub(super) fn pulse(&mut self, now: Now) {
        let from = self.prober.random() as usize;
        let well = |side: &Side| {
            let calm = side.machine.verdict().state == State::Up && !side.probing.is_running();
            side.addr.filter(|_| calm).map(Neighbourhood::of)
        };
        let (mut proving, mut others) = (ArrayVec::<_, PULSED>::new(), ArrayVec::<_, PULSED>::new());
        let looked = self.mirrors.slots.numbered_from(from).take(LOOK_AT);
        for (slot, mirror) in looked.filter(|(_, mirror)| mirror.spec.is_some()) {
            let found = Family::ALL.into_iter().find_map(|f| Some((f, well(&mirror.sides[f.index()])?)));
            let Some((family, net)) = found else { continue };
            let kind = if self.links.proves(net) { &mut proving } else { &mut others };
            // One too many is left out.
            let _ = kind.try_push((slot, family));
            if proving.is_full() {
                break;
            }
        }
        for (slot, family) in proving.into_iter().chain(others).take(PULSED) {
            self.drive(slot, family, &[], Burst::Now, now);
        }
    }

    /// Whether the broker's own line works, as far as it can tell; asks its references where it cannot.
    fn trusts_itself(&mut self, slot: u32, family: Family, now: Now) -> bool {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return true };
        let Some(addr) = mirror.sides[family.index()].addr else { return true };
        let node =
            mirror.node.and_then(|id| self.nodes.by_id.get(&id)).and_then(|n| self.nodes.slots.get(*n));
        let net = Neighbourhood::of(addr);
        let about = [net, node.and_then(|n| n.net).unwrap_or(net)];
        let trust = self.links.trust(&about, self.config.caution.references, now.mono);
        if trust == (Trust::Nothing { ask: true }) {
            self.outputs.push_back(Output::References);
        }
        trust == Trust::Itself
    }

    /// Silence for so long that loss does not explain it, of a mirror that nobody can probe.
    pub(super) fn long_silence(&mut self, slot: u32, family: Family, now: Now) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let side = &mirror.sides[family.index()];
        let probed = mirror.spec.is_some();
        let mut input = Input::SilenceConfirmedLong;
        if !probed && side.machine.phase().eligible() {
            let reason = match self.trusts_itself(slot, family, now) {
                false => Some(Reason::SelfDoubt),
                true => self.withheld(slot, family),
            };
            if let Some(reason) = reason {
                input = Input::Withheld(reason);
            }
        }
        if let Some(mirror) = self.mirrors.slots.get_mut(slot) {
            let withheld = matches!(input, Input::Withheld(_));
            mirror.sides[family.index()].look_again = withheld.then(|| now.mono + LOOK_AGAIN);
        }
        self.drive(slot, family, &[input], Burst::AsWanted, now);
    }

    /// Looks again at what was withheld and cannot be probed.
    pub(super) fn look_again(&mut self, slot: u32, family: Family, now: MonoTime) -> bool {
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return false };
        let side = &mut mirror.sides[family.index()];
        let due = side.look_again.is_some_and(|at| at <= now);
        if due {
            side.look_again = None;
        }
        due && side.machine.silent()
    }
}
