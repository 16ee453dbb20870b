//! How many connections there may be, of whom, and how many new ones a second.
//!
//! ```text
//! no place left, in all or for the network ───────────────────> Refused
//! half of them taken, or half of the second's handshakes made,
//!   and the address is not proven ────────────────────────────> Prove: one retry datagram, no state
//! no handshake left, for the network or in all ───────────────> Refused
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
    /// Those that have connections, or made handshakes within the last second.
    by_network: HashMap<IpAddr, Network>,
    handshakes: Bucket,
}

struct Network {
    connections: usize,
    handshakes: Bucket,
}

/// Handshakes that may be made at once; a second fills it.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    a_second: f64,
    at: MonoTime,
}

impl Bucket {
    fn new(a_second: f64, now: MonoTime) -> Bucket {
        Bucket { left: a_second, a_second, at: now }
    }

    fn fill(&mut self, now: MonoTime) {
        let more = self.a_second * now.since(self.at).as_secs_f64();
        self.left = (self.left + more).min(self.a_second);
        self.at = self.at.max(now);
    }

    fn is_half_empty(&self) -> bool {
        self.left < self.a_second / 2.0
    }
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
        let handshakes = Bucket::new(limits.handshakes_per_second.into(), now);
        let taken = Taken { all: 0, by_network: HashMap::new(), handshakes };
        Gate { limits, taken: Arc::new(Mutex::new(taken)) }
    }

    /// Decides about a connection from `address`, which may be proven already.
    pub fn enter(&self, address: IpAddr, proven: bool, now: MonoTime) -> Entry {
        let network = network(address);
        let mut taken = lock(&self.taken);
        taken.handshakes.fill(now);
        taken.forget(self.limits.most, now);
        let fresh = Network { connections: 0, handshakes: Bucket::new(self.of_one(), now) };
        let mut of = taken.by_network.remove(&network).unwrap_or(fresh);
        of.handshakes.fill(now);
        let entry = self.decide(&taken, &of, proven);
        if matches!(entry, Ok(())) {
            taken.handshakes.left -= 1.0;
            of.handshakes.left -= 1.0;
            of.connections += 1;
            taken.all += 1;
        }
        if of.is_remembered() {
            taken.by_network.insert(network, of);
        }
        match entry {
            Ok(()) => Entry::Admitted(Permit { network, taken: self.taken.clone() }),
            Err(other) => other,
        }
    }

    /// One network's handshakes a second: an eighth of all, but a handful where that is less.
    fn of_one(&self) -> f64 {
        let all = f64::from(self.limits.handshakes_per_second);
        (all / 8.0).max(4.0).min(all)
    }

    fn decide(&self, taken: &Taken, of: &Network, proven: bool) -> Result<(), Entry> {
        let of_network = of.connections;
        if taken.all >= self.limits.most {
            return Err(Entry::Refused("limit"));
        }
        // Whoever forges addresses must not use up what is there for others.
        let crowded = taken.all >= self.limits.most / 2
            || of_network >= self.limits.most_a_network / 2
            || of.handshakes.is_half_empty()
            || taken.handshakes.is_half_empty();
        match () {
            () if !proven && crowded => Err(Entry::Prove),
            () if of_network >= self.limits.most_a_network => Err(Entry::Refused("network_limit")),
            () if taken.handshakes.left < 1.0 => Err(Entry::Refused("rate")),
            () if of.handshakes.left < 1.0 => Err(Entry::Refused("network_rate")),
            () => Ok(()),
        }
    }
}

impl Network {
    fn is_remembered(&self) -> bool {
        self.connections > 0 || self.handshakes.left < self.handshakes.a_second
    }
}

impl Taken {
    /// Networks whose bucket is full again and that have no connection are like any other. There are never
    /// more than connections and twice a second's handshakes.
    fn forget(&mut self, most: usize, now: MonoTime) {
        if self.by_network.len() > most + 2 * self.handshakes.a_second as usize {
            self.by_network.retain(|_, network| {
                network.handshakes.fill(now);
                network.is_remembered()
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(network) = taken.by_network.get_mut(&self.network) {
            network.connections = network.connections.saturating_sub(1);
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
        lock(&gate.taken).forget(0, MonoTime::from_millis(500));
        for i in 0..250u8 {
            drop(enter(&gate, &format!("10.0.{i}.1"), true, u64::from(i) * 1000));
        }
        let kept = lock(&gate.taken).by_network.len();
        assert!(kept <= 204, "{kept} networks are remembered");
        assert_eq!(said(&enter(&gate, "192.0.2.7", true, 250_000)), "in");
    }

    #[test]
    fn one_network_does_not_use_up_the_handshakes_of_others() {
        let gate = gate(10_000, 10_000, 80);
        let got = (0..1000).filter(|_| said(&enter(&gate, "192.0.2.1", true, 0)) == "in").count();
        assert_eq!(got, 10);
        assert_eq!(said(&enter(&gate, "192.0.2.9", true, 0)), "network_rate");
        assert_eq!(said(&enter(&gate, "198.51.100.1", true, 0)), "in");
        // It has its share again a second later, and no more.
        let got = (0..1000).filter(|_| said(&enter(&gate, "192.0.2.1", true, 5000)) == "in").count();
        assert_eq!(got, 10);
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
