//! What goes into the fleet and what comes out of it, as plain types.

use crate::check::CheckSpec;
use crate::health::damping::Flaps;
use crate::health::{Family, State, Verdict};
use crate::id::{BrokerId, NodeId};
use crate::live::Load;
use crate::registry::MirrorIndex;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What became of a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BeaconOutcome {
    /// Counted as a sign of life.
    Accepted,
    /// This very beacon was seen before.
    Replayed,
    /// Of an earlier boot, or older than the replay window.
    Stale,
    /// No such node, or a revoked one.
    UnknownNode,
}

/// Beacons of one node that counted, by how they came. What was sent is `heard + missed`, what was lost
/// `missed - late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeaconTally {
    /// Came in their order.
    pub heard: u64,
    /// Had not come when a later one did.
    pub missed: u64,
    /// Of the missed: came after all.
    pub late: u64,
}

impl BeaconOutcome {
    /// Every outcome.
    pub const ALL: [BeaconOutcome; 4] =
        [BeaconOutcome::Accepted, BeaconOutcome::Replayed, BeaconOutcome::Stale, BeaconOutcome::UnknownNode];

    /// A bounded label for counters.
    pub fn label(self) -> &'static str {
        match self {
            BeaconOutcome::Accepted => "accepted",
            BeaconOutcome::Replayed => "replayed",
            BeaconOutcome::Stale => "stale",
            BeaconOutcome::UnknownNode => "unknown_node",
        }
    }
}

/// All that an agent knows of its services. A mirror of the node that is not listed is not served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReport {
    /// The agent drains.
    pub draining: bool,
    /// Load of the machine; connections and capacity come with each service.
    pub load: Load,
    /// One entry a service.
    pub services: Vec<ServiceReport>,
}

/// What an agent knows of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceReport {
    /// Domain it mirrors.
    pub domain: String,
    /// Name of the mirror.
    pub mirror: String,
    /// All its checks pass.
    pub healthy: bool,
    /// It may take users.
    pub ready: bool,
    /// Its process has ended and no new one is there.
    pub stopped: bool,
    /// The first failing check and why, for people.
    pub failing_check: Option<String>,
    /// Established connections on its port.
    pub connections: u32,
    /// Connections it can carry; 0 when not declared.
    pub capacity: u32,
}

/// Names one attempt at probing; given back with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeToken {
    pub(super) slot: u32,
    pub(super) family: Family,
    pub(super) serial: u64,
}

/// One attempt at probing, to be carried out now.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOrder {
    /// For the result.
    pub token: ProbeToken,
    /// Which mirror, in the registry last set.
    pub mirror: MirrorIndex,
    /// Which family.
    pub family: Family,
    /// Where to.
    pub addr: IpAddr,
    /// Port of the service.
    pub port: u16,
    /// How; its timeout is the one to keep for this attempt.
    pub spec: CheckSpec,
    /// Users may be waiting for what comes of it: it goes before what is not urgent.
    pub urgent: bool,
}

/// How one attempt at probing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// As a good service answers, after this long.
    Passed(Duration),
    /// With something else: a refusal, a wrong status, a broken certificate.
    Refused,
    /// Not at all.
    Silent,
}

/// What a witness found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witnessed {
    /// It reached the mirror; the answer took this long.
    Passed(Duration),
    /// It did not.
    Failed,
    /// It could or would not ask.
    Declined,
}

/// One witness to be asked: its agent is to probe a mirror from where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct WitnessOrder {
    /// For the answer.
    pub token: ProbeToken,
    /// Who is asked.
    pub witness: NodeId,
    /// About which mirror, in the registry last set.
    pub mirror: MirrorIndex,
    /// Where to.
    pub addr: IpAddr,
    /// Port of the service.
    pub port: u16,
    /// How; its timeout is that of each attempt.
    pub spec: CheckSpec,
    /// When the attempts start, from the order's arrival.
    pub attempts: Vec<Duration>,
}

/// What is known of a mirror in one family, by who measured it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// When its agent was last heard; `None` where it never was or there is none.
    pub agent_heard: Option<UnixMillis>,
    /// The broker's last conclusion from outside, and when that was.
    pub broker: Option<(bool, UnixMillis)>,
    /// What witnesses said when they were last asked, and when that was.
    pub witnesses: Vec<(NodeId, Witnessed, UnixMillis)>,
    /// Whether other brokers reach it, and when they looked; what they tell themselves.
    pub peers: Vec<(BrokerId, bool, UnixMillis)>,
    /// Networks whose clients reported failure lately.
    pub complaints: u32,
    /// The flap penalty.
    pub penalty: f64,
}

/// A mirror that other brokers are asked to probe at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAsk {
    /// Domain's name.
    pub domain: Arc<str>,
    /// Mirror's name.
    pub mirror: Arc<str>,
    /// In which family.
    pub family: Family,
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Domain's name.
    pub domain: Arc<str>,
    /// Mirror's name.
    pub mirror: Arc<str>,
    /// In which family.
    pub family: Family,
    /// Before.
    pub from: Verdict,
    /// Now.
    pub to: Verdict,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Probe, and tell [`super::Fleet::on_probe_result`].
    Probe(ProbeOrder),
    /// Ask an agent to probe, and tell [`super::Fleet::on_witness`].
    Witness(WitnessOrder),
    /// Ask the connected brokers to probe; they answer with facts, for [`super::Fleet::on_peer_facts`].
    AskPeers(PeerAsk),
    /// Probe the reference addresses, and tell [`super::Fleet::on_references`].
    References,
    /// Tell people and store.
    Transition(Transition),
}

/// What survives a restart: the verdict of the evidence (orders come from the registry), and the
/// address, which may have been observed or resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistedVerdict {
    /// Domain's name.
    pub domain: String,
    /// Mirror's name.
    pub mirror: String,
    /// In which family.
    pub family: Family,
    /// Beneath any orders.
    pub verdict: Verdict,
    /// Where it was reached.
    pub addr: Option<IpAddr>,
    /// It waits for a person to let it back.
    #[serde(default)]
    pub awaits_release: bool,
    /// How it was shown when a person froze it, if one did.
    #[serde(default)]
    pub frozen: Option<State>,
    /// Its failures of late.
    #[serde(default)]
    pub flaps: Option<Flaps>,
}
