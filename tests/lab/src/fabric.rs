//! The router between all hosts, as a machine: packets in, packets out when they are due.
//!
//! Host n is 10.n.0.0/16, and behind a translator it shows itself as 10.n.200.1.

use crate::nat::Nat;
use crate::order::{Order, Report};
use crate::packet::Packet;
use crate::pipe::{Fate, Pipe, Shape, Why};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Packets under way; more are dropped and counted.
const MOST_UNDER_WAY: usize = 100_000;
/// How finely lateness is told apart, and up to what.
const LATE_STEP_US: u64 = 10;
const LATE_STEPS: usize = 10_000;

/// All pipes, translators and packets under way.
pub struct Fabric {
    seed: u64,
    between: Shape,
    base: BTreeMap<(u8, u8), Shape>,
    pipes: BTreeMap<(u8, u8), Pipe>,
    hosts: Vec<u8>,
    nats: BTreeMap<u8, Nat>,
    tells_too_long: bool,
    under_way: BinaryHeap<Reverse<Passing>>,
    number: u64,
    tally: Tally,
}

/// Ordered by when it is due.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Passing {
    due: Duration,
    number: u64,
    to: u8,
    bytes: Vec<u8>,
}

struct Tally {
    report: Report,
    late: Vec<u64>,
}

impl Fabric {
    /// Between these hosts, `delay` from each to each until something else is said.
    pub fn new(hosts: &[u8], delay: Duration, seed: u64) -> Fabric {
        let mut fabric = Fabric {
            seed,
            between: Shape::delay(delay),
            base: BTreeMap::new(),
            pipes: BTreeMap::new(),
            hosts: hosts.to_vec(),
            nats: BTreeMap::new(),
            tells_too_long: false,
            under_way: BinaryHeap::new(),
            number: 0,
            tally: Tally::new(),
        };
        for a in hosts {
            for b in hosts.iter().filter(|b| *b != a) {
                let own = fabric.seed ^ (u64::from(*a) << 8 | u64::from(*b));
                fabric.pipes.insert((*a, *b), Pipe::new(fabric.between, own));
            }
        }
        fabric
    }

    /// A packet came from a host.
    pub fn arrive(&mut self, from: u8, bytes: &[u8], now: Duration) {
        let Some(mut packet) = Packet::read(bytes) else { return self.stray() };
        let Some(to) = self.host(packet.destination()) else { return self.stray() };
        packet.finish();
        if self.nats.get_mut(&from).is_some_and(|nat| !nat.leaves(&mut packet)) {
            return self.stray();
        }
        let Some(pipe) = self.pipes.get_mut(&(from, to)) else { return self.stray() };
        match pipe.push(packet.bytes().len(), now) {
            Fate::Due(due) => self.pass(to, packet, due),
            Fate::Dropped(why) => self.dropped(why, from, packet, now),
        }
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(next)| next.due)
    }

    /// A packet that is due, and its host.
    pub fn due(&mut self, now: Duration) -> Option<(u8, Vec<u8>)> {
        loop {
            if self.next_due()? > now {
                return None;
            }
            let Reverse(Passing { due, to, bytes, .. }) = self.under_way.pop()?;
            let Some(nat) = self.nats.get(&to) else {
                self.tally.passed(now - due);
                return Some((to, bytes));
            };
            // Translated here and not when it came, so that what is under way to an old port is lost.
            if let Some(mut packet) = Packet::read(&bytes)
                && nat.comes(&mut packet)
            {
                self.tally.passed(now - due);
                return Some((to, packet.bytes().to_vec()));
            }
            self.stray();
        }
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn order(&mut self, order: Order) -> Result<Option<Report>, String> {
        match order {
            Order::Base { a, b, delay_ms } => {
                self.known(a).and(self.known(b))?;
                let shape = Shape::delay(Duration::from_secs_f64(delay_ms.clamp(0.0, 1e6) / 1e3));
                for way in [(a, b), (b, a)] {
                    self.base.insert(way, shape);
                    self.pipe(way, |_| shape);
                }
            }
            Order::Shape { from, to, change } => {
                from.map_or(Ok(()), |h| self.known(h)).and(to.map_or(Ok(()), |h| self.known(h)))?;
                for (way, pipe) in &mut self.pipes {
                    if from.is_none_or(|h| h == way.0) && to.is_none_or(|h| h == way.1) {
                        pipe.set(change.of(*pipe.shape()));
                    }
                }
            }
            Order::TellTooLong { told } => self.tells_too_long = told,
            Order::Reset => {
                for (way, pipe) in &mut self.pipes {
                    pipe.set(self.base.get(way).copied().unwrap_or(self.between));
                }
            }
            Order::Nat { host, on: true } => {
                self.known(host)?;
                self.nats.entry(host).or_insert_with(|| Nat::new(outer(host)));
            }
            Order::Nat { host, on: false } => drop(self.nats.remove(&host)),
            Order::Rebind { host } => match self.nats.get_mut(&host) {
                Some(nat) => nat.rebind(),
                None => return Err(format!("host {host} is behind no translator")),
            },
            Order::Report => return Ok(Some(std::mem::replace(&mut self.tally, Tally::new()).finish())),
        }
        Ok(None)
    }

    fn pipe(&mut self, way: (u8, u8), shape: impl Fn(&Shape) -> Shape) {
        if let Some(pipe) = self.pipes.get_mut(&way) {
            pipe.set(shape(pipe.shape()));
        }
    }

    fn known(&self, host: u8) -> Result<(), String> {
        if self.hosts.contains(&host) { Ok(()) } else { Err(format!("there is no host {host}")) }
    }

    fn host(&self, ip: Ipv4Addr) -> Option<u8> {
        let [ten, host, ..] = ip.octets();
        (ten == 10 && self.hosts.contains(&host)).then_some(host)
    }

    fn pass(&mut self, to: u8, packet: Packet, due: Duration) {
        if self.under_way.len() >= MOST_UNDER_WAY {
            self.tally.report.queue_full += 1;
            return;
        }
        self.number += 1;
        let bytes = packet.bytes().to_vec();
        self.under_way.push(Reverse(Passing { due, number: self.number, to, bytes }));
    }

    fn dropped(&mut self, why: Why, from: u8, packet: Packet, now: Duration) {
        let report = &mut self.tally.report;
        match why {
            Why::Blackhole => report.blackholed += 1,
            Why::Lost => report.lost += 1,
            Why::QueueFull => report.queue_full += 1,
            Why::TooLong { mtu } => {
                report.too_long += 1;
                if self.tells_too_long && packet.is_whole() && !self.nats.contains_key(&from) {
                    let said = packet.too_long(Ipv4Addr::new(10, from, 0, 1), mtu);
                    self.pass(from, said, now);
                }
            }
        }
    }

    fn stray(&mut self) {
        self.tally.report.strays += 1;
    }
}

/// How a host behind a translator shows itself.
fn outer(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, host, 200, 1)
}

impl Tally {
    fn new() -> Tally {
        Tally { report: Report::default(), late: vec![0; LATE_STEPS] }
    }

    fn passed(&mut self, late: Duration) {
        let us = late.as_micros() as u64;
        self.report.passed += 1;
        self.report.late_max_us = self.report.late_max_us.max(us);
        self.late[((us / LATE_STEP_US) as usize).min(LATE_STEPS - 1)] += 1;
    }

    fn finish(mut self) -> Report {
        self.report.late_p50_us = self.late_at(0.5);
        self.report.late_p99_us = self.late_at(0.99);
        self.report
    }

    fn late_at(&self, share: f64) -> u64 {
        let rank = (self.report.passed as f64 * share).ceil() as u64;
        let mut below = 0;
        let found = self.late.iter().position(|count| {
            below += count;
            below >= rank.max(1)
        });
        found.map_or(0, |step| (step as u64 + 1) * LATE_STEP_US).min(self.report.late_max_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Change;
    use crate::packet::tests::udp;

    const MS: Duration = Duration::from_millis(1);

    fn ip(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, host, 0, 2)
    }

    fn fabric() -> Fabric {
        Fabric::new(&[1, 2, 10], 5 * MS, 1)
    }

    fn packet(from: u8, to: u8) -> Vec<u8> {
        udp((ip(from), 1000), (ip(to), 2000), b"x").bytes().to_vec()
    }

    #[test]
    fn packets_come_when_they_are_due() {
        let mut fabric = fabric();
        fabric.order(Order::Base { a: 1, b: 10, delay_ms: 20.0 }).unwrap();
        fabric.arrive(10, &packet(10, 1), MS);
        fabric.arrive(10, &packet(10, 2), MS);
        assert_eq!(fabric.next_due(), Some(6 * MS));
        assert!(fabric.due(5 * MS).is_none());
        assert_eq!(fabric.due(6 * MS).map(|(to, _)| to), Some(2));
        assert_eq!(fabric.due(23 * MS).map(|(to, _)| to), Some(1));
        let report = fabric.order(Order::Report).unwrap().unwrap();
        assert_eq!((report.passed, report.late_max_us, report.late_p50_us), (2, 2000, 10));
    }

    #[test]
    fn one_way_is_cut_and_healed() {
        let mut fabric = fabric();
        let change = Change { blackhole: Some(true), ..Change::default() };
        fabric.order(Order::Shape { from: Some(1), to: None, change }).unwrap();
        fabric.arrive(1, &packet(1, 10), MS);
        fabric.arrive(10, &packet(10, 1), MS);
        assert_eq!(fabric.due(9 * MS).map(|(to, _)| to), Some(1));
        assert!(fabric.due(9 * MS).is_none());
        fabric.order(Order::Reset).unwrap();
        fabric.arrive(1, &packet(1, 10), 9 * MS);
        assert_eq!(fabric.due(14 * MS).map(|(to, _)| to), Some(10));
        assert_eq!(fabric.order(Order::Report).unwrap().unwrap().blackholed, 1);
    }

    #[test]
    fn what_is_under_way_to_a_forgotten_port_is_lost() {
        let mut fabric = fabric();
        fabric.order(Order::Nat { host: 10, on: true }).unwrap();
        fabric.arrive(10, &packet(10, 1), MS);
        let (_, bytes) = fabric.due(6 * MS).unwrap();
        let seen = Packet::read(&bytes).unwrap().source_end().unwrap();
        assert_eq!(seen.ip, outer(10));
        let back = udp((ip(1), 2000), (seen.ip, seen.port), b"y").bytes().to_vec();
        fabric.arrive(1, &back, 6 * MS);
        let (to, bytes) = fabric.due(11 * MS).unwrap();
        assert_eq!((to, Packet::read(&bytes).unwrap().destination()), (10, ip(10)));
        fabric.arrive(1, &back, 12 * MS);
        fabric.order(Order::Rebind { host: 10 }).unwrap();
        assert!(fabric.due(20 * MS).is_none());
        assert!(fabric.order(Order::Rebind { host: 1 }).is_err());
    }

    #[test]
    fn who_sends_too_much_at_once_is_told() {
        let mut fabric = fabric();
        let change = Change { mtu: Some(28), ..Change::default() };
        fabric.order(Order::Shape { from: None, to: Some(1), change }).unwrap();
        fabric.arrive(10, &packet(10, 1), MS);
        assert!(fabric.due(9 * MS).is_none(), "nobody is told unless that was asked for");
        fabric.order(Order::TellTooLong { told: true }).unwrap();
        fabric.arrive(10, &packet(10, 1), MS);
        assert_eq!(fabric.due(9 * MS).map(|(to, _)| to), Some(10));
    }

    #[test]
    fn strays_are_counted() {
        let mut fabric = fabric();
        fabric.arrive(10, b"what", MS);
        fabric.arrive(10, &packet(10, 77), MS);
        assert_eq!(fabric.order(Order::Report).unwrap().unwrap().strays, 2);
        assert!(fabric.order(Order::Base { a: 1, b: 77, delay_ms: 1.0 }).is_err());
    }
}
