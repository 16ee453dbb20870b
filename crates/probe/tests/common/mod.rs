//! Local servers and shorthands for the tests of checks.
#![allow(dead_code, missing_docs, reason = "each test binary uses its own part of this module")]

pub mod authority;

use nearmost_core::check::{CheckKind, CheckOutcome, HttpCheck, HttpVersion};
use nearmost_probe::{MAX_REASON_CHARS, Prober, ProberOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// For checks that end by themselves: never reached.
pub const LONG: Duration = Duration::from_secs(30);
/// For checks that must run into their timeout.
pub const SHORT: Duration = Duration::from_millis(200);

pub fn prober() -> Prober {
    Prober::new(ProberOptions { extra_roots: vec![], max_commands: 4 }).expect("a prober")
}

/// Plain HTTP for `/`, any 2xx.
pub fn http() -> HttpCheck {
    HttpCheck {
        version: HttpVersion::Http1,
        tls: None,
        path: "/".into(),
        host: None,
        status: (200, 299),
        body_contains: None,
    }
}

pub async fn run(target: SocketAddr, kind: CheckKind, timeout: Duration) -> CheckOutcome {
    nearmost_probe::run(&prober(), target, &kind, timeout).await
}

pub fn assert_pass(outcome: &CheckOutcome) {
    assert!(outcome.passed(), "{outcome:?}");
}

/// The outcome is a failure whose reason holds every one of `parts`.
pub fn assert_fail(outcome: &CheckOutcome, parts: &[&str]) {
    let CheckOutcome::Fail { reason, .. } = outcome else { panic!("passed: {outcome:?}") };
    assert!(reason.chars().count() <= MAX_REASON_CHARS, "{reason}");
    for part in parts {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
}

/// As [`assert_fail`], and something came from the service.
pub fn assert_answered(outcome: &CheckOutcome, parts: &[&str]) {
    assert_fail(outcome, parts);
    assert!(matches!(outcome, CheckOutcome::Fail { answered: true, .. }), "{outcome:?}");
}

/// As [`assert_fail`], and nothing came from the service.
pub fn assert_silence(outcome: &CheckOutcome, parts: &[&str]) {
    assert_fail(outcome, parts);
    assert!(matches!(outcome, CheckOutcome::Fail { answered: false, .. }), "{outcome:?}");
}

/// A TCP server that hands every connection to `serve`.
pub async fn tcp_server<F, Fut>(bind: &str, serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(bind).await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

/// Answers every connection with `response` once the request's headers are there, then closes.
pub async fn canned(response: &'static str) -> SocketAddr {
    tcp_server("127.0.0.1:0", move |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(response.as_bytes()).await;
    })
    .await
}

/// Accepts, reads, never answers.
pub async fn silent() -> SocketAddr {
    tcp_server("127.0.0.1:0", |mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await
}

/// A port that refuses connections, kept from others by the socket that comes with it.
pub fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let addr = socket.local_addr().expect("its address");
    (socket, addr)
}

/// Reads a request's headers.
pub async fn read_head<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(b) => head.push(b),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
