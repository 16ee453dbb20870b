//! Entries as workers offer them, to writers on real files and sockets.

use super::*;
use crate::dns::tests::{query, snapshot};
use hickory_proto::op::Message as DnsMessage;
use hickory_proto::rr::RecordType;
use nearmost_dns::{Client, DnsConfig, Responder};
use prost::Message as _;
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "Play.Example.com";

/// What a worker holds after answering.
struct Answered {
    query: Vec<u8>,
    reply: Vec<u8>,
    outcome: Outcome,
    registry: Arc<Registry>,
}

fn answered(query: Vec<u8>) -> Answered {
    let snapshot = snapshot(Ipv4Addr::new(192, 0, 2, 1));
    let responder = Responder::new(DnsConfig::default()).unwrap();
    let client = Client { source: Ipv4Addr::LOCALHOST.into(), transport: Transport::Udp, now: UnixMillis(0) };
    let mut reply = Vec::new();
    let outcome = responder.answer(&snapshot, &query, &client, &mut reply);
    Answered { query, reply, outcome, registry: snapshot.registry }
}

impl Answered {
    fn seen(&self) -> Seen<'_> {
        Seen {
            query: &self.query,
            reply: &self.reply,
            source: "198.51.100.77".parse().unwrap(),
            transport: Transport::Tls,
            at: UnixMillis(1_795_229_510_401),
            took: Duration::from_micros(17),
            outcome: &self.outcome,
            registry: &self.registry,
        }
    }
}

/// An open log, its counters, and how it is ended.
struct Running {
    log: QueryLog,
    registry: prometheus::Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(config: &DnsLogConfig) -> Running {
    let registry = prometheus::Registry::new();
    let (log, writers) = open(config, "here", &registry).unwrap().expect("on");
    let stop = CancellationToken::new();
    Running { log, registry, stop: stop.clone(), task: tokio::spawn(writers.run(stop)) }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("stops").unwrap();
    }

    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).expect("registered");
        family.get_metric().iter().map(|m| m.get_counter().get_value()).sum()
    }
}

fn to_file(path: &Path) -> DnsLogConfig {
    DnsLogConfig { sample: 1.0, json: Some(JsonTarget::File(path.into())), ..DnsLogConfig::default() }
}

#[test]
fn a_line_says_who_asked_for_what_and_what_was_answered() {
    let answered = answered(query(7, NAME, RecordType::A));
    let line = json::written(&answered.seen(), ClientDetail::Network);
    let expected = serde_json::json!({
        "time": "2026-11-21T02:51:50.401Z",
        "transport": "tls",
        "client": "198.51.100.0/24",
        "name": "play.example.com.",
        "type": "A",
        "rcode": "noerror",
        "flags": ["aa"],
        "domain": "play.example.com",
        "mirrors": ["one"],
        "bytes": answered.reply.len(),
        "latency_us": 17,
    });
    assert_eq!(line, expected);
    assert_eq!(json::written(&answered.seen(), ClientDetail::Full)["client"], "198.51.100.77");
    assert!(json::written(&answered.seen(), ClientDetail::None).get("client").is_none());
}

#[test]
fn a_malformed_message_is_a_line_that_says_why() {
    let mut wire = query(7, NAME, RecordType::A);
    wire.push(0);
    let line = json::written(&answered(wire).seen(), ClientDetail::Network);
    assert_eq!((&line["rcode"], &line["error"]), (&"formerr".into(), &"trailing_bytes".into()));
    assert_eq!((&line["name"], &line["type"]), (&"play.example.com.".into(), &"A".into()));
    let line = json::written(&answered(vec![1, 2, 3]).seen(), ClientDetail::Network);
    assert!(line.get("rcode").is_none() && line.get("name").is_none(), "{line}");
    assert_eq!(line["error"], "short");
}

#[tokio::test]
async fn the_sample_is_the_share_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = to_file(&dir.path().join("q.json"));
    let share = |sample| {
        let config = DnsLogConfig { sample, ..config.clone() };
        let (log, _writers) = open(&config, "", &prometheus::Registry::new()).unwrap().expect("on");
        (0..100_000).filter(|_| log.sampled()).count()
    };
    assert_eq!(share(1.0), 100_000);
    // Ten standard deviations.
    assert!((9000..11_000).contains(&share(0.1)));
    assert!(!QueryLog::default().sampled());
    let off = DnsLogConfig { sample: 0.0, ..config.clone() };
    assert!(open(&off, "", &prometheus::Registry::new()).unwrap().is_none());
}

#[tokio::test]
async fn a_file_is_appended_to_and_opened_anew_when_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("q.json"), dir.path().join("q.json.1"));
    std::fs::write(&path, "{}\n").unwrap();
    let running = start(&to_file(&path));
    let answered = answered(query(7, NAME, RecordType::A));
    running.log.offer(&answered.seen());
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let until = |path: std::path::PathBuf, count| async move {
        let there = async {
            while lines(&path) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.expect("written")
    };
    until(path.clone(), 2).await;
    std::fs::rename(&path, &moved).unwrap();
    // Until it has looked, lines go where the file went.
    let offering = async {
        while !path.exists() {
            running.log.offer(&answered.seen());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, offering).await.expect("opened anew");
    running.log.offer(&answered.seen());
    let written = running.registry.clone();
    running.stop().await;
    let all = lines(&path) + lines(&moved) - 1;
    let families = written.gather();
    let family = families.iter().find(|f| f.name() == "nearmost_dns_log_written_total").unwrap();
    assert_eq!(family.get_metric()[0].get_counter().get_value() as usize, all);
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["name"], "play.example.com.");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let config = to_file(Path::new("/nowhere/q.json"));
    let error = open(&config, "", &prometheus::Registry::new()).err().expect("refused").to_string();
    assert!(error.starts_with("query log /nowhere/q.json: "), "{error}");
}

#[tokio::test]
async fn what_finds_no_room_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let (log, _writers) = open(&to_file(&dir.path().join("q")), "", &registry).unwrap().expect("on");
    let answered = answered(query(7, NAME, RecordType::A));
    for _ in 0..QUEUE + 5 {
        log.offer(&answered.seen());
    }
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "nearmost_dns_log_dropped_total").unwrap();
    assert_eq!(family.get_metric()[0].get_counter().get_value(), 5.0);
}

async fn frame(stream: &mut UnixStream) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let length = if length == 0 { stream.read_u32().await.unwrap() } else { length };
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn control(stream: &mut UnixStream, kind: u8) {
    stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, kind]).await.unwrap();
}

/// A collector's side of the beginning.
async fn collector(listener: &UnixListener) -> UnixStream {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("connects");
    let (mut stream, _) = accepted.unwrap();
    assert_eq!(frame(&mut stream).await[..4], [0, 0, 0, 4], "READY");
    control(&mut stream, 1).await;
    assert_eq!(frame(&mut stream).await[..4], [0, 0, 0, 2], "START");
    stream
}

#[tokio::test]
async fn a_collector_gets_query_and_response_and_may_go_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("dnstap.sock");
    let config = DnsLogConfig { sample: 1.0, dnstap: Some(socket.clone()), ..DnsLogConfig::default() };
    // Nobody is there yet: the first query waits.
    let running = start(&config);
    let answered = answered(query(7, NAME, RecordType::A));
    running.log.offer(&answered.seen());
    let listener = UnixListener::bind(&socket).unwrap();
    let mut stream = collector(&listener).await;
    let asked = dnstap::Dnstap::decode(&frame(&mut stream).await[..]).unwrap();
    let replied = dnstap::Dnstap::decode(&frame(&mut stream).await[..]).unwrap();
    assert_eq!((asked.identity.as_deref(), asked.kind), (Some(&b"here"[..]), 1));
    let (asked, replied) = (asked.message.unwrap(), replied.message.unwrap());
    assert_eq!(
        (asked.kind(), replied.kind()),
        (dnstap::MessageKind::AuthQuery, dnstap::MessageKind::AuthResponse)
    );
    assert_eq!(asked.query_message, Some(answered.query.clone()));
    assert_eq!(asked.query_address.as_deref(), Some(&[198, 51, 100, 0][..]));
    assert_eq!((asked.query_time_sec, asked.query_time_nsec), (Some(1_795_229_510), Some(401_000_000)));
    assert_eq!(asked.socket_protocol(), dnstap::SocketProtocol::Dot);
    assert_eq!(replied.response_time_nsec, Some(401_017_000));
    let reply = DnsMessage::from_vec(&replied.response_message.unwrap()).unwrap();
    assert_eq!(reply.answers.len(), 1);

    drop(stream);
    let mut stream = collector(&listener).await;
    running.log.offer(&answered.seen());
    frame(&mut stream).await;
    frame(&mut stream).await;
    assert_eq!(running.count("nearmost_dns_log_dropped_total"), 0.0);
    let ending = tokio::spawn(running.stop());
    assert_eq!(frame(&mut stream).await, [0, 0, 0, 3], "STOP");
    control(&mut stream, 5).await;
    ending.await.unwrap();
}
