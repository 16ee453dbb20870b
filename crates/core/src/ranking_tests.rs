//! Whom the policies of a domain choose.

use super::*;
use crate::geo::table::PlaceTableBuilder;
use crate::geo::{CountryCode, Place, PlaceSource, Position};
use crate::health::{Reason, State, Verdict};
use crate::live::{LiveMirror, Offer};
use crate::map::Map;
use crate::registry::{Domain, Failover, HealthMode, MirrorAddress, Orders, Rule, RuleEffect, Who};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One domain, its mirrors all up in both families unless changed.
struct World {
    registry: Registry,
    live: Live,
    map: Map,
}

fn at(lat: f64, lon: f64) -> Option<Position> {
    Position::from_degrees(lat, lon)
}

fn mirror(name: &str, weight: u32, position: Option<Position>) -> Mirror {
    Mirror {
        name: name.into(),
        domain: DomainIndex(0),
        node: None,
        address: MirrorAddress::Observed,
        port: 80,
        weight,
        place: Place { position, ..Place::default() },
        place_source: PlaceSource::Given,
        health: HealthMode::Probe,
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

impl World {
    fn new(policy: Policy, mirrors: Vec<Mirror>) -> World {
        let domain = Domain {
            name: "a.test".into(),
            mirrors: 0..mirrors.len() as u32,
            policy,
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        let live = |i: usize| LiveMirror {
            v4: Some([192, 0, 2, i as u8].into()),
            v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, i as u16].into()),
            verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
            last_known: [true; 2],
            ..LiveMirror::default()
        };
        let live = Live::new((0..mirrors.len()).map(live).collect());
        let registry = Registry { domains: vec![domain], mirrors, ..Registry::default() };
        // 10/8 is in London, 20/8 in Tokyo and in China, 30/8 nowhere.
        let mut places = PlaceTableBuilder::new();
        let (gb, cn) = (CountryCode::new("GB"), CountryCode::new("CN"));
        let london = Place { position: at(51.5, 0.0), country: gb, asn: Some(7) };
        let tokyo = Place { position: at(35.7, 139.7), country: cn, asn: None };
        places.add_override("10.0.0.0/8".parse().unwrap(), london);
        places.add_override("20.0.0.0/8".parse().unwrap(), tokyo);
        let places = Arc::new(places.build().unwrap());
        let map = Map::of_places(1, places.clone()).follow(&registry, &places, &Arc::default(), None);
        World { registry, live, map }
    }

    /// Mirrors along a line from London: the first nearest to 10/8.
    fn line(all_down: AllDown, weights: &[u32]) -> World {
        let policy = Policy {
            answers: 2,
            tie_band_ms: 1.0,
            tie_band_share: 0.0,
            failover: Failover { all_down, ..Failover::default() },
            explore: 0.0,
            ..Policy::default()
        };
        let mirror = |(i, w): (usize, &u32)| mirror(&format!("m{i}"), *w, at(51.5 - 12.0 * i as f64, 0.0));
        World::new(policy, weights.iter().enumerate().map(mirror).collect())
    }

    /// Mirrors at one place.
    fn equals(weights: &[u32]) -> World {
        let policy = Policy { answers: 1, explore: 0.0, ..Policy::default() };
        let mirror = |(i, w): (usize, &u32)| mirror(&format!("m{i}"), *w, at(51.5, 0.0));
        World::new(policy, weights.iter().enumerate().map(mirror).collect())
    }

    fn choose(&self, client: [u8; 4], family: Family) -> Choice {
        let view = self.map.view(DomainIndex(0), client.into()).unwrap();
        choose(&self.registry, &self.live, DomainIndex(0), &view, family)
    }

    fn chosen(&self, client: [u8; 4], family: Family) -> (Basis, Vec<u32>) {
        let choice = self.choose(client, family);
        (choice.basis, choice.mirrors.iter().map(|c| c.mirror.0).collect())
    }

    fn first(&self, client: [u8; 4]) -> u32 {
        self.choose(client, Family::V4).mirrors[0].mirror.0
    }

    fn set_state(&mut self, mirror: usize, state: State) {
        self.live.mirrors[mirror].verdicts[0].state = state;
    }

    /// How many of 4 096 parts each mirror gets: /20s of a /8.
    fn parts(&self, net: u8) -> BTreeMap<u32, usize> {
        let mut parts = BTreeMap::new();
        for n in 0..4096_u32 {
            let addr = Ipv4Addr::from_bits((u32::from(net) << 24) + (n << 12) + 7);
            *parts.entry(self.first(addr.octets())).or_default() += 1;
        }
        parts
    }
}

const LONDONER: [u8; 4] = [10, 1, 2, 3];
const CHINESE: [u8; 4] = [20, 1, 2, 3];

#[test]
fn one_broken_family_is_not_all_down() {
    let mut world = World::line(AllDown::LastKnown, &[100, 100]);
    for mirror in &mut world.live.mirrors {
        mirror.verdicts[1].state = State::Down;
    }
    assert_eq!(world.chosen(LONDONER, Family::V6), (Basis::Empty, vec![]));
    assert_eq!(world.chosen(LONDONER, Family::V4), (Basis::Eligible, vec![0]));
    for mirror in &mut world.live.mirrors {
        mirror.verdicts[0].state = State::Down;
    }
    assert_eq!(world.chosen(LONDONER, Family::V6), (Basis::AllDownLastKnown, vec![0]));
}

#[test]
fn all_does_not_bring_back_what_was_withdrawn() {
    let mut world = World::line(AllDown::All, &[100, 100, 100, 100, 100]);
    let verdicts = [
        (State::Down, Reason::Revoked),
        (State::Down, Reason::Forced),
        (State::Down, Reason::Manual),
        (State::Draining, Reason::DrainedByOrder),
        (State::Down, Reason::ProbeFailed),
    ];
    for (mirror, (state, reason)) in world.live.mirrors.iter_mut().zip(verdicts) {
        mirror.verdicts = [Verdict { state, reason, ..Verdict::default() }; 2];
    }
    assert_eq!(world.chosen(LONDONER, Family::V4), (Basis::AllDownAll, vec![4]));
    world.live.mirrors[4].verdicts = [Verdict { state: State::Draining, ..Verdict::default() }; 2];
    assert_eq!(world.chosen(LONDONER, Family::V4), (Basis::Empty, vec![]));
}

/// Which mirror each of 4 096 networks of unknown position gets.
fn by_network(world: &World) -> Vec<u32> {
    let of = |n: u32| {
        let choice = world.choose(Ipv4Addr::from_bits(0x1e00_0007 + (n << 8)).octets(), Family::V4);
        assert_eq!((choice.mirrors.len().min(1), choice.basis), (1, Basis::Eligible));
        assert_eq!((choice.how, choice.part.cell.prefix_len()), (How::SharedOut, 24));
        choice.mirrors[0].mirror.0
    };
    (0..4096).map(of).collect()
}

#[test]
fn users_of_unknown_place_share_out_by_weight_and_stay() {
    let mut world = World::line(AllDown::NoAnswer, &[100, 100, 200]);
    let before = by_network(&world);
    for (mirror, share) in [(0, 1024), (1, 1024), (2, 2048)] {
        let got = before.iter().filter(|m| **m == mirror).count();
        assert!(got.abs_diff(share) < 160, "mirror {mirror} has {got} of 4096, expected about {share}");
    }
    world.set_state(2, State::Down);
    // Who goes on to the second of the order is not told as spilled: nothing is loaded.
    let after: Vec<u32> =
        (0..4096u32).map(|n| world.first(Ipv4Addr::from_bits(0x1e00_0007 + (n << 8)).octets())).collect();
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a).all(|(b, _)| *b == 2);
    assert!(moved && !after.contains(&2), "only the lost mirror's users move");
}

#[test]
fn the_order_of_all_mirrors_begins_with_what_is_chosen() {
    let mut world = World::line(AllDown::NoAnswer, &[100, 100, 200, 1]);
    let mut firsts = BTreeSet::new();
    for down in [None, Some(2), Some(0)] {
        (0..4).for_each(|m| world.set_state(m, State::Up));
        if let Some(down) = down {
            world.set_state(down, State::Down);
        }
        for n in 0..512 {
            let client = Ipv4Addr::from_bits(0x1e00_0007 + (n << 8)).octets();
            let view = world.map.view(DomainIndex(0), client.into()).unwrap();
            let order = rank(&world.registry, DomainIndex(0), &view);
            assert_eq!(order.len(), 4);
            firsts.insert(order[0].mirror);
            let first = order.iter().find(|c| world.live.mirror(c.mirror).eligible(Family::V4));
            assert_eq!(first.unwrap().mirror.0, world.first(client));
        }
    }
    assert!(firsts.len() >= 3, "{firsts:?}");
    let view = world.map.view(DomainIndex(0), LONDONER.into()).unwrap();
    let order: Vec<u32> = rank(&world.registry, DomainIndex(0), &view).iter().map(|c| c.mirror.0).collect();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn equals_share_by_weight_in_parts_and_the_rest_of_the_world_is_one_cell() {
    let world = World::equals(&[100, 100, 200]);
    let parts = world.parts(10);
    for (mirror, share) in [(0, 1024), (1, 1024), (2, 2048)] {
        assert!(parts[&mirror].abs_diff(share) < 160, "{parts:?}");
    }
    let choice = world.choose(LONDONER, Family::V4);
    assert_eq!((choice.how, choice.part.cell.to_string().as_str()), (How::Spread, "10.1.0.0/20"));
    let lines = World::line(AllDown::NoAnswer, &[100, 100]);
    let choice = lines.choose(LONDONER, Family::V4);
    assert_eq!((choice.how, choice.part.cell.to_string().as_str()), (How::First, "10.0.0.0/8"));
}

#[test]
fn what_is_withheld_moves_only_the_share_it_must() {
    let mut world = World::equals(&[100, 100, 200]);
    let of = |world: &World| -> Vec<u32> {
        (0..4096_u32).map(|n| world.first(Ipv4Addr::from_bits((10 << 24) + (n << 12)).octets())).collect()
    };
    let before = of(&world);
    world.live.mirrors[2].offer.withheld = Offer::share(0.5);
    let after = of(&world);
    assert!(before.iter().zip(&after).filter(|(b, a)| b != a).all(|(b, _)| *b == 2));
    let now = after.iter().filter(|m| **m == 2).count();
    assert!(now.abs_diff(4096 / 3) < 160, "{now}");
}

#[test]
fn a_loaded_mirror_sheds_its_share_to_the_next() {
    let mut world = World::line(AllDown::NoAnswer, &[100, 100, 100]);
    world.live.mirrors[0].offer.shed = Offer::share(0.25);
    let parts = world.parts(10);
    assert!(parts[&1].abs_diff(1024) < 160 && !parts.contains_key(&2), "{parts:?}");
    let spilled = (0..4096_u32).map(|n| Ipv4Addr::from_bits((10 << 24) + (n << 12)).octets());
    for client in spilled {
        let choice = world.choose(client, Family::V4);
        assert_eq!(choice.part.cell.prefix_len(), 20);
        assert_eq!(choice.how == How::Spilled, choice.mirrors[0].mirror.0 == 1);
    }
    // When all shed everything, the first serves after all.
    world.live.mirrors.iter_mut().for_each(|m| m.offer.shed = u16::MAX);
    assert_eq!(world.chosen(LONDONER, Family::V4), (Basis::Eligible, vec![0]));
}

#[test]
fn beyond_the_ranking_every_mirror_is_looked_at() {
    let mut world = World::line(AllDown::NoAnswer, &[100; 10]);
    for mirror in 0..9 {
        world.set_state(mirror, State::Down);
    }
    let choice = world.choose(LONDONER, Family::V4);
    assert_eq!((choice.how, choice.mirrors[0].mirror.0, choice.mirrors.len()), (How::Beyond, 9, 1));
    world.set_state(9, State::Down);
    assert_eq!(world.chosen(LONDONER, Family::V4), (Basis::Empty, vec![]));
}

#[test]
fn nearest_knows_no_weights() {
    let mut world = World::equals(&[1, 1, 900]);
    world.registry.domains[0].policy.strategy = Strategy::Nearest;
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    assert_eq!(world.parts(10), BTreeMap::from([(0, 4096)]));
    assert_eq!(world.choose(LONDONER, Family::V4).part.cell.to_string(), "10.0.0.0/8");
}

fn with(strategy: Strategy, rules: Vec<Rule>) -> World {
    let policy = Policy { answers: 1, explore: 0.0, strategy, rules, ..Policy::default() };
    let mirrors = [("lon", 100, (51.5, 0.0)), ("par", 100, (48.9, 2.3)), ("tok", 200, (35.7, 139.7))];
    World::new(policy, mirrors.iter().map(|(n, w, p)| mirror(n, *w, at(p.0, p.1))).collect())
}

#[test]
fn weighted_shares_out_wherever_users_are() {
    let world = with(Strategy::Weighted, Vec::new());
    for net in [10, 20, 30] {
        let parts = world.parts(net);
        assert!(parts[&2].abs_diff(2048) < 200 && parts[&0].abs_diff(1024) < 160, "{parts:?}");
    }
    assert_eq!(world.choose(LONDONER, Family::V4).part.cell.prefix_len(), 20);
}

#[test]
fn failover_follows_its_list() {
    let mut world = with(Strategy::Failover(vec!["tok".into(), "gone".into(), "lon".into()]), Vec::new());
    for client in [LONDONER, CHINESE] {
        assert_eq!(world.first(client), 2);
    }
    world.set_state(2, State::Down);
    assert_eq!((world.first(LONDONER), world.first(CHINESE)), (0, 0));
    world.set_state(0, State::Down);
    assert_eq!(world.first(LONDONER), 1, "who is not on the list comes last");
}

#[test]
fn pins_and_exclusions_hold_by_country_as_and_prefix() {
    let rule = |effect, who, mirrors: &[&str]| Rule {
        effect,
        who,
        mirrors: mirrors.iter().map(|m| Arc::from(*m)).collect(),
    };
    let china = Who::Country(CountryCode::new("CN").unwrap());
    let prefix = |p: &str| Who::Prefix(p.parse().unwrap());
    for strategy in [Strategy::Nearest, Strategy::Balanced] {
        let mut world = with(
            strategy,
            vec![
                rule(RuleEffect::Exclude, china, &["tok"]),
                rule(RuleEffect::Pin, Who::Asn(7), &["par"]),
                rule(RuleEffect::Pin, prefix("10.9.0.0/16"), &["tok"]),
                rule(RuleEffect::Exclude, prefix("10.8.0.0/16"), &["par"]),
            ],
        );
        assert_eq!(world.first(LONDONER), 1, "pinned by AS");
        assert_eq!((world.first([10, 9, 0, 1]), world.first([10, 8, 0, 1])), (2, 0));
        assert_ne!(world.first(CHINESE), 2);
        let cell = |client| world.choose(client, Family::V4).part.cell.to_string();
        assert_eq!(cell([10, 9, 0, 1]), "10.9.0.0/16");
        assert_eq!(cell([10, 8, 0, 1]), "10.8.0.0/16");
        assert_eq!(cell([10, 200, 0, 1]), "10.128.0.0/9", "cells do not reach over prefixes of rules");
        // A pin is given up when its mirror is down, an exclusion never.
        world.set_state(1, State::Down);
        assert_eq!(world.first(LONDONER), 0);
        world.set_state(0, State::Down);
        assert_eq!(world.chosen(CHINESE, Family::V4), (Basis::Empty, vec![]));
        assert_eq!(world.first(LONDONER), 2);
        world.registry.domains[0].policy.failover.all_down = AllDown::All;
        world.set_state(2, State::Down);
        (0..3).for_each(|m| world.live.mirrors[m].verdicts[1].state = State::Down);
        assert_ne!(world.first(CHINESE), 2, "not even when all are down");
    }
}

#[test]
fn a_small_share_of_parts_tries_out_what_may_be_near() {
    let mut world = World::equals(&[100, 100]);
    world.registry.domains[0].policy.explore = 0.1;
    world.registry.domains[0].policy.strategy = Strategy::Nearest;
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    // One cell of a /8 is too large to try things out on.
    assert_eq!(world.parts(10), BTreeMap::from([(0, 4096)]));
    world.registry.domains[0].policy.strategy = Strategy::Balanced;
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    let explored = |world: &World| -> BTreeSet<u32> {
        let is = |n: &u32| {
            let client = Ipv4Addr::from_bits((10 << 24) + (n << 12)).octets();
            world.choose(client, Family::V4).how == How::Explored
        };
        (0..4096).filter(is).collect()
    };
    let first = explored(&world);
    assert!(first.len().abs_diff(410) < 100, "{}", first.len());
    world.live.window += 1;
    let second = explored(&world);
    assert!(first.intersection(&second).count() < 100, "others take their turn");
}

/// What is predicted of how users are shared out is what their parts get.
#[track_caller]
fn shares_hold(world: &World, clients: impl Iterator<Item = Ipv4Addr>, sample: [u8; 4]) {
    let mut counted: BTreeMap<u32, f64> = BTreeMap::new();
    let mut all = 0.0;
    for client in clients {
        *counted.entry(world.first(client.octets())).or_default() += 1.0;
        all += 1.0;
    }
    let view = world.map.view(DomainIndex(0), sample.into()).unwrap();
    let told = spread_shares(&world.registry, &world.live, DomainIndex(0), &view, Family::V4);
    assert!((told.values().sum::<f64>() - 1.0).abs() < 1e-6, "{told:?}");
    let mirrors: BTreeSet<u32> = counted.keys().copied().chain(told.keys().map(|m| m.0)).collect();
    for mirror in mirrors {
        let share = told.get(&MirrorIndex(mirror)).copied().unwrap_or(0.0);
        let seen = counted.get(&mirror).copied().unwrap_or(0.0) / all;
        assert!((share - seen).abs() < 0.04, "mirror {mirror}: told {share}, counted {seen}");
    }
}

#[test]
fn shares_are_told_as_they_are_given() {
    let parts = || (0..4096_u32).map(|n| Ipv4Addr::from_bits((10 << 24) + (n << 12) + 7));
    let mut world = World::equals(&[100, 100, 200]);
    shares_hold(&world, parts(), LONDONER);
    world.live.mirrors[2].offer.withheld = Offer::share(0.5);
    world.live.mirrors[0].offer.shed = Offer::share(0.3);
    world.registry.domains[0].policy.explore = 0.1;
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    shares_hold(&world, parts(), LONDONER);
    world.set_state(1, State::Down);
    shares_hold(&world, parts(), LONDONER);
    world.registry.domains[0].policy.strategy = Strategy::Nearest;
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    shares_hold(&world, parts(), LONDONER);

    let mut line = World::line(AllDown::NoAnswer, &[100; 10]);
    shares_hold(&line, parts(), LONDONER);
    line.live.mirrors[0].offer.shed = Offer::share(0.25);
    line.live.mirrors[1].offer.shed = Offer::share(0.5);
    shares_hold(&line, parts(), LONDONER);
    // All of the ranking shed some, and one beyond it does.
    line.live.mirrors.iter_mut().take(9).for_each(|m| m.offer.shed = Offer::share(0.9));
    shares_hold(&line, parts(), LONDONER);
    line.live.mirrors.iter_mut().for_each(|m| m.offer.shed = u16::MAX);
    shares_hold(&line, parts(), LONDONER);
    (0..9).for_each(|m| line.set_state(m, State::Down));
    shares_hold(&line, parts(), LONDONER);
    line.set_state(9, State::Down);
    let view = line.map.view(DomainIndex(0), LONDONER.into()).unwrap();
    assert!(spread_shares(&line.registry, &line.live, DomainIndex(0), &view, Family::V4).is_empty());
}

#[test]
fn shares_of_users_of_unknown_place_go_by_weight() {
    let networks = || (0..4096_u32).map(|n| Ipv4Addr::from_bits((30 << 24) + (n << 8) + 7));
    let mut world = World::line(AllDown::NoAnswer, &[100, 100, 200, 50]);
    shares_hold(&world, networks(), [30, 0, 0, 7]);
    world.live.mirrors[2].offer.shed = Offer::share(0.5);
    shares_hold(&world, networks(), [30, 0, 0, 7]);
    world.set_state(1, State::Down);
    shares_hold(&world, networks(), [30, 0, 0, 7]);
    let rule = Rule {
        effect: RuleEffect::Exclude,
        who: Who::Prefix("30.0.0.0/8".parse().unwrap()),
        mirrors: vec!["m0".into()],
    };
    world.registry.domains[0].policy.rules = vec![rule];
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    shares_hold(&world, networks(), [30, 0, 0, 7]);
}

#[test]
fn equal_rankings_have_one_number() {
    let world = World::line(AllDown::NoAnswer, &[100, 100, 100]);
    let id = |client: [u8; 4]| {
        let view = world.map.view(DomainIndex(0), client.into()).unwrap();
        list_id(&world.registry, DomainIndex(0), &view)
    };
    assert_eq!(id(LONDONER), id([10, 200, 0, 1]));
    let away = with(Strategy::Nearest, Vec::new());
    let view = away.map.view(DomainIndex(0), LONDONER.into()).unwrap();
    assert_ne!(id(LONDONER), list_id(&away.registry, DomainIndex(0), &view));
}

#[test]
fn loaded_neighbours_do_not_send_each_other_s_users_to_and_fro() {
    let mut world = World::line(AllDown::LastKnown, &[100, 100, 100]);
    world.live.mirrors[0].offer.shed = Offer::share(0.5);
    world.live.mirrors[1].offer.shed = Offer::share(0.25);
    let parts = world.parts(10);
    // What both shed goes on to the third; the second takes only what the first sheds beyond.
    assert!(parts[&0].abs_diff(2048) < 160 && parts[&1].abs_diff(1024) < 160, "{parts:?}");
    assert!(parts[&2].abs_diff(1024) < 160, "{parts:?}");
}

#[test]
fn several_answers_are_of_like_weight() {
    let mut world = World::equals(&[100, 100, 100]);
    world.registry.domains[0].policy.answers = 3;
    world.live.mirrors[0].offer.withheld = Offer::share(0.9);
    let mut shares = [0.0; 3];
    for n in 0..4096_u32 {
        let client = Ipv4Addr::from_bits((10 << 24) + (n << 12)).octets();
        let chosen = world.chosen(client, Family::V4).1;
        chosen.iter().for_each(|m| shares[*m as usize] += 1.0 / chosen.len() as f64 / 4096.0);
    }
    assert!((shares[0] - 0.1 / 2.1_f64).abs() < 0.015, "{shares:?}");
}
