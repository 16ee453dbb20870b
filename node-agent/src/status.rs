//! How the agent is doing, for `/healthz` and for programs that run it.

use nearmost_wire::agent::ServiceReport;
use nearmost_wire::identity::Id;
use nearmost_wire::standing::{MirrorStanding, MirrorUsage, Usage};
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
    /// What is reported of each service.
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    /// How busy the machine is.
    #[serde(default)]
    pub machine: MachineStatus,
    /// Beacons sent since the start, to all brokers.
    #[serde(default)]
    pub beacons_sent: u64,
}

/// How busy the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// CPU in use, 0..=1.
    pub cpu: f32,
    /// Memory in use, 0..=1.
    pub memory: f32,
}

/// What is reported of a service: whether it is well, and how many use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The domain it mirrors.
    pub domain: String,
    /// The mirror.
    pub mirror: String,
    /// All its checks pass.
    pub healthy: bool,
    /// It may take users.
    pub ready: bool,
    /// The first failing check and why.
    pub problem: Option<String>,
    /// Established connections on its port.
    pub connections: u32,
    /// Connections that it can carry, as its operator declared; 0 when not declared.
    pub capacity: u32,
}

impl From<&ServiceReport> for ServiceStatus {
    fn from(report: &ServiceReport) -> ServiceStatus {
        ServiceStatus {
            domain: report.domain.clone(),
            mirror: report.mirror.clone(),
            healthy: report.healthy,
            ready: report.ready,
            problem: report.problem.clone(),
            connections: report.connections,
            capacity: report.capacity,
        }
    }
}

/// What a broker concludes of one of the node's mirrors, and how it uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandingStatus {
    /// The domain.
    pub domain: String,
    /// The mirror.
    pub mirror: String,
    /// `v4` or `v6`.
    pub family: String,
    /// `up`, `down`, …
    pub state: String,
    /// Code of the reason.
    pub reason: String,
    /// Who measured it.
    pub vantage: String,
    /// Since when, Unix milliseconds of the broker's clock.
    pub since_unix_ms: u64,
    /// Whether new users are sent there.
    pub eligible: bool,
}

/// How much a broker and its users use this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageStatus {
    /// One entry a mirror.
    pub mirrors: Vec<MirrorUsageStatus>,
    /// Beacons in this node's name whose signature was wrong, since the broker began.
    pub beacons_refused: u64,
}

/// How much one mirror is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorUsageStatus {
    /// The domain.
    pub domain: String,
    /// The mirror.
    pub mirror: String,
    /// Users there now, as far as the broker knows.
    pub users: f32,
    /// That as a share of the domain's users, 0..=1; `None` while it has none.
    pub share: Option<f32>,
}

impl From<Usage> for UsageStatus {
    fn from(said: Usage) -> UsageStatus {
        let one = |m: MirrorUsage| {
            let share = m.share();
            let users = if m.users.is_finite() { m.users.max(0.0) } else { 0.0 };
            MirrorUsageStatus { domain: m.domain, mirror: m.mirror, users, share }
        };
        UsageStatus {
            mirrors: said.mirrors.into_iter().map(one).collect(),
            beacons_refused: said.beacons_refused,
        }
    }
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

impl From<MirrorStanding> for StandingStatus {
    fn from(said: MirrorStanding) -> StandingStatus {
        let MirrorStanding { domain, mirror, family, state, reason, vantage, since_unix_ms, eligible } = said;
        StandingStatus { domain, mirror, family, state, reason, vantage, since_unix_ms, eligible }
    }
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
    /// Reports that the broker took in this session.
    #[serde(default)]
    pub reports_taken: u64,
    /// What it told last of this node's mirrors; nothing from a broker that does not tell.
    #[serde(default)]
    pub standing: Vec<StandingStatus>,
    /// How much it and its users use this node; `None` from a broker that does not tell.
    #[serde(default)]
    pub usage: Option<UsageStatus>,
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
            reports_taken: 0,
            standing: Vec::new(),
            usage: None,
        };
        let brokers = brokers.into_iter().map(broker).collect();
        AgentStatus {
            node: node.to_string(),
            draining: false,
            brokers,
            processes: Vec::new(),
            checks: Vec::new(),
            ingress: None,
            services: Vec::new(),
            machine: MachineStatus::default(),
            beacons_sent: 0,
        }
    }

    /// Sessions that are on.
    pub fn attached(&self) -> usize {
        self.brokers.iter().filter(|b| b.session == SessionState::Attached).count()
    }
}
