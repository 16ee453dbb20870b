//! An ingress, clients of it, and services beside it.

use nearmost_agent::clock::Clock;
use nearmost_agent::ingress::paths::SessionPaths;
use nearmost_agent::ingress::{Ingress, IngressMetrics, Running};
use nearmost_agent::link::ReportBody;
use nearmost_config::{IngressConfig, LocalService, Service, ServiceIngress, ServiceProbe, Share};
use nearmost_core::registry::MirrorAddress;
use nearmost_wire::agent::ServiceReport;
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role as KeyRole};
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{Accepted, Attach, Role, ToClient, ToMirror};
use nearmost_wire::ingress::datagram::{FromClient, FromMirror, Packet};
use nearmost_wire::ingress::flow::{FlowKind, Open, OpenAnswer};
use nearmost_wire::tls::{self, ALPN_MIRROR, SERVER_NAME};
use nearmost_wire::tunnel::{self, Tunnel};
use prometheus::{Encoder, Registry, TextEncoder};
use quinn::{Connection, RecvStream, SendStream};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Awaited events come within this time, or the test has failed.
pub const LONG: Duration = Duration::from_secs(30);
pub const DOMAIN: &str = "play.example";

/// Awaits something that should happen.
pub async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, event).await.expect("in time")
}

pub fn node() -> KeyPair {
    KeyPair::from_seed(KeyRole::Node, &[42; 32])
}

pub fn service(ingress: ServiceIngress, capacity: u32) -> Service {
    Service {
        domain: DOMAIN.into(),
        mirror: "lon".into(),
        address: MirrorAddress::Observed,
        port: 80,
        share: Share { weight: 100, capacity },
        url: None,
        checks: Vec::new(),
        ready: None,
        probe: ServiceProbe::Default,
        local: LocalService { process: None, ingress },
    }
}

pub fn config() -> IngressConfig {
    let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    IngressConfig { enabled: true, listen, ..IngressConfig::default() }
}

pub fn udp(target: SocketAddr) -> ServiceIngress {
    ServiceIngress { udp: Some(target), ..ServiceIngress::default() }
}

pub fn tcp(target: SocketAddr) -> ServiceIngress {
    ServiceIngress { tcp: Some(target), ..ServiceIngress::default() }
}

/// What the agent reports of the service.
pub fn report(healthy: bool, stopped: bool) -> ReportBody {
    let service = ServiceReport {
        domain: DOMAIN.into(),
        mirror: "lon".into(),
        healthy,
        ready: true,
        stopped,
        problem: None,
        connections: 0,
        capacity: 0,
    };
    ReportBody { services: vec![service], ..ReportBody::default() }
}

/// A running ingress.
pub struct World {
    pub ingress: Running,
    pub addr: SocketAddr,
    pub paths: SessionPaths,
    registry: Registry,
}

impl World {
    pub fn start(ingress: ServiceIngress, capacity: u32) -> World {
        World::with(&config(), ingress, capacity)
    }

    pub fn with(config: &IngressConfig, ingress: ServiceIngress, capacity: u32) -> World {
        let bound = Ingress::bind(config, &node()).expect("bound");
        let (addr, paths) = (bound.local_addrs()[0], bound.paths());
        let registry = Registry::new();
        let metrics = IngressMetrics::new(&registry).expect("metrics");
        let ingress = bound.start(&[service(ingress, capacity)], Clock::start(), metrics);
        World { ingress, addr, paths, registry }
    }

    /// The value of a series, without the common part of its name; 0 when it is not there.
    pub fn count(&self, series: &str) -> u64 {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).expect("a page");
        let page = String::from_utf8(page).expect("text");
        let start = format!("nearmost_agent_ingress_{series} ");
        page.lines().find_map(|l| l.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    }

    /// Waits until a series has this value.
    pub async fn until(&self, series: &str, value: u64) {
        let reached = async {
            while self.count(series) != value {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(LONG, reached).await;
        assert!(in_time.is_ok(), "{series} is {}, not {value}", self.count(series));
    }
}

/// A connection with the given protocol, by the holder of the key of `seed`.
pub async fn connect(to: SocketAddr, seed: u8, alpn: &[u8]) -> Result<Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    soon(endpoint.connect_with(client_config(seed, alpn), to, SERVER_NAME).expect("an address")).await
}

fn client_config(seed: u8, alpn: &[u8]) -> quinn::ClientConfig {
    let pinned: Id = node().id();
    quinn::ClientConfig::new(Arc::new(tls::client_config(&client_key(seed), pinned, alpn).expect("TLS")))
}

/// The role says only how a key is written.
fn client_key(seed: u8) -> KeyPair {
    KeyPair::from_seed(KeyRole::Person, &[seed; 32])
}

/// A client whose network lets no UDP through, and the tunnel that it comes by.
pub async fn tunnelled(to: SocketAddr, seed: u8) -> (Client, Tunnel) {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let mine = endpoint.local_addr().expect("bound");
    let tunnel = soon(tunnel::open(to, &client_key(seed), node().id(), mine)).await.expect("a tunnel");
    let connecting = endpoint.connect_with(client_config(seed, ALPN_MIRROR), tunnel.relay, SERVER_NAME);
    let connection = soon(connecting.expect("an address")).await.expect("a connection");
    let (send, recv) = connection.open_bi().await.expect("a stream");
    (Client { connection, send, recv, seq: 0 }, tunnel)
}

/// Why the other side closed a connection.
pub async fn refusal(connection: &Connection) -> Refusal {
    match soon(connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Refusal::from_code(close.error_code.into_inner()).expect("a known code")
        }
        other => panic!("it ended otherwise: {other}"),
    }
}

/// A client with its control stream.
pub struct Client {
    pub connection: Connection,
    pub send: SendStream,
    recv: RecvStream,
    seq: u64,
}

impl Client {
    pub async fn connect(to: SocketAddr, seed: u8) -> Client {
        let connection = connect(to, seed, ALPN_MIRROR).await.expect("a connection");
        let (send, recv) = connection.open_bi().await.expect("a stream");
        Client { connection, send, recv, seq: 0 }
    }

    /// Connects and attaches.
    pub async fn attached(to: SocketAddr, seed: u8, session: u64, role: Role) -> Client {
        let mut client = Client::connect(to, seed).await;
        match client.attach(session, role).await {
            ToClient::Accepted(accepted) => assert_eq!(accepted.role, role),
            other => panic!("not accepted: {other:?}"),
        }
        client
    }

    pub async fn attach(&mut self, session: u64, role: Role) -> ToClient {
        self.attach_to(DOMAIN, session, role).await;
        self.word().await
    }

    pub async fn attach_to(&mut self, domain: &str, session: u64, role: Role) {
        self.say(&ToMirror::Attach(Attach { domain: domain.into(), session, role })).await;
    }

    pub async fn accepted(&mut self, session: u64, role: Role) -> Accepted {
        match self.attach(session, role).await {
            ToClient::Accepted(accepted) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub async fn say(&mut self, message: &ToMirror) {
        frame::write(&mut self.send, message).await.expect("said");
    }

    /// What the mirror says next.
    pub async fn word(&mut self) -> ToClient {
        soon(frame::read(&mut self.recv)).await.expect("a word")
    }

    fn send(&mut self, datagram: FromClient<'_>) {
        let bytes = datagram.encode().expect("encoded");
        self.connection.send_datagram(bytes.into()).expect("sent");
    }

    pub fn beacon(&mut self, role: Role, ask: bool) {
        let seq = self.seq;
        self.seq += 1;
        self.send(FromClient::Beacon { seq, ask, role, period_ms: 1000 });
    }

    pub fn data(&mut self, flow: u64, number: u64, payload: &[u8]) {
        let seq = self.seq;
        self.seq += 1;
        self.send(FromClient::Data { seq, packet: Packet { flow, number, payload } });
    }

    /// The next packet of a flow: flow, number, payload. Beacons are read over.
    pub async fn packet(&self) -> (u64, u64, Vec<u8>) {
        loop {
            let bytes = soon(self.connection.read_datagram()).await.expect("a datagram");
            if let FromMirror::Data { packet, .. } = FromMirror::decode(&bytes).expect("good") {
                return (packet.flow, packet.number, packet.payload.to_vec());
            }
        }
    }

    /// Opens a stream for a TCP connection.
    pub async fn open(&self) -> (OpenAnswer, SendStream, RecvStream) {
        let (mut send, mut recv) = self.connection.open_bi().await.expect("a stream");
        frame::write(&mut send, &Open { kind: FlowKind::Tcp }).await.expect("said");
        let answer = soon(frame::read(&mut recv)).await.expect("an answer");
        (answer, send, recv)
    }

    /// The same, of one that must come about.
    pub async fn opened(&self) -> (SendStream, RecvStream) {
        let (answer, send, recv) = self.open().await;
        assert_eq!(answer, OpenAnswer::Opened);
        (send, recv)
    }
}
