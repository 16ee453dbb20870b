//! The JSON of the HTTP API, shared by broker, command line and tests.
//!
//! Field names carry their units. A reader ignores fields it does not know.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

macro_rules! api {
    ($(#[$doc:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name { $($body)* }
    };
}

mod audit;
mod checkup;
mod dnssec;
mod evidence;
mod explain;
mod federation;
pub mod reason;
mod tokens;
mod traffic;

pub use audit::*;
pub use checkup::*;
pub use dnssec::*;
pub use evidence::*;
pub use explain::*;
pub use federation::*;
pub use tokens::*;
pub use traffic::*;

api! {
/// Where a client or mirror is, and how that is known.
pub struct PlaceView {
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Two letters.
    pub country: Option<String>,
    /// The country's English name.
    pub country_name: Option<String>,
    /// Autonomous system.
    pub asn: Option<u32>,
    /// `override`, a database's name, `given` or `unknown`; where a client is explained, an override is
    /// `registry_override` or `config_override`.
    pub source: String,
}
}

api! {
/// A verdict on one mirror in one address family.
pub struct VerdictView {
    /// `v4` or `v6`.
    pub family: String,
    /// Where the mirror is reached in this family.
    pub address: Option<String>,
    /// `up`, `down`, …
    pub state: String,
    /// Whether new users are sent there.
    pub eligible: bool,
    /// Code of the reason.
    pub reason: String,
    /// Who measured it.
    pub vantage: String,
    /// Since when, Unix milliseconds.
    pub since_unix_ms: u64,
    /// How long ago that is.
    pub age_ms: u64,
    /// From before a restart, not yet confirmed.
    pub stale: bool,
    /// What it rests on, where the fleet is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceView>,
}
}

api! {
/// One mirror in a ranking.
pub struct RankedMirror {
    /// Its name.
    pub mirror: String,
    /// Its node's name.
    pub node: Option<String>,
    /// IPv4 and IPv6 addresses.
    pub addresses: Vec<String>,
    /// Service port.
    pub port: u16,
    /// Base URL.
    pub url: String,
    /// Predicted round trip.
    pub rtt_ms: f32,
    /// Great-circle distance.
    pub distance_km: Option<f32>,
    /// Whether new users are sent there (in any family).
    pub eligible: bool,
    /// Whether a DNS answer of now holds it.
    pub chosen: bool,
    /// Verdicts by family.
    pub verdicts: Vec<VerdictView>,
    /// Sentences that say why it stands where it stands.
    pub reasons: Vec<String>,
}
}

api! {
/// `GET /v1/resolve/{domain}`.
pub struct ResolveResponse {
    /// The domain.
    pub domain: String,
    /// The client the answer is for.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub client: IpAddr,
    /// Registry version it was made from.
    pub version: u64,
    /// How long it may be used, in seconds.
    pub ttl_s: u32,
    /// Eligible mirrors first, nearest first.
    pub mirrors: Vec<RankedMirror>,
    /// Lets the client report round trips for ten minutes, from its own network; opaque.
    #[serde(default)]
    pub session: String,
    /// Names of the mirrors whose round trips are worth measuring now, at most three. Answers to reports
    /// name more.
    #[serde(default)]
    pub measure: Vec<String>,
}
}

api! {
/// `POST /v1/rtt`: round trips that a client measured.
pub struct RttRequest {
    /// [`ResolveResponse::session`].
    pub session: String,
    /// First label of the one-time name `<nonce>.probe.<domain>` that the client looked up before: 16 to 32
    /// letters and digits. It tells which resolver the client is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// At most 32.
    pub rtts: Vec<RttEntry>,
    /// Names of mirrors that were to be measured in this session and are not among the round trips:
    /// those reported before, and those that could not be reached. They are not asked for again, and count among
    /// the five that are asked for in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// Names of mirrors that could not be reached just now, at most 32. They are probed for it, and for this
    /// network they count as far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}
}

api! {
/// One measured round trip.
pub struct RttEntry {
    /// A mirror of the session's domain.
    pub mirror: String,
    /// In milliseconds: above 0, at most 10 000.
    pub rtt_ms: f64,
}
}

api! {
/// What became of an [`RttRequest`].
pub struct RttResponse {
    /// Round trips taken.
    pub accepted: u32,
    /// Whether the one-time name was seen and tied the client's network to its resolver.
    pub tied: bool,
    /// Names of mirrors that are worth measuring after what was reported, at most two: with those that the
    /// report names at most five in all. Empty when nothing more is worth knowing.
    #[serde(default)]
    pub measure: Vec<String>,
}
}

api! {
/// One mirror in the fleet.
pub struct FleetMirror {
    /// Domain.
    pub domain: String,
    /// Mirror.
    pub mirror: String,
    /// Node's name.
    pub node: Option<String>,
    /// `agent`, `probe` or `manual`.
    pub health: String,
    /// Service port.
    pub port: u16,
    /// Share among near-equals.
    pub weight: u32,
    /// Where it is.
    pub place: PlaceView,
    /// Verdicts by family.
    pub verdicts: Vec<VerdictView>,
    /// CPU in use on its machine, 0..=1.
    pub cpu: f32,
    /// Memory in use on its machine, 0..=1.
    pub memory: f32,
    /// Connections it carries.
    pub connections: u32,
    /// Connections it can carry; 0 when not declared.
    pub capacity: u32,
}
}

api! {
/// One node.
pub struct FleetNode {
    /// Name.
    pub name: String,
    /// Id; absent until it joined.
    pub id: Option<String>,
    /// Whether its agent has a session with this broker.
    pub connected: bool,
    /// Refused.
    pub revoked: bool,
    /// Drained as a whole.
    pub drained: bool,
    /// Domains it may mirror.
    pub domains: Vec<String>,
}
}

api! {
/// `GET /v1/fleet`.
pub struct FleetResponse {
    /// This broker's id.
    pub broker: String,
    /// Registry version.
    pub version: u64,
    /// All domains' names.
    pub domains: Vec<String>,
    /// All nodes.
    pub nodes: Vec<FleetNode>,
    /// All mirrors.
    pub mirrors: Vec<FleetMirror>,
    /// The broker suspects that it is itself cut off, and evicts no mirror for silence meanwhile.
    #[serde(default)]
    pub doubts_itself: bool,
}
}

api! {
/// A transition, as sent by `GET /v1/events`.
pub struct EventView {
    /// Counts up since the broker's start; the `id` of the server-sent event.
    pub number: u64,
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Domain.
    pub domain: String,
    /// Mirror.
    pub mirror: String,
    /// `v4` or `v6`.
    pub family: String,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
    /// Code of the reason.
    pub reason: String,
    /// Who measured it.
    pub vantage: String,
    /// What was known of the mirror then, by who measured it, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}
}

api! {
/// `GET /healthz`: alive, and who it is; requests are signed for this id.
pub struct HealthResponse {
    /// `ok`.
    pub status: String,
    /// This broker's id.
    pub broker: String,
    /// UDP ports at which it takes clients over QUIC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<u16>,
    /// The broker's clock, Unix milliseconds; 0 from one that does not tell.
    #[serde(default)]
    pub at_unix_ms: u64,
}
}

api! {
/// `GET /v1/geo/{ip}`.
pub struct GeoResponse {
    /// The address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// What is known of it.
    pub place: PlaceView,
    /// The widest prefix around it with the same place.
    pub cell: String,
}
}

api! {
/// Every error of the API.
pub struct ErrorBody {
    /// A bounded, snake-case code.
    pub code: String,
    /// A sentence that names what was wrong.
    pub message: String,
}
}

api! {
/// A record as the API carries it.
pub struct RecordView {
    /// Exact bytes, base64.
    pub record: String,
}
}

api! {
/// `GET /v1/registry`: what a change is planned against.
pub struct RegistryResponse {
    /// This broker's id; records it authored were made for joined nodes.
    pub broker: String,
    /// Registry version.
    pub version: u64,
    /// Newest hybrid clock seen: milliseconds …
    pub hlc_millis: u64,
    /// … and counter.
    pub hlc_counter: u16,
    /// The asking author's epoch (`?author=np1…`).
    pub author_epoch: u32,
    /// The asking author's next sequence number.
    pub author_next_seq: u64,
    /// Current records of every key, tombstones included.
    pub records: Vec<RecordView>,
}
}

api! {
/// `POST /v1/registry`: records to write, all or none.
pub struct CommitRequest {
    /// Signed records.
    pub records: Vec<RecordView>,
    /// Registry version the change was planned against; another one refuses the change.
    pub expect_version: Option<u64>,
    /// For the history.
    pub note: String,
}
}

api! {
/// What became of a [`CommitRequest`].
pub struct CommitResponse {
    /// Registry version after it.
    pub version: u64,
    /// Number of the change in the history.
    pub batch: u64,
    /// Records that changed something.
    pub applied: u64,
    /// Records that were there already or older than what is there.
    pub unchanged: u64,
}
}

api! {
/// One written record in the history.
pub struct HistoryView {
    /// Number of the change it was part of.
    pub batch: u64,
    /// Registry version after it.
    pub version: u64,
    /// When this broker wrote it, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Who did it: an author's id.
    pub actor: String,
    /// Note of the change.
    pub note: String,
    /// Exact bytes, base64.
    pub record: String,
    /// What it replaced, base64.
    pub previous: Option<String>,
}
}

api! {
/// `POST /v1/invites`.
pub struct InviteRequest {
    /// Domains the node may mirror.
    pub domains: Vec<String>,
    /// Its name, else the agent chooses.
    pub name: Option<String>,
    /// How long the token is good, in seconds.
    pub ttl_s: u64,
}
}

api! {
/// A new token.
pub struct InviteResponse {
    /// To be given to `nearmost-agent join`.
    pub token: String,
    /// When it ends, Unix milliseconds.
    pub expires_unix_ms: u64,
}
}

api! {
/// A text that a certificate authority is to find: `PUT /v1/domains/{name}/acme-challenge`.
pub struct ChallengeRequest {
    /// Letters, digits, `-` and `_`, as `dns-01` gives it.
    pub value: String,
    /// Life in seconds, 3600 unless given; then it is gone by itself.
    #[serde(default = "an_hour")]
    pub ttl_s: u64,
}
}

fn an_hour() -> u64 {
    3600
}

api! {
/// A challenge that is answered.
pub struct ChallengeResponse {
    /// The domain that it is in.
    pub domain: String,
    /// Where it is found: a name that begins with `_acme-challenge`.
    pub name: String,
    /// When it ends, Unix milliseconds.
    pub expires_unix_ms: u64,
}
}

api! {
/// Challenges that are answered no longer: `DELETE /v1/domains/{name}/acme-challenge`.
pub struct ChallengesRemoved {
    /// Where they were.
    pub name: String,
    /// How many.
    pub removed: u64,
}
}

api! {
/// Where the users of drained mirrors would go: `GET /v1/drain-preview`.
pub struct DrainPreview {
    /// One row a mirror that would lose or gain.
    pub rows: Vec<DrainRow>,
    /// Addresses (IPv4 space of the geo table) looked at.
    pub addresses: u64,
}
}

api! {
/// A mirror's share of the known address space before and after.
pub struct DrainRow {
    /// Domain.
    pub domain: String,
    /// Mirror.
    pub mirror: String,
    /// Percent of addresses now.
    pub before_percent: f64,
    /// Percent of addresses after.
    pub after_percent: f64,
    /// Mean predicted round trip of its users now.
    pub before_rtt_ms: f64,
    /// Mean predicted round trip of its users after.
    pub after_rtt_ms: f64,
}
}
