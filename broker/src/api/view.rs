//! The snapshot as the API shows it: pure functions, `now` handed in.

use super::reasons;
use super::target::{base_url, family_of};
use crate::driver::AllEvidence;
use nearmost_core::fleet::Evidence;
use nearmost_core::geo::table::{Located, PlaceTable};
use nearmost_core::geo::{Place, PlaceSource, countries};
use nearmost_core::health::{Family, Reason};
use nearmost_core::id::NodeId;
use nearmost_core::live::LiveMirror;
use nearmost_core::map::View;
use nearmost_core::ranking::{self, Basis, Candidate, Choice, Chosen, How};
use nearmost_core::registry::{DomainIndex, HealthMode, MirrorIndex, Node, Policy};
use nearmost_core::rtt::Prediction;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::{
    FleetMirror, FleetNode, FleetResponse, GeoResponse, PlaceView, RankedMirror, ResolveResponse, VerdictView,
};
use nearmost_wire::identity::Id;
use std::net::IpAddr;
use std::time::Duration;

/// All mirrors of a domain as seen from one client, and what a DNS answer of now holds.
pub(super) struct Ranking<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) domain: DomainIndex,
    pub(super) client: IpAddr,
    pub(super) located: Located,
    pub(super) view: View<'a>,
    /// In the order of the client's list, then the others.
    pub(super) all: Vec<Candidate>,
    /// By [`Family::index`].
    pub(super) choices: [Choice; 2],
    pub(super) now: UnixMillis,
}

impl<'a> Ranking<'a> {
    /// `None` for a domain that the map does not know yet.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        domain: DomainIndex,
        client: IpAddr,
        now: UnixMillis,
    ) -> Option<Ranking<'a>> {
        let client = client.to_canonical();
        let located = snapshot.map.locate(client);
        let (registry, live) = (&snapshot.registry, &snapshot.live);
        let view = snapshot.map.view(domain, client)?;
        let all = ranking::rank(registry, domain, &view);
        let choices = Family::ALL.map(|f| ranking::choose(registry, live, domain, &view, f));
        Some(Ranking { snapshot, domain, client, located, view, all, choices, now })
    }

    pub(super) fn policy(&self) -> &'a Policy {
        &self.snapshot.registry.domain(self.domain).policy
    }

    /// Families in which a mirror has an address.
    pub(super) fn families(&self, mirror: MirrorIndex) -> Vec<Family> {
        let live = self.snapshot.live.mirror(mirror);
        Family::ALL.into_iter().filter(|f| live.addr(*f).is_some()).collect()
    }

    /// A mirror's position among the domain's.
    pub(super) fn slot(&self, mirror: MirrorIndex) -> usize {
        (mirror.0 - self.snapshot.registry.domain(self.domain).mirrors.start) as usize
    }

    /// A mirror's place in the client's list, if it is on it.
    pub(super) fn place_on_list(&self, mirror: MirrorIndex) -> Option<usize> {
        let slot = self.slot(mirror);
        self.view.ranking().slots().iter().position(|s| usize::from(*s) == slot)
    }

    /// How a mirror's round trip is predicted.
    pub(super) fn prediction(&self, mirror: MirrorIndex) -> Option<Prediction> {
        Some(self.view.client().predict(self.view.set().site(self.slot(mirror))?))
    }

    /// The mirror of a family that others are compared with: the nearest that can be used, or, where
    /// that one was passed over, the one that is answered.
    pub(super) fn best(&self, family: Family) -> Option<&Candidate> {
        let choice = &self.choices[family.index()];
        let first = choice.mirrors.first()?.mirror;
        let compared = matches!(choice.how, How::First | How::Spread) && choice.basis == Basis::Eligible;
        let live = &self.snapshot.live;
        self.all.iter().find(|c| match compared {
            true => live.mirror(c.mirror).eligible(family) && !c.excluded,
            false => c.mirror == first,
        })
    }

    fn chosen(&self, mirror: MirrorIndex) -> bool {
        self.choices.iter().any(|c| c.mirrors.iter().any(|m| m.mirror == mirror))
    }

    pub(super) fn mirror(&self, at: usize) -> RankedMirror {
        let candidate = self.all[at];
        let mirror = self.snapshot.registry.mirror(candidate.mirror);
        let live = self.snapshot.live.mirror(candidate.mirror);
        let base = base_url(mirror, live, family_of(self.client));
        RankedMirror {
            mirror: mirror.name.to_string(),
            node: node_name(self.snapshot, candidate.mirror),
            addresses: Family::ALL.into_iter().filter_map(|f| live.addr(f)).map(|a| a.to_string()).collect(),
            port: mirror.port,
            url: base.map(|b| format!("{b}/")).unwrap_or_default(),
            rtt_ms: candidate.rtt_ms,
            distance_km: candidate.distance_km,
            eligible: live.eligible_any(),
            chosen: self.chosen(candidate.mirror),
            verdicts: verdicts(live, self.now),
            reasons: reasons::sentences(self, at),
        }
    }

    /// `GET /v1/resolve/{domain}`, without what depends on more than the snapshot: the mirrors that are
    /// answered first, as DNS has them, then the others that can be used. What rules keep from the
    /// client is not there for it.
    pub(super) fn resolve(&self) -> ResolveResponse {
        let kept: Vec<usize> = (0..self.all.len()).filter(|at| !self.all[*at].excluded).collect();
        let mut mirrors: Vec<RankedMirror> = kept.into_iter().map(|at| self.mirror(at)).collect();
        let own = &self.choices[family_of(self.client).index()];
        let answered = |m: &RankedMirror| {
            let name = |c: &Chosen| *self.snapshot.registry.mirror(c.mirror).name == *m.mirror;
            own.mirrors.iter().position(name).unwrap_or(usize::MAX)
        };
        // Stable, so in ranking order within each part.
        mirrors.sort_by_cached_key(|m| (!m.eligible, answered(m)));
        ResolveResponse {
            domain: self.snapshot.registry.domain(self.domain).name.to_string(),
            client: self.client,
            version: self.snapshot.registry.version,
            ttl_s: seconds(self.policy().ttl),
            mirrors,
            session: String::new(),
            measure: Vec::new(),
        }
    }
}

/// A duration in whole seconds.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A place with its source's name.
pub(super) fn place(place: &Place, source: PlaceSource, table: &PlaceTable) -> PlaceView {
    // Four decimals are eleven metres, less than a unit vector of f32 resolves.
    let round = |degrees: f64| (degrees * 1e4).round() / 1e4;
    let degrees = place.position.map(|p| p.degrees());
    PlaceView {
        latitude: degrees.map(|(lat, _)| round(lat)),
        longitude: degrees.map(|(_, lon)| round(lon)),
        country: place.country.map(|c| c.to_string()),
        country_name: place.country.and_then(countries::find).map(|c| c.name.to_string()),
        asn: place.asn,
        source: table.source_name(source).into(),
    }
}

/// `GET /v1/geo/{ip}`.
pub(super) fn geo(snapshot: &Snapshot, address: IpAddr) -> GeoResponse {
    let address = address.to_canonical();
    let located = snapshot.map.locate(address);
    GeoResponse {
        address,
        place: place(&located.place, located.source, &snapshot.map.places),
        cell: located.cell.to_string(),
    }
}

/// Verdicts of the families that the mirror has an address in, or that something was heard of; of
/// both when that is none.
fn verdicts(live: &LiveMirror, now: UnixMillis) -> Vec<VerdictView> {
    let known = |f: &Family| {
        live.addr(*f).is_some()
            || !matches!(live.verdict(*f).reason, Reason::NothingHeard | Reason::NoAddress)
    };
    let mut families: Vec<Family> = Family::ALL.into_iter().filter(known).collect();
    if families.is_empty() {
        families.extend(Family::ALL);
    }
    families.into_iter().map(|f| verdict(live, f, now)).collect()
}

fn verdict(live: &LiveMirror, family: Family, now: UnixMillis) -> VerdictView {
    let verdict = live.verdict(family);
    VerdictView {
        family: family.as_str().into(),
        address: live.addr(family).map(|a| a.to_string()),
        state: verdict.state.as_str().into(),
        eligible: live.eligible(family),
        reason: verdict.reason.code().into(),
        vantage: verdict.vantage.as_str().into(),
        since_unix_ms: verdict.since.0,
        age_ms: now.0.saturating_sub(verdict.since.0),
        stale: verdict.stale,
        evidence: None,
    }
}

fn node_name(snapshot: &Snapshot, mirror: MirrorIndex) -> Option<String> {
    let node = snapshot.registry.mirror(mirror).node?;
    snapshot.registry.nodes.get(node.0 as usize).map(|n| n.name.to_string())
}

/// `GET /v1/fleet`.
pub(super) fn fleet(
    broker: &Id,
    snapshot: &Snapshot,
    connected: impl Fn(&NodeId) -> bool,
    evidence: &AllEvidence,
    now: UnixMillis,
) -> FleetResponse {
    let registry = &snapshot.registry;
    // Of another registry's mirrors the numbers would be wrong.
    let known = evidence.mirrors.as_slice();
    let known = if evidence.registry == registry.version { known } else { &[] };
    let node = |n: &Node| FleetNode {
        name: n.name.to_string(),
        id: n.id.map(|id| id.to_string()),
        connected: n.id.as_ref().is_some_and(&connected),
        revoked: n.revoked,
        drained: n.drained || n.windows.iter().any(|w| w.from <= now && now < w.until),
        domains: n.domains.iter().map(|d| d.to_string()).collect(),
    };
    FleetResponse {
        broker: broker.to_string(),
        version: registry.version,
        doubts_itself: evidence.doubts_itself,
        domains: registry.domains.iter().map(|d| d.name.to_string()).collect(),
        nodes: registry.nodes.iter().map(node).collect(),
        mirrors: (0..)
            .zip(&registry.mirrors)
            .map(|(i, _)| fleet_mirror(snapshot, MirrorIndex(i), known.get(i as usize), now))
            .collect(),
    }
}

fn fleet_mirror(
    snapshot: &Snapshot,
    at: MirrorIndex,
    known: Option<&[Option<Evidence>; 2]>,
    now: UnixMillis,
) -> FleetMirror {
    let evidence = |family: &str| {
        let family = Family::ALL.into_iter().find(|f| f.as_str() == family)?;
        Some(super::fleet::view(known?[family.index()].as_ref()?, &snapshot.registry, now))
    };
    let shown = |v: VerdictView| VerdictView { evidence: evidence(&v.family), ..v };
    let mirror = snapshot.registry.mirror(at);
    let live = snapshot.live.mirror(at);
    FleetMirror {
        domain: snapshot.registry.domain(mirror.domain).name.to_string(),
        mirror: mirror.name.to_string(),
        node: node_name(snapshot, at),
        health: match mirror.health {
            HealthMode::Agent => "agent",
            HealthMode::Probe => "probe",
            HealthMode::Manual { .. } => "manual",
        }
        .into(),
        port: mirror.port,
        weight: mirror.weight,
        place: place(&mirror.place, mirror.place_source, &snapshot.map.places),
        verdicts: verdicts(live, now).into_iter().map(shown).collect(),
        cpu: live.load.cpu,
        memory: live.load.memory,
        connections: live.load.connections,
        capacity: live.load.capacity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::health::State;
    use nearmost_core::registry::{Rule, RuleEffect, Who};
    use nearmost_wire::identity::{KeyPair, Role};

    fn names(mirrors: &[RankedMirror]) -> Vec<&str> {
        mirrors.iter().map(|m| m.mirror.as_str()).collect()
    }

    fn ranking<'a>(snapshot: &'a Snapshot, client: &str, fixture: &Fixture) -> Ranking<'a> {
        let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
        Ranking::new(snapshot, domain, client.parse().unwrap(), fixture.now()).unwrap()
    }

    #[test]
    fn resolve_puts_eligible_mirrors_first() {
        let mut fixture = Fixture::five_mirrors();
        fixture.set_state("lon", State::Down);
        let snapshot = fixture.snapshot();
        let seen = ranking(&snapshot, "198.51.100.1", &fixture);
        let resolved = seen.resolve();
        assert_eq!(names(&resolved.mirrors), ["nyc", "sao", "sin", "syd", "lon"]);
        assert_eq!((resolved.ttl_s, resolved.version), (20, fixture.version()));
    }

    #[test]
    fn resolve_begins_as_dns_answers_and_leaves_out_whom_rules_exclude() {
        let mut fixture = Fixture::five_mirrors();
        let london = fixture.place_of("lon");
        fixture.mirror("nyc", |m| m.place = london);
        let rule = |who: &str| Rule {
            who: Who::Prefix(who.parse().unwrap()),
            effect: RuleEffect::Exclude,
            mirrors: vec!["syd".into()],
        };
        fixture.policy(|p| (p.answers, p.rules) = (1, vec![rule("198.51.100.0/24")]));
        let snapshot = fixture.snapshot();
        let seen = ranking(&snapshot, "198.51.100.1", &fixture);
        let first = snapshot.registry.mirror(seen.choices[0].mirrors[0].mirror).name.to_string();
        let resolved = seen.resolve();
        assert_eq!((&resolved.mirrors[0].mirror, resolved.mirrors.len()), (&first, 4));
        assert!(!names(&resolved.mirrors).contains(&"syd"));
    }

    #[test]
    fn clients_of_unknown_place_find_their_own_mirror_first() {
        let mut fixture = Fixture::five_mirrors();
        fixture.set_state("lon", State::Down);
        let snapshot = fixture.snapshot();
        let mut firsts = std::collections::BTreeSet::new();
        for network in 0..64 {
            let resolved = ranking(&snapshot, &format!("10.0.{network}.9"), &fixture).resolve();
            let chosen: Vec<_> = resolved.mirrors.iter().filter(|m| m.chosen).collect();
            assert_eq!((chosen.len(), &chosen[0].mirror), (1, &resolved.mirrors[0].mirror));
            firsts.insert(resolved.mirrors[0].mirror.clone());
        }
        assert_eq!(firsts.into_iter().collect::<Vec<_>>(), ["nyc", "sao", "sin", "syd"]);
    }

    #[test]
    fn verdicts_have_their_age_and_mapped_clients_are_ipv4() {
        let fixture = Fixture::five_mirrors();
        let snapshot = fixture.snapshot();
        let resolved = ranking(&snapshot, "::ffff:198.51.100.1", &fixture).resolve();
        assert_eq!(resolved.client.to_string(), "198.51.100.1");
        let verdicts = &resolved.mirrors[0].verdicts;
        assert_eq!((verdicts.len(), verdicts[0].age_ms), (1, 3000));
        assert_eq!(resolved.mirrors[0].url, "http://192.0.2.1:8080/");
    }

    #[test]
    fn the_fleet_tells_who_is_connected() {
        let fixture = Fixture::five_mirrors();
        let snapshot = fixture.snapshot();
        let broker = KeyPair::from_seed(Role::Broker, &[1; 32]).id();
        let first = snapshot.registry.nodes[0].id.unwrap();
        let fleet = fleet(&broker, &snapshot, |id| *id == first, &AllEvidence::default(), fixture.now());
        assert_eq!((fleet.nodes.len(), fleet.mirrors.len()), (5, 5));
        assert_eq!(fleet.nodes.iter().filter(|n| n.connected).count(), 1);
        assert_eq!(
            (fleet.mirrors[0].node.as_deref(), &*fleet.mirrors[0].health),
            (Some("lon-node"), "agent")
        );
        assert_eq!(fleet.mirrors[0].place.source, "given");
    }

    #[test]
    fn geo_tells_place_source_and_cell() {
        let fixture = Fixture::five_mirrors();
        let known = geo(&fixture.snapshot(), "203.0.113.9".parse().unwrap());
        assert_eq!((known.place.country.as_deref(), &*known.cell), (Some("US"), "203.0.113.0/24"));
        let unknown = geo(&fixture.snapshot(), "2001:db8::1".parse().unwrap());
        assert_eq!((unknown.place.source.as_str(), unknown.place.latitude), ("unknown", None));
    }
}
