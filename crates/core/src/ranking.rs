//! Which mirrors are near a client, and which of them are answered.
//!
//! * [`rank`] orders all mirrors of a domain by predicted round trip, whatever their health: it
//!   depends on the client's cell and the registry only.
//! * [`choose`] is the query path: the nearest *eligible* mirrors of one family within the tie
//!   band, at most `policy.answers`, without allocating. It reads health when asked (DESIGN §3.3).
//!
//! Ties are broken by weight, then by index, so that every broker gives the same order.

use crate::geo::Place;
use crate::health::Family;
use crate::live::Live;
use crate::registry::{AllDown, DomainIndex, Mirror, MirrorIndex, Policy, Registry};
use crate::rtt;
use arrayvec::ArrayVec;
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
    /// As above: every mirror.
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

/// All mirrors of a domain, nearest first.
pub fn rank(registry: &Registry, domain: DomainIndex, client: &Place) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = registry.mirrors_of(domain).map(|(i, m)| candidate(i, m, client)).collect();
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
pub fn choose(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    client: &Place,
    family: Family,
) -> Choice {
    let policy = &registry.domain(domain).policy;
    let eligible = |i: MirrorIndex| live.mirror(i).eligible(family);
    let mut choice = nearest(registry, live, domain, client, family, eligible);
    choice.basis = Basis::Eligible;
    if !choice.addrs.is_empty() {
        return choice;
    }
    match &policy.all_down {
        AllDown::LastKnown => {
            let known = |i: MirrorIndex| live.mirror(i).last_known[family.index()];
            choice = nearest(registry, live, domain, client, family, known);
            choice.basis = Basis::AllDownLastKnown;
        }
        AllDown::All => {
            choice = nearest(registry, live, domain, client, family, |_| true);
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

/// The nearest mirrors that pass `wanted` and have an address, within the tie band.
fn nearest(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    client: &Place,
    family: Family,
    wanted: impl Fn(MirrorIndex) -> bool,
) -> Choice {
    let policy = &registry.domain(domain).policy;
    let most = usize::from(policy.answers).clamp(1, MAX_ANSWERS);
    let mut best: ArrayVec<Candidate, MAX_ANSWERS> = ArrayVec::new();
    for (i, mirror) in registry.mirrors_of(domain) {
        if live.mirror(i).addr(family).is_none() || !wanted(i) {
            continue;
        }
        let c = candidate(i, mirror, client);
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
