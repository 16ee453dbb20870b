//! What other brokers tell, and what this one makes of it.
//!
//! Each fact stands for [`LIFE`], or until its broker tells another. What a broker found from outside is a
//! voice like a witness's when this one does not reach a mirror ([`super::panel`]), and excuses from routine
//! looks ([`super::duty`]). What it hears from an agent that has no session here stands in for hearing it:
//!
//! ```text
//!             a broker hears: healthy                 nobody does, one hears otherwise
//!   nothing ─────────────────────────▶ as if healthy ─────────────────────────────────▶ as if silent, asked at once
//!      │                                   ▲    │ two hear: failing, draining, left              │
//!      └───────────────────────────────────┼────┴───────────────▶ as if the agent said so ◀──────┘
//!                                          └──────────────────────────┘ healthy
//! ```
//!
//! One broker's word takes nothing out: silence is asked about, and ends *unattended* where the mirror answers.

use super::Fleet;
use super::duty::Excuse;
use super::facts::{AgentWord, LIFE, OutsideLook, PeerFact, PeerView, Telling, Word};
use super::mirror::{Burst, MirrorState};
use super::node::Stage;
use super::panel::QUORUM;
use crate::health::Family;
use crate::health::machine::{Input, Mode};
use crate::id::BrokerId;
use crate::registry::MirrorIndex;
use crate::time::{MonoTime, Now, UnixMillis};
use arrayvec::ArrayVec;
use std::time::Duration;

/// Brokers whose facts about one mirror are kept.
const MOST: usize = 64;
/// How long before a suspicion a broker may have failed to reach the mirror and still be a voice about it.
const JUST_BEFORE: Duration = Duration::from_secs(3);
/// How often one broker's failure makes this one look at a mirror that it reaches.
const PROVOKED_AGAIN: Duration = Duration::from_secs(10);
/// Least time between two looks that others ask for.
const ASKED_AGAIN: Duration = Duration::from_millis(300);
/// Within this time others have told all again.
const TOLD_AGAIN: Duration = Duration::from_secs(6);
/// An agent that left this broker is heard by others only if they heard it so much later.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What other brokers tell of one mirror in one family, and what they are told.
#[derive(Default)]
pub(super) struct Abroad {
    held: Vec<Held>,
    relayed: Relayed,
    pub telling: Telling,
    pub excuse: Excuse,
    /// A look that was provoked must not dally.
    pub brisk: bool,
}

/// What one broker told last.
struct Held {
    broker: BrokerId,
    view: PeerView,
    received: Now,
    provoked: Option<MonoTime>,
}

/// A look of another broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub reached: bool,
    pub unix: UnixMillis,
    age: Duration,
    received: MonoTime,
}

impl Look {
    pub fn age(&self, now: MonoTime) -> Duration {
        self.age + now.since(self.received)
    }
}

/// What the machine was last told in place of its agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Relayed {
    /// Nothing.
    #[default]
    Nothing,
    /// Healthy.
    Well,
    /// Silence, though somebody tells something of the agent.
    Doubted,
    /// Silence.
    Gone,
    /// Two brokers hear this.
    Bad(Word),
}

impl Held {
    fn alive(&self, now: MonoTime) -> bool {
        now.since(self.received.mono) < LIFE
    }

    fn look(&self) -> Option<Look> {
        let OutsideLook { reached, age, .. } = self.view.outside?;
        let unix = UnixMillis(self.received.unix.0.saturating_sub(age.as_millis() as u64));
        Some(Look { reached, unix, age, received: self.received.mono })
    }

    /// The agent's word, if it was heard lately, and after `since`.
    fn word(&self, since: Option<MonoTime>, now: MonoTime) -> Option<Word> {
        let AgentWord { word, age } = self.view.agent?;
        let age = age + now.since(self.received.mono);
        let later = since.is_none_or(|since| age < now.since(since));
        (self.alive(now) && age <= LIFE && later).then_some(word)
    }

    /// Its voice in an inquiry that began then: whether it reaches the mirror. What it reached before says
    /// nothing of what happened since.
    fn voice(&self, began: MonoTime, now: MonoTime) -> Option<bool> {
        let since = now.since(began);
        let look = self
            .look()
            .filter(|look| look.age(now) < since || !look.reached && look.age(now) <= since + JUST_BEFORE);
        let bad = self.word(None, now).is_some_and(Word::is_bad);
        look.map(|look| look.reached).or(bad.then_some(false)).filter(|_| self.alive(now))
    }
}

impl Abroad {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How other brokers' looks ended, as far as what they told still stands.
    pub fn looks(&self, now: MonoTime) -> impl Iterator<Item = (BrokerId, Look)> + '_ {
        self.held.iter().filter(move |h| h.alive(now)).filter_map(|h| Some((h.broker, h.look()?)))
    }

    /// Their voices in an inquiry that began then.
    pub fn voices(&self, began: MonoTime, now: MonoTime) -> impl Iterator<Item = (BrokerId, bool)> + '_ {
        self.held.iter().filter_map(move |h| Some((h.broker, h.voice(began, now)?)))
    }

    /// Takes what a broker tells. `None` when there is no room; else whether a look of this broker is
    /// called for: it has just failed to reach the mirror.
    fn receive(&mut self, broker: BrokerId, view: PeerView, now: Now) -> Option<bool> {
        self.held.retain(|h| h.broker == broker || h.alive(now.mono));
        let failed = |view: &PeerView| view.outside.is_some_and(|look| !look.reached);
        let at = match self.held.iter().position(|h| h.broker == broker) {
            Some(at) => at,
            None if self.held.len() >= MOST => return None,
            None => {
                let view = PeerView::default();
                self.held.push(Held { broker, view, received: now, provoked: None });
                self.held.len() - 1
            }
        };
        let held = self.held.get_mut(at)?;
        let first = failed(&view) && !(failed(&held.view) && held.alive(now.mono));
        let rested = held.provoked.is_none_or(|at| now.mono.since(at) >= PROVOKED_AGAIN);
        if first && rested {
            held.provoked = Some(now.mono);
        }
        held.view = view;
        held.received = now;
        Some(first && rested)
    }

    /// What the agent's words amount to by now, if that is something else than before. `since`: only what
    /// was heard later counts. `waiting`: this broker may have slept through what was told.
    fn turn(&mut self, since: Option<MonoTime>, waiting: bool, now: MonoTime) -> Option<Relayed> {
        let words = || self.held.iter().filter_map(|h| h.word(since, now));
        let well = words().filter(|w| *w == Word::Healthy).count();
        let bad = words().filter(|w| w.is_bad()).count();
        let relayed = match words().filter(|w| w.is_bad()).min() {
            Some(word) if bad >= QUORUM && bad > well => Relayed::Bad(word),
            _ if well > 0 => Relayed::Well,
            _ if self.relayed == Relayed::Nothing => Relayed::Nothing,
            _ if words().next().is_some() => Relayed::Doubted,
            _ if waiting => return None,
            _ => Relayed::Gone,
        };
        (std::mem::replace(&mut self.relayed, relayed) != relayed).then_some(relayed)
    }

    /// The agent has a session here: it speaks for itself.
    pub fn heard_here(&mut self) {
        self.relayed = Relayed::Nothing;
    }

    /// When something that matters stops counting.
    pub fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        if !self.excuse.given && matches!(self.relayed, Relayed::Nothing | Relayed::Gone) {
            return None;
        }
        let over = |h: &Held| {
            let heard = h.view.agent.map(|word| LIFE.saturating_sub(word.age));
            let ends = [Some(LIFE), heard].into_iter().flatten().map(|left| h.received.mono + left);
            ends.filter(|at| *at >= now).min()
        };
        // What counts for its whole life ends just after it.
        self.held.iter().filter_map(over).min().map(|at| at + Duration::from_millis(1))
    }
}

impl Relayed {
    /// What the machine is told.
    fn inputs(self, silent: bool) -> ArrayVec<Input, 3> {
        let one = |input| ArrayVec::from_iter([input]);
        match self {
            Relayed::Nothing => ArrayVec::new(),
            Relayed::Well => {
                let back = silent.then_some(Input::BeaconsResumed);
                back.into_iter().chain([Input::AgentUndrained, Input::ReportHealthy]).collect()
            }
            Relayed::Doubted | Relayed::Gone => one(Input::SecondBeaconMissed),
            Relayed::Bad(Word::Left) => one(Input::AgentLeft),
            Relayed::Bad(Word::Draining) => one(Input::AgentDraining),
            Relayed::Bad(Word::Failing) => one(Input::ReportFailing),
            Relayed::Bad(Word::Stopped) => one(Input::ReportStopped),
            Relayed::Bad(_) => one(Input::ReportNotReady),
        }
    }
}

impl Fleet {
    /// Which broker this is.
    pub fn set_broker(&mut self, me: BrokerId) {
        self.peers.me = me;
        self.peers.connected.retain(|b| *b != me);
    }

    /// Which brokers are connected now. What those told that no longer are stands until its life is over.
    pub fn on_peers_connected(&mut self, mut connected: Vec<BrokerId>, now: Now) {
        self.attend(now);
        connected.sort_unstable();
        connected.dedup();
        connected.retain(|b| *b != self.peers.me);
        self.peers.connected = connected;
    }

    /// The connection to a broker ended. What it told stands until its life is over.
    pub fn on_peer_lost(&mut self, broker: BrokerId, now: Now) {
        self.attend(now);
        self.peers.connected.retain(|b| *b != broker);
    }

    /// Something came from another broker: this one's line works.
    pub fn on_peer_contact(&mut self, now: Now) {
        self.attend(now);
        self.links.peer(now.mono);
    }

    /// What another broker tells of mirrors. Returns how many facts were left out: of mirrors that are not
    /// registered here, or of more brokers than are kept.
    pub fn on_peer_facts(&mut self, broker: BrokerId, facts: &[PeerFact], now: Now) -> usize {
        self.on_peer_contact(now);
        if broker == self.peers.me {
            return facts.len();
        }
        let mut left_out = 0;
        for fact in facts {
            let slot = self.mirrors.by_key.get(&(fact.domain.clone(), fact.mirror.clone())).copied();
            let taken = slot.is_some_and(|slot| self.hear_fact(slot, broker, fact, now));
            left_out += usize::from(!taken);
        }
        left_out
    }

    /// Another broker asks for a look at a mirror; what comes of it is among [`Fleet::changed_facts`].
    pub fn on_asked_to_probe(&mut self, mirror: MirrorIndex, family: Family, now: Now) {
        self.attend(now);
        let Some(slot) = self.mirrors.slot(mirror) else { return };
        let Some(state) = self.mirrors.slots.get_mut(slot) else { return };
        let side = &mut state.sides[family.index()];
        // Only a later look answers: whoever asks wants to know what has happened since.
        side.abroad.telling.owed = Some(now.mono);
        let rested = side.inquiry.last.map(|(_, at)| at.mono + ASKED_AGAIN).filter(|at| *at > now.mono);
        if let Some(later) = rested {
            side.probing.next = side.probing.next.map(|next| next.min(later));
            return self.drive(slot, family, &[], Burst::AsWanted, now);
        }
        self.drive(slot, family, &[], Burst::Briskly, now);
    }

    fn hear_fact(&mut self, slot: u32, broker: BrokerId, fact: &PeerFact, now: Now) -> bool {
        let family = fact.family;
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return false };
        let side = &mut mirror.sides[family.index()];
        let Some(provoked) = side.abroad.receive(broker, fact.view, now) else { return false };
        let news = side.inquiry.hear_peers(&side.abroad, now.mono);
        let look = provoked && side.machine.phase().eligible();
        self.expect_elsewhere(slot, &fact.view, now.mono);
        self.take_load(slot, &fact.view);
        let inputs = self.relay(slot, family, now);
        if look || news || !inputs.is_empty() {
            self.drive(slot, family, &inputs, if look { Burst::Briskly } else { Burst::AsWanted }, now);
        }
        true
    }

    /// What a mirror is to be told in place of its agent, where that has no session here.
    pub(super) fn relay(&mut self, slot: u32, family: Family, now: Now) -> ArrayVec<Input, 3> {
        let waiting = now.mono.since(self.attention.since) < TOLD_AGAIN;
        let Some(mirror) = self.mirrors.slots.get(slot) else { return ArrayVec::new() };
        let absent = self.absent_since(mirror);
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return ArrayVec::new() };
        let side = &mut mirror.sides[family.index()];
        let Some(since) = absent.filter(|_| side.machine.mode() == Mode::Agent) else {
            side.abroad.heard_here();
            return ArrayVec::new();
        };
        let Some(relayed) = side.abroad.turn(since, waiting, now.mono) else { return ArrayVec::new() };
        // Where nobody can be asked, silence is judged as that of an agent that was heard here; not while
        // a broker tells something of it.
        if relayed == Relayed::Gone && mirror.spec.is_none() {
            side.look_again = Some(now.mono);
        }
        relayed.inputs(side.machine.silent())
    }

    /// Whether a mirror's agent is away from here; the time before which nothing counts that others heard.
    fn absent_since(&self, mirror: &MirrorState) -> Option<Option<MonoTime>> {
        let node = self.nodes.slots.get(*self.nodes.by_id.get(&mirror.node?)?)?;
        match node.hearing.stage {
            Stage::Never => Some(None),
            Stage::Left | Stage::Silent { long: true } => {
                Some(node.hearing.last().map(|last| last + AFTERWARDS))
            }
            Stage::Present | Stage::Silent { long: false } => None,
        }
    }

    /// After a restart an agent is expected here; one that another broker hears need not come.
    fn expect_elsewhere(&mut self, slot: u32, view: &PeerView, now: MonoTime) {
        let healthy = view.agent.is_some_and(|agent| agent.word == Word::Healthy);
        let Some(id) = self.mirrors.slots.get(slot).and_then(|m| m.node).filter(|_| healthy) else { return };
        let Some((_, node)) = self.nodes.find(&id) else { return };
        let expected = node.hearing.stage == Stage::Present && node.hearing.last().is_some_and(|at| at > now);
        if expected && node.sessions.is_empty() {
            node.hearing.stage = Stage::Never;
        }
    }

    /// The load that an agent reports elsewhere, where it has no session here.
    fn take_load(&mut self, slot: u32, view: &PeerView) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let (Some(load), true) = (view.load, self.absent_since(mirror).is_some()) else { return };
        if let Some(live) = self.live.mirrors.get_mut(mirror.index.0 as usize)
            && live.load != load
        {
            live.load = load;
            self.live_version += 1;
        }
    }
}
