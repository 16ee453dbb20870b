//! Real sockets on loopback.

use super::*;
use std::net::UdpSocket;
use std::os::fd::AsFd;

fn batch_of(listen: &str, asked: bool) -> (UdpSocket, Batch) {
    let socket = UdpSocket::bind(listen).unwrap();
    let v6 = socket.local_addr().unwrap().is_ipv6();
    if asked {
        tell_asked(socket.as_fd(), v6).unwrap();
    }
    never_fragment(socket.as_fd(), v6).unwrap();
    (socket, Batch::new(Shape { size: 4, asked, segments: true }))
}

/// Every datagram comes back to its sender, from the address it was sent to.
fn echoes(listen: &str, asked: bool, to: &[&str]) {
    let (socket, mut batch) = batch_of(listen, asked);
    let port = socket.local_addr().unwrap().port();
    let clients: Vec<(UdpSocket, SocketAddr)> = to
        .iter()
        .map(|ip| {
            let at = SocketAddr::new(ip.parse().unwrap(), port);
            let local = if at.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
            (UdpSocket::bind(local).unwrap(), at)
        })
        .collect();
    for (i, (client, at)) in clients.iter().enumerate() {
        client.send_to(&[i as u8; 9][..i + 1], at).unwrap();
    }
    let mut answered = 0;
    while answered < clients.len() {
        let read = batch.receive(socket.as_fd()).unwrap();
        for at in 0..read {
            let (query, peer, reply) = batch.slot(at).unwrap();
            assert_eq!(query.len(), usize::from(query[0]) + 1);
            assert_eq!(peer, clients[usize::from(query[0])].0.local_addr().unwrap());
            let query = query.to_vec();
            reply.extend(query);
        }
        assert!(matches!(batch.send(socket.as_fd()), (0, None)));
        answered += read;
    }
    for (i, (client, at)) in clients.iter().enumerate() {
        let mut buffer = [0; 16];
        let (read, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((read, from), (i + 1, *at));
    }
}

#[test]
fn replies_go_back_from_the_address_that_was_asked() {
    echoes("127.0.0.1:0", false, &["127.0.0.1"; 6]);
    echoes("0.0.0.0:0", true, &["127.0.0.1", "127.0.0.7", "127.0.0.9"]);
    echoes("[::1]:0", false, &["::1"; 3]);
    echoes("[::]:0", true, &["::1"]);
}

#[test]
fn a_reply_that_cannot_be_sent_takes_no_other_with_it() {
    let (socket, mut batch) = batch_of("127.0.0.1:0", false);
    let to = socket.local_addr().unwrap();
    let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for client in &clients {
        client.send_to(b"q", to).unwrap();
    }
    let mut filled = 0;
    while filled < 3 {
        filled = batch.receive(socket.as_fd()).unwrap();
        if filled < 3 {
            // They did not come together: once more.
            for client in clients.iter().take(filled) {
                client.send_to(b"q", to).unwrap();
            }
        }
    }
    for at in 0..3 {
        let (_, _, reply) = batch.slot(at).unwrap();
        // More than a datagram can be.
        reply.resize(if at == 1 { 70_000 } else { 5 }, b'r');
    }
    let (lost, why) = batch.send(socket.as_fd());
    assert_eq!(lost, 1);
    assert!(why.is_some());
}

#[test]
fn replies_to_one_destination_leave_together_and_arrive_apart() {
    for (listen, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let socket = UdpSocket::bind(listen).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = address.ip().is_unspecified();
        if asked {
            tell_asked(socket.as_fd(), address.is_ipv6()).unwrap();
        }
        let mut batch = Batch::new(Shape { size: 64, asked, segments: true });
        let to = SocketAddr::new(to.parse().unwrap(), address.port());
        let local = if to.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let clients: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind(local).unwrap()).collect();
        for round in 0..10_u8 {
            for (number, client) in clients.iter().enumerate() {
                client.send_to(&[number as u8, round], to).unwrap();
            }
        }
        let (mut answered, mut together) = (0, 0);
        while answered < 50 {
            let read = batch.receive(socket.as_fd()).unwrap();
            for at in 0..read {
                let (query, _, reply) = batch.slot(at).unwrap();
                let query = query.to_vec();
                // Now and then of another size.
                reply.resize(if query[1] == 3 { 9 } else { 40 }, 7);
                reply[..2].copy_from_slice(&query);
            }
            assert!(matches!(batch.send(socket.as_fd()), (0, None)));
            together += batch.out.groups.lists.iter().filter(|g| g.count > 1).count();
            answered += read;
        }
        assert!(together > 0, "nothing left together");
        assert_eq!(batch.out.patience, REFUSALS, "nothing was refused");
        for (number, client) in clients.iter().enumerate() {
            let mut rounds: Vec<u8> = (0..10)
                .map(|_| {
                    let mut buffer = [0; 100];
                    let (read, from) = client.recv_from(&mut buffer).unwrap();
                    assert_eq!((buffer[0], from), (number as u8, to));
                    assert_eq!(read, if buffer[1] == 3 { 9 } else { 40 });
                    buffer[1]
                })
                .collect();
            rounds.sort_unstable();
            assert_eq!(rounds, (0..10).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn what_is_refused_together_is_sent_one_by_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut batch = Batch::new(Shape { size: 8, asked: false, segments: true });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..4_u8 {
        client.send_to(&[n], socket.local_addr().unwrap()).unwrap();
    }
    let mut read = batch.receive(socket.as_fd()).unwrap();
    assert!(read > 0);
    for at in 0..read {
        let (query, _, reply) = batch.slot(at).unwrap();
        let n = query[0];
        reply.resize(8, n);
    }
    batch.group();
    batch.lay_out();
    let group = batch.out.groups.lists[0];
    batch.out.refused(&io::Error::from_raw_os_error(libc::EINVAL));
    assert_eq!(batch.out.patience, REFUSALS - 1);
    assert!(matches!(batch.send_singly(socket.as_fd(), group, 0), (0, None)));
    while read > 0 {
        let mut buffer = [0; 9];
        assert_eq!(client.recv_from(&mut buffer).unwrap().0, 8);
        read -= 1;
    }
    (0..REFUSALS).for_each(|_| batch.out.refused(&io::Error::from_raw_os_error(libc::EIO)));
    assert_eq!(batch.out.patience, 0, "an interface that cannot is not asked for ever");
}

#[test]
fn an_empty_slot_is_no_reply_and_a_long_query_is_cut() {
    let (socket, mut batch) = batch_of("127.0.0.1:0", false);
    let to = socket.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&[7; 5000], to).unwrap();
    assert_eq!(batch.receive(socket.as_fd()).unwrap(), 1);
    assert_eq!(batch.slot(0).unwrap().0.len(), CUT);
    assert!(batch.slot(1).is_none());
    assert!(matches!(batch.send(socket.as_fd()), (0, None)));
}
