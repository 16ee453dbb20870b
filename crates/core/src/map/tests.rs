//! What holds of cells and rankings, whatever the map.

use super::*;
use crate::geo::table::PlaceTableBuilder;
use crate::geo::{CountryCode, Place, PlaceSource, Position};
use crate::health::{Family, State, Verdict};
use crate::live::{Live, LiveMirror, Offer};
use crate::ranking::{self, Choice};
use crate::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Orders, Policy, Registry, Rule,
    RuleEffect, Strategy as Sharing, Who,
};
use crate::rtt::{Learner, LearnerConfig, Memory, Observation, Source, Target, World};
use crate::time::UnixMillis;
use proptest::prelude::*;
use std::collections::HashMap;

fn map() -> Map {
    let place = |lat| Place { position: Position::from_degrees(lat, 0.0), ..Place::default() };
    let mut builder = PlaceTableBuilder::new();
    for (net, lat) in [("192.0.2.0/24", 1.0), ("10.0.0.0/8", 2.0), ("2000::/3", 3.0), ("2001:db8::/32", 4.0)]
    {
        builder.add_override(net.parse().unwrap(), place(lat));
    }
    Map::of_places(1, Arc::new(builder.build().unwrap()))
}

fn at(addr: &str) -> (Option<f64>, String) {
    let located = map().locate(addr.parse().unwrap());
    (located.place.position.map(|p| p.degrees().0.round()), located.cell.to_string())
}

#[test]
fn addresses_that_carry_ipv4_are_where_it_is() {
    assert_eq!(at("2002:c000:0201::1"), (Some(1.0), "2002:c000:200::/40".into()));
    assert_eq!(at("64:ff9b::192.0.2.9"), (Some(1.0), "64:ff9b::c000:200/120".into()));
    assert_eq!(at("::ffff:10.1.2.3"), (Some(2.0), "10.0.0.0/8".into()));
    assert_eq!(at("2001:db8::1"), (Some(4.0), "2001:db8::/32".into()));
    // The cell of a neighbour ends where 6to4 begins.
    assert_eq!(at("2003::1"), (Some(3.0), "2003::/16".into()));
}

#[test]
fn cells_of_nowhere_are_networks() {
    assert_eq!(at("203.0.113.9"), (None, "203.0.113.0/24".into()));
    assert_eq!(at("fd00:1:2:3::4"), (None, "fd00:1:2::/48".into()));
    assert_eq!(Map::default().locate([203, 0, 113, 9].into()).cell.to_string(), "203.0.113.0/24");
}

/// A mirror of domain 0.
fn mirror(name: String, position: Option<Position>, weight: u32) -> Mirror {
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

fn registry(policy: Policy, mirrors: Vec<Mirror>) -> Registry {
    let (records, redirect_hosts) = (Vec::new(), Vec::new());
    let domain = Domain {
        name: "a.test".into(),
        mirrors: 0..mirrors.len() as u32,
        policy,
        records,
        redirect_hosts,
        trust: Default::default(),
    };
    Registry { domains: vec![domain], mirrors, ..Registry::default() }
}

/// Mirrors scattered over the sphere; the golden angle leaves no gap.
fn scattered(n: usize) -> Vec<Mirror> {
    let position = |i: usize| {
        let lat = (1.0 - 2.0 * (i as f64 + 0.5) / n as f64).asin().to_degrees();
        let lon = (i as f64 * 137.508) % 360.0 - 180.0;
        Position::from_degrees(lat, lon)
    };
    (0..n).map(|i| mirror(format!("m{i:05}"), position(i), 100)).collect()
}

/// The first mirror of a client at a place, and the first without an index.
fn first_two_ways(set: &MirrorSet, lat: f64, lon: f64) -> (usize, usize) {
    let place = Place { position: Position::from_degrees(lat, lon), ..Place::default() };
    let client = set.model().client(&place, None);
    let indexed = set.rank(&client, &place, None).slots()[0].into();
    (indexed, set.best(&client, &place, None, |_| true).unwrap())
}

#[test]
fn thousands_of_mirrors_are_ranked_as_if_each_was_looked_at() {
    let registry = registry(Policy::default(), scattered(5000));
    let map = Map::default().follow(&registry, &Arc::default(), &Arc::default(), None);
    let set = &map.sets.entries()[0].set;
    for (lat, lon) in [
        (90.0, 0.0),
        (-90.0, 77.0),
        (89.99, 179.99),
        (0.0, 180.0),
        (0.0, -180.0),
        (10.0, 179.9999),
        (10.0, -179.9999),
        (51.48, 0.0),
        (51.48, -0.0001),
        (51.48, 0.0001),
        (-33.9, 151.2),
        (0.0, 0.0),
        (65.0, -169.0),
        (65.0, 171.0),
    ] {
        let (indexed, whole) = first_two_ways(set, lat, lon);
        assert_eq!(indexed, whole, "{lat}, {lon}");
    }
    // Both sides of the date line see the same mirrors.
    let east = first_two_ways(set, 10.0, 179.9999).0;
    assert_eq!(east, first_two_ways(set, 10.0, -179.9999).0);
}

#[test]
fn mirrors_at_one_place_or_nowhere_are_no_trouble() {
    for position in [Position::from_degrees(1.0, 2.0), None] {
        let mirrors = (0..300).map(|i| mirror(format!("m{i:03}"), position, 100)).collect();
        let registry = registry(Policy::default(), mirrors);
        let map = Map::default().follow(&registry, &Arc::default(), &Arc::default(), None);
        let (indexed, whole) = first_two_ways(&map.sets.entries()[0].set, 3.0, 4.0);
        assert_eq!(indexed, whole);
    }
}

#[test]
fn domains_with_the_same_mirrors_share_a_set_and_what_stays_is_kept() {
    let mut registry = registry(Policy::default(), scattered(6));
    let second: Vec<Mirror> =
        registry.mirrors.iter().map(|m| Mirror { domain: DomainIndex(1), ..m.clone() }).collect();
    registry.mirrors.extend(second);
    for (m, i) in registry.mirrors.iter_mut().zip(0u8..) {
        let v4 = Some([192, 0, 2, i % 6].into());
        m.address = MirrorAddress::Declared { v4, v6: None };
    }
    registry.domains.push(Domain { name: "b.test".into(), mirrors: 6..12, ..registry.domains[0].clone() });
    let (places, model) = (Arc::default(), Arc::default());
    let map = Map::default().follow(&registry, &places, &model, None).with_all_cells();
    assert_eq!(map.sets.entries().len(), 1);
    registry.domains[1].policy.tie_band_ms += 1.0;
    let next = map.follow(&registry, &places, &model, None);
    assert_eq!(next.sets.entries().len(), 2);
    assert!(Arc::ptr_eq(&next.sets.entries()[0].set, &map.sets.entries()[0].set));
    assert!(next.sets.entries()[0].cells.is_some() && next.sets.entries()[1].cells.is_none());
    let other_model = Arc::default();
    let next = next.follow(&registry, &places, &other_model, None);
    let entry = &next.sets.entries()[0];
    assert!(!Arc::ptr_eq(&entry.set, &map.sets.entries()[0].set));
    assert!(!entry.cells.as_ref().unwrap().is_of(&entry.set, &places), "serves until it is built anew");
}

/// A map with everything in it that tells addresses apart.
#[derive(Clone, Debug)]
struct Scene {
    places: Vec<(u32, u8, usize)>,
    places_v6: Vec<(u128, u8, usize)>,
    /// Measured networks: which /24 below 10/8, which mirror, milliseconds.
    measured: Vec<(u16, usize, f32)>,
    rules: Vec<(u16, u8, usize, bool)>,
    mirrors: usize,
    strategy: usize,
    answers: u8,
    states: Vec<(bool, u16, u16)>,
    explore: f32,
}

const SPOTS: [(f64, f64); 6] =
    [(51.5, -0.1), (40.7, -74.0), (-33.9, 151.2), (35.7, 139.7), (48.9, 2.3), (6.5, 3.4)];

fn spot(i: usize) -> Place {
    let (lat, lon) = SPOTS[i % SPOTS.len()];
    let country = CountryCode::new(["GB", "US", "AU", "JP", "FR", "NG"][i % SPOTS.len()]);
    // One spot in seven is nowhere.
    let position = Position::from_degrees(lat + (i / 6) as f64 * 0.5, lon).filter(|_| i % 7 != 3);
    Place { position, country, asn: Some(i as u32 % 3) }
}

fn scene() -> impl Strategy<Value = Scene> {
    let v4 = prop_oneof![(0u32..1 << 24, 8u8..=28, 0usize..20), (0u32..1 << 13, 19u8..=28, 0usize..20)];
    let v6 = (0u128..1 << 40, 20u8..=60, 0usize..20);
    let rule = (any::<u16>(), 9u8..=20, 0usize..8, any::<bool>());
    let state = (
        prop::bool::weighted(0.7),
        prop_oneof![3 => Just(0u16), 1 => any::<u16>(), 3 => Just(u16::MAX)],
        any::<u16>(),
    );
    (
        (prop::collection::vec(v4, 0..20), prop::collection::vec(v6, 0..10)),
        prop::collection::vec((any::<u16>(), 0usize..8, 1.0f32..400.0), 0..12),
        prop::collection::vec(rule, 0..3),
        (1usize..14, 0usize..4, 1u8..4),
        (prop::collection::vec(state, 14), prop_oneof![Just(0.0f32), Just(0.3)]),
    )
        .prop_map(
            |((places, places_v6), measured, rules, (mirrors, strategy, answers), (states, explore))| Scene {
                places,
                places_v6,
                measured,
                rules,
                mirrors,
                strategy,
                answers,
                states,
                explore,
            },
        )
}

/// An address inside 10/8 or 2001:db8::/32, or one that carries such.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        2 => (0u32..1 << 13).prop_map(|r| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | r))),
        4 => (0u32..1 << 24).prop_map(|r| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | r))),
        2 => (0u128..1 << 96).prop_map(|r| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | r))),
        1 => (0u128..1 << 24, any::<u64>()).prop_map(|(r, low)| {
            IpAddr::V6(Ipv6Addr::from_bits(0x2002_0a00_0000 << 80 | r << 80 | u128::from(low)))
        }),
        1 => any::<u128>().prop_map(|r| IpAddr::V6(Ipv6Addr::from_bits(r))),
    ]
}

impl Scene {
    fn registry(&self) -> Registry {
        let names = |i: usize| -> Vec<Arc<str>> { vec![format!("m{i}").into()] };
        let rule = |(net, len, mirror, pin): &(u16, u8, usize, bool)| {
            let net =
                Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 | u32::from(*net) << 8), *len).unwrap().trunc();
            let effect = if *pin { RuleEffect::Pin } else { RuleEffect::Exclude };
            Rule { who: Who::Prefix(net.into()), effect, mirrors: names(*mirror) }
        };
        let strategy = match self.strategy {
            0 => Sharing::Nearest,
            1 => Sharing::Balanced,
            2 => Sharing::Weighted,
            _ => Sharing::Failover(vec!["m2".into(), "m0".into()]),
        };
        let rules = self.rules.iter().map(rule).collect();
        let policy =
            Policy { answers: self.answers, strategy, rules, explore: self.explore, ..Policy::default() };
        let mirrors =
            (0..self.mirrors).map(|i| mirror(format!("m{i}"), spot(i * 5).position, 100 + i as u32));
        registry(policy, mirrors.collect())
    }

    fn live(&self, registry: &Registry) -> Live {
        let mirror = |(i, (up, shed, withheld)): (usize, &(bool, u16, u16))| {
            let state = if *up { State::Up } else { State::Down };
            LiveMirror {
                v4: Some([192, 0, 2, i as u8].into()),
                v6: (i % 2 == 0).then(|| [0x2001, 0xdb8, 0, 0, 0, 0, 0, i as u16].into()),
                verdicts: [Verdict { state, ..Verdict::default() }; 2],
                last_known: [i % 2 == 0; 2],
                offer: Offer { shed: *shed, withheld: *withheld },
                ..LiveMirror::default()
            }
        };
        let mut live = Live::new(self.states.iter().take(self.mirrors).enumerate().map(mirror).collect());
        live.tally(registry);
        live
    }

    fn map(&self, registry: &Registry) -> Map {
        let mut builder = PlaceTableBuilder::new();
        for (net, len, place) in &self.places {
            let net = Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 | net), *len).unwrap().trunc();
            builder.add_override(net.into(), spot(*place));
        }
        for (net, len, place) in &self.places_v6 {
            let addr = Ipv6Addr::from_bits(0x2001_0db8 << 96 | net << 56);
            builder.add_override(Ipv6Net::new(addr, *len).unwrap().trunc().into(), spot(*place));
        }
        let places = Arc::new(builder.build().unwrap());
        let located = Map::of_places(1, places.clone());
        let mut learner = Learner::new(LearnerConfig::default(), Arc::default(), Memory::default());
        for (net, mirror, rtt_ms) in &self.measured {
            let addr = Ipv4Addr::from_bits(0x0a00_0000 | u32::from(*net) << 8);
            let target = Target::of(registry, MirrorIndex((mirror % self.mirrors) as u32));
            let (source, reporter, users) = (Source::Client, 1, 1);
            let seen = Observation {
                network: IpAddr::V4(addr).into(),
                target,
                rtt_ms: *rtt_ms,
                source,
                reporter,
                users,
            };
            learner.observe(&seen, UnixMillis(0)).unwrap();
        }
        let sites: HashMap<Target, Place> = (0..self.mirrors as u32)
            .map(|i| (Target::of(registry, MirrorIndex(i)), registry.mirror(MirrorIndex(i)).place))
            .collect();
        let world = World { sites: &sites, locate: &|addr| located.locate(addr).place };
        let model = Arc::new(learner.fit(&world, UnixMillis(0)));
        located.follow(registry, &places, &model, None)
    }
}

/// Another address of the same prefix.
fn neighbour(cell: IpNet, addr: IpAddr, bits: u128) -> IpAddr {
    match (cell, addr) {
        (IpNet::V4(net), IpAddr::V4(a)) => {
            let host = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & !host | bits as u32 & host))
        }
        (IpNet::V6(net), IpAddr::V6(a)) => {
            let host = u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !host | bits & host))
        }
        _ => panic!("{cell} is not of the family of {addr}"),
    }
}

fn told(choice: &Choice) -> (Vec<MirrorIndex>, Vec<IpAddr>, IpNet) {
    let mirrors = choice.mirrors.iter().map(|c| c.mirror).collect();
    (mirrors, choice.addrs.to_vec(), choice.part.cell)
}

proptest! {
    /// Everyone in a cell has its place and its cell.
    #[test]
    fn cells_are_equal_or_disjoint(prefix in 0usize..5, low: u128, other: u128) {
        let (first, keep) = [(0, 0), (0x2002 << 112, 16), (0x64_ff9b << 96, 96), (0x2000 << 112, 12), (0x64_ff9b << 96, 80)][prefix];
        let bits = first | low.checked_shr(keep).unwrap_or(0);
        let located = map().locate(Ipv6Addr::from_bits(bits).into());
        if let IpNet::V6(cell) = located.cell {
            let host = u128::MAX.checked_shr(cell.prefix_len().into()).unwrap_or(0);
            let neighbour = Ipv6Addr::from_bits(bits & !host | other & host);
            if neighbour.to_ipv4_mapped().is_none() {
                prop_assert_eq!(map().locate(neighbour.into()), located);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Two addresses inside one part get the same answer and the same part, whatever the map, what was
    /// learned, the rules, health, load and policy; built and unbuilt.
    #[test]
    fn everyone_in_a_part_gets_the_same(scene in scene(), addrs in prop::collection::vec((address(), any::<u128>()), 24)) {
        let registry = scene.registry();
        let live = scene.live(&registry);
        let unbuilt = scene.map(&registry);
        let built = unbuilt.with_all_cells();
        for (map, family) in [&unbuilt, &built].into_iter().flat_map(|m| Family::ALL.map(|f| (m, f))) {
            let choose = |addr: IpAddr| {
                let view = map.view(DomainIndex(0), addr).unwrap();
                ranking::choose(&registry, &live, DomainIndex(0), &view, family)
            };
            for (addr, bits) in &addrs {
                let choice = choose(*addr);
                prop_assert!(choice.part.cell.contains(addr));
                if choice.for_everyone {
                    for (anyone, _) in &addrs {
                        let theirs = choose(*anyone);
                        prop_assert_eq!(&choice.addrs, &theirs.addrs, "{} and {}", addr, anyone);
                        prop_assert!(theirs.for_everyone, "{} and {}", addr, anyone);
                    }
                }
                let other = neighbour(choice.part.cell, *addr, *bits);
                if other.to_canonical() == other {
                    prop_assert_eq!(told(&choice), told(&choose(other)), "{} and {}", addr, other);
                }
            }
        }
    }

    /// Cells that were built rank as a query by itself would, and they are as wide as they can be: the
    /// prefix one bit shorter holds somebody who is ranked otherwise.
    #[test]
    fn built_cells_are_right_and_as_wide_as_can_be(scene in scene(), addrs in prop::collection::vec(address(), 12)) {
        let registry = scene.registry();
        let unbuilt = scene.map(&registry);
        let built = unbuilt.with_all_cells();
        let mut edges: Vec<IpAddr> = Vec::new();
        let (v4, v6) = unbuilt.places.families();
        edges.extend(v4.iter().map(|(s, _)| IpAddr::V4(s.into())));
        edges.extend(v6.iter().map(|(s, _)| IpAddr::V6(s.into())));
        edges.extend(unbuilt.model.cuts_v4().into_iter().map(|s| IpAddr::V4(s.into())));
        let set = &unbuilt.sets.entries()[0].set;
        edges.extend(set.rules().cuts().0.iter().map(|s| IpAddr::V4((*s).into())));
        for addr in addrs {
            let ranked = |map: &Map, addr| {
                let view = map.view(DomainIndex(0), addr).unwrap();
                (*view.ranking(), view.shared(), view.whole().cell)
            };
            let (by_itself, alone) = (ranked(&unbuilt, addr), ranked(&built, addr));
            prop_assert_eq!((by_itself.0, by_itself.1), (alone.0, alone.1), "{}", addr);
            prop_assert!(alone.2.contains(&by_itself.2), "{} in {}", by_itself.2, alone.2);
            let wider = match alone.2 {
                IpNet::V4(n) => n.supernet().map(IpNet::V4),
                IpNet::V6(n) => n.supernet().map(IpNet::V6),
            };
            let carried = matches!(addr.to_canonical(), IpAddr::V6(a) if carried(a).is_some());
            // An order of failover holds where users' place is not known, too, and that is not built.
            if let Some(wider) = wider.filter(|_| !alone.1 && !carried && !set.is_failover()) {
                let beyond = edges.iter().filter(|e| wider.contains(*e));
                let reaches_carrier = CARRIERS.iter().any(|(first, _)| wider.contains(&IpAddr::V6((*first).into())));
                let (start, sibling) = (wider.addr(), neighbour(wider, wider.addr(), !0));
                let otherwise = beyond.chain([&start, &sibling]).any(|e| {
                    let other = ranked(&unbuilt, *e);
                    other.1 || other.0 != alone.0
                });
                prop_assert!(otherwise || reaches_carrier, "{} could be {}", alone.2, wider);
            }
        }
    }
}

#[test]
fn a_cell_keeps_its_first_mirror_until_another_is_clearly_better_for_long_enough() {
    let registry = registry(
        Policy { explore: 0.0, ..Policy::default() },
        vec![
            mirror("a".into(), Position::from_degrees(51.5, -0.1), 100),
            mirror("b".into(), Position::from_degrees(48.9, 2.3), 100),
        ],
    );
    let mut places = PlaceTableBuilder::new();
    places.add_override("10.0.0.0/8".parse().unwrap(), spot(0));
    let places = Arc::new(places.build().unwrap());
    let mut learner = Learner::new(LearnerConfig::default(), Arc::default(), Memory::default());
    let client: IpAddr = [10, 0, 0, 1].into();
    let mut map = Map::of_places(1, places.clone());
    let minute = 60_000;
    // What the network measures of the two mirrors, and which is first then, minute by minute.
    for (minutes, a, b, first) in [
        (0, 20.0, 24.0, 0),
        (61, 26.0, 24.0, 0),
        (122, 60.0, 24.0, 0),
        (124, 60.0, 24.0, 0),
        (128, 60.0, 24.0, 1),
        (190, 20.0, 24.0, 1),
    ] {
        let now = UnixMillis(minutes * minute);
        for (mirror, rtt_ms) in [(0, a), (1, b)] {
            let target = Target::of(&registry, MirrorIndex(mirror));
            let (source, reporter, users) = (Source::Client, 1, 1);
            let seen = Observation { network: client.into(), target, rtt_ms, source, reporter, users };
            learner.observe(&seen, now).unwrap();
        }
        let sites: HashMap<Target, Place> = (0..2)
            .map(|i| (Target::of(&registry, MirrorIndex(i)), registry.mirror(MirrorIndex(i)).place))
            .collect();
        let model = Arc::new(learner.fit(&World { sites: &sites, locate: &|_| spot(0) }, now));
        map = map.follow(&registry, &places, &model, None);
        let entry = &map.sets.entries()[0];
        let cells = CellTable::build(&entry.set, &places, entry.cells.as_deref(), now);
        map = map.with_cells([(0, Some(Arc::new(cells)))]);
        let view = map.view(DomainIndex(0), client).unwrap();
        assert_eq!(view.ranking().slots()[0], first, "after {minutes} minutes");
    }
}

#[test]
fn beyond_the_ranking_only_those_alike_get_the_same() {
    let mut mirrors: Vec<Mirror> =
        (0..8).map(|i| mirror(format!("a{i}"), Position::from_degrees(51.5, -0.1), 100)).collect();
    mirrors.push(mirror("b".into(), Position::from_degrees(55.0, 82.9), 100));
    mirrors.push(mirror("c".into(), Position::from_degrees(40.7, -74.0), 100));
    let registry = registry(Policy { explore: 0.0, ..Policy::default() }, mirrors);
    let mut places = PlaceTableBuilder::new();
    let place = |lat, lon| Place { position: Position::from_degrees(lat, lon), ..Place::default() };
    places.add_override("10.0.0.0/25".parse().unwrap(), place(55.8, 37.6));
    places.add_override("10.0.0.128/25".parse().unwrap(), place(53.3, -6.3));
    let places = Arc::new(places.build().unwrap());
    let map = Map::default().follow(&registry, &places, &Arc::default(), None).with_all_cells();
    let mut live: Vec<LiveMirror> = vec![LiveMirror::default(); 10];
    for (entry, i) in live.iter_mut().zip(0u8..) {
        let state = if i < 8 { State::Down } else { State::Up };
        entry.v4 = Some([192, 0, 2, i].into());
        entry.verdicts = [Verdict { state, ..Verdict::default() }; 2];
    }
    let live = Live::new(live);
    let choose = |last: u8| {
        let view = map.view(DomainIndex(0), [10, 0, 0, last].into()).unwrap();
        assert_eq!(view.whole().cell.to_string(), "10.0.0.0/24", "both rank the first eight alike");
        let choice = ranking::choose(&registry, &live, DomainIndex(0), &view, Family::V4);
        (choice.mirrors[0].mirror.0, choice.part.cell.to_string())
    };
    assert_eq!(choose(1), (8, "10.0.0.0/25".into()));
    assert_eq!(choose(200), (9, "10.0.0.128/25".into()));
}

#[test]
fn a_corrected_place_counts_at_once() {
    let degrees = |lat| Position::from_degrees(lat, 0.0);
    let table = |lat| {
        let mut builder = PlaceTableBuilder::new();
        builder.add_override(
            "10.0.0.0/8".parse().unwrap(),
            Place { position: degrees(lat), ..Place::default() },
        );
        Arc::new(builder.build().unwrap())
    };
    let mirrors =
        vec![mirror("north".into(), degrees(60.0), 100), mirror("south".into(), degrees(-60.0), 100)];
    let registry = registry(Policy::default(), mirrors);
    let model = Arc::default();
    let first = |map: &Map| map.view(DomainIndex(0), [10, 1, 2, 3].into()).unwrap().ranking().slots()[0];
    let map = Map::default().follow(&registry, &table(50.0), &model, None).with_all_cells();
    assert_eq!(first(&map), 0);
    let corrected = map.follow(&registry, &table(-50.0), &model, None).with_all_cells();
    assert_eq!(first(&corrected), 1);
}
