//! How many connections there may be at once.
//!
//! A connection of an agent holds a permit from when it is accepted until its first message was
//! authorised, one of a client, who stays a stranger, to its end. So whoever only shakes hands, or says
//! nothing afterwards, takes up one of a bounded number of places, and whoever comes from one network
//! at most a share of them.
//!
//! ```text
//! no place left, in all or for the network ──────────> Refused
//! half of them taken, and the address is unproven ──> Prove: one retry datagram, no state
//! else ─────────────────────────────────────────────> Admitted, with a permit
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Part of all places that one network may hold: one in so many …
const SHARE: usize = 8;
/// … but at least so many: behind one address there may be many agents, which all return at once
/// when their broker does.
const LEAST_SHARE: usize = 16;

/// Counts connections.
pub struct Gate {
    most: usize,
    most_a_network: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// What becomes of a connection.
pub enum Entry {
    /// It may go on while the permit lives.
    Admitted(Permit),
    /// Its address must be proven first (RFC 9000 §8.1.2).
    Prove,
    /// There is no place; the label says of what kind.
    Refused(&'static str),
}

/// A place, given back when dropped.
pub struct Permit {
    network: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // The counts are consistent between any two operations, so a poisoned lock is usable.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network that an address is counted in: /24 of IPv4, /48 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & (!0 << 8)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (!0 << 80)).into()),
    }
}

impl Gate {
    /// For at most `most` connections, of which one network may have `most_a_network`.
    pub fn new(most: usize, most_a_network: usize) -> Gate {
        Gate { most, most_a_network: most_a_network.min(most), taken: Arc::default() }
    }

    /// For at most `most` connections, of which one network may have an eighth.
    pub fn sharing(most: usize) -> Gate {
        Gate::new(most, (most / SHARE).max(LEAST_SHARE))
    }

    /// Decides about a connection from `address`, which may be proven already.
    pub fn enter(&self, address: IpAddr, proven: bool) -> Entry {
        let network = network(address);
        let mut taken = lock(&self.taken);
        let of_network = taken.by_network.get(&network).copied().unwrap_or(0);
        if taken.all >= self.most {
            return Entry::Refused("limit");
        }
        // Unproven addresses are asked to prove themselves well before a network's places are gone:
        // else whoever forges its addresses keeps it out.
        if !proven && (taken.all >= self.most / 2 || of_network >= self.most_a_network / 2) {
            return Entry::Prove;
        }
        if of_network >= self.most_a_network {
            return Entry::Refused("network_limit");
        }
        taken.all += 1;
        taken.by_network.insert(network, of_network + 1);
        Entry::Admitted(Permit { network, taken: self.taken.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        match taken.by_network.get_mut(&self.network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.by_network.remove(&self.network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admit(gate: &Gate, from: &str) -> Permit {
        match gate.enter(address(from), true) {
            Entry::Admitted(permit) => permit,
            Entry::Prove => panic!("{from} is proven"),
            Entry::Refused(kind) => panic!("{from} was refused: {kind}"),
        }
    }

    #[test]
    fn places_are_bounded_in_all_and_come_back() {
        let gate = Gate::sharing(4);
        let mut held: Vec<Permit> = (0..4).map(|i| admit(&gate, &format!("192.0.{i}.1"))).collect();
        assert!(matches!(gate.enter(address("198.51.100.1"), true), Entry::Refused("limit")));
        held.pop();
        admit(&gate, "198.51.100.1");
        held.clear();
        assert!(lock(&gate.taken).by_network.is_empty(), "nothing is kept about those that left");
    }

    #[test]
    fn a_network_has_a_share() {
        for (inside, outside) in [("192.0.2.7", "192.0.3.7"), ("2001:db8:1::7", "2001:db8:2::7")] {
            let gate = Gate::sharing(200);
            let held: Vec<Permit> = (0..25).map(|_| admit(&gate, inside)).collect();
            assert!(matches!(gate.enter(address(inside), true), Entry::Refused("network_limit")));
            admit(&gate, outside);
            drop(held);
            admit(&gate, inside);
        }
    }

    #[test]
    fn the_unproven_prove_themselves_when_half_is_taken() {
        let gate = Gate::sharing(40);
        let unproven = |from: &str| gate.enter(address(from), false);
        assert!(matches!(unproven("192.0.2.1"), Entry::Admitted(_)));
        let held: Vec<Permit> = (0..8).map(|_| admit(&gate, "192.0.2.1")).collect();
        assert!(matches!(unproven("192.0.2.9"), Entry::Prove), "half of the network's");
        assert!(matches!(unproven("198.51.100.1"), Entry::Admitted(_)));
        let more: Vec<Permit> = (0..12).map(|i| admit(&gate, &format!("10.0.{i}.1"))).collect();
        assert!(matches!(unproven("198.51.100.1"), Entry::Prove), "half of all");
        drop((held, more));
    }
}
