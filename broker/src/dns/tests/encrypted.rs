//! DNS over TLS and over QUIC: the same answers, limits of their own, and certificates that change.

use super::*;
use crate::dns::encrypted::{EncryptedServer, EncryptedSettings};
use crate::tls_files::testing::write_certificate;
use hickory_proto::rr::rdata::opt::EdnsOption;
use nearmost_config::TlsFiles;
use nearmost_wire::identity::{KeyPair, Role};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ApplicationClose, ConnectionError, VarInt};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server with both transports, and what its clients trust.
struct Encrypted {
    running: Running,
    dot: SocketAddr,
    doq: Vec<SocketAddr>,
    certificate: Arc<crate::dns::certificate::Certificate>,
    files: TlsFiles,
    trusted: CertificateDer<'static>,
    _dir: tempfile::TempDir,
}

fn limits() -> EncryptedSettings {
    EncryptedSettings {
        files: TlsFiles { cert: "".into(), key: "".into() },
        dot: vec!["127.0.0.1:0".parse().unwrap()],
        doq: vec!["127.0.0.1:0".parse().unwrap()],
        limits: TcpLimits::default(),
        handshake_timeout: PATIENCE,
        max_streams: 8,
    }
}

fn start_encrypted(settings: EncryptedSettings) -> Encrypted {
    let dir = tempfile::tempdir().unwrap();
    let (files, made) = write_certificate(dir.path());
    let plain =
        DnsSettings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..DnsSettings::default() };
    let (server, snapshots, metrics, registry, nonces) = server(plain).unwrap();
    let key = KeyPair::from_seed(Role::Broker, &[1; 32]);
    let settings = EncryptedSettings { files: files.clone(), ..settings };
    let encrypted = EncryptedServer::bind(settings, &key, metrics.encrypted.certificate.clone()).unwrap();
    let (dot, doq, certificate) = (encrypted.dot_addrs(), encrypted.doq_addrs(), encrypted.certificate());
    let server = server.with(encrypted);
    let (address, cancel) = (server.local_addrs()[0], CancellationToken::new());
    let task = tokio::spawn(server.run(cancel.clone()));
    let running = Running { address, snapshots, metrics, registry, nonces, cancel, task };
    let trusted = made.der().clone();
    Encrypted { running, dot: dot[0], doq, certificate, files, trusted, _dir: dir }
}

impl Encrypted {
    fn trusting(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        config
    }

    async fn tls_with(&self, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.dot).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(self.trusting(alpn))).connect(name, stream).await
    }

    async fn tls(&self) -> TlsStream<TcpStream> {
        self.tls_with(&[]).await.unwrap()
    }

    async fn quic_to(&self, server: SocketAddr) -> Result<Quic, ConnectionError> {
        let local: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
        let mut endpoint = quinn::Endpoint::client(local).unwrap();
        let crypto = QuicClientConfig::try_from(self.trusting(&[b"doq"])).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(server, "localhost").unwrap().await?;
        Ok(Quic { connection, _endpoint: endpoint })
    }

    async fn quic(&self) -> Quic {
        self.quic_to(self.doq[0]).await.unwrap()
    }
}

/// A client's QUIC connection.
struct Quic {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Quic {
    /// Sends bytes on a stream of their own and reads what comes.
    async fn exchange(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(|e| e.to_string())?;
        send.write_all(bytes).await.map_err(|e| e.to_string())?;
        send.finish().map_err(|e| e.to_string())?;
        receive.read_to_end(70_000).await.map_err(|e| e.to_string())
    }

    async fn ask(&self, qtype: RecordType) -> Message {
        let reply = self.exchange(&framed(&query(0, NAME, qtype))).await.unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([reply[0], reply[1]])), reply.len() - 2);
        Message::from_vec(&reply[2..]).unwrap()
    }

    /// The code it was closed with.
    async fn closed(&self) -> u64 {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("closes") {
            ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. }) => {
                error_code.into_inner()
            }
            other => panic!("{other}"),
        }
    }
}

async fn tls_reply(stream: &mut TlsStream<TcpStream>) -> Message {
    let length = stream.read_u16().await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// Reads to the end, which must be said (RFC 8446 §6.1), not only happen.
async fn tls_closed(stream: &mut TlsStream<TcpStream>) -> usize {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closes").unwrap();
    rest.len()
}

#[tokio::test]
async fn answers_over_tls_are_pipelined_and_counted() {
    let server = start_encrypted(limits());
    let mut stream = server.tls().await;
    let all: Vec<u8> = (0..50).flat_map(|id| framed(&query(id, NAME, RecordType::TXT))).collect();
    stream.write_all(&all).await.unwrap();
    for id in 0..50 {
        let reply = tls_reply(&mut stream).await;
        assert_eq!((reply.metadata.id, reply.answers.len()), (id, 10));
    }
    let running = &server.running;
    assert_eq!(running.count("nearmost_dns_queries_total", &["tls", "txt", "noerror"]), 50.0);
    assert_eq!(running.metrics.connections.tls.open.get(), 1);
    server.running.cancel.cancel();
    assert_eq!(tls_closed(&mut stream).await, 0);
    server.running.stop().await;
}

#[tokio::test]
async fn a_tls_client_may_name_dot_or_nothing() {
    let server = start_encrypted(limits());
    let named = server.tls_with(&[b"dot"]).await.unwrap();
    assert_eq!(named.get_ref().1.alpn_protocol(), Some(&b"dot"[..]));
    assert!(server.tls_with(&[b"h2"]).await.is_err());
    // What is no TLS at all.
    let mut plain = TcpStream::connect(server.dot).await.unwrap();
    tcp_send(&mut plain, &query(1, NAME, RecordType::A)).await;
    closed(&mut plain).await;
    assert_eq!(server.running.count("nearmost_dns_handshakes_failed_total", &["tls", "error"]), 2.0);
    drop(named);
    server.running.stop().await;
}

#[tokio::test]
async fn whoever_does_not_shake_hands_is_dropped() {
    let settings = EncryptedSettings { handshake_timeout: Duration::from_millis(50), ..limits() };
    let server = start_encrypted(settings);
    let mut silent = TcpStream::connect(server.dot).await.unwrap();
    assert_eq!(closed(&mut silent).await, 0);
    assert_eq!(server.running.count("nearmost_dns_handshakes_failed_total", &["tls", "timeout"]), 1.0);
    server.running.stop().await;
}

#[tokio::test]
async fn idle_tls_connections_are_closed_with_a_goodbye() {
    let idle = TcpLimits { idle_timeout: Duration::from_millis(50), ..TcpLimits::default() };
    let server = start_encrypted(EncryptedSettings { limits: idle, ..limits() });
    assert_eq!(tls_closed(&mut server.tls().await).await, 0);
    assert_eq!(server.running.metrics.connections.tls.timeouts.get(), 1);
    let quic = server.quic().await;
    assert_eq!(quic.closed().await, 0);
    assert_eq!(server.running.metrics.connections.quic.timeouts.get(), 1);
    server.running.stop().await;
}

#[tokio::test]
async fn one_source_cannot_hold_all_encrypted_connections() {
    let few = TcpLimits { max_per_source: 1, max_connections: 5, ..TcpLimits::default() };
    let server = start_encrypted(EncryptedSettings { limits: few, ..limits() });
    let held = server.tls().await;
    assert!(server.tls_with(&[]).await.is_err());
    // Each transport has its own places.
    let quic = server.quic().await;
    quic.ask(RecordType::A).await;
    match server.quic_to(server.doq[0]).await {
        Err(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("{:?}", other.err()),
    }
    for transport in ["tls", "quic"] {
        let refused = "nearmost_dns_connections_refused_total";
        assert_eq!(server.running.count(refused, &[transport, "source"]), 1.0, "{transport}");
    }
    drop((held, quic));
    server.running.stop().await;
}

#[test]
fn a_gate_is_crowded_when_half_of_it_is_taken() {
    let limits = TcpLimits { max_per_source: 4, max_connections: 6, ..TcpLimits::default() };
    let gate = Arc::new(gate::Gate::new(limits.into()));
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let first = gate.enter(one).unwrap();
    assert!(!gate.crowded(one));
    let second = gate.enter(one).unwrap();
    assert!(gate.crowded(one) && !gate.crowded(other));
    let third = gate.enter(other).unwrap();
    assert!(gate.crowded("192.0.2.3".parse().unwrap()), "half of all");
    drop((first, second, third));
    assert!(!gate.crowded(one));
}

#[tokio::test]
async fn a_changed_certificate_is_given_to_new_connections_and_a_broken_one_is_not() {
    let mut server = start_encrypted(limits());
    let (old_tls, old_quic) = (server.tls().await, server.quic().await);
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown(&old_tls), server.trusted);
    std::fs::write(&server.files.cert, "broken").unwrap();
    assert!(server.certificate.reload_if_changed().is_err());
    assert_eq!(shown(&server.tls().await), server.trusted, "the old one stays");
    let (_, made) = write_certificate(server.files.cert.parent().unwrap());
    assert!(server.certificate.reload_if_changed().unwrap());
    assert!(server.tls_with(&[]).await.is_err(), "whoever trusts the old one alone");
    server.trusted = made.der().clone();
    assert_eq!(shown(&server.tls().await), server.trusted);
    server.quic().await.ask(RecordType::A).await;
    // What was open stays open.
    old_quic.ask(RecordType::A).await;
    let reloads = "nearmost_dns_certificate_reloads_total";
    for result in ["ok", "failed"] {
        assert_eq!(server.running.count(reloads, &[result]), 1.0, "{result}");
    }
    drop((old_tls, old_quic));
    server.running.stop().await;
}

#[tokio::test]
async fn answers_over_quic_one_stream_a_query() {
    let server = start_encrypted(limits());
    let quic = Arc::new(server.quic().await);
    assert_eq!(answers(&quic.ask(RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(quic.ask(RecordType::TXT).await.answers.len(), 10);
    // More at once than may be under way: the rest waits.
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let quic = Arc::clone(&quic);
        many.spawn(async move { quic.ask(RecordType::A).await });
    }
    for reply in many.join_all().await {
        assert_eq!((reply.metadata.id, answers(&reply)), (0, vec!["192.0.2.1".to_owned()]));
    }
    assert_eq!(server.running.count("nearmost_dns_queries_total", &["quic", "a", "noerror"]), 51.0);
    assert_eq!(server.running.metrics.connections.quic.open.get(), 1);
    server.running.cancel.cancel();
    assert_eq!(quic.closed().await, 0);
    server.running.stop().await;
}

#[tokio::test]
async fn a_quic_client_that_breaks_a_rule_is_told_and_closed() {
    let server = start_encrypted(limits());
    let good = query(0, NAME, RecordType::A);
    let keepalive = {
        let mut message = Message::from_vec(&good).unwrap();
        message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(11, vec![]));
        message.to_vec().unwrap()
    };
    let mut response = good.clone();
    response[2] |= 0x80;
    let cases = [
        ("message_id", 2, framed(&query(7, NAME, RecordType::A))),
        ("framing", 2, framed(&good)[..20].to_vec()),
        ("framing", 2, vec![]),
        ("framing", 2, [framed(&good), framed(&good)].concat()),
        ("no_query", 2, framed(&response)),
        ("keepalive", 2, framed(&keepalive)),
        ("too_large", 4, framed(&vec![0; 20_000])),
    ];
    for (fault, code, bytes) in cases {
        let quic = server.quic().await;
        let before = server.running.count("nearmost_dns_quic_closed_total", &[fault]);
        assert!(quic.exchange(&bytes).await.is_err(), "{fault}");
        assert_eq!(quic.closed().await, code, "{fault}");
        assert_eq!(server.running.count("nearmost_dns_quic_closed_total", &[fault]), before + 1.0);
    }
    // A malformed query that can be answered is answered, as over the others.
    let quic = server.quic().await;
    let reply = quic.exchange(&framed(&[&good[..], &[0]].concat())).await.unwrap();
    assert_eq!(reply[5] & 15, 1, "FORMERR");
    quic.ask(RecordType::A).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_query_over_quic_that_does_not_arrive_is_too_slow() {
    let slow = TcpLimits { transfer_timeout: Duration::from_millis(80), ..TcpLimits::default() };
    let server = start_encrypted(EncryptedSettings { limits: slow, ..limits() });
    let quic = server.quic().await;
    let (mut send, _receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    assert_eq!(quic.closed().await, 4);
    assert_eq!(server.running.count("nearmost_dns_quic_closed_total", &["too_slow"]), 1.0);
    server.running.stop().await;
}

#[tokio::test]
async fn a_query_taken_back_harms_nobody() {
    let server = start_encrypted(limits());
    let quic = server.quic().await;
    let (mut send, mut receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    send.reset(VarInt::from_u32(3)).unwrap();
    receive.stop(VarInt::from_u32(3)).unwrap();
    assert_eq!(answers(&quic.ask(RecordType::A).await), ["192.0.2.1"]);
    server.running.stop().await;
}

#[tokio::test]
async fn a_query_taken_back_has_no_answer_rather_than_an_empty_one() {
    let server = start_encrypted(limits());
    let quic = server.quic().await;
    let (mut send, mut receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    send.reset(VarInt::from_u32(3)).unwrap();
    match tokio::time::timeout(PATIENCE, receive.read_to_end(10)).await.expect("told") {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => assert_eq!(code.into_inner(), 3),
        other => panic!("{other:?}"),
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_query_that_does_not_come_does_not_keep_the_server_from_stopping() {
    let patient = TcpLimits { transfer_timeout: 10 * PATIENCE, ..TcpLimits::default() };
    let server = start_encrypted(EncryptedSettings { limits: patient, ..limits() });
    let quic = server.quic().await;
    let (mut send, _receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    // One that comes after it is answered: the server knows of both.
    quic.ask(RecordType::A).await;
    server.running.cancel.cancel();
    assert_eq!(quic.closed().await, 0);
    server.running.stop().await;
}

#[tokio::test]
async fn a_quic_connection_has_so_many_queries() {
    let limited = TcpLimits { max_queries: 3, ..TcpLimits::default() };
    let server = start_encrypted(EncryptedSettings { limits: limited, ..limits() });
    let quic = server.quic().await;
    for _ in 0..3 {
        quic.ask(RecordType::A).await;
    }
    assert_eq!(quic.closed().await, 0);
    server.running.stop().await;
}

#[tokio::test]
async fn quic_answers_from_the_address_asked_of_both_families() {
    // Machines without IPv6 exist.
    let v6 = std::net::UdpSocket::bind("[::1]:0").is_ok();
    let listen = if v6 { &["0.0.0.0:0", "[::]:0"][..] } else { &["0.0.0.0:0"] };
    let doq = listen.iter().map(|a| a.parse().unwrap()).collect();
    let server = start_encrypted(EncryptedSettings { doq, ..limits() });
    let at = |ip: &str, bound: usize| SocketAddr::new(ip.parse().unwrap(), server.doq[bound].port());
    // A client drops what comes from elsewhere than it asked.
    for asked in [Some(at("127.0.0.2", 0)), v6.then(|| at("::1", 1))].into_iter().flatten() {
        let quic = server.quic_to(asked).await.unwrap();
        assert_eq!(answers(&quic.ask(RecordType::A).await), ["192.0.2.1"]);
        drop(quic);
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_transport_that_wanted_it() {
    let server = start_encrypted(limits());
    let key = KeyPair::from_seed(Role::Broker, &[1; 32]);
    let again = |dot: Vec<SocketAddr>, doq: Vec<SocketAddr>| {
        let settings = EncryptedSettings { files: server.files.clone(), dot, doq, ..limits() };
        let metrics = server.running.metrics.encrypted.certificate.clone();
        EncryptedServer::bind(settings, &key, metrics).err().expect("in use").to_string()
    };
    let in_use = |what: &str, at: SocketAddr| format!("port in use: {what} asked for {at}");
    assert_eq!(again(vec![server.dot], vec![]), in_use("DNS over TLS", server.dot));
    assert_eq!(again(vec![], server.doq.clone()), in_use("DNS over QUIC", server.doq[0]));
    server.running.stop().await;
}
