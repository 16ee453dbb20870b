//! What brokers tell each other of mirrors' health: facts that are never stored and never relayed.
//!
//! A telling is cut into as many [`FactSet`]s as it needs, each within [`MAX_FACTS_BYTES`] and so within a
//! frame. Texts and lists that are longer than their bounds are refused as they are read, numbers when facts
//! are made of them.

use crate::name::{self, NameError};
use crate::paths::bounded;
use nearmost_core::fleet::{AgentWord, OutsideLook, PeerAsk, PeerFact, PeerView, Word};
use nearmost_core::health::Family;
use nearmost_core::live::Load;
use serde::de;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// Most bytes of an encoded [`FactSet`].
pub const MAX_FACTS_BYTES: usize = 48 * 1024;
/// Most facts in one.
pub const MAX_FACTS: usize = 4096;
/// Most bytes of a domain's or mirror's name.
pub const MAX_NAME: usize = 255;
/// Longest round trip and age, in microseconds: an hour.
pub const MAX_US: u64 = 3_600_000_000;
/// What the count of facts takes at most.
const COUNT: usize = 3;

/// Some of what a broker saw itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FactSet {
    /// At most [`MAX_FACTS`].
    #[serde(deserialize_with = "facts")]
    pub facts: Vec<Fact>,
}

/// What a broker knows of one mirror in one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Domain's name.
    #[serde(deserialize_with = "text")]
    pub domain: String,
    /// Mirror's name.
    #[serde(deserialize_with = "text")]
    pub mirror: String,
    /// In which family.
    pub family: FactFamily,
    /// Its own last look from outside.
    pub outside: Option<FactLook>,
    /// What it hears from the mirror's agent.
    pub agent: Option<FactWord>,
    /// The load that the agent reports to it.
    pub load: Option<FactLoad>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A look from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactLook {
    /// It was reached.
    pub reached: bool,
    /// How long answers usually take, in microseconds.
    pub rtt_us: Option<u64>,
    /// How long ago that was when this was sent, in microseconds.
    pub age_us: u64,
}

/// An agent's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactWord {
    /// What it says.
    pub word: FactState,
    /// How long ago it was heard when this was sent, in microseconds.
    pub age_us: u64,
}

/// What an agent says of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactState {
    /// Checks pass, ready.
    Healthy,
    /// Not heard any more.
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

/// Load as an agent reports it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactLoad {
    /// CPU in use, 0..=1.
    pub cpu: f32,
    /// Memory in use, 0..=1.
    pub memory: f32,
    /// Established connections.
    pub connections: u32,
    /// Connections it can carry; 0 when not declared.
    pub capacity: u32,
}

/// A mirror that other brokers are asked to probe at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactAsk {
    /// Domain's name.
    #[serde(deserialize_with = "text")]
    pub domain: String,
    /// Mirror's name.
    #[serde(deserialize_with = "text")]
    pub mirror: String,
    /// In which family.
    pub family: FactFamily,
}

/// What a broker sends on the stream of facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FactMessage {
    /// Some of what it saw.
    Facts(FactSet),
    /// Look at a mirror.
    Ask(FactAsk),
}

/// Why a fact is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FactError {
    /// A domain's name.
    #[error("fact of domain {0:?}: {1}")]
    Domain(String, NameError),
    /// A mirror's name.
    #[error("fact of mirror {0:?}: {1}")]
    Mirror(String, NameError),
    /// A time that is longer than an hour.
    #[error("fact of {mirror}.{domain}: {what} of {us} µs; at most {MAX_US} are allowed")]
    Long {
        /// Domain's name.
        domain: String,
        /// Mirror's name.
        mirror: String,
        /// Which time.
        what: &'static str,
        /// Microseconds.
        us: u64,
    },
    /// A share of load that is none.
    #[error("fact of {mirror}.{domain}: {what} {share} is not within 0 and 1")]
    Share {
        /// Domain's name.
        domain: String,
        /// Mirror's name.
        mirror: String,
        /// Of what.
        what: &'static str,
        /// The share.
        share: f32,
    },
}

impl FactError {
    /// A snake-case label for counters.
    pub fn label(&self) -> &'static str {
        match self {
            FactError::Domain(..) => "domain",
            FactError::Mirror(..) => "mirror",
            FactError::Long { .. } => "long",
            FactError::Share { .. } => "share",
        }
    }
}

/// Facts as messages, each within its bounds. A fact of names that no message may carry is left out: no
/// registry has any.
pub fn chunks<'a>(facts: impl IntoIterator<Item = &'a PeerFact>) -> Vec<FactSet> {
    let mut sets = Vec::new();
    let (mut set, mut bytes) = (FactSet::default(), COUNT);
    for fact in facts {
        let fact = Fact::from(fact);
        if fact.domain.len() > MAX_NAME || fact.mirror.len() > MAX_NAME {
            continue;
        }
        let size = fact.size();
        if bytes + size > MAX_FACTS_BYTES || set.facts.len() >= MAX_FACTS {
            sets.push(std::mem::take(&mut set));
            bytes = COUNT;
        }
        bytes += size;
        set.facts.push(fact);
    }
    sets.extend((!set.facts.is_empty()).then_some(set));
    sets
}

impl FactSet {
    /// The facts that make sense, and for each other one why it does not.
    pub fn read(self) -> (Vec<PeerFact>, Vec<FactError>) {
        let (mut good, mut bad) = (Vec::with_capacity(self.facts.len()), Vec::new());
        for fact in self.facts {
            match PeerFact::try_from(fact) {
                Ok(fact) => good.push(fact),
                Err(error) => bad.push(error),
            }
        }
        (good, bad)
    }
}

impl Fact {
    /// Bytes that it takes at most, encoded.
    fn size(&self) -> usize {
        // Two lengths, the family, a look (1 + 1 + 1 + 10 + 10), a word (1 + 1 + 10), a load (1 + 4 + 4 + 5 + 5).
        const REST: usize = 2 + 2 + 1 + 23 + 12 + 19;
        self.domain.len() + self.mirror.len() + REST
    }

    fn time(&self, what: &'static str, us: u64) -> Result<Duration, FactError> {
        if us <= MAX_US {
            return Ok(Duration::from_micros(us));
        }
        Err(FactError::Long { domain: self.domain.clone(), mirror: self.mirror.clone(), what, us })
    }

    fn share(&self, what: &'static str, share: f32) -> Result<f32, FactError> {
        if (0.0..=1.0).contains(&share) {
            return Ok(share);
        }
        Err(FactError::Share { domain: self.domain.clone(), mirror: self.mirror.clone(), what, share })
    }

    fn view(&self) -> Result<PeerView, FactError> {
        let outside = |look: FactLook| {
            let rtt = look.rtt_us.map(|us| self.time("round trip", us)).transpose()?;
            Ok(OutsideLook { reached: look.reached, rtt, age: self.time("age of a look", look.age_us)? })
        };
        let agent = |said: FactWord| {
            Ok(AgentWord { word: said.word.into(), age: self.time("age of a word", said.age_us)? })
        };
        let load = |load: FactLoad| {
            let (cpu, memory) = (self.share("cpu", load.cpu)?, self.share("memory", load.memory)?);
            Ok(Load { cpu, memory, connections: load.connections, capacity: load.capacity })
        };
        Ok(PeerView {
            outside: self.outside.map(outside).transpose()?,
            agent: self.agent.map(agent).transpose()?,
            load: self.load.map(load).transpose()?,
        })
    }
}

impl TryFrom<Fact> for PeerFact {
    type Error = FactError;

    fn try_from(fact: Fact) -> Result<PeerFact, FactError> {
        let (domain, mirror) = names(&fact.domain, &fact.mirror)?;
        Ok(PeerFact {
            domain: domain.into(),
            mirror: mirror.into(),
            family: fact.family.into(),
            view: fact.view()?,
        })
    }
}

impl From<&PeerFact> for Fact {
    fn from(fact: &PeerFact) -> Fact {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(MAX_US).min(MAX_US);
        let share = |share: f32| if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let PeerView { outside, agent, load } = fact.view;
        Fact {
            domain: fact.domain.to_string(),
            mirror: fact.mirror.to_string(),
            family: fact.family.into(),
            outside: outside.map(|look| FactLook {
                reached: look.reached,
                rtt_us: look.rtt.map(us),
                age_us: us(look.age),
            }),
            agent: agent.map(|said| FactWord { word: said.word.into(), age_us: us(said.age) }),
            load: load.map(|load| FactLoad {
                cpu: share(load.cpu),
                memory: share(load.memory),
                connections: load.connections,
                capacity: load.capacity,
            }),
        }
    }
}

impl TryFrom<FactAsk> for PeerAsk {
    type Error = FactError;

    fn try_from(ask: FactAsk) -> Result<PeerAsk, FactError> {
        let (domain, mirror) = names(&ask.domain, &ask.mirror)?;
        Ok(PeerAsk { domain: domain.into(), mirror: mirror.into(), family: ask.family.into() })
    }
}

impl From<&PeerAsk> for FactAsk {
    fn from(ask: &PeerAsk) -> FactAsk {
        FactAsk { domain: ask.domain.to_string(), mirror: ask.mirror.to_string(), family: ask.family.into() }
    }
}

impl From<Family> for FactFamily {
    fn from(family: Family) -> FactFamily {
        match family {
            Family::V4 => FactFamily::V4,
            Family::V6 => FactFamily::V6,
        }
    }
}

impl From<FactFamily> for Family {
    fn from(family: FactFamily) -> Family {
        match family {
            FactFamily::V4 => Family::V4,
            FactFamily::V6 => Family::V6,
        }
    }
}

impl From<Word> for FactState {
    fn from(word: Word) -> FactState {
        match word {
            Word::Healthy => FactState::Healthy,
            Word::Silent => FactState::Silent,
            Word::NotReady => FactState::NotReady,
            Word::Failing => FactState::Failing,
            Word::Stopped => FactState::Stopped,
            Word::Draining => FactState::Draining,
            Word::Left => FactState::Left,
        }
    }
}

impl From<FactState> for Word {
    fn from(state: FactState) -> Word {
        match state {
            FactState::Healthy => Word::Healthy,
            FactState::Silent => Word::Silent,
            FactState::NotReady => Word::NotReady,
            FactState::Failing => Word::Failing,
            FactState::Stopped => Word::Stopped,
            FactState::Draining => Word::Draining,
            FactState::Left => Word::Left,
        }
    }
}

fn names(domain: &str, mirror: &str) -> Result<(String, String), FactError> {
    let domain = name::domain(domain).map_err(|e| FactError::Domain(domain.to_owned(), e))?;
    let mirror = name::short(mirror).map_err(|e| FactError::Mirror(mirror.to_owned(), e))?;
    Ok((domain, mirror))
}

fn facts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fact>, D::Error> {
    bounded::<_, _, MAX_FACTS>(deserializer)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text: &str = Deserialize::deserialize(deserializer)?;
    match text.len() {
        0..=MAX_NAME => Ok(text.to_owned()),
        long => Err(de::Error::invalid_length(long, &"a name of at most 255 bytes")),
    }
}

#[cfg(test)]
mod tests;
