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
    /// What it fails together with.
    pub fate: Fate,
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
    /// Changes with everything that [`Conditions::of`] looks at; cheap, and looked at for every snapshot.
    pub fn stamp(snapshot: &Snapshot, domain: DomainIndex) -> u64 {
        let mut stamp = DefaultHasher::new();
        snapshot.registry.version.hash(&mut stamp);
        for (index, _) in snapshot.registry.mirrors_of(domain) {
            let live = snapshot.live.mirror(index);
            let states = live.verdicts.map(|verdict| (verdict.state, verdict.reason));
            (live.v4, live.v6, states, live.paused, live.last_known).hash(&mut stamp);
        }
        // 0 is of a domain that is not there.
        stamp.finish() | 1
    }

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
            mirrors.insert(
                mirror.name.clone(),
                Condition { standing, at: reach(live, port), fate: fate(mirror, live) },
            );
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
            fate: condition.fate,
            standing: condition.standing,
            grant: None,
        })
    };
    let mut entries: Vec<Entry> = ranked.into_iter().filter_map(entry).collect();
    entries.sort_by_key(|e| (e.tier, e.rtt_us));
    chosen(entries)
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
fn fate(mirror: &Mirror, live: &LiveMirror) -> Fate {
    let site = match (live.v4, live.v6) {
        (Some(v4), _) => mix(u64::from(u32::from(v4) >> 8) | 1 << 32),
        (None, Some(v6)) => mix((u128::from(v6) >> 80) as u64),
        (None, None) => 0,
    };
    let region = mirror.place.country.map_or(0, |country| {
        country.as_str().bytes().fold(0, |number, letter| number << 8 | u32::from(letter))
    });
    Fate { site, asn: mirror.place.asn.unwrap_or(0), region }
}

fn attachable(standing: Standing) -> bool {
    matches!(standing, Standing::Eligible | Standing::Endangered)
}

/// Of many mirrors the best that fit, among them enough that can be attached, and some of another region: a
/// list has to serve for a day, in which a whole region may fail.
fn chosen(mut entries: Vec<Entry>) -> Vec<Entry> {
    if entries.len() <= MOST_MIRRORS {
        return entries;
    }
    let rest = entries.split_off(MOST_MIRRORS - SPARE);
    let region = entries.first().map(|e| e.fate.region);
    let usable = entries.iter().filter(|e| attachable(e.standing)).count();
    let elsewhere =
        entries.iter().filter(|e| attachable(e.standing) && Some(e.fate.region) != region).count();
    let mut wanted = [LEAST.saturating_sub(usable), ELSEWHERE.saturating_sub(elsewhere)];
    let mut kept = Vec::with_capacity(rest.len());
    for entry in rest {
        let other = Some(entry.fate.region) != region;
        let takes = attachable(entry.standing) && (wanted[0] > 0 || other && wanted[1] > 0);
        if takes && entries.len() < MOST_MIRRORS {
            wanted[0] = wanted[0].saturating_sub(1);
            wanted[1] = wanted[1].saturating_sub(usize::from(other));
            entries.push(entry);
        } else {
            kept.push(entry);
        }
    }
    let room = MOST_MIRRORS - entries.len();
    entries.extend(kept.into_iter().take(room));
    entries.sort_by_key(|e| (e.tier, e.rtt_us));
    entries
}

/// Places of a long list for those that can be attached …
const SPARE: usize = 24;
/// … of which there are to be so many …
const LEAST: usize = 16;
/// … and so many in another region than the best mirror.
const ELSEWHERE: usize = 4;

/// Whether a domain may have more that can be attached than a list has, which has few.
pub fn is_thin(entries: &[Entry], conditions: &Conditions) -> bool {
    conditions.mirrors.len() > entries.len()
        && entries.iter().filter(|e| attachable(e.standing)).count() < LEAST
}

/// Takes conditions over into entries.
pub fn refresh(entries: &mut [Entry], conditions: &Conditions) {
    for entry in entries {
        if let Some(condition) = conditions.mirrors.get(entry.name.as_str()) {
            (entry.standing, entry.at, entry.fate) = (condition.standing, condition.at, condition.fate);
        }
    }
}

/// What conditions would do to a list.
pub fn compare(entries: &[Entry], conditions: &Conditions) -> Compared {
    let mut compared = Compared::default();
    let mut nearer = 0;
    for entry in entries {
        if let Some(condition) = conditions.mirrors.get(entry.name.as_str()) {
            let Condition { standing, at, fate } = *condition;
            compared.different |= (entry.standing, entry.at, entry.fate) != (standing, at, fate);
            let worse = rank(standing) > rank(entry.standing);
            compared.endangered |= attachable(entry.standing) && nearer < NEAREST && worse;
        }
        nearer += usize::from(attachable(entry.standing));
    }
    compared
}

/// Clients are attached to one of so many, and keep another of them warm: those that they probe first.
const NEAREST: usize = 5;

fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Eligible => 0,
        Standing::Endangered => 1,
        Standing::Draining => 2,
        Standing::Down => 3,
    }
}

/// What conditions would do to a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// It would not be what it is.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32, standing: Standing, region: u32) -> Entry {
        let at = Reach { v4: Some([192, 0, 2, 1].into()), v6: None, port: 1 };
        let fate = Fate { site: 0, asn: 0, region };
        let (name, node, rtt_us) = (format!("m{n}"), [1; 32], n);
        Entry { name, node, at, rtt_us, weight: 1, tier: 0, fate, standing, grant: None }
    }

    #[test]
    fn a_long_list_has_some_that_live_and_some_that_are_elsewhere() {
        let standing = |n| if n < 90 { Standing::Down } else { Standing::Eligible };
        let all: Vec<Entry> = (0..200).map(|n| entry(n, standing(n), 1 + n / 150)).collect();
        let chosen = super::chosen(all);
        assert_eq!(chosen.len(), MOST_MIRRORS);
        assert!(chosen.is_sorted_by_key(|e| e.rtt_us));
        let usable = chosen.iter().filter(|e| attachable(e.standing));
        assert!(
            usable.clone().count() >= LEAST
                && usable.clone().filter(|e| e.fate.region == 2).count() == ELSEWHERE
        );
        let worse = |n: u32| {
            let condition = |e: &Entry| Condition { standing: e.standing, at: e.at, fate: e.fate };
            let mut mirrors: HashMap<Arc<str>, Condition> = (0..9)
                .map(|n| entry(n, Standing::Eligible, 1))
                .map(|e| (e.name.as_str().into(), condition(&e)))
                .collect();
            mirrors.entry(format!("m{n}").into()).and_modify(|c| c.standing = Standing::Down);
            let entries: Vec<Entry> = (0..9).map(|n| entry(n, Standing::Eligible, 1)).collect();
            let compared = compare(&entries, &Conditions { shape: 0, mirrors });
            (compared.different, compared.endangered)
        };
        assert_eq!([worse(0), worse(4), worse(5)], [(true, true), (true, true), (true, false)]);
        let short: Vec<Entry> = (0..9).map(|n| entry(n, Standing::Down, 1)).collect();
        assert_eq!(super::chosen(short.clone()), short);
        let well: Vec<Entry> = (0..200).map(|n| entry(n, Standing::Eligible, 1)).collect();
        assert_eq!(super::chosen(well.clone()), well[..MOST_MIRRORS]);
    }
}
