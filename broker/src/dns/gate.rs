//! Who may connect: connections are counted in all and for each source, each transport's for themselves.

use super::TcpLimits;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GateLimits {
    /// In all.
    pub(super) total: usize,
    /// Of one source: an IPv4 address or an IPv6 /64.
    pub(super) per_source: usize,
}

impl From<TcpLimits> for GateLimits {
    fn from(limits: TcpLimits) -> GateLimits {
        GateLimits { total: limits.max_connections, per_source: limits.max_per_source }
    }
}

/// Counts connections in all and for each source.
#[derive(Debug)]
pub(super) struct Gate {
    limits: GateLimits,
    /// Held for a few instructions, never across an await. Entries are bounded by `total`.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All connections are in use.
    Total,
    /// This source has its share.
    Source,
}

impl Gate {
    pub(super) fn new(limits: GateLimits) -> Gate {
        Gate { limits, open: Mutex::default() }
    }

    /// Lets a connection in for as long as the pass lives.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Pass, Refusal> {
        let source = source_of(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.total {
            return Err(Refusal::Total);
        }
        let held = open.by_source.get(&source).copied().unwrap_or(0);
        if held >= self.limits.per_source {
            return Err(Refusal::Source);
        }
        open.by_source.insert(source, held + 1);
        open.total += 1;
        Ok(Pass { gate: Arc::clone(self), source })
    }

    /// Whether half of the places are taken, in all or of this source: from then on whoever could have
    /// forged its address is asked to prove it, long before forgers can keep the others out.
    pub(super) fn crowded(&self, peer: IpAddr) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.by_source.get(&source_of(peer)).copied().unwrap_or(0);
        open.total >= self.limits.total.div_ceil(2) || held >= self.limits.per_source.div_ceil(2)
    }
}

/// A place among the connections.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(held) = open.by_source.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source: an IPv6 user has a whole /64.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(a) => IpAddr::V4(a),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & (u128::MAX << 64))),
    }
}
