//! `GET /v1/explain`: all that went into a client's answers, as JSON. The sentences are in `reasons`.

use super::view::{Ranking, place, seconds};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nearmost_core::geo::table::Located;
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::health::Family;
use nearmost_core::ranking::{Basis, Choice, How, list_id, spread_shares, tie_band_ms};
use nearmost_core::registry::{MirrorIndex, Pace, Policy, Registry, Strategy};
use nearmost_core::rtt::{Prediction, Shares, Source};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::api::{
    AnswerView, ExplainResponse, ExplainedMirror, NetworkView, PredictionView, ResolverView, SharingView,
    SourceShares,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whom a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A client at an address.
    Client(IpAddr),
    /// Whoever asks through a resolver that sends no client subnet.
    Resolver(IpAddr),
}

impl Asked {
    /// The address that is answered for.
    pub(super) fn client(self, snapshot: &Snapshot) -> IpAddr {
        match self {
            Asked::Client(client) => client,
            Asked::Resolver(at) => snapshot.map.model.users_behind(at).unwrap_or(at),
        }
    }

    fn resolver(self, snapshot: &Snapshot) -> Option<ResolverView> {
        let (Asked::Client(address) | Asked::Resolver(address)) = self;
        let users = snapshot.map.model.users_behind(address);
        let asked = matches!(self, Asked::Resolver(_));
        (asked || users.is_some()).then_some(ResolverView { address, users, asked })
    }
}

/// The answer to a question about a ranking that was made for [`Asked::client`].
pub(super) fn explain(ranking: &Ranking<'_>, asked: Asked) -> ExplainResponse {
    let snapshot = ranking.snapshot;
    let shares = Family::ALL
        .map(|f| spread_shares(&snapshot.registry, &snapshot.live, ranking.domain, &ranking.view, f));
    let mut place = place(&ranking.located.place, ranking.located.source, &snapshot.map.places);
    place.source = source(ranking);
    let [v4, v6] = &ranking.choices;
    ExplainResponse {
        domain: snapshot.registry.domain(ranking.domain).name.to_string(),
        client: ranking.client,
        place,
        network: network(ranking),
        resolver: asked.resolver(snapshot),
        list: format!("{:08x}", list_id(&snapshot.registry, ranking.domain, &ranking.view)),
        answer: v4.addrs.iter().chain(&v6.addrs).copied().collect(),
        answers: Family::ALL.map(|f| answer(ranking, f)).into(),
        mirrors: (0..ranking.all.len()).map(|at| mirror(ranking, at, &shares)).collect(),
    }
}

/// The longest of the registry's overrides around an address.
fn registry_override(registry: &Registry, addr: IpAddr) -> Option<&(IpNet, Place)> {
    registry.overrides.iter().filter(|(net, _)| net.contains(&addr)).max_by_key(|(net, _)| net.prefix_len())
}

/// The registry's override that decided a place, if one did. The table knows overrides of
/// the registry and of the configuration alike; it is the registry's where its longest one says the same.
fn overridden(registry: &Registry, addr: IpAddr, located: &Located) -> Option<IpNet> {
    let (net, said) = registry_override(registry, addr)?;
    let place = &located.place;
    let agrees = said.position.is_none_or(|p| place.position == Some(p))
        && said.country.is_none_or(|c| place.country == Some(c))
        && said.asn.is_none_or(|a| place.asn == Some(a));
    agrees.then_some(*net)
}

/// The name of what a client's place comes from.
pub(super) fn source(ranking: &Ranking<'_>) -> String {
    let (snapshot, located) = (ranking.snapshot, &ranking.located);
    let from_registry = || overridden(&snapshot.registry, ranking.view.looked_up(), located).is_some();
    match located.source {
        PlaceSource::Override if from_registry() => "registry_override".into(),
        PlaceSource::Override => "config_override".into(),
        other => snapshot.map.places.source_name(other).into(),
    }
}

fn network(ranking: &Ranking<'_>) -> NetworkView {
    let (snapshot, view) = (ranking.snapshot, &ranking.view);
    let known = view.set().model().known(&view.place(), view.looked_up());
    let shown = |net: Option<IpNet>| net.map(|n| n.to_string());
    NetworkView {
        range: ranking.located.cell.to_string(),
        cell: view.whole().cell.to_string(),
        overridden: shown(overridden(&snapshot.registry, view.looked_up(), &ranking.located)),
        measured: shown(known.network),
        prefix: shown(known.prefix),
        asn: known.asn,
        country: known.country.map(|c| c.to_string()),
        misplaced: known.moved,
    }
}

/// TTL of addresses that change at a pace, and why.
fn ttl(policy: &Policy, pace: Pace) -> (u32, &'static str) {
    let why = match pace {
        Pace::Quick => "a mirror of the answer may change within seconds: the domain's least TTL",
        Pace::Usual => "the domain's policy says so of addresses",
        Pace::Calm => "the mirrors of the answer have not changed for long: the domain's greatest TTL",
    };
    (seconds(policy.ttl_at(pace)), why)
}

fn answer(ranking: &Ranking<'_>, family: Family) -> AnswerView {
    let choice = &ranking.choices[family.index()];
    let policy = ranking.policy();
    let compared = !ranking.view.shared() && !matches!(policy.strategy, Strategy::Failover(_));
    let best = ranking.best(family).filter(|_| compared);
    let (scope, scope_reason) = scope(ranking, family, choice);
    let (ttl_s, ttl_reason) = match choice.addrs.is_empty() {
        true => (seconds(policy.negative_ttl), "there is no address: the domain's policy says so of absence"),
        false => ttl(policy, ranking.snapshot.live.pace(choice.mirrors.iter().map(|m| m.mirror), family)),
    };
    AnswerView {
        family: family.as_str().into(),
        basis: basis(choice.basis).into(),
        how: if choice.mirrors.is_empty() { "none" } else { how(choice.how) }.into(),
        addresses: choice.addrs.to_vec(),
        tie_band_ms: best.map(|b| tie_band_ms(policy, b.rtt_ms)),
        scope: scope.to_string(),
        scope_reason: scope_reason.into(),
        ttl_s,
        ttl_reason: ttl_reason.into(),
    }
}

/// The prefix that an answer is good for, and why it is no wider.
fn scope(ranking: &Ranking<'_>, family: Family, choice: &Choice) -> (IpNet, &'static str) {
    let snapshot = ranking.snapshot;
    let everyone = match ranking.client {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    match snapshot.live.addressed(&snapshot.registry, ranking.domain, family) {
        0 => return (everyone, "the same for everyone: no mirror has an address of this family"),
        1 if !ranking.view.set().has_rules() => {
            return (everyone, "the same for everyone: only one mirror has an address of this family");
        }
        _ => {}
    }
    match choice.basis {
        Basis::Empty if choice.for_everyone => {
            return (everyone, "the same for everyone: absence is told of everyone");
        }
        Basis::AllDownFallback if choice.for_everyone => {
            return (everyone, "the same for everyone: the fallback addresses");
        }
        _ if choice.for_everyone => {
            return (everyone, "the same for everyone: an order of failover, and no rules");
        }
        _ => {}
    }
    let view = &ranking.view;
    let (part, whole, spread) = (choice.part.cell, view.whole().cell, view.spread().cell);
    let shared = matches!(choice.how, How::Spread | How::Explored | How::Spilled);
    let reason = match () {
        () if view.shared() && ranking.policy().strategy == Strategy::Weighted => {
            "the policy shares all users out by weight, a /20 or /44 at most at a time"
        }
        () if view.shared() => {
            "users whose place is not known are shared out by weight, a /24 or /48 at most at a time"
        }
        () if part != spread && part != whole || choice.how == How::Beyond => {
            "none of the list can be used, so it is the widest prefix in which nothing tells addresses apart"
        }
        () if part != whole || shared => {
            "users of this list are shared out by weight and room, a /20 or /44 at most at a time"
        }
        () => "everyone in it has this list, and nobody is shared out",
    };
    (part, reason)
}

/// Name of a way to an answer.
fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Eligible => "eligible",
        Basis::AllDownLastKnown => "all_down_last_known",
        Basis::AllDownAll => "all_down_all",
        Basis::AllDownFallback => "all_down_fallback",
        Basis::Empty => "empty",
    }
}

fn how(how: How) -> &'static str {
    match how {
        How::First => "first",
        How::Spread => "spread",
        How::Explored => "explored",
        How::SharedOut => "shared_out",
        How::Beyond => "beyond",
        How::Spilled => "spilled",
    }
}

/// A share of 0..=1 in percent, to a tenth.
fn percent(share: f32) -> f32 {
    (share * 1000.0).round() / 10.0
}

/// Milliseconds or kilometres, to a hundredth: more digits say nothing.
fn rounded(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

fn mirror(ranking: &Ranking<'_>, at: usize, shares: &[BTreeMap<MirrorIndex, f64>; 2]) -> ExplainedMirror {
    let candidate = &ranking.all[at];
    let index = candidate.mirror;
    let offer = ranking.snapshot.live.mirror(index).offer;
    let slot = ranking.slot(index);
    let share =
        |family: Family| shares[family.index()].get(&index).map_or(0.0, |share| percent(*share as f32));
    let part = |of: u16| percent(f32::from(of) / f32::from(u16::MAX));
    let sharing = SharingView {
        share_v4_percent: share(Family::V4),
        share_v6_percent: share(Family::V6),
        weight: ranking.snapshot.registry.mirror(index).weight,
        withheld_percent: part(offer.withheld),
        shed_percent: part(offer.shed),
        excluded: candidate.excluded,
        pinned: ranking.view.pins(slot),
        misplaced: ranking.view.set().site(slot).is_some_and(|s| s.misplaced()),
    };
    ExplainedMirror { ranked: ranking.mirror(at), prediction: prediction(ranking, index), sharing }
}

fn prediction(ranking: &Ranking<'_>, mirror: MirrorIndex) -> PredictionView {
    // Only mirrors beyond the 65 535th of one domain have none.
    let unknown = Prediction {
        ms: f32::MAX,
        distance_ms: f32::MAX,
        route_km: None,
        own_ms: None,
        own_sources: 0,
        shares: Shares { distance: 1.0, ..Shares::default() },
        missed: false,
    };
    let Prediction { ms, distance_ms, route_km, own_ms, own_sources, shares, missed } =
        ranking.prediction(mirror).unwrap_or(unknown);
    let sources = Source::ALL.into_iter().filter(|s| own_sources >> *s as u8 & 1 == 1);
    PredictionView {
        ms: rounded(ms),
        distance_ms: rounded(distance_ms),
        route_km: route_km.map(rounded),
        own_ms: own_ms.map(rounded),
        own_sources: sources.map(|s| s.as_str().to_owned()).collect(),
        shares: SourceShares {
            network_percent: percent(shares.network),
            prefix_percent: percent(shares.prefix),
            asn_percent: percent(shares.asn),
            country_percent: percent(shares.country),
            region_percent: percent(shares.region),
            distance_percent: percent(shares.distance),
        },
        missed,
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
