//! A UDP socket: each address from which a program sends is a flow of the session, and has a UDP socket of its
//! own beside the service at the mirror.
//!
//! **Kept.** Packets stay whole, flows stay apart, and a service gets no packet twice. After a move a flow goes
//! on at the new mirror; its service sees it come from a new address.
//!
//! **Can be lost.** Any packet, as with UDP: those on the way when a mirror dies, those sent while no mirror is
//! attached, and those that the program does not read. With a session whose mode is
//! [`Duplicate::WhileDegraded`](crate::session::Duplicate) packets go over the standby too while the primary
//! is in doubt, with `Always` all of them do; then both services hear the program, and it may get an answer
//! of each. Services that cannot bear this need `Never`.
//!
//! **The service replicates** whatever a packet relies on: logins, positions, sequence numbers.
//!
//! **Bounds.** [`Settings::most_flows`]; a flow that was used in the last seconds gives way to none. A packet
//! that does not fit the path is dropped, counted and named: no fragments are made of it. Nothing waits here:
//! what the session does not take at once is dropped and counted.
//!
//! A socket bound to a wildcard address answers from the address that the system chooses; bind one that
//! programs connect to.

mod flows;

use super::count::{Count, Counters};
use super::notice::{Notice, Notices};
use crate::clock::mono_now;
use crate::session::{Datagram, SendError, Session};
use flows::{Flows, Found};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// The largest packet that UDP has.
const MOST_PACKET: usize = 65_535;
/// After a failed receive.
const REST: Duration = Duration::from_millis(10);

/// What a socket takes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Addresses of programs at one time.
    pub most_flows: usize,
    /// After this time without a packet either way a flow is forgotten.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { most_flows: 256, idle: Duration::from_secs(60) }
    }
}

/// Serves until `stop`, or until the session ends.
pub async fn serve(
    socket: UdpSocket,
    session: Session,
    settings: Settings,
    counters: Arc<Counters>,
    notices: Notices,
    stop: impl Future<Output = ()>,
) {
    let flows = Flows::new(settings.most_flows, settings.idle);
    let mut port = Port { socket, session, settings, flows, counters, notices };
    let mut buffer = vec![0; MOST_PACKET];
    tokio::pin!(stop);
    loop {
        let deadline = port.flows.deadline().map(tokio::time::Instant::from_std);
        let expires = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stop => return,
            () = expires => port.expire(),
            packet = port.session.recv() => match packet {
                Some(packet) => port.down(packet).await,
                None => return,
            },
            received = port.socket.recv_from(&mut buffer) => match received {
                Ok((n, peer)) => port.up(peer, &buffer[..n]),
                // Systems report here what became of packets sent earlier, which says nothing of later ones.
                Err(_) => tokio::time::sleep(REST).await,
            },
        }
    }
}

struct Port {
    socket: UdpSocket,
    session: Session,
    settings: Settings,
    flows: Flows,
    counters: Arc<Counters>,
    notices: Notices,
}

impl Port {
    fn up(&mut self, peer: SocketAddr, payload: &[u8]) {
        let flow = match self.flows.of(peer, mono_now()) {
            Found::Old(flow) => flow,
            Found::New { flow, evicted } => {
                self.counters.add(Count::FlowsOpened);
                if evicted {
                    self.counters.add(Count::FlowsEvicted);
                }
                flow
            }
            Found::Refused => {
                self.counters.add(Count::FlowsRefused);
                return self.notices.tell(Notice::NoFlow { peer, most: self.settings.most_flows });
            }
        };
        match self.session.send(flow, payload) {
            Ok(()) => self.counters.add(Count::PacketsUp),
            Err(SendError::TooLarge { have, most }) => {
                self.counters.add(Count::TooLarge);
                self.notices.tell(Notice::TooLarge { peer, have, most });
            }
            Err(_) => self.counters.add(Count::NotTaken),
        }
    }

    async fn down(&mut self, packet: Datagram) {
        let Some(peer) = self.flows.peer(packet.flow, mono_now()) else {
            return self.counters.add(Count::NoFlow);
        };
        self.counters.add(match self.socket.send_to(&packet.payload, peer).await {
            Ok(_) => Count::PacketsDown,
            Err(_) => Count::NotDelivered,
        });
    }

    fn expire(&mut self) {
        let expired = self.flows.expire(mono_now());
        self.counters.add_many(Count::FlowsExpired, expired);
    }
}
