//! HTTPS checks: names, chains and expiry, with an authority made for the test.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::authority::{Authority, DAY};
use common::*;
use nearmost_core::check::{CheckKind, CheckOutcome, HttpCheck, TlsTerms};
use nearmost_probe::Prober;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

/// Nothing is verified.
const OFF: TlsTerms = TlsTerms { verify: false, min_days_to_expiry: None };

/// A server that tells what it was asked, with a certificate that ends so long after (or before) now.
async fn server(authority: &Authority, name: &str, ends: Result<Duration, Duration>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(authority.tls(name, ends, &[])));
    tcp_server("127.0.0.1:0", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let head = read_head(&mut stream).await;
            let name = stream.get_ref().1.server_name().unwrap_or("none").to_string();
            let response = format!("HTTP/1.1 200 OK\r\n\r\nsni {name}\n{head}");
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn https(host: &str) -> HttpCheck {
    HttpCheck { tls: Some(TlsTerms::default()), host: Some(host.into()), ..http() }
}

async fn check(prober: &Prober, addr: SocketAddr, check: HttpCheck) -> CheckOutcome {
    nearmost_probe::run(prober, addr, &CheckKind::Http(check), LONG).await
}

#[tokio::test]
async fn a_trusted_certificate_of_the_right_name_passes() {
    let authority = Authority::new();
    let addr = server(&authority, "play.example", Ok(30 * DAY)).await;
    let prober = authority.prober();
    let sees = |text: &str| HttpCheck { body_contains: Some(text.into()), ..https("play.example") };
    assert_pass(&check(&prober, addr, sees("sni play.example")).await);
    assert_pass(&check(&prober, addr, sees("host: play.example")).await);
}

#[tokio::test]
async fn a_wrong_name_or_an_unknown_authority_is_refused_unless_verification_is_off() {
    let authority = Authority::new();
    let addr = server(&authority, "play.example", Ok(30 * DAY)).await;
    let outcome = check(&authority.prober(), addr, https("other.example")).await;
    assert_fail(&outcome, &["expected a TLS handshake", "not valid for name", "other.example"]);
    let stranger = prober();
    let outcome = check(&stranger, addr, https("play.example")).await;
    assert_fail(&outcome, &["expected a TLS handshake", "UnknownIssuer"]);
    let off = HttpCheck { tls: Some(OFF), ..https("other.example") };
    assert_pass(&check(&stranger, addr, off).await);
    // Without a host the address is the name, which this certificate does not have.
    let outcome =
        check(&authority.prober(), addr, HttpCheck { tls: Some(TlsTerms::default()), ..http() }).await;
    assert_fail(&outcome, &["expected a TLS handshake", "127.0.0.1"]);
}

#[tokio::test]
async fn expiry_is_judged_with_and_without_verification() {
    let authority = Authority::new();
    let prober = authority.prober();
    let soon = server(&authority, "play.example", Ok(5 * DAY + DAY / 2)).await;
    for verify in [true, false] {
        let wants = |days| HttpCheck {
            tls: Some(TlsTerms { verify, min_days_to_expiry: Some(days) }),
            ..https("play.example")
        };
        assert_pass(&check(&prober, soon, wants(5)).await);
        let outcome = check(&prober, soon, wants(6)).await;
        assert_fail(&outcome, &["good for 6 days", "expires in 5 days"]);
    }
    let expired = server(&authority, "play.example", Err(3 * DAY + DAY / 2)).await;
    let outcome = check(&prober, expired, https("play.example")).await;
    assert_answered(
        &outcome,
        &["expected a TLS handshake", "expired", "seconds ago); it is ", "+00:00 here"],
    );
    let off = HttpCheck { tls: Some(OFF), ..https("play.example") };
    assert_pass(&check(&prober, expired, off.clone()).await);
    let outcome = check(
        &prober,
        expired,
        HttpCheck { tls: Some(TlsTerms { min_days_to_expiry: Some(0), ..OFF }), ..off },
    )
    .await;
    assert_answered(&outcome, &["good for 0 days", "expired 3 days ago; it is ", "+00:00 here"]);
}

#[tokio::test]
async fn what_is_not_tls_is_named_and_a_silent_server_is_bounded() {
    let plain = canned("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let prober = prober();
    // The server waits for the end of headers that never come: bounded by the timeout.
    let kind = CheckKind::Http(https("play.example"));
    let outcome = nearmost_probe::run(&prober, plain, &kind, SHORT).await;
    assert_fail(&outcome, &["expected a TLS handshake", "within 200 ms"]);
    let chatty = tcp_server("127.0.0.1:0", |mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        read_head(&mut stream).await;
    })
    .await;
    assert_fail(&check(&prober, chatty, https("play.example")).await, &["expected a TLS handshake"]);
}
