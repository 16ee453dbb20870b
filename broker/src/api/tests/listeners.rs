//! Real sockets.

use super::*;
use crate::tls_files::testing::write_certificate;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nearmost_wire::api::InviteRequest;
use rustls_pki_types::ServerName;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn listeners(dir: &Path) -> Listeners {
    Listeners {
        http: vec![loopback()],
        redirect: vec![loopback()],
        tls: None,
        socket: Some(dir.join("admin.sock")),
        max_connections: 16,
    }
}

struct Running {
    http: SocketAddr,
    redirect: SocketAddr,
    control: ApiControl,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    api: TestApi,
}

impl Running {
    async fn start(listeners: &Listeners) -> Running {
        let api = Fixture::five_mirrors().api(settings()).await;
        let server = ApiServer::bind(listeners, api.state.clone()).await.unwrap();
        let (http, redirect) = (server.local_addrs()[0], server.redirect_addrs()[0]);
        let (control, cancel) = (server.control(), CancellationToken::new());
        let task = tokio::spawn(server.run(cancel.clone()));
        Running { http, redirect, control, cancel, task, api }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<String>,
) -> (u16, String) {
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = send.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn get(path: &str) -> Request<String> {
    Request::get(path).header("host", "localhost").body(String::new()).unwrap()
}

fn invite() -> Request<String> {
    let body = serde_json::to_string(&InviteRequest { domains: Vec::new(), name: None, ttl_s: 60 }).unwrap();
    Request::post("/v1/invites")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn tls_client(certificate: &rcgen::Certificate, alpn: &[u8]) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config).into()
}

async fn tls(
    addr: SocketAddr,
    certificate: &rcgen::Certificate,
    alpn: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    tls_client(certificate, alpn).connect(name, TcpStream::connect(addr).await?).await
}

#[tokio::test]
async fn each_listener_serves_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&listeners(dir.path())).await;
    let http = || TcpStream::connect(running.http);
    assert_eq!(exchange(http().await.unwrap(), get("/v1/fleet")).await.0, 200);
    assert_eq!(exchange(http().await.unwrap(), invite()).await.0, 401);
    let redirect = TcpStream::connect(running.redirect).await.unwrap();
    assert_eq!(exchange(redirect, get("/v1/fleet")).await.0, 404);
    let socket = dir.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, said) = exchange(UnixStream::connect(&socket).await.unwrap(), invite()).await;
    assert_ne!((status, said.contains("credentials_missing")), (401, true), "{said}");
    running.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_taken_port_names_who_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&listeners(dir.path())).await;
    let other = tempfile::tempdir().unwrap();
    let api = Fixture::five_mirrors().api(settings()).await;
    let taken = Listeners { http: vec![running.http], ..listeners(other.path()) };
    let error = ApiServer::bind(&taken, api.state.clone()).await.err().unwrap();
    assert_eq!(error.to_string(), format!("port in use: HTTP API asked for {}", running.http));
    let open = Listeners { http: vec![([0, 0, 0, 0], 0).into()], ..listeners(other.path()) };
    let error = ApiServer::bind(&open, api.state.clone()).await.err().unwrap();
    assert!(matches!(error, ApiError::TlsRequired(_)), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn the_socket_of_a_dead_broker_is_replaced_and_that_of_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    // A listener that is dropped leaves its file, as a killed broker does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = Running::start(&listeners(dir.path())).await;
    assert_eq!(exchange(UnixStream::connect(&path).await.unwrap(), get("/healthz")).await.0, 200);
    let api = &running.api.state;
    let only_socket = Listeners { http: Vec::new(), redirect: Vec::new(), ..listeners(dir.path()) };
    let error = ApiServer::bind(&only_socket, api.clone()).await.err().unwrap();
    assert!(matches!(error, ApiError::SocketInUse(_)), "{error}");
    let file = Listeners { socket: Some(dir.path().join("file")), ..only_socket };
    std::fs::write(dir.path().join("file"), "precious").unwrap();
    let error = ApiServer::bind(&file, api.clone()).await.err().unwrap();
    assert!(matches!(error, ApiError::NotASocket(_)), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
    running.stop().await;
}

#[tokio::test]
async fn https_speaks_both_versions_and_takes_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (files, first) = write_certificate(dir.path());
    let running = Running::start(&Listeners { tls: Some(files), ..listeners(dir.path()) }).await;
    let stream = tls(running.http, &first, b"http/1.1").await.unwrap();
    assert_eq!(exchange(stream, get("/healthz")).await.0, 200);

    let stream = tls(running.http, &first, b"h2").await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let client = tokio::spawn(connection);
    let request = Request::get("https://localhost/readyz").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(send.send_request(request).await.unwrap().status(), 200);
    drop(send);
    client.await.unwrap().unwrap();

    let (_, second) = write_certificate(dir.path());
    let config = nearmost_config::BrokerConfig::default().http;
    running.control.reload(&config).unwrap();
    assert!(tls(running.http, &first, b"http/1.1").await.is_err());
    assert_eq!(
        exchange(tls(running.http, &second, b"http/1.1").await.unwrap(), get("/healthz")).await.0,
        200
    );
    std::fs::write(dir.path().join("cert.pem"), "").unwrap();
    assert!(running.control.reload(&config).unwrap_err().to_string().contains("cert.pem"));
    assert!(tls(running.http, &second, b"http/1.1").await.is_ok());
    running.stop().await;
}

#[tokio::test]
async fn junk_on_any_port_leaves_the_api_serving() {
    let dir = tempfile::tempdir().unwrap();
    let (files, certificate) = write_certificate(dir.path());
    let running = Running::start(&Listeners { tls: Some(files), ..listeners(dir.path()) }).await;
    let junk: [&[u8]; 5] = [
        b"",
        b"\x00\x01\x02\x03",
        b"GET / HTTP/1.1\r\nbroken\r\n\r\n",
        &[0xff; 5000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for addr in [running.http, running.redirect] {
        for bytes in junk {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            // The other side may close while this is written.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    let stream = tls(running.http, &certificate, b"http/1.1").await.unwrap();
    assert_eq!(exchange(stream, get("/healthz")).await.0, 200);
    let redirect = TcpStream::connect(running.redirect).await.unwrap();
    assert_eq!(exchange(redirect, get("/healthz")).await.0, 200);
    running.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&Listeners { max_connections: 1, ..listeners(dir.path()) }).await;
    let held = TcpStream::connect(running.http).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(held)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(send.send_request(get("/healthz")).await.unwrap().status(), 200);
    let mut second = TcpStream::connect(running.http).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let refused = running.api.state.metrics.refused.with_label_values(&["limit"]).get();
    assert_eq!(refused, 1);
    let socket = UnixStream::connect(dir.path().join("admin.sock")).await.unwrap();
    assert_eq!(exchange(socket, get("/healthz")).await.0, 200, "the admin socket has its own places");
    running.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&listeners(dir.path())).await;
    let stream = TcpStream::connect(running.http).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = send.send_request(get("/v1/events")).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = tokio::spawn(response.into_body().collect());
    running.stop().await;
    assert!(body.await.unwrap().is_ok(), "the stream ended in order");
}
