//! Which mirrors of a domain are answered: the query path from a [`View`] to addresses.
//!
//! The view holds the first mirrors for the client's cell, whatever their health; here health, load
//! and weights decide among them ([`choose`]), without allocating, reading what the writer published
//! (DESIGN §3.3, §3.4). What an answer depends on beyond the ranking is the same for everyone in a
//! part of the cell, and that part is told with the answer, as an ECS scope must be:
//!
//! ```text
//! first eligible mirror ─ alone ──────────────────────────────▶ the whole cell
//!        │ as good as others, or loaded ─ by weight and room ──▶ the part that users are shared out by (/20, /44)
//!        │ none of the ranking can be used ─ all mirrors ──────▶ the part that nothing tells apart
//! ```
//!
//! * **Spread**: mirrors within the tie band share users by weighted rendezvous over the part, so a
//!   change of weight moves only the share it must.
//! * **Spill**: a mirror above its high-water mark sheds a share of its parts, each to the next mirror
//!   that does not shed it. When all of the ranking shed, any mirror with room is taken, however
//!   far; when there is none, the first.
//! * **Exploration**: a small share of small cells goes to the mirror that may be better than predicted.

mod explain;

pub use explain::{list_id, spread_shares};

use crate::hash::{mix, unit};
use crate::health::Family;
use crate::live::{Live, LiveMirror};
use crate::map::{Part, RANKED, View, score};
use crate::registry::{AllDown, DomainIndex, Mirror, MirrorIndex, Policy, Registry, Strategy};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Most mirrors that one answer can hold.
pub const MAX_ANSWERS: usize = 8;

/// A mirror that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which mirror.
    pub mirror: MirrorIndex,
    /// Its place in the client's ranking; what the ranking does not hold comes after that.
    pub rank: u8,
    /// The last place of the ranking that is as good as its own.
    pub band_end: u8,
}

/// How an answer was arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Eligible mirrors, nearest first.
    Eligible,
    /// No mirror was eligible: the domain's all-down policy chose.
    AllDownLastKnown,
    /// As above: every mirror that nobody withdrew.
    AllDownAll,
    /// As above: the fallback addresses.
    AllDownFallback,
    /// Nothing to answer.
    Empty,
}

impl Basis {
    /// Whether an answer of this basis is taken from among mirrors like this one.
    #[inline]
    fn admits(self, mirror: &LiveMirror, family: Family) -> bool {
        match self {
            Basis::Eligible => mirror.eligible(family),
            Basis::AllDownLastKnown => mirror.last_known[family.index()],
            Basis::AllDownAll => !mirror.verdict(family).withdrawn(),
            Basis::AllDownFallback | Basis::Empty => false,
        }
    }
}

/// Why an eligible mirror was chosen before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is first in the ranking of those that can be used.
    First,
    /// Among equals by weight.
    Spread,
    /// To find out how near it is.
    Explored,
    /// Users are shared out among all mirrors.
    SharedOut,
    /// None of the ranking could be used.
    Beyond,
    /// Better ones are too loaded to take everyone.
    Spilled,
}

/// The addresses to answer with, best first.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Mirrors chosen; empty for the fallback and for nothing.
    pub mirrors: ArrayVec<Chosen, MAX_ANSWERS>,
    /// Their addresses in the family, in the same order, or the fallback's.
    pub addrs: ArrayVec<IpAddr, MAX_ANSWERS>,
    /// Why these.
    pub basis: Basis,
    /// Why the first one before others.
    pub how: How,
    /// Everyone in it gets this choice …
    pub part: Part,
    /// … and so does everyone else, wherever.
    pub for_everyone: bool,
}

/// One mirror as seen by one client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which mirror.
    pub mirror: MirrorIndex,
    /// Predicted round trip in milliseconds.
    pub rtt_ms: f32,
    /// Great-circle distance in kilometres; `None` when either place is unknown.
    pub distance_km: Option<f32>,
    /// Whether rules keep it from this client.
    pub excluded: bool,
}

/// All mirrors of a domain for one client, whatever their health: those of its ranking in their
/// order, then the others by predicted round trip, then those that rules keep from it. For people
/// and lists, not for the query path.
pub fn rank(registry: &Registry, domain: DomainIndex, view: &View<'_>) -> Vec<Candidate> {
    let place = view.place();
    let client = view.client();
    let candidate = |(slot, (mirror, _)): (usize, (MirrorIndex, &Mirror))| {
        let site = view.set().site(slot);
        let distance =
            site.and_then(|s| s.position()).zip(place.position).map(|(a, b)| a.distance_km(b) as f32);
        Candidate {
            mirror,
            rtt_ms: site.map_or(f32::MAX, |s| client.ms(s)),
            distance_km: distance,
            excluded: view.excludes(slot),
        }
    };
    let mut all: Vec<Candidate> = registry.mirrors_of(domain).enumerate().map(candidate).collect();
    let start = registry.domain(domain).mirrors.start;
    let rank = |c: &Candidate| {
        let slot = c.mirror.0 - start;
        view.ranking().slots().iter().position(|s| u32::from(*s) == slot).unwrap_or(usize::MAX)
    };
    all.sort_by(|a, b| {
        let key = |c: &Candidate| (c.excluded, rank(c));
        key(a).cmp(&key(b)).then(a.rtt_ms.total_cmp(&b.rtt_ms)).then(a.mirror.cmp(&b.mirror))
    });
    all
}

/// The width of the tie band around a best round trip, in milliseconds.
pub fn tie_band_ms(policy: &Policy, best_rtt_ms: f32) -> f32 {
    policy.tie_band_ms.max(policy.tie_band_share * best_rtt_ms)
}

/// The mirrors to answer one client of one family with.
///
/// The all-down policy is asked only when no mirror is eligible in any family. A family that is
/// broken by itself is answered with no address, so that users who have both families come over the
/// other. Users who have only the broken family get no answer for as long as the other is healthy:
/// that is by design, because an address of the broken family would draw the others to it too.
#[inline]
pub fn choose(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    view: &View<'_>,
    family: Family,
) -> Choice {
    let chooser = Chooser { registry, live, domain, view, family };
    let policy = &registry.domain(domain).policy;
    let among = |basis| chooser.among(basis, |i| basis.admits(live.mirror(i), family));
    let eligible = chooser.among(Basis::Eligible, |i| live.is_eligible(i, family));
    if !eligible.addrs.is_empty() {
        return eligible;
    }
    if live.eligible(registry, domain) > 0 {
        return chooser.nothing();
    }
    match &policy.failover.all_down {
        AllDown::LastKnown => among(Basis::AllDownLastKnown),
        AllDown::All => among(Basis::AllDownAll),
        AllDown::Fallback(addrs) => {
            let of_family = addrs.iter().filter(|a| a.is_ipv4() == (family == Family::V4));
            let addrs: ArrayVec<IpAddr, MAX_ANSWERS> = of_family.copied().take(MAX_ANSWERS).collect();
            let basis = if addrs.is_empty() { Basis::Empty } else { Basis::AllDownFallback };
            Choice { addrs, basis, ..chooser.nothing() }
        }
        AllDown::NoAnswer => chooser.nothing(),
    }
}

/// Whether one weight is less than twice the other.
fn alike(a: f64, b: f64) -> bool {
    a < 2.0 * b && b < 2.0 * a
}

/// One choice in the making.
struct Chooser<'a, 'm> {
    registry: &'a Registry,
    live: &'a Live,
    domain: DomainIndex,
    view: &'a View<'m>,
    family: Family,
}

/// What of a ranking can be used.
struct Usable {
    /// Places of mirrors that are wanted and have an address, ascending.
    wanted: ArrayVec<u8, RANKED>,
    /// Those of them that do not shed this part.
    taking: ArrayVec<u8, RANKED>,
    /// Whether any of them sheds at all.
    loaded: bool,
}

impl Chooser<'_, '_> {
    fn policy(&self) -> &Policy {
        &self.registry.domain(self.domain).policy
    }

    /// The mirror of a slot. Slots are positions among the domain's mirrors.
    fn mirror(&self, slot: usize) -> MirrorIndex {
        MirrorIndex(self.registry.domain(self.domain).mirrors.start + slot as u32)
    }

    fn slot(&self, place: u8) -> usize {
        self.view.ranking().slots().get(usize::from(place)).map_or(usize::MAX, |s| usize::from(*s))
    }

    fn nothing(&self) -> Choice {
        Choice {
            mirrors: ArrayVec::new(),
            addrs: ArrayVec::new(),
            basis: Basis::Empty,
            how: How::First,
            part: self.view.whole(),
            // Rules may keep all mirrors from this client that others are given.
            for_everyone: !self.view.set().has_rules(),
        }
    }

    /// Whether a mirror can be used: it has an address and is wanted.
    fn usable(&self, slot: usize, wanted: &impl Fn(MirrorIndex) -> bool) -> bool {
        let i = self.mirror(slot);
        self.live.is_addressed(i, self.family) && wanted(i)
    }

    fn usable_of_ranking(&self, wanted: &impl Fn(MirrorIndex) -> bool) -> Usable {
        let mut usable = Usable { wanted: ArrayVec::new(), taking: ArrayVec::new(), loaded: false };
        // Hashed only if any mirror sheds, and once.
        let mut turn = None;
        for (slot, place) in self.view.ranking().slots().iter().zip(0..) {
            let slot = usize::from(*slot);
            if self.usable(slot, wanted) {
                let offer = self.live.offer(self.mirror(slot));
                usable.loaded |= offer.shed > 0;
                usable.wanted.push(place);
                if offer.shed == 0 || !offer.sheds(*turn.get_or_insert_with(|| self.view.spread().turn())) {
                    usable.taking.push(place);
                }
            }
        }
        usable
    }

    /// The best of the mirrors that are wanted.
    fn among(&self, basis: Basis, wanted: impl Fn(MirrorIndex) -> bool) -> Choice {
        let usable = self.usable_of_ranking(&wanted);
        let Some(first) = usable.taking.first().copied() else {
            return self.beyond(basis, &usable, &self.view.spread(), &wanted);
        };
        let end = first + self.view.ranking().ties(usize::from(first)) as u8;
        let spill = usable.wanted.first() != Some(&first);
        let mut equals: ArrayVec<u8, RANKED> = usable.taking.iter().copied().filter(|p| *p <= end).collect();
        let shares = self.policy().strategy == Strategy::Balanced && equals.len() > 1;
        // Whether anyone in the cell is shared out: what is wanted is the same for all of them.
        let in_parts = usable.loaded
            || self.policy().strategy == Strategy::Balanced && usable.wanted.len() > 1 && end > first;
        let part = if in_parts { self.view.spread() } else { self.view.whole() };
        let mut how = match (self.view.shared(), spill, shares) {
            (true, _, _) => How::SharedOut,
            (_, true, _) => How::Spilled,
            (_, _, true) => How::Spread,
            _ => How::First,
        };
        if shares {
            self.by_weight(&mut equals, part.hash());
        }
        if let Some(explored) = self.explored(&usable, &part) {
            how = How::Explored;
            equals.clear();
            equals.push(explored);
        }
        // Everyone comes to it first, and it takes everyone.
        let slot = self.slot(first);
        let takes_all = self.live.offer(self.mirror(slot)).shed == 0;
        let mut choice = self.answer(basis, how, part, &equals);
        choice.for_everyone = how == How::First && self.view.is_for_everyone(slot) && takes_all;
        choice
    }

    /// Orders equals by how much each claims the part, and leaves those of like weight to be answered
    /// together: resolvers shuffle addresses, which would give a light mirror as many users as a heavy one.
    fn by_weight(&self, equals: &mut ArrayVec<u8, RANKED>, hash: u64) {
        let mut scored: ArrayVec<(f64, u8, f64), RANKED> = ArrayVec::new();
        for place in equals.iter() {
            let slot = self.slot(*place);
            let i = self.mirror(slot);
            let weight = self.live.offer(i).weight(self.view.set().weight(slot));
            scored.push((score(hash, self.view.set().hash(slot), weight), *place, weight));
        }
        // Equal scores stay in the order of the ranking.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some(first) = scored.first().map(|s| s.2) else { return };
        equals.clear();
        equals.extend(scored.iter().filter(|s| alike(s.2, first)).map(|s| s.1));
    }

    /// The mirror to try out on this part, if it is this part's turn.
    fn explored(&self, usable: &Usable, part: &Part) -> Option<u8> {
        let place = self.view.ranking().explore()? as u8;
        let share = f64::from(self.policy().explore);
        let turn = || unit(mix(part.hash() ^ mix(self.live.window))) < share;
        (share > 0.0 && usable.taking.contains(&place) && part.is_small() && turn()).then_some(place)
    }

    /// A mirror that the ranking does not hold; when there is none with room, the first of the ranking.
    fn beyond(
        &self,
        basis: Basis,
        usable: &Usable,
        spread: &Part,
        wanted: &impl Fn(MirrorIndex) -> bool,
    ) -> Choice {
        let turn = spread.turn();
        let sheds = |slot: usize| self.live.offer(self.mirror(slot)).sheds(turn);
        let with_room = |slot: usize| self.usable(slot, wanted) && !sheds(slot);
        if let Some(slot) = self.view.beyond(with_room) {
            return self.one(basis, slot, self.view.alike());
        }
        if let Some(first) = usable.wanted.first() {
            return self.answer(basis, How::Spilled, self.view.alike(), &[*first]);
        }
        match self.view.beyond(|slot| self.usable(slot, wanted)) {
            Some(slot) => self.one(basis, slot, self.view.alike()),
            None => self.nothing(),
        }
    }

    fn one(&self, basis: Basis, slot: usize, part: Part) -> Choice {
        let mirror = self.mirror(slot);
        let mut choice = Choice { basis, how: How::Beyond, part, for_everyone: false, ..self.nothing() };
        choice.mirrors.push(Chosen { mirror, rank: RANKED as u8, band_end: RANKED as u8 });
        choice.addrs.extend(self.live.mirror(mirror).addr(self.family));
        choice
    }

    fn answer(&self, basis: Basis, how: How, part: Part, places: &[u8]) -> Choice {
        let (mirrors, addrs) = (ArrayVec::new(), ArrayVec::new());
        let mut choice = Choice { mirrors, addrs, basis, how, part, for_everyone: false };
        let most = usize::from(self.policy().answers).clamp(1, MAX_ANSWERS);
        for place in places.iter().take(most) {
            let mirror = self.mirror(self.slot(*place));
            let Some(addr) = self.live.mirror(mirror).addr(self.family) else { continue };
            let band_end = *place + self.view.ranking().ties(usize::from(*place)) as u8;
            choice.mirrors.push(Chosen { mirror, rank: *place, band_end });
            choice.addrs.push(addr);
        }
        choice
    }
}

#[cfg(test)]
#[path = "ranking_tests.rs"]
mod tests;
