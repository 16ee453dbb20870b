//! `GET /v1/traffic`: how users flow to mirrors.

use serde::{Deserialize, Serialize};

api! {
/// `GET /v1/traffic`.
pub struct TrafficResponse {
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Over how long it was counted, in seconds.
    pub window_s: f64,
    /// From where to which mirror.
    #[serde(default)]
    pub flows: Vec<TrafficFlow>,
    /// What each mirror carries.
    #[serde(default)]
    pub mirrors: Vec<TrafficMirror>,
}
}

api! {
/// Users of one place and one mirror.
pub struct TrafficFlow {
    /// Domain.
    pub domain: String,
    /// Mirror.
    pub mirror: String,
    /// Two letters.
    pub country: Option<String>,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// How many, as far as that can be told.
    pub users: f64,
}
}

api! {
/// What a mirror carries.
pub struct TrafficMirror {
    /// Domain.
    pub domain: String,
    /// Mirror.
    pub mirror: String,
    /// How many users, as far as that can be told.
    pub users: f64,
    /// Median round trip.
    pub rtt_p50_ms: Option<f64>,
    /// Round trip that 95 of 100 do not exceed.
    pub rtt_p95_ms: Option<f64>,
}
}
