//! Which local address is which flow.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A flow that was used within this time does not give way to a new one: whoever floods the port with
/// addresses takes nothing from those who use it.
pub(super) const IN_USE: Duration = Duration::from_secs(5);

/// The flows, each known by its address and by its number; numbers are never used twice.
///
/// Sockets and clocks are the caller's.
pub(super) struct Flows {
    most: usize,
    idle: Duration,
    next: u64,
    by_peer: HashMap<SocketAddr, u64>,
    flows: HashMap<u64, Flow>,
    /// By last use: each use has a number of its own.
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

struct Flow {
    peer: SocketAddr,
    used: Instant,
    use_number: u64,
}

/// What became of a packet's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has a flow.
    Old(u64),
    /// It got a new one.
    New {
        flow: u64,
        /// In the place of an idle one.
        evicted: bool,
    },
    /// All flows are in use.
    Refused,
}

impl Flows {
    pub fn new(most: usize, idle: Duration) -> Flows {
        Flows {
            most,
            idle,
            next: 0,
            by_peer: HashMap::new(),
            flows: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    /// The flow of a program's address, made where there is none.
    pub fn of(&mut self, peer: SocketAddr, now: Instant) -> Found {
        if let Some(flow) = self.by_peer.get(&peer).copied() {
            self.touch(flow, now);
            return Found::Old(flow);
        }
        let mut evicted = false;
        if self.flows.len() >= self.most {
            match self.oldest() {
                Some((flow, used)) if now.saturating_duration_since(used) >= IN_USE => self.remove(flow),
                _ => return Found::Refused,
            }
            evicted = true;
        }
        let flow = self.next;
        self.next += 1;
        self.by_peer.insert(peer, flow);
        self.flows.insert(flow, Flow { peer, used: now, use_number: 0 });
        self.touch(flow, now);
        Found::New { flow, evicted }
    }

    /// The address to which a flow's packets go.
    pub fn peer(&mut self, flow: u64, now: Instant) -> Option<SocketAddr> {
        let peer = self.flows.get(&flow)?.peer;
        self.touch(flow, now);
        Some(peer)
    }

    /// Forgets flows that were idle for too long, and says how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.flows.len();
        while let Some((flow, used)) = self.oldest()
            && now.saturating_duration_since(used) >= self.idle
        {
            self.remove(flow);
        }
        before - self.flows.len()
    }

    /// When the next flow expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.oldest().and_then(|(_, used)| used.checked_add(self.idle))
    }

    fn oldest(&self) -> Option<(u64, Instant)> {
        let flow = *self.by_use.first_key_value()?.1;
        Some((flow, self.flows.get(&flow)?.used))
    }

    fn touch(&mut self, id: u64, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        self.by_use.remove(&flow.use_number);
        self.uses += 1;
        flow.used = now;
        flow.use_number = self.uses;
        self.by_use.insert(self.uses, id);
    }

    fn remove(&mut self, id: u64) {
        if let Some(flow) = self.flows.remove(&id) {
            self.by_peer.remove(&flow.peer);
            self.by_use.remove(&flow.use_number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn peer(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], 1000 + n).into()
    }

    #[test]
    fn an_address_keeps_its_flow_until_it_is_idle_and_then_gets_another() {
        let (mut flows, start) = (Flows::new(2, IDLE), mono_now());
        assert_eq!(flows.of(peer(1), start), Found::New { flow: 0, evicted: false });
        assert_eq!(flows.of(peer(1), start + IDLE / 2), Found::Old(0));
        assert_eq!(flows.expire(start + IDLE), 0);
        assert_eq!(flows.deadline(), Some(start + IDLE / 2 + IDLE));
        assert_eq!(flows.expire(start + IDLE / 2 + IDLE), 1);
        assert_eq!((flows.deadline(), flows.peer(0, start)), (None, None));
        assert_eq!(flows.of(peer(1), start + 2 * IDLE), Found::New { flow: 1, evicted: false });
    }

    #[test]
    fn an_answer_keeps_a_flow_as_well() {
        let (mut flows, start) = (Flows::new(2, IDLE), mono_now());
        flows.of(peer(1), start);
        assert_eq!(flows.peer(0, start + IDLE / 2), Some(peer(1)));
        assert_eq!(flows.expire(start + IDLE), 0);
    }

    #[test]
    fn a_flood_takes_no_flow_that_is_in_use() {
        let (mut flows, start) = (Flows::new(2, IDLE), mono_now());
        flows.of(peer(1), start);
        flows.of(peer(2), start + IN_USE);
        for n in 3..100 {
            assert_eq!(flows.of(peer(n), start + IN_USE / 2), Found::Refused);
        }
        assert_eq!(flows.of(peer(3), start + IN_USE), Found::New { flow: 2, evicted: true });
        assert_eq!(flows.of(peer(2), start + IN_USE), Found::Old(1));
        assert_eq!(flows.of(peer(1), start + IN_USE), Found::Refused);
    }

    proptest! {
        /// Bounded, no number twice, and both tables say the same.
        #[test]
        fn tables_agree(steps in proptest::collection::vec((0u16..12, 0u64..30_000), 1..200)) {
            let (mut flows, mut now) = (Flows::new(4, IDLE), mono_now());
            let mut last = None;
            for (n, ms) in steps {
                now += Duration::from_millis(ms);
                flows.expire(now);
                match flows.of(peer(n), now) {
                    Found::Old(flow) => prop_assert_eq!(flows.peer(flow, now), Some(peer(n))),
                    Found::New { flow, .. } => {
                        prop_assert!(last.is_none_or(|last| flow > last));
                        prop_assert_eq!(flows.peer(flow, now), Some(peer(n)));
                        last = Some(flow);
                    }
                    Found::Refused => prop_assert_eq!(flows.flows.len(), 4),
                }
                prop_assert!(flows.flows.len() <= 4);
                prop_assert_eq!(flows.flows.len(), flows.by_peer.len());
                prop_assert_eq!(flows.flows.len(), flows.by_use.len());
            }
        }
    }
}
