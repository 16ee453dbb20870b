//! HTTPS: an own certificate authority is trusted only when it is named.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use nearmost_client::{Auth, Client, ClientError, Endpoint};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Serves one JSON answer to each TLS connection.
async fn serve(answer: &'static str) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn a_named_authority_is_trusted_and_no_other() {
    let (port, pem) = serve(r#"{"code":"unknown_domain","message":"no such domain"}"#).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let endpoint: Endpoint = format!("https://localhost:{port}").parse().unwrap();

    let stranger = Client::new(endpoint.clone(), Auth::None).resolve("a.example", None).await.unwrap_err();
    assert!(matches!(stranger, ClientError::Tls { .. }), "{stranger}");
    let trusted = Client::new(endpoint.clone().with_ca_file(Some(ca.clone())), Auth::None);
    let answer = trusted.resolve("a.example", None).await.unwrap_err();
    assert!(answer.has_code("unknown_domain"), "{answer}");

    std::fs::write(&ca, "no certificate").unwrap();
    let error = trusted.resolve("a.example", None).await.unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("holds no certificate"), "{error}");
}
