//! Reads databases whole into memory, verifies them, and compiles them into the table.

use super::schema::{Parts, Record};
use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use nearmost_core::geo::Place;
use nearmost_core::geo::table::{BuildError, PlaceId, PlaceTable, PlaceTableBuilder};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// The country database built into the broker; see `data/README.md` for its source and licence.
pub(super) static EMBEDDED: &[u8] = include_bytes!("../../../data/geo-whois-asn-country.mmdb");

/// The name of the embedded database in logs, metrics and lookups.
pub const EMBEDDED_NAME: &str = "embedded";

/// A larger file is taken for a mistake.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// Metadata begins within this distance of a database's end (MaxMind DB format 2.0, "Database
/// Metadata").
const METADATA_REACH: usize = 128 * 1024;
/// Networks read from one time that progress is told to the next.
const TELL_EVERY: usize = 1 << 14;
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// Which databases to compile, strongest first, and what the operator knows better.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoSettings {
    /// Whether the embedded country database fills what the others lack.
    pub embedded: bool,
    /// Database files, strongest first.
    pub databases: Vec<PathBuf>,
    /// Whether a change of a file is followed; otherwise only an explicit reload reads it again.
    pub watch: bool,
    /// `prefix → place`: beats every database for the parts it gives; the longest prefix wins.
    pub overrides: Vec<(IpNet, Place)>,
}

impl Default for GeoSettings {
    fn default() -> Self {
        GeoSettings { embedded: true, databases: Vec::new(), watch: true, overrides: Vec::new() }
    }
}

/// A compiled table and what went into it.
#[derive(Debug)]
pub struct Compiled {
    /// The table.
    pub table: PlaceTable,
    /// The databases, strongest first.
    pub databases: Vec<DatabaseInfo>,
}

/// What is known of a database that was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// The file's path as configured, or [`EMBEDDED_NAME`].
    pub name: String,
    /// The type its maker gave it, such as `GeoLite2-City`.
    pub database_type: String,
    /// When it was built, in seconds since 1970.
    pub build_epoch_s: u64,
    /// Networks of which it gives a part of a place.
    pub networks: usize,
    /// The parts it gives.
    pub parts: Parts,
}

/// Why a database was refused. Every message begins with the database's name.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    /// The file is not there, or may not be read.
    #[error("{name}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file has zero bytes.
    #[error("{name}: is empty (zero bytes)")]
    Empty {
        /// The file.
        name: String,
    },
    /// The file is larger than any geo database.
    #[error("{name}: has {bytes} bytes, more than the {MAX_FILE_BYTES} that are read")]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// The file is a compressed download.
    #[error("{name}: is a {kind} archive: unpack it and name the .mmdb file inside")]
    Archive {
        /// The file.
        name: String,
        /// Which kind.
        kind: &'static str,
    },
    /// No metadata: something else, or cut short (metadata is at the end).
    #[error("{name}: no database metadata at its end: not a MaxMind-format database, or cut short")]
    NotADatabase {
        /// The file.
        name: String,
    },
    /// It is a database, and it is damaged.
    #[error("{name}: damaged: {reason}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// It is a sound database without any place in it.
    #[error(
        "{name}: a database of type {database_type:?}, which gives neither position, country nor AS number"
    )]
    WrongType {
        /// The file.
        name: String,
        /// The type its maker gave it.
        database_type: String,
    },
    /// The table could not be built from sound databases.
    #[error("{name}: cannot be compiled: {source}")]
    Uncompilable {
        /// The database at fault, or `geo table`.
        name: String,
        /// Why.
        source: BuildError,
    },
    /// The blocking task that compiles ended without a result.
    #[error("geo table: compiling was interrupted: {reason}")]
    Interrupted {
        /// What the runtime said.
        reason: String,
    },
}

impl GeoError {
    /// The database at fault: a path as configured, [`EMBEDDED_NAME`], or `geo table` where it is
    /// no single one.
    pub fn name(&self) -> &str {
        match self {
            GeoError::Unreadable { name, .. }
            | GeoError::Empty { name }
            | GeoError::TooLarge { name, .. }
            | GeoError::Archive { name, .. }
            | GeoError::NotADatabase { name }
            | GeoError::Damaged { name, .. }
            | GeoError::WrongType { name, .. }
            | GeoError::Uncompilable { name, .. } => name,
            GeoError::Interrupted { .. } => TABLE_NAME,
        }
    }
}

pub(super) const TABLE_NAME: &str = "geo table";

/// Reads and compiles every database. Blocks for as long as reading takes: seconds for a city
/// database; call it where blocking is allowed.
///
/// # Errors
/// The first database that is refused, strongest first, by name.
pub fn compile(settings: &GeoSettings) -> Result<Compiled, GeoError> {
    compile_telling(settings, &|_| {})
}

/// The same, telling now and then how many networks were read.
///
/// # Errors
/// As of [`compile`].
pub(super) fn compile_telling(settings: &GeoSettings, told: &dyn Fn(usize)) -> Result<Compiled, GeoError> {
    let mut read_before = 0;
    let mut add = |builder: &mut PlaceTableBuilder, name: &str, bytes: &[u8]| {
        let info = add_database(builder, name, bytes, &|n| told(read_before + n))?;
        read_before += info.networks;
        Ok(info)
    };
    let mut builder = PlaceTableBuilder::new();
    let mut databases = Vec::with_capacity(settings.databases.len() + 1);
    for path in &settings.databases {
        let name = path.display().to_string();
        // Dropped at the end of each round: one database is in memory at a time.
        let bytes = read(path, &name)?;
        databases.push(add(&mut builder, &name, &bytes)?);
    }
    if settings.embedded {
        databases.push(add(&mut builder, EMBEDDED_NAME, EMBEDDED)?);
    }
    for (net, place) in &settings.overrides {
        builder.add_override(*net, *place);
    }
    let table =
        builder.build().map_err(|source| GeoError::Uncompilable { name: TABLE_NAME.to_owned(), source })?;
    Ok(Compiled { table, databases })
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, GeoError> {
    let unreadable = |source| GeoError::Unreadable { name: name.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(GeoError::TooLarge { name: name.to_owned(), bytes: meta.len() });
    }
    std::fs::read(path).map_err(unreadable)
}

/// Verifies one database and adds its networks as the next layer.
pub(crate) fn add_database(
    builder: &mut PlaceTableBuilder,
    name: &str,
    bytes: &[u8],
    told: &dyn Fn(usize),
) -> Result<DatabaseInfo, GeoError> {
    recognise(name, bytes)?;
    let damaged = |e: MaxMindDbError| GeoError::Damaged { name: name.to_owned(), reason: e.to_string() };
    let reader = Reader::from_source(bytes).map_err(damaged)?;
    let meta = reader.metadata();
    // The reader's own verifier checks every byte that is reachable, but it also insists on a
    // description, which some makers leave out. Without it, the pass below still meets every
    // network and every record that is used.
    if !meta.description.is_empty() && !meta.database_type.is_empty() {
        reader.verify().map_err(damaged)?;
    }
    let (networks, parts) = add_networks(builder, name, &reader, told)?;
    if parts.is_empty() {
        let database_type = meta.database_type.clone();
        return Err(GeoError::WrongType { name: name.to_owned(), database_type });
    }
    Ok(DatabaseInfo {
        name: name.to_owned(),
        database_type: meta.database_type.clone(),
        build_epoch_s: meta.build_epoch,
        networks,
        parts,
    })
}

/// Tells what a file that is no database looks like.
fn recognise(name: &str, bytes: &[u8]) -> Result<(), GeoError> {
    let name = name.to_owned();
    if bytes.is_empty() {
        return Err(GeoError::Empty { name });
    }
    let tail = &bytes[bytes.len().saturating_sub(METADATA_REACH)..];
    if tail.windows(METADATA_MARKER.len()).any(|window| window == METADATA_MARKER) {
        return Ok(());
    }
    match bytes {
        [0x1f, 0x8b, ..] => Err(GeoError::Archive { name, kind: "gzip" }),
        [b'P', b'K', 3, 4, ..] => Err(GeoError::Archive { name, kind: "zip" }),
        _ => Err(GeoError::NotADatabase { name }),
    }
}

/// Adds every network; returns how many gave a part of a place, and which parts.
fn add_networks(
    builder: &mut PlaceTableBuilder,
    name: &str,
    reader: &Reader<&[u8]>,
    told: &dyn Fn(usize),
) -> Result<(usize, Parts), GeoError> {
    let damaged = |reason: String| GeoError::Damaged { name: name.to_owned(), reason };
    let broken = |e: MaxMindDbError| damaged(e.to_string());
    let uncompilable = |source| GeoError::Uncompilable { name: name.to_owned(), source };

    let mut layer = builder.database(name).map_err(uncompilable)?;
    // Networks share records: decode each once.
    let mut by_offset: HashMap<usize, Option<PlaceId>> = HashMap::new();
    let (mut networks, mut parts) = (0, Parts::default());
    // A tree of n nodes has n + 1 leaves; damage can make it a graph of exponentially many paths.
    // Leaves without data are walked too, so that they count.
    let most = reader.metadata().node_count as usize * 3 + 1;
    let options = WithinOptions::default().include_networks_without_data();
    for (at, found) in reader.networks(options).map_err(broken)?.enumerate() {
        if at > most {
            return Err(damaged("its search tree joins or loops".to_owned()));
        }
        let found = found.map_err(broken)?;
        let Some(offset) = found.offset() else { continue };
        let place = match by_offset.get(&offset) {
            Some(place) => *place,
            None => {
                let record = found.decode::<Record>().map_err(broken)?;
                let place = record.map(|r| r.place()).unwrap_or_default();
                parts.add(&place);
                let place = (place != Place::default()).then(|| layer.place(place));
                by_offset.insert(offset, place);
                place
            }
        };
        let Some(place) = place else { continue };
        let net = found.network().map_err(broken)?;
        let net = IpNet::new(net.ip(), net.prefix()).map_err(|e| damaged(format!("{net}: {e}")))?;
        layer.add(net.trunc(), place).map_err(uncompilable)?;
        networks += 1;
        if networks % TELL_EVERY == 0 {
            told(networks);
        }
    }
    Ok((networks, parts))
}
