//! The parser: a table of everything it refuses, and what it reads of what it accepts.

use super::*;
use crate::cookie::ServerPart;
use crate::testing::ask;
use hickory_proto::op::{Edns as HickoryEdns, Message, Query as HickoryQuery};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

fn query() -> Vec<u8> {
    ask("Play.Example.com", RecordType::A).wire()
}

fn with_opt(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut question = ask("play.example.com", RecordType::A).edns(1232);
    question.options = options.iter().map(|(c, d)| (*c, d.to_vec())).collect();
    question.wire()
}

fn set(mut wire: Vec<u8>, at: usize, to: &[u8]) -> Vec<u8> {
    wire[at..at + to.len()].copy_from_slice(to);
    wire
}

fn appended(mut wire: Vec<u8>, more: &[u8]) -> Vec<u8> {
    wire.extend_from_slice(more);
    wire
}

/// The question of `query()` ends here.
const END: usize = 12 + 18 + 4;

#[test]
fn everything_refused_is_named_with_its_place() {
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let one_more = |w: Vec<u8>| set(w, 10, &[0, 1]);
    let two = appended(set(with_opt(&[]), 10, &[0, 2]), &opt);
    let long_name = {
        let mut name: Vec<u8> = [&[63][..], &[b'x'; 63]].concat().repeat(4);
        name.push(0);
        appended(appended(query()[..12].to_vec(), &name), &[0, 1, 0, 1])
    };
    let table: Vec<(Vec<u8>, ErrorKind, usize)> = vec![
        (vec![], ErrorKind::Short, 0),
        (vec![0; 11], ErrorKind::Short, 11),
        (set(query(), 2, &[0x80]), ErrorKind::Response, 2),
        (set(query(), 2, &[0x28]), ErrorKind::Opcode, 2),
        (set(query(), 4, &[0, 0]), ErrorKind::QuestionCount, 4),
        (set(query(), 4, &[0, 2]), ErrorKind::QuestionCount, 4),
        (set(query(), 4, &[1, 1]), ErrorKind::QuestionCount, 4),
        (set(query(), 6, &[0, 1]), ErrorKind::UnexpectedRecords, 6),
        (set(query(), 8, &[0, 1]), ErrorKind::UnexpectedRecords, 8),
        (set(query(), 12, &[64]), ErrorKind::Label, 12),
        (set(query(), 12, &[0x80]), ErrorKind::Label, 12),
        (set(query(), 17, &[0xc0, 12]), ErrorKind::Pointer, 17),
        (long_name, ErrorKind::NameLength, 12),
        (query()[..12].to_vec(), ErrorKind::Truncated, 12),
        (query()[..20].to_vec(), ErrorKind::Truncated, 17),
        (query()[..END - 5].to_vec(), ErrorKind::Truncated, END - 5),
        (query()[..END - 3].to_vec(), ErrorKind::Truncated, END - 4),
        (query()[..END - 1].to_vec(), ErrorKind::Truncated, END - 2),
        (set(query(), END - 4, &[0, 41]), ErrorKind::QuestionType, END - 4),
        (set(query(), END - 4, &[0, 0]), ErrorKind::QuestionType, END - 4),
        (one_more(query()), ErrorKind::Truncated, END),
        (appended(one_more(query()), &opt[..4]), ErrorKind::Truncated, END + 3),
        (appended(one_more(query()), &opt[..10]), ErrorKind::Truncated, END + 9),
        (appended(one_more(query()), &[0x40]), ErrorKind::Label, END),
        (appended(one_more(query()), &[0xc0]), ErrorKind::Truncated, END),
        (appended(one_more(query()), &[0x3f, 1]), ErrorKind::Truncated, END),
        (appended(one_more(query()), &[&[1, b'x'], &opt[..]].concat()), ErrorKind::OptName, END),
        (set(with_opt(&[]), END + 6, &[1]), ErrorKind::EdnsVersion, END + 6),
        (two, ErrorKind::OptTwice, END + 11),
        (set(with_opt(&[]), END + 9, &[0, 1]), ErrorKind::Truncated, END + 11),
        (appended(set(with_opt(&[]), END + 9, &[0, 3]), &[0, 8, 0]), ErrorKind::OptionLength, END + 11),
        (appended(set(with_opt(&[]), END + 9, &[0, 4]), &[0, 8, 0, 1]), ErrorKind::OptionLength, END + 13),
        (with_opt(&[(8, &[0, 1, 0, 0]), (8, &[0, 1, 0, 0])]), ErrorKind::EcsTwice, END + 19),
        (with_opt(&[(10, &[1; 8]), (8, &[0, 1, 9, 0, 1, 1])]), ErrorKind::EcsBits, END + 11 + 12 + 4 + 5),
        (with_opt(&[(10, &[1; 9])]), ErrorKind::CookieLength, END + 15),
        (with_opt(&[(12, &[]), (10, &[])]), ErrorKind::CookieLength, END + 19),
        (appended(query(), &[0]), ErrorKind::TrailingBytes, END),
        (appended(with_opt(&[]), &opt), ErrorKind::TrailingBytes, END + 11),
    ];
    for (i, (wire, kind, at)) in table.iter().enumerate() {
        let rejection = parse(wire).expect_err(&format!("row {i}"));
        assert_eq!(rejection.error, kind.at(*at), "row {i}: {wire:?}");
        assert!(rejection.error.to_string().ends_with(&format!("at byte {at}")));
    }
    let missing: Vec<_> = ErrorKind::ALL.iter().filter(|k| !table.iter().any(|(_, t, _)| t == *k)).collect();
    // These have a table of their own beside the option's decoder, or depend on the transport.
    let elsewhere = |k: &&ErrorKind| ["ecs_", "keepalive_"].iter().any(|p| k.as_str().starts_with(p));
    assert!(missing.iter().all(elsewhere), "{missing:?}");
}

/// An IXFR query with an SOA of this type in its authority section, and an OPT record.
fn ixfr(soa: u8) -> Vec<u8> {
    let mut wire = set(set(query(), 8, &[0, 1, 0, 1]), END - 4, &[0, 251]);
    wire.extend_from_slice(&[0xc0, 12, 0, soa, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    wire.extend_from_slice(&[7; 20]);
    wire.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    wire
}

#[test]
fn a_client_tells_which_version_of_a_zone_it_has_when_it_asks_for_what_is_new() {
    let wire = ixfr(6);
    let query = parse(&wire).unwrap();
    assert_eq!((query.qtype, query.edns.unwrap().payload), (251, 1232));
    let refused = |wire: &[u8]| parse(wire).unwrap_err().error;
    assert_eq!(refused(&ixfr(1)), ErrorKind::UnexpectedRecords.at(END));
    assert_eq!(refused(&set(ixfr(6), 9, &[2])), ErrorKind::UnexpectedRecords.at(8));
    assert_eq!(refused(&set(ixfr(6), END - 3, &[252])), ErrorKind::UnexpectedRecords.at(8));
    assert_eq!(refused(&ixfr(6)[..END + 20]), ErrorKind::Truncated.at(END + 12));
}

#[test]
fn an_opt_record_behind_what_is_wrong_is_seen() {
    let opt = with_opt(&[]);
    for (at, to, kind) in [
        (2, &[0x28][..], ErrorKind::Opcode),
        (2, &[0x20], ErrorKind::Opcode),
        (END - 4, &[0, 0], ErrorKind::QuestionType),
        (12, &[0xc0, 12], ErrorKind::Pointer),
    ] {
        let mut wire = set(opt.clone(), at, to);
        if kind == ErrorKind::Pointer {
            wire.drain(14..END - 4);
        }
        let rejection = parse(&wire).unwrap_err();
        assert_eq!((rejection.error.kind, rejection.opt), (kind, true));
        wire.truncate(wire.len() - 11);
        assert!(!parse(&wire).unwrap_err().opt, "{kind:?}");
    }
    // One record, said to be in the answer or authority section.
    for at in [6, 8] {
        let wire = set(set(opt.clone(), 10, &[0, 0]), at, &[0, 1]);
        assert!(parse(&wire).unwrap_err().opt, "{at}");
    }
    let two = [&set(opt.clone(), 4, &[0, 2])[..END], &opt[12..]].concat();
    let rejection = parse(&two).unwrap_err();
    assert_eq!((rejection.error.kind, rejection.opt), (ErrorKind::QuestionCount, true));
    assert!(!parse(&set(opt, 2, &[0x80])).unwrap_err().opt, "not answered");
}

#[test]
fn kinds_are_listed_in_order_and_labels_are_distinct() {
    for (i, kind) in ErrorKind::ALL.iter().enumerate() {
        assert_eq!(*kind as usize, i);
        assert_eq!(ErrorKind::ALL.iter().filter(|k| k.as_str() == kind.as_str()).count(), 1);
    }
}

#[test]
fn case_is_kept_in_the_question_only() {
    let wire = query();
    let query = parse(&wire).unwrap();
    assert_eq!(query.question, &wire[12..]);
    assert_eq!(query.name.wire(), b"\x04play\x07example\x03com\x00");
    assert_eq!((query.id, query.rd, query.qtype, query.qclass), (0x1234, true, 1, 1));
    assert!(query.edns.is_none());
}

#[test]
fn records_besides_opt_are_passed_over() {
    // A TSIG-like record with a compressed owner, then the OPT record.
    let mut wire = query();
    wire.extend_from_slice(&[0xc0, 12, 0, 250, 0, 255, 0, 0, 0, 0, 0, 2, 9, 9]);
    wire.extend_from_slice(&[0, 0, 41, 2, 0, 0, 0, 0x80, 0, 0, 0]);
    let wire = set(wire, 10, &[0, 2]);
    let edns = parse(&wire).unwrap().edns.unwrap();
    assert_eq!(edns, Edns { payload: 512, dnssec_ok: true, compact_ok: false, options: Options::default() });
}

/// A message without a question, with these options.
fn no_question(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut wire = set(with_opt(options), 4, &[0, 0]);
    wire.drain(12..END);
    wire
}

#[test]
fn options_are_read_whatever_stands_between() {
    let options = [
        (65_001, &[9; 300][..]),
        (11, &[]),
        (10, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (3, &[]),
        // Only the first cookie and keepalive count.
        (10, &[0; 3]),
        (11, &[0, 1]),
        (8, &[0, 1, 8, 0, 81]),
        (12, &[0; 7]),
    ];
    let wire = with_opt(&options);
    let read = parse(&wire).unwrap().edns.unwrap().options;
    assert_eq!(read.cookie, Some(Cookie { client: [1, 2, 3, 4, 5, 6, 7, 8], server: ServerPart::Absent }));
    assert_eq!(read.ecs.unwrap().source, 8);
    assert!(read.nsid && read.padding);
    let keepalive = read.keepalive.unwrap();
    assert!(keepalive.empty && wire[keepalive.at - 4..keepalive.at] == [0, 11, 0, 0]);
    assert_eq!(parse(&with_opt(&[(65_001, &[9])])).unwrap().edns.unwrap().options, Options::default());
    assert!(!parse(&with_opt(&[(11, &[0, 1])])).unwrap().edns.unwrap().options.keepalive.unwrap().empty);
}

#[test]
fn a_question_may_be_missing_beside_a_cookie_only() {
    let wire = no_question(&[(10, &[1; 8])]);
    let query = parse(&wire).unwrap();
    assert_eq!((query.question, query.name.wire(), query.qtype, query.qclass), (&[][..], &[0][..], 0, 0));
    assert!(query.edns.unwrap().options.cookie.is_some());
    let refused: [(Vec<u8>, ErrorKind, usize); 4] = [
        (no_question(&[]), ErrorKind::QuestionCount, 4),
        (no_question(&[(10, &[1; 7])]), ErrorKind::CookieLength, 12 + 15),
        (appended(no_question(&[(10, &[1; 8])]), &[0]), ErrorKind::TrailingBytes, 12 + 11 + 12),
        (set(no_question(&[(10, &[1; 8])]), 6, &[0, 1]), ErrorKind::QuestionCount, 4),
    ];
    for (wire, kind, at) in refused {
        assert_eq!(parse(&wire).unwrap_err().error, kind.at(at), "{wire:?}");
    }
}

proptest! {
    #[test]
    fn what_another_encoder_writes_is_read_back(
        id: u16,
        labels in prop::collection::vec("[a-zA-Z0-9_-]{1,63}", 0..3),
        qtype in prop::sample::select(vec![RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::SRV]),
        payload in prop::option::of(512u16..),
    ) {
        let name = Name::from_labels(labels.iter().map(|l| l.as_bytes())).unwrap();
        let mut message = Message::query();
        message.metadata.id = id;
        message.queries.push(HickoryQuery::query(name, qtype));
        message.edns = payload.map(|p| {
            let mut edns = HickoryEdns::new();
            edns.set_max_payload(p);
            edns
        });
        let wire = message.to_vec().unwrap();
        let query = parse(&wire).unwrap();
        prop_assert_eq!(query.id, id);
        prop_assert_eq!(query.qtype, u16::from(qtype));
        prop_assert_eq!(query.edns.map(|e| e.payload), payload);
        let wanted: Vec<u8> = labels
            .iter()
            .flat_map(|l| std::iter::once(l.len() as u8).chain(l.to_ascii_lowercase().into_bytes()))
            .chain([0])
            .collect();
        prop_assert_eq!(query.name.wire(), &wanted[..]);
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused_within_the_message(bytes: Vec<u8>) {
        if let Err(rejection) = parse(&bytes) {
            prop_assert!(rejection.error.at <= bytes.len());
        }
    }
}
