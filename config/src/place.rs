//! A place in the words of a file: latitude and longitude, country, autonomous system.

use crate::error::Fault;
use crate::value::{Country, Degrees, Number, Plain, Text};
use nearmost_core::geo::{Place, Position};

/// The place that the four keys of the table at `path` tell; `None` when none of them is given.
pub(crate) fn place(
    path: &str,
    latitude: Option<Degrees<90>>,
    longitude: Option<Degrees<180>>,
    country: Option<Text<Country>>,
    asn: Option<Number<u32, 1>>,
) -> Result<Option<Place>, Fault> {
    let position = match (latitude, longitude) {
        // Both ranges were checked as the numbers were read.
        (Some(latitude), Some(longitude)) => Position::from_degrees(latitude.plain(), longitude.plain()),
        (Some(_), None) => return Err(Fault::rule(format!("{path}.latitude"), "needs longitude beside it")),
        (None, Some(_)) => return Err(Fault::rule(format!("{path}.longitude"), "needs latitude beside it")),
        (None, None) => None,
    };
    let place = Place { position, country: country.map(Plain::plain), asn: asn.map(Plain::plain) };
    Ok((place != Place::default()).then_some(place))
}
