//! Decoders that are nobody else's business, as the fuzz targets (`fuzz/`) call them. No feature opens
//! them: what is built with one more would be what is linted and tested, and not what is shipped.

use crate::api::client::{self, Source};
use crate::api::params::{self, Params};
use crate::api::{Peer, Problem, loglevel};
use crate::geoip::load::{GeoError, add_database};
use crate::learning::memory;
use crate::peers::dns;
use crate::reports::token::Claims;
use crate::server::started;
use http::{HeaderMap, Uri};
use ipnet::IpNet;
use nearmost_core::geo::table::{PlaceTable, PlaceTableBuilder};
use nearmost_replica::PublicKey;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What was learned, as a file holds it, decoded and encoded again.
///
/// # Errors
/// What is wrong with it.
pub fn learned(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    memory::decode(bytes).map(|memory| memory::encode(&memory))
}

/// What a client's sealed session says, behind its seal, decoded and encoded again.
pub fn session(bytes: &[u8]) -> Option<Vec<u8>> {
    Claims::decode(bytes).map(|claims| claims.encode())
}

/// A geo database of these bytes, compiled alone, and how many networks it has.
///
/// # Errors
/// Why it is refused; the message begins with `name`.
pub fn geo_database(name: &str, bytes: &[u8]) -> Result<(PlaceTable, usize), GeoError> {
    let mut builder = PlaceTableBuilder::new();
    let info = add_database(&mut builder, name, bytes, &|_| {})?;
    let uncompilable = |source| GeoError::Uncompilable { name: name.to_owned(), source };
    Ok((builder.build().map_err(uncompilable)?, info.networks))
}

/// A broker and its address, as DNS tells it.
///
/// # Errors
/// What is wrong with the text.
pub fn broker_in_dns(text: &[u8]) -> Result<(PublicKey, String), &'static str> {
    dns::read(text)
}

/// Whose request it is, and whether they are trusted to speak for others; and whether all that the headers say
/// is that it comes from this machine.
pub fn source(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, bool, bool) {
    let Source { addr, trusted } = client::source(peer, headers, trusted);
    (addr, trusted, client::stays_here(headers))
}

/// The parameters of a query that may hold `known`, each once.
///
/// # Errors
/// As the API answers it.
pub fn parameters(uri: &Uri, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    Params::read(uri, known).map(|params| params.pairs().to_vec())
}

/// What was configured at the last start, as the store keeps it, read and written again.
pub fn configured(bytes: &[u8]) -> Option<Vec<u8>> {
    started::again(bytes)
}

/// A body of JSON, as the API takes levels of logs: what it sets, as `target=level`.
///
/// # Errors
/// As the API answers it.
pub fn levels(headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, Problem> {
    let levels: BTreeMap<String, String> = params::json(headers, &body.to_vec().into())?;
    let read = loglevel::read(&levels, None, true)?;
    Ok(read.into_iter().map(|(target, level)| format!("{target}={level:?}")).collect())
}
