//! Clients say which mirrors they do not reach: their network is led elsewhere, nobody else is, and the
//! mirror stays up. What is forged or flooded changes nothing.

use nearmost_client::api::{ResolveResponse, RttRequest};
use nearmost_tests::process::{Broker, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{dns, eventually};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const DOMAIN: &str = "play.example.com";
/// In a network of its own, in Great Britain like its neighbour.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 40, 9);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 41, 9);
const NETWORK: &str = "127.0.40.0/24";
const BESIDE: &str = "127.0.41.0/24";

const SETTINGS: &str = "[learning]\nfit_interval_ms = 1000\n\
    [[geo.overrides]]\nprefix = \"127.0.40.0/23\"\nlatitude = 51.5\nlongitude = -0.1\ncountry = \"GB\"\n";

/// One request to the API from an address; the answer's status and JSON.
async fn ask(broker: &Broker, from: Ipv4Addr, request: &str, body: &str) -> (u16, Value) {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind(SocketAddr::from((from, 0))).expect("bind");
    let mut stream = socket.connect(broker.at.http[0]).await.expect("connect");
    let head = format!(
        "{request} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("read");
    let (head, body) = reply.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {reply}")))
}

async fn session(broker: &Broker, from: Ipv4Addr) -> String {
    let (status, answer) = ask(broker, from, &format!("GET /v1/resolve/{DOMAIN}"), "").await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value::<ResolveResponse>(answer).expect("an answer to it").session
}

/// Says that a mirror is not reached; the code of a refusal.
async fn complain(broker: &Broker, from: Ipv4Addr, session: &str, mirror: &str) -> Option<String> {
    let request = RttRequest {
        session: session.into(),
        nonce: None,
        rtts: Vec::new(),
        tried: vec![mirror.into()],
        failed: vec![mirror.into()],
    };
    let body = serde_json::to_string(&request).expect("JSON");
    let (status, answer) = ask(broker, from, "POST /v1/rtt", &body).await;
    (status != 200).then(|| answer["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

fn mirror(name: &str, service: &Service, place: &str) -> String {
    let (ip, port) = (service.addr.ip(), service.addr.port());
    format!(
        "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [\"{ip}\"]\nport = {port}\nplace = {{ {place} }}\n\
         health = \"probe\"\nprobe = {{ kind = \"http\", path = \"/\", interval_ms = 60000 }}\n"
    )
}

#[tokio::test]
async fn a_network_that_does_not_reach_a_mirror_is_led_elsewhere_and_nobody_else_is() {
    let dir = directory();
    let broker = Broker::start_with(dir.path(), SETTINGS).await;
    let london = Service::start("127.0.42.1:0", "london").await;
    let newyork = Service::start("127.0.42.2:0", "newyork").await;
    let mirrors = mirror("london", &london, "latitude = 51.5, longitude = -0.1")
        + &mirror("newyork", &newyork, "latitude = 40.7, longitude = -74.0");
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n{mirrors}"), &[]).await;
    broker.until("london", "up").await;
    broker.until("newyork", "up").await;
    let answer = |subnet: &'static str| dns::ask(broker.at.dns[0], DOMAIN, subnet);
    let (near, far) = ([london.addr.ip()], [newyork.addr.ip()]);
    assert_eq!((answer(NETWORK).await, answer(BESIDE).await), (near.to_vec(), near.to_vec()));

    // Whoever forges a session, or uses another network's, is refused and counted.
    let neighbours = session(&broker, NEIGHBOUR).await;
    let own = session(&broker, CLIENT).await;
    // Of another moment, under the seal of this one.
    let forged = format!("{}{}{}", &own[..5], if &own[5..6] == "A" { "B" } else { "A" }, &own[6..]);
    for (session, code) in [(&neighbours, "session_network"), (&forged, "session_forged")] {
        assert_eq!(complain(&broker, CLIENT, session, "london").await.as_deref(), Some(code));
        let refused = format!("nearmost_rtt_reports_refused_total{{reason={code:?}}}");
        assert_eq!(broker.metric(&refused).await, 1.0);
    }
    assert_eq!(broker.metric("nearmost_rtt_missed_total").await, 0.0);

    assert_eq!(complain(&broker, CLIENT, &own, "london").await, None);
    eventually("the network is led elsewhere", || answer(NETWORK), |a| a[..] == far).await;
    assert_eq!(answer(BESIDE).await, near, "the network beside it is not");
    let explained = broker.ok(&["explain", DOMAIN, "--client", "127.0.40.9"]).await;
    assert!(explained.contains("not reached"), "{explained}");

    // It was probed for it, and is well. A flood is one word, and has it probed no more.
    broker.until("london", "up").await;
    let since = since_of(&broker, "london").await;
    let mut refused = 0;
    for _ in 0..30 {
        refused += usize::from(
            complain(&broker, CLIENT, &own, "london").await.as_deref() == Some("reports_too_often"),
        );
    }
    assert!(refused >= 20, "{refused}");
    assert_eq!(answer(BESIDE).await, near);
    assert_eq!(since_of(&broker, "london").await, since, "up all the time");
    broker.stop().await;
}

/// State of a mirror and since when.
async fn since_of(broker: &Broker, mirror: &str) -> (String, u64) {
    let fleet = broker.fleet().await;
    let view = fleet.mirrors.iter().find(|m| m.mirror == mirror).expect("it is there");
    let verdict = view.verdicts.iter().find(|v| v.family == "v4").expect("it has an address");
    (verdict.state.clone(), verdict.since_unix_ms)
}
