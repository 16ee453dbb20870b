//! Decoders that are nobody else's business, as the fuzz targets (`fuzz/`) call them. No feature opens
//! them: what is built with one more would be what is linted and tested, and not what is shipped.

pub use crate::sse::{Event, MAX_EVENT_BYTES, Parser, TooLong};

use crate::session::Found;

/// Brokers and owner that texts of DNS name.
///
/// # Errors
/// Where the texts contradict one another.
pub fn brokers_in_dns(texts: impl Iterator<Item = String>) -> Result<Found, String> {
    crate::session::find::in_texts(texts)
}
