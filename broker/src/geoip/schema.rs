//! What the records of geo databases look like, and the place in each.
//!
//! Records are told apart by their fields, not by the database's type name, which every maker
//! chooses freely. One tolerant reader knows all of these:
//!
//! | makers | position | country | AS number |
//! |---|---|---|---|
//! | MaxMind GeoIP2, GeoLite2, DB-IP | `location.latitude`, `.longitude` | `country.iso_code`, else `registered_country.iso_code` | `autonomous_system_number`, `traits.autonomous_system_number` |
//! | IPinfo | `lat`, `lng`, or `loc` as "lat,lng" | `country_code`, `country` | `asn` as "AS123" |
//! | ip-location-db and other flat ones | `latitude`, `longitude` | `country_code` | `autonomous_system_number` |
//!
//! Numbers may be numbers or text. A field of an unexpected kind counts as absent, and so do a
//! position outside the sphere or at exactly 0, 0 (what makers write for "unknown"), a country code
//! that no country has (`ZZ`, `EU`), and AS 0.

use nearmost_core::geo::{CountryCode, Place, Position, countries};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Which parts of a place a database gives, in at least one of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Latitude and longitude.
    pub position: bool,
    /// The country.
    pub country: bool,
    /// The autonomous system.
    pub asn: bool,
}

impl Parts {
    /// Counts a record's parts in.
    pub(super) fn add(&mut self, place: &Place) {
        self.position |= place.position.is_some();
        self.country |= place.country.is_some();
        self.asn |= place.asn.is_some();
    }

    /// True when no record gave anything.
    pub(super) fn is_empty(self) -> bool {
        self == Parts::default()
    }
}

/// A record of any known schema: the fields that speak of a place, and nothing of others.
#[derive(Debug, Default)]
pub(super) struct Record {
    country_code: Scalar,
    country: Nested,
    registered_country: Nested,
    location: Nested,
    traits: Nested,
    latitude: Scalar,
    longitude: Scalar,
    loc: Scalar,
    asn: Scalar,
}

impl Record {
    /// The place the record tells of.
    pub(super) fn place(&self) -> Place {
        let country = self
            .country_code
            .country()
            .or_else(|| self.country.iso_code.country())
            .or_else(|| self.country.itself.country())
            .or_else(|| self.registered_country.iso_code.country());
        let position = point(&self.location.latitude, &self.location.longitude)
            .or_else(|| point(&self.latitude, &self.longitude))
            .or_else(|| self.loc.point());
        let asn = self.asn.asn().or_else(|| self.traits.asn.asn());
        Place { position, country, asn }
    }
}

fn point(latitude: &Scalar, longitude: &Scalar) -> Option<Position> {
    position(latitude.number()?, longitude.number()?)
}

fn position(lat: f64, lon: f64) -> Option<Position> {
    if lat == 0.0 && lon == 0.0 {
        return None;
    }
    Position::from_degrees(lat, lon)
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "country_code" => record.country_code = map.next_value()?,
                "country" => record.country = map.next_value()?,
                "registered_country" => record.registered_country = map.next_value()?,
                "location" => record.location = map.next_value()?,
                "traits" => record.traits = map.next_value()?,
                "latitude" | "lat" => record.latitude = map.next_value()?,
                "longitude" | "lng" | "lon" => record.longitude = map.next_value()?,
                "loc" => record.loc = map.next_value()?,
                "autonomous_system_number" | "asn" => record.asn = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(record)
    }

    // A record that is no map speaks of no place; whether a database of such records is of any
    // use is for the loader to say.
    fn visit_str<E>(self, _: &str) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_u128<E>(self, _: u128) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Record, E> {
        Ok(Record::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Record, A::Error> {
        skip_seq(seq)?;
        Ok(Record::default())
    }
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// A field that some makers nest: the fields inside, or the field itself when it is plain.
#[derive(Debug, Default)]
struct Nested {
    itself: Scalar,
    iso_code: Scalar,
    latitude: Scalar,
    longitude: Scalar,
    asn: Scalar,
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NestedVisitor)
    }
}

struct NestedVisitor;

impl<'de> Visitor<'de> for NestedVisitor {
    type Value = Nested;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a plain value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nested, A::Error> {
        let mut nested = Nested::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "iso_code" => nested.iso_code = map.next_value()?,
                "latitude" => nested.latitude = map.next_value()?,
                "longitude" => nested.longitude = map.next_value()?,
                "autonomous_system_number" => nested.asn = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(nested)
    }

    fn visit_str<E>(self, text: &str) -> Result<Nested, E> {
        Ok(Nested { itself: Scalar::Text(text.to_owned()), ..Nested::default() })
    }
    fn visit_f64<E>(self, _: f64) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_u128<E>(self, _: u128) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Nested, E> {
        Ok(Nested::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Nested, A::Error> {
        skip_seq(seq)?;
        Ok(Nested::default())
    }
}

/// A plain value, as a number or as text.
#[derive(Debug, Default)]
enum Scalar {
    /// Not there, or of a kind that no maker uses for it.
    #[default]
    Absent,
    Number(f64),
    Text(String),
}

impl Scalar {
    fn number(&self) -> Option<f64> {
        match self {
            Scalar::Absent => None,
            Scalar::Number(number) => Some(*number),
            Scalar::Text(text) => text.trim().parse().ok(),
        }
    }

    fn country(&self) -> Option<CountryCode> {
        let Scalar::Text(text) = self else { return None };
        CountryCode::new(text.trim()).filter(|code| countries::find(*code).is_some())
    }

    fn asn(&self) -> Option<u32> {
        let asn = match self {
            Scalar::Absent => None,
            // Every AS number is exact in a double.
            Scalar::Number(number)
                if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number) =>
            {
                Some(*number as u32)
            }
            Scalar::Number(_) => None,
            Scalar::Text(text) => {
                let text = text.trim();
                let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
                digits.parse().ok()
            }
        };
        asn.filter(|asn| *asn != 0)
    }

    /// From "latitude,longitude".
    fn point(&self) -> Option<Position> {
        let Scalar::Text(text) = self else { return None };
        let (lat, lon) = text.split_once(',')?;
        position(lat.trim().parse().ok()?, lon.trim().parse().ok()?)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or text")
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number as f64))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number as f64))
    }
    fn visit_u128<E>(self, _: u128) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        skip_seq(seq)?;
        Ok(Scalar::Absent)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar, A::Error> {
        skip_map(map)?;
        Ok(Scalar::Absent)
    }
}
