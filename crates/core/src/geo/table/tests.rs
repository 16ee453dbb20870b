//! The table against a naive longest-prefix model, and the promises of cells.

use super::*;
use crate::geo::{CountryCode, Position, countries};
use ipnet::IpNet;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn code(s: &str) -> CountryCode {
    CountryCode::new(s).unwrap()
}

fn in_country(c: &str) -> Place {
    Place { country: Some(code(c)), ..Place::default() }
}

fn in_as(asn: u32) -> Place {
    Place { asn: Some(asn), ..Place::default() }
}

fn city(c: &str, lat: f64, lon: f64) -> Place {
    Place { position: Position::from_degrees(lat, lon), country: Some(code(c)), asn: None }
}

/// Databases as (network, place) lists, strongest first, and overrides.
fn table(databases: &[&[(&str, Place)]], overrides: &[(&str, Place)]) -> PlaceTable {
    let mut builder = PlaceTableBuilder::new();
    for (at, networks) in databases.iter().enumerate() {
        let mut layer = builder.database(format!("db{at}")).unwrap();
        for (network, place) in *networks {
            let id = layer.place(*place);
            layer.add(net(network), id).unwrap();
        }
    }
    for (network, place) in overrides {
        builder.add_override(net(network), *place);
    }
    builder.build().unwrap()
}

#[test]
fn the_default_table_knows_nothing_and_one_cell_holds_each_family() {
    for table in [PlaceTable::default(), PlaceTableBuilder::new().build().unwrap()] {
        for (addr, cell) in [("203.0.113.9", "0.0.0.0/0"), ("2001:db8::1", "::/0")] {
            let found = table.locate(ip(addr));
            assert_eq!(found.place, Place::default());
            assert_eq!(found.source, PlaceSource::Unknown);
            assert_eq!(found.cell, net(cell));
        }
        assert_eq!(table.places(), 0);
    }
}

#[test]
fn parts_are_filled_from_the_strongest_layer_that_has_them() {
    let london = city("GB", 51.5, -0.1);
    let table = table(
        &[
            &[("192.0.2.0/25", london), ("198.51.100.0/24", in_country("FR"))],
            &[("192.0.2.0/24", in_as(64500)), ("203.0.113.0/24", in_as(64501))],
            &[("192.0.2.0/24", in_country("DE")), ("198.51.100.0/24", city("FR", 43.3, 5.4))],
        ],
        &[],
    );
    let found = table.locate(ip("192.0.2.1"));
    assert_eq!(found.place, Place { asn: Some(64500), ..london });
    assert_eq!((found.source, table.source_name(found.source)), (PlaceSource::Database(0), "db0"));
    assert_eq!(found.cell, net("192.0.2.0/25"));

    let found = table.locate(ip("192.0.2.200"));
    assert_eq!(found.place.country, Some(code("DE")));
    assert_eq!(found.place.position, countries::centre(code("DE")));
    assert_eq!((found.source, found.place.asn), (PlaceSource::Database(2), Some(64500)));

    // The weaker database agrees on the country, so its position is better than the centre.
    let found = table.locate(ip("198.51.100.7"));
    assert_eq!((found.place, found.source), (city("FR", 43.3, 5.4), PlaceSource::Database(2)));

    let found = table.locate(ip("203.0.113.7"));
    assert_eq!((found.place, found.source), (in_as(64501), PlaceSource::Database(1)));
    assert_eq!(table.sources(), ["db0", "db1", "db2"]);
}

#[test]
fn a_corrected_country_does_not_keep_the_wrong_position() {
    let table = table(
        &[&[("192.0.2.0/24", Place { asn: Some(64500), ..city("US", 37.4, -122.1) })]],
        &[("192.0.2.0/24", in_country("JP"))],
    );
    let found = table.locate(ip("192.0.2.1"));
    assert_eq!(found.place.country, Some(code("JP")));
    assert_eq!(found.place.position, countries::centre(code("JP")));
    assert_eq!((found.place.asn, found.source), (Some(64500), PlaceSource::Override));
}

#[test]
fn the_longest_override_wins_and_of_equal_ones_the_last() {
    let table = table(
        &[],
        &[
            ("10.1.2.0/24", in_country("NL")),
            ("10.0.0.0/8", in_country("DE")),
            ("10.1.0.0/16", in_country("FR")),
            ("10.1.2.3/32", in_country("BE")),
            ("10.1.0.0/16", in_country("ES")),
            ("2001:db8::/32", in_country("SE")),
            ("2001:db8:ffff::/48", in_country("NO")),
        ],
    );
    let country = |addr| table.locate(ip(addr)).place.country.map(|c| c.to_string());
    for (addr, expected) in [
        ("9.255.255.255", None),
        ("10.0.0.0", Some("DE")),
        ("10.1.1.255", Some("ES")),
        ("10.1.2.2", Some("NL")),
        ("10.1.2.3", Some("BE")),
        ("10.1.2.4", Some("NL")),
        ("10.1.3.0", Some("ES")),
        ("10.255.255.255", Some("DE")),
        ("11.0.0.0", None),
        ("2001:db8:fffe::", Some("SE")),
        ("2001:db8:ffff::", Some("NO")),
        ("2001:db9::", None),
    ] {
        assert_eq!(country(addr).as_deref(), expected, "{addr}");
    }
}

#[test]
fn neighbours_of_one_place_share_a_cell_whatever_their_source() {
    let table = table(
        &[
            &[("192.0.2.0/26", in_country("GB")), ("192.0.2.128/25", in_country("GB"))],
            &[("192.0.2.64/26", in_country("GB")), ("192.0.3.0/24", in_country("GB"))],
        ],
        &[],
    );
    let expected = [(0, 0), (63, 0), (64, 1), (127, 1), (128, 0), (255, 0)];
    for (low, database) in expected {
        let found = table.locate(IpAddr::V4(Ipv4Addr::new(192, 0, 2, low)));
        assert_eq!(found.cell, net("192.0.2.0/23"), "{low}");
        assert_eq!(found.source, PlaceSource::Database(database), "{low}");
    }
    // Nowhere, GB, nowhere; and nowhere in IPv6.
    assert_eq!((table.ranges(), table.places()), (4, 1));
}

#[test]
fn a_network_may_reach_the_ends_of_the_address_space() {
    let table = table(
        &[&[("0.0.0.0/8", in_country("GB")), ("255.0.0.0/8", in_country("FR")), ("::/0", in_as(1))]],
        &[("ffff:ffff::/32", in_as(2)), ("255.255.255.255/32", in_country("DE"))],
    );
    assert_eq!(table.locate(ip("0.0.0.0")).cell, net("0.0.0.0/8"));
    assert_eq!(table.locate(ip("255.0.0.1")).cell, net("255.0.0.0/9"));
    assert_eq!(table.locate(ip("255.255.255.255")).cell, net("255.255.255.255/32"));
    assert_eq!(table.locate(ip("::")).cell, net("::/1"));
    assert_eq!(table.locate(ip("ffff:ffff::1")).place.asn, Some(2));
}

#[test]
fn networks_out_of_order_are_refused_by_name() {
    let mut builder = PlaceTableBuilder::new();
    let mut layer = builder.database("db").unwrap();
    let id = layer.place(in_country("GB"));
    layer.add(net("10.0.0.0/8"), id).unwrap();
    // Another family has its own order.
    layer.add(net("::/16"), id).unwrap();
    for bad in ["10.0.0.0/8", "10.1.0.0/16", "9.0.0.0/8", "0.0.0.0/0", "::/8"] {
        assert_eq!(layer.add(net(bad), id), Err(BuildError::OutOfOrder(net(bad))));
    }
    layer.add(net("255.255.255.255/32"), id).unwrap();
    assert!(layer.add(net("255.255.255.255/32"), id).is_err());
}

#[test]
fn the_257th_database_is_refused_by_name() {
    let mut builder = PlaceTableBuilder::new();
    for at in 0..256 {
        builder.database(format!("db{at}")).unwrap();
    }
    assert_eq!(builder.database("last").err(), Some(BuildError::TooManyDatabases("last".into())));
}

/// Places from a small set, so that neighbours are often equal and parts are often missing.
fn any_place() -> impl Strategy<Value = Place> {
    let country = prop::sample::select(vec![None, Some("GB"), Some("FR")]);
    let position = prop::sample::select(vec![None, Some((51.5, -0.1)), Some((48.9, 2.4))]);
    let asn = prop::sample::select(vec![None, None, Some(64500), Some(64501)]);
    (position, country, asn).prop_map(|(position, country, asn)| Place {
        position: position.and_then(|(lat, lon)| Position::from_degrees(lat, lon)),
        country: country.map(code),
        asn,
    })
}

/// Prefixes crowded into a few bits at the top and the bottom of an address.
fn any_net() -> impl Strategy<Value = IpNet> {
    let v4 = (0..4_u32, 0..4_u32, 0..16_u32, 0..=32_u8).prop_map(|(top, middle, low, len)| {
        let addr = top << 30 | middle << 15 | low;
        IpNet::from(Ipv4Net::new(Ipv4Addr::from_bits(addr), len).unwrap().trunc())
    });
    let v6 = (0..4_u128, 0..4_u128, 0..16_u128, 0..=128_u8).prop_map(|(top, middle, low, len)| {
        let addr = top << 126 | middle << 79 | low;
        IpNet::from(Ipv6Net::new(Ipv6Addr::from_bits(addr), len).unwrap().trunc())
    });
    prop_oneof![v4, v6]
}

/// Disjoint ascending networks: of overlapping ones, the first stays.
fn any_database() -> impl Strategy<Value = Vec<(IpNet, Place)>> {
    prop::collection::vec((any_net(), any_place()), 0..24).prop_map(|candidates| {
        let mut kept: BTreeMap<IpNet, Place> = BTreeMap::new();
        for (net, place) in candidates {
            if !kept.keys().any(|k| k.contains(&net) || net.contains(k)) {
                kept.insert(net, place);
            }
        }
        kept.into_iter().collect()
    })
}

/// What a table of these layers must answer, written as plainly as can be.
fn naive(
    overrides: &[(IpNet, Place)],
    databases: &[Vec<(IpNet, Place)>],
    addr: IpAddr,
) -> (Place, PlaceSource) {
    let longest =
        overrides.iter().filter(|(net, _)| net.contains(&addr)).max_by_key(|(net, _)| net.prefix_len());
    let mut layers = vec![(PlaceSource::Override, longest.map(|(_, p)| *p).unwrap_or_default())];
    for (at, database) in databases.iter().enumerate() {
        let place = database.iter().find(|(net, _)| net.contains(&addr)).map(|(_, p)| *p);
        layers.push((PlaceSource::Database(at as u8), place.unwrap_or_default()));
    }
    let country_at = layers.iter().position(|(_, p)| p.country.is_some());
    let country = country_at.and_then(|at| layers[at].1.country);
    let fits = |at: usize, p: &Place| {
        p.position.is_some()
            && (country_at.is_none_or(|decided| at < decided) || p.country.is_none() || p.country == country)
    };
    let position_at = (0..layers.len()).find(|at| fits(*at, &layers[*at].1));
    let asn_at = layers.iter().position(|(_, p)| p.asn.is_some());
    let place = Place {
        position: match position_at {
            Some(at) => layers[at].1.position,
            None => country.and_then(countries::centre),
        },
        country,
        asn: asn_at.and_then(|at| layers[at].1.asn),
    };
    let source = position_at.or(country_at).or(asn_at).map_or(PlaceSource::Unknown, |at| layers[at].0);
    (place, source)
}

/// Addresses where something could change: the edges of every network and beyond them, and a few.
fn edges(nets: impl Iterator<Item = IpNet>) -> Vec<IpAddr> {
    let mut out = vec![ip("0.0.0.0"), ip("255.255.255.255"), ip("::"), ip("ffff::"), ip("128.0.0.0")];
    for net in nets {
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let (a, b) = (a.to_bits(), b.to_bits());
                let all = [a.wrapping_sub(1), a, a + (b - a) / 2, b, b.wrapping_add(1)];
                out.extend(all.map(|x| IpAddr::V4(Ipv4Addr::from_bits(x))));
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let (a, b) = (a.to_bits(), b.to_bits());
                let all = [a.wrapping_sub(1), a, a + (b - a) / 2, b, b.wrapping_add(1)];
                out.extend(all.map(|x| IpAddr::V6(Ipv6Addr::from_bits(x))));
            }
            _ => unreachable!("both ends of a network are of its family"),
        }
    }
    out
}

fn compiled(overrides: &[(IpNet, Place)], databases: &[Vec<(IpNet, Place)>]) -> PlaceTable {
    let mut builder = PlaceTableBuilder::new();
    for database in databases {
        let mut layer = builder.database("db").unwrap();
        for (net, place) in database {
            let id = layer.place(*place);
            layer.add(*net, id).unwrap();
        }
    }
    for (net, place) in overrides {
        builder.add_override(*net, *place);
    }
    builder.build().unwrap()
}

/// Overrides without repeats of one prefix (which of those wins is another test's subject).
fn any_overrides() -> impl Strategy<Value = Vec<(IpNet, Place)>> {
    prop::collection::btree_map(any_net(), any_place(), 0..16)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn the_table_answers_as_the_naive_model(
        overrides in any_overrides(),
        databases in prop::collection::vec(any_database(), 0..4),
    ) {
        let table = compiled(&overrides, &databases);
        let nets = overrides.iter().chain(databases.iter().flatten()).map(|(net, _)| *net);
        for addr in edges(nets) {
            let found = table.locate(addr);
            let (place, source) = naive(&overrides, &databases, addr);
            prop_assert_eq!(found.place, place, "{}", addr);
            prop_assert_eq!(found.source, source, "{}", addr);
        }
    }

    #[test]
    fn every_address_of_a_cell_has_its_place_and_its_cell_and_no_wider_prefix_does(
        overrides in any_overrides(),
        databases in prop::collection::vec(any_database(), 0..3),
    ) {
        let table = compiled(&overrides, &databases);
        let nets: Vec<IpNet> =
            overrides.iter().chain(databases.iter().flatten()).map(|(net, _)| *net).collect();
        let addrs = edges(nets.iter().copied());
        for addr in &addrs {
            let found = table.locate(*addr);
            prop_assert!(found.cell.contains(addr));
            prop_assert_eq!(found.cell, found.cell.trunc());
            // Wherever the place could change inside the cell, it does not.
            let inside = edges([found.cell].into_iter()).into_iter().chain(addrs.iter().copied());
            for other in inside.filter(|other| found.cell.contains(other)) {
                let other_found = table.locate(other);
                prop_assert_eq!(other_found.place, found.place, "{} and {}", addr, other);
                prop_assert_eq!(other_found.cell, found.cell, "{} and {}", addr, other);
            }
            // The prefix one bit shorter holds another place.
            if let Some(wider) = found.cell.supernet() {
                let candidates = edges([wider].into_iter()).into_iter().chain(addrs.iter().copied());
                let differs = candidates
                    .filter(|other| wider.contains(other))
                    .any(|other| table.locate(other).place != found.place);
                prop_assert!(differs, "{} could be {}", found.cell, wider);
            }
        }
    }
}

#[test]
fn overrides_of_mapped_prefixes_are_ipv4() {
    let mut builder = PlaceTableBuilder::new();
    let asn = |n| Place { asn: Some(n), ..Place::default() };
    builder.add_override(net("::ffff:192.0.2.0/120"), asn(1));
    builder.add_override(net("::ffff:0:0/95"), asn(2));
    let table = builder.build().unwrap();
    assert_eq!(table.locate(ip("192.0.2.9")).place.asn, Some(1));
    assert_eq!(table.locate(ip("192.0.2.9")).cell, net("192.0.2.0/24"));
    assert_eq!(table.locate(ip("192.0.3.9")).place.asn, None, "wider prefixes are IPv6");
}

#[test]
fn samples_stand_for_all_that_is_known_and_are_bounded() {
    let mut builder = PlaceTableBuilder::new();
    let place = |asn| Place { asn: Some(asn), ..Place::default() };
    let nets = [("10.0.0.0/10", 1), ("192.0.2.0/24", 2), ("255.255.255.0/24", 3), ("20.0.8.0/21", 4)];
    for (net, asn) in nets {
        builder.add_override(net.parse().unwrap(), place(asn));
    }
    let table = builder.build().unwrap();
    let all = f64::from((1_u32 << 22) + 512 + 2048);
    for most in [1, 7, 100, 1026, 1027, 1028, 20_000] {
        let samples = table.v4_samples(most);
        assert!(samples.len() <= most && !samples.is_empty(), "{most}: {}", samples.len());
        let sum: f64 = samples.iter().map(|(_, n)| n).sum();
        assert!((sum - all).abs() < 1e-3, "{most}: {sum}");
        assert!(samples.iter().all(|(a, _)| table.locate((*a).into()).place.asn.is_some()), "{most}");
    }
    // 1 024 stretches of a /20 and three shorter ones.
    assert_eq!((table.v4_samples(1027).len(), table.v4_samples(1026).len()), (1027, 1026));
    assert!(PlaceTable::default().v4_samples(10).is_empty());
}
