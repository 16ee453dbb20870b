//! What a verdict rests on.

use serde::{Deserialize, Serialize};

api! {
/// What is known of one mirror in one address family, for people who ask why.
pub struct EvidenceView {
    /// When its agent was last heard, in milliseconds before now. Absent: never, or it has none.
    #[serde(default)]
    pub agent_heard_ms_ago: Option<u64>,
    /// What this broker's own last probe found. Absent: there was none.
    #[serde(default)]
    pub broker: Option<SaidView>,
    /// What agents in other networks said that were asked to probe it.
    #[serde(default)]
    pub witnesses: Vec<WitnessView>,
    /// What other brokers told of their own probes.
    #[serde(default)]
    pub peers: Vec<PeerSaidView>,
    /// Networks whose clients lately reported that they do not reach it.
    #[serde(default)]
    pub complaints: u32,
    /// What it collected by failing again and again; it decays.
    #[serde(default)]
    pub penalty: f64,
}
}

api! {
/// What a probe found.
pub struct SaidView {
    /// Whether the service answered as it should.
    pub reached: bool,
    /// How long ago, in milliseconds.
    pub ms_ago: u64,
}
}

api! {
/// What another broker's probe found, as that broker tells.
pub struct PeerSaidView {
    /// The broker's id.
    pub broker: String,
    /// Whether the service answered as it should.
    pub reached: bool,
    /// How long ago, in milliseconds.
    pub ms_ago: u64,
}
}

api! {
/// What one witness said.
pub struct WitnessView {
    /// Name of the node that was asked.
    pub node: String,
    /// `passed`, `failed`, or `declined` where it could not or would not probe.
    pub said: String,
    /// How long ago, in milliseconds.
    pub ms_ago: u64,
}
}
