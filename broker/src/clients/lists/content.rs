//! What a client network is told of a domain: pure.

use nearmost_core::hash::mix;
use nearmost_core::health::{Family, State};
use nearmost_core::live::LiveMirror;
use nearmost_core::map::View;
use nearmost_core::ranking;
use nearmost_core::registry::{AllDown, DomainIndex, Mirror, Registry, Strategy};
use nearmost_core::session::list::MOST_MIRRORS;
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::list::{Entry, Fate, Reach, Standing};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// What may change of a mirror from one snapshot to the next without its being ranked anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether to go there.
    pub standing: Standing,
    /// Where.
    pub at: Reach,
}

/// A domain's mirrors that take sessions in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Changes when anything does that lists depend on besides conditions.
    pub shape: u64,
    /// By the mirror's name.
    pub mirrors: HashMap<Arc<str>, Condition>,
}

impl Conditions {
    /// Of a domain, as a snapshot has it.
    pub fn of(snapshot: &Snapshot, domain: DomainIndex) -> Conditions {
        let registry = &snapshot.registry;
        let mut shape = DefaultHasher::new();
        let policy = &registry.domain(domain).policy;
        // Policies have no hash of their own; they are small, and this is not the query path.
        format!("{:?}{:?}{:?}", policy.strategy, policy.rules, registry.domain(domain).trust)
            .hash(&mut shape);
        let mut mirrors = HashMap::new();
        for (index, mirror) in registry.mirrors_of(domain) {
            let Some((node, port)) = taken_in(registry, mirror) else { continue };
            let (asn, country) = (mirror.place.asn, mirror.place.country);
            let place = (
                mirror.place.position.map(|p| p.unit().map(f32::to_bits)),
                asn,
                country.map(|c| c.as_str().to_owned()),
            );
            (&mirror.name, node, mirror.weight, place).hash(&mut shape);
            let live = snapshot.live.mirror(index);
            let standing = standing(snapshot, domain, live);
            mirrors.insert(mirror.name.clone(), Condition { standing, at: reach(live, port) });
        }
        Conditions { shape: shape.finish(), mirrors }
    }
}

/// The node's key and the ingress port of a mirror that takes sessions in.
fn taken_in(registry: &Registry, mirror: &Mirror) -> Option<([u8; 32], u16)> {
    let node = &registry.nodes[mirror.node?.0 as usize];
    (!node.revoked).then_some((node.id?.0, mirror.ingress?))
}

/// Addresses of the families in which it is eligible, if it is in any.
fn reach(live: &LiveMirror, port: u16) -> Reach {
    let any = live.eligible_any();
    let shown = |family| !any || live.eligible(family);
    Reach { v4: live.v4.filter(|_| shown(Family::V4)), v6: live.v6.filter(|_| shown(Family::V6)), port }
}

fn standing(snapshot: &Snapshot, domain: DomainIndex, live: &LiveMirror) -> Standing {
    let addressed = Family::ALL.into_iter().filter(|f| live.addr(*f).is_some());
    let eligible: Vec<Family> = addressed.clone().filter(|f| live.eligible(*f)).collect();
    if !eligible.is_empty() {
        let well = |f: &Family| {
            let state = live.verdict(*f).state;
            matches!(state, State::Up | State::Warming) && !live.paused[f.index()]
        };
        return if eligible.iter().any(well) { Standing::Eligible } else { Standing::Endangered };
    }
    // As DNS answers when nobody is eligible.
    if snapshot.live.eligible(&snapshot.registry, domain) == 0 {
        let mut families = addressed.clone();
        let kept = match snapshot.registry.domain(domain).policy.failover.all_down {
            AllDown::LastKnown => families.any(|f| live.last_known[f.index()]),
            AllDown::All => families.any(|f| !live.verdict(f).withdrawn()),
            AllDown::Fallback(_) | AllDown::NoAnswer => false,
        };
        if kept {
            return Standing::Endangered;
        }
    }
    let mut families = addressed;
    match families.any(|f| live.verdict(f).state == State::Draining) {
        true => Standing::Draining,
        false => Standing::Down,
    }
}

/// The mirrors of a domain for a client, best first; what rules keep from it is not there for it.
pub fn entries(
    snapshot: &Snapshot,
    conditions: &Conditions,
    domain: DomainIndex,
    client: IpAddr,
) -> Vec<Entry> {
    let Some(view) = snapshot.map.view(domain, client) else { return Vec::new() };
    let registry = &snapshot.registry;
    let mut ranked = ranking::rank(registry, domain, &view);
    ranked.retain(|c| !c.excluded);
    let tiers = Tiers::of(registry, domain, &view);
    let start = registry.domain(domain).mirrors.start;
    let entry = |c: ranking::Candidate| {
        let mirror = registry.mirror(c.mirror);
        let (node, _) = taken_in(registry, mirror)?;
        let condition = conditions.mirrors.get(&mirror.name)?;
        Some(Entry {
            name: mirror.name.to_string(),
            node,
            at: condition.at,
            rtt_us: micros(c.rtt_ms),
            weight: mirror.weight,
            tier: tiers.tier(mirror, (c.mirror.0 - start) as usize),
            fate: fate(mirror, condition.at),
            standing: condition.standing,
            grant: None,
        })
    };
    let mut entries: Vec<Entry> = ranked.into_iter().filter_map(entry).collect();
    entries.sort_by_key(|e| (e.tier, e.rtt_us));
    entries.truncate(MOST_MIRRORS);
    entries
}

/// Who comes before whom, however near.
enum Tiers<'a> {
    None,
    Listed(&'a [Arc<str>]),
    Pinned(&'a View<'a>),
}

impl<'a> Tiers<'a> {
    fn of(registry: &'a Registry, domain: DomainIndex, view: &'a View<'a>) -> Tiers<'a> {
        let pinned = (0..registry.domain(domain).mirrors.len()).any(|slot| view.pins(slot));
        match &registry.domain(domain).policy.strategy {
            _ if pinned => Tiers::Pinned(view),
            Strategy::Failover(names) => Tiers::Listed(names),
            _ => Tiers::None,
        }
    }

    fn tier(&self, mirror: &Mirror, slot: usize) -> u8 {
        match self {
            Tiers::None => 0,
            Tiers::Pinned(view) => u8::from(!view.pins(slot)),
            Tiers::Listed(names) => {
                let at = names.iter().position(|n| *n == mirror.name).unwrap_or(names.len());
                u8::try_from(at).unwrap_or(u8::MAX)
            }
        }
    }
}

fn micros(ms: f32) -> u32 {
    // Saturates, and what is not a number is far.
    if ms.is_finite() { (f64::from(ms) * 1000.0).round() as u32 } else { u32::MAX }
}

/// Mirrors in one /24 or /48 are taken to stand in one place; the country is the region.
fn fate(mirror: &Mirror, at: Reach) -> Fate {
    let site = match (at.v4, at.v6) {
        (Some(v4), _) => mix(u64::from(u32::from(v4) >> 8) | 1 << 32),
        (None, Some(v6)) => mix((u128::from(v6) >> 80) as u64),
        (None, None) => 0,
    };
    let region = mirror.place.country.map_or(0, |country| {
        country.as_str().bytes().fold(0, |number, letter| number << 8 | u32::from(letter))
    });
    Fate { site, asn: mirror.place.asn.unwrap_or(0), region }
}

/// Takes conditions over into entries; whether anything is different, and whether the nearest of those
/// that could be attached became worse.
pub fn refresh(entries: &mut [Entry], conditions: &Conditions) -> Refreshed {
    let mut refreshed = Refreshed::default();
    let mut nearer = 0;
    for entry in entries {
        let attachable = |s| matches!(s, Standing::Eligible | Standing::Endangered);
        let was = entry.standing;
        if let Some(condition) = conditions.mirrors.get(entry.name.as_str()) {
            refreshed.different |= (entry.standing, entry.at) != (condition.standing, condition.at);
            refreshed.endangered |=
                attachable(was) && nearer < NEAREST && rank(condition.standing) > rank(was);
            (entry.standing, entry.at) = (condition.standing, condition.at);
        }
        nearer += usize::from(attachable(was));
    }
    refreshed
}

/// Clients are attached to one of so many, and keep another of them warm.
const NEAREST: usize = 2;

fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Eligible => 0,
        Standing::Endangered => 1,
        Standing::Draining => 2,
        Standing::Down => 3,
    }
}

/// What conditions did to a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// It is not what it was.
    pub different: bool,
    /// Its clients may be attached to what became worse.
    pub endangered: bool,
}

/// A list that was ranked anew, with the round trips of the old one where they are hardly different: what is
/// learnt moves all of them a little all the time.
pub fn settled(was: &[Entry], mut is: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut is {
        let Some(before) = was.iter().find(|e| e.name == entry.name) else { continue };
        if before.rtt_us.abs_diff(entry.rtt_us) <= (before.rtt_us / SETTLED).max(SETTLED_US) {
            entry.rtt_us = before.rtt_us;
        }
    }
    is.sort_by_key(|e| (e.tier, e.rtt_us));
    is
}

/// Hardly different is a tenth, or a millisecond.
const SETTLED: u32 = 10;
const SETTLED_US: u32 = 1000;
