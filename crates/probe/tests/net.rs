//! TCP, HTTP and UDP checks against real local servers.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use common::*;
use nearmost_core::check::{CheckKind, HttpCheck};
use nearmost_probe::{Prober, ProberOptions};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};

#[tokio::test]
async fn tcp_passes_when_the_port_listens_and_names_a_refusal() {
    assert_pass(&run(silent().await, CheckKind::Tcp, LONG).await);
    let (_held, closed) = closed_port();
    let outcome = run(closed, CheckKind::Tcp, LONG).await;
    assert_answered(&outcome, &["expected a TCP connection", &closed.to_string(), "connection refused"]);
}

#[tokio::test]
async fn ipv6_services_are_checked_alike() {
    let listener = match TcpListener::bind("[::1]:0").await {
        Ok(listener) => listener,
        Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => {
            eprintln!("no IPv6 on this machine: not tested");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let addr = listener.local_addr().expect("its address");
    let app = Router::new().route("/", get(|headers: HeaderMap| async move { format!("{headers:?}") }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert_pass(&run(addr, CheckKind::Tcp, LONG).await);
    let check = HttpCheck { body_contains: Some(format!("[::1]:{}", addr.port())), ..http() };
    assert_pass(&run(addr, CheckKind::Http(check), LONG).await);
    let echo = udp_server("[::1]:0", |request| Some(request.to_vec())).await;
    let kind = CheckKind::Udp { send: b"ping".to_vec(), expect: b"ping".to_vec() };
    assert_pass(&run(echo, kind, LONG).await);
}

/// A service with an answer of every kind.
async fn service() -> SocketAddr {
    let app = Router::new()
        .route("/", get(|| async { "all is well" }))
        .route("/error", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "all is well") }))
        .route("/away", get(|| async { Redirect::temporary("/") }))
        .route("/headers", get(|headers: HeaderMap| async move { format!("{headers:?}") }))
        .route("/early", get(|| async { format!("{}needle{}", "x".repeat(50_000), "y".repeat(50_000)) }))
        .route("/late", get(|| async { format!("{}needle", "x".repeat(64 * 1024)) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

#[tokio::test]
async fn http_judges_status_and_body() {
    let addr = service().await;
    let wants = |path: &str, status, text: Option<&str>| {
        let body_contains = text.map(str::to_string);
        CheckKind::Http(HttpCheck { path: path.into(), status, body_contains, ..http() })
    };
    let good = (200, 299);
    assert_pass(&run(addr, wants("/", good, None), LONG).await);
    assert_pass(&run(addr, wants("/", good, Some("is well")), LONG).await);
    assert_pass(&run(addr, wants("/error", (503, 503), Some("well")), LONG).await);
    assert_pass(&run(addr, wants("/early", good, Some("needle")), LONG).await);
    let outcome = run(addr, wants("/error", good, None), LONG).await;
    assert_answered(&outcome, &["expected status 200 to 299, found 503"]);
    let outcome = run(addr, wants("/nowhere", (200, 200), None), LONG).await;
    assert_fail(&outcome, &["expected status 200, found 404"]);
    let outcome = run(addr, wants("/", good, Some("fine")), LONG).await;
    assert_answered(&outcome, &["expected \"fine\" in the body", "11 bytes", "\"all is well\""]);
    // Only the first 64 KiB are searched.
    let outcome = run(addr, wants("/late", good, Some("needle")), LONG).await;
    assert_fail(&outcome, &["\"needle\"", "65536 bytes"]);
}

#[tokio::test]
async fn redirects_are_judged_and_not_followed() {
    let addr = service().await;
    let kind = |status| CheckKind::Http(HttpCheck { path: "/away".into(), status, ..http() });
    assert_fail(&run(addr, kind((200, 299)), LONG).await, &["found 307"]);
    assert_pass(&run(addr, kind((307, 307)), LONG).await);
}

#[tokio::test]
async fn requests_carry_host_and_close() {
    let addr = service().await;
    let sees = |host: Option<&str>, text: &str| {
        let body_contains = Some(text.to_string());
        let host = host.map(str::to_string);
        CheckKind::Http(HttpCheck { path: "/headers".into(), host, body_contains, ..http() })
    };
    let outcome = run(addr, sees(Some("play.example"), "\"host\": \"play.example\""), LONG).await;
    assert_pass(&outcome);
    assert_pass(&run(addr, sees(None, &format!("\"host\": \"{addr}\"")), LONG).await);
    assert_pass(&run(addr, sees(None, "\"connection\": \"close\""), LONG).await);
}

#[tokio::test]
async fn a_needle_split_over_packets_is_found() {
    let addr = tcp_server("127.0.0.1:0", |mut stream| async move {
        read_head(&mut stream).await;
        stream.set_nodelay(true).expect("no delay");
        for piece in ["HTTP/1.1 200 OK\r\n\r\n", "all is w", "e", "ll"] {
            let _ = stream.write_all(piece.as_bytes()).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let check = HttpCheck { body_contains: Some("is well".into()), ..http() };
    assert_pass(&run(addr, CheckKind::Http(check), LONG).await);
}

#[tokio::test]
async fn servers_that_stall_are_bounded_by_the_timeout() {
    let http = || CheckKind::Http(http());
    let outcome = run(silent().await, http(), SHORT).await;
    assert_silence(&outcome, &["expected an HTTP response", "within 200 ms"]);
    // Headers that never end, and then a body that drips.
    let heads = ["HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\n\r\n"];
    for head in heads {
        let addr = tcp_server("127.0.0.1:0", move |mut stream| async move {
            let mut drip = tokio::time::interval(Duration::from_millis(5));
            let mut alive = stream.write_all(head.as_bytes()).await;
            while alive.is_ok() {
                drip.tick().await;
                alive = stream.write_all(b"x").await;
            }
        })
        .await;
        let check = HttpCheck { body_contains: Some("needle".into()), ..common::http() };
        assert_fail(&run(addr, CheckKind::Http(check), SHORT).await, &["within 200 ms"]);
    }
}

#[tokio::test]
async fn endless_headers_end_the_check_before_the_timeout() {
    let addr = tcp_server("127.0.0.1:0", |mut stream| async move {
        let line = format!("X-Long: {}\r\n", "x".repeat(1000));
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while alive.is_ok() {
            alive = stream.write_all(line.as_bytes()).await;
        }
    })
    .await;
    assert_fail(&run(addr, CheckKind::Http(http()), LONG).await, &["HTTP failed"]);
}

#[tokio::test]
async fn what_is_not_http_is_named() {
    let outcome = run(canned("SSH-2.0-OpenSSH_9.6\r\n").await, CheckKind::Http(http()), LONG).await;
    assert_fail(&outcome, &["HTTP failed", "invalid"]);
    let outcome = run(canned("").await, CheckKind::Http(http()), LONG).await;
    assert_fail(&outcome, &["HTTP failed"]);
    let (_held, closed) = closed_port();
    assert_fail(&run(closed, CheckKind::Http(http()), LONG).await, &["connection refused"]);
}

#[tokio::test]
async fn a_body_cut_short_fails_unless_the_text_came() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is well";
    let wants = |text: &str| CheckKind::Http(HttpCheck { body_contains: Some(text.into()), ..http() });
    assert_pass(&run(canned(CUT).await, wants("well"), LONG).await);
    assert_fail(&run(canned(CUT).await, wants("fine"), LONG).await, &["expected \"fine\"", "HTTP failed"]);
}

#[tokio::test]
async fn control_characters_from_the_network_are_escaped() {
    let addr = canned("HTTP/1.1 200 OK\r\n\r\n\u{1b}[2J\u{7}").await;
    let check = HttpCheck { body_contains: Some("ok".into()), ..http() };
    let outcome = run(addr, CheckKind::Http(check), LONG).await;
    assert_fail(&outcome, &["\\u{1b}[2J\\u{7}"]);
}

/// A UDP server that answers each datagram with `reply` of it.
async fn udp_server<F>(bind: &str, reply: F) -> SocketAddr
where
    F: Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind(bind).await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            if let Some(bytes) = reply(&buffer[..n]) {
                let _ = socket.send_to(&bytes, from).await;
            }
        }
    });
    addr
}

fn udp(expect: &str) -> CheckKind {
    CheckKind::Udp { send: b"ping".to_vec(), expect: expect.as_bytes().to_vec() }
}

#[tokio::test]
async fn udp_judges_the_reply() {
    let pong = udp_server("127.0.0.1:0", |q| (q == b"ping").then(|| b"a pong!".to_vec())).await;
    assert_pass(&run(pong, udp("pong"), LONG).await);
    assert_pass(&run(pong, udp(""), LONG).await);
    let outcome = run(pong, udp("gong"), SHORT).await;
    assert_answered(&outcome, &["expected a UDP reply with \"gong\"", "found \"a pong!\""]);
    let mute = udp_server("127.0.0.1:0", |_| None).await;
    assert_silence(&run(mute, udp("pong"), SHORT).await, &["\"pong\"", "none within 200 ms"]);
}

#[tokio::test]
async fn udp_waits_past_a_wrong_reply() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        let (_, from) = socket.recv_from(&mut buffer).await.expect("a request");
        for reply in ["stale", "pong"] {
            socket.send_to(reply.as_bytes(), from).await.expect("sent");
        }
    });
    assert_pass(&run(addr, udp("pong"), LONG).await);
}

#[tokio::test]
async fn a_refused_datagram_fails_at_once() {
    // A connected socket takes nothing from others, and keeps its port from them.
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    socket.connect(addr).await.expect("connected");
    let outcome = tokio::time::timeout(LONG / 2, run(addr, udp("pong"), LONG)).await;
    assert_answered(&outcome.expect("at once"), &[&addr.to_string(), "connection refused"]);
}

#[tokio::test]
async fn what_this_machine_refuses_is_no_answer_of_the_service() {
    // Nobody may send there without asking for it, which checks do not.
    let everybody = SocketAddr::from(([255, 255, 255, 255], 9));
    assert_silence(&run(everybody, udp(""), LONG).await, &["no answer: "]);
    assert_silence(&run(everybody, CheckKind::Tcp, LONG).await, &["no answer: "]);
    let bad = CheckKind::Http(HttpCheck { path: "/a b".into(), ..http() });
    assert_silence(&run(silent().await, bad, LONG).await, &["expected a path"]);
}

#[tokio::test]
async fn a_connection_that_ends_within_the_exchange_is_an_answer() {
    for response in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall"] {
        let check = HttpCheck { body_contains: Some("well".into()), ..http() };
        assert_answered(&run(canned(response).await, CheckKind::Http(check), LONG).await, &[]);
    }
}

#[tokio::test]
async fn a_prober_without_slots_refuses_commands() {
    let prober = Prober::new(ProberOptions::default()).expect("a prober");
    let kind = CheckKind::Command { argv: vec!["true".into()], max_output: 1000 };
    let outcome = nearmost_probe::run(&prober, closed_port().1, &kind, LONG).await;
    assert_fail(&outcome, &["commands are not run here"]);
}
