//! Send and expect over TCP and TLS.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::authority::{Authority, DAY};
use common::*;
use nearmost_core::check::{CheckKind, HandshakeCheck, TalkCheck, TalkStep, TlsTerms};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

fn steps(steps: &[(&str, &str)]) -> TalkCheck {
    let step = |(send, expect): &(&str, &str)| TalkStep {
        send: send.as_bytes().to_vec(),
        expect: expect.as_bytes().to_vec(),
    };
    TalkCheck { tls: None, steps: steps.iter().map(step).collect() }
}

fn talk(of: &[(&str, &str)]) -> CheckKind {
    CheckKind::Talk(steps(of))
}

/// A little mail server.
async fn mail(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = BufReader::new(stream);
    let _ = stream.write_all(b"220 mail250.example ESMTP\r\n").await;
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        let reply: &[u8] = match line.trim_end() {
            "QUIT" => b"221 bye\r\n",
            hello if hello.starts_with("EHLO ") => b"250-mail.example\r\n250 SIZE\r\n",
            _ => b"500 what?\r\n",
        };
        let _ = stream.write_all(reply).await;
        let _ = stream.flush().await;
        if reply.starts_with(b"221") {
            return;
        }
        line.clear();
    }
}

#[tokio::test]
async fn a_conversation_goes_step_by_step() {
    let addr = tcp_server("127.0.0.1:0", mail).await;
    let good = [("", "220 "), ("EHLO check.example\r\n", "250 "), ("QUIT\r\n", "221")];
    assert_pass(&run(addr, talk(&good), LONG).await);
    let outcome = run(addr, talk(&[("", "220 "), ("HELP\r\n", "214")]), SHORT).await;
    assert_answered(&outcome, &["step 2: expected \"214\"", "500 what?"]);
    // All that was said was right, and what comes next may be under way.
    let outcome = run(addr, talk(&[("", "220 mail250.example ESMTP\r\n"), ("", "250 ")]), SHORT).await;
    assert_silence(&outcome, &["step 2: expected \"250 \"", "within 200 ms"]);
    assert_silence(&run(silent().await, talk(&[("", "220 ")]), SHORT).await, &["within 200 ms"]);
    let outcome = run(addr, talk(&[("QUIT\r\n", "226")]), LONG).await;
    assert_answered(&outcome, &["expected \"226\"", "221 bye", "and the end"]);
    // What an earlier step found is not found again.
    let outcome = run(addr, talk(&[("", "220"), ("QUIT\r\n", "220")]), LONG).await;
    assert_fail(&outcome, &["step 2: expected \"220\""]);
    // A step may only send, or only expect.
    assert_pass(&run(addr, talk(&[("QUIT\r\n", ""), ("", "221")]), LONG).await);
    assert_silence(&run(addr, talk(&[]), LONG).await, &["expected 1 to 16 steps, found 0"]);
}

#[tokio::test]
async fn the_same_goes_over_tls() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(Arc::new(authority.tls("mail.example", Ok(DAY), &[])));
    let addr = tcp_server("127.0.0.1:0", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                mail(stream).await;
            }
        }
    })
    .await;
    let over = |host: &str| {
        let terms = TlsTerms::default();
        let tls = Some(HandshakeCheck { host: Some(host.into()), alpn: vec![], terms });
        CheckKind::Talk(TalkCheck { tls, ..steps(&[("", "220 "), ("QUIT\r\n", "221")]) })
    };
    let prober = authority.prober();
    assert_pass(&nearmost_probe::run(&prober, addr, &over("mail.example"), LONG).await);
    let outcome = nearmost_probe::run(&prober, addr, &over("other.example"), LONG).await;
    assert_fail(&outcome, &["expected a TLS handshake", "not valid for name"]);
}

#[tokio::test]
async fn binary_answers_in_pieces_are_found() {
    let addr = tcp_server("127.0.0.1:0", |mut stream| async move {
        stream.set_nodelay(true).expect("no delay");
        let mut ask = [0; 3];
        stream.read_exact(&mut ask).await.expect("asked");
        assert_eq!(ask, [0, 0xff, 7]);
        for byte in [9, 0, 0, 0xfe, 1] {
            let _ = stream.write_all(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let _ = stream.read_u8().await;
    })
    .await;
    let step = TalkStep { send: vec![0, 0xff, 7], expect: vec![0, 0xfe] };
    assert_pass(&run(addr, CheckKind::Talk(TalkCheck { tls: None, steps: vec![step] }), LONG).await);
}

/// Says `bytes` over and over for as long as it is listened to.
async fn endless(bytes: &'static [u8]) -> SocketAddr {
    tcp_server("127.0.0.1:0", move |mut stream| async move { while stream.write_all(bytes).await.is_ok() {} })
        .await
}

#[tokio::test]
async fn silence_garbage_and_ends_are_named_and_bounded() {
    let expects = || talk(&[("PING\r\n", "+PONG")]);
    assert_fail(&run(silent().await, expects(), SHORT).await, &["expected \"+PONG\"", "none within 200 ms"]);
    let outcome = run(endless(b"\xff\x00+PON\x1b").await, expects(), LONG).await;
    assert_fail(&outcome, &["expected \"+PONG\", found none in the first 65536 bytes"]);
    let (_held, closed) = closed_port();
    assert_fail(&run(closed, expects(), LONG).await, &["connection refused"]);
    let gone = tcp_server("127.0.0.1:0", |stream| async move { drop(stream) }).await;
    assert_fail(&run(gone, expects(), LONG).await, &["expected \"+PONG\", found nothing and"]);
    // One that never reads what it is sent, nor closes.
    let deaf = tcp_server("127.0.0.1:0", |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_fail(&run(deaf, expects(), SHORT).await, &["expected \"+PONG\"", "within 200 ms"]);
}
