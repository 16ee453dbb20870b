//! Where an address is: positions on the sphere, places, and the compiled table of prefixes.
//!
//! A geo database is decoded elsewhere into `(prefix, Place)` pairs and compiled by
//! [`table::PlaceTableBuilder`] into a [`table::PlaceTable`]; the database itself is then dropped.

pub mod countries;
pub mod table;

use std::fmt;

/// Mean radius of the Earth in kilometres (IUGG).
pub const EARTH_RADIUS_KM: f64 = 6371.0088;

/// A point on the sphere, kept as a unit vector: no poles, no date line, and a distance is one
/// dot product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    unit: [f32; 3],
}

impl Position {
    /// From degrees, `lat` in −90..=90 and `lon` in −180..=180; `None` outside or not finite.
    pub fn from_degrees(lat: f64, lon: f64) -> Option<Self> {
        if !((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)) {
            return None;
        }
        let (la, lo) = (lat.to_radians(), lon.to_radians());
        Some(Position { unit: [(la.cos() * lo.cos()) as f32, (la.cos() * lo.sin()) as f32, la.sin() as f32] })
    }

    /// Latitude and longitude in degrees.
    pub fn degrees(self) -> (f64, f64) {
        let [x, y, z] = self.unit.map(f64::from);
        (z.atan2(x.hypot(y)).to_degrees(), y.atan2(x).to_degrees())
    }

    /// Great-circle distance in kilometres.
    pub fn distance_km(self, other: Position) -> f64 {
        let (a, b) = (self.unit.map(f64::from), other.unit.map(f64::from));
        // The chord is accurate at every angle; acos of the dot product is not near zero.
        let chord2 = (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>();
        2.0 * EARTH_RADIUS_KM * (chord2.sqrt() / 2.0).clamp(0.0, 1.0).asin()
    }

    /// The unit vector, for spatial indexes.
    pub fn unit(self) -> [f32; 3] {
        self.unit
    }
}

/// An ISO 3166-1 alpha-2 country code, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// From two ASCII letters of any case.
    pub fn new(code: &str) -> Option<Self> {
        match code.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(CountryCode([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters get in through `new`.
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of where something is. Every part may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// The point, when the source gives one (or the country's centre).
    pub position: Option<Position>,
    /// The country.
    pub country: Option<CountryCode>,
    /// The autonomous system's number.
    pub asn: Option<u32>,
}

/// Which source a place came from; indexes the sources a [`table::PlaceTable`] was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceSource {
    /// Nothing is known of the address.
    Unknown,
    /// The operator's own `prefix → place`.
    Override,
    /// A database, by its position among those loaded; its name is the table's to tell.
    Database(u8),
    /// Given in the registry (places of mirrors and nodes).
    Given,
}
