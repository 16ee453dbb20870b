//! Which mirrors a client should measure.

use nearmost_core::ranking;
use nearmost_core::registry::{DomainIndex, MirrorIndex};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::client::MAX_MEASURED;
use std::net::IpAddr;

/// The mirrors whose round trips from a client are worth knowing: the first eligible ones of its
/// ranking, which are those that it may be sent to. At most [`MAX_MEASURED`].
pub fn measure_next(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Vec<MirrorIndex> {
    let located = snapshot.map.locate(client);
    let ranked = ranking::rank(&snapshot.registry, domain, &located);
    let eligible = ranked.iter().map(|c| c.mirror).filter(|m| snapshot.live.mirror(*m).eligible_any());
    eligible.take(MAX_MEASURED).collect()
}

/// The same by name.
pub fn names_to_measure(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Vec<String> {
    let name = |m: MirrorIndex| snapshot.registry.mirror(m).name.to_string();
    measure_next(snapshot, domain, client).into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::health::State;

    #[test]
    fn the_first_eligible_ones_are_measured() {
        let mut fixture = Fixture::five_mirrors();
        let names = |fixture: &Fixture| {
            let snapshot = fixture.snapshot();
            let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
            names_to_measure(&snapshot, domain, "198.51.100.1".parse().unwrap())
        };
        assert_eq!(names(&fixture), ["lon", "nyc", "sao", "sin", "syd"]);
        fixture.set_state("lon", State::Down);
        fixture.set_state("sin", State::Draining);
        assert_eq!(names(&fixture), ["nyc", "sao", "syd"]);
    }
}
