//! Malformed packets of every kind on every port leave the broker serving.

use hickory_proto::rr::RecordType;
use nearmost_tests::process::{Agent, Broker, broker_config, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{PATIENCE, dns};
use nearmost_wire::agent::{Hello, Refusal, Report, ToAgent, ToBroker};
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::paths::{MAX_ORDERS, MAX_SAMPLES, Measurement, PathSample};
use nearmost_wire::tls::{self, ALPN_AGENT, SERVER_NAME};
use nearmost_wire::token::JoinToken;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

const DOMAIN: &str = "play.example.com";

/// Packets from nothing to noise; the noise is the same in every run.
fn garbage() -> Vec<Vec<u8>> {
    let mut packets = vec![vec![], vec![0], vec![0xff; 12], vec![0; 512], vec![0xff; 1400]];
    let good = dns::query(DOMAIN, RecordType::A, Some("212.58.224.0/24".parse().expect("a prefix")));
    packets.extend((1..good.len()).map(|n| good[..n].to_vec()));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for i in 0..400 {
        let mut packet = good.clone();
        for _ in 0..=(i % 7) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % packet.len();
            packet[at] = (state >> 32) as u8;
        }
        packets.push(packet);
    }
    packets
}

async fn throw_udp(at: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    for packet in garbage() {
        // A closed port would answer ICMP, which shows as an error of a later send.
        socket.send_to(&packet, at).await.expect("the port is open");
    }
}

async fn throw_tcp(at: SocketAddr) {
    for packet in garbage().into_iter().step_by(9) {
        let Ok(mut stream) = TcpStream::connect(at).await else { continue };
        // The other side may close at any time; that is what it is for.
        let _ = stream.write_all(&packet).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), stream.read(&mut [0; 64])).await;
    }
}

#[tokio::test]
async fn every_port_survives_garbage() {
    let dir = directory();
    let config =
        broker_config(dir.path(), "").replace("[http]\n", "[http]\nredirect_listen = [\"127.0.0.1:0\"]\n");
    std::fs::write(dir.path().join("broker.toml"), config).expect("write broker.toml");
    let broker = Broker::restart(dir.path()).await;
    broker.apply("version = 1\n[[domain]]\nname = \"play.example.com\"\n", &[]).await;
    let at = broker.at.clone();
    throw_udp(at.dns[0]).await;
    throw_udp(at.agents[0]).await;
    throw_udp(at.beacons[0]).await;
    throw_tcp(at.dns[0]).await;
    throw_tcp(at.http[0]).await;
    throw_tcp(at.redirect[0]).await;
    for packet in garbage().into_iter().step_by(40) {
        let mut stream = UnixStream::connect(&at.admin).await.expect("connect");
        let _ = stream.write_all(&packet).await;
    }
    // It still serves on every port, and counted what it saw.
    assert_eq!(dns::code(at.dns[0], DOMAIN, RecordType::SOA).await, hickory_proto::op::ResponseCode::NoError);
    let soa = dns::query(DOMAIN, RecordType::SOA, None);
    assert_eq!(dns::exchange_tcp(at.dns[0], &soa).await.answers.len(), 1);
    broker.ok(&["status"]).await;
    let answer = http(at.redirect[0], "/", "nobody.example").await;
    assert!(answer.starts_with("HTTP/1.1 4"), "nothing is registered to redirect to: {answer}");
    let metrics = metrics(&at.admin).await;
    for counter in ["nearmost_dns_malformed_total", "nearmost_beacons_rejected_total"] {
        let sum: f64 = metrics
            .lines()
            .filter(|l| l.starts_with(counter))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(sum > 0.0, "{counter} counted nothing:\n{metrics}");
    }
    broker.stop().await;
}

async fn http(at: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("read");
    reply
}

/// Over the admin socket, where whoever may open it may see all.
async fn metrics(at: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(at).await.expect("connect");
    let request = b"GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("read");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    reply
}

/// A connection of whoever holds a key, without an agent's manners.
struct Raw {
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    /// Ends the connection when dropped.
    _endpoint: quinn::Endpoint,
}

impl Raw {
    async fn connect(broker: &Broker, key: &KeyPair) -> Raw {
        let id = Id::parse(&broker.at.broker, Role::Broker).expect("an id");
        let crypto = tls::client_config(key, id, ALPN_AGENT).expect("TLS");
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bind");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint.connect_with(config, broker.at.agents[0], SERVER_NAME).expect("connect");
        let connection = connecting.await.expect("a handshake");
        let (send, receive) = connection.open_bi().await.expect("a stream");
        Raw { connection, send, receive, _endpoint: endpoint }
    }

    /// Sends bytes; the broker may have closed already.
    async fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    async fn say(&mut self, message: &ToBroker) {
        self.bytes(&frame::encode(message).expect("encode")).await;
    }

    async fn hear(&mut self) -> ToAgent {
        let answer = tokio::time::timeout(PATIENCE, frame::read(&mut self.receive)).await;
        answer.expect("an answer in time").expect("a message")
    }

    /// With what code and sentence the broker ends it.
    async fn refused(&mut self) -> (Refusal, String) {
        let _ = self.send.finish();
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("it is closed") {
            quinn::ConnectionError::ApplicationClosed(close) => {
                let refusal = Refusal::from_code(close.error_code.into_inner()).expect("a refusal's code");
                (refusal, String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("closed without a refusal: {other}"),
        }
    }
}

fn hello() -> ToBroker {
    ToBroker::Hello(Hello { version: "raw".into(), boot: 1, services: Vec::new(), place: None })
}

fn report(seq: u64) -> ToBroker {
    let (cpu, memory) = (f32::NAN, f32::INFINITY);
    ToBroker::Report(Report { seq, draining: false, cpu, memory, services: Vec::new() })
}

/// What is wrong in hints is counted and ends nothing, but a flood of them.
async fn hints(mut raw: Raw, admin: &std::path::Path) {
    let sample =
        PathSample { network: "198.51.100.0/24".parse().expect("a network"), rtt_us: 9, connections: 1 };
    let paths = |samples: usize| ToBroker::Paths {
        domain: DOMAIN.into(),
        mirror: "of somebody else".into(),
        samples: vec![sample; samples],
    };
    let results = vec![Measurement { id: 7, rtt_us: Some(1) }; MAX_ORDERS];
    raw.say(&paths(MAX_SAMPLES)).await;
    raw.say(&ToBroker::Measured { results }).await;
    raw.say(&report(1)).await;
    assert_eq!(raw.hear().await, ToAgent::Ack { seq: 1 });
    let counted = metrics(admin).await;
    for line in [
        format!("nearmost_path_samples_total{{result=\"mirror\"}} {MAX_SAMPLES}"),
        format!("nearmost_pair_results_total{{result=\"unknown\"}} {MAX_ORDERS}"),
    ] {
        assert!(counted.contains(&line), "{line} is not in\n{counted}");
    }
    for _ in 0..5000 {
        raw.say(&paths(1)).await;
    }
    assert_eq!(raw.refused().await, (Refusal::OutOfOrder, "too many hints".into()));
    let page = metrics(admin).await;
    let dropped = page.lines().find_map(|l| l.strip_prefix("nearmost_path_samples_total{result=\"rate\"} "));
    assert!(dropped.is_some_and(|n| n != "0"), "{dropped:?}");
}

/// Bytes that are no message, with what the refusal says of them.
fn no_messages() -> Vec<(Vec<u8>, &'static str)> {
    let mut trailing = frame::encode(&ToBroker::Goodbye).expect("encode");
    trailing.push(7);
    trailing[3] += 1;
    let mut cut = frame::encode(&hello()).expect("encode");
    cut.pop();
    let mut short = cut.clone();
    short[3] -= 1;
    vec![
        (vec![0; 4], "empty message"),
        (vec![0xff; 64], "at most"),
        (vec![0, 1, 0, 1, 1], "at most"),
        (vec![0, 0, 0, 1, 2], "message version 2"),
        (vec![0, 0], "cut short"),
        (cut, "cut short"),
        (short, "message body"),
        (trailing, "left over"),
        (vec![0, 0, 0, 3, 1, 99, 99], "message body"),
    ]
}

#[tokio::test]
async fn malformed_conversations_are_refused_by_name() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply("version = 1\n[[domain]]\nname = \"play.example.com\"\n", &[]).await;
    let stranger = KeyPair::from_seed(Role::Node, &[77; 32]);
    let node = KeyPair::from_seed(Role::Node, &[78; 32]);
    let invite = |name: &'static [&'static str]| {
        let mut args = vec!["node", "invite", "--domain", DOMAIN];
        args.extend(name);
        let broker = &broker;
        async move { JoinToken::decode(&broker.ok(&args).await).expect("a token").secret }
    };

    // Before a session.
    for (bytes, says) in no_messages() {
        let mut raw = Raw::connect(&broker, &stranger).await;
        raw.bytes(&bytes).await;
        let (refusal, detail) = raw.refused().await;
        assert!(refusal == Refusal::BadMessage && detail.contains(says), "{bytes:?}: {refusal:?} {detail}");
    }
    let unnamed = invite(&[]).await;
    let join = |secret, name: Option<&str>| ToBroker::Join { secret, name: name.map(Into::into) };
    let first = [
        (report(1), Refusal::OutOfOrder),
        (ToBroker::Goodbye, Refusal::OutOfOrder),
        (hello(), Refusal::UnknownKey),
        (join([0; 16], None), Refusal::UnknownToken),
        (join([0xff; 16], Some("\0\u{202e}")), Refusal::UnknownToken),
        (join(unnamed, Some("not a name\0")), Refusal::BadName),
        (join(unnamed, Some(&"x".repeat(300))), Refusal::BadName),
        (join(unnamed, Some("")), Refusal::BadName),
    ];
    for (message, expected) in first {
        let mut raw = Raw::connect(&broker, &stranger).await;
        raw.say(&message).await;
        assert_eq!(raw.refused().await.0, expected, "{message:?}");
    }

    // Within a session.
    let mut raw = Raw::connect(&broker, &node).await;
    raw.say(&join(invite(&["--name", "raw"]).await, None)).await;
    assert!(matches!(raw.hear().await, ToAgent::Joined { .. }));
    drop(raw);
    let attached = || async {
        let mut raw = Raw::connect(&broker, &node).await;
        raw.say(&hello()).await;
        assert!(matches!(raw.hear().await, ToAgent::Welcome { .. }));
        raw
    };
    for (bytes, says) in no_messages() {
        let mut raw = attached().await;
        raw.bytes(&bytes).await;
        let (refusal, detail) = raw.refused().await;
        assert!(refusal == Refusal::BadMessage && detail.contains(says), "{bytes:?}: {refusal:?} {detail}");
    }
    for message in [hello(), join([0; 16], None)] {
        let mut raw = attached().await;
        raw.say(&message).await;
        assert_eq!(raw.refused().await.0, Refusal::OutOfOrder, "{message:?}");
    }
    let mut raw = attached().await;
    for seq in 0..2000 {
        raw.say(&report(seq)).await;
    }
    assert_eq!(raw.refused().await, (Refusal::OutOfOrder, "too many reports".into()));
    hints(attached().await, &broker.at.admin).await;
    let mut older = attached().await;
    let newer = attached().await;
    assert_eq!(older.refused().await.0, Refusal::Superseded);
    drop(newer);

    // And afterwards all is as ever.
    let service = Service::start("127.0.26.1:0", "one").await;
    let agent = Agent::start(&broker, &dir.path().join("one"), "one", DOMAIN, service.addr).await;
    broker.until("one", "up").await;
    agent.kill().await;
    broker.stop().await;
}
