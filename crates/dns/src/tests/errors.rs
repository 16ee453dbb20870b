//! What is not answered from the zones: malformed, foreign and unsupported queries.

use crate::testing::{Bench, Fixture, ask};
use crate::{DnsConfig, ErrorKind, Rcode, Transport};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

const NAME: &str = "play.example.com";

fn bench() -> Bench {
    Bench::new(&Fixture::three(), DnsConfig::default())
}

#[test]
fn what_must_not_be_answered_is_dropped() {
    let mut response = ask(NAME, RecordType::A).wire();
    response[2] |= 0x80;
    for message in [&[][..], &[1; 11], &response] {
        let (out, outcome) = bench().raw(message, "81.2.69.142", Transport::Udp);
        assert!(out.is_empty() && outcome.dropped(), "{message:?}");
        assert!(outcome.error.is_some());
    }
}

#[test]
fn opcodes_other_than_query_are_not_implemented() {
    for opcode in 1..16u8 {
        let mut wire = ask(NAME, RecordType::A).wire();
        wire[2] = opcode << 3 | 1;
        let (out, outcome) = bench().raw(&wire, "81.2.69.142", Transport::Udp);
        assert_eq!(outcome.rcode, Rcode::NotImp);
        assert_eq!(out, [0x12, 0x34, 0x80 | opcode << 3 | 1, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn who_speaks_edns_is_answered_so_whatever_is_wrong() {
    let wire = ask(NAME, RecordType::A).edns(1232).wire();
    let (opcode, authority) = ((2, 0x28), (9, 1));
    for ((at, to), rcode) in [(opcode, Rcode::NotImp), (authority, Rcode::FormErr)] {
        let mut wire = wire.clone();
        wire[at] = to;
        let (out, outcome) = bench().raw(&wire, "81.2.69.142", Transport::Udp);
        assert_eq!((outcome.rcode, &out[10..12]), (rcode, &[0, 1][..]));
        assert!(out.windows(3).any(|w| w == [0, 0, 41]), "{out:?}");
    }
}

#[test]
fn edns_versions_above_zero_are_told_so() {
    let mut wire = ask(NAME, RecordType::A).edns(1232).wire();
    let version = wire.len() - 5;
    wire[version] = 1;
    let (out, outcome) = bench().raw(&wire, "81.2.69.142", Transport::Udp);
    assert_eq!(outcome.rcode, Rcode::BadVers);
    let message = Message::from_vec(&out).unwrap();
    assert_eq!(message.metadata.response_code.low(), 0);
    assert_eq!(u16::from(message.metadata.response_code), 16);
    assert_eq!(message.edns.unwrap().version(), 0);
}

#[test]
fn other_classes_and_transfers_are_refused() {
    for class in [2, 3, 4, 254, 255] {
        let mut question = ask(NAME, RecordType::A);
        question.qclass = class;
        assert_eq!(bench().ask(&question).rcode(), 5, "class {class}");
    }
    for (qtype, rcode) in [(RecordType::AXFR, 5), (RecordType::IXFR, 5), (RecordType::Unknown(253), 4)] {
        assert_eq!(bench().ask(&ask(NAME, qtype)).rcode(), rcode, "{qtype}");
    }
}

#[test]
fn formerr_echoes_the_question_once_it_was_readable() {
    let mut trailing = ask(NAME, RecordType::A).wire();
    trailing.push(0);
    let (out, outcome) = bench().raw(&trailing, "81.2.69.142", Transport::Udp);
    assert_eq!(outcome.error.unwrap().kind, ErrorKind::TrailingBytes);
    assert_eq!(outcome.qtype, 1);
    assert_eq!(&out[4..6], &[0, 1]);
    assert_eq!(out[12..], trailing[12..trailing.len() - 1]);
    let (out, _) = bench().raw(&trailing[..20], "81.2.69.142", Transport::Udp);
    assert_eq!((out.len(), &out[..2], out[3]), (12, &[0x12, 0x34][..], 1));
}

#[test]
fn the_do_bit_is_echoed() {
    let mut question = ask(NAME, RecordType::A).edns(1232);
    assert!(!bench().ask(&question).message.edns.unwrap().flags().dnssec_ok);
    question.dnssec_ok = true;
    let edns = bench().ask(&question).message.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!(edns.max_payload(), 1232);
}
