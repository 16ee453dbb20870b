//! What agents know of round trips reaches the broker: from users' connections, from measuring one
//! another, and from their sessions.

use nearmost_tests::eventually;
use nearmost_tests::process::{Agent, Broker, directory, service_config};
use nearmost_tests::service::Service;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DOMAIN: &str = "play.example.com";
/// Pairs are measured every few seconds, so that a test sees it again and again; the token "secret"
/// opens the metrics over TCP.
const OFTEN: &str = "[learning]\npair_interval_s = 4\npair_rate_per_node = 300\n\
    [[http.tokens]]\nname = \"test\"\n\
    sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n";

/// A user that was served and stays connected.
async fn user(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("connect");
    let request = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut reply = [0; 1024];
    let n = stream.read(&mut reply).await.expect("read");
    assert!(reply[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply[..n]));
    stream
}

async fn metrics(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connect");
    let request =
        b"GET /metrics HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("read");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    reply
}

/// The value of a series, 0 while it is not there.
async fn value(at: SocketAddr, series: &str) -> f64 {
    let page = metrics(at).await;
    let line = page.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |v| v.trim().parse().expect("a number"))
}

/// Waits until a series is above a value; returns what it is then.
async fn above(at: SocketAddr, series: &str, least: f64) -> f64 {
    eventually(&format!("{series} above {least}"), || value(at, series), |v| *v > least).await
}

async fn agent(
    broker: &Broker,
    dir: &std::path::Path,
    name: &str,
    service: SocketAddr,
    more: &[&str],
) -> Agent {
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
    assert!(Agent::join(dir, token.trim()).await.status.success());
    let mut settings = service_config(dir, DOMAIN, service);
    settings.push("paths.interval_ms=200".into());
    settings.extend(more.iter().map(|s| (*s).to_owned()));
    Agent::run(dir, &settings).await
}

#[tokio::test]
async fn connections_sessions_and_measurements_are_learnt_from() {
    let dir = directory();
    let broker = Broker::start_with(dir.path(), OFTEN).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let one = Service::start("127.0.27.1:0", "one").await;
    let two = Service::start("127.0.27.2:0", "two").await;
    let _first = agent(&broker, &dir.path().join("one"), "one", one.addr, &[]).await;
    let _second = agent(&broker, &dir.path().join("two"), "two", two.addr, &[]).await;
    broker.until("one", "up").await;
    broker.until("two", "up").await;
    let at = broker.at.http[0];
    let observed = |source: &str| format!("nearmost_rtt_observations_total{{source=\"{source}\"}}");

    let users = vec![user(one.addr).await, user(one.addr).await];
    let so_far = above(at, &observed("connections"), 0.0).await;
    above(at, &observed("connections"), so_far).await;
    above(at, "nearmost_path_samples_total{result=\"taken\"}", 0.0).await;

    // Both answer their orders again and again. On loopback addresses that teaches nothing of places.
    let so_far = above(at, "nearmost_pair_results_total{result=\"loopback\"}", 0.0).await;
    above(at, "nearmost_pair_results_total{result=\"loopback\"}", so_far + 1.0).await;
    assert_eq!(value(at, &observed("probe")).await, 0.0);
    // Two nodes, each a target of the other.
    assert_eq!(value(at, "nearmost_pairs").await, 2.0);

    // The first look at a session is a few seconds after it began, the next a minute later.
    above(at, &observed("quic"), 1.0).await;

    for bad in ["mirror", "network", "rtt", "rate"] {
        let samples = value(at, &format!("nearmost_path_samples_total{{result={bad:?}}}")).await;
        assert_eq!(samples, 0.0, "{bad}");
    }
    for bad in ["unknown", "absurd"] {
        let results = value(at, &format!("nearmost_pair_results_total{{result={bad:?}}}")).await;
        assert_eq!(results, 0.0, "{bad}");
    }
    drop(users);
    broker.stop().await;
}

#[tokio::test]
async fn a_node_that_keeps_its_round_trips_to_itself_is_served_all_the_same() {
    let dir = directory();
    let broker = Broker::start_with(dir.path(), OFTEN).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let one = Service::start("127.0.27.3:0", "one").await;
    let two = Service::start("127.0.27.4:0", "two").await;
    let quiet = ["paths.connections=false", "paths.measures_per_second=0"];
    let _first = agent(&broker, &dir.path().join("one"), "one", one.addr, &quiet).await;
    let _second = agent(&broker, &dir.path().join("two"), "two", two.addr, &quiet).await;
    broker.until("one", "up").await;
    broker.until("two", "up").await;
    let _user = user(one.addr).await;
    let at = broker.at.http[0];
    above(at, "nearmost_pair_results_total{result=\"failed\"}", 2.0).await;
    for source in ["probe", "connections"] {
        assert_eq!(value(at, &format!("nearmost_rtt_observations_total{{source={source:?}}}")).await, 0.0);
    }
    broker.stop().await;
}
