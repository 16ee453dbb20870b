//! The datagrams that say we are alive.
//!
//! Beacons go out from the agent's one loop, so an agent that hangs falls silent. Each broker has a
//! sequence of its own, which survives the session: a broker that restarts verifies beacons at
//! once, before the agent has found out that the session is gone, so they go on for
//! [`LINGER`] after it. [`Schedule`] knows what is due; [`Sockets`] sends it.

use nearmost_core::time::MonoTime;
use nearmost_wire::agent::BeaconGrant;
use nearmost_wire::beacon::{Beacon, FLAG_DRAINING, LEN};
use ring::hmac;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long beacons go on to a broker whose session ended.
pub const LINGER: Duration = Duration::from_secs(60);
/// The shortest period that is obeyed, whatever a broker asks for.
const MIN_PERIOD: Duration = Duration::from_millis(10);
/// The longest.
const MAX_PERIOD: Duration = Duration::from_secs(60);

/// Which beacon is due when, for all brokers.
#[derive(Debug)]
pub struct Schedule {
    boot: u64,
    targets: BTreeMap<usize, Target>,
}

/// One broker's beacons.
#[derive(Debug)]
struct Target {
    /// Counts up for as long as the agent runs.
    seq: u64,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    to: SocketAddr,
    key: hmac::Key,
    tag: u64,
    key_epoch: u16,
    period: Duration,
    due: MonoTime,
    /// When to stop; `None` while there is a session.
    until: Option<MonoTime>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: [u8; LEN],
}

impl Schedule {
    /// Nothing to send yet; `boot` is when the agent started, in Unix milliseconds.
    pub fn new(boot: u64) -> Schedule {
        Schedule { boot, targets: BTreeMap::new() }
    }

    /// A broker reached at `ip` says how it wants its beacons; the first one is due at once.
    pub fn grant(&mut self, broker: usize, ip: IpAddr, grant: &BeaconGrant, now: MonoTime) {
        let target = self.targets.entry(broker).or_insert(Target { seq: 0, active: None });
        target.active = Some(Active {
            to: SocketAddr::new(ip.to_canonical(), grant.port),
            key: grant.secret.prepare(),
            tag: grant.secret.tag,
            key_epoch: grant.secret.key_epoch,
            period: Duration::from_millis(grant.period_ms.into()).clamp(MIN_PERIOD, MAX_PERIOD),
            due: now,
            until: None,
        });
    }

    /// The session to a broker ended; its beacons go on for a while.
    pub fn linger(&mut self, broker: usize, now: MonoTime) {
        if let Some(active) = self.targets.get_mut(&broker).and_then(|t| t.active.as_mut()) {
            active.until.get_or_insert(now + LINGER);
        }
    }

    /// The broker does not want us; its beacons end.
    pub fn forget(&mut self, broker: usize) {
        if let Some(target) = self.targets.get_mut(&broker) {
            target.active = None;
        }
    }

    /// The next beacon that is due, if any. One that was missed is not made up for: periods count
    /// from now.
    pub fn due(&mut self, now: MonoTime, draining: bool) -> Option<Datagram> {
        let boot = self.boot;
        for target in self.targets.values_mut() {
            if target.active.as_ref().is_some_and(|a| a.until.is_some_and(|until| until <= now)) {
                target.active = None;
            }
            let Some(active) = target.active.as_mut().filter(|a| a.due <= now) else { continue };
            // On time, the next is a period after this one was due, so that delays do not add up.
            let next = active.due + active.period;
            active.due = if next <= now { now + active.period } else { next };
            let beacon = Beacon {
                flags: if draining { FLAG_DRAINING } else { 0 },
                key_epoch: active.key_epoch,
                tag: active.tag,
                boot,
                seq: target.seq,
                sent_us: now.0,
            };
            target.seq += 1;
            return Some(Datagram { to: active.to, bytes: beacon.encode(&active.key) });
        }
        None
    }

    /// When the next beacon is due.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.targets.values().filter_map(|t| t.active.as_ref()).map(|a| a.due).min()
    }
}

/// One socket a family, opened when first needed and again after an error: a socket may be bound to
/// a network that is gone.
#[derive(Debug, Default)]
pub struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    /// Sends without waiting. A full send buffer loses the datagram, as the network might.
    ///
    /// # Errors
    /// What the system said; the next datagram gets a new socket.
    pub fn send(&mut self, datagram: &Datagram) -> io::Result<()> {
        let (slot, any): (_, IpAddr) = match datagram.to {
            SocketAddr::V4(_) => (&mut self.v4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (&mut self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = match slot.take() {
            Some(socket) => socket,
            None => {
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_nonblocking(true)?;
                socket
            }
        };
        match socket.send_to(&datagram.bytes, datagram.to) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            result => {
                *slot = Some(socket);
                result.map(|_| ())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::id::NodeId;
    use nearmost_wire::beacon::{SiteKey, authenticate};

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn grant(port: u16, period_ms: u32, epoch: u16) -> BeaconGrant {
        let secret = SiteKey::new(&[1; 32]).beacon_secret(&NodeId([2; 32]), epoch);
        BeaconGrant { secret, port, period_ms }
    }

    /// All that is due, as (port, sequence number).
    fn sent(schedule: &mut Schedule, ms: u64) -> Vec<(u16, u64)> {
        std::iter::from_fn(|| schedule.due(at(ms), false))
            .map(|d| (d.to.port(), Beacon::decode(&d.bytes).expect("a beacon").seq))
            .collect()
    }

    #[test]
    fn beacons_are_due_once_a_period_and_each_broker_has_its_own_sequence() {
        let mut schedule = Schedule::new(9);
        assert_eq!(schedule.deadline(), None);
        schedule.grant(0, IP, &grant(1, 200, 0), at(0));
        schedule.grant(1, IP, &grant(2, 300, 0), at(0));
        assert_eq!(sent(&mut schedule, 0), [(1, 0), (2, 0)]);
        assert_eq!(schedule.deadline(), Some(at(200)));
        assert_eq!(sent(&mut schedule, 199), []);
        assert_eq!(sent(&mut schedule, 210), [(1, 1)]);
        assert_eq!(sent(&mut schedule, 300), [(2, 1)]);
        assert_eq!(sent(&mut schedule, 400), [(1, 2)]);
        // A loop that hung for a second does not send what it missed.
        assert_eq!(sent(&mut schedule, 1400), [(1, 3), (2, 2)]);
        assert_eq!(schedule.deadline(), Some(at(1600)));
    }

    #[test]
    fn a_beacon_says_who_when_and_draining() {
        let mut schedule = Schedule::new(77);
        let grant = grant(1, 200, 5);
        schedule.grant(0, IP, &grant, at(3));
        let datagram = schedule.due(at(4), true).expect("due");
        assert_eq!(authenticate(&datagram.bytes, &grant.secret.prepare()), Ok(()));
        let beacon = Beacon::decode(&datagram.bytes).expect("a beacon");
        let expected = Beacon {
            flags: FLAG_DRAINING,
            key_epoch: 5,
            tag: grant.secret.tag,
            boot: 77,
            seq: 0,
            sent_us: 4000,
        };
        assert_eq!(beacon, expected);
    }

    #[test]
    fn the_sequence_survives_sessions_and_beacons_linger() {
        let mut schedule = Schedule::new(9);
        schedule.grant(0, IP, &grant(1, 200, 0), at(0));
        assert_eq!(sent(&mut schedule, 0), [(1, 0)]);
        schedule.linger(0, at(100));
        schedule.linger(0, at(50_000));
        assert_eq!(sent(&mut schedule, 60_099), [(1, 1)]);
        assert_eq!(sent(&mut schedule, 60_100), []);
        assert_eq!(schedule.deadline(), None);
        schedule.grant(0, IP, &grant(3, 200, 1), at(70_000));
        assert_eq!(sent(&mut schedule, 70_000), [(3, 2)]);
        schedule.forget(0);
        assert_eq!(sent(&mut schedule, 80_000), []);
    }

    #[test]
    fn a_new_period_counts_from_its_grant() {
        let mut schedule = Schedule::new(9);
        schedule.grant(0, IP, &grant(1, 200, 0), at(0));
        assert_eq!(sent(&mut schedule, 0), [(1, 0)]);
        // Longer: the beacon that was due by the old one is not sent.
        schedule.grant(0, IP, &grant(1, 1000, 0), at(50));
        assert_eq!(sent(&mut schedule, 50), [(1, 1)]);
        assert_eq!((sent(&mut schedule, 250), schedule.deadline()), (vec![], Some(at(1050))));
        // Shorter: nothing of the old one is waited for.
        schedule.grant(0, IP, &grant(1, 100, 0), at(300));
        assert_eq!(sent(&mut schedule, 300), [(1, 2)]);
        assert_eq!(sent(&mut schedule, 400), [(1, 3)]);
        assert_eq!(schedule.deadline(), Some(at(500)));
    }

    #[test]
    fn periods_stay_within_reason() {
        let mut schedule = Schedule::new(9);
        schedule.grant(0, IP, &grant(1, 0, 0), at(0));
        sent(&mut schedule, 0);
        assert_eq!(schedule.deadline(), Some(at(10)));
        schedule.grant(0, IP, &grant(1, u32::MAX, 0), at(0));
        sent(&mut schedule, 0);
        assert_eq!(schedule.deadline(), Some(at(60_000)));
    }

    #[test]
    fn mapped_addresses_are_sent_to_as_ipv4() {
        let mut schedule = Schedule::new(9);
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        schedule.grant(0, mapped, &grant(1, 200, 0), at(0));
        assert_eq!(schedule.due(at(0), false).expect("due").to, SocketAddr::new(IP, 1));
    }

    #[test]
    fn datagrams_arrive_and_a_failed_socket_is_replaced() {
        let server = UdpSocket::bind((IP, 0)).expect("a port");
        let to = server.local_addr().expect("its address");
        let mut sockets = Sockets::default();
        let datagram = Datagram { to, bytes: [7; LEN] };
        sockets.send(&datagram).expect("sent");
        let mut buffer = [0; 100];
        let (n, from) = server.recv_from(&mut buffer).expect("received");
        assert_eq!(buffer[..n], [7; LEN]);
        // Port 0 cannot be sent to.
        let nowhere = Datagram { to: SocketAddr::new(IP, 0), bytes: [7; LEN] };
        assert!(sockets.send(&nowhere).is_err());
        sockets.send(&datagram).expect("sent");
        assert_ne!(server.recv_from(&mut buffer).expect("received").1, from);
    }
}
