//! Explanations of learned, corrected and pinned networks, and of resolvers.

use super::*;
use crate::api::testing::{DOMAIN, Fixture};
use nearmost_core::geo::{CountryCode, Position};
use nearmost_core::health::State;
use nearmost_core::live::Offer;
use nearmost_core::registry::{AllDown, Rule, RuleEffect, Who};

const LONDONER: &str = "198.51.100.1";

fn explained_for(fixture: &Fixture, asked: Asked) -> ExplainResponse {
    let snapshot = fixture.snapshot();
    let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
    let ranking = Ranking::new(&snapshot, domain, asked.client(&snapshot), fixture.now()).unwrap();
    explain(&ranking, asked)
}

fn explained(fixture: &Fixture, client: &str) -> ExplainResponse {
    explained_for(fixture, Asked::Client(client.parse().unwrap()))
}

fn names(explained: &ExplainResponse) -> Vec<&str> {
    explained.mirrors.iter().map(|m| m.ranked.mirror.as_str()).collect()
}

fn mirror<'e>(explained: &'e ExplainResponse, name: &str) -> &'e ExplainedMirror {
    explained.mirrors.iter().find(|m| m.ranked.mirror == name).unwrap()
}

fn shares(explained: &ExplainResponse) -> Vec<(&str, f32)> {
    let share = |m: &ExplainedMirror| m.sharing.share_v4_percent;
    let some = explained.mirrors.iter().filter(|m| share(m) > 0.0);
    some.map(|m| (m.ranked.mirror.as_str(), share(m))).collect()
}

#[test]
fn the_nearest_by_distance_and_what_follows_from_it() {
    let mut fixture = Fixture::five_mirrors();
    fixture.set_state("lon", State::Down);
    let seen = explained(&fixture, LONDONER);
    assert_eq!(names(&seen), ["lon", "nyc", "sao", "sin", "syd"]);
    let chosen: Vec<_> = seen.mirrors.iter().filter(|m| m.ranked.chosen).collect();
    assert_eq!((chosen.len(), &*chosen[0].ranked.mirror), (1, "nyc"));
    assert_eq!(seen.answer, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    assert_eq!((&*seen.place.source, seen.place.country_name.as_deref()), ("testdb", Some("United Kingdom")));
    let network = &seen.network;
    assert_eq!((&*network.range, &*network.cell), ("198.51.100.0/24", "198.51.100.0/24"));
    assert!(network.measured.is_none() && network.prefix.is_none() && network.asn.is_none());
    let [v4, v6] = &seen.answers[..] else { panic!("{:?}", seen.answers) };
    assert_eq!((&*v4.basis, &*v4.how, v4.ttl_s), ("eligible", "first", 20));
    // Five percent of New York's round trip are more than the three milliseconds.
    assert_eq!(v4.tie_band_ms, Some(mirror(&seen, "nyc").ranked.rtt_ms * 0.05));
    assert_eq!(
        (&*v4.scope, &*v4.scope_reason),
        ("198.51.100.0/24", "everyone in it has this list, and nobody is shared out")
    );
    assert_eq!((&*v6.basis, &*v6.how, v6.addresses.len(), v6.tie_band_ms), ("empty", "none", 0, None));
    assert_eq!((&*v6.scope, v6.ttl_s), ("0.0.0.0/0", 20));
    assert!(v6.scope_reason.contains("no mirror has an address"), "{v6:?}");
    let nyc = mirror(&seen, "nyc");
    assert_eq!(nyc.prediction.shares.distance_percent, 100.0);
    assert!((nyc.prediction.ms - nyc.prediction.distance_ms).abs() < 0.1 && nyc.prediction.own_ms.is_none());
    assert!(nyc.prediction.route_km.unwrap() > nyc.ranked.distance_km.unwrap() * 0.99);
    assert_eq!(shares(&seen), [("nyc", 100.0)]);
}

#[test]
fn a_learned_network() {
    let mut fixture = Fixture::five_mirrors();
    let before = explained(&fixture, LONDONER);
    fixture.learn(&[(LONDONER, "lon", 90.0), (LONDONER, "nyc", 30.0)]);
    let seen = explained(&fixture, "198.51.100.77");
    assert_eq!(&names(&seen)[..2], ["nyc", "lon"]);
    assert_eq!(seen.network.measured.as_deref(), Some("198.51.100.0/24"));
    assert_ne!(seen.list, before.list);
    assert_eq!(seen.list.len(), 8);
    let nyc = &mirror(&seen, "nyc").prediction;
    assert_eq!(nyc.own_sources, ["client"]);
    assert!(nyc.own_ms.unwrap() > 29.0 && nyc.shares.network_percent > 90.0, "{nyc:?}");
    assert!(mirror(&seen, "syd").prediction.own_ms.is_none());
    let elsewhere = explained(&fixture, "203.0.113.9");
    assert_eq!(elsewhere.network.measured, None);
}

#[test]
fn a_corrected_network_names_who_corrected_it() {
    let mut fixture = Fixture::five_mirrors();
    let sydney = fixture.place_of("syd");
    fixture.override_in_registry("198.51.100.0/25", sydney);
    fixture.network("203.0.113.0/25", sydney);
    let seen = explained(&fixture, LONDONER);
    assert_eq!((&*seen.place.source, seen.place.country.as_deref()), ("registry_override", Some("AU")));
    assert_eq!(seen.network.overridden.as_deref(), Some("198.51.100.0/25"));
    assert_eq!((&*seen.network.range, names(&seen)[0]), ("198.51.100.0/25", "syd"));
    let by_site = explained(&fixture, "203.0.113.9");
    assert_eq!((&*by_site.place.source, by_site.network.overridden), ("config_override", None));
    assert_eq!(&*explained(&fixture, "203.0.113.200").place.source, "testdb");
    // The site's own correction of the same network is another one.
    let there = Position::from_degrees(1.0, 2.0);
    fixture.network("198.51.100.0/26", Place { position: there, ..sydney });
    assert_eq!(&*explained(&fixture, LONDONER).place.source, "config_override");
}

#[test]
fn pinned_and_excluded_mirrors() {
    let mut fixture = Fixture::five_mirrors();
    let rule = |effect, who, mirror: &str| Rule { effect, who, mirrors: vec![mirror.into()] };
    fixture.policy(|p| {
        let prefix = Who::Prefix("198.51.100.0/25".parse().unwrap());
        let country = Who::Country(CountryCode::new("GB").unwrap());
        p.rules = vec![rule(RuleEffect::Pin, prefix, "syd"), rule(RuleEffect::Exclude, country, "nyc")];
    });
    let seen = explained(&fixture, LONDONER);
    assert_eq!(names(&seen), ["syd", "lon", "sao", "sin", "nyc"]);
    assert!(mirror(&seen, "syd").sharing.pinned && mirror(&seen, "nyc").sharing.excluded);
    assert_eq!(shares(&seen), [("syd", 100.0)]);
    assert_eq!(seen.answers[0].scope, "198.51.100.0/25");
    let beside = explained(&fixture, "198.51.100.200");
    assert_eq!((names(&beside)[0], mirror(&beside, "syd").sharing.pinned), ("lon", false));
}

#[test]
fn sharing_spilling_and_scopes() {
    let mut fixture = Fixture::five_mirrors();
    let london = fixture.place_of("lon");
    fixture.policy(|p| p.explore = 0.0);
    fixture.network("20.0.0.0/8", london);
    fixture.mirror("nyc", |m| (m.place, m.weight) = (london, 300));
    let seen = explained(&fixture, "20.1.2.3");
    assert_eq!(shares(&seen), [("lon", 25.0), ("nyc", 75.0)]);
    let v4 = &seen.answers[0];
    assert_eq!((&*v4.how, &*v4.scope, v4.addresses.len()), ("spread", "20.1.0.0/20", 1));
    assert!(v4.scope_reason.contains("shared out by weight and room"), "{v4:?}");
    fixture.offer("nyc", Offer { withheld: 0, shed: Offer::share(0.5) });
    let seen = explained(&fixture, "20.1.2.3");
    let halved = &mirror(&seen, "nyc").sharing;
    assert_eq!((halved.shed_percent, halved.share_v4_percent), (50.0, 37.5));
    let unknown = explained(&fixture, "10.0.0.1");
    assert_eq!((&*unknown.answers[0].how, unknown.answers[0].tie_band_ms), ("shared_out", None));
    assert_eq!((unknown.answers[0].scope.as_str(), shares(&unknown).len()), ("10.0.0.0/24", 5));
    assert!(unknown.answers[0].scope_reason.contains("place is not known"));
    fixture.offer("nyc", Offer::default());
    fixture.policy(|p| p.strategy = Strategy::Failover(vec!["syd".into()]));
    let failover = explained(&fixture, "20.1.2.3");
    assert_eq!((&*failover.answers[0].scope, failover.answers[0].tie_band_ms), ("0.0.0.0/0", None));
    assert_eq!(names(&failover)[0], "syd");
    for name in ["lon", "nyc", "sao", "sin", "syd"] {
        fixture.set_state(name, State::Down);
    }
    fixture
        .policy(|p| (p.failover.all_down, p.ttl) = (AllDown::NoAnswer, std::time::Duration::from_secs(60)));
    let nothing = explained(&fixture, "20.1.2.3");
    assert_eq!((&*nothing.answers[0].basis, nothing.answers[0].ttl_s), ("empty", 20));
    assert!(nothing.answers[0].ttl_reason.contains("absence") && shares(&nothing).is_empty());
}

#[test]
fn a_resolver_is_explained_for_its_users() {
    let mut fixture = Fixture::five_mirrors();
    let resolver = "203.0.113.53";
    let asked = |fixture: &Fixture| explained_for(fixture, Asked::Resolver(resolver.parse().unwrap()));
    let alone = asked(&fixture);
    let view = alone.resolver.unwrap();
    assert_eq!((alone.client.to_string(), view.users, view.asked), (resolver.into(), None, true));
    assert_eq!(explained(&fixture, resolver).resolver, None);

    let london = fixture.place_of("lon");
    fixture.network("198.51.101.0/24", london);
    fixture.learn_behind(&[], &[(resolver, LONDONER), (resolver, "198.51.101.1")]);
    let moved = asked(&fixture);
    let view = moved.resolver.as_ref().unwrap();
    assert_eq!(view.users, Some(moved.client));
    assert_eq!((moved.place.country.as_deref(), names(&moved)[0]), (Some("GB"), "lon"));
    let as_client = explained(&fixture, resolver);
    let view = as_client.resolver.as_ref().unwrap();
    assert_eq!((view.asked, view.users), (false, Some(moved.client)));
    assert_eq!(names(&as_client)[0], "nyc");
}
