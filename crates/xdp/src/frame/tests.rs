//! Frames against another's encoder and decoder (etherparse), and against everything that is no frame.

use super::*;
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;

const MAC: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

/// A frame by etherparse.
fn built(source: SocketAddr, destination: SocketAddr, payload: &[u8], hops: u8) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(MAC.0, MAC.1);
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
        _ => panic!("two families"),
    };
    let mut frame = Vec::new();
    ip.udp(source.port(), destination.port()).write(&mut frame, payload).unwrap();
    frame
}

/// What etherparse reads in a frame, all lengths and checksums being right: addresses of both layers, hops, payload.
fn read(frame: &[u8]) -> ([[u8; 6]; 2], SocketAddr, SocketAddr, u8, Vec<u8>) {
    let whole = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let link = whole.link.unwrap().ethernet2().unwrap();
    let Some(TransportHeader::Udp(udp)) = whole.transport else { panic!("no UDP") };
    let payload = whole.payload.slice();
    let udp_length = usize::from(udp.length);
    assert_eq!(udp_length, UDP_HEADER + payload.len());
    let (source, destination, hops, checksum): (IpAddr, IpAddr, _, _) = match whole.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert!(ip.dont_fragment && !ip.more_fragments && ip.options.is_empty());
            let checksum = udp.calc_checksum_ipv4(&ip, payload).unwrap();
            (ip.source.into(), ip.destination.into(), ip.time_to_live, checksum)
        }
        NetHeaders::Ipv6(ip, _) => {
            let checksum = udp.calc_checksum_ipv6(&ip, payload).unwrap();
            (ip.source.into(), ip.destination.into(), ip.hop_limit, checksum)
        }
        NetHeaders::Arp(_) => panic!("ARP"),
    };
    assert_eq!(udp.checksum, checksum);
    let addresses =
        (SocketAddr::new(source, udp.source_port), SocketAddr::new(destination, udp.destination_port));
    ([link.source, link.destination], addresses.0, addresses.1, hops, payload.to_vec())
}

/// Two addresses of one family that can speak to each other.
fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = (0x0100_0000_u32..0x7f00_0000, 0x8000_0000_u32..0xdfff_ffff)
        .prop_map(|(a, b)| (IpAddr::from(Ipv4Addr::from(a)), IpAddr::from(Ipv4Addr::from(b))));
    let v6 = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| {
        let of = |net: u128, host: u64| IpAddr::from(Ipv6Addr::from(net << 112 | u128::from(host)));
        (of(0x2001, a), of(0x2a00, b))
    });
    (prop_oneof![v4, v6], 1_u16.., 1_u16..)
        .prop_map(|((a, b), from, to)| (SocketAddr::new(a, from), SocketAddr::new(b, to)))
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    (ends(), bytes(300)).prop_map(|((from, to), payload)| built(from, to, &payload, 57))
}

/// The place of UDP's header.
fn udp_at(frame: &[u8]) -> usize {
    ETHERNET + if frame[12..14] == [8, 0] { IPV4 } else { IPV6 }
}

proptest! {
    #[test]
    fn what_another_writes_is_read((from, to) in ends(), payload in bytes(1400), filling in bytes(40)) {
        let mut frame = built(from, to, &payload, 3);
        frame.extend(filling);
        let read = parse(&frame).unwrap();
        prop_assert_eq!((read.source, read.destination), (from, to));
        prop_assert_eq!(&frame[read.payload], &payload[..]);
    }

    #[test]
    fn replies_are_read_by_another((from, to) in ends(), query in bytes(300), reply in bytes(1400)) {
        let frame = built(from, to, &query, 3);
        // What was there before shows nowhere.
        let mut buffer = vec![0xee; 1792];
        buffer[..frame.len()].copy_from_slice(&frame);
        let length = parse(&frame).unwrap().reply(&mut buffer, &reply).unwrap();
        prop_assert!(length >= LEAST_FRAME);
        let (macs, source, destination, hops, payload) = read(&buffer[..length]);
        prop_assert_eq!(macs, [MAC.1, MAC.0]);
        prop_assert_eq!((source, destination, hops), (to, from, HOPS));
        prop_assert_eq!(&payload, &reply);
        let used = udp_at(&frame) + UDP_HEADER + reply.len();
        prop_assert!(buffer[used..length].iter().all(|b| *b == 0));
        prop_assert!(buffer[length..].iter().all(|b| *b == 0xee) || length < frame.len());
        // It is a frame to us, too.
        let again = parse(&buffer[..length]).unwrap();
        prop_assert_eq!((again.source, again.destination), (to, from));
    }

    #[test]
    fn what_does_not_fit_is_no_reply((from, to) in ends(), room in 0_usize..200, reply in bytes(1700)) {
        let frame = built(from, to, b"?", 3);
        let read = parse(&frame).unwrap();
        let mut buffer = frame.clone();
        buffer.resize(frame.len().max(room), 0);
        let fits = (read.payload.start + reply.len()).max(LEAST_FRAME) <= buffer.len();
        prop_assert_eq!(read.reply(&mut buffer, &reply).is_some(), fits);
        prop_assert!(read.room(buffer.len(), 1500) <= 1500);
    }

    #[test]
    fn no_bytes_are_harm(frame in bytes(200), kind in prop_oneof![Just([8, 0]), Just([0x86, 0xdd])]) {
        let mut frame = frame;
        if let Some(at) = frame.get_mut(12..14) {
            at.copy_from_slice(&kind);
        }
        if let Ok(read) = parse(&frame) {
            prop_assert!(read.payload.end <= frame.len() && read.payload.start <= read.payload.end);
        }
    }

    /// Mutants that are read are read alike by another, and their replies are good.
    #[test]
    fn mutants_are_refused_or_whole(frame in frames(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut frame = frame;
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Ok(found) = parse(&frame) {
            let mut buffer = frame.clone();
            buffer.resize(400, 0);
            let length = found.reply(&mut buffer, b"answer").unwrap();
            let (macs, source, destination, ..) = read(&buffer[..length]);
            prop_assert_eq!(&macs[0][..], &frame[..6]);
            prop_assert_eq!((source, destination), (found.destination, found.source));
        }
    }

    /// The checksum is seen to be wrong; where it could be 0 by chance, or left to hardware, it was not this one.
    #[test]
    fn a_bit_that_fell_over_is_seen(frame in frames(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut frame = frame;
        let udp = udp_at(&frame);
        let at = udp + at.index(frame.len() - udp);
        prop_assume!(!(udp + 6..udp + 8).contains(&at));
        frame[at] ^= 1_u8 << bit;
        prop_assert!(parse(&frame).is_err());
    }

    #[test]
    fn every_cut_is_refused(frame in frames(), end in any::<prop::sample::Index>()) {
        prop_assert!(parse(&frame[..end.index(frame.len())]).is_err());
    }
}

fn query() -> Vec<u8> {
    built("192.0.2.1:4000".parse().unwrap(), "198.51.100.7:53".parse().unwrap(), b"query", 3)
}

fn query6() -> Vec<u8> {
    built("[2001:db8::1]:4000".parse().unwrap(), "[2001:db8::7]:53".parse().unwrap(), b"query", 3)
}

#[test]
fn a_checksum_left_to_hardware_is_no_wrong_one() {
    for mut frame in [query(), query6()] {
        let read = parse(&frame).unwrap();
        let length = (frame.len() - udp_at(&frame)) as u16;
        let sum = Sum::default().pseudo(read.source.ip(), read.destination.ip(), length).folded();
        let at = udp_at(&frame) + 6;
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&frame).unwrap(), read);
        frame[at..at + 2].copy_from_slice(&(sum ^ 1).to_be_bytes());
        assert_eq!(parse(&frame), Err(Refusal::Checksum));
    }
}

#[test]
fn only_ipv4_may_go_without_a_checksum() {
    for (mut frame, wanted) in [(query(), None), (query6(), Some(Refusal::Checksum))] {
        let at = udp_at(&frame) + 6;
        frame[at..at + 2].fill(0);
        assert_eq!(parse(&frame).err(), wanted);
    }
}

#[test]
fn who_cannot_be_answered_is_not() {
    let to = "198.51.100.7:53".parse().unwrap();
    for source in [
        "127.0.0.1:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "0.0.0.0:9",
        "0.1.2.3:9",
        "198.51.100.7:9",
        "192.0.2.1:0",
    ] {
        assert_eq!(parse(&built(source.parse().unwrap(), to, b"", 1)), Err(Refusal::Source), "{source}");
    }
    let to = "[2001:db8::7]:53".parse().unwrap();
    for source in ["[::]:9", "[::1]:9", "[ff02::1]:9", "[::ffff:192.0.2.1]:9", "[2001:db8::7]:53"] {
        assert_eq!(parse(&built(source.parse().unwrap(), to, b"", 1)), Err(Refusal::Source), "{source}");
    }
    let mut group = query();
    group[6] |= 1;
    assert_eq!(parse(&group), Err(Refusal::Source));
}

#[test]
fn what_is_strange_is_told_from_what_is_broken() {
    let changed = |at: usize, to: u8| {
        let mut frame = query();
        frame[at] = to;
        parse(&frame).err()
    };
    assert_eq!(changed(13, 6), Some(Refusal::Strange), "ARP");
    assert_eq!(changed(12, 0x81), Some(Refusal::Strange), "a tag");
    assert_eq!(changed(ETHERNET, 0x46), Some(Refusal::Strange), "options");
    assert_eq!(changed(ETHERNET + 6, 0x20), Some(Refusal::Strange), "a fragment");
    assert_eq!(changed(ETHERNET + 9, 6), Some(Refusal::Strange), "TCP");
    assert_eq!(changed(ETHERNET + 8, 9), Some(Refusal::Checksum), "another time to live");
    assert_eq!(changed(ETHERNET + IPV4 + 5, 200), Some(Refusal::Length));
    assert_eq!(parse(&[]), Err(Refusal::Length));
}

#[test]
fn a_datagram_that_is_shorter_than_its_packet_is_cut_as_the_kernel_does() {
    for frame in [query(), query6()] {
        let (read, udp) = (parse(&frame).unwrap(), udp_at(&frame));
        // Six bytes more within the packet, which UDP's own length leaves out.
        let mut longer = frame.clone();
        longer.extend(*b"nobody");
        let field = if read.source.is_ipv4() { ETHERNET + 2 } else { ETHERNET + 4 };
        let length = word(&longer, field).unwrap() + 6;
        longer[field..field + 2].copy_from_slice(&length.to_be_bytes());
        if read.source.is_ipv4() {
            longer[ETHERNET + 10..ETHERNET + 12].fill(0);
            let checksum = Sum::default().bytes(&longer[ETHERNET..ETHERNET + IPV4]).checksum();
            longer[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        assert_eq!(parse(&longer).unwrap(), read);
        // Less than its own header it cannot be.
        longer[udp + 4..udp + 6].copy_from_slice(&[0, 7]);
        assert_eq!(parse(&longer), Err(Refusal::Length));
    }
}
