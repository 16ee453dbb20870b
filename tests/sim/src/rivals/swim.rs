//! A SWIM group of all hosts' agents and the broker. What the broker's member thinks is the verdict.
//!
//! What goes over TCP takes one round trip more than a datagram; a lost packet of it counts as lost,
//! since its retransmission after a second would come too late for a probe.

use super::swim_member::{GOSSIP_US, INTERVAL_US, Member, Out, Packet, Say, Timer};
use crate::probe::{Outcome, Target};
use crate::world::{Arrival, Detector, Ground};
use std::collections::HashMap;

/// Time between two full exchanges of a member, in microseconds.
const SYNC_US: u64 = 30_000_000;

/// What happens to members.
#[derive(Clone, Copy, Debug)]
pub enum Swim {
    /// A member's timer.
    Timer(u32, Timer),
    /// A member's round of gossip.
    Gossip(u32),
    /// A member's full exchange.
    Sync(u32),
    /// A packet, by number, reaches a member.
    Packet(u64, u32),
}

impl Swim {
    fn member(self) -> u32 {
        match self {
            Swim::Timer(m, _) | Swim::Gossip(m) | Swim::Sync(m) | Swim::Packet(_, m) => m,
        }
    }
}

/// The group.
pub struct Group {
    members: Vec<Member>,
    packets: HashMap<u64, Packet>,
    sent: u64,
}

impl Group {
    /// A group of so many hosts and the broker; its members are made when it starts.
    pub fn new(hosts: u32) -> Group {
        Group { members: Vec::with_capacity(hosts as usize + 1), packets: HashMap::new(), sent: 0 }
    }

    fn carry_out(&mut self, member: u32, out: Out, ground: &mut Ground<Swim>) {
        for (after, timer) in out.timers {
            ground.after(after, Swim::Timer(member, timer));
        }
        for packet in out.packets {
            self.send(packet, ground);
        }
        if member == ground.broker() {
            for (of, up) in out.changes {
                ground.tell(of, up);
            }
        }
    }

    fn send(&mut self, packet: Packet, ground: &mut Ground<Swim>) {
        let (from, to) = (packet.from, packet.to);
        let fate = ground.net.send(from, to, ground.now);
        let handshake = match packet.say {
            Say::TcpPing(_) | Say::Sync(_) => 2 * ground.net.delay_us(from, to),
            _ => 0,
        };
        if let Some(delay) = fate.first {
            self.sent += 1;
            self.packets.insert(self.sent, packet);
            ground.after(delay + handshake, Swim::Packet(self.sent, to));
        }
    }
}

impl Detector for Group {
    type Event = Swim;

    fn start(&mut self, ground: &mut Ground<Swim>) {
        let broker = ground.broker();
        for member in 0..=broker {
            let rng = ground.rng.fork(u64::from(member));
            self.members.push(Member::new(member, broker + 1, rng));
            let (probe, gossip, sync) = (INTERVAL_US, GOSSIP_US, SYNC_US);
            let [probe, gossip, sync] = [probe, gossip, sync].map(|us| ground.rng.below(us));
            ground.after(probe, Swim::Timer(member, Timer::Probe));
            ground.after(gossip, Swim::Gossip(member));
            ground.after(sync, Swim::Sync(member));
        }
    }

    fn handle(&mut self, event: Swim, ground: &mut Ground<Swim>) {
        let m = event.member();
        if let Some(until) = ground.paused_until(m) {
            return ground.after(until - ground.now, event);
        }
        let gone = ground.hosts.get(m as usize).is_some_and(|h| !h.has_agent());
        let mut out = Out::default();
        let member = &mut self.members[m as usize];
        match event {
            Swim::Packet(number, _) => match self.packets.remove(&number) {
                Some(packet) if !gone => member.received(packet, ground.now, &mut out),
                _ => {}
            },
            // Whoever returns goes on with its rounds.
            Swim::Timer(_, Timer::Probe) | Swim::Gossip(_) | Swim::Sync(_) if gone => {
                ground.after(INTERVAL_US, event)
            }
            Swim::Timer(..) if gone => {}
            Swim::Timer(_, timer) => member.fired(timer, ground.now, &mut out),
            Swim::Gossip(_) => {
                member.gossip(ground.now, &mut out);
                ground.after(GOSSIP_US, event);
            }
            Swim::Sync(_) => {
                member.sync(&mut out);
                ground.after(SYNC_US, event);
            }
        }
        self.carry_out(m, out, ground);
    }

    fn arrival(&self, event: &Swim) -> Arrival {
        // The last member is the broker's.
        let ours = event.member() as usize + 1 == self.members.len();
        match event {
            _ if !ours => Arrival::Elsewhere,
            Swim::Packet(..) => Arrival::Datagram,
            _ => Arrival::Timer,
        }
    }

    fn probed(&mut self, _: Target, _: Outcome, _: &mut Ground<Swim>) {}
}
