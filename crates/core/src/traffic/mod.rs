//! Who is where now: the users of each mirror by country, and how far they are from it.
//!
//! ```text
//!  agents: connections by network ─▶ [ mirror, network ] ── until the next reading ──┐
//!                                                                                    ├─▶ flows, mirrors
//!  answers, one in many ─▶ [ mirror, country ] × slots of ten seconds ───────────────┘
//! ```
//!
//! What agents **count** are connections: each reading of a mirror replaces the one before it. What is **asked**
//! stands for users, too: the answers of the last [`WINDOW`] that name the mirror first. The same users are seen in
//! both ways, so a mirror's are told by one of them. What is counted stands, since anybody can ask; but where far more
//! ask than are counted, answers do: an agent sees few connections of a service over UDP, or of one whose
//! connections are short.
//!
//! Everything is bounded: [`MOST_NETWORKS`] that are counted, [`MOST_FLOWS`] that are asked for. What finds
//! no room is left out, and [`Traffic::left_out`] says how often.

mod histogram;
#[cfg(test)]
mod tests;

pub use histogram::{Histogram, Quantiles};

use crate::geo::CountryCode;
use crate::geo::countries::{self, Continent};
use crate::time::MonoTime;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// For so long an answer stands for a user: about as long as resolvers keep it.
pub const WINDOW: Duration = Duration::from_secs(SLOT.as_secs() * (SLOTS as u64 - 1));
/// Networks that agents count users in, over all mirrors.
pub const MOST_NETWORKS: usize = 65_536;
/// Pairs of a mirror and a country that answers are counted for.
pub const MOST_FLOWS: usize = 16_384;

/// The oldest counts as far as the window still reaches into it.
const SLOTS: usize = 4;
const SLOT: Duration = Duration::from_secs(10);
/// Samples of a mirror that come within this time are of one reading.
const ONE_READING: Duration = Duration::from_secs(5);
/// How long a reading holds when no other has come: a little longer than agents wait by default.
const READING_HOLDS: Duration = Duration::from_secs(45);
/// The same for agents that read rarely.
const LONGEST_READING: Duration = Duration::from_secs(300);
/// What is out of date is looked for this often.
const TIDY: Duration = Duration::from_secs(5);
/// So many times as many must ask as are counted, before answers tell a mirror's users.
const OUTWEIGHS: f64 = 4.0;
/// Most users of one sighting that are believed.
const MOST_USERS: f32 = 1e8;

/// How users were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An agent counted their connections.
    Connections,
    /// An answer named the mirror to them, or to their resolver.
    Query,
}

/// What a round trip rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// Somebody timed it.
    Measured,
    /// Nobody did: the model of round trips says so.
    Predicted,
}

impl Basis {
    /// `measured` or `predicted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Basis::Measured => "measured",
            Basis::Predicted => "predicted",
        }
    }
}

/// A mirror of a domain, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorName {
    /// The domain.
    pub domain: Arc<str>,
    /// The mirror's name in it.
    pub mirror: Arc<str>,
}

/// Users at a mirror.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// Where they are served.
    pub mirror: MirrorName,
    /// An address in their network.
    pub network: IpAddr,
    /// Where they are.
    pub country: Option<CountryCode>,
    /// How many.
    pub users: f32,
    /// Their round trip to the mirror in milliseconds.
    pub rtt_ms: Option<f32>,
    /// What that rests on.
    pub basis: Basis,
    /// How they were seen.
    pub seen: Seen,
}

/// Users of one country at one mirror.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The mirror.
    pub mirror: MirrorName,
    /// Where they are; `None` where that is not known.
    pub country: Option<CountryCode>,
    /// How many.
    pub users: f64,
}

/// The users of one mirror.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorUsers {
    /// How many.
    pub users: f64,
    /// Their round trips, by region and by what they rest on.
    pub rtts: BTreeMap<(Region, Basis), Histogram>,
}

impl MirrorUsers {
    /// The round trips of all of them; `None` where none is known.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let mut all = Histogram::default();
        self.rtts.values().for_each(|h| all.merge(h));
        all.quantiles()
    }
}

/// A continent's two letters, or `unknown`.
pub type Region = &'static str;

/// The region of a country.
pub fn region(country: Option<CountryCode>) -> Region {
    country.and_then(countries::find).map_or("unknown", |c| Continent::code(c.continent))
}

type Key = (MirrorName, Option<CountryCode>);

/// What an agent counted in one network.
#[derive(Clone, Copy, Debug)]
struct Counted {
    country: Option<CountryCode>,
    users: f32,
    rtt: Option<(f32, Basis)>,
    at: MonoTime,
}

/// When a mirror's agent told of it.
#[derive(Clone, Copy, Debug)]
struct Reading {
    began: MonoTime,
    /// When the one before began.
    before: MonoTime,
    last: MonoTime,
    holds: Duration,
}

/// Answers of one slot.
#[derive(Clone, Debug, Default)]
struct Slot {
    users: f64,
    rtts: BTreeMap<Basis, Histogram>,
}

/// Answers of the last slots, each under its number modulo [`SLOTS`].
#[derive(Clone, Debug, Default)]
struct Asked {
    newest: u64,
    slots: [Slot; SLOTS],
}

impl Asked {
    /// Clears what is out of the window at slot `number`.
    fn turn(&mut self, number: u64) {
        let steps = number.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 0..steps {
            self.slots[((number - step) % SLOTS as u64) as usize] = Slot::default();
        }
        self.newest = self.newest.max(number);
    }

    /// Each slot with the share of it that is in the window at `now`, which turned it.
    fn slots(&self, now: MonoTime) -> impl Iterator<Item = (&Slot, f64)> {
        let number = slot(now);
        let gone = (now.0 % SLOT.as_micros() as u64) as f64 / SLOT.as_micros() as f64;
        let oldest = (number + 1) % SLOTS as u64;
        let share = move |at: usize| if at as u64 == oldest { 1.0 - gone } else { 1.0 };
        self.slots.iter().enumerate().map(move |(at, slot)| (slot, share(at)))
    }

    fn users(&self, now: MonoTime) -> f64 {
        self.slots(now).map(|(slot, share)| slot.users * share).sum()
    }
}

/// Who is where now.
#[derive(Debug, Default)]
pub struct Traffic {
    counted: BTreeMap<(MirrorName, IpAddr), Counted>,
    readings: BTreeMap<MirrorName, Reading>,
    asked: BTreeMap<Key, Asked>,
    left_out: u64,
    tidied: MonoTime,
}

impl Traffic {
    /// Users were seen. Those of no finite, positive number are not.
    pub fn see(&mut self, sighting: Sighting, now: MonoTime) {
        if !(sighting.users > 0.0 && sighting.users.is_finite()) {
            return;
        }
        let sighting = Sighting { users: sighting.users.min(MOST_USERS), ..sighting };
        if now.since(self.tidied) >= TIDY {
            self.expire(now);
        }
        match sighting.seen {
            Seen::Connections => self.count(sighting, now),
            Seen::Query => self.ask(sighting, now),
        }
    }

    /// How many sightings found no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn count(&mut self, s: Sighting, now: MonoTime) {
        let key = (s.mirror.clone(), s.network);
        let known = self.counted.get(&key).map(|c| c.at);
        if self.counted.len() >= MOST_NETWORKS && known.is_none() {
            self.left_out += 1;
            return;
        }
        let first = Reading { began: now, before: now, last: now, holds: READING_HOLDS };
        let reading = self.readings.entry(s.mirror).or_insert(first);
        // A reading has each network once.
        if now.since(reading.last) > ONE_READING || known.is_some_and(|at| at >= reading.began) {
            let every = now.since(reading.began);
            reading.holds = (every + every / 2).clamp(READING_HOLDS, LONGEST_READING);
            (reading.before, reading.began) = (reading.began, now);
        }
        reading.last = now;
        let rtt = s.rtt_ms.map(|ms| (ms, s.basis));
        self.counted.insert(key, Counted { country: s.country, users: s.users, rtt, at: now });
    }

    fn ask(&mut self, s: Sighting, now: MonoTime) {
        let mut key = (s.mirror, s.country);
        if self.asked.len() >= MOST_FLOWS && !self.asked.contains_key(&key) {
            key.1 = None;
            if !self.asked.contains_key(&key) {
                self.left_out += 1;
                return;
            }
        }
        let number = slot(now);
        let asked = self.asked.entry(key).or_default();
        asked.turn(number);
        let slot = &mut asked.slots[(number % SLOTS as u64) as usize];
        slot.users += f64::from(s.users);
        if let Some(rtt_ms) = s.rtt_ms {
            slot.rtts.entry(s.basis).or_default().add(rtt_ms, s.users);
        }
    }

    /// Forgets what is not so any more.
    fn expire(&mut self, now: MonoTime) {
        self.tidied = now;
        let Traffic { counted, readings, asked, .. } = self;
        readings.retain(|_, r| now.since(r.last) < r.holds);
        // Of the reading before, once the one that replaces it is all here.
        counted.retain(|(mirror, _), c| {
            let told = |r: &Reading| c.at >= r.began || c.at >= r.before && now.since(r.began) <= ONE_READING;
            readings.get(mirror).is_some_and(told)
        });
        let number = slot(now);
        asked.retain(|_, a| {
            a.turn(number);
            a.users(now) > 0.0
        });
    }

    /// Mirrors whose users are those that are counted.
    fn better_counted(&self, now: MonoTime) -> BTreeSet<&MirrorName> {
        let mut more: BTreeMap<&MirrorName, f64> = BTreeMap::new();
        for ((mirror, _), c) in &self.counted {
            *more.entry(mirror).or_default() += OUTWEIGHS * f64::from(c.users);
        }
        for ((mirror, _), asked) in &self.asked {
            *more.entry(mirror).or_default() -= asked.users(now);
        }
        more.into_iter().filter(|(_, more)| *more >= 0.0).map(|(mirror, _)| mirror).collect()
    }

    /// What is told of: of each mirror what was counted, or what was asked.
    fn told(
        &self,
        now: MonoTime,
    ) -> (impl Iterator<Item = (&MirrorName, &Counted)>, impl Iterator<Item = (&Key, &Asked)>) {
        let counts = self.better_counted(now);
        let counted: Vec<_> =
            self.counted.iter().map(|((m, _), c)| (m, c)).filter(|(m, _)| counts.contains(m)).collect();
        let asked = self.asked.iter().filter(move |((m, _), _)| !counts.contains(m));
        (counted.into_iter(), asked)
    }

    /// Users by mirror and country, in the order of names.
    pub fn flows(&mut self, now: MonoTime) -> Vec<Flow> {
        self.expire(now);
        let mut flows: BTreeMap<Key, f64> = BTreeMap::new();
        let (counted, asked) = self.told(now);
        for (mirror, c) in counted {
            *flows.entry((mirror.clone(), c.country)).or_default() += f64::from(c.users);
        }
        for (key, asked) in asked {
            *flows.entry(key.clone()).or_default() += asked.users(now);
        }
        flows.into_iter().map(|((mirror, country), users)| Flow { mirror, country, users }).collect()
    }

    /// Users by mirror, with their round trips.
    pub fn mirrors(&mut self, now: MonoTime) -> BTreeMap<MirrorName, MirrorUsers> {
        self.expire(now);
        let mut all: BTreeMap<MirrorName, MirrorUsers> = BTreeMap::new();
        let (counted, asked) = self.told(now);
        for (mirror, c) in counted {
            let users = all.entry(mirror.clone()).or_default();
            users.users += f64::from(c.users);
            if let Some((rtt_ms, basis)) = c.rtt {
                users.rtts.entry((region(c.country), basis)).or_default().add(rtt_ms, c.users);
            }
        }
        for ((mirror, country), asked) in asked {
            let users = all.entry(mirror.clone()).or_default();
            users.users += asked.users(now);
            let heard = asked.slots(now).filter(|(_, share)| *share > 0.0).flat_map(|(slot, _)| &slot.rtts);
            for (basis, rtts) in heard {
                users.rtts.entry((region(*country), *basis)).or_default().merge(rtts);
            }
        }
        all
    }
}

fn slot(now: MonoTime) -> u64 {
    now.0 / SLOT.as_micros() as u64
}
