//! HTTPS checks: names, chains and expiry, with an authority made for the test.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::*;
use nearmost_core::check::{CheckKind, CheckOutcome, HttpCheck};
use nearmost_probe::{Prober, ProberOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

const DAY: Duration = Duration::from_secs(86_400);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    fn prober(&self) -> Prober {
        let extra_roots = vec![self.0.der().clone()];
        Prober::new(ProberOptions { extra_roots, max_commands: 0 }).expect("a prober")
    }

    /// A server with a certificate for `name` that ends so long after (or before) now.
    async fn server(&self, name: &str, ends: Result<Duration, Duration>) -> SocketAddr {
        let now = date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed().expect("a clock");
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
        params.not_before = now - 100 * DAY;
        params.not_after = match ends {
            Ok(ahead) => now + ahead,
            Err(ago) => now - ago,
        };
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        serve(cert.der().clone(), key).await
    }
}

async fn serve(cert: CertificateDer<'static>, key: KeyPair) -> SocketAddr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
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
    HttpCheck { tls: true, host: Some(host.into()), ..http() }
}

async fn check(prober: &Prober, addr: SocketAddr, check: HttpCheck) -> CheckOutcome {
    nearmost_probe::run(prober, addr, &CheckKind::Http(check), LONG).await
}

#[tokio::test]
async fn a_trusted_certificate_of_the_right_name_passes() {
    let authority = Authority::new();
    let addr = authority.server("play.example", Ok(30 * DAY)).await;
    let prober = authority.prober();
    let sees = |text: &str| HttpCheck { body_contains: Some(text.into()), ..https("play.example") };
    assert_pass(&check(&prober, addr, sees("sni play.example")).await);
    assert_pass(&check(&prober, addr, sees("host: play.example")).await);
}

#[tokio::test]
async fn a_wrong_name_or_an_unknown_authority_is_refused_unless_verification_is_off() {
    let authority = Authority::new();
    let addr = authority.server("play.example", Ok(30 * DAY)).await;
    let outcome = check(&authority.prober(), addr, https("other.example")).await;
    assert_fail(&outcome, &["expected a TLS handshake", "not valid for name", "other.example"]);
    let stranger = prober();
    let outcome = check(&stranger, addr, https("play.example")).await;
    assert_fail(&outcome, &["expected a TLS handshake", "UnknownIssuer"]);
    let off = HttpCheck { verify: false, ..https("other.example") };
    assert_pass(&check(&stranger, addr, off).await);
    // Without a host the address is the name, which this certificate does not have.
    let outcome = check(&authority.prober(), addr, HttpCheck { tls: true, ..http() }).await;
    assert_fail(&outcome, &["expected a TLS handshake", "127.0.0.1"]);
}

#[tokio::test]
async fn expiry_is_judged_with_and_without_verification() {
    let authority = Authority::new();
    let prober = authority.prober();
    let soon = authority.server("play.example", Ok(5 * DAY + DAY / 2)).await;
    for verify in [true, false] {
        let wants = |days| HttpCheck { verify, min_days_to_expiry: Some(days), ..https("play.example") };
        assert_pass(&check(&prober, soon, wants(5)).await);
        let outcome = check(&prober, soon, wants(6)).await;
        assert_fail(&outcome, &["good for 6 days", "expires in 5 days"]);
    }
    let expired = authority.server("play.example", Err(3 * DAY + DAY / 2)).await;
    let outcome = check(&prober, expired, https("play.example")).await;
    assert_fail(&outcome, &["expected a TLS handshake", "expired"]);
    let off = HttpCheck { verify: false, ..https("play.example") };
    assert_pass(&check(&prober, expired, off.clone()).await);
    let outcome = check(&prober, expired, HttpCheck { min_days_to_expiry: Some(0), ..off }).await;
    assert_fail(&outcome, &["good for 0 days", "expired 3 days ago"]);
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
