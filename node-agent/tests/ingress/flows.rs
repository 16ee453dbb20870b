//! Flows to the service and back.

use crate::world::*;
use nearmost_config::ServiceIngress;
use nearmost_wire::ingress::control::{Role, ToMirror};
use nearmost_wire::ingress::flow::{Break, OpenAnswer, OpenError};
use quinn::{ReadError, RecvStream};
use socket2::SockRef;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

async fn udp_service() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = socket.local_addr().expect("bound");
    (socket, addr)
}

async fn tcp_service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

async fn received(service: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (n, from) = soon(service.recv_from(&mut buffer)).await.expect("a packet");
    (buffer[..n].to_vec(), from)
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.expect("a connection").0
}

#[tokio::test]
async fn copies_of_packets_reach_the_service_once_and_answers_are_numbered() {
    let (service, addr) = udp_service().await;
    let world = World::start(udp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    for (number, payload) in [(0, b"a"), (0, b"a"), (1, b"b"), (0, b"a")] {
        client.data(5, number, payload);
    }
    let (first, from) = received(&service).await;
    let (second, again) = received(&service).await;
    assert_eq!((first, second, from), (b"a".to_vec(), b"b".to_vec(), again), "one socket a flow");
    world.until("duplicates_total", 2).await;
    service.send_to(b"A", from).await.expect("sent");
    service.send_to(b"", from).await.expect("sent");
    assert_eq!(client.packet().await, (5, 0, b"A".to_vec()));
    assert_eq!(client.packet().await, (5, 1, Vec::new()));
    client.data(6, 0, b"c");
    let (third, other) = received(&service).await;
    assert!(third == b"c" && other != from, "another flow has a socket of its own");
    assert_eq!(world.count("flows{kind=\"udp\"}"), 2);
    assert_eq!(world.count("bytes_total{kind=\"udp\",way=\"up\"}"), 3);
    assert_eq!(world.count("bytes_total{kind=\"udp\",way=\"down\"}"), 1);
    client.connection.close(0u8.into(), b"");
    world.until("flow_ends_total{kind=\"udp\",reason=\"session\"}", 2).await;
    assert_eq!(world.count("flows{kind=\"udp\"}"), 0);
}

#[tokio::test]
async fn a_flow_keeps_its_socket_and_numbers_when_its_client_attaches_again() {
    let (service, addr) = udp_service().await;
    let world = World::start(udp(addr), 0);
    let mut first = Client::attached(world.addr, 1, 1, Role::Primary).await;
    first.data(5, 0, b"a");
    let (_, from) = received(&service).await;
    service.send_to(b"A", from).await.expect("sent");
    assert_eq!(first.packet().await, (5, 0, b"A".to_vec()));
    let mut second = Client::attached(world.addr, 1, 1, Role::Primary).await;
    second.data(5, 0, b"a");
    second.data(5, 1, b"b");
    assert_eq!(received(&service).await, (b"b".to_vec(), from));
    service.send_to(b"B", from).await.expect("sent");
    assert_eq!(second.packet().await, (5, 1, b"B".to_vec()));
}

#[tokio::test]
async fn a_standby_hands_packets_on_and_their_answers_back() {
    let (service, addr) = udp_service().await;
    let world = World::start(udp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Standby).await;
    client.data(5, 0, b"a");
    let (_, from) = received(&service).await;
    service.send_to(b"A", from).await.expect("sent");
    assert_eq!(client.packet().await, (5, 0, b"A".to_vec()));
}

#[tokio::test]
async fn a_udp_service_that_refuses_ends_the_flow() {
    let (service, addr) = udp_service().await;
    drop(service);
    let world = World::start(udp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    client.data(5, 0, b"a");
    world.until("flow_ends_total{kind=\"udp\",reason=\"refused\"}", 1).await;
    assert_eq!(world.count("flows{kind=\"udp\"}"), 0);
    let service = UdpSocket::bind(addr).await.expect("the port again");
    client.data(5, 1, b"b");
    assert_eq!(received(&service).await.0, b"b");
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_dropped_and_counted() {
    let (service, addr) = udp_service().await;
    let world = World::start(udp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    client.data(5, 0, b"a");
    let (_, from) = received(&service).await;
    service.send_to(&[0; 1900], from).await.expect("sent");
    service.send_to(&[0; 9000], from).await.expect("sent");
    world.until("dropped_total{reason=\"too_large\"}", 2).await;
    client.data(5, 1, b"b");
    received(&service).await;
}

#[tokio::test]
async fn the_end_of_one_direction_is_not_the_end_of_the_other() {
    let (listener, addr) = tcp_service().await;
    let world = World::start(tcp(addr), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, mut recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    let sent: Vec<u8> = (0..600_000u32).flat_map(u32::to_be_bytes).collect();
    let (asked, answered) = (sent.clone(), sent.clone());
    // It answers only once the client's side has ended.
    let answers = tokio::spawn(async move {
        let mut got = Vec::new();
        service.read_to_end(&mut got).await.expect("read to its end");
        assert!(got == asked, "{} bytes", got.len());
        service.write_all(&got).await.expect("answered");
    });
    let asks = async {
        send.write_all(&sent).await.expect("sent");
        send.finish().expect("finished");
    };
    let (_, got) = soon(async { tokio::join!(asks, recv.read_to_end(sent.len())) }).await;
    assert!(got.expect("to its end") == answered);
    soon(answers).await.expect("no panic");
    world.until("flow_ends_total{kind=\"tcp\",reason=\"ended\"}", 1).await;
    let bytes = sent.len() as u64;
    assert_eq!(world.count("bytes_total{kind=\"tcp\",way=\"up\"}"), bytes);
    assert_eq!(world.count("bytes_total{kind=\"tcp\",way=\"down\"}"), bytes);
}

async fn broken(recv: &mut RecvStream) -> u64 {
    let mut buffer = [0; 100];
    loop {
        match soon(recv.read(&mut buffer)).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("shown as a clean end"),
            Err(ReadError::Reset(code)) => return code.into_inner(),
            Err(e) => panic!("{e}"),
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_service_breaks_is_broken_for_the_client() {
    let (listener, addr) = tcp_service().await;
    let world = World::start(tcp(addr), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, mut recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    service.write_all(b"half an ans").await.expect("sent");
    SockRef::from(&service).set_linger(Some(Duration::ZERO)).expect("set");
    drop(service);
    assert_eq!(broken(&mut recv).await, u64::from(Break::Aborted.code()));
    soon(send.stopped()).await.expect("it lives").expect("told to stop");
    assert!(send.write_all(b"more").await.is_err());
    world.until("flow_ends_total{kind=\"tcp\",reason=\"broken\"}", 1).await;
    // The connection, and other streams on it, go on.
    client.opened().await;
}

async fn is_reset(service: &mut TcpStream) {
    let mut buffer = [0; 100];
    loop {
        match soon(service.read(&mut buffer)).await {
            Ok(0) => panic!("shown as a clean end"),
            Ok(_) => {}
            Err(e) => return assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn a_stream_that_the_client_breaks_is_broken_for_the_service() {
    let (listener, addr) = tcp_service().await;
    let world = World::start(tcp(addr), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, _recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    send.write_all(b"half a ques").await.expect("sent");
    send.reset(Break::Aborted.code().into()).expect("reset");
    is_reset(&mut service).await;
    // Nothing more is sent, and then nothing more is wanted.
    let (mut send, mut recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    send.finish().expect("finished");
    assert_eq!(soon(service.read(&mut [0; 9])).await.expect("an end"), 0);
    recv.stop(Break::Aborted.code().into()).expect("stopped");
    world.until("flow_ends_total{kind=\"tcp\",reason=\"broken\"}", 2).await;
    assert!(soon(service.write_all(&[0; 1 << 20])).await.is_err());
    let (_send, _recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    client.connection.close(0u8.into(), b"");
    is_reset(&mut service).await;
    world.until("flows{kind=\"tcp\"}", 0).await;
}

#[tokio::test]
async fn the_service_learns_the_clients_address() {
    let (listener, addr) = tcp_service().await;
    let world = World::start(ServiceIngress { proxy_protocol: true, ..tcp(addr) }, 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, _recv) = client.opened().await;
    let mut service = accepted(&listener).await;
    send.write_all(b"hi").await.expect("sent");
    let mut got = [0; 30];
    soon(service.read_exact(&mut got)).await.expect("a header and more");
    let expected = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"[..],
        &got[24..26],
        &world.addr.port().to_be_bytes(),
        b"hi",
    ];
    assert_eq!(got.to_vec(), expected.concat());
    // The client's own port: it has one socket only.
    assert!(got[24..26] != [0, 0] && got[24..26] != world.addr.port().to_be_bytes());
}

#[tokio::test]
async fn a_stream_without_a_connection_says_why() {
    let (listener, addr) = tcp_service().await;
    drop(listener);
    let world = World::start(tcp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let failed = |code| OpenAnswer::Failed { code };
    let (answer, _send, mut recv) = client.open().await;
    assert_eq!(answer, failed(OpenError::Refused));
    assert_eq!(soon(recv.read_to_end(9)).await.expect("an end"), b"");
    client.say(&ToMirror::Retired).await;
    // Until that is heard it is the service that refuses.
    while client.open().await.0 != failed(OpenError::NotPrimary) {}
    assert!(world.count("flows_failed_total{reason=\"refused\"}") > 0);
    let world = World::start(udp(addr), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    assert_eq!(client.open().await.0, failed(OpenError::NotServed));
}

#[tokio::test]
async fn the_stream_of_a_standby_waits_for_its_promotion() {
    let (listener, addr) = tcp_service().await;
    let world = World::start(tcp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Standby).await;
    let connection = client.connection.clone();
    let early = async {
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        let open = nearmost_wire::ingress::flow::Open { kind: nearmost_wire::ingress::flow::FlowKind::Tcp };
        nearmost_wire::frame::write(&mut send, &open).await.expect("said");
        nearmost_wire::frame::read::<OpenAnswer>(&mut recv).await.expect("an answer")
    };
    let promote = async {
        client.beacon(Role::Primary, false);
        accepted(&listener).await
    };
    let (answer, _service) = soon(async { tokio::join!(early, promote) }).await;
    assert_eq!(answer, OpenAnswer::Opened);
    // Without one it is told so.
    let warm = Client::attached(world.addr, 2, 2, Role::Standby).await;
    assert_eq!(warm.open().await.0, OpenAnswer::Failed { code: OpenError::NotPrimary });
}

#[tokio::test]
async fn flows_of_a_session_are_bounded() {
    let (listener, addr) = tcp_service().await;
    let limits = nearmost_config::IngressConfig { max_flows: 1, ..config() };
    let world = World::with(&limits, tcp(addr), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, mut recv) = client.opened().await;
    let too_many = OpenAnswer::Failed { code: OpenError::TooMany };
    assert_eq!(client.open().await.0, too_many);
    send.finish().expect("finished");
    drop(accepted(&listener).await);
    soon(recv.read_to_end(9)).await.expect("an end");
    // The place comes back once the connection's end is known.
    while client.open().await.0 == too_many {}
}
