//! The one immutable value that queries read (DESIGN §3.2).
//!
//! One writer publishes; a query loads it once and sees registry, map and live state that belong
//! together. `live` has one entry for each mirror of `registry`.

use crate::live::Live;
use crate::map::Map;
use crate::registry::Registry;
use crate::time::UnixMillis;
use std::sync::Arc;

/// Registry, map and live state, of one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// What exists.
    pub registry: Arc<Registry>,
    /// Where clients are.
    pub map: Arc<Map>,
    /// Who is healthy.
    pub live: Arc<Live>,
    /// When it was published.
    pub published: UnixMillis,
}
