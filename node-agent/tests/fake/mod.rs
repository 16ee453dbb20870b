//! A broker for tests: real QUIC, keys, frames and beacons; no registry and no decisions.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]
#![allow(dead_code, missing_docs, reason = "each test binary uses its own part of this module")]

use nearmost_config::{AgentConfig, Broker, ReconnectConfig, Service, ServiceProbe, Share};
use nearmost_core::id::NodeId;
use nearmost_core::registry::MirrorAddress;
use nearmost_wire::agent::{BeaconGrant, Hello, Refusal, Report, ToAgent, ToBroker};
use nearmost_wire::beacon::{self, Beacon, SiteKey};
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::paths::{Measurement, PathSample};
use nearmost_wire::tls;
use nearmost_wire::witness::WitnessResult;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::sync::mpsc;

/// Awaited events come within this time, or the test has failed.
pub const LONG: Duration = Duration::from_secs(30);
const KEY_EPOCH: u16 = 3;
const PERIOD_MS: u32 = 20;

/// What the broker saw.
#[derive(Debug)]
pub enum Seen {
    Hello(NodeId, Hello),
    Join([u8; 16], Option<String>),
    Report(Report),
    Goodbye,
    /// Of which mirror, and what.
    Paths(String, Vec<PathSample>),
    Measured(Vec<Measurement>),
    Witnessed(Vec<WitnessResult>),
    /// The connection ended.
    Gone,
}

/// What the broker does with who comes.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Welcomes, and acknowledges every report.
    Serve,
    /// The same without acknowledging.
    Mute,
    /// Lets tokens be redeemed for this name.
    Invite(&'static str),
    /// Closes the connection.
    Refuse(Refusal),
    /// Closes the second connection; serves all others.
    RefuseSecond(Refusal),
}

impl Manner {
    /// What becomes of a connection, of which there were so many before.
    fn with(self, before: usize) -> Manner {
        match self {
            Manner::RefuseSecond(refusal) if before == 1 => Manner::Refuse(refusal),
            Manner::RefuseSecond(_) => Manner::Serve,
            other => other,
        }
    }
}

pub struct FakeBroker {
    pub id: Id,
    pub addr: SocketAddr,
    pub endpoint: quinn::Endpoint,
    seen: mpsc::UnboundedReceiver<Seen>,
    beacons: Arc<UdpSocket>,
    site: SiteKey,
    /// Orders to the latest session.
    pub orders: tokio::sync::broadcast::Sender<ToAgent>,
}

impl FakeBroker {
    pub async fn start(seed: u8, manner: Manner) -> FakeBroker {
        let key = KeyPair::from_seed(Role::Broker, &[seed; 32]);
        let crypto = tls::server_config(&key, tls::ALPN_AGENT).expect("TLS");
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let beacons = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (sender, seen) = mpsc::unbounded_channel();
        let (orders, _) = tokio::sync::broadcast::channel(16);
        let broker = FakeBroker {
            id: key.id(),
            addr: endpoint.local_addr().expect("its address"),
            endpoint: endpoint.clone(),
            seen,
            beacons: Arc::new(beacons),
            site: SiteKey::new(&[9; 32]),
            orders: orders.clone(),
        };
        let grant_port = broker.beacons.local_addr().expect("its address").port();
        let site = broker.site.clone();
        let latest = Latest::default();
        tokio::spawn(async move {
            let mut before = 0;
            while let Some(incoming) = endpoint.accept().await {
                let manner = manner.with(before);
                before += 1;
                let (sender, site, orders) = (sender.clone(), site.clone(), orders.subscribe());
                let latest = latest.clone();
                tokio::spawn(async move {
                    // An agent that pins another key goes away here.
                    let Ok(connection) = incoming.await else { return };
                    serve(connection, latest, manner, site, grant_port, sender, orders).await;
                });
            }
        });
        broker
    }

    /// As the agent's configuration names it.
    pub fn config(&self) -> Broker {
        Broker { id: self.id.to_string(), addresses: vec![self.addr.to_string()] }
    }

    pub fn beacon_port(&self) -> u16 {
        self.beacons.local_addr().expect("its address").port()
    }

    pub async fn next(&mut self) -> Seen {
        tokio::time::timeout(LONG, self.seen.recv()).await.expect("in time").expect("the broker lives")
    }

    pub async fn hello(&mut self) -> (NodeId, Hello) {
        loop {
            if let Seen::Hello(node, hello) = self.next().await {
                return (node, hello);
            }
        }
    }

    pub async fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            match self.next().await {
                Seen::Report(report) if wanted(&report) => return report,
                _ => {}
            }
        }
    }

    /// The next beacon, which must be by `node`.
    pub async fn beacon(&self, node: NodeId) -> Beacon {
        let mut buffer = [0; 100];
        let received = tokio::time::timeout(LONG, self.beacons.recv(&mut buffer)).await;
        let n = received.expect("in time").expect("received");
        let secret = self.site.beacon_secret(&node, KEY_EPOCH);
        beacon::authenticate(&buffer[..n], &secret.prepare()).expect("authentic");
        let beacon = Beacon::decode(&buffer[..n]).expect("a beacon");
        assert_eq!((beacon.tag, beacon.key_epoch), (secret.tag, KEY_EPOCH));
        beacon
    }
}

/// The connection of the session that began last.
type Latest = Arc<Mutex<Option<quinn::Connection>>>;

async fn serve(
    connection: quinn::Connection,
    latest: Latest,
    manner: Manner,
    site: SiteKey,
    grant_port: u16,
    seen: mpsc::UnboundedSender<Seen>,
    mut orders: tokio::sync::broadcast::Receiver<ToAgent>,
) {
    if let Manner::Refuse(refusal) = manner {
        connection.close(refusal.code().into(), b"so it is");
        return;
    }
    let node = NodeId(tls::peer_key(&connection).expect("a key"));
    let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
    let answers = async {
        while let Ok(message) = frame::read::<ToBroker>(&mut recv).await {
            let (said, answer) = match message {
                ToBroker::Hello(hello) => {
                    // As a broker does: the newer of two sessions of one node wins.
                    let older = latest.lock().expect("no panic").replace(connection.clone());
                    if let Some(older) = older {
                        older.close(Refusal::Superseded.code().into(), b"a newer session began");
                    }
                    let beacon = BeaconGrant {
                        secret: site.beacon_secret(&node, KEY_EPOCH),
                        port: grant_port,
                        period_ms: PERIOD_MS,
                    };
                    let observed = connection.remote_address().ip();
                    let warnings = vec!["a warning".to_string()];
                    (Seen::Hello(node, hello), Some(ToAgent::Welcome { beacon, observed, warnings }))
                }
                ToBroker::Join { secret, name } => {
                    let Manner::Invite(own) = manner else { panic!("not invited") };
                    let domains = vec!["play.example".to_string()];
                    let joined = ToAgent::Joined { name: own.to_string(), domains };
                    (Seen::Join(secret, name), Some(joined))
                }
                ToBroker::Report(report) => {
                    let ack = ToAgent::Ack { seq: report.seq };
                    (Seen::Report(report), matches!(manner, Manner::Serve).then_some(ack))
                }
                ToBroker::Goodbye => (Seen::Goodbye, None),
                ToBroker::Paths { mirror, samples, .. } => (Seen::Paths(mirror, samples), None),
                ToBroker::Measured { results } => (Seen::Measured(results), None),
                ToBroker::Witnessed { results } => (Seen::Witnessed(results), None),
            };
            let _ = seen.send(said);
            if let Some(answer) = answer
                && frame::write(&mut send, &answer).await.is_err()
            {
                break;
            }
            while let Ok(order) = orders.try_recv() {
                let _ = frame::write(&mut send, &order).await;
            }
        }
    };
    answers.await;
    connection.closed().await;
    let _ = seen.send(Seen::Gone);
}

pub fn node_key() -> KeyPair {
    KeyPair::from_seed(Role::Node, &[42; 32])
}

/// A service without checks.
pub fn service(mirror: &str, port: u16) -> Service {
    Service {
        domain: "play.example".into(),
        mirror: mirror.into(),
        address: MirrorAddress::Observed,
        port,
        share: Share { weight: 100, capacity: 7 },
        url: None,
        checks: Vec::new(),
        ready: None,
        probe: ServiceProbe::Default,
        local: Default::default(),
    }
}

/// Reports on change only, reconnects quickly, drains quickly.
pub fn config(brokers: Vec<Broker>, services: Vec<Service>) -> AgentConfig {
    AgentConfig {
        brokers,
        services,
        metrics: None,
        report_interval: Duration::from_secs(3600),
        drain_grace: Duration::from_millis(100),
        reconnect: ReconnectConfig { min: Duration::from_millis(10), max: Duration::from_millis(100) },
        ..AgentConfig::default()
    }
}

pub fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearmost-agent"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Settings of whoever runs the tests are none of the agent's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEARMOST__") {
            command.env_remove(name);
        }
    }
    command
}
