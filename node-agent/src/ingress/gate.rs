//! How many connections there may be, of whom, and how many new ones a second.
//!
//! ```text
//! no place left, in all or for the network ───────────────────> Refused
//! half of them taken, or half of the second's handshakes made,
//!   and the address is not proven ────────────────────────────> Prove: one retry datagram, no state
//! no handshake left ──────────────────────────────────────────> Refused
//! else ───────────────────────────────────────────────────────> Admitted, with a permit
//! ```

use nearmost_config::IngressLimits;
use nearmost_core::time::MonoTime;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections.
pub struct Gate {
    limits: IngressLimits,
    taken: Arc<Mutex<Taken>>,
}

struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
    /// Handshakes that may be made at once; grows by the second's share.
    handshakes: f64,
    at: MonoTime,
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
    /// Nobody is in.
    pub fn new(limits: IngressLimits, now: MonoTime) -> Gate {
        let handshakes = limits.handshakes_per_second.into();
        let taken = Taken { all: 0, by_network: HashMap::new(), handshakes, at: now };
        Gate { limits, taken: Arc::new(Mutex::new(taken)) }
    }

    /// Decides about a connection from `address`, which may be proven already.
    pub fn enter(&self, address: IpAddr, proven: bool, now: MonoTime) -> Entry {
        let network = network(address);
        let mut taken = lock(&self.taken);
        let rate = f64::from(self.limits.handshakes_per_second);
        taken.handshakes = (taken.handshakes + rate * now.since(taken.at).as_secs_f64()).min(rate);
        taken.at = taken.at.max(now);
        let of_network = taken.by_network.get(&network).copied().unwrap_or(0);
        if taken.all >= self.limits.most {
            return Entry::Refused("limit");
        }
        // Whoever forges addresses must not use up what is there for others.
        let crowded = taken.all >= self.limits.most / 2
            || of_network >= self.limits.most_a_network / 2
            || taken.handshakes < rate / 2.0;
        if !proven && crowded {
            return Entry::Prove;
        }
        if of_network >= self.limits.most_a_network {
            return Entry::Refused("network_limit");
        }
        if taken.handshakes < 1.0 {
            return Entry::Refused("rate");
        }
        taken.handshakes -= 1.0;
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

    fn gate(most: usize, most_a_network: usize, handshakes_per_second: u32) -> Gate {
        Gate::new(IngressLimits { most, most_a_network, handshakes_per_second }, MonoTime::ZERO)
    }

    fn said(entry: &Entry) -> &'static str {
        match entry {
            Entry::Admitted(_) => "in",
            Entry::Prove => "prove",
            Entry::Refused(kind) => kind,
        }
    }

    fn enter(gate: &Gate, from: &str, proven: bool, ms: u64) -> Entry {
        gate.enter(from.parse().expect("an address"), proven, MonoTime::from_millis(ms))
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let gate = gate(3, 2, 100);
        let mut held = vec![enter(&gate, "192.0.2.1", true, 0), enter(&gate, "192.0.2.9", true, 0)];
        assert_eq!(said(&enter(&gate, "192.0.2.7", true, 0)), "network_limit");
        held.push(enter(&gate, "2001:db8:1::1", true, 0));
        assert_eq!(said(&enter(&gate, "198.51.100.1", true, 0)), "limit");
        assert!(held.iter().all(|entry| said(entry) == "in"));
        held.clear();
        assert!(lock(&gate.taken).by_network.is_empty(), "nothing is kept about those that left");
        assert_eq!(said(&enter(&gate, "192.0.2.7", true, 0)), "in");
    }

    #[test]
    fn the_unproven_prove_themselves_under_load() {
        let gate = gate(100, 4, 10);
        let held: Vec<Entry> = (0..2).map(|_| enter(&gate, "192.0.2.1", false, 0)).collect();
        assert!(held.iter().all(|entry| said(entry) == "in"));
        assert_eq!(said(&enter(&gate, "192.0.2.2", false, 0)), "prove", "half of the network's places");
        assert_eq!(said(&enter(&gate, "198.51.100.1", false, 0)), "in");
        let more: Vec<Entry> = (0..3).map(|i| enter(&gate, &format!("10.0.{i}.1"), true, 0)).collect();
        assert_eq!(said(&enter(&gate, "10.1.0.1", false, 0)), "prove", "half of the second's handshakes");
        drop(more);
    }

    #[test]
    fn handshakes_come_by_the_second() {
        let gate = gate(100, 100, 4);
        let in_time = |ms| said(&enter(&gate, "192.0.2.1", true, ms));
        assert_eq!(
            [in_time(0), in_time(0), in_time(0), in_time(0), in_time(0)],
            ["in", "in", "in", "in", "rate"]
        );
        assert_eq!([in_time(249), in_time(250), in_time(250)], ["rate", "in", "rate"]);
        // A long pause brings no more than a second does.
        assert_eq!((0..6).filter(|_| in_time(60_000) == "in").count(), 4);
    }
}
