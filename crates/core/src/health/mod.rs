//! What is concluded of one mirror in one address family.
//!
//! The words are here; [`machine`] is the machine and its overlay of orders, [`phase`] its states
//! as the evidence makes them.

pub mod damping;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod phase;

use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// IPv4 or IPv6: verdicts, probes and round trips are per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];
    /// 0 or 1, for tables.
    pub fn index(self) -> usize {
        self as usize
    }
    /// `v4` or `v6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }
}

/// The state of a mirror in one family (DESIGN §6); its diagram is above [`machine::Machine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Nothing proven yet. Not eligible.
    #[default]
    Unknown,
    /// Proven good, taking less than its share for a while. Eligible.
    Warming,
    /// Good. Eligible.
    Up,
    /// Something is missing; evidence is being gathered. Eligible.
    Suspect,
    /// The agent is silent, but the user-facing address answers. Eligible, shown, alarmed.
    Unattended,
    /// Leaving in order: no new users. Not eligible.
    Draining,
    /// Concluded to be out of service. Not eligible.
    Down,
}

impl State {
    /// Every state, for tables and metrics.
    pub const ALL: [State; 7] = [
        State::Unknown,
        State::Warming,
        State::Up,
        State::Suspect,
        State::Unattended,
        State::Draining,
        State::Down,
    ];

    /// Whether new users may be sent there.
    pub fn eligible(self) -> bool {
        matches!(self, State::Warming | State::Up | State::Suspect | State::Unattended)
    }

    /// Lower case name, as shown everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Warming => "warming",
            State::Up => "up",
            State::Suspect => "suspect",
            State::Unattended => "unattended",
            State::Draining => "draining",
            State::Down => "down",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// Registered, nothing heard yet.
    #[default]
    NothingHeard,
    /// Its address is not known (yet).
    NoAddress,
    /// The agent says healthy; an outside probe has not succeeded yet.
    AwaitingProbe,
    /// Agent healthy and outside probe passed (or the probe alone, in probe mode).
    Proven,
    /// Beacons are missing.
    MissedBeacons,
    /// The session ended without a goodbye.
    SessionLost,
    /// The agent reports that its service fails its checks.
    ServiceFailing,
    /// The broker's probes fail.
    ProbeFailed,
    /// Beacons missing and the broker's probes fail.
    SilentAndUnreachable,
    /// Beacons missing, the service answers the broker's probes.
    SilentButAnswering,
    /// The agent drains.
    DrainedByAgent,
    /// A person drained the mirror or its node.
    DrainedByOrder,
    /// The agent said goodbye.
    AgentLeft,
    /// A person forced the state.
    Forced,
    /// Set by hand (`health = "manual"`).
    Manual,
    /// The node was revoked.
    Revoked,
    /// From before a restart, not yet confirmed.
    Resumed,
    /// The agent says the service is not ready.
    NotReady,
    /// The agent reports that its service's process has ended.
    ProcessEnded,
    /// The broker does not reach it, outside witnesses do.
    PartlyReachable,
    /// Clients report that they do not reach it; it is being probed.
    ClientsFail,
    /// It would be down, were the broker itself not cut off.
    SelfDoubt,
    /// It would be down, were there not too many already that nobody else sees as down.
    CapReached,
    /// It would be down, were there not too little left of the domain.
    Panic,
    /// Good again, kept out because it failed too often lately.
    HeldDown,
    /// Good again, kept out until a person lets it back.
    AwaitingRelease,
    /// In a planned maintenance window.
    Maintenance,
    /// A person froze it as it was.
    Frozen,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 28] = [
        Reason::NothingHeard,
        Reason::NoAddress,
        Reason::AwaitingProbe,
        Reason::Proven,
        Reason::MissedBeacons,
        Reason::SessionLost,
        Reason::ServiceFailing,
        Reason::ProbeFailed,
        Reason::SilentAndUnreachable,
        Reason::SilentButAnswering,
        Reason::DrainedByAgent,
        Reason::DrainedByOrder,
        Reason::AgentLeft,
        Reason::Forced,
        Reason::Manual,
        Reason::Revoked,
        Reason::Resumed,
        Reason::NotReady,
        Reason::ProcessEnded,
        Reason::PartlyReachable,
        Reason::ClientsFail,
        Reason::SelfDoubt,
        Reason::CapReached,
        Reason::Panic,
        Reason::HeldDown,
        Reason::AwaitingRelease,
        Reason::Maintenance,
        Reason::Frozen,
    ];

    /// Whether it is the agent's silence, which ends when the agent is heard.
    pub fn is_silence(self) -> bool {
        matches!(self, Reason::MissedBeacons | Reason::SessionLost)
    }

    /// Snake-case code for APIs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Reason::NothingHeard => "nothing_heard",
            Reason::NoAddress => "no_address",
            Reason::AwaitingProbe => "awaiting_probe",
            Reason::Proven => "proven",
            Reason::MissedBeacons => "missed_beacons",
            Reason::SessionLost => "session_lost",
            Reason::ServiceFailing => "service_failing",
            Reason::ProbeFailed => "probe_failed",
            Reason::SilentAndUnreachable => "silent_and_unreachable",
            Reason::SilentButAnswering => "silent_but_answering",
            Reason::DrainedByAgent => "drained_by_agent",
            Reason::DrainedByOrder => "drained_by_order",
            Reason::AgentLeft => "agent_left",
            Reason::Forced => "forced",
            Reason::Manual => "manual",
            Reason::Revoked => "revoked",
            Reason::Resumed => "resumed",
            Reason::NotReady => "not_ready",
            Reason::ProcessEnded => "process_ended",
            Reason::PartlyReachable => "partly_reachable",
            Reason::ClientsFail => "clients_fail",
            Reason::SelfDoubt => "self_doubt",
            Reason::CapReached => "cap_reached",
            Reason::Panic => "panic",
            Reason::HeldDown => "held_down",
            Reason::AwaitingRelease => "awaiting_release",
            Reason::Maintenance => "maintenance",
            Reason::Frozen => "frozen",
        }
    }

    /// The reason of a code.
    pub fn from_code(code: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|r| r.code() == code)
    }
}

/// Who measured what a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Vantage {
    /// Nobody.
    #[default]
    None,
    /// The mirror's own agent.
    Agent,
    /// This broker.
    Broker,
    /// Agent and broker agree.
    #[serde(rename = "agent+broker")]
    AgentAndBroker,
    /// A person.
    Operator,
    /// Agents in other networks, asked by the broker.
    Witnesses,
    /// Broker and witnesses agree.
    #[serde(rename = "broker+witnesses")]
    BrokerAndWitnesses,
    /// Clients.
    Clients,
}

impl Vantage {
    /// Every vantage.
    pub const ALL: [Vantage; 8] = [
        Vantage::None,
        Vantage::Agent,
        Vantage::Broker,
        Vantage::AgentAndBroker,
        Vantage::Operator,
        Vantage::Witnesses,
        Vantage::BrokerAndWitnesses,
        Vantage::Clients,
    ];

    /// Name for APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Vantage::None => "none",
            Vantage::Agent => "agent",
            Vantage::Broker => "broker",
            Vantage::AgentAndBroker => "agent+broker",
            Vantage::Operator => "operator",
            Vantage::Witnesses => "witnesses",
            Vantage::BrokerAndWitnesses => "broker+witnesses",
            Vantage::Clients => "clients",
        }
    }

    /// The vantage of a name.
    pub fn from_name(name: &str) -> Option<Vantage> {
        Vantage::ALL.into_iter().find(|v| v.as_str() == name)
    }
}

/// What a broker concludes of a mirror in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Who measured it.
    pub vantage: Vantage,
    /// Since when the state and reason are these.
    pub since: UnixMillis,
    /// From before a restart and not yet confirmed.
    pub stale: bool,
}

impl Verdict {
    /// Whether people or the agent took the mirror out on purpose: an all-down policy must not
    /// bring it back.
    pub fn withdrawn(&self) -> bool {
        match self.state {
            State::Draining => true,
            State::Down => matches!(self.reason, Reason::Revoked | Reason::Forced | Reason::Manual),
            _ => false,
        }
    }
}
