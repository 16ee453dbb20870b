//! One-time names: what exists, what is answered, and what the shells are told.

use crate::testing::{Ask, Bench, Fixture, LONDON, Replied, ask, mirror};
use crate::{DnsConfig, Nonce, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{AllDown, StaticData};
use proptest::prelude::*;
use std::net::IpAddr;

const NONCE: &str = "abcdefghij234567";

fn one_time() -> String {
    format!("{NONCE}.probe.play.example.com")
}

fn bench(fixture: &Fixture) -> Bench {
    Bench::new(fixture, DnsConfig::default())
}

fn nonce(reply: &Replied) -> Option<&str> {
    reply.outcome.nonce.as_ref().map(Nonce::as_str)
}

fn ttls(reply: &Replied) -> Vec<u32> {
    reply.message.answers.iter().map(|r| r.ttl).collect()
}

#[test]
fn a_one_time_name_is_answered_as_the_domain_and_hardly_cached() {
    let bench = bench(&Fixture::three());
    for (qtype, net) in [
        (RecordType::A, "81.2.3.0/24"),
        (RecordType::A, "1.128.0.0/24"),
        (RecordType::AAAA, "2600:1::/48"),
        (RecordType::AAAA, "81.2.3.0/24"),
    ] {
        let asked = |name: &str| bench.ask(&ask(name, qtype).subnet(net));
        let (own, once) = (asked("play.example.com"), asked(&one_time()));
        assert_eq!(once.answers(), own.answers(), "{qtype} {net}");
        assert_eq!((once.outcome.scope, &once.outcome.mirrors), (own.outcome.scope, &own.outcome.mirrors));
        assert!(once.outcome.scope.is_some_and(|s| s > 0));
        assert_eq!((ttls(&once), nonce(&once), nonce(&own)), (vec![1], Some(NONCE), None));
        assert!(once.message.metadata.authoritative);
    }
}

#[test]
fn resolvers_that_mix_the_case_are_understood() {
    let bench = bench(&Fixture::three());
    let name = "aBcDEfghIJ234567.PrObE.pLay.Example.COM";
    let question = ask(name, RecordType::A);
    let reply = bench.ask(&question);
    assert_eq!((reply.answers(), nonce(&reply)), (vec!["A 192.0.2.1".to_owned()], Some(NONCE)));
    // The question comes back in the case in which it was asked.
    let wire = question.wire();
    assert_eq!(reply.bytes[12..wire.len()], wire[12..]);
}

#[test]
fn what_is_not_well_formed_does_not_exist() {
    let bench = bench(&Fixture::three());
    let long = "a".repeat(33);
    for label in
        ["abcdefghij23456", long.as_str(), "abcdefghij23456-", "abcdefgh.ij234567x", "_bcdefghij234567"]
    {
        let reply = bench.ask(&ask(&format!("{label}.probe.play.example.com"), RecordType::A));
        assert_eq!((reply.rcode(), nonce(&reply)), (3, None), "{label}");
    }
    for name in [
        format!("x.{}", one_time()),
        format!("{NONCE}.xprobe.play.example.com"),
        format!("{NONCE}.play.example.com"),
    ] {
        assert_eq!(bench.ask(&ask(&name, RecordType::A)).rcode(), 3, "{name}");
    }
}

#[test]
fn the_name_above_exists_and_has_nothing() {
    let bench = bench(&Fixture::three());
    for qtype in [RecordType::A, RecordType::NS, RecordType::ANY] {
        let reply = bench.ask(&ask("probe.play.example.com", qtype));
        assert_eq!((reply.rcode(), reply.answers().len()), (0, 0), "{qtype}");
        assert_eq!(reply.authority(), ["play.example.com. 7 SOA"]);
    }
    let other = bench.ask(&ask(&one_time(), RecordType::HTTPS));
    assert_eq!((other.rcode(), other.answers().len(), nonce(&other)), (0, 0, None));
}

#[test]
fn a_family_without_a_mirror_is_told_all_the_same() {
    let mut fixture = Fixture::three();
    fixture.mirrors().iter_mut().for_each(|m| m.v6 = None);
    let reply = bench(&fixture).ask(&ask(&one_time(), RecordType::AAAA));
    assert_eq!((reply.rcode(), reply.answers().len(), nonce(&reply)), (0, 0, Some(NONCE)));
    fixture.first().policy.failover.all_down = AllDown::Fallback(vec![IpAddr::from([198, 51, 100, 1])]);
    fixture.mirrors().iter_mut().for_each(|m| m.up = false);
    let reply = bench(&fixture).ask(&ask(&one_time(), RecordType::A));
    assert_eq!((reply.answers(), nonce(&reply)), (vec!["A 198.51.100.1".to_owned()], Some(NONCE)));
}

#[test]
fn a_domain_without_mirrors_has_no_one_time_names() {
    let mut fixture = Fixture::empty();
    fixture.domain("play.example.com", Vec::new());
    let bench = bench(&fixture);
    for name in [&one_time(), "probe.play.example.com"] {
        assert_eq!(bench.ask(&ask(name, RecordType::A)).rcode(), 3, "{name}");
    }
}

#[test]
fn what_people_registered_comes_first() {
    let probe = "probe.play.example.com";
    let mut fixture = Fixture::three();
    fixture.mirrors().push(mirror("probe", "192.0.2.9", "", LONDON));
    let with_mirror = bench(&fixture);
    assert_eq!(with_mirror.ask(&ask(probe, RecordType::A)).answers(), ["A 192.0.2.9"]);
    assert_eq!(nonce(&with_mirror.ask(&ask(&one_time(), RecordType::A))), Some(NONCE));

    let mut fixture = Fixture::three();
    fixture.record(probe, StaticData::A("203.0.113.1".parse().unwrap()));
    fixture.record(&one_time(), StaticData::A("203.0.113.2".parse().unwrap()));
    let with_records = bench(&fixture);
    assert_eq!(with_records.ask(&ask(probe, RecordType::A)).answers(), ["A 203.0.113.1"]);
    let fixed = with_records.ask(&ask(&one_time(), RecordType::A));
    assert_eq!((fixed.answers(), nonce(&fixed)), (vec!["A 203.0.113.2".to_owned()], None));
    assert_eq!(nonce(&with_records.ask(&ask(&one_time(), RecordType::AAAA))), Some(NONCE));

    let mut fixture = Fixture::three();
    fixture.record(probe, StaticData::Ns("ns.elsewhere.test".into()));
    let delegated = bench(&fixture).ask(&ask(&one_time(), RecordType::A));
    assert_eq!((delegated.answers().len(), nonce(&delegated)), (0, None));
    assert_eq!(delegated.authority(), ["probe.play.example.com. 300 NS"]);

    let mut fixture = Fixture::three();
    fixture.domain(probe, vec![mirror("one", "192.0.2.30", "", LONDON)]);
    assert_eq!(bench(&fixture).ask(&ask(&one_time(), RecordType::A)).rcode(), 3);
    let own = bench(&fixture).ask(&ask(&format!("{NONCE}.probe.{probe}"), RecordType::A));
    assert_eq!((own.answers(), nonce(&own)), (vec!["A 192.0.2.30".to_owned()], Some(NONCE)));
}

#[test]
fn addresses_fixed_at_the_domain_are_its_one_time_names_too() {
    let mut fixture = Fixture::three();
    fixture.record("play.example.com", StaticData::A("203.0.113.1".parse().unwrap()));
    let reply = bench(&fixture).ask(&ask(&one_time(), RecordType::A).subnet("81.2.3.0/24"));
    assert_eq!(
        (reply.answers(), ttls(&reply), reply.outcome.scope),
        (vec!["A 203.0.113.1".into()], vec![1], Some(0))
    );
}

#[test]
fn both_transports_tell_the_nonce() {
    let bench = bench(&Fixture::three());
    let question: Ask = ask(&one_time(), RecordType::A);
    for transport in Transport::ALL {
        assert_eq!(nonce(&bench.from("81.2.69.142", &question, transport)), Some(NONCE));
    }
}

proptest! {
    #[test]
    fn nonces_are_what_they_should_be(text in "\\PC{0,40}") {
        let good = (16..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let lower = text.to_ascii_lowercase();
        prop_assert_eq!(Nonce::parse(&text).map(|n| n.as_str().to_owned()), good.then_some(lower));
    }

    #[test]
    fn well_formed_nonces_are_names(text in "[a-zA-Z0-9]{16,32}") {
        let name = format!("{text}.probe.play.example.com");
        let reply = bench(&Fixture::three()).ask(&ask(&name, RecordType::A));
        prop_assert_eq!(nonce(&reply), Some(&*text.to_ascii_lowercase()));
    }
}
