//! Who may come, and what becomes of those who speak otherwise.

use crate::world::*;
use nearmost_config::{IngressConfig, ServiceIngress};
use nearmost_wire::frame;
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{RefuseReason, Refused, Role, ToClient, ToMirror};
use nearmost_wire::ingress::datagram::{Ack, FromMirror};
use nearmost_wire::tls::ALPN_MIRROR;
use std::net::{Ipv4Addr, SocketAddr};

fn nowhere() -> ServiceIngress {
    let target: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    ServiceIngress { udp: Some(target), tcp: None, proxy_protocol: false }
}

fn why(word: ToClient) -> RefuseReason {
    match word {
        ToClient::Refused(Refused { reason, retry_after_ms, .. }) => {
            assert!(retry_after_ms > 0);
            reason
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_client_attaches_and_is_heard() {
    let world = World::start(nowhere(), 0);
    let mut client = Client::connect(world.addr, 1).await;
    let accepted = client.accepted(7, Role::Primary).await;
    assert_eq!(
        (accepted.role, accepted.udp, accepted.tcp, accepted.max_flows),
        (Role::Primary, true, false, 256)
    );
    world.until("sessions{role=\"primary\"}", 1).await;
    client.beacon(Role::Primary, true);
    let acked = async {
        loop {
            let bytes = client.connection.read_datagram().await.expect("a datagram");
            if let Ok(FromMirror::Beacon { seq, ack: Some(Ack { seq: 0, .. }) }) = FromMirror::decode(&bytes)
            {
                return seq;
            }
        }
    };
    soon(acked).await;
    let status = world.ingress.status();
    assert_eq!((status.port, status.served, status.warm), (world.addr.port(), 1, 0));
    client.connection.close(0u8.into(), b"");
    world.until("sessions{role=\"primary\"}", 0).await;
    world.until("connections", 0).await;
}

#[tokio::test]
async fn the_round_trips_of_attached_clients_are_known() {
    let world = World::start(nowhere(), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Standby).await;
    let _nobody = Client::connect(world.addr, 2).await;
    world.until("connections", 2).await;
    let read = || {
        let mut all = Vec::new();
        world.paths.each(|of, peer, rtt_us| all.push((of.clone(), peer, rtt_us)));
        all
    };
    let [((domain, mirror), peer, rtt_us)] = &read()[..] else { panic!("{:?}", read()) };
    assert_eq!((domain.as_str(), mirror.as_str(), *peer), (DOMAIN, "lon", world.addr.ip()));
    assert!(*rtt_us > 0);
    client.connection.close(0u8.into(), b"");
    world.until("connections", 1).await;
    assert!(read().is_empty());
}

#[tokio::test]
async fn there_is_no_room_beyond_the_declared_capacity() {
    let world = World::start(nowhere(), 1);
    let _first = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let mut second = Client::connect(world.addr, 2).await;
    assert_eq!(why(second.attach(2, Role::Primary).await), RefuseReason::Full);
    // It may ask again, and a standby is no user yet.
    second.accepted(2, Role::Standby).await;
    second.beacon(Role::Primary, false);
    assert_eq!(why(second.word().await), RefuseReason::Full, "not promoted");
    assert_eq!(world.count("refused_total{reason=\"full\"}"), 2);
    world.until("sessions{role=\"standby\"}", 1).await;
}

#[tokio::test]
async fn a_session_is_taken_over_by_its_own_client_only_and_its_number_is_no_ones() {
    let world = World::start(nowhere(), 0);
    let mut first = Client::attached(world.addr, 1, 7, Role::Primary).await;
    // Whoever learnt the number elsewhere has a session of its own by it, and keeps nobody out.
    let other = Client::attached(world.addr, 2, 7, Role::Primary).await;
    world.until("sessions{role=\"primary\"}", 2).await;
    other.connection.close(0u8.into(), b"");
    world.until("sessions{role=\"primary\"}", 1).await;
    first.beacon(Role::Primary, true);
    soon(first.connection.read_datagram()).await.expect("it is served as before");
    let second = Client::attached(world.addr, 1, 7, Role::Primary).await;
    assert_eq!(refusal(&first.connection).await, Refusal::Superseded);
    world.until("sessions{role=\"primary\"}", 1).await;
    // The end of the first connection is not that of the session.
    world.until("connections", 1).await;
    soon(second.connection.read_datagram()).await.expect("a beacon");
}

#[tokio::test]
async fn an_unknown_domain_is_no_mistake_of_the_protocol() {
    let world = World::start(nowhere(), 0);
    let mut client = Client::connect(world.addr, 1).await;
    client.attach_to("other.example", 1, Role::Primary).await;
    assert_eq!(refusal(&client.connection).await, Refusal::UnknownDomain);
    assert_eq!(world.count("refused_total{reason=\"unknown_domain\"}"), 1);
}

#[tokio::test]
async fn messages_that_cannot_be_read_close_the_connection() {
    let world = World::start(nowhere(), 0);
    let mut left_over = frame::encode(&ToMirror::Retired).expect("encoded");
    left_over.push(0);
    left_over[3] += 1;
    let cases: [(&[u8], &str); 5] = [
        (&[0, 0, 0x10, 1], "too_large"),
        (&[0, 0, 0, 0], "empty"),
        (&[0, 0, 0, 1, 9], "version"),
        (&[0, 0, 0, 3, 1, 0xff, 0xff], "body"),
        (&left_over, "body"),
    ];
    for (bytes, _) in cases {
        let mut client = Client::connect(world.addr, 1).await;
        client.send.write_all(bytes).await.expect("sent");
        assert_eq!(refusal(&client.connection).await, Refusal::BadMessage, "{bytes:?}");
    }
    for (label, times) in [("too_large", 1), ("empty", 1), ("version", 1), ("body", 2)] {
        world.until(&format!("bad_frames_total{{reason=\"{label}\"}}"), times).await;
    }
    world.until("closed_total{reason=\"bad_message\"}", 5).await;
}

#[tokio::test]
async fn a_stream_header_that_cannot_be_read_closes_the_connection() {
    let world = World::start(nowhere(), 0);
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let (mut send, _recv) = client.connection.open_bi().await.expect("a stream");
    send.write_all(&[0, 0, 0, 2, 1, 9]).await.expect("sent");
    assert_eq!(refusal(&client.connection).await, Refusal::BadMessage);
    world.until("bad_frames_total{reason=\"body\"}", 1).await;
}

#[tokio::test]
async fn datagrams_that_cannot_be_read_close_the_connection() {
    let world = World::start(nowhere(), 0);
    let cases: [(&[u8], &str); 5] = [
        (&[0xff, 1], "kind"),
        (&[0x10, 1], "kind"),
        (&[0x08, 1], "truncated"),
        (&[0x01, 0x40, 1, 1], "overlong"),
        (&[0x01, 1, 1, 1], "trailing"),
    ];
    for (i, (bytes, _)) in cases.iter().enumerate() {
        let client = Client::attached(world.addr, 1, i as u64, Role::Standby).await;
        client.connection.send_datagram(bytes.to_vec().into()).expect("sent");
        assert_eq!(refusal(&client.connection).await, Refusal::BadDatagram, "{bytes:?}");
    }
    for (label, times) in [("kind", 2), ("truncated", 1), ("overlong", 1), ("trailing", 1)] {
        world.until(&format!("bad_frames_total{{reason=\"datagram_{label}\"}}"), times).await;
    }
    world.until("sessions{role=\"standby\"}", 0).await;
}

#[tokio::test]
async fn what_does_not_fit_the_state_closes_the_connection() {
    let world = World::start(nowhere(), 0);
    let mut early = Client::connect(world.addr, 1).await;
    early.say(&ToMirror::Retired).await;
    assert_eq!(refusal(&early.connection).await, Refusal::OutOfOrder);
    let mut twice = Client::attached(world.addr, 2, 2, Role::Standby).await;
    twice.attach_to(DOMAIN, 3, Role::Standby).await;
    assert_eq!(refusal(&twice.connection).await, Refusal::OutOfOrder);
    world.until("sessions{role=\"standby\"}", 0).await;
}

#[tokio::test]
async fn a_flood_of_attempts_to_attach_is_bounded() {
    let world = World::start(nowhere(), 1);
    let _first = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let mut flood = Client::connect(world.addr, 2).await;
    for _ in 0..16 {
        assert_eq!(why(flood.attach(2, Role::Primary).await), RefuseReason::Full);
    }
    flood.attach_to(DOMAIN, 2, Role::Primary).await;
    assert_eq!(refusal(&flood.connection).await, Refusal::OutOfOrder);
    assert_eq!(world.count("refused_total{reason=\"full\"}"), 16);
}

#[tokio::test]
async fn connections_are_bounded_and_places_come_back() {
    let mut limits = config();
    limits.connections.most = 3;
    let world = World::with(&limits, nowhere(), 0);
    let mut held = Vec::new();
    for seed in 1..=3 {
        held.push(Client::attached(world.addr, seed, seed.into(), Role::Primary).await);
    }
    let refused = connect(world.addr, 4, ALPN_MIRROR).await.expect_err("no room");
    assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
    assert_eq!(world.count("refused_total{reason=\"limit\"}"), 1);
    held.pop().expect("one").connection.close(0u8.into(), b"");
    world.until("connections", 2).await;
    Client::attached(world.addr, 4, 4, Role::Primary).await;
}

#[tokio::test]
async fn a_browser_is_refused_by_its_protocol() {
    let world = World::with(&IngressConfig { max_tripwires: 0, ..config() }, nowhere(), 0);
    let refused = connect(world.addr, 1, b"h3").await.expect_err("another protocol");
    // TLS alert 120, as a QUIC error.
    let quinn::ConnectionError::ConnectionClosed(close) = &refused else { panic!("{refused}") };
    assert_eq!(u64::from(close.error_code), 0x100 + 120);
    world.until("refused_total{reason=\"protocol\"}", 1).await;
    assert_eq!(world.count("connections"), 0);
}

#[tokio::test]
async fn where_udp_is_blocked_a_client_comes_in_through_tls() {
    let world = World::start(udp((Ipv4Addr::LOCALHOST, 9).into()), 0);
    world.ingress.told(&report(true, false));
    let (mut client, tunnel) = tunnelled(world.addr, 1).await;
    client.accepted(1, Role::Primary).await;
    world.until("tunnels", 1).await;
    let mut timed = 0;
    world.paths.each(|_, _, _| timed += 1);
    assert_eq!(timed, 0, "the round trip of a tunnel is no path's");
    // A service that fails closes tripwires, and no tunnel.
    world.ingress.told(&report(false, false));
    client.beacon(Role::Primary, true);
    soon(client.connection.read_datagram()).await.expect("it lives");
    drop(tunnel);
    world.until("tunnels", 0).await;
}
