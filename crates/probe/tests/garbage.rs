//! Whatever a service says, a check ends in time with a reason that can be shown: nothing panics.
//!
//! Each round takes a plausible answer and spoils it. The seed is printed; `NEARMOST_SEED` repeats it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::*;
use nearmost_core::check::{
    CheckKind, CheckOutcome, DnsCheck, HandshakeCheck, HttpCheck, HttpVersion, RecordType, ResponseCode,
    TalkCheck, TalkStep, TlsTerms,
};
use nearmost_probe::MAX_REASON_CHARS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

const ROUNDS: u64 = 60;
/// Nobody answers a spoilt QUIC handshake, so these run into it.
const WITHIN: Duration = Duration::from_millis(60);

fn seed() -> u64 {
    let given = std::env::var("NEARMOST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random());
    println!("NEARMOST_SEED={seed}");
    seed
}

/// An answer with bytes changed, left out and added.
fn spoilt(plausible: &[u8], dice: &mut StdRng) -> Vec<u8> {
    let mut bytes = plausible.to_vec();
    for _ in 0..dice.random_range(0..6) {
        let at = dice.random_range(0..=bytes.len());
        match dice.random_range(0..4) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = dice.random(),
            2 => drop(bytes.splice(at..at, (0..dice.random_range(0..300)).map(|_| 0xff))),
            _ => bytes.insert(at, dice.random()),
        }
    }
    bytes
}

/// The beginning of what services of each kind say.
fn plausible_stream(dice: &mut StdRng) -> Vec<u8> {
    let all: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        // HTTP/2: SETTINGS, its acknowledgement, HEADERS with :status 200, empty DATA.
        b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\0\0\x01\0\0\0\x01",
        // A TLS alert, and a ServerHello that is cut.
        b"\x15\x03\x03\0\x02\x02\x28",
        b"\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\x13\x01\0",
        b"220 ready\r\n250 hello\r\n",
    ];
    all[dice.random_range(0..all.len())].to_vec()
}

fn unverified() -> HandshakeCheck {
    let terms = TlsTerms { verify: false, ..TlsTerms::default() };
    HandshakeCheck { host: None, alpn: vec!["h3".into()], terms }
}

fn over_streams() -> Vec<CheckKind> {
    let step = TalkStep { send: b"EHLO\r\n".to_vec(), expect: b"250".to_vec() };
    vec![
        CheckKind::Tls(unverified()),
        CheckKind::Http(HttpCheck { body_contains: Some("hello".into()), ..http() }),
        CheckKind::Http(HttpCheck { version: HttpVersion::Http2, ..http() }),
        CheckKind::Http(HttpCheck { tls: Some(unverified().terms), ..http() }),
        CheckKind::Talk(TalkCheck { tls: None, steps: vec![step] }),
    ]
}

fn over_datagrams() -> Vec<CheckKind> {
    let dns = DnsCheck {
        name: "a.example".into(),
        record_type: RecordType::A,
        rcode: ResponseCode(0),
        answer: Some("192.0.2.1".into()),
    };
    vec![
        CheckKind::Udp { send: b"ping".to_vec(), expect: b"pong".to_vec() },
        CheckKind::Dns(dns),
        CheckKind::Quic(unverified()),
    ]
}

fn presentable(kind: &CheckKind, outcome: &CheckOutcome) {
    // What was spoilt may still be good by chance.
    let CheckOutcome::Fail { reason, .. } = outcome else { return };
    let shown = !reason.is_empty() && reason.chars().count() <= MAX_REASON_CHARS;
    assert!(shown && !reason.chars().any(char::is_control), "{kind:?}: {reason:?}");
}

/// Says what it is told to and closes.
async fn stream_server(answers: Vec<Vec<u8>>) -> SocketAddr {
    let answers = std::sync::Arc::new(std::sync::Mutex::new(answers));
    tcp_server("127.0.0.1:0", move |mut stream| {
        let answer = answers.lock().expect("nobody panics").pop().unwrap_or_default();
        async move {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            for part in answer.chunks(37) {
                if stream.write_all(part).await.is_err() {
                    return;
                }
            }
            let _ = stream.shutdown().await;
        }
    })
    .await
}

#[tokio::test]
async fn no_stream_of_bytes_makes_a_check_panic_or_hang() {
    let mut dice = StdRng::seed_from_u64(seed());
    let kinds = over_streams();
    let answers = (0..ROUNDS).map(|_| plausible_stream(&mut dice));
    let answers: Vec<Vec<u8>> = answers.collect::<Vec<_>>().iter().map(|a| spoilt(a, &mut dice)).collect();
    let mut failed = 0;
    for kind in &kinds {
        let server = stream_server(answers.clone()).await;
        for _ in 0..ROUNDS {
            let outcome = tokio::time::timeout(LONG, run(server, kind.clone(), LONG / 2)).await;
            let outcome = outcome.expect("it ends");
            presentable(kind, &outcome);
            failed += u64::from(!outcome.passed());
        }
    }
    assert!(failed >= ROUNDS, "spoilt answers were taken for good ones: only {failed} failed");
}

/// Answers every datagram with itself as an answer, spoilt.
async fn datagram_server(mut dice: StdRng) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut asked = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut asked).await {
            let mut answer = asked[..n].to_vec();
            if let Some(flags) = answer.get_mut(2) {
                *flags |= 0x80;
            }
            let _ = socket.send_to(&spoilt(&answer, &mut dice), from).await;
        }
    });
    addr
}

#[tokio::test]
async fn no_datagram_makes_a_check_panic_or_hang() {
    let seed = seed();
    for kind in &over_datagrams() {
        let server = datagram_server(StdRng::seed_from_u64(seed)).await;
        for _ in 0..ROUNDS {
            let outcome =
                tokio::time::timeout(LONG, run(server, kind.clone(), WITHIN)).await.expect("it ends");
            presentable(kind, &outcome);
            assert!(!outcome.passed(), "{kind:?}: an echo is no good answer");
        }
    }
}
