//! `GET /v1/checkup`: what a broker finds when it examines itself.

use serde::{Deserialize, Serialize};

api! {
/// What the broker found, and what `nearmost doctor` needs to look at it from outside.
pub struct CheckupResponse {
    /// This broker's id.
    pub broker: String,
    /// Its version.
    pub version: String,
    /// Its clock at the answer, Unix milliseconds.
    pub at_unix_ms: u64,
    /// One entry for each thing looked at.
    pub findings: Vec<FindingView>,
    /// Where it listens.
    pub listeners: Vec<ListenerView>,
    /// Host names of the name servers, as its NS records have them.
    pub nameservers: Vec<String>,
    /// Zones that hold several domains.
    pub zones: Vec<String>,
    /// Domains that it serves.
    pub domains: Vec<String>,
}
}

api! {
/// One thing that was looked at.
pub struct FindingView {
    /// What it is about: `clock`, `disk`, `certificate`, …
    pub subject: String,
    /// `ok`, `warn` or `fail`.
    pub level: String,
    /// What was looked at and found, in a sentence.
    pub message: String,
    /// How to fix it; empty when nothing is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}
}

api! {
/// A bound socket.
pub struct ListenerView {
    /// `dns`, `dot`, `doq`, `http`, `redirect`, `agents`, `beacons`, `clients` or `peers`.
    pub kind: String,
    /// `udp`, `tcp` or `udp+tcp`.
    pub transport: String,
    /// Address and port.
    pub address: String,
}
}
