//! How the agent is doing, for `/healthz` and for programs that run it.

use nearmost_wire::identity::Id;
use serde::{Deserialize, Serialize};

/// How the agent is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The node's id.
    pub node: String,
    /// It drains.
    pub draining: bool,
    /// One entry a broker of the configuration.
    pub brokers: Vec<BrokerStatus>,
    /// One entry a service whose process is watched.
    pub processes: Vec<ProcessStatus>,
    /// Checks that fail, hang or are not known yet, by name; those that pass are not told.
    pub checks: Vec<FailingCheck>,
    /// The ingress, while it is enabled.
    pub ingress: Option<IngressStatus>,
}

/// How the ingress is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressStatus {
    /// Its port.
    pub port: u16,
    /// Sessions that are served.
    pub served: u64,
    /// Sessions that are kept warm.
    pub warm: u64,
    /// UDP flows that are handed on.
    pub udp_flows: u64,
    /// TCP connections that are handed on.
    pub tcp_flows: u64,
}

/// How it is with a service's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// The service's domain.
    pub domain: String,
    /// The service's mirror.
    pub mirror: String,
    /// "not found", "running", "halted", "ended" or "proving".
    pub state: String,
    /// The process last found.
    pub pid: Option<u32>,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

/// A check that does not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingCheck {
    /// Domain, mirror and name.
    pub name: String,
    /// It hangs: no result of it counts.
    pub stuck: bool,
    /// Why.
    pub problem: String,
}

/// How it is with one broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The broker's id.
    pub id: String,
    /// How far the session is.
    pub session: SessionState,
    /// Our address as that broker saw it last.
    pub observed: Option<std::net::IpAddr>,
    /// Why the last attempt or session ended; cleared when one is on.
    pub error: Option<String>,
    /// What the broker finds wrong with declared services.
    pub warnings: Vec<String>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// None; it is not its turn, or it is tried again later.
    Idle,
    /// Being tried.
    Connecting,
    /// On.
    Attached,
}

impl SessionState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Idle => "idle",
            SessionState::Connecting => "connecting",
            SessionState::Attached => "attached",
        }
    }
}

impl AgentStatus {
    /// Nothing tried yet.
    pub fn new(node: Id, brokers: impl IntoIterator<Item = Id>) -> AgentStatus {
        let broker = |id: Id| BrokerStatus {
            id: id.to_string(),
            session: SessionState::Idle,
            observed: None,
            error: None,
            warnings: Vec::new(),
        };
        let brokers = brokers.into_iter().map(broker).collect();
        AgentStatus {
            node: node.to_string(),
            draining: false,
            brokers,
            processes: Vec::new(),
            checks: Vec::new(),
            ingress: None,
        }
    }

    /// Sessions that are on.
    pub fn attached(&self) -> usize {
        self.brokers.iter().filter(|b| b.session == SessionState::Attached).count()
    }
}
