//! A host behind a translator of addresses and ports (RFC 4787: endpoint-independent mapping, no filter).

use crate::packet::{End, Packet};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// The first port given out.
const FIRST: u16 = 20_000;
/// Mappings of one host; beyond, packets of new flows are dropped.
const MOST: usize = 16_384;

/// The translator of one host.
#[derive(Debug)]
pub struct Nat {
    outer: Ipv4Addr,
    next: u16,
    ports: HashMap<End, u16>,
    ends: HashMap<(u8, u16), End>,
}

impl Nat {
    /// Shows itself to others by this address.
    pub fn new(outer: Ipv4Addr) -> Nat {
        Nat { outer, next: FIRST, ports: HashMap::new(), ends: HashMap::new() }
    }

    /// A packet leaves; false if there is no port for it. What has no ports is not translated and does not
    /// leave.
    pub fn leaves(&mut self, packet: &mut Packet) -> bool {
        let Some(end) = packet.source_end() else { return false };
        let Some(port) = self.port(end) else { return false };
        packet.set_source(self.outer, port);
        true
    }

    /// A packet comes; false if it is nobody's.
    pub fn comes(&self, packet: &mut Packet) -> bool {
        let end = packet.destination_end();
        let inner = end.filter(|e| e.ip == self.outer).and_then(|e| self.ends.get(&(e.protocol, e.port)));
        inner.map(|inner| packet.set_destination(inner.ip, inner.port)).is_some()
    }

    /// Forgets all mappings: flows go on from other ports, and what comes to the old ones is dropped.
    pub fn rebind(&mut self) {
        self.ports.clear();
        self.ends.clear();
    }

    fn port(&mut self, end: End) -> Option<u16> {
        if let Some(port) = self.ports.get(&end) {
            return Some(*port);
        }
        if self.ports.len() >= MOST {
            return None;
        }
        while self.ends.contains_key(&(end.protocol, self.next)) {
            self.step();
        }
        let port = self.next;
        self.step();
        self.ports.insert(end, port);
        self.ends.insert((end.protocol, port), end);
        Some(port)
    }

    fn step(&mut self) {
        self.next = self.next.checked_add(1).unwrap_or(FIRST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::udp;

    const INNER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 10, 0, 2), 5000);
    const OUTER: Ipv4Addr = Ipv4Addr::new(10, 10, 200, 1);
    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 1, 0, 2), 7850);

    #[test]
    fn flows_keep_their_port_until_they_are_bound_anew() {
        let mut nat = Nat::new(OUTER);
        let out = |nat: &mut Nat| {
            let mut packet = udp(INNER, SERVER, b"x");
            assert!(nat.leaves(&mut packet));
            packet.source_end().unwrap()
        };
        let first = out(&mut nat);
        assert_eq!((first.ip, first), (OUTER, out(&mut nat)));
        let mut back = udp(SERVER, (OUTER, first.port), b"y");
        assert!(nat.comes(&mut back));
        assert_eq!(back.destination_end().map(|e| (e.ip, e.port)), Some(INNER));

        nat.rebind();
        assert!(!nat.comes(&mut udp(SERVER, (OUTER, first.port), b"y")));
        let second = out(&mut nat);
        assert_ne!(first.port, second.port);
        assert!(nat.comes(&mut udp(SERVER, (OUTER, second.port), b"y")));
    }
}
