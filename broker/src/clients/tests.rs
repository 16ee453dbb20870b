//! Sessions over real sockets, with clients that behave and clients that do not.

use super::*;
use crate::api::testing::{DOMAIN, Fixture};
use crate::learning::{self, Lesson};
use crate::reports::{ReportSettings, Reports};
use crate::telemetry::{ClientMetrics, LearningMetrics, ReportMetrics};
use nearmost_wire::client::{Measured, Refusal, Rtt, Taken, ToBroker, ToClient};
use nearmost_wire::fare::{Cause, Fare};
use nearmost_wire::frame;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::tls::{self, ALPN_AGENT, ALPN_CLIENT, SERVER_NAME};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    registry: prometheus::Registry,
    at: SocketAddr,
    metrics: ClientMetrics,
    reports: Arc<Reports>,
    lessons: crate::learning::Lessons,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn broker() -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[1; 32])
}

fn settings() -> ClientSettings {
    ClientSettings {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        max_connections: 4,
        max_per_network: 4,
        handshake_timeout: Duration::from_secs(5),
        idle_timeout: PATIENCE,
        message_every: Duration::from_secs(3600),
        message_burst: 6,
    }
}

impl Running {
    fn start(settings: ClientSettings) -> Running {
        let registry = prometheus::Registry::new();
        let (learn, lessons) = learning::channel(Arc::new(LearningMetrics::register(&registry).unwrap()));
        let limit = ReportSettings { interval: Duration::from_secs(3600), burst: 3 };
        let report_metrics = Arc::new(ReportMetrics::register(&registry).unwrap());
        let reports = Arc::new(Reports::new(limit, learn, report_metrics).unwrap());
        let metrics = ClientMetrics::register(&registry).unwrap();
        let server = ClientServer::bind(settings, &broker()).unwrap();
        let at = server.local_addrs()[0];
        let snapshot = Fixture::five_mirrors().reader();
        let list_metrics = crate::telemetry::ListMetrics::register(&registry).unwrap();
        let news = crate::publish::Publisher::default().news();
        let (task, lists) = lists::ListTask::new(broker(), 1, snapshot.clone(), news, list_metrics);
        tokio::spawn(task.run());
        let demand = crate::steering::channel(prometheus::IntCounter::new("d", "d").unwrap()).0;
        let parts =
            ClientParts { snapshot, reports: reports.clone(), lists, demand, metrics: metrics.clone() };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(server.run(parts, cancel.clone()));
        Running { at, registry, metrics, reports, lessons, cancel, task }
    }

    async fn connect_as(&self, alpn: &[u8]) -> Result<Connection, ConnectionError> {
        let anonymous = KeyPair::generate(Role::Person).unwrap();
        let crypto = tls::client_config(&anonymous, broker().id(), alpn).unwrap();
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        endpoint.connect_with(config, self.at, SERVER_NAME).unwrap().await
    }

    async fn open(&self) -> Client {
        let connection = self.connect_as(ALPN_CLIENT).await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Client { connection, send, receive }
    }
}

struct Client {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Client {
    async fn ask(&mut self, message: &ToBroker) -> Option<ToClient> {
        frame::write(&mut self.send, message).await.ok()?;
        tokio::time::timeout(PATIENCE, frame::read(&mut self.receive)).await.expect("an answer").ok()
    }

    async fn report(&mut self, rtt: Rtt) -> Taken {
        match self.ask(&ToBroker::Rtt(rtt)).await {
            Some(ToClient::Taken(taken)) => taken,
            other => panic!("{other:?}"),
        }
    }

    /// How the broker ended it.
    async fn refused(&self) -> (Option<Refusal>, String) {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("it ends") {
            ConnectionError::ApplicationClosed(close) => {
                let detail = String::from_utf8_lossy(&close.reason).into_owned();
                (Refusal::from_code(close.error_code.into_inner()), detail)
            }
            other => panic!("{other}"),
        }
    }
}

fn resolve(domain: &str) -> ToBroker {
    ToBroker::Resolve { domain: domain.into() }
}

fn rtt(domain: &str, mirror: &str, rtt_ms: f64) -> Rtt {
    Rtt {
        domain: domain.into(),
        rtts: vec![Measured { mirror: mirror.into(), rtt_ms }],
        nonce: None,
        tried: Vec::new(),
        failed: Vec::new(),
    }
}

#[tokio::test]
async fn a_client_resolves_and_reports() {
    let mut running = Running::start(settings());
    let mut client = running.open().await;
    let Some(ToClient::Resolved(seen)) = client.ask(&resolve("Play.Nearmost.Test.")).await else {
        panic!("no answer")
    };
    assert_eq!((&*seen.domain, seen.observed, seen.mirrors.len()), (DOMAIN, Ipv4Addr::LOCALHOST.into(), 5));
    assert_eq!((seen.measure.len(), seen.ttl_s), (3, 20));
    let nonce = nearmost_dns::Nonce::parse("abcdefghij234567").unwrap();
    running.reports.nonces().note(&nonce, "192.0.2.53".parse().unwrap(), crate::clock::mono_now());
    let tied = Rtt { nonce: Some(nonce.as_str().into()), ..rtt(DOMAIN, "lon", 12.5) };
    let taken = client.report(tied).await;
    assert_eq!((taken.accepted, taken.tied, &taken.refused), (1, true, &None));
    let next: Vec<&str> = taken.measure.iter().map(|m| m.name.as_str()).collect();
    assert!(next.len() == 2 && !next.contains(&"lon"), "{next:?}");
    let Some(Lesson::Observed(observed)) = running.lessons.recv().await else { panic!("nothing observed") };
    assert_eq!((observed[0].network.to_string(), observed[0].rtt_ms), ("127.0.0.0/24".into(), 12.5));
    assert!(matches!(running.lessons.recv().await, Some(Lesson::Behind { .. })));
    assert_eq!(running.metrics.sessions.get(), 1);

    // The client asks no more, and closes when it has its answers.
    client.send.finish().unwrap();
    assert!(client.receive.read_to_end(10).await.unwrap().is_empty());
    client.connection.close(0u8.into(), b"done");
    running.cancel.cancel();
    tokio::time::timeout(PATIENCE, running.task).await.expect("ends").unwrap();
    assert_eq!(running.metrics.sessions.get(), 0);
}

/// The values of a metric, by what its line begins with.
fn told(running: &Running, line: &str) -> Option<String> {
    let text = prometheus::TextEncoder::new().encode_to_string(&running.registry.gather()).unwrap();
    text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ').map(str::to_owned))
}

#[tokio::test]
async fn what_a_client_tells_of_its_session_is_shown_and_nonsense_ends_only_the_telling() {
    let running = Running::start(settings());
    let until = async |line: &str, value: &str| {
        while told(&running, line).as_deref() != Some(value) {
            tokio::task::yield_now().await;
        }
    };
    let mut client = running.open().await;
    assert!(matches!(client.ask(&resolve(DOMAIN)).await, Some(ToClient::Resolved(_))));
    let mut telling = client.connection.open_uni().await.unwrap();
    let mut fare = Fare { attached: true, standby: true, ..Fare::default() };
    fare.moved(Cause::Silence, Duration::from_millis(40));
    frame::write(&mut telling, &fare).await.unwrap();
    until("nearmost_session_standings{standing=\"standby\"}", "1").await;
    assert_eq!(told(&running, "nearmost_session_moves_total{cause=\"silence\"}").unwrap(), "1");

    let nonsense = Fare { attached: false, ..fare };
    frame::write(&mut telling, &nonsense).await.unwrap();
    until("nearmost_session_tellings_total{result=\"refused\"}", "1").await;
    until("nearmost_session_standings{standing=\"standby\"}", "0").await;
    assert!(matches!(client.ask(&resolve(DOMAIN)).await, Some(ToClient::Resolved(_))), "it goes on");

    let mut other = running.open().await;
    assert!(matches!(other.ask(&resolve(DOMAIN)).await, Some(ToClient::Resolved(_))));
    let mut telling = other.connection.open_uni().await.unwrap();
    for _ in 0..6 {
        frame::write(&mut telling, &Fare::default()).await.unwrap();
    }
    until("nearmost_session_tellings_total{result=\"too_fast\"}", "2").await;
    telling.write_all(&[0, 1, 0, 0, 1]).await.unwrap();
    until("nearmost_session_tellings_total{result=\"refused\"}", "2").await;
    assert!(matches!(other.ask(&resolve(DOMAIN)).await, Some(ToClient::Resolved(_))), "it goes on");
}

#[tokio::test]
async fn where_udp_is_blocked_the_same_goes_through_tls() {
    let mut settings = settings();
    settings.max_connections = 2;
    let running = Running::start(settings);
    let anonymous = KeyPair::generate(Role::Person).unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mine = endpoint.local_addr().unwrap();
    let tunnel = nearmost_wire::tunnel::open(running.at, &anonymous, broker().id(), mine).await.unwrap();
    let crypto = tls::client_config(&anonymous, broker().id(), ALPN_CLIENT).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, tunnel.relay, SERVER_NAME).unwrap().await.unwrap();
    let (send, receive) = connection.open_bi().await.unwrap();
    let mut client = Client { connection, send, receive };
    let Some(ToClient::Resolved(resolved)) = client.ask(&resolve(DOMAIN)).await else { panic!("no answer") };
    assert_eq!(resolved.observed, Ipv4Addr::LOCALHOST);
    assert_eq!(running.metrics.tunnels.get(), 1);

    // Tunnels are bounded as connections are.
    let other = nearmost_wire::tunnel::open(running.at, &anonymous, broker().id(), mine).await.unwrap();
    let third = nearmost_wire::tunnel::open(running.at, &anonymous, broker().id(), mine).await;
    assert!(third.is_err());
    assert_eq!(running.metrics.handshakes_refused.with_label_values(&["tunnel_limit"]).get(), 1);
    drop((tunnel, other));
    while running.metrics.tunnels.get() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_report_that_is_not_taken_is_answered_and_the_session_goes_on() {
    let running = Running::start(settings());
    let mut client = running.open().await;
    for (report, code) in [
        (rtt(DOMAIN, "paris", 1.0), "unknown_mirror"),
        (rtt("nowhere.test", "lon", 1.0), "unknown_domain"),
        (rtt(DOMAIN, "lon", f64::NAN), "rtt_range"),
        (rtt(DOMAIN, "lon", 1.0), "reports_too_often"),
    ] {
        let taken = client.report(report).await;
        let refused = taken.refused.expect("refused");
        assert_eq!((taken.accepted, refused.code.as_str()), (0, code), "{}", refused.message);
    }
    assert!(matches!(client.ask(&resolve(DOMAIN)).await, Some(ToClient::Resolved(_))));
    assert_eq!(running.metrics.messages.with_label_values(&["rtt"]).get(), 4);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session_by_name() {
    let running = Running::start(settings());
    for (bytes, says) in [
        (&[0, 0, 0, 2, 9, 0][..], "version 9"),
        (&[0, 0, 0, 3, 1, 250, 0], "message body"),
        (&[0, 1, 0, 0, 1], "65536 bytes"),
        (&[0, 0, 0, 0], "empty"),
    ] {
        let mut client = running.open().await;
        client.send.write_all(bytes).await.unwrap();
        let (refusal, detail) = client.refused().await;
        assert!(refusal == Some(Refusal::BadMessage) && detail.contains(says), "{refusal:?} {detail}");
    }
    let mut client = running.open().await;
    client.send.write_all(&[0, 0, 0, 9, 1, 0]).await.unwrap();
    client.send.finish().unwrap();
    assert_eq!(client.refused().await.0, Some(Refusal::BadMessage), "cut short");
    assert_eq!(running.metrics.refusals.with_label_values(&["bad_message"]).get(), 5);

    let mut client = running.open().await;
    assert_eq!(client.ask(&resolve("nowhere.test")).await, None);
    let (refusal, detail) = client.refused().await;
    assert!(refusal == Some(Refusal::UnknownDomain) && detail.contains("nowhere.test"), "{detail}");
}

#[tokio::test]
async fn too_many_messages_end_the_session() {
    let running = Running::start(settings());
    let mut client = running.open().await;
    for _ in 0..6 {
        assert!(client.ask(&resolve(DOMAIN)).await.is_some());
    }
    assert_eq!(client.ask(&resolve(DOMAIN)).await, None);
    assert_eq!(client.refused().await.0, Some(Refusal::TooFast));
    // Another connection has its own.
    assert!(running.open().await.ask(&resolve(DOMAIN)).await.is_some());
}

#[tokio::test]
async fn a_silent_client_is_let_go() {
    let running = Running::start(ClientSettings { idle_timeout: Duration::from_millis(200), ..settings() });
    let mut config = quinn::ClientConfig::new(Arc::new(
        tls::client_config(&KeyPair::generate(Role::Person).unwrap(), broker().id(), ALPN_CLIENT).unwrap(),
    ));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_millis(20)));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = endpoint.connect_with(config, running.at, SERVER_NAME).unwrap().await.unwrap();
    let (send, receive) = connection.open_bi().await.unwrap();
    let client = Client { connection, send, receive };
    assert_eq!(client.refused().await.0, Some(Refusal::Idle), "pings are not messages");
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_of_one_network() {
    for (settings, kind) in [
        (settings(), "limit"),
        (ClientSettings { max_connections: 100, max_per_network: 4, ..settings() }, "network_limit"),
    ] {
        let running = Running::start(settings);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(running.open().await);
        }
        let refused = running.connect_as(ALPN_CLIENT).await.unwrap_err();
        assert!(refused.to_string().contains("refuse"), "{refused}");
        assert_eq!(running.metrics.handshakes_refused.with_label_values(&[kind]).get(), 1);
        let mut last = held.pop().unwrap();
        last.send.finish().unwrap();
        let _ = last.receive.read_to_end(10).await;
        last.connection.close(0u8.into(), b"done");
        // The place is free when the broker has seen it.
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let freed = async {
            while running.metrics.sessions.get() > 3 {
                tick.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, freed).await.expect("the place comes back");
    }
}

#[tokio::test]
async fn other_protocols_and_wrong_keys_do_not_get_in() {
    let running = Running::start(settings());
    assert!(running.connect_as(ALPN_AGENT).await.is_err());
    let other = KeyPair::from_seed(Role::Broker, &[2; 32]).id();
    let anonymous = KeyPair::generate(Role::Person).unwrap();
    let crypto = tls::client_config(&anonymous, other, ALPN_CLIENT).unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connecting =
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), running.at, SERVER_NAME).unwrap();
    assert!(connecting.await.unwrap_err().to_string().contains(tls::WRONG_KEY));
    assert_eq!(running.metrics.sessions.get(), 0);
}

#[tokio::test]
async fn clients_are_told_when_the_broker_leaves() {
    let running = Running::start(settings());
    let mut client = running.open().await;
    assert!(client.ask(&resolve(DOMAIN)).await.is_some());
    running.cancel.cancel();
    assert_eq!(client.refused().await.0, Some(Refusal::Leaving));
    tokio::time::timeout(PATIENCE, running.task).await.expect("ends").unwrap();
}
