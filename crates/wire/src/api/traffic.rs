//! Who uses which mirror now, and from where.

use serde::{Deserialize, Serialize};

api! {
/// Answers `GET /v1/traffic`.
pub struct TrafficResponse {
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
    /// How long an answer stands for a user, in seconds.
    pub window_s: u64,
    /// Users by mirror and country, in the order of names.
    pub flows: Vec<FlowView>,
    /// Flows left out of this answer, the smallest ones.
    pub left_out: u64,
    /// Mirrors with users, in the order of names.
    pub mirrors: Vec<MirrorTrafficView>,
    /// This broker and the other members of its federation.
    pub brokers: Vec<BrokerView>,
}
}

api! {
/// Users of one country at one mirror.
pub struct FlowView {
    /// The domain.
    pub domain: String,
    /// The mirror's name.
    pub mirror: String,
    /// Two letters; absent where it is not known.
    pub country: Option<String>,
    /// Degrees north of where most of the country's people are.
    pub latitude: Option<f64>,
    /// Degrees east of it.
    pub longitude: Option<f64>,
    /// Connections that the mirror's agent counts, or answers within the window: of each mirror whichever are more.
    pub users: f64,
}
}

api! {
/// The users of one mirror.
pub struct MirrorTrafficView {
    /// The domain.
    pub domain: String,
    /// The mirror's name.
    pub mirror: String,
    /// How many.
    pub users: f64,
    /// The median of their round trips, in milliseconds.
    pub rtt_p50_ms: Option<f64>,
    /// 95 % of them have less, in milliseconds.
    pub rtt_p95_ms: Option<f64>,
}
}

api! {
/// A broker, for a map.
pub struct BrokerView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that answers.
    pub me: bool,
    /// Degrees north, as its address is located; absent where that is not known.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
}
}
