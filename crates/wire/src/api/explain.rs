//! `GET /v1/explain`: why a client is sent where it is sent.

use super::{PlaceView, RankedMirror};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

api! {
/// `GET /v1/explain?domain=…&client=…`.
pub struct ExplainResponse {
    /// The domain.
    pub domain: String,
    /// The client that is explained; with `resolver=`, whom the resolver's queries are answered for.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub client: IpAddr,
    /// Where the client is.
    pub place: PlaceView,
    /// What tells the client apart from others.
    pub network: NetworkView,
    /// The client as a resolver, if the users behind it were found, or the resolver that was asked about.
    pub resolver: Option<ResolverView>,
    /// The client's list of mirrors as a number of eight hexadecimal digits: lists of the same mirrors
    /// in the same order with the same ties have the same one, on whichever broker.
    pub list: String,
    /// Addresses that DNS answers of now hold, of both families.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub answer: Vec<IpAddr>,
    /// The answer of each family, and how it was arrived at.
    pub answers: Vec<AnswerView>,
    /// All mirrors in the order of the client's list, then by predicted round trip, then those that
    /// rules keep from it.
    pub mirrors: Vec<ExplainedMirror>,
}
}

api! {
/// The networks that a client belongs to.
pub struct NetworkView {
    /// The widest prefix around the client with one place in the geo table.
    pub range: String,
    /// The widest prefix around the client whose every address has the same list of mirrors.
    pub cell: String,
    /// The prefix of the registry's override that decided the place.
    pub overridden: Option<String>,
    /// The client's own network (a /24 or /48), if round trips from there are known.
    pub measured: Option<String>,
    /// The covering prefix (a /16 or /32), if networks in it correct the predictions of all of it.
    pub prefix: Option<String>,
    /// The autonomous system, if its networks correct the predictions of all of it.
    pub asn: Option<u32>,
    /// The country in two letters, likewise.
    pub country: Option<String>,
    /// The network measured something faster than light could be from its place, and is taken to be
    /// elsewhere.
    pub misplaced: bool,
}
}

api! {
/// A resolver, and whose users ask through it.
pub struct ResolverView {
    /// The resolver.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// An address in the middle of its users: its queries without a client subnet are answered for that.
    /// `null` where its users are not known; then such queries are answered for the resolver itself.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub users: Option<IpAddr>,
    /// Whether a query of the resolver is explained, and not a client at its address.
    pub asked: bool,
}
}

api! {
/// The DNS answer in one address family.
pub struct AnswerView {
    /// `v4` or `v6`.
    pub family: String,
    /// How it was arrived at: `eligible`, `all_down_…` or `empty`.
    pub basis: String,
    /// Why the first mirror before others: `first`, `spread`, `explored`, `shared_out`, `beyond` or
    /// `spilled`; `none` where no mirror is answered.
    pub how: String,
    /// Addresses, that of the first mirror first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// How much further than the nearest mirror that can be used another may be, in milliseconds, to be
    /// as good. `null` where nothing is compared: no mirror, an order of failover, or users shared out
    /// among all mirrors.
    pub tie_band_ms: Option<f32>,
    /// The prefix in which everyone gets this answer; its length is the ECS scope.
    pub scope: String,
    /// Why it is that long.
    pub scope_reason: String,
    /// How long the answer may be used, in seconds.
    pub ttl_s: u32,
    /// Why that long.
    pub ttl_reason: String,
}
}

api! {
/// One mirror, with all that speaks for and against it.
pub struct ExplainedMirror {
    /// As in other answers.
    #[serde(flatten)]
    pub ranked: RankedMirror,
    /// Where its round trip comes from.
    pub prediction: PredictionView,
    /// What it gets of the users who have this list.
    pub sharing: SharingView,
}
}

api! {
/// How a round trip was predicted.
pub struct PredictionView {
    /// The predicted round trip in milliseconds.
    pub ms: f32,
    /// What distance alone says, in milliseconds.
    pub distance_ms: f32,
    /// The way along cables in kilometres; `null` where a place is not known.
    pub route_km: Option<f32>,
    /// What the client's own network measured, in milliseconds.
    pub own_ms: Option<f32>,
    /// How the network measured it: `client`, `connections`, `quic`.
    pub own_sources: Vec<String>,
    /// What share each source has in the prediction.
    pub shares: SourceShares,
    /// Clients of its network say that they do not reach it: it counts as half a second farther.
    pub missed: bool,
}
}

api! {
/// Shares of the sources in a prediction; they add up to 100 but for rounding.
pub struct SourceShares {
    /// Measured by the client's own network.
    pub network_percent: f32,
    /// By networks of the covering prefix (/16, /32).
    pub prefix_percent: f32,
    /// By networks of the same autonomous system.
    pub asn_percent: f32,
    /// By networks of the same country.
    pub country_percent: f32,
    /// By nodes and networks of the region around.
    pub region_percent: f32,
    /// The way along cables.
    pub distance_percent: f32,
}
}

api! {
/// What a mirror gets of the users who have a client's list, and what keeps it from getting more.
pub struct SharingView {
    /// Percent of them whose IPv4 answer it leads.
    pub share_v4_percent: f32,
    /// The same for IPv6.
    pub share_v6_percent: f32,
    /// Its weight among equals.
    pub weight: u32,
    /// Percent of that weight that it is not offered now.
    pub withheld_percent: f32,
    /// Percent of its users that go on to the next mirror, because it is loaded.
    pub shed_percent: f32,
    /// A rule keeps it from this client.
    pub excluded: bool,
    /// A rule puts it before others for this client.
    pub pinned: bool,
    /// Measurements contradict the place that was given for it.
    pub misplaced: bool,
}
}
