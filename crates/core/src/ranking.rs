//! Which mirrors are near a client, and which of them are answered.
//!
//! * [`rank`] orders all mirrors of a domain, whatever their health: it depends on the client's
//!   cell and the registry only.
//! * [`choose`] is the query path: the nearest *eligible* mirrors of one family within the tie
//!   band, at most `policy.answers`, without allocating. It reads health when asked (DESIGN §3.3).
//!
//! Ties are broken by weight, then by index, so that every broker gives the same order.
//!
//! To a client of unknown position all mirrors are equally far, and weight alone would send all such
//! clients to one. They get one mirror each instead, by weighted rendezvous over their cell (Thaler
//! and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005): every broker chooses the
//! same, each mirror gets its weight's share of the cells, and a mirror that comes or goes moves its
//! own share only. [`rank`] orders by the same score, so the first eligible mirror of its order is the
//! one that [`choose`] takes.

use crate::geo::Place;
use crate::geo::table::Located;
use crate::health::Family;
use crate::live::Live;
use crate::registry::{AllDown, DomainIndex, Mirror, MirrorIndex, Policy, Registry};
use crate::rtt;
use arrayvec::ArrayVec;
use ipnet::IpNet;
use std::net::IpAddr;

/// Most mirrors that one answer can hold.
pub const MAX_ANSWERS: usize = 8;

/// One mirror as seen from one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which mirror.
    pub mirror: MirrorIndex,
    /// Predicted round trip in milliseconds.
    pub rtt_ms: f32,
    /// Great-circle distance in kilometres; `None` when either place is unknown.
    pub distance_km: Option<f32>,
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

/// The addresses to answer with, best first.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Mirrors chosen; empty for the fallback and for nothing.
    pub mirrors: ArrayVec<Candidate, MAX_ANSWERS>,
    /// Their addresses in the family, in the same order, or the fallback's.
    pub addrs: ArrayVec<IpAddr, MAX_ANSWERS>,
    /// Why these.
    pub basis: Basis,
}

/// Whom a choice is for.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// Where the client is.
    pub place: &'a Place,
    /// The cell around it; `None` stands for any. Decides where the position is unknown.
    pub cell: Option<IpNet>,
}

impl Viewer<'_> {
    /// What shares the client out: the hash of its cell; `None` where its position is known.
    fn share(&self) -> Option<u64> {
        match self.place.position {
            Some(_) => None,
            None => Some(self.cell.map_or(0, hash_of_cell)),
        }
    }
}

impl<'a> From<&'a Place> for Viewer<'a> {
    fn from(place: &'a Place) -> Self {
        Viewer { place, cell: None }
    }
}

impl<'a> From<&'a Located> for Viewer<'a> {
    fn from(located: &'a Located) -> Self {
        Viewer { place: &located.place, cell: Some(located.cell) }
    }
}

/// A mirror as seen from a place.
pub fn candidate(index: MirrorIndex, mirror: &Mirror, client: &Place) -> Candidate {
    let distance = match (mirror.place.position, client.position) {
        (Some(a), Some(b)) => Some(a.distance_km(b)),
        _ => None,
    };
    Candidate {
        mirror: index,
        rtt_ms: distance.map_or(rtt::UNKNOWN_MS, rtt::from_distance_ms) as f32,
        distance_km: distance.map(|d| d as f32),
    }
}

/// Whether `a` stands before `b`.
fn before(registry: &Registry, a: &Candidate, b: &Candidate) -> bool {
    let weight = |c: &Candidate| registry.mirror(c.mirror).weight;
    (a.rtt_ms, std::cmp::Reverse(weight(a)), a.mirror)
        .partial_cmp(&(b.rtt_ms, std::cmp::Reverse(weight(b)), b.mirror))
        .is_some_and(|o| o.is_lt())
}

/// All mirrors of a domain, nearest first; for a client of unknown position by its cell's scores.
pub fn rank<'v>(registry: &Registry, domain: DomainIndex, client: impl Into<Viewer<'v>>) -> Vec<Candidate> {
    let client = client.into();
    let seen = |(i, m): (MirrorIndex, &Mirror)| candidate(i, m, client.place);
    if let Some(cell) = client.share() {
        let scored = registry.mirrors_of(domain).map(|(i, m)| (score(cell, m), seen((i, m))));
        let mut scored: Vec<(f64, Candidate)> = scored.collect();
        // Stable, so equal scores stay in the order of their indexes.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        return scored.into_iter().map(|(_, c)| c).collect();
    }
    let mut all: Vec<Candidate> = registry.mirrors_of(domain).map(seen).collect();
    all.sort_by(
        |a, b| {
            if before(registry, a, b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
        },
    );
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
pub fn choose<'v>(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    client: impl Into<Viewer<'v>>,
    family: Family,
) -> Choice {
    let client = client.into();
    let policy = &registry.domain(domain).policy;
    let eligible = |i: MirrorIndex| live.mirror(i).eligible(family);
    let mut choice = nearest(registry, live, domain, client, family, eligible);
    choice.basis = Basis::Eligible;
    if !choice.addrs.is_empty() {
        return choice;
    }
    if registry.mirrors_of(domain).any(|(i, _)| live.mirror(i).eligible_any()) {
        choice.basis = Basis::Empty;
        return choice;
    }
    match &policy.all_down {
        AllDown::LastKnown => {
            let known = |i: MirrorIndex| live.mirror(i).last_known[family.index()];
            choice = nearest(registry, live, domain, client, family, known);
            choice.basis = Basis::AllDownLastKnown;
        }
        AllDown::All => {
            choice = nearest(registry, live, domain, client, family, |i| {
                !live.mirror(i).verdict(family).withdrawn()
            });
            choice.basis = Basis::AllDownAll;
        }
        AllDown::Fallback(addrs) => {
            let of_family = addrs.iter().filter(|a| a.is_ipv4() == (family == Family::V4));
            choice.addrs.extend(of_family.copied().take(MAX_ANSWERS));
            choice.basis = Basis::AllDownFallback;
        }
        AllDown::NoAnswer => {}
    }
    if choice.addrs.is_empty() {
        choice.basis = Basis::Empty;
    }
    choice
}

/// The mirrors that pass `wanted` and have an address: the nearest within the tie band, or the one of
/// a client of unknown position.
fn nearest(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    client: Viewer<'_>,
    family: Family,
    wanted: impl Fn(MirrorIndex) -> bool,
) -> Choice {
    if let Some(cell) = client.share() {
        return shared_out(registry, live, domain, (client.place, cell), family, wanted);
    }
    let policy = &registry.domain(domain).policy;
    let most = usize::from(policy.answers).clamp(1, MAX_ANSWERS);
    let mut best: ArrayVec<Candidate, MAX_ANSWERS> = ArrayVec::new();
    for (i, mirror) in registry.mirrors_of(domain) {
        if live.mirror(i).addr(family).is_none() || !wanted(i) {
            continue;
        }
        let c = candidate(i, mirror, client.place);
        let at = best.iter().position(|b| before(registry, &c, b)).unwrap_or(best.len());
        if at < most {
            best.truncate(most - usize::from(best.len() == most));
            best.insert(at, c);
        }
    }
    if let Some(first) = best.first().copied() {
        let limit = first.rtt_ms + tie_band_ms(policy, first.rtt_ms);
        best.retain(|c| c.rtt_ms <= limit);
    }
    let addrs = best.iter().filter_map(|c| live.mirror(c.mirror).addr(family)).collect();
    Choice { mirrors: best, addrs, basis: Basis::Empty }
}

/// The one mirror of a client whose position is unknown: weighted rendezvous over its cell.
fn shared_out(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    (place, cell): (&Place, u64),
    family: Family,
    wanted: impl Fn(MirrorIndex) -> bool,
) -> Choice {
    let mut choice = Choice { mirrors: ArrayVec::new(), addrs: ArrayVec::new(), basis: Basis::Empty };
    let mut best = f64::NEG_INFINITY;
    for (i, mirror) in registry.mirrors_of(domain) {
        let Some(addr) = live.mirror(i).addr(family).filter(|_| wanted(i)) else { continue };
        let score = score(cell, mirror);
        if score > best {
            best = score;
            choice.mirrors.clear();
            choice.addrs.clear();
            choice.mirrors.push(candidate(i, mirror, place));
            choice.addrs.push(addr);
        }
    }
    choice
}

/// How much a mirror claims a cell of unknown position: the greatest score has it. Positive and finite.
fn score(cell: u64, mirror: &Mirror) -> f64 {
    -f64::from(mirror.weight.max(1)) / unit(mix(cell ^ fnv1a(mirror.name.bytes()))).ln()
}

/// A hash as a number in the open interval (0, 1).
fn unit(hash: u64) -> f64 {
    // 52 bits and the half make 53, as many as a float holds: with one more the top would round to 1.
    ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

fn hash_of_cell(cell: IpNet) -> u64 {
    match cell {
        IpNet::V4(n) => fnv1a(n.network().octets().into_iter().chain([n.prefix_len()])),
        IpNet::V6(n) => fnv1a(n.network().octets().into_iter().chain([n.prefix_len()])),
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923).
fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): FNV alone leaves similar inputs similar.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
#[path = "ranking_tests.rs"]
mod tests;
