//! TLS and QUIC handshakes: names, chains, expiry, protocols, and who does not speak them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::authority::{Authority, DAY};
use common::*;
use nearmost_core::check::{CheckKind, CheckOutcome, HandshakeCheck, TlsTerms};
use nearmost_probe::Prober;
use quinn::crypto::rustls::QuicServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_rustls::TlsAcceptor;

const OFF: TlsTerms = TlsTerms { verify: false, min_days_to_expiry: None };

fn of(host: &str, alpn: &[&str]) -> HandshakeCheck {
    let alpn = alpn.iter().map(ToString::to_string).collect();
    HandshakeCheck { host: Some(host.into()), alpn, terms: TlsTerms::default() }
}

async fn check(prober: &Prober, addr: SocketAddr, kind: CheckKind) -> CheckOutcome {
    nearmost_probe::run(prober, addr, &kind, LONG).await
}

async fn tls_server(config: rustls::ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tcp_server("127.0.0.1:0", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut sink = Vec::new();
                let _ = stream.read_to_end(&mut sink).await;
            }
        }
    })
    .await
}

fn quic_server(config: rustls::ServerConfig) -> SocketAddr {
    let crypto = QuicServerConfig::try_from(config).expect("a configuration");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().expect("address")).expect("a port");
    let addr = endpoint.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_handshake_of_tls_is_judged() {
    let authority = Authority::new();
    let prober = authority.prober();
    let addr = tls_server(authority.tls("play.example", Ok(5 * DAY + DAY / 2), &["a", "b"])).await;
    let tls = |host, alpn: &[&str]| CheckKind::Tls(of(host, alpn));
    assert_pass(&check(&prober, addr, tls("play.example", &[])).await);
    assert_pass(&check(&prober, addr, tls("play.example", &["x", "b"])).await);
    let outcome = check(&prober, addr, tls("play.example", &["x"])).await;
    assert_fail(&outcome, &["expected a TLS handshake", "NoApplicationProtocol"]);
    let outcome = check(&prober, addr, tls("other.example", &[])).await;
    assert_fail(&outcome, &["not valid for name", "other.example"]);
    assert_fail(&check(&common::prober(), addr, tls("play.example", &[])).await, &["UnknownIssuer"]);
    let off = HandshakeCheck { terms: OFF, ..of("other.example", &[]) };
    assert_pass(&check(&common::prober(), addr, CheckKind::Tls(off)).await);
    let days = TlsTerms { min_days_to_expiry: Some(6), ..TlsTerms::default() };
    let soon = HandshakeCheck { terms: days, ..of("play.example", &[]) };
    assert_fail(&check(&prober, addr, CheckKind::Tls(soon)).await, &["expires in 5 days"]);
    // One that ignores what is offered.
    let addr = tls_server(authority.tls("play.example", Ok(DAY), &[])).await;
    let outcome = check(&prober, addr, tls("play.example", &["x", "y"])).await;
    assert_fail(&outcome, &["expected protocol \"x or y\" (ALPN), found none"]);
    let outcome = check(&prober, addr, tls("play.example", &[""])).await;
    assert_fail(&outcome, &["expected protocols of 1 to 255 bytes, found \"\""]);
}

#[tokio::test]
async fn what_does_not_speak_tls_is_named() {
    let prober = prober();
    let run = |addr, timeout| {
        let kind = CheckKind::Tls(of("play.example", &[]));
        let prober = &prober;
        async move { nearmost_probe::run(prober, addr, &kind, timeout).await }
    };
    assert_fail(&run(silent().await, SHORT).await, &["expected a TLS handshake", "within 200 ms"]);
    let (_held, closed) = closed_port();
    assert_fail(&run(closed, LONG).await, &["connection refused"]);
    for garbage in
        [&b"220 mail.example ESMTP\r\n"[..], &[0xff; 600], &[22, 3, 3, 0, 0], &[22, 3, 3, 0xff, 0xff]]
    {
        let addr = tcp_server("127.0.0.1:0", move |mut stream| async move {
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink).await;
        })
        .await;
        assert_answered(&run(addr, LONG).await, &["expected a TLS handshake, found"]);
    }
}

#[tokio::test]
async fn a_handshake_of_quic_is_judged() {
    let authority = Authority::new();
    let prober = authority.prober();
    let addr = quic_server(authority.tls("play.example", Ok(5 * DAY + DAY / 2), &["h3", "game"]));
    let quic = |host, alpn: &[&str]| CheckKind::Quic(of(host, alpn));
    assert_pass(&check(&prober, addr, quic("play.example", &["h3"])).await);
    assert_pass(&check(&prober, addr, quic("play.example", &["x", "game"])).await);
    let outcome = check(&prober, addr, quic("play.example", &["x"])).await;
    assert_answered(&outcome, &["expected a QUIC handshake", "NoApplicationProtocol"]);
    let outcome = check(&prober, addr, quic("other.example", &["h3"])).await;
    assert_fail(&outcome, &["expected a QUIC handshake", "not valid for name", "other.example"]);
    let outcome = check(&common::prober(), addr, quic("play.example", &["h3"])).await;
    assert_fail(&outcome, &["UnknownIssuer"]);
    let off = HandshakeCheck { terms: OFF, ..of("other.example", &["h3"]) };
    assert_pass(&check(&common::prober(), addr, CheckKind::Quic(off)).await);
    for (days, passes) in [(5, true), (6, false)] {
        let terms = TlsTerms { min_days_to_expiry: Some(days), ..TlsTerms::default() };
        let wants = HandshakeCheck { terms, ..of("play.example", &["h3"]) };
        assert_eq!(check(&prober, addr, CheckKind::Quic(wants)).await.passed(), passes);
    }
    let expired = quic_server(authority.tls("play.example", Err(DAY), &["h3"]));
    let outcome = check(&prober, expired, quic("play.example", &["h3"])).await;
    assert_answered(&outcome, &["certificate expired: ", "; it is ", "+00:00 here"]);
    // Without a host the address is the name, which this certificate does not have.
    let nameless = HandshakeCheck { host: None, ..of("", &["h3"]) };
    assert_fail(&check(&prober, addr, CheckKind::Quic(nameless)).await, &["127.0.0.1"]);
}

/// A UDP server that answers the first datagram of each check with `reply` of it.
async fn datagrams(reply: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&reply(&buffer[..n]), from).await;
        }
    });
    addr
}

#[tokio::test]
async fn what_does_not_speak_quic_is_named() {
    let run = |addr, timeout| common::run(addr, CheckKind::Quic(of("play.example", &["h3"])), timeout);
    let mute = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = mute.local_addr().expect("its address");
    assert_silence(&run(addr, SHORT).await, &["expected a QUIC handshake", "within 200 ms"]);
    // Garbage, and our own packet, are no answers; nor do they end the wait for one.
    for reply in [|_: &[u8]| vec![0xff; 100], |_: &[u8]| vec![], |q: &[u8]| q.to_vec()] {
        assert_fail(&run(datagrams(reply).await, SHORT).await, &["expected a QUIC handshake"]);
    }
    // Version negotiation (RFC 9000 section 17.2.1) with no version that we speak.
    let addr = datagrams(|initial| {
        let ids = &initial[5..];
        let (ours, rest) = ids[1..].split_at(ids[0].into());
        let theirs = &rest[1..1 + usize::from(rest[0])];
        let (len, other) = (|id: &[u8]| id.len() as u8, [0x1a, 0x2a, 0x3a, 0x4a]);
        [&[0x80, 0, 0, 0, 0, len(theirs)], theirs, &[len(ours)], ours, &other].concat()
    })
    .await;
    let outcome = tokio::time::timeout(Duration::from_secs(10), run(addr, LONG)).await.expect("at once");
    assert_answered(&outcome, &["version negotiation without version 1"]);
}
