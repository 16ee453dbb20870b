//! What holds for every message and every reply.

use crate::testing::{Bench, Fixture, ask};
use crate::{DnsConfig, Transport};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use nearmost_core::registry::StaticData;
use proptest::prelude::*;

fn bench() -> Bench {
    let mut fixture = Fixture::three();
    for i in 0..12 {
        fixture.record("play.example.com", StaticData::Txt(vec![i.to_string().repeat(120)]));
    }
    let mx = StaticData::Mx { preference: 5, exchange: "mx.play.example.com".into() };
    fixture.record("play.example.com", mx);
    fixture.record("part.play.example.com", StaticData::Ns("ns.part.play.example.com".into()));
    fixture.record("ns.part.play.example.com", StaticData::A([192, 0, 2, 53].into()));
    fixture.record("www.play.example.com", StaticData::Cname("play.example.com".into()));
    Bench::new(&fixture, DnsConfig::default())
}

fn transports() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

/// The promises of any reply to any message.
fn check(bench: &Bench, message: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let (out, outcome) = bench.raw(message, "81.2.69.142", transport);
    if outcome.dropped() {
        prop_assert!(out.is_empty() && (message.len() < 12 || message[2] & 0x80 != 0));
        return Ok(());
    }
    prop_assert_eq!(&out[..2], &message[..2]);
    prop_assert!(out[2] & 0x80 != 0);
    // What is left of a reply that is held back is a reply, too.
    let (mut short, mut shorter) = (out.clone(), outcome.clone());
    crate::limiter::slip(&mut short, &mut shorter);
    prop_assert!((12..=out.len()).contains(&short.len()));
    let decoded = Message::from_vec(&short);
    prop_assert!(decoded.is_ok(), "{short:?}");
    prop_assert_eq!(decoded.is_ok_and(|m| m.metadata.truncation), shorter.truncated);
    prop_assert_eq!(usize::from(shorter.account.reply_bytes), short.len());
    let limit = if transport == Transport::Udp { 1232 } else { 65_535 };
    prop_assert!(out.len() <= limit);
    match Message::from_vec(&out) {
        Err(e) => return Err(TestCaseError::fail(format!("{e}: {out:?}"))),
        // An independent encoder writes the same records in the same bytes.
        Ok(message) if outcome.error.is_none() => prop_assert_eq!(message.to_vec().ok(), Some(out)),
        Ok(_) => {}
    }
    Ok(())
}

/// Messages that look like queries, some of them spoilt.
fn nearly_queries() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("play.example.com".to_owned()),
        "[a-zA-Z_*-]{1,12}(\\.[a-z_]{1,9}){0,4}\\.play\\.example\\.com",
        "(www|lon|x\\.part|_a\\._tcp|ns1|abcdefghij234567\\.probe|probe)\\.pLay\\.eXample\\.com",
        "[a-z.]{0,40}",
    ];
    let qtypes = prop_oneof![
        any::<u16>(),
        prop::sample::select(vec![1u16, 2, 5, 6, 15, 16, 28, 33, 43, 64, 65, 255, 257])
    ];
    let option = (prop_oneof![Just(8u16), any::<u16>()], prop::collection::vec(any::<u8>(), 0..20));
    let options = prop::collection::vec(option, 0..3);
    let spoil = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (names, qtypes, prop::option::of(any::<u16>()), options, spoil).prop_map(
        |(name, qtype, payload, options, spoil)| {
            let mut question = ask(&name.replace("..", "."), RecordType::from(qtype));
            question.payload = payload;
            question.options = options;
            let mut wire = question.wire();
            for (at, byte) in spoil {
                let at = at.index(wire.len());
                wire[at] = byte;
            }
            wire
        },
    )
}

#[test]
fn replies_to_arbitrary_bytes() {
    let bench = bench();
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    proptest!(ProptestConfig::with_cases(4000), |(message in bytes, transport in transports())| {
        check(&bench, &message, transport)?;
    });
}

#[test]
fn replies_to_bytes_that_resemble_queries() {
    let bench = bench();
    proptest!(ProptestConfig::with_cases(8000), |(message in nearly_queries(), transport in transports())| {
        check(&bench, &message, transport)?;
    });
}

#[test]
fn the_question_comes_back_byte_for_byte() {
    let bench = bench();
    proptest!(|(upper: u32, label in "[a-zA-Z0-9]{1,20}")| {
        let name: String = format!("{label}.play.example.com")
            .chars()
            .enumerate()
            .map(|(i, c)| if upper >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        for name in [&name[..], &name[label.len() + 1..]] {
            let wire = ask(name, RecordType::A).wire();
            let (out, _) = bench.raw(&wire, "81.2.69.142", Transport::Udp);
            prop_assert_eq!(&out[12..wire.len()], &wire[12..]);
        }
    });
}

#[test]
fn a_datagram_is_never_larger_than_asked_for() {
    let bench = bench();
    proptest!(|(payload: Option<u16>)| {
        let mut question = ask("play.example.com", RecordType::TXT);
        question.payload = payload;
        let reply = bench.ask(&question);
        let limit = payload.unwrap_or(512).clamp(512, 1232);
        prop_assert!(reply.bytes.len() <= usize::from(limit));
    });
}

#[test]
fn owner_names_are_compressed() {
    let reply = bench().from("81.2.69.142", &ask("PLAY.example.com", RecordType::TXT), Transport::Tcp);
    assert_eq!(reply.message.answers.len(), 12);
    let question = 12 + 18 + 4;
    assert_eq!(&reply.bytes[question..question + 2], &[0xc0, 12]);
}
