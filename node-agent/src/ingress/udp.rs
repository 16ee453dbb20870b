//! The UDP flows of a session: a socket for each, connected to the service.
//!
//! A flow whose service refused (ICMP port unreachable) loses its socket and keeps its numbers: the next
//! packet opens a new one, and copies of packets that came before stay copies. A flow that was forgotten
//! since nobody used it, or since others need its place, goes on above the numbers of all that were: clients
//! remember what they had of it for as long as the connection lasts.

use super::IngressMetrics;
use super::hub::ToHub;
use super::metrics::{Kind, Way};
use nearmost_core::session::mirror::SessionKey;
use nearmost_core::session::window::{DuplicateWindow, Seen};
use nearmost_core::time::MonoTime;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A flow without packets in both directions for so long loses its socket.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Packets for the service that wait in one flow.
const QUEUE: usize = 64;
/// More than any datagram to a client carries; what the service sends beyond is cut, and dropped.
const LARGEST: usize = 2048;

/// What flows are made with.
#[derive(Clone)]
pub(super) struct Means {
    pub target: Option<SocketAddr>,
    pub hub: mpsc::Sender<ToHub>,
    pub places: Arc<Semaphore>,
    pub metrics: IngressMetrics,
    pub idle: Duration,
}

/// One flow's socket among all there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowKey {
    pub session: SessionKey,
    pub flow: u64,
    /// Which of the flow's sockets.
    pub epoch: u64,
}

/// A packet for the service.
pub(super) struct Packet {
    pub flow: u64,
    pub number: u64,
    pub payload: Box<[u8]>,
}

/// The flows of one session.
#[derive(Default)]
pub(super) struct Flows {
    flows: HashMap<u64, Flow>,
    /// No number and no epoch of a flow that was forgotten is as high.
    forgotten: Forgotten,
}

#[derive(Clone, Copy, Default)]
struct Forgotten {
    next: u64,
    epoch: u64,
}

impl Forgotten {
    fn add(&mut self, flow: &Flow) {
        self.next = self.next.max(flow.next);
        self.epoch = self.epoch.max(flow.epoch);
    }
}

#[derive(Default)]
struct Flow {
    seen: DuplicateWindow,
    socket: Option<Socket>,
    epoch: u64,
    /// Number of the next packet to the client.
    next: u64,
    /// When the client's last packet came.
    heard: MonoTime,
}

/// A socket's task, which ends when this is dropped.
struct Socket {
    packets: mpsc::Sender<Box<[u8]>>,
}

impl Flows {
    /// Hands a packet on, if it is none that came before, and says whether a socket was opened for it.
    /// There may be at most `most` flows.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(super) fn take(
        &mut self,
        session: SessionKey,
        packet: Packet,
        most: usize,
        means: &Means,
        now: MonoTime,
    ) -> Result<bool, &'static str> {
        let target = means.target.ok_or("not_served")?;
        let key = packet.flow;
        if !self.flows.contains_key(&key) && self.flows.len() >= most {
            // Flows that lost their sockets are only remembered for their numbers.
            let forgotten = &mut self.forgotten;
            self.flows.retain(|_, flow| {
                flow.socket.is_some() || {
                    forgotten.add(flow);
                    false
                }
            });
        }
        let full = self.flows.len() >= most;
        let flow = match self.flows.entry(key) {
            Entry::Occupied(flow) => flow.into_mut(),
            Entry::Vacant(_) if full => return Err("too_many"),
            Entry::Vacant(place) => {
                let Forgotten { next, epoch } = self.forgotten;
                place.insert(Flow { next, epoch, ..Flow::default() })
            }
        };
        match flow.seen.accept(packet.number) {
            Seen::Fresh => {}
            Seen::Duplicate => {
                means.metrics.duplicate();
                return Ok(false);
            }
            Seen::TooOld => return Err("too_old"),
        }
        flow.heard = now;
        flow.send(session, key, packet.payload, target, means)
    }

    /// The number of a packet to the client, and when the client's last one came; `None` when the socket
    /// is no longer the flow's.
    pub(super) fn answer(&mut self, key: FlowKey) -> Option<(u64, MonoTime)> {
        let flow = self.flows.get_mut(&key.flow).filter(|flow| flow.epoch == key.epoch)?;
        let number = flow.next;
        flow.next += 1;
        Some((number, flow.heard))
    }

    /// A socket was closed; one that nobody used is forgotten with its flow.
    pub(super) fn ended(&mut self, key: FlowKey, idle: bool) {
        let Entry::Occupied(mut flow) = self.flows.entry(key.flow) else { return };
        if flow.get().epoch != key.epoch {
            return;
        }
        flow.get_mut().socket = None;
        if idle {
            self.forgotten.add(&flow.remove());
        }
    }

    /// Flows that have a socket.
    pub(super) fn open(&self) -> usize {
        self.flows.values().filter(|flow| flow.socket.is_some()).count()
    }
}

impl Flow {
    fn send(
        &mut self,
        session: SessionKey,
        flow: u64,
        payload: Box<[u8]>,
        target: SocketAddr,
        means: &Means,
    ) -> Result<bool, &'static str> {
        let payload = match &self.socket {
            Some(socket) => match socket.packets.try_send(payload) {
                Ok(()) => return Ok(false),
                Err(mpsc::error::TrySendError::Full(_)) => return Err("overload"),
                Err(mpsc::error::TrySendError::Closed(payload)) => payload,
            },
            None => payload,
        };
        self.socket = None;
        let place = means.places.clone().try_acquire_owned().map_err(|_| "too_many")?;
        self.epoch += 1;
        let key = FlowKey { session, flow, epoch: self.epoch };
        let (packets, inbox) = mpsc::channel(QUEUE);
        packets.try_send(payload).map_err(|_| "overload")?;
        tokio::spawn(run(key, inbox, place, target, means.clone()));
        self.socket = Some(Socket { packets });
        Ok(true)
    }
}

async fn run(
    key: FlowKey,
    mut inbox: mpsc::Receiver<Box<[u8]>>,
    place: OwnedSemaphorePermit,
    target: SocketAddr,
    means: Means,
) {
    let open = means.metrics.flow(Kind::Udp);
    let why = carry(key, &mut inbox, target, &means).await;
    open.ended(why);
    drop(place);
    let _ = means.hub.send(ToHub::FlowEnded { key, idle: why == "idle" }).await;
}

/// Carries packets until the flow ends, and why it did.
async fn carry(
    key: FlowKey,
    inbox: &mut mpsc::Receiver<Box<[u8]>>,
    target: SocketAddr,
    means: &Means,
) -> &'static str {
    let socket = match connected(target).await {
        Ok(socket) => socket,
        Err(e) => {
            tracing::warn!(%target, error = %e, "no socket for a UDP flow");
            return "no_socket";
        }
    };
    let metrics = &means.metrics;
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            payload = inbox.recv() => {
                let Some(payload) = payload else { return "session" };
                match socket.send(&payload).await {
                    Ok(n) => metrics.bytes(Kind::Udp, Way::Up, n),
                    Err(e) if e.kind() == ErrorKind::ConnectionRefused => return "refused",
                    Err(_) => metrics.dropped("socket"),
                }
            }
            received = socket.recv(&mut buffer) => match received {
                Ok(LARGEST) => metrics.dropped("too_large"),
                Ok(n) => {
                    let payload = buffer[..n].into();
                    if means.hub.try_send(ToHub::Answer { key, payload }).is_err() {
                        metrics.dropped("overload");
                    }
                }
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => return "refused",
                Err(_) => return "failed",
            },
            () = tokio::time::sleep(means.idle) => return "idle",
        }
    }
}

async fn connected(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::session::SessionId;
    use nearmost_core::session::mirror::ClientId;
    use prometheus::Registry;

    const SESSION: SessionKey = SessionKey { client: ClientId([1; 32]), session: SessionId(1) };
    const LONG: Duration = Duration::from_secs(30);

    struct Fixture {
        flows: Flows,
        means: Means,
        hub: mpsc::Receiver<ToHub>,
        service: UdpSocket,
    }

    impl Fixture {
        async fn start(places: usize, idle: Duration) -> Fixture {
            let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let (sender, hub) = mpsc::channel(16);
            let means = Means {
                target: service.local_addr().ok(),
                hub: sender,
                places: Arc::new(Semaphore::new(places)),
                metrics: IngressMetrics::new(&Registry::new()).expect("metrics"),
                idle,
            };
            Fixture { flows: Flows::default(), means, hub, service }
        }

        fn take(&mut self, flow: u64, number: u64) -> Result<bool, &'static str> {
            let packet = Packet { flow, number, payload: (*b"hi").into() };
            self.flows.take(SESSION, packet, 3, &self.means, MonoTime::ZERO)
        }

        async fn said(&mut self) -> ToHub {
            tokio::time::timeout(LONG, self.hub.recv()).await.expect("in time").expect("a word")
        }
    }

    #[tokio::test]
    async fn flows_are_bounded_of_a_session_and_of_all() {
        let mut f = Fixture::start(2, LONG).await;
        assert_eq!([f.take(1, 0), f.take(2, 0), f.take(3, 0)], [Ok(true), Ok(true), Err("too_many")]);
        assert_eq!((f.flows.open(), f.take(1, 1)), (2, Ok(false)));
        f.means.places.add_permits(2);
        assert_eq!([f.take(3, 1), f.take(4, 0)], [Ok(true), Err("too_many")]);
        assert_eq!([f.take(3, 9000), f.take(3, 1)], [Ok(false), Err("too_old")]);
    }

    #[tokio::test]
    async fn an_idle_flow_is_forgotten() {
        let mut f = Fixture::start(9, Duration::from_millis(1)).await;
        assert_eq!(f.take(1, 7), Ok(true));
        let ToHub::FlowEnded { key, idle: true } = f.said().await else { panic!("it ended otherwise") };
        f.flows.ended(FlowKey { epoch: key.epoch + 1, ..key }, true);
        assert_eq!(f.flows.flows.len(), 1, "another socket's end is not its own");
        let numbers: Vec<u64> = (0..3).filter_map(|_| Some(f.flows.answer(key)?.0)).collect();
        assert_eq!(numbers, [0, 1, 2]);
        f.flows.ended(key, true);
        assert!(f.flows.flows.is_empty());
        // What the client remembers of it are numbers that came before.
        assert_eq!(f.take(1, 8), Ok(true));
        let ToHub::FlowEnded { key: next, idle: true } = f.said().await else { panic!("it ended otherwise") };
        assert_eq!(f.flows.answer(next).map(|(number, _)| number), Some(3));
        assert_eq!(f.flows.answer(key), None, "a packet of the former socket that comes late");
    }

    #[tokio::test]
    async fn a_flow_that_gave_way_to_another_goes_on_above_its_numbers() {
        let mut f = Fixture::start(9, Duration::from_millis(1)).await;
        assert_eq!(f.take(1, 0), Ok(true));
        let ToHub::FlowEnded { key, .. } = f.said().await else { panic!("it goes on") };
        for _ in 0..5 {
            f.flows.answer(key).expect("its own");
        }
        f.flows.ended(key, false);
        // A session of the fixture has three flows at most.
        assert_eq!([2, 3, 4].map(|flow| f.take(flow, 0)), [Ok(true); 3]);
        assert!(!f.flows.flows.contains_key(&1));
        assert_eq!(f.flows.flows[&4].next, 5);
    }

    #[tokio::test]
    async fn a_service_that_refuses_ends_the_socket_and_not_the_numbers() {
        let mut f = Fixture::start(9, LONG).await;
        let target = f.service.local_addr().expect("bound");
        f.service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("another port");
        assert_eq!(f.take(1, 7), Ok(true));
        let ToHub::FlowEnded { key, idle: false } = f.said().await else { panic!("it ended otherwise") };
        f.flows.ended(key, false);
        assert_eq!(f.flows.open(), 0);
        f.service = UdpSocket::bind(target).await.expect("the port again");
        assert_eq!(f.take(1, 7), Ok(false), "a copy");
        assert_eq!(f.flows.open(), 0);
        assert_eq!(f.take(1, 8), Ok(true));
        let mut buffer = [0; 9];
        let (n, from) = tokio::time::timeout(LONG, f.service.recv_from(&mut buffer))
            .await
            .expect("in time")
            .expect("it comes");
        assert_eq!(&buffer[..n], b"hi");
        f.service.send_to(b"yes", from).await.expect("sent");
        let ToHub::Answer { key: second, payload } = f.said().await else { panic!("no answer") };
        assert_eq!(&*payload, b"yes");
        assert_eq!(
            (f.flows.answer(second), f.flows.answer(second)),
            (Some((0, MonoTime::ZERO)), Some((1, MonoTime::ZERO)))
        );
        assert_eq!(f.flows.answer(key), None, "the first socket's");
    }
}
