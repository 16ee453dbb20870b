//! Answers, limits, and what bad input does not break.

use super::*;

#[tokio::test]
async fn answers_over_udp_follow_the_snapshot() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let socket = udp_client(running.address).await;
    let reply = udp_ask(&socket, &query(7, NAME, RecordType::A)).await;
    assert_eq!((reply.metadata.id, answers(&reply)), (7, vec!["192.0.2.1".to_owned()]));
    running.snapshots.store(Arc::new(snapshot(Ipv4Addr::new(192, 0, 2, 2))));
    let reply = udp_ask(&socket, &query(8, NAME, RecordType::A)).await;
    assert_eq!(answers(&reply), ["192.0.2.2"]);
    assert_eq!(running.count("nearmost_dns_queries_total", &["udp", "a", "noerror"]), 2.0);
    assert_eq!(running.timed("udp"), 2);
    running.stop().await;
}

#[tokio::test]
async fn whoever_asks_for_a_one_time_name_is_noted() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let now = crate::clock::mono_now();
    let (socket, mut stream) =
        (udp_client(running.address).await, TcpStream::connect(running.address).await.unwrap());
    for (nonce, tcp) in [("aBcdefghij234567", false), ("zyxwvutsrq765432", true)] {
        let question = query(7, &format!("{nonce}.Probe.{NAME}"), RecordType::A);
        let reply = match tcp {
            false => udp_ask(&socket, &question).await,
            true => {
                tcp_send(&mut stream, &question).await;
                tcp_reply(&mut stream).await
            }
        };
        assert_eq!(answers(&reply), ["192.0.2.1"]);
        let nonce = nearmost_dns::Nonce::parse(nonce).unwrap();
        assert_eq!(running.nonces.take(&nonce, now), Some(Ipv4Addr::LOCALHOST.into()));
    }
    udp_ask(&socket, &query(8, NAME, RecordType::A)).await;
    assert_eq!(running.count("nearmost_rtt_nonces_total", &[]), 2.0);
    running.stop().await;
}

#[tokio::test]
async fn answers_over_ipv6() {
    // Machines without IPv6 exist; what is tested needs its loopback only.
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let running = start("[::1]:0", TcpLimits::default());
    let socket = udp_client(running.address).await;
    assert_eq!(answers(&udp_ask(&socket, &query(7, NAME, RecordType::A)).await), ["192.0.2.1"]);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    tcp_send(&mut stream, &query(8, NAME, RecordType::A)).await;
    assert_eq!(answers(&tcp_reply(&mut stream).await), ["192.0.2.1"]);
    running.stop().await;
}

#[tokio::test]
async fn truncated_over_udp_is_whole_over_tcp_at_the_same_port() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let socket = udp_client(running.address).await;
    let reply = udp_ask(&socket, &query(1, NAME, RecordType::TXT)).await;
    assert!(reply.metadata.truncation && reply.answers.is_empty());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    tcp_send(&mut stream, &query(2, NAME, RecordType::TXT)).await;
    let reply = tcp_reply(&mut stream).await;
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 10);
    assert_eq!(running.count("nearmost_dns_truncated_total", &[]), 1.0);
    assert_eq!(running.metrics.connections.tcp.open.get(), 1);
    running.stop().await;
    assert_eq!(closed(&mut stream).await, 0);
}

#[tokio::test]
async fn pipelined_and_trickled_queries_are_answered_in_order() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let all: Vec<u8> = (0..50).flat_map(|id| framed(&query(id, NAME, RecordType::TXT))).collect();
    stream.write_all(&all).await.unwrap();
    for id in 0..50 {
        assert_eq!(tcp_reply(&mut stream).await.metadata.id, id);
    }
    for byte in framed(&query(99, NAME, RecordType::A)) {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(tcp_reply(&mut stream).await.metadata.id, 99);
    running.stop().await;
}

/// Messages of every kind that is malformed, and whether it is answered.
fn malformed() -> Vec<(Vec<u8>, bool)> {
    let good = query(3, NAME, RecordType::A);
    let end = good.len();
    let with = |at: usize, to: &[u8]| {
        let mut wire = good.clone();
        wire[at..at + to.len()].copy_from_slice(to);
        wire
    };
    let mut messages = vec![
        (vec![], false),
        (vec![0], false),
        (good[..11].to_vec(), false),
        (with(2, &[0x81]), false),
        (with(2, &[0x29]), true),
        (with(4, &[0, 0]), true),
        (with(4, &[0xff, 0xff]), true),
        (with(6, &[0xff, 0xff]), true),
        (with(8, &[0, 1]), true),
        (with(10, &[0xff, 0xff]), true),
        (with(12, &[0xc0, 0x0c]), true),
        (with(12, &[63]), true),
        (with(12, &[64]), true),
        (with(end - 5, &[1]), true),
        (with(end - 2, &[0, 9]), true),
        ([&good[..], &[0; 500]].concat(), true),
        (vec![0xff; 600], false),
        (vec![0; 4096], true),
        ([&good[..], &[0; 60_000]].concat(), true),
    ];
    messages.extend((12..end).map(|cut| (good[..cut].to_vec(), true)));
    let ecs = |data: &[u8]| {
        let mut wire = with(end - 2, &((data.len() + 4) as u16).to_be_bytes());
        wire.extend_from_slice(&[0, 8, 0, data.len() as u8]);
        wire.extend_from_slice(data);
        wire
    };
    for data in
        [&[][..], &[0, 1, 24, 0, 1, 2], &[0, 9, 0, 0], &[0, 1, 33, 0, 1, 2, 3, 4, 5], &[0, 1, 1, 0, 255]]
    {
        messages.push((ecs(data), true));
    }
    messages
}

#[tokio::test]
async fn malformed_datagrams_leave_it_serving() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let socket = udp_client(running.address).await;
    for (message, answered) in malformed() {
        socket.send(&message).await.unwrap();
        if answered {
            let reply = udp_reply(&socket).await;
            assert!(reply.answers.is_empty(), "{message:?}");
            assert_eq!(reply.metadata.id.to_be_bytes(), message[..2]);
        }
        let reply = udp_ask(&socket, &query(4, NAME, RecordType::A)).await;
        assert_eq!((reply.metadata.id, answers(&reply)), (4, vec!["192.0.2.1".to_owned()]), "{message:?}");
    }
    let dropped = malformed().iter().filter(|(_, answered)| !answered).count();
    assert_eq!(running.count("nearmost_dns_dropped_total", &[]) as usize, dropped);
    assert_eq!(running.count("nearmost_dns_malformed_total", &[]) as usize, malformed().len());
    assert_eq!(running.count("nearmost_dns_malformed_total", &["pointer"]), 1.0);
    running.stop().await;
}

#[tokio::test]
async fn malformed_streams_leave_it_serving() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for (message, answered) in malformed() {
        tcp_send(&mut stream, &message).await;
        if answered {
            assert!(tcp_reply(&mut stream).await.answers.is_empty());
        }
        tcp_send(&mut stream, &query(4, NAME, RecordType::A)).await;
        assert_eq!(answers(&tcp_reply(&mut stream).await), ["192.0.2.1"], "{message:?}");
    }
    // A stream that ends inside a message.
    stream.write_all(&[1, 0, 5]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(closed(&mut stream).await, 0);
    let socket = udp_client(running.address).await;
    assert_eq!(answers(&udp_ask(&socket, &query(5, NAME, RecordType::A)).await), ["192.0.2.1"]);
    running.stop().await;
}

#[tokio::test]
async fn one_source_cannot_hold_all_connections() {
    let limits = TcpLimits { max_per_source: 2, max_connections: 3, ..TcpLimits::default() };
    let running = start("127.0.0.1:0", limits);
    let from = |last: u8| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(running.address).await.unwrap()
    };
    let hold = |last: u8| async move {
        let mut stream = from(last).await;
        tcp_send(&mut stream, &query(1, NAME, RecordType::A)).await;
        assert_eq!(tcp_reply(&mut stream).await.metadata.id, 1);
        stream
    };
    let held = (hold(1).await, hold(1).await);
    assert_eq!(closed(&mut from(1).await).await, 0);
    assert_eq!(running.count("nearmost_dns_connections_refused_total", &["tcp", "source"]), 1.0);
    let other = hold(2).await;
    assert_eq!(closed(&mut from(3).await).await, 0);
    assert_eq!(running.count("nearmost_dns_connections_refused_total", &["tcp", "total"]), 1.0);
    // One goes, and another source gets in once the server has seen that.
    drop(other);
    loop {
        let mut stream = from(3).await;
        if stream.write_all(&framed(&query(2, NAME, RecordType::A))).await.is_ok()
            && stream.read_u16().await.is_ok()
        {
            break;
        }
    }
    drop(held);
    running.stop().await;
}

#[test]
fn the_gate_counts_sources() {
    let limits = TcpLimits { max_per_source: 2, max_connections: 3, ..TcpLimits::default() };
    let gate = Arc::new(gate::Gate::new(limits.into()));
    let enter = |a: &str| gate.enter(a.parse().unwrap());
    let first = enter("2001:db8::1").unwrap();
    let second = enter("2001:db8::2").unwrap();
    assert_eq!(enter("2001:db8::3").unwrap_err(), gate::Refusal::Source);
    let third = enter("2001:db8:0:1::3").unwrap();
    assert_eq!(enter("192.0.2.1").unwrap_err(), gate::Refusal::Total);
    drop(third);
    let mapped = enter("::ffff:192.0.2.1").unwrap();
    drop(first);
    let plain = enter("192.0.2.1").unwrap();
    assert_eq!(enter("192.0.2.1").unwrap_err(), gate::Refusal::Total);
    drop(second);
    assert_eq!(enter("192.0.2.1").unwrap_err(), gate::Refusal::Source);
    drop((mapped, plain));
    assert!(enter("192.0.2.1").is_ok());
}

#[tokio::test]
async fn idle_and_slow_connections_are_closed() {
    let limits = TcpLimits {
        idle_timeout: Duration::from_millis(50),
        transfer_timeout: Duration::from_millis(80),
        ..TcpLimits::default()
    };
    let running = start("127.0.0.1:0", limits);
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(closed(&mut idle).await, 0);
    // Half a length, and nothing more.
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(&[0]).await.unwrap();
    assert_eq!(closed(&mut slow).await, 0);
    assert_eq!(running.metrics.connections.tcp.timeouts.get(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed() {
    let limits = TcpLimits {
        idle_timeout: PATIENCE,
        transfer_timeout: Duration::from_millis(100),
        max_queries: u32::MAX,
        ..TcpLimits::default()
    };
    let running = start("127.0.0.1:0", limits);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let many: Vec<u8> = (0..1000).flat_map(|id| framed(&query(id, NAME, RecordType::TXT))).collect();
    // Replies are dozens of times larger than queries: the server's side fills up first.
    while stream.write_all(&many).await.is_ok() {}
    assert_eq!(running.metrics.connections.tcp.timeouts.get(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_does_not_keep_the_server_from_stopping() {
    let patient =
        TcpLimits { transfer_timeout: 10 * PATIENCE, max_queries: u32::MAX, ..TcpLimits::default() };
    let running = start("127.0.0.1:0", patient);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let many: Vec<u8> = (0..1000).flat_map(|id| framed(&query(id, NAME, RecordType::TXT))).collect();
    // Until the server's side is full and ours, too.
    let stuck = Duration::from_millis(500);
    while tokio::time::timeout(stuck, stream.write_all(&many)).await.is_ok() {}
    running.stop().await;
}

#[tokio::test]
async fn a_query_as_long_as_can_be_is_read() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut long = query(7, NAME, RecordType::A);
    long.resize(usize::from(u16::MAX), 0);
    tcp_send(&mut stream, &long).await;
    assert_eq!(tcp_reply(&mut stream).await.metadata.id, 7);
    tcp_send(&mut stream, &query(8, NAME, RecordType::A)).await;
    assert_eq!(tcp_reply(&mut stream).await.metadata.id, 8);
    running.stop().await;
}

#[tokio::test]
async fn a_connection_has_so_many_queries() {
    let limits = TcpLimits { max_queries: 3, ..TcpLimits::default() };
    let running = start("127.0.0.1:0", limits);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for id in 0..3 {
        tcp_send(&mut stream, &query(id, NAME, RecordType::A)).await;
        assert_eq!(tcp_reply(&mut stream).await.metadata.id, id);
    }
    assert_eq!(closed(&mut stream).await, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_who_wanted_it() {
    let running = start("127.0.0.1:0", TcpLimits::default());
    let again = || server(DnsSettings { listen: vec![running.address], ..DnsSettings::default() });
    let error = again().err().expect("in use").to_string();
    assert_eq!(error, format!("port in use: DNS over TCP asked for {}", running.address));
    running.stop().await;
    // UDP alone, held by someone who would share it.
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = other.local_addr().unwrap().as_socket().unwrap();
    let settings = DnsSettings { listen: vec![address], ..DnsSettings::default() };
    match server(settings).err().expect("in use") {
        DnsError::Bind { address: named, what, source } => {
            assert_eq!((named, what), (address, "DNS over UDP"));
            assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        }
        other => panic!("{other}"),
    }
    assert!(matches!(server(DnsSettings::default()), Err(DnsError::NoAddress)));
}

#[tokio::test]
async fn replies_leave_from_the_address_that_was_asked() {
    for (listen, asked, client) in [("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"), ("[::]:0", "::1", "[::1]:0")] {
        // Machines without IPv6 exist.
        if std::net::UdpSocket::bind(client).is_err() {
            continue;
        }
        let running = start(listen, TcpLimits::default());
        let socket = UdpSocket::bind(client).await.unwrap();
        // A connected socket takes datagrams of that address only.
        socket.connect(SocketAddr::new(asked.parse().unwrap(), running.address.port())).await.unwrap();
        for id in 0..100 {
            socket.send(&query(id, NAME, RecordType::A)).await.unwrap();
        }
        let mut ids = Vec::new();
        for _ in 0..100 {
            ids.push(udp_reply(&socket).await.metadata.id);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>(), "{asked}");
        running.stop().await;
    }
}

#[tokio::test]
async fn the_last_replies_arrive_though_more_was_asked() {
    let limits = TcpLimits { max_queries: 500, ..TcpLimits::default() };
    let running = start("127.0.0.1:0", limits);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let many: Vec<u8> = (0..5000).flat_map(|id| framed(&query(id, NAME, RecordType::TXT))).collect();
    let mut replies = Vec::new();
    let (sent, got) = tokio::join!(write.write_all(&many), read.read_to_end(&mut replies));
    got.expect("an orderly end, not a reset");
    sent.expect("input is taken to its end");
    let mut rest = &replies[..];
    let mut count = 0;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        rest = &after[usize::from(u16::from_be_bytes(*length))..];
        count += 1;
    }
    assert_eq!(count, 500);
    drop(stream);
    running.stop().await;
}

#[test]
fn name_servers_are_where_dns_is_served() {
    let derived = |configured: &[&str], listen: &[&str]| {
        let configured: Vec<IpAddr> = configured.iter().map(|a| a.parse().unwrap()).collect();
        let listen: Vec<SocketAddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
        nameserver_addresses(&configured, &listen).iter().map(IpAddr::to_string).collect::<Vec<_>>()
    };
    assert_eq!(derived(&["192.0.2.1"], &["192.0.2.2:53"]), ["192.0.2.1"]);
    assert_eq!(
        derived(&[], &["192.0.2.2:53", "127.0.0.1:53", "[2001:db8::1]:53"]),
        ["192.0.2.2", "2001:db8::1"]
    );
    assert_eq!(derived(&[], &["127.0.0.1:53", "127.0.0.1:54"]), ["127.0.0.1"]);
    assert!(derived(&[], &["0.0.0.0:53", "[::]:53"]).is_empty());
    let config = |nameservers: &[&str], addrs: &[&str]| DnsConfig {
        zones: vec!["example.com".into()],
        nameservers: nameservers.iter().map(|n| (*n).into()).collect(),
        nameserver_addresses: addrs.iter().map(|a| a.parse().unwrap()).collect(),
        ..DnsConfig::default()
    };
    for (config, lacks) in [
        (config(&[], &[]), true),
        (config(&[], &["192.0.2.1"]), false),
        (config(&["ns.example.net"], &[]), false),
        (config(&["ns.example.net", "NS.Example.com."], &[]), true),
    ] {
        assert_eq!(lacks_glue(&config), lacks, "{config:?}");
    }
}

#[tokio::test]
async fn what_is_above_a_limit_is_short_and_whole() {
    let limits = LimitConfig { responses_per_second: 5, allow: Vec::new(), ..LimitConfig::default() };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let running = start_with(DnsSettings { listen, workers: 1, limits, ..DnsSettings::default() });
    let socket = udp_client(running.address).await;
    let (mut whole, mut short) = (0, 0);
    for id in 0..100 {
        let asked = query(id, NAME, RecordType::A);
        socket.send(&asked).await.unwrap();
        let mut buffer = [0; 2048];
        let read = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        let reply = Message::from_vec(&buffer[..read]).unwrap();
        assert_eq!(reply.metadata.id, id);
        match reply.metadata.truncation {
            true => {
                assert!(reply.answers.is_empty() && read <= asked.len(), "{read} bytes");
                short += 1;
            }
            false => {
                assert_eq!(answers(&reply), ["192.0.2.1"]);
                whole += 1;
            }
        }
    }
    assert!(whole >= 5 && short >= 50, "{whole} whole, {short} short");
    assert_eq!(running.count("nearmost_dns_limited_total", &["slip", "responses"]), f64::from(short));
    assert_eq!(running.count("nearmost_dns_truncated_total", &[]), f64::from(short));
    running.stop().await;
}
