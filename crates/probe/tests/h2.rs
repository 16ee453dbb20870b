//! HTTP/2 checks: by ALPN over TLS, and by prior knowledge.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::authority::{Authority, DAY};
use common::*;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nearmost_core::check::{CheckKind, HttpCheck, HttpVersion, TlsTerms};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

fn h2() -> HttpCheck {
    HttpCheck { version: HttpVersion::Http2, ..http() }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.uri().path() {
        "/big" => "x".repeat(200_000) + "needle",
        _ => format!("{:?} {}", request.version(), request.uri()),
    };
    let mut response = Response::new(Full::from(body));
    if request.uri().path() == "/error" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn tls_server(authority: &Authority, alpn: &[&str]) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(authority.tls("play.example", Ok(DAY), alpn)));
    tcp_server("127.0.0.1:0", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn by_prior_knowledge_status_and_body_are_judged() {
    let addr = tcp_server("127.0.0.1:0", serve).await;
    let wants = |path: &str, text: &str| {
        CheckKind::Http(HttpCheck { path: path.into(), body_contains: Some(text.into()), ..h2() })
    };
    assert_pass(&run(addr, CheckKind::Http(h2()), LONG).await);
    assert_pass(&run(addr, wants("/a?b", &format!("HTTP/2.0 http://{addr}/a?b")), LONG).await);
    assert_fail(&run(addr, wants("/a", "fine"), LONG).await, &["expected \"fine\" in the body"]);
    assert_fail(&run(addr, wants("/error", "x"), LONG).await, &["expected status 200 to 299, found 503"]);
    assert_fail(&run(addr, wants("/big", "needle"), LONG).await, &["\"needle\"", "65536 bytes"]);
}

#[tokio::test]
async fn over_tls_the_service_must_choose_it() {
    let authority = Authority::new();
    let prober = authority.prober();
    let check = HttpCheck {
        tls: Some(TlsTerms::default()),
        host: Some("play.example".into()),
        body_contains: Some("HTTP/2.0 https://play.example/".into()),
        ..h2()
    };
    let kind = CheckKind::Http(check);
    let both = tls_server(&authority, &["http/1.1", "h2"]).await;
    assert_pass(&nearmost_probe::run(&prober, both, &kind, LONG).await);
    let none = tls_server(&authority, &[]).await;
    let outcome = nearmost_probe::run(&prober, none, &kind, LONG).await;
    assert_fail(&outcome, &["expected protocol \"h2\" (ALPN), found none"]);
    let old = tls_server(&authority, &["http/1.1"]).await;
    let outcome = nearmost_probe::run(&prober, old, &kind, LONG).await;
    assert_fail(&outcome, &["expected a TLS handshake", "NoApplicationProtocol"]);
}

#[tokio::test]
async fn what_is_not_http2_is_named_and_bounded() {
    let kind = || CheckKind::Http(h2());
    assert_fail(&run(silent().await, kind(), SHORT).await, &["expected an HTTP response", "within 200 ms"]);
    let (_held, closed) = closed_port();
    assert_fail(&run(closed, kind(), LONG).await, &["connection refused"]);
    // HTTP/1.1, nothing, frames without sense, settings and then nothing.
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let huge: &[u8] = &[0xff; 9];
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", huge, settings, goaway] {
        let addr = tcp_server("127.0.0.1:0", move |mut stream| async move {
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink).await;
        })
        .await;
        assert_fail(&run(addr, kind(), LONG).await, &["HTTP failed"]);
    }
}
