//! Databases of every schema, damaged ones, the embedded one, and reloads.

mod damage;
mod embedded;
mod reload;
mod schemas;

use super::load::add_database;
use super::testing::TestDatabase;
use super::{DatabaseInfo, GeoError};
use nearmost_core::geo::CountryCode;
use nearmost_core::geo::table::{PlaceTable, PlaceTableBuilder};
use std::net::IpAddr;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn code(s: &str) -> CountryCode {
    CountryCode::new(s).unwrap()
}

/// The table of one database alone.
fn compiled(bytes: &[u8]) -> Result<(PlaceTable, DatabaseInfo), GeoError> {
    let mut builder = PlaceTableBuilder::new();
    let info = add_database(&mut builder, "test.mmdb", bytes, &|_| {})?;
    Ok((builder.build().unwrap(), info))
}

fn table_of(database: &TestDatabase) -> (PlaceTable, DatabaseInfo) {
    compiled(&database.bytes()).unwrap()
}

/// The country the table gives an address, as text.
fn country(table: &PlaceTable, addr: &str) -> Option<String> {
    table.locate(ip(addr)).place.country.map(|c| c.to_string())
}
