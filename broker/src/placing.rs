//! Where a mirror is: what people say of it, and what the databases know of its addresses.

use nearmost_core::geo::table::Located;
use nearmost_core::geo::{Place, PlaceSource, countries};
use nearmost_core::map::Map;
use nearmost_core::registry::Mirror;
use std::net::IpAddr;

/// A mirror's place and where it comes from. What is given wins, part by part; but a position that
/// lies in another country than the given one is wrong, and the country's centre stands instead.
pub fn place(mirror: &Mirror, addrs: [Option<IpAddr>; 2], map: &Map) -> (Place, PlaceSource) {
    let given = match mirror.place_source {
        PlaceSource::Given => mirror.place,
        _ => Place::default(),
    };
    let known = |l: &Located| l.place.position.is_some() || l.place.country.is_some();
    let located = addrs.into_iter().flatten().map(|addr| map.locate(addr)).find(known);
    let (found, source) = located.map_or((Place::default(), PlaceSource::Unknown), |l| (l.place, l.source));
    let country = given.country.or(found.country);
    // The database's position counts only where it is in the country that is taken to be right.
    let position = found.position.filter(|_| found.country == country);
    let place = Place {
        position: given.position.or(position).or_else(|| country.and_then(countries::centre)),
        country,
        asn: given.asn.or(found.asn),
    };
    let said = given.position.is_some() || given.country.is_some();
    (place, if said { PlaceSource::Given } else { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::geo::table::PlaceTableBuilder;
    use nearmost_core::geo::{CountryCode, Position};
    use nearmost_core::registry::{DomainIndex, HealthMode, MirrorAddress, Orders};
    use std::sync::Arc;

    const ADDR: [u8; 4] = [192, 0, 2, 1];

    fn berlin() -> Option<Position> {
        Position::from_degrees(52.5, 13.4)
    }

    fn code(code: &str) -> Option<CountryCode> {
        CountryCode::new(code)
    }

    /// 192.0.2.0/24 is in Berlin, in AS 64500.
    fn map() -> Map {
        let mut builder = PlaceTableBuilder::new();
        let place = Place { position: berlin(), country: code("DE"), asn: Some(64500) };
        builder.add_override("192.0.2.0/24".parse().unwrap(), place);
        Map::of_places(1, Arc::new(builder.build().unwrap()))
    }

    fn mirror(place: Option<Place>) -> Mirror {
        Mirror {
            name: "m".into(),
            domain: DomainIndex(0),
            node: None,
            address: MirrorAddress::Observed,
            port: 80,
            weight: 1,
            place: place.unwrap_or_default(),
            place_source: if place.is_some() { PlaceSource::Given } else { PlaceSource::Unknown },
            health: HealthMode::Probe,
            probe: None,
            url: None,
            ingress: None,
            orders: Orders::default(),
        }
    }

    fn placed(given: Option<Place>, addressed: bool) -> (Place, PlaceSource) {
        place(&mirror(given), [addressed.then(|| ADDR.into()), None], &map())
    }

    #[test]
    fn the_database_fills_what_nobody_gave() {
        let (place, source) = placed(None, true);
        assert_eq!((place.position, place.country, place.asn), (berlin(), code("DE"), Some(64500)));
        assert_eq!(source, PlaceSource::Override);
        assert_eq!(placed(None, false), (Place::default(), PlaceSource::Unknown));
    }

    #[test]
    fn a_given_country_never_gets_a_position_in_another() {
        let given = |country| Some(Place { country: code(country), ..Place::default() });
        let (same, source) = placed(given("DE"), true);
        assert_eq!((same.position, source), (berlin(), PlaceSource::Given));
        let tokyo_side = countries::centre(code("JP").unwrap());
        let (other, _) = placed(given("JP"), true);
        assert_eq!((other.position, other.country, other.asn), (tokyo_side, code("JP"), Some(64500)));
        let (unaddressed, _) = placed(given("JP"), false);
        assert_eq!(unaddressed.position, tokyo_side);
    }

    #[test]
    fn a_given_position_wins_and_a_given_asn_stays() {
        let here = Position::from_degrees(1.0, 2.0);
        let (place, _) = placed(Some(Place { position: here, country: None, asn: Some(7) }), true);
        assert_eq!((place.position, place.asn), (here, Some(7)));
        let (place, source) = placed(Some(Place { asn: Some(7), ..Place::default() }), true);
        assert_eq!((place.position, place.asn, source), (berlin(), Some(7), PlaceSource::Override));
    }
}
