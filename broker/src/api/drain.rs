//! `GET /v1/drain-preview`: where the users of drained mirrors would go.
//!
//! Every place of the geo table's IPv4 space is answered twice, as things are and as they would be,
//! and weighed by its number of addresses. Addresses are not users; nothing better is known
//! without looking at traffic.

use super::Shared;
use super::error::{Problem, nearest};
use super::params::Params;
use axum::Json;
use axum::extract::State;
use http::Uri;
use nearmost_core::geo::{Place, Position};
use nearmost_core::health::{Family, State as Health};
use nearmost_core::live::Live;
use nearmost_core::ranking::{self, Basis, Candidate};
use nearmost_core::registry::{DomainIndex, MirrorIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::api::{DrainPreview, DrainRow, ErrorBody};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// With more distinct places than this, those within a degree of each other (111 km, 2 ms) are one.
const MAX_PLACES: usize = 20_000;

/// Where the users of mirrors would go if these were drained.
#[utoipa::path(
    get,
    path = "/v1/drain-preview",
    tag = "operators",
    params(
        ("mirror" = Option<String>, Query, description = "`domain/mirror`; may be repeated"),
        ("node" = Option<String>, Query, description = "All mirrors of a node; may be repeated"),
    ),
    responses(
        (status = 200, body = DrainPreview),
        (status = 400, description = "Nothing or nonsense asked for", body = ErrorBody),
        (status = 404, description = "Unknown mirror or node", body = ErrorBody),
    )
)]
pub(super) async fn drain_preview(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<DrainPreview>, Problem> {
    let query = Params::read_repeated(&uri, &["mirror", "node"])?;
    let snapshot = shared.api.snapshot.load_full();
    let drained = selected(&snapshot.registry, query.pairs())?;
    // One at a time: it keeps a core busy for a moment.
    let turn = shared.previews.clone().acquire_owned().await;
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        preview(&snapshot, &drained)
    });
    let done = work.await.map_err(|_| Problem::unavailable("stopping", "the broker is stopping", 1))?;
    Ok(Json(done))
}

/// The mirrors that a query names.
fn selected(registry: &Registry, query: &[(String, String)]) -> Result<BTreeSet<MirrorIndex>, Problem> {
    let mut drained = BTreeSet::new();
    for (key, value) in query {
        match key.as_str() {
            "mirror" => {
                drained.insert(mirror(registry, value)?);
            }
            "node" => drained.extend(mirrors_of_node(registry, value)?),
            _ => {
                return Err(Problem::bad_request(format!(
                    "unknown query parameter {key:?}; known are mirror and node"
                )));
            }
        }
    }
    if drained.is_empty() {
        return Err(Problem::bad_request("say what would be drained: mirror=DOMAIN/MIRROR or node=NAME"));
    }
    Ok(drained)
}

fn mirror(registry: &Registry, text: &str) -> Result<MirrorIndex, Problem> {
    let Some((domain, name)) = text.split_once('/') else {
        return Err(Problem::bad_request(format!("mirror={text:?} is not of the form DOMAIN/MIRROR")));
    };
    let at = super::find_domain(registry, domain)?;
    registry.find_mirror(at, name).ok_or_else(|| {
        let known = registry.mirrors_of(at).map(|(_, m)| &*m.name);
        Problem::not_found("unknown_mirror", &format!("mirror of {domain} named"), name, nearest(name, known))
    })
}

fn mirrors_of_node(registry: &Registry, name: &str) -> Result<Vec<MirrorIndex>, Problem> {
    let node = registry.nodes.iter().position(|n| *n.name == *name).ok_or_else(|| {
        let known = registry.nodes.iter().map(|n| &*n.name);
        Problem::not_found("unknown_node", "node", name, nearest(name, known))
    })?;
    let of_node = |m: &&nearmost_core::registry::Mirror| m.node.is_some_and(|n| n.0 as usize == node);
    let all = (0..)
        .zip(&registry.mirrors)
        .filter(|(_, m)| of_node(m))
        .map(|(i, _)| MirrorIndex(i))
        .collect::<Vec<_>>();
    match all.is_empty() {
        false => Ok(all),
        true => Err(Problem::not_found("no_mirrors", "mirrors on node", name, None)),
    }
}

/// Rows of all mirrors of the domains concerned that have users now or would have.
pub(super) fn preview(snapshot: &Snapshot, drained: &BTreeSet<MirrorIndex>) -> DrainPreview {
    let registry = &snapshot.registry;
    let mut after = Live::clone(&snapshot.live);
    for at in drained {
        for verdict in &mut after.mirrors[at.0 as usize].verdicts {
            verdict.state = Health::Draining;
        }
    }
    let places = places(snapshot);
    let addresses = places.iter().map(|(_, n)| n).sum();
    let domains: BTreeSet<DomainIndex> = drained.iter().map(|m| registry.mirror(*m).domain).collect();
    let mut rows = Vec::new();
    for domain in domains {
        let before = shares(registry, &snapshot.live, domain, &places);
        let after = shares(registry, &after, domain, &places);
        for (at, mirror) in registry.mirrors_of(domain) {
            let (b, a) = (before.get(&at), after.get(&at));
            if b.is_none() && a.is_none() {
                continue;
            }
            let of = |share: Option<&Share>| share.map_or((0.0, 0.0), |s| s.figures(addresses));
            let ((before_percent, before_rtt_ms), (after_percent, after_rtt_ms)) = (of(b), of(a));
            rows.push(DrainRow {
                domain: registry.domain(domain).name.to_string(),
                mirror: mirror.name.to_string(),
                before_percent,
                after_percent,
                before_rtt_ms,
                after_rtt_ms,
            });
        }
    }
    DrainPreview { rows, addresses }
}

/// Known places and their numbers of IPv4 addresses.
fn places(snapshot: &Snapshot) -> Vec<(Place, u64)> {
    let all = snapshot.map.places.v4_addresses_by_place();
    if all.len() <= MAX_PLACES {
        return all;
    }
    let mut merged: HashMap<Option<(i16, i16)>, (Place, u64)> = HashMap::new();
    for (place, n) in all {
        let degree = |p: Position| (p.degrees().0.round() as i16, p.degrees().1.round() as i16);
        merged.entry(place.position.map(degree)).or_insert((place, 0)).1 += n;
    }
    merged.into_values().collect()
}

/// What a mirror gets: addresses, and the sum of their round trips.
#[derive(Default)]
struct Share {
    addresses: f64,
    rtt_sum: f64,
}

impl Share {
    /// Percent of all addresses, and mean round trip in milliseconds.
    fn figures(&self, all: u64) -> (f64, f64) {
        let percent = if all == 0 { 0.0 } else { 100.0 * self.addresses / all as f64 };
        let rtt = if self.addresses == 0.0 { 0.0 } else { self.rtt_sum / self.addresses };
        (percent, rtt)
    }
}

/// Users of an answer of several mirrors are shared equally: resolvers shuffle addresses. Those of
/// unknown position are in many cells, each with one mirror: in sum, shared by weight.
fn shares(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    places: &[(Place, u64)],
) -> HashMap<MirrorIndex, Share> {
    let mut shares: HashMap<MirrorIndex, Share> = HashMap::new();
    for (place, n) in places {
        let mut family = Family::V4;
        let mut choice = ranking::choose(registry, live, domain, place, family);
        if choice.addrs.is_empty() {
            // A domain without IPv4 is reached over IPv6 by the same people.
            family = Family::V6;
            choice = ranking::choose(registry, live, domain, place, family);
        }
        let takers: Vec<(Candidate, f64)> = match place.position {
            Some(_) => choice.mirrors.iter().map(|c| (*c, 1.0)).collect(),
            None => by_weight(registry, live, domain, place, family, choice.basis),
        };
        let whole: f64 = takers.iter().map(|(_, part)| part).sum();
        for (candidate, part) in takers {
            let addresses = *n as f64 * part / whole;
            let share = shares.entry(candidate.mirror).or_default();
            share.addresses += addresses;
            share.rtt_sum += addresses * f64::from(candidate.rtt_ms);
        }
    }
    shares
}

/// All mirrors that an answer of this basis is taken from, with their weights.
fn by_weight(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    place: &Place,
    family: Family,
    basis: Basis,
) -> Vec<(Candidate, f64)> {
    let taken = |at: MirrorIndex| {
        let mirror = live.mirror(at);
        let wanted = match basis {
            Basis::Eligible => mirror.eligible(family),
            Basis::AllDownLastKnown => mirror.last_known[family.index()],
            Basis::AllDownAll => !mirror.verdict(family).withdrawn(),
            Basis::AllDownFallback | Basis::Empty => false,
        };
        wanted && mirror.addr(family).is_some()
    };
    let mirrors = registry.mirrors_of(domain).filter(|(at, _)| taken(*at));
    mirrors.map(|(at, m)| (ranking::candidate(at, m, place), f64::from(m.weight.max(1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::geo::CountryCode;

    fn asked(registry: &Registry, query: &[(&str, &str)]) -> Result<BTreeSet<MirrorIndex>, String> {
        let query: Vec<_> = query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        selected(registry, &query).map_err(|p| p.message)
    }

    #[test]
    fn the_users_of_a_drained_mirror_go_to_the_next() {
        let fixture = Fixture::five_mirrors();
        let snapshot = fixture.snapshot();
        let drained = asked(&snapshot.registry, &[("mirror", &format!("{DOMAIN}/lon"))]).unwrap();
        let preview = preview(&snapshot, &drained);
        assert_eq!(preview.addresses, 512);
        let row = |name: &str| preview.rows.iter().find(|r| r.mirror == name).unwrap();
        assert_eq!((row("lon").before_percent, row("lon").after_percent), (50.0, 0.0));
        assert_eq!((row("nyc").before_percent, row("nyc").after_percent), (50.0, 100.0));
        assert!(row("nyc").after_rtt_ms > row("nyc").before_rtt_ms + 40.0);
        assert_eq!(preview.rows.len(), 2, "mirrors that neither lose nor gain are not shown");
    }

    #[test]
    fn equals_share() {
        let mut fixture = Fixture::five_mirrors();
        let london = fixture.place_of("lon");
        fixture.mirror("sao", |m| m.place = london);
        let snapshot = fixture.snapshot();
        let drained = asked(&snapshot.registry, &[("node", "lon-node")]).unwrap();
        let preview = preview(&snapshot, &drained);
        let row = |name: &str| {
            preview.rows.iter().find(|r| r.mirror == name).map(|r| (r.before_percent, r.after_percent))
        };
        assert_eq!(row("lon"), Some((25.0, 0.0)));
        assert_eq!(row("sao"), Some((25.0, 50.0)));
    }

    #[test]
    fn users_of_unknown_place_are_split_by_weight() {
        let mut fixture = Fixture::five_mirrors();
        fixture.mirror("sao", |m| m.weight = 300);
        fixture.set_state("syd", Health::Down);
        let snapshot = fixture.snapshot();
        let nowhere = Place { country: CountryCode::new("FR"), ..Place::default() };
        let parts = |live: &Live| {
            let shares = shares(&snapshot.registry, live, DomainIndex(0), &[(nowhere, 600)]);
            (0..5).map(|i| shares.get(&MirrorIndex(i)).map_or(0.0, |s| s.addresses)).collect::<Vec<_>>()
        };
        assert_eq!(parts(&snapshot.live), [100.0, 100.0, 300.0, 100.0, 0.0]);
        let mut live = Live::clone(&snapshot.live);
        live.mirrors[2].verdicts[0].state = Health::Draining;
        assert_eq!(parts(&live), [200.0, 200.0, 0.0, 200.0, 0.0]);
        // All down: those last known.
        for mirror in &mut live.mirrors {
            mirror.verdicts[0].state = Health::Down;
            mirror.last_known[0] = false;
        }
        live.mirrors[4].last_known[0] = true;
        assert_eq!(parts(&live), [0.0, 0.0, 0.0, 0.0, 600.0]);
    }

    #[test]
    fn what_is_asked_wrongly_is_named() {
        let registry = Fixture::five_mirrors().snapshot().registry.clone();
        let says = |query: &[(&str, &str)], part: &str| {
            let said = asked(&registry, query).unwrap_err();
            assert!(said.contains(part), "{said}");
        };
        says(&[], "say what would be drained");
        says(&[("mirror", "lon")], "DOMAIN/MIRROR");
        says(&[("mirrors", "x")], "\"mirrors\"");
        says(&[("mirror", "play.nearmost.tset/lon")], "did you mean play.nearmost.test?");
        says(&[("mirror", "play.nearmost.test/lom")], "did you mean lon?");
        says(&[("node", "lon-mode")], "did you mean lon-node?");
    }
}
