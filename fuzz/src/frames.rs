//! Frames of Ethernet, as AF_XDP gives them.

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use nearmost_xdp::frame::{self, LEAST_FRAME};
use std::net::{IpAddr, SocketAddr};

/// A frame: what is taken for a datagram is one to etherparse, of the same ends and with the same payload, and
/// the reply to it is one that goes back.
pub fn xdp(data: &[u8]) {
    let Ok(datagram) = frame::parse(data) else { return };
    let told = (datagram.source, datagram.destination, &data[datagram.payload.clone()]);
    assert_eq!(other(data), told);
    let reply = b"as long as a reply may be";
    let mut buffer = data.to_vec();
    buffer.resize(data.len().max(LEAST_FRAME) + reply.len(), 0xee);
    let length = datagram.reply(&mut buffer, reply).expect("there is room");
    let whole = &buffer[..length];
    let (source, destination, payload) = other(whole);
    assert_eq!((source, destination), (datagram.destination, datagram.source));
    assert_eq!(payload, reply);
    assert_eq!((&whole[..6], &whole[6..12]), (&data[6..12], &data[..6]));
    // To a buffer that ends too early there is none.
    let mut short = data[..datagram.payload.start].to_vec();
    assert_eq!(datagram.reply(&mut short, reply), None);
}

/// What etherparse reads.
fn other(frame: &[u8]) -> (SocketAddr, SocketAddr, &[u8]) {
    let whole = PacketHeaders::from_ethernet_slice(frame).expect("another reads it");
    let Some(TransportHeader::Udp(udp)) = &whole.transport else { panic!("no UDP: {whole:?}") };
    let (source, destination): (IpAddr, IpAddr) = match &whole.net {
        Some(NetHeaders::Ipv4(ip, _)) => (ip.source.into(), ip.destination.into()),
        Some(NetHeaders::Ipv6(ip, _)) => (ip.source.into(), ip.destination.into()),
        _ => panic!("no IP: {whole:?}"),
    };
    let ends = (SocketAddr::new(source, udp.source_port), SocketAddr::new(destination, udp.destination_port));
    (ends.0, ends.1, whole.payload.slice())
}
