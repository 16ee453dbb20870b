//! Every maker's records give their place; odd fields count as absent.

use super::*;
use crate::geoip::schema::Parts;
use crate::geoip::testing::{Value, map, nested_city};
use nearmost_core::geo::{Place, Position};

fn text(s: &'static str) -> Value {
    Value::Text(s)
}

fn place(country: Option<&str>, at: Option<(f64, f64)>, asn: Option<u32>) -> Place {
    Place {
        position: at.and_then(|(lat, lon)| Position::from_degrees(lat, lon)),
        country: country.map(code),
        asn,
    }
}

/// The place one record gives; the neighbour makes the database one of places in any case.
fn decoded(record: Value) -> Place {
    let networks = [("192.0.2.0/24", record), ("198.51.100.0/24", nested_city("JP", 35.0, 139.0))];
    let (table, _) = table_of(&TestDatabase::new("test", &networks));
    table.locate(ip("192.0.2.1")).place
}

#[test]
fn records_of_every_maker_give_their_place() {
    let de = code("DE");
    let german_centre = nearmost_core::geo::countries::centre(de);
    let cases = [
        (
            "GeoLite2-City, DBIP-City-Lite",
            nested_city("GB", 51.5, -0.1),
            place(Some("GB"), Some((51.5, -0.1)), None),
        ),
        (
            "GeoLite2-Country",
            map([
                ("country", map([("iso_code", text("DE"))])),
                ("registered_country", map([("iso_code", text("US"))])),
            ]),
            Place { position: german_centre, country: Some(de), asn: None },
        ),
        (
            "GeoIP2-Country of a network whose country is unknown",
            map([("registered_country", map([("iso_code", text("DE"))]))]),
            Place { position: german_centre, country: Some(de), asn: None },
        ),
        (
            "GeoLite2-ASN, DBIP-ASN-Lite",
            map([
                ("autonomous_system_number", Value::U32(786)),
                ("autonomous_system_organization", text("Jisc")),
            ]),
            place(None, None, Some(786)),
        ),
        (
            "GeoIP2-Enterprise",
            map([
                ("location", map([("latitude", Value::Double(1.5)), ("longitude", Value::Double(2.5))])),
                ("traits", map([("autonomous_system_number", Value::U32(7))])),
            ]),
            place(None, Some((1.5, 2.5)), Some(7)),
        ),
        (
            "IPinfo location",
            map([
                ("city", text("Paris")),
                ("country", text("FR")),
                ("lat", text("48.85")),
                ("lng", text("2.35")),
            ]),
            place(Some("FR"), Some((48.85, 2.35)), None),
        ),
        (
            "IPinfo loc",
            map([
                ("country_code", text("FR")),
                ("country", text("France")),
                ("loc", text("48.85,2.35")),
                ("asn", text("AS3215")),
            ]),
            place(Some("FR"), Some((48.85, 2.35)), Some(3215)),
        ),
        (
            "flat city with doubles",
            map([
                ("country_code", text("BR")),
                ("latitude", Value::Double(-22.9)),
                ("longitude", Value::Double(-43.2)),
            ]),
            place(Some("BR"), Some((-22.9, -43.2)), None),
        ),
        (
            "flat city with floats and text",
            map([
                ("country_code", text("br")),
                ("latitude", Value::Float(-22.5)),
                ("longitude", text(" -43.25 ")),
            ]),
            place(Some("BR"), Some((-22.5, -43.25)), None),
        ),
        (
            "flat city with whole numbers",
            map([("latitude", Value::I32(-23)), ("longitude", Value::U16(43))]),
            place(None, Some((-23.0, 43.0)), None),
        ),
        (
            "flat ASN as text",
            map([("autonomous_system_number", text("64500"))]),
            place(None, None, Some(64500)),
        ),
    ];
    for (name, record, expected) in cases {
        assert_eq!(decoded(record), expected, "{name}");
    }
}

#[test]
fn fields_that_make_no_sense_count_as_absent() {
    let pair = |lat, lon| map([("latitude", lat), ("longitude", lon)]);
    let nowhere = [
        pair(Value::Double(0.0), Value::Double(0.0)),
        pair(Value::Double(90.5), Value::Double(1.0)),
        pair(Value::Double(f64::NAN), Value::Double(1.0)),
        pair(Value::Double(1.0), Value::Double(f64::INFINITY)),
        pair(Value::Bool(true), Value::Double(1.0)),
        pair(text("north"), text("west")),
        map([("latitude", Value::Double(1.0))]),
        map([("loc", text("1.0"))]),
        map([("location", Value::Array(vec![Value::Double(1.0), Value::Double(2.0)]))]),
        map([("location", map([("latitude", map([])), ("longitude", Value::Array(vec![]))]))]),
        map([("country_code", text("ZZ"))]),
        map([("country_code", text("GBR"))]),
        map([("country_code", Value::U32(44))]),
        map([("country", text("France"))]),
        map([("country", map([("iso_code", text("EU"))]))]),
        map([("asn", text("ASX"))]),
        map([("asn", Value::U32(0))]),
        map([("asn", Value::Double(1.5))]),
        map([("asn", Value::U64(1 << 40))]),
        map([("asn", Value::I32(-1))]),
        map([]),
        Value::Array(vec![text("GB"), map([("country_code", text("GB"))])]),
        text("GB"),
        Value::U32(786),
        Value::Bool(true),
    ];
    for record in nowhere {
        let shown = format!("{record:?}");
        assert_eq!(decoded(record), Place::default(), "{shown}");
    }
}

#[test]
fn trees_of_every_kind_are_read() {
    let london = nested_city("GB", 51.5, -0.1);
    let paris = nested_city("FR", 48.9, 2.4);
    let v4 = [("192.0.2.0/24", london.clone()), ("203.0.113.128/25", paris.clone())];
    let both = [v4[0].clone(), v4[1].clone(), ("2001:db8::/32", paris), ("2001:db9::/48", london)];
    for record_size in [24, 28, 32] {
        for described in [true, false] {
            let old = TestDatabase { ip_version: 4, record_size, described, ..TestDatabase::new("v4", &v4) };
            let (table, info) = table_of(&old);
            assert_eq!(country(&table, "192.0.2.255").as_deref(), Some("GB"));
            assert_eq!(country(&table, "203.0.113.127"), None);
            assert_eq!((info.networks, info.build_epoch_s), (2, 1_700_000_000));

            let new = TestDatabase { record_size, described, ..TestDatabase::new("both", &both) };
            let (table, info) = table_of(&new);
            assert_eq!(country(&table, "203.0.113.128").as_deref(), Some("FR"));
            assert_eq!(country(&table, "2001:db8:ffff::").as_deref(), Some("FR"));
            assert_eq!(table.locate(ip("2001:db9::1")).cell.to_string(), "2001:db9::/48");
            assert_eq!(country(&table, "2001:db9:1::"), None);
            assert_eq!(info.networks, 4);
        }
    }
}

#[test]
fn a_database_tells_which_parts_it_gives() {
    let (_, info) = table_of(&TestDatabase::new("City", &[("192.0.2.0/24", nested_city("GB", 51.5, -0.1))]));
    assert_eq!(info.parts, Parts { position: true, country: true, asn: false });
    assert_eq!((info.name.as_str(), info.database_type.as_str()), ("test.mmdb", "City"));
}
