//! What a host really is like, whatever anyone concludes of it.

use nearmost_core::health::Family;

/// How a host's service answers outside probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Connections are accepted.
    Answers,
    /// Its process ended: connections are refused.
    Refuses,
    /// It hangs: nothing comes back.
    Swallows,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Without power it neither sends nor refuses anything.
    pub powered: bool,
    /// Its agent's process runs.
    pub agent: bool,
    /// By [`Family::index`].
    pub service: [Service; 2],
    /// What the agent's checks of the service say.
    pub healthy: bool,
    /// The service may take users.
    pub ready: bool,
    /// The agent drains.
    pub draining: bool,
    /// The agent's process stands still until then; the service goes on.
    pub paused_until: u64,
    /// How far its wall clock is ahead, in microseconds.
    pub clock_ahead_us: i64,
    /// Since when its service has been answering users without a break.
    pub serving_since: Option<u64>,
}

impl Default for Host {
    fn default() -> Self {
        Host {
            powered: true,
            agent: true,
            service: [Service::Answers; 2],
            healthy: true,
            ready: true,
            draining: false,
            paused_until: 0,
            clock_ahead_us: 0,
            serving_since: Some(0),
        }
    }
}

impl Host {
    /// How a connection that reaches it is met.
    pub fn meets(&self, family: Family) -> Service {
        if self.powered { self.service[family.index()] } else { Service::Swallows }
    }

    /// Whether its service answers, in every family.
    pub fn answers(&self) -> bool {
        Family::ALL.into_iter().all(|f| self.meets(f) == Service::Answers)
    }

    /// Whether its agent's process is there.
    pub fn has_agent(&self) -> bool {
        self.powered && self.agent
    }
}
