//! Where a client is: geo databases become the one table that queries read.
//!
//! ```text
//!  files, embedded ── load ──► bytes ── schema ──► (network, place) ──► PlaceTableBuilder (core)
//!                                                                             │
//!  file changed, reload() ── watch ──► compile in a blocking thread ──► table of the databases
//!                                                                             │
//!  registry, configuration ── corrections ─────────────────────────────► laid over it: published
//! ```
//!
//! A database is read whole into memory, verified, compiled into [`nearmost_core::geo::table`] and
//! dropped: a mapped file that someone truncates in place would kill the process. A database that
//! is broken refuses the start; once running, it is refused by name, logged and counted, and the
//! table in use stays. Databases that take longer than [`PATIENCE`] to read do not hold up the start:
//! until they are compiled the embedded one answers, and the broker says that it is not ready.

mod files;
pub(crate) mod load;
mod metrics;
mod schema;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;

pub use load::{Compiled, DatabaseInfo, EMBEDDED_NAME, GeoError, GeoSettings, compile};
pub use metrics::GeoMetrics;
pub use schema::Parts;
pub use watch::{GeoService, GeoStatus, LookupReport, PATIENCE, ReloadError};
