#![cfg(target_endian = "little")]

use super::*;
use proptest::prelude::*;

/// One datagram of Linux 6.18 on x86-64 in answer to request 7 for port 4433 of IPv6: a listener on
/// `[::]` with one connection from 127.0.0.1 (round trip 12 µs, least 8 µs) and one from ::1 (10 µs,
/// least 8 µs).
const RECORDED: &[u8] = include_bytes!("recorded_dump.bin");
/// The datagram that ended it.
const END: [u8; 20] = [0x14, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0x18, 0x25, 0, 0, 0, 0, 0, 0];
/// Where the first `struct tcp_info` is in the recorded datagram, and how long: as in any of today.
const INFO_LENGTH: usize = 280;

fn seen(datagram: &[u8], seq: u32) -> (Result<Progress, AnswerError>, Vec<Connection>) {
    let mut connections = Vec::new();
    let progress = read(datagram, seq, |c| connections.push(c));
    (progress, connections)
}

/// A connection's message with its attributes; 10.0.0.1:443 and 192.0.2.7.
fn message(seq: u32, state: u8, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; BODY];
    body[..2].copy_from_slice(&[2, state]);
    body[4..6].copy_from_slice(&443u16.to_be_bytes());
    body[8..12].copy_from_slice(&[10, 0, 0, 1]);
    body[24..28].copy_from_slice(&[192, 0, 2, 7]);
    body.extend(attributes);
    let mut bytes = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A `struct tcp_info` that is cut off after so many bytes.
fn tcp_info(rtt: u32, min_rtt: u32, length: usize) -> Vec<u8> {
    let mut info = vec![0; INFO_LENGTH];
    info[RTT_AT..RTT_AT + 4].copy_from_slice(&rtt.to_ne_bytes());
    info[MIN_RTT_AT..MIN_RTT_AT + 4].copy_from_slice(&min_rtt.to_ne_bytes());
    info.truncate(length);
    info
}

fn rtt_with(attributes: &[u8]) -> u32 {
    let (progress, connections) = seen(&message(1, ESTABLISHED, attributes), 1);
    assert_eq!(progress.expect("read"), Progress::More);
    assert_eq!(connections.len(), 1);
    connections[0].rtt_us
}

#[test]
fn a_recorded_answer_is_read() {
    let (progress, connections) = seen(RECORDED, 7);
    assert_eq!(progress.expect("read"), Progress::More);
    let connection = |ip: &str| {
        let ip: IpAddr = ip.parse().expect("an address");
        Connection { local: SocketAddr::new(ip, 4433), peer: ip, rtt_us: 8 }
    };
    assert_eq!(connections, [connection("127.0.0.1"), connection("::1")]);
    assert_eq!(seen(&END, 7).0.expect("read"), Progress::Done);
    let (progress, others) = seen(RECORDED, 8);
    assert_eq!((progress.expect("read"), others), (Progress::More, vec![]), "of another request");
}

#[test]
fn a_request_asks_for_one_port() {
    let bytes = request(Family::V6, 4433, 7);
    assert_eq!(bytes.len(), 72);
    assert_eq!(bytes[..16], [72, 0, 0, 0, 20, 0, 1, 3, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..28], [10, 6, 2, 0, 2, 0, 0, 0, 0x11, 0x51, 0, 0]);
    assert_eq!(bytes[64..], [0xff; 8]);
}

#[test]
fn the_least_round_trip_counts_and_else_the_smoothed_one() {
    let with = |rtt, min, length| rtt_with(&attribute(INFO, &tcp_info(rtt, min, length)));
    assert_eq!(with(900, 700, INFO_LENGTH), 700);
    // Nothing timed in the last minutes, or ever.
    assert_eq!(with(900, u32::MAX, INFO_LENGTH), 900);
    assert_eq!(with(900, 0, INFO_LENGTH), 900);
    assert_eq!(with(0, u32::MAX, INFO_LENGTH), 0);
    // Older kernels.
    assert_eq!(with(900, 700, 104), 900);
    assert_eq!(with(900, 700, 151), 900);
    assert_eq!(with(900, 700, 152), 700);
    assert_eq!(with(900, 700, 71), 0);
    assert_eq!(with(900, 700, 0), 0);
}

#[test]
fn other_attributes_are_passed_over() {
    let mut attributes = attribute(5, &[0]);
    attributes.extend(attribute(15, b"cubic\0\0"));
    attributes.extend(attribute(INFO, &tcp_info(5, 4, INFO_LENGTH)));
    assert_eq!(rtt_with(&attributes), 4);
    assert_eq!(rtt_with(&attribute(5, &[0])), 0);
    assert_eq!(rtt_with(&[]), 0);
}

#[test]
fn what_is_not_an_established_connection_is_left_out() {
    let (_, connections) = seen(&message(1, 10, &[]), 1);
    assert_eq!(connections, []);
    let mut other_family = message(1, ESTABLISHED, &[]);
    other_family[HEAD] = 1;
    assert_eq!(seen(&other_family, 1).1, []);
}

#[test]
fn refusals_and_wrong_lengths_are_told_apart() {
    let error = |number: i32, kind: u16| {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(number.to_ne_bytes());
        seen(&bytes, 1).0
    };
    for kind in [ERROR, DONE] {
        match error(-2, kind) {
            Err(AnswerError::Refused(e)) => assert_eq!(e.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
        assert_eq!(error(0, kind).expect("fine"), Progress::Done);
    }
    assert!(matches!(error(i32::MIN, ERROR), Err(AnswerError::Refused(_))));
    let good = message(1, ESTABLISHED, &attribute(INFO, &tcp_info(5, 4, INFO_LENGTH)));
    let what = |bytes: &[u8]| match seen(bytes, 1).0 {
        Err(AnswerError::Length { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(&good[..10]), "head");
    assert_eq!(what(&good[..good.len() - 1]), "message");
    let with_length = |length: u32| [&length.to_ne_bytes()[..], &good[4..]].concat();
    assert_eq!(what(&with_length(0)), "message");
    assert_eq!(what(&with_length(15)), "message");
    assert_eq!(what(&with_length(80)), "connection");
    assert_eq!(what(&with_length(90)), "attribute");
    for length in [0u16, 3, 400] {
        let mut wrong = good.clone();
        wrong[HEAD + BODY..HEAD + BODY + 2].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(what(&wrong), "attribute", "{length}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), seq: u32) {
        let _ = seen(&bytes, seq);
    }

    #[test]
    fn a_changed_answer_never_panics(at in 0usize..816, byte: u8, cut in 0usize..817) {
        let mut bytes = RECORDED.to_vec();
        bytes[at] = byte;
        let _ = seen(&bytes, 7);
        let (_, connections) = seen(&RECORDED[..cut], 7);
        prop_assert!(connections.len() <= 2);
    }

    #[test]
    fn what_is_written_is_read(rtt in 0u32..u32::MAX, min in 1u32..u32::MAX, length in 0usize..=INFO_LENGTH) {
        let expected = match length {
            152.. => min,
            72.. => rtt,
            _ => 0,
        };
        prop_assert_eq!(rtt_with(&attribute(INFO, &tcp_info(rtt, min, length))), expected);
    }
}
