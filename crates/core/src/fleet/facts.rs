//! What brokers tell each other of mirrors: each only what it saw itself.
//!
//! A fact is never relayed and never a conclusion: it is the last look from outside, and what the mirror's
//! agent says where it has a session with that broker. Facts are told when they change, and all of them
//! every few seconds; who is told keeps each for [`LIFE`].

use super::Fleet;
use super::mirror::{MirrorState, Side};
use super::node::Stage;
use crate::health::Family;
use crate::health::machine::{Input, Mode};
use crate::live::Load;
use crate::time::{MonoTime, Now};
use std::sync::Arc;
use std::time::Duration;

/// How long a fact counts after it came, and how long an agent's word counts after it was heard.
pub const LIFE: Duration = Duration::from_secs(15);
/// How much later than planned a look may be that counts as one of lately.
const SLACK: Duration = Duration::from_secs(5);

/// What one broker knows of one mirror in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerFact {
    /// Domain's name.
    pub domain: Arc<str>,
    /// Mirror's name.
    pub mirror: Arc<str>,
    /// In which family.
    pub family: Family,
    /// What is known.
    pub view: PeerView,
}

/// What a broker saw itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerView {
    /// Its last look from outside, if it looked lately.
    pub outside: Option<OutsideLook>,
    /// What it hears from the mirror's agent, if that has, or just had, a session there.
    pub agent: Option<AgentWord>,
    /// The load that the agent reports to it.
    pub load: Option<Load>,
}

/// How a look from outside ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideLook {
    /// The mirror answered as a good service does.
    pub reached: bool,
    /// How long its answers usually take.
    pub rtt: Option<Duration>,
    /// How long ago that was when the fact was made.
    pub age: Duration,
}

/// What an agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentWord {
    /// Of the mirror.
    pub word: Word,
    /// How long ago the agent was last heard when the fact was made.
    pub age: Duration,
}

/// An agent's word on its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// Checks pass, ready.
    Healthy,
    /// It is not heard any more, and did not say goodbye.
    Silent,
    /// Not ready.
    NotReady,
    /// A check fails.
    Failing,
    /// The service's process has ended.
    Stopped,
    /// It drains.
    Draining,
    /// It said goodbye.
    Left,
}

impl Word {
    /// Whether the agent itself says that no users must come.
    pub fn is_bad(self) -> bool {
        !matches!(self, Word::Healthy | Word::Silent)
    }

    /// The word that an input of an agent amounts to, if it is one.
    pub(super) fn of(input: Input) -> Option<Word> {
        match input {
            Input::ReportHealthy => Some(Word::Healthy),
            Input::ReportFailing => Some(Word::Failing),
            Input::ReportStopped => Some(Word::Stopped),
            Input::ReportNotReady => Some(Word::NotReady),
            Input::AgentDraining => Some(Word::Draining),
            _ => None,
        }
    }
}

/// What of one mirror in one family other brokers were told last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Telling {
    told: (Option<bool>, Option<Word>),
    /// A broker asked for a look no older than this.
    pub owed: Option<MonoTime>,
    queued: bool,
}

impl Side {
    /// How old a look may be, so that whoever looks as a matter of routine always has one.
    pub(super) fn lately(&self, mirror: &MirrorSchedule) -> Duration {
        let interval = match (self.machine.mode(), mirror.interval) {
            (Mode::Probe, Some(interval)) => interval,
            _ => mirror.reprobe,
        };
        interval * 2 + SLACK
    }
}

/// When a mirror is looked at as a matter of routine.
#[derive(Clone, Copy, Debug)]
pub(super) struct MirrorSchedule {
    /// By its own settings.
    pub interval: Option<Duration>,
    /// Where its agent watches it.
    pub reprobe: Duration,
}

impl Fleet {
    /// All that this broker saw itself lately: for a broker that has just connected, and for all of them
    /// every few seconds. At most one fact for each mirror and family.
    pub fn own_facts(&self, now: Now) -> impl Iterator<Item = PeerFact> + '_ {
        let of = move |mirror, family| {
            let view = self.own_view(mirror, family, now);
            (view.outside.is_some() || view.agent.is_some()).then(|| fact(mirror, family, view))
        };
        self.mirrors.slots.iter().flat_map(move |(_, m)| Family::ALL.map(|f| of(m, f))).flatten()
    }

    /// What changed since this was last called, while brokers are connected. A fact with an empty view says
    /// that nothing is known any more.
    pub fn changed_facts(&mut self, now: Now) -> Vec<PeerFact> {
        let queued = std::mem::take(&mut self.peers.queued);
        let mut facts = Vec::with_capacity(queued.len());
        for (slot, family) in queued {
            let Some(mirror) = self.mirrors.slots.get_mut(slot) else { continue };
            mirror.sides[family.index()].abroad.telling.queued = false;
            if let Some(mirror) = self.mirrors.slots.get(slot) {
                facts.push(fact(mirror, family, self.own_view(mirror, family, now)));
            }
        }
        facts
    }

    /// Whether [`Fleet::changed_facts`] has any.
    pub fn facts_changed(&self) -> bool {
        !self.peers.queued.is_empty()
    }

    /// Notes that other brokers are to be told, where this one knows something new.
    pub(super) fn tell(&mut self, slot: u32, family: Family, now: Now) {
        if self.peers.connected.is_empty() {
            return;
        }
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let side = &mirror.sides[family.index()];
        let look = side.inquiry.last;
        let word = self.agents_word(mirror, now).filter(|_| side.addr.is_some()).map(|word| word.word);
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
        let telling = &mut mirror.sides[family.index()].abroad.telling;
        let known = (look.map(|(reached, _)| reached), word);
        let answers = telling.owed.is_some_and(|since| look.is_some_and(|(_, at)| at.mono >= since));
        if answers {
            telling.owed = None;
        }
        if (answers || telling.told != known) && !std::mem::replace(&mut telling.queued, true) {
            self.peers.queued.push((slot, family));
        }
        telling.told = known;
    }

    fn own_view(&self, mirror: &MirrorState, family: Family, now: Now) -> PeerView {
        let side = &mirror.sides[family.index()];
        let lately = side.lately(&self.schedule(mirror));
        if side.addr.is_none() {
            return PeerView::default();
        }
        let outside = side.inquiry.last.and_then(|(reached, at)| {
            let age = now.mono.since(at.mono);
            let rtt = side.probing.took.usual().filter(|_| reached);
            (age <= lately).then_some(OutsideLook { reached, rtt, age })
        });
        let agent = self.agents_word(mirror, now);
        let load = agent.and(self.live.mirrors.get(mirror.index.0 as usize)).map(|live| live.load);
        PeerView { outside, agent, load }
    }

    /// What a mirror's agent says here.
    fn agents_word(&self, mirror: &MirrorState, now: Now) -> Option<AgentWord> {
        let node = self.nodes.slots.get(*self.nodes.by_id.get(&mirror.node?)?)?;
        let word = match node.hearing.stage {
            Stage::Never => return None,
            Stage::Present if node.sessions.is_empty() => return None,
            Stage::Present => mirror.said?,
            Stage::Silent { .. } => Word::Silent,
            Stage::Left => Word::Left,
        };
        let age = node.hearing.last().map(|at| now.mono.since(at)).filter(|age| *age <= LIFE)?;
        Some(AgentWord { word, age })
    }

    pub(super) fn schedule(&self, mirror: &MirrorState) -> MirrorSchedule {
        MirrorSchedule {
            interval: mirror.spec.as_ref().map(|spec| spec.interval),
            reprobe: self.config.reprobe_interval,
        }
    }
}

fn fact(mirror: &MirrorState, family: Family, view: PeerView) -> PeerFact {
    let (domain, name) = mirror.key.clone();
    PeerFact { domain, mirror: name, family, view }
}
