//! The snapshot as a client sees it: pure.

use crate::reports::measure::names_to_measure;
use nearmost_core::health::Family;
use nearmost_core::ranking::{self, Candidate};
use nearmost_core::registry::DomainIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::client::{MAX_MIRRORS, Mirror, Resolved};
use std::net::IpAddr;

/// The mirrors of a domain for a client.
pub fn resolved(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Resolved {
    let located = snapshot.map.locate(client);
    let measure = names_to_measure(snapshot, domain, client);
    let ranked = ranking::rank(&snapshot.registry, domain, &located);
    let mut mirrors: Vec<Mirror> = ranked.iter().map(|c| mirror(snapshot, c)).collect();
    // Stable, so in ranking order within each part.
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

fn mirror(snapshot: &Snapshot, candidate: &Candidate) -> Mirror {
    let registered = snapshot.registry.mirror(candidate.mirror);
    let live = snapshot.live.mirror(candidate.mirror);
    Mirror {
        name: registered.name.to_string(),
        addresses: Family::ALL.into_iter().filter_map(|f| live.addr(f)).collect(),
        port: registered.port,
        rtt_ms: candidate.rtt_ms,
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
        let seen = resolved(&snapshot, domain, "198.51.100.1".parse().unwrap());
        let names: Vec<&str> = seen.mirrors.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["nyc", "sao", "sin", "syd", "lon"]);
        assert_eq!((seen.measure, seen.ttl_s), (names[..4].iter().map(|n| (*n).to_owned()).collect(), 20));
        let nyc = &seen.mirrors[0];
        assert_eq!((nyc.port, nyc.eligible, nyc.addresses[0].to_string()), (8080, true, "192.0.2.2".into()));
        assert!(nyc.rtt_ms > 50.0 && !seen.mirrors[4].eligible);
    }
}
