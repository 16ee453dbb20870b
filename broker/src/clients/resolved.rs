//! The snapshot as a client sees it: pure.

use crate::reports::measure::{measure_first, names};
use nearmost_core::health::Family;
use nearmost_core::map::View;
use nearmost_core::ranking::{self, Candidate};
use nearmost_core::registry::{DomainIndex, MirrorIndex};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::client::{MAX_MIRRORS, Mirror, Resolved};
use std::net::IpAddr;

/// The mirrors of a domain for a client; what rules keep from it is not there for it.
pub fn resolved(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Resolved {
    let measure = names(snapshot, &measure_first(snapshot, domain, client));
    let ranked = match snapshot.map.view(domain, client) {
        Some(view) => in_order(snapshot, domain, client, &view),
        None => Vec::new(),
    };
    let mut mirrors: Vec<Mirror> =
        ranked.into_iter().map(|(m, rtt_ms)| mirror(snapshot, m, rtt_ms)).collect();
    // Stable, so in that order within each part.
    mirrors.sort_by_key(|m| !m.eligible);
    let mut at = 0;
    mirrors.retain(|m| {
        at += 1;
        at <= MAX_MIRRORS || measure.contains(&m.name)
    });
    let domain = snapshot.registry.domain(domain);
    Resolved {
        domain: domain.name.to_string(),
        observed: client,
        ttl_s: u32::try_from(domain.policy.ttl.as_secs()).unwrap_or(u32::MAX),
        mirrors,
        measure,
    }
}

/// Mirrors and predicted round trips: those that DNS answers first, then the others by rank.
fn in_order(
    snapshot: &Snapshot,
    domain: DomainIndex,
    client: IpAddr,
    view: &View<'_>,
) -> Vec<(MirrorIndex, f32)> {
    let (registry, live) = (&snapshot.registry, &snapshot.live);
    let family = if client.is_ipv4() { Family::V4 } else { Family::V6 };
    let choice = ranking::choose(registry, live, domain, view, family);
    let answered = |c: &Candidate| choice.mirrors.iter().position(|m| m.mirror == c.mirror);
    let mut ranked = ranking::rank(registry, domain, view);
    ranked.retain(|c| !c.excluded);
    ranked.sort_by_key(|c| answered(c).unwrap_or(usize::MAX));
    ranked.into_iter().map(|c| (c.mirror, c.rtt_ms)).collect()
}

/// Mirrors that a client is to measure, with all that it needs for that.
pub fn to_measure(
    snapshot: &Snapshot,
    domain: DomainIndex,
    client: IpAddr,
    mirrors: &[MirrorIndex],
) -> Vec<Mirror> {
    let Some(view) = snapshot.map.view(domain, client) else { return Vec::new() };
    let start = snapshot.registry.domain(domain).mirrors.start;
    let predicted = |m: MirrorIndex| {
        let site = view.set().site((m.0 - start) as usize);
        site.map_or(f32::MAX, |s| view.client().ms(s))
    };
    mirrors.iter().map(|m| mirror(snapshot, *m, predicted(*m))).collect()
}

fn mirror(snapshot: &Snapshot, index: MirrorIndex, rtt_ms: f32) -> Mirror {
    let registered = snapshot.registry.mirror(index);
    let live = snapshot.live.mirror(index);
    Mirror {
        name: registered.name.to_string(),
        addresses: Family::ALL.into_iter().filter_map(|f| live.addr(f)).collect(),
        port: registered.port,
        rtt_ms,
        eligible: live.eligible_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::health::State;

    #[test]
    fn eligible_mirrors_come_first_and_nearest_first() {
        let mut fixture = Fixture::five_mirrors();
        fixture.set_state("lon", State::Down);
        let snapshot = fixture.snapshot();
        let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
        let client = "198.51.100.1".parse().unwrap();
        let seen = resolved(&snapshot, domain, client);
        let names: Vec<&str> = seen.mirrors.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["nyc", "sao", "sin", "syd", "lon"]);
        assert_eq!((seen.measure, seen.ttl_s), (names[..3].iter().map(|n| (*n).to_owned()).collect(), 20));
        let nyc = &seen.mirrors[0];
        assert_eq!((nyc.port, nyc.eligible, nyc.addresses[0].to_string()), (8080, true, "192.0.2.2".into()));
        assert!(nyc.rtt_ms > 50.0 && !seen.mirrors[4].eligible);
        assert_eq!(to_measure(&snapshot, domain, client, &[MirrorIndex(1)]), std::slice::from_ref(nyc));
    }
}
