//! The city database that all servers read, and where clients are by it.

use crate::map::database::Database;
use crate::map::mmdb;
use anyhow::{Context, Result};
use maxminddb::Reader;
use nearmost_core::geo::Position;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Networks of the database for queries: IPv4, IPv6, and places. Of real ones the size of a full one, such
/// a part is what fits the caches as well as most queries' networks do.
const SMALL: (usize, usize, usize) = (250_000, 50_000, 20_000);
/// The same of a full one, for memory.
const FULL: (usize, usize, usize) = (3_400_000, 600_000, 100_000);

/// A database on disk, in the MaxMind City schema.
pub struct City {
    /// The file.
    pub path: PathBuf,
    reader: Reader<Vec<u8>>,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Nothing when the database does not know.
    pub position: Option<Position>,
    /// Two letters, or none.
    pub continent: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    continent: Continent,
    location: Location,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Continent {
    code: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl City {
    /// One that is made up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn small(dir: &Path) -> Result<City> {
        City::open(&made_up(dir.join("city.mmdb"), SMALL)?)
    }

    /// One of the size of real ones, for memory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn full(dir: &Path) -> Result<City> {
        City::open(&made_up(dir.join("full.mmdb"), FULL)?)
    }

    /// One that is given.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<City> {
        let path = path.canonicalize().with_context(|| format!("city database {}", path.display()))?;
        let reader = Reader::open_readfile(&path).with_context(|| format!("{}", path.display()))?;
        Ok(City { path, reader })
    }

    /// Where an address is.
    ///
    /// # Errors
    /// When the database is damaged.
    pub fn locate(&self, address: Ipv4Addr) -> Result<Client> {
        let record: Record = self.reader.lookup(address.into())?.decode()?.unwrap_or_default();
        let position = match (record.location.latitude, record.location.longitude) {
            (Some(lat), Some(lon)) => Position::from_degrees(lat, lon),
            _ => None,
        };
        Ok(Client { position, continent: record.continent.code })
    }
}

fn made_up(path: PathBuf, (v4, v6, places): (usize, usize, usize)) -> Result<PathBuf> {
    mmdb::write(&Database::new(1, v4, v6, places), &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_database_that_is_made_up_are_somewhere_on_a_continent() {
        let dir = tempfile::tempdir().unwrap();
        let path = made_up(dir.path().join("c.mmdb"), (70_000, 45_000, 1_000)).unwrap();
        let city = City::open(&path).unwrap();
        for first in [1, 81, 150, 223] {
            let client = city.locate(Ipv4Addr::new(first, 2, 3, 0)).unwrap();
            assert!(client.position.is_some(), "{first}");
            assert!(super::super::scenario::of_continent(&client.continent).is_some(), "{client:?}");
        }
    }
}
