//! A set of mirrors, and the ranking of its mirrors for a client.
//!
//! Domains whose mirrors are the same machines, in the same order and under the same policy, share a
//! set, and so all that is computed of it.

use super::index::Index;
use super::ranked::{Contender, Podium, Ranking};
use super::reach::Reach;
use super::rules::{Matching, Rules};
use super::shared::Shares;
use crate::geo::Place;
use crate::hash::hash_of_name;
use crate::registry::{DomainIndex, MAX_MIRRORS, Mirror, MirrorIndex, Registry, Rule, Strategy};
use crate::rtt::routes::Tolls;
use crate::rtt::scale::millis;
use crate::rtt::{Client, Model, Site, Target};
use crate::time::UnixMillis;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sets up to this size are looked at whole; larger ones have an index.
const SMALL: usize = 64;
/// The order of mirrors that a list of failover leaves out.
const UNLISTED: u16 = u16::MAX - 1;
/// A mirror is tried out for others if it is not predicted to be slower by more than this …
const TRY_MS: f32 = 10.0;
/// … or this share of the best's round trip.
const TRY_SHARE: f32 = 0.2;

/// What makes a mirror of a set.
#[derive(Clone, Debug, PartialEq)]
struct MemberKey {
    target: Target,
    name: Arc<str>,
    place: Place,
    weight: u32,
}

/// What makes two sets of mirrors the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SetKey {
    members: Vec<MemberKey>,
    strategy: Strategy,
    rules: Vec<Rule>,
    band: (f32, f32),
    /// Whether mirrors are tried out.
    explores: bool,
}

impl SetKey {
    /// Of a domain.
    pub(super) fn of(registry: &Registry, domain: DomainIndex) -> SetKey {
        let policy = &registry.domain(domain).policy;
        let member = |(i, m): (MirrorIndex, &Mirror)| MemberKey {
            target: Target::of(registry, i),
            name: m.name.clone(),
            place: m.place,
            weight: m.weight,
        };
        SetKey {
            members: registry.mirrors_of(domain).map(member).collect(),
            strategy: policy.strategy.clone(),
            rules: policy.rules.clone(),
            band: (policy.tie_band_ms, policy.tie_band_share),
            explores: policy.explore > 0.0,
        }
    }

    /// Equal keys have equal hashes.
    pub(super) fn hash(&self) -> u64 {
        let names = self.members.iter().map(|m| hash_of_name(&m.name));
        names.fold(self.members.len() as u64, |h, n| h.rotate_left(5) ^ n)
    }
}

/// A mirror of a set.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) site: Site,
    /// Its place in the list of a failover policy; those that the list leaves out come last.
    order: u16,
}

/// Mirrors that are ranked together. Slots are positions among the mirrors of a domain.
pub struct MirrorSet {
    pub(super) key: SetKey,
    members: Vec<Member>,
    reach: Reach,
    /// What users are shared out by, and by what weight, beside `members`.
    weighed: Box<[(u64, u32)]>,
    rules: Rules,
    shares: Shares,
    index: Option<Index>,
    model: Arc<Model>,
    asked: Asked,
}

/// Whether anybody asks for a set.
#[derive(Default)]
struct Asked {
    /// Whether anyone did since this was cleared …
    lately: AtomicBool,
    /// … and when somebody had, the last time it was; in milliseconds since 1970, 0 for never.
    at: AtomicU64,
}

impl fmt::Debug for MirrorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorSet({} mirrors)", self.members.len())
    }
}

/// Tolls of places, computed once each.
pub(super) type KnownTolls = HashMap<[u32; 3], Arc<Tolls>>;

impl MirrorSet {
    pub(super) fn new(key: SetKey, model: &Arc<Model>, tolls: &mut KnownTolls) -> MirrorSet {
        let names: Vec<Arc<str>> = key.members.iter().map(|m| m.name.clone()).collect();
        let member = |MemberKey { target, name, place, .. }: &MemberKey| {
            let spot = |unit: [f32; 3]| unit.map(f32::to_bits);
            let known = place.position.and_then(|p| tolls.get(&spot(p.unit())));
            let site = model.site(target, place, known);
            if let Some(own) = site.tolls() {
                tolls.entry(spot(own.unit())).or_insert_with(|| own.clone());
            }
            let order = match &key.strategy {
                Strategy::Failover(order) => order.iter().position(|n| n == name),
                _ => None,
            };
            let order = order.and_then(|at| u16::try_from(at).ok()).unwrap_or(UNLISTED);
            Member { site, order }
        };
        let members: Vec<Member> = key.members.iter().take(MAX_MIRRORS).map(member).collect();
        let index = (members.len() > SMALL).then(|| Index::new(&members, model));
        let rules = Rules::new(&key.rules, &names);
        let weighed: Box<[(u64, u32)]> =
            key.members.iter().take(members.len()).map(|k| (hash_of_name(&k.name), k.weight)).collect();
        let shares = Shares::new(&weighed);
        MirrorSet {
            reach: Reach::new(&members),
            key,
            members,
            weighed,
            rules,
            shares,
            index,
            model: model.clone(),
            asked: Asked::default(),
        }
    }

    /// Number of mirrors.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The model that predicts its round trips.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// A mirror as the model sees it.
    pub fn site(&self, slot: usize) -> Option<&Site> {
        self.members.get(slot).map(|m| &m.site)
    }

    /// What users are shared out to a mirror by.
    pub(crate) fn hash(&self, slot: usize) -> u64 {
        self.weighed.get(slot).map_or(0, |w| w.0)
    }

    /// A mirror's weight.
    pub(crate) fn weight(&self, slot: usize) -> u32 {
        self.weighed.get(slot).map_or(0, |w| w.1)
    }

    /// Whether any mirrors are pinned or excluded for anybody.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Users are shared out among all of its mirrors, wherever they are.
    pub(super) fn shares_all(&self) -> bool {
        self.key.strategy == Strategy::Weighted
    }

    /// Whether a mirror, if it is the first of its ranking that can be used, is so for everyone: mirrors that
    /// a list of failover leaves out come after it, nearest first.
    pub(super) fn is_for_everyone(&self, slot: usize) -> bool {
        let listed = self.members.get(slot).is_some_and(|m| m.order != UNLISTED);
        listed && self.is_failover() && self.rules.is_empty()
    }

    /// Whether rankings are the same for everyone.
    fn ranks_everyone_alike(&self) -> bool {
        (0..self.members.len()).all(|slot| self.is_for_everyone(slot))
    }

    /// Whether mirrors stand in the order of a list, wherever users are.
    pub(super) fn is_failover(&self) -> bool {
        matches!(self.key.strategy, Strategy::Failover(_))
    }

    /// Notes that somebody asked.
    pub(super) fn touch(&self) {
        // Read first: writing each time would make cores wait for each other.
        if !self.asked.lately.load(Ordering::Relaxed) {
            self.asked.lately.store(true, Ordering::Relaxed);
        }
    }

    /// When somebody asked last, to the nearest of the calls of this, which are to be regular; `None`
    /// if nobody ever did.
    pub fn asked(&self, now: UnixMillis) -> Option<UnixMillis> {
        if self.asked.lately.swap(false, Ordering::Relaxed) {
            self.asked.at.store(now.0.max(1), Ordering::Relaxed);
        }
        Some(UnixMillis(self.asked.at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Was asked when the same set under an earlier model was.
    pub(super) fn asked_as(&self, earlier: &MirrorSet) {
        self.asked.at.fetch_max(earlier.asked.at.load(Ordering::Relaxed), Ordering::Relaxed);
        self.asked.lately.fetch_or(earlier.asked.lately.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether cells would tell more than ranking by itself does: not where everyone has the same
    /// ranking, or users are shared out among all mirrors.
    pub fn gains_by_cells(&self) -> bool {
        !self.is_empty() && !self.ranks_everyone_alike() && !self.shares_all()
    }

    fn class(&self, slot: u16, matching: &Matching<'_>) -> u16 {
        let order = || self.members.get(usize::from(slot)).map_or(u16::MAX, |m| m.order);
        match (&self.key.strategy, matching.pins(slot)) {
            (_, true) => 0,
            (Strategy::Failover(_), false) => 1 + order().min(u16::MAX - 2),
            (_, false) => 1,
        }
    }

    fn contender(&self, client: &Client<'_>, slot: u16, matching: &Matching<'_>) -> Contender {
        Contender { class: self.class(slot, matching), point: self.reach.point(client, slot), slot }
    }

    /// The best mirrors for a client, best first.
    pub(super) fn podium(&self, client: &Client<'_>, matching: &Matching<'_>) -> Podium {
        let mut podium = Podium::default();
        let mut offer = |slot: u16| {
            if usize::from(slot) < self.members.len() && !matching.excludes(slot) {
                podium.offer(self.contender(client, slot, matching));
            }
        };
        match (&self.index, &self.key.strategy) {
            (Some(index), Strategy::Nearest | Strategy::Balanced | Strategy::Weighted) => {
                index.candidates(client, &mut offer);
                matching.pinned().iter().for_each(|slot| offer(*slot));
            }
            // Lists are short, and whoever is on them need not be near.
            _ => (0..self.members.len() as u16).for_each(offer),
        }
        podium
    }

    /// The ranking for a cell whose users are shared out among all mirrors.
    pub(super) fn share(&self, cell: u64, place: &Place, addr: Option<IpAddr>) -> Ranking {
        let matching = self.rules.matching(place, addr);
        let mut podium = Podium::default();
        if !matching.pinned().is_empty() {
            let pinned = self.shares.first(cell, |slot| matching.pins(slot) && !matching.excludes(slot));
            podium.extend(0, &pinned);
        }
        let others = self.shares.first(cell, |slot| !matching.pins(slot) && !matching.excludes(slot));
        podium.extend(1, &others);
        Ranking::new(&podium, |_| 0, None)
    }

    /// The best mirror for a client of those that `wanted` admits: among the ones that may be near where
    /// there is an index, else among all.
    pub(super) fn best(
        &self,
        client: &Client<'_>,
        place: &Place,
        addr: Option<IpAddr>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let matching = self.rules.matching(place, addr);
        let look = |best: &mut Option<Contender>, slot: u16| {
            if wanted(usize::from(slot)) && !matching.excludes(slot) {
                let contender = self.contender(client, slot, &matching);
                if best.is_none_or(|b| contender.before(&b)) {
                    *best = Some(contender);
                }
            }
        };
        let mut best = None;
        if let Some(index) = self.index.as_ref().filter(|_| !self.is_failover()) {
            index.candidates(client, |slot| look(&mut best, slot));
            matching.pinned().iter().for_each(|slot| look(&mut best, *slot));
        }
        // All of thousands are looked at only where none of a whole region can be used.
        if best.is_none() {
            (0..self.members.len() as u16).for_each(|slot| look(&mut best, slot));
        }
        best.map(|b| usize::from(b.slot))
    }

    /// The ranking for a client at a place.
    pub(super) fn rank(&self, client: &Client<'_>, place: &Place, addr: Option<IpAddr>) -> Ranking {
        let matching = self.rules.matching(place, addr);
        self.ranking(client, &self.podium(client, &matching))
    }

    /// The ranking of a podium.
    pub(super) fn ranking(&self, client: &Client<'_>, podium: &Podium) -> Ranking {
        let ms: Vec8 = podium.0.iter().map(|c| millis(c.point)).collect();
        let failover = matches!(self.key.strategy, Strategy::Failover(_));
        let ties = |at: usize| match (ms.get(at), podium.0.get(at)) {
            (Some(own), Some(contender)) if !failover => {
                let limit = own + self.key.band.0.max(self.key.band.1 * own);
                let same = |(c, ms): &(&Contender, &f32)| c.class == contender.class && **ms <= limit;
                // At most seven.
                podium.0.iter().zip(&ms).skip(at + 1).take_while(same).count() as u8
            }
            _ => 0,
        };
        Ranking::new(podium, ties, self.worth_a_try(client, podium, &ms))
    }

    /// The place of the mirror that could well be nearer than predicted, among those that are not
    /// much further than the best and that the client's own network did not measure.
    fn worth_a_try(&self, client: &Client<'_>, podium: &Podium, ms: &Vec8) -> Option<usize> {
        let explored = matches!(self.key.strategy, Strategy::Nearest | Strategy::Balanced);
        let (best, first) = (ms.first()?, podium.0.first()?);
        let limit = best + TRY_MS.max(TRY_SHARE * best);
        let hope = |at: &usize| {
            let contender = &podium.0[*at];
            client.hope_from(contender.point, self.reach.target(contender.slot))
        };
        let untried = |at: &usize| {
            let contender = &podium.0[*at];
            contender.class == first.class
                && ms[*at] <= limit
                && client.own_weight(self.reach.target(contender.slot)) == 0.0
        };
        let places = (1..podium.0.len()).filter(untried);
        places.filter(|_| explored && self.key.explores).min_by(|a, b| hope(a).total_cmp(&hope(b)))
    }
}

/// Milliseconds beside a podium.
type Vec8 = arrayvec::ArrayVec<f32, { super::ranked::RANKED }>;
