//! Real sockets on loopback, a snapshot built by hand.

mod encrypted;
mod serving;

use super::*;
use crate::reports::nonces::NonceLimits;
use crate::telemetry::ReportMetrics;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    AllDown, Domain, DomainIndex, Failover, HealthMode, Mirror, MirrorAddress, Orders, Policy, Registry,
    StaticData, StaticRecord,
};
use nearmost_core::time::UnixMillis;
use nearmost_dns::DnsConfig;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;

const NAME: &str = "play.example.com";
/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn policy() -> Policy {
    Policy {
        answers: 2,
        ttl: Duration::from_secs(20),
        negative_ttl: Duration::from_secs(5),
        tie_band_ms: 3.0,
        tie_band_share: 0.05,
        failover: Failover { all_down: AllDown::NoAnswer, ..Failover::default() },
        alpn: Vec::new(),
        ..Policy::default()
    }
}

/// One domain with one mirror at an address and 2 000 bytes of text.
pub(super) fn snapshot(address: Ipv4Addr) -> Snapshot {
    let text = |i: u8| StaticRecord {
        name: NAME.into(),
        ttl_s: 60,
        data: StaticData::Txt(vec![char::from(b'a' + i).to_string().repeat(200)]),
    };
    let domain = Domain {
        name: NAME.into(),
        mirrors: 0..1,
        policy: policy(),
        records: (0..10).map(text).collect(),
        redirect_hosts: Vec::new(),
        trust: Default::default(),
    };
    let mirror = Mirror {
        name: "one".into(),
        domain: DomainIndex(0),
        node: None,
        address: MirrorAddress::Observed,
        port: 443,
        weight: 100,
        place: Place::default(),
        place_source: PlaceSource::Unknown,
        health: HealthMode::Manual { up: true },
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    };
    let up = Verdict { state: State::Up, ..Verdict::default() };
    let live = LiveMirror { v4: Some(address), verdicts: [up; 2], ..LiveMirror::default() };
    let mut registry =
        Registry { version: 1, domains: vec![domain], mirrors: vec![mirror], ..Registry::default() };
    registry.domain_by_name.insert(NAME.into(), DomainIndex(0));
    registry.index();
    let mut live = Live::new(vec![live]);
    live.tally(&registry);
    let map = Map::default().follow(&registry, &Arc::default(), &Arc::default(), None);
    Snapshot {
        registry: Arc::new(registry),
        map: Arc::new(map),
        live: Arc::new(live),
        published: UnixMillis(0),
    }
}

/// A server on loopback and what tests look at.
struct Running {
    address: SocketAddr,
    snapshots: SnapshotReader,
    metrics: Arc<DnsMetrics>,
    registry: prometheus::Registry,
    nonces: Arc<SeenNonces>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), DnsError>>,
}

/// What was bound, and what it works with.
type Bound = (DnsServer, SnapshotReader, Arc<DnsMetrics>, prometheus::Registry, Arc<SeenNonces>);

fn server(settings: DnsSettings) -> Result<Bound, DnsError> {
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(DnsMetrics::new(&registry).unwrap());
    let snapshots = Arc::new(ArcSwap::from_pointee(snapshot(Ipv4Addr::new(192, 0, 2, 1))));
    let responder = Arc::new(Responder::new(DnsConfig::default()).unwrap());
    let reports = Arc::new(ReportMetrics::register(&registry).unwrap());
    let nonces = Arc::new(SeenNonces::new(NonceLimits::default(), reports));
    let (demand, _) = crate::steering::channel(prometheus::IntCounter::new("d", "d").unwrap());
    let (read, counted) = (Arc::clone(&snapshots), Arc::clone(&metrics));
    let server = DnsServer::bind(settings, responder, read, counted, nonces.clone(), demand)?;
    Ok((server, snapshots, metrics, registry, nonces))
}

fn start(listen: &str, tcp: TcpLimits) -> Running {
    let settings =
        DnsSettings { listen: vec![listen.parse().unwrap()], workers: 2, tcp, ..DnsSettings::default() };
    start_with(settings)
}

fn start_with(settings: DnsSettings) -> Running {
    let (server, snapshots, metrics, registry, nonces) = server(settings).unwrap();
    let address = server.local_addrs()[0];
    let cancel = CancellationToken::new();
    let task = tokio::spawn(server.run(cancel.clone()));
    Running { address, snapshots, metrics, registry, nonces, cancel, task }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("stops").unwrap().unwrap();
    }

    /// The value of the counters of a name whose labels contain all of these.
    fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).expect("registered");
        let with = |m: &&prometheus::proto::Metric| {
            labels.iter().all(|l| m.get_label().iter().any(|p| p.value() == *l))
        };
        family.get_metric().iter().filter(with).map(|m| m.get_counter().get_value()).sum()
    }

    /// How many answers of a transport were timed.
    fn timed(&self, transport: &str) -> u64 {
        let families = self.registry.gather();
        let family =
            families.iter().find(|f| f.name() == "nearmost_dns_response_seconds").expect("registered");
        let of = |m: &&prometheus::proto::Metric| m.get_label().iter().any(|p| p.value() == transport);
        family.get_metric().iter().filter(of).map(|m| m.get_histogram().get_sample_count()).sum()
    }
}

pub(super) fn query(id: u16, name: &str, qtype: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), qtype));
    message.edns = Some(Edns::new());
    message.to_vec().unwrap()
}

fn answers(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| r.data.to_string()).collect()
}

async fn udp_client(server: SocketAddr) -> UdpSocket {
    let local: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(local).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn udp_ask(socket: &UdpSocket, query: &[u8]) -> Message {
    socket.send(query).await.unwrap();
    udp_reply(socket).await
}

async fn udp_reply(socket: &UdpSocket) -> Message {
    let mut reply = vec![0; 65_535];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut reply)).await.expect("a reply").unwrap();
    Message::from_vec(&reply[..length]).unwrap()
}

async fn tcp_send(stream: &mut TcpStream, query: &[u8]) {
    stream.write_all(&framed(query)).await.unwrap();
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes()[..], query].concat()
}

async fn tcp_reply(stream: &mut TcpStream) -> Message {
    let reading = async {
        let length = stream.read_u16().await.unwrap();
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.unwrap();
        Message::from_vec(&reply).unwrap()
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("a reply")
}

/// Waits until the other side closes, and tells how much came before.
async fn closed(stream: &mut TcpStream) -> usize {
    let mut rest = Vec::new();
    // A reset closes, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closes");
    rest.len()
}
