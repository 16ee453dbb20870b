//! `GET /v1/drain-preview`: where the users of drained mirrors would go.
//!
//! Addresses from all over the geo table's IPv4 space are answered twice, as things are and as they
//! would be, by the same choice that DNS makes, and each weighs as many addresses as it stands for.
//! Addresses are not users; nothing better is known without looking at traffic.

use super::Shared;
use super::error::{Problem, nearest};
use super::params::Params;
use axum::Json;
use axum::extract::State;
use http::Uri;
use nearmost_core::health::{Family, State as Health};
use nearmost_core::live::Live;
use nearmost_core::ranking;
use nearmost_core::registry::{DomainIndex, MirrorIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::api::{DrainPreview, DrainRow, ErrorBody};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Most addresses that are answered.
const MAX_SAMPLES: usize = 20_000;

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
    after.tally(registry);
    let samples = snapshot.map.places.v4_samples(MAX_SAMPLES);
    let addresses: f64 = samples.iter().map(|(_, n)| n).sum();
    let domains: BTreeSet<DomainIndex> = drained.iter().map(|m| registry.mirror(*m).domain).collect();
    let mut rows = Vec::new();
    for domain in domains {
        let before = shares(snapshot, &snapshot.live, domain, &samples);
        let after = shares(snapshot, &after, domain, &samples);
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
    // Whole but for the sum's rounding.
    DrainPreview { rows, addresses: addresses.round() as u64 }
}

/// What a mirror gets: addresses, and the sum of their round trips.
#[derive(Default)]
struct Share {
    addresses: f64,
    rtt_sum: f64,
}

impl Share {
    /// Percent of all addresses, and mean round trip in milliseconds.
    fn figures(&self, all: f64) -> (f64, f64) {
        let percent = if all == 0.0 { 0.0 } else { 100.0 * self.addresses / all };
        let rtt = if self.addresses == 0.0 { 0.0 } else { self.rtt_sum / self.addresses };
        (percent, rtt)
    }
}

/// What each mirror gets of the addresses that samples stand for. Users of an answer of several mirrors
/// are shared equally: resolvers shuffle addresses.
fn shares(
    snapshot: &Snapshot,
    live: &Live,
    domain: DomainIndex,
    samples: &[(Ipv4Addr, f64)],
) -> HashMap<MirrorIndex, Share> {
    let registry = &snapshot.registry;
    let start = registry.domain(domain).mirrors.start;
    let mut shares: HashMap<MirrorIndex, Share> = HashMap::new();
    for (addr, n) in samples {
        let Some(view) = snapshot.map.view(domain, IpAddr::V4(*addr)) else { continue };
        let mut choice = ranking::choose(registry, live, domain, &view, Family::V4);
        if choice.addrs.is_empty() {
            // A domain without IPv4 is reached over IPv6 by the same people.
            choice = ranking::choose(registry, live, domain, &view, Family::V6);
        }
        let client = view.client();
        let addresses = n / choice.mirrors.len().max(1) as f64;
        for chosen in &choice.mirrors {
            let site = view.set().site((chosen.mirror.0 - start) as usize);
            let share = shares.entry(chosen.mirror).or_default();
            share.addresses += addresses;
            share.rtt_sum += addresses * site.map_or(0.0, |s| f64::from(client.ms(s)));
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::geo::Place;
    use nearmost_core::registry::AllDown;

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

    /// Shares of the mirrors before and after, in percent.
    fn moved(fixture: &Fixture, node: &str) -> HashMap<String, (f64, f64)> {
        let snapshot = fixture.snapshot();
        let drained = asked(&snapshot.registry, &[("node", node)]).unwrap();
        let rows = preview(&snapshot, &drained).rows.into_iter();
        rows.map(|r| (r.mirror, (r.before_percent, r.after_percent))).collect()
    }

    #[track_caller]
    fn near(found: &HashMap<String, (f64, f64)>, mirror: &str, expected: (f64, f64)) {
        let (before, after) = found.get(mirror).copied().unwrap_or_default();
        let close = (before - expected.0).abs() < 6.0 && (after - expected.1).abs() < 6.0;
        assert!(close, "{mirror}: {before}, {after}");
    }

    #[test]
    fn equals_share_and_a_common_answer_is_shared_equally() {
        let mut fixture = Fixture::five_mirrors();
        let london = fixture.place_of("lon");
        fixture.mirror("sao", |m| m.place = london);
        let moved_now = moved(&fixture, "lon-node");
        assert_eq!(moved_now["lon"], (25.0, 0.0), "both stand in each answer");
        assert_eq!(moved_now["sao"], (25.0, 50.0));
        // With one address an answer, whole parts go to one or the other.
        fixture.policy(|p| (p.answers, p.explore) = (1, 0.0));
        fixture.network("20.0.0.0/10", london);
        let moved_now = moved(&fixture, "lon-node");
        near(&moved_now, "lon", (50.0, 0.0));
        near(&moved_now, "sao", (50.0, 100.0));
    }

    #[test]
    fn users_of_unknown_place_are_shared_out_by_weight() {
        let mut fixture = Fixture::five_mirrors();
        fixture.mirror("sao", |m| m.weight = 300);
        fixture.set_state("syd", Health::Down);
        fixture.network("20.0.0.0/10", Place { asn: Some(64_500), ..Place::default() });
        let (sixth, rest) = (100.0 / 6.0, 100.0 / 3.0);
        let moved_now = moved(&fixture, "sao-node");
        near(&moved_now, "lon", (sixth, rest));
        near(&moved_now, "nyc", (sixth, rest));
        near(&moved_now, "sin", (sixth, rest));
        near(&moved_now, "sao", (50.0, 0.0));
        assert!(!moved_now.contains_key("syd"));
    }

    #[test]
    fn all_down_and_users_of_another_family_are_answered_as_dns_does() {
        let mut fixture = Fixture::five_mirrors();
        for mirror in ["nyc", "sao", "sin", "syd"] {
            fixture.set_state(mirror, Health::Down);
        }
        // London would be the last: users get those that were known last.
        let moved_now = moved(&fixture, "lon-node");
        assert_eq!(moved_now["lon"], (100.0, 50.0));
        assert_eq!(moved_now["nyc"], (0.0, 50.0));
        fixture.policy(|p| p.failover.all_down = AllDown::NoAnswer);
        assert_eq!(moved(&fixture, "lon-node"), HashMap::from([("lon".into(), (100.0, 0.0))]));

        let mut fixture = Fixture::five_mirrors();
        for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
            fixture.only_ipv6(mirror);
        }
        assert_eq!(moved(&fixture, "lon-node")["lon"], (50.0, 0.0));
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
