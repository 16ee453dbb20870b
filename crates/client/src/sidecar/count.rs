//! What a sidecar counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// UDP: packets of programs that were handed to the session.
    PacketsUp,
    /// UDP: packets of the service that were handed to a program.
    PacketsDown,
    /// UDP: packets that the path to the mirror does not take.
    TooLarge,
    /// UDP: packets of programs that the session did not take, for another reason than their size.
    NotTaken,
    /// UDP: packets of the service for a flow that is gone.
    NoFlow,
    /// UDP: packets of the service that the local socket did not take.
    NotDelivered,
    /// UDP: flows that began.
    FlowsOpened,
    /// UDP: flows that were idle for too long.
    FlowsExpired,
    /// UDP: idle flows that gave way to new ones.
    FlowsEvicted,
    /// UDP: packets of programs that got no flow, as all were in use.
    FlowsRefused,
    /// Connections of programs that were taken in.
    Connections,
    /// Connections reset at once, as there were too many.
    ConnectionsRefused,
    /// TCP: connections that ended in order.
    Ended,
    /// TCP: connections reset since the mirror, the service or the program broke them.
    Broken,
    /// Connections or requests that found no way to the service in time; nothing was sent to it.
    Unreached,
    /// HTTP: requests of programs.
    Requests,
    /// HTTP: answers of the service handed on whole.
    Answered,
    /// HTTP: requests sent once more.
    Retried,
    /// HTTP: requests that may have been carried out, whose answer is lost.
    Unknown,
    /// HTTP: answers that broke off.
    Cut,
    /// HTTP: requests that the program gave up, or whose body it broke off.
    GivenUp,
    /// HTTP: requests or connections that are no HTTP or ask for what is not done here.
    Bad,
    /// HTTP: connections that became a tunnel.
    Tunnels,
}

const COUNTS: usize = Count::Tunnels as usize + 1;

impl Count {
    /// All of them.
    pub const ALL: [Count; COUNTS] = [
        Count::PacketsUp,
        Count::PacketsDown,
        Count::TooLarge,
        Count::NotTaken,
        Count::NoFlow,
        Count::NotDelivered,
        Count::FlowsOpened,
        Count::FlowsExpired,
        Count::FlowsEvicted,
        Count::FlowsRefused,
        Count::Connections,
        Count::ConnectionsRefused,
        Count::Ended,
        Count::Broken,
        Count::Unreached,
        Count::Requests,
        Count::Answered,
        Count::Retried,
        Count::Unknown,
        Count::Cut,
        Count::GivenUp,
        Count::Bad,
        Count::Tunnels,
    ];

    /// A snake-case name.
    pub fn label(self) -> &'static str {
        match self {
            Count::PacketsUp => "packets_up",
            Count::PacketsDown => "packets_down",
            Count::TooLarge => "too_large",
            Count::NotTaken => "not_taken",
            Count::NoFlow => "no_flow",
            Count::NotDelivered => "not_delivered",
            Count::FlowsOpened => "flows_opened",
            Count::FlowsExpired => "flows_expired",
            Count::FlowsEvicted => "flows_evicted",
            Count::FlowsRefused => "flows_refused",
            Count::Connections => "connections",
            Count::ConnectionsRefused => "connections_refused",
            Count::Ended => "ended",
            Count::Broken => "broken",
            Count::Unreached => "unreached",
            Count::Requests => "requests",
            Count::Answered => "answered",
            Count::Retried => "retried",
            Count::Unknown => "unknown",
            Count::Cut => "cut",
            Count::GivenUp => "given_up",
            Count::Bad => "bad",
            Count::Tunnels => "tunnels",
        }
    }
}

/// Counters of one sidecar.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; COUNTS]);

impl Counters {
    pub(super) fn add(&self, what: Count) {
        self.add_many(what, 1);
    }

    pub(super) fn add_many(&self, what: Count, n: usize) {
        self.0[what as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    /// How often something happened.
    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// What happened at all, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL.into_iter().map(|what| (what.label(), self.get(what))).filter(|(_, n)| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_place_and_name() {
        let counters = Counters::default();
        for (at, what) in Count::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, at);
            counters.add_many(what, at + 1);
        }
        let named: Vec<_> = counters.named().collect();
        assert_eq!(named.len(), COUNTS);
        assert_eq!(
            named.iter().map(|(name, _)| name).collect::<std::collections::HashSet<_>>().len(),
            COUNTS
        );
    }
}
