//! Decoders that are nobody else's business, as the fuzz targets (`fuzz/`) call them. No feature opens
//! them: what is built with one more would be what is linted and tested, and not what is shipped.

use crate::process::resolve;
use crate::show;
use crate::status::AgentStatus;

/// State and start of a process, of the text of `/proc/<pid>/stat`.
pub fn process_stat(text: &str) -> Option<(char, u64)> {
    resolve::parse_stat(text)
}

/// An agent's status, of what answered to `GET /healthz`, and whether its loop turns.
///
/// # Errors
/// What else it is.
pub fn status(page: &[u8]) -> Result<(AgentStatus, bool), String> {
    show::read(page)
}

/// The status as people and as machines read it.
///
/// # Errors
/// Of the JSON.
pub fn shown(status: &AgentStatus, alive: bool) -> Result<(String, String), serde_json::Error> {
    Ok((show::lines(status, alive, 0), show::json(status, alive)?))
}
