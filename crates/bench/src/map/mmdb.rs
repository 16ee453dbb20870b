//! The same database as a file of the MaxMind DB format 2.0, and the way from the file to the table
//! that the broker goes: read it whole, verify it, decode each record once, add its networks.

use super::database::Database;
use anyhow::{Context, Result};
use ipnet::IpNet;
use maxminddb::{Reader, WithinOptions};
use nearmost_core::geo::table::{PlaceId, PlaceTable, PlaceTableBuilder};
use nearmost_core::geo::{CountryCode, Place, Position, countries};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Bytes between the search tree and the data.
const SEPARATOR: usize = 16;
/// What an empty record of the tree is while the number of nodes is not known.
const EMPTY: u32 = u32::MAX;
/// Marks offsets of data while the number of nodes is not known.
const DATA: u32 = 1 << 31;

/// Writes a database with records of 32 bits.
///
/// # Errors
/// When the file cannot be written.
pub fn write(database: &Database, file: &Path) -> Result<()> {
    let mut data = Vec::new();
    let offsets: Vec<u32> = database
        .places()
        .iter()
        .map(|place| {
            let offset = data.len() as u32;
            record(place, &mut data);
            offset
        })
        .collect();
    let mut tree: Vec<[u32; 2]> = vec![[EMPTY; 2]];
    database.networks(|(net, place)| insert(&mut tree, net, DATA | offsets[place as usize]));
    let nodes = tree.len() as u32;
    let mut out = Vec::with_capacity(tree.len() * 8 + data.len() + 1024);
    for slot in tree.into_iter().flatten() {
        let number = match slot {
            EMPTY => nodes,
            data if data & DATA != 0 => nodes + SEPARATOR as u32 + (data & !DATA),
            node => node,
        };
        out.extend(number.to_be_bytes());
    }
    out.extend([0; SEPARATOR]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    metadata(nodes, &mut out);
    std::fs::write(file, out).with_context(|| format!("writing {}", file.display()))
}

/// Networks come ascending and disjoint, so a way is never blocked by another's data.
fn insert(tree: &mut Vec<[u32; 2]>, net: IpNet, value: u32) {
    let (bits, length) = match net {
        // IPv4 lives at ::/96 of an IPv6 tree.
        IpNet::V4(n) => (u128::from(n.network().to_bits()), 96 + n.prefix_len()),
        IpNet::V6(n) => (n.network().to_bits(), n.prefix_len()),
    };
    let mut at = 0;
    for depth in 0..length {
        let side = (bits >> (127 - depth) & 1) as usize;
        if depth + 1 == length {
            tree[at][side] = value;
        } else {
            if tree[at][side] == EMPTY {
                tree.push([EMPTY; 2]);
                tree[at][side] = tree.len() as u32 - 1;
            }
            at = tree[at][side] as usize;
        }
    }
}

fn control(kind: u8, size: u8, out: &mut Vec<u8>) {
    if kind < 8 {
        out.push(kind << 5 | size);
    } else {
        out.extend([size, kind - 7]);
    }
}

fn map(entries: u8, out: &mut Vec<u8>) {
    control(7, entries, out);
}

fn text(text: &str, out: &mut Vec<u8>) {
    // All texts here are shorter than 29 bytes.
    control(2, text.len() as u8, out);
    out.extend(text.as_bytes());
}

fn double(x: f64, out: &mut Vec<u8>) {
    control(3, 8, out);
    out.extend(x.to_be_bytes());
}

fn number(kind: u8, x: u64, out: &mut Vec<u8>) {
    let bytes = x.to_be_bytes();
    let size = if kind == 5 {
        2
    } else if kind == 6 {
        4
    } else {
        8
    };
    control(kind, size as u8, out);
    out.extend(&bytes[8 - size..]);
}

/// A record as MaxMind's and DB-IP's city databases have it, with the AS beside.
fn record(place: &Place, out: &mut Vec<u8>) {
    let (lat, lon) = place.position.map_or((0.0, 0.0), Position::degrees);
    map(5, out);
    text("city", out);
    map(1, out);
    text("names", out);
    map(1, out);
    text("en", out);
    text("somewhere", out);
    text("continent", out);
    map(1, out);
    text("code", out);
    let country = place.country.and_then(countries::find);
    text(country.map_or("", |country| country.continent.code()), out);
    text("country", out);
    map(2, out);
    text("iso_code", out);
    text(place.country.as_ref().map_or("", CountryCode::as_str), out);
    text("geoname_id", out);
    number(6, 1, out);
    text("location", out);
    map(2, out);
    text("latitude", out);
    double(lat, out);
    text("longitude", out);
    double(lon, out);
    text("autonomous_system_number", out);
    number(6, place.asn.unwrap_or(0).into(), out);
}

fn metadata(nodes: u32, out: &mut Vec<u8>) {
    map(9, out);
    for (key, value) in [("binary_format_major_version", 2), ("binary_format_minor_version", 0)] {
        text(key, out);
        number(5, value, out);
    }
    text("build_epoch", out);
    number(9, 1_700_000_000, out);
    text("database_type", out);
    text("Synthetic-City", out);
    text("description", out);
    map(1, out);
    text("en", out);
    text("made up for a measurement", out);
    text("ip_version", out);
    number(5, 6, out);
    text("languages", out);
    control(11, 1, out);
    text("en", out);
    text("node_count", out);
    number(6, nodes.into(), out);
    text("record_size", out);
    number(5, 32, out);
}

#[derive(Deserialize)]
struct Record<'r> {
    #[serde(borrow)]
    country: Country<'r>,
    location: Location,
    autonomous_system_number: Option<u32>,
}

#[derive(Deserialize)]
struct Country<'r> {
    iso_code: &'r str,
}

#[derive(Deserialize)]
struct Location {
    latitude: f64,
    longitude: f64,
}

impl Record<'_> {
    fn place(&self) -> Place {
        Place {
            position: Position::from_degrees(self.location.latitude, self.location.longitude),
            country: CountryCode::new(self.country.iso_code),
            asn: self.autonomous_system_number,
        }
    }
}

/// Reads a file and compiles it, as the broker does.
///
/// # Errors
/// When the file is damaged.
pub fn compile(file: &Path) -> Result<(PlaceTable, usize)> {
    let bytes = std::fs::read(file)?;
    let reader = Reader::from_source(&bytes[..])?;
    reader.verify()?;
    let mut builder = PlaceTableBuilder::new();
    let mut layer = builder.database("city")?;
    let mut by_offset: HashMap<usize, PlaceId> = HashMap::new();
    let mut networks = 0;
    for found in reader.networks(WithinOptions::default().include_networks_without_data())? {
        let found = found?;
        let Some(offset) = found.offset() else { continue };
        let place = match by_offset.get(&offset) {
            Some(place) => *place,
            None => {
                let record = found.decode::<Record<'_>>()?.context("a record")?;
                let place = layer.place(record.place());
                by_offset.insert(offset, place);
                place
            }
        };
        let net = found.network()?;
        layer.add(IpNet::new(net.ip(), net.prefix())?.trunc(), place)?;
        networks += 1;
    }
    Ok((builder.build()?, networks))
}

/// Compiles a database without a file, to tell the table's share of the cost.
///
/// # Errors
/// When it cannot be compiled.
pub fn compile_directly(database: &Database) -> Result<(PlaceTable, usize)> {
    let mut builder = PlaceTableBuilder::new();
    let mut layer = builder.database("city")?;
    let places: Vec<PlaceId> = database.places().iter().map(|place| layer.place(*place)).collect();
    let (mut networks, mut refused) = (0, None);
    database.networks(|(net, place)| match layer.add(net, places[place as usize]) {
        Ok(()) => networks += 1,
        Err(error) => refused = Some(error),
    });
    match refused {
        Some(error) => Err(error.into()),
        None => Ok((builder.build()?, networks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_file_says_what_the_database_says() {
        let database = Database::new(3, 100_000, 80_000, 500);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("city.mmdb");
        write(&database, &file).unwrap();
        let ((read, networks), (direct, expected)) =
            (compile(&file).unwrap(), compile_directly(&database).unwrap());
        assert_eq!((networks, read.ranges()), (expected, direct.ranges()));
        let mut random = Random::new(1);
        for _ in 0..1000 {
            let addr = database.client(&mut random);
            let (a, b) = (read.locate(addr), direct.locate(addr));
            assert_eq!(
                (a.cell, a.place.asn, a.place.country),
                (b.cell, b.place.asn, b.place.country),
                "{addr}"
            );
        }
    }
}
