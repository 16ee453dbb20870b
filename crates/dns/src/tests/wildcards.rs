//! Wildcards (RFC 4592): what they cover, and what stands before them.

use crate::testing::{Bench, Fixture, LONDON, ask, mirror};
use crate::{DnsConfig, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::StaticData;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn text(t: &str) -> StaticData {
    StaticData::Txt(vec![t.into()])
}

fn bench(fixture: &Fixture) -> Bench {
    Bench::new(fixture, DnsConfig::default())
}

#[test]
fn a_wildcard_stands_for_what_does_not_exist() {
    let mut fixture = Fixture::three();
    fixture
        .record("*.play.example.com", text("outer"))
        .record("*.sub.play.example.com", text("inner"))
        .record("is.play.example.com", StaticData::A("192.0.2.7".parse().unwrap()))
        .record("a.b.play.example.com", text("deep"));
    let bench = bench(&fixture);
    for (name, expected) in [
        ("x.play.example.com", Some("outer")),
        ("y.x.play.example.com", Some("outer")),
        ("_x.play.example.com", Some("outer")),
        ("x.sub.play.example.com", Some("inner")),
        ("y.x.sub.play.example.com", Some("inner")),
        ("*.play.example.com", Some("outer")),
        // What exists is itself: a name with other records, and names above others.
        ("is.play.example.com", None),
        ("b.play.example.com", None),
        ("sub.play.example.com", None),
        ("play.example.com", None),
        // What the broker derives exists.
        ("lon.play.example.com", None),
        ("_http._tcp.play.example.com", None),
        ("_udp.play.example.com", None),
        ("probe.play.example.com", None),
        ("abcdefghij234567.probe.play.example.com", None),
        ("ns1.play.example.com", None),
    ] {
        let reply = bench.ask(&ask(name, RecordType::TXT).subnet("81.2.3.0/24"));
        let expected: Vec<String> = expected.iter().map(|t| format!("TXT {t}")).collect();
        assert_eq!((reply.rcode(), reply.answers()), (0, expected), "{name}");
        assert!(reply.message.metadata.authoritative && reply.outcome.scope == Some(0), "{name}");
        assert_eq!(reply.authority().len(), usize::from(reply.answers().is_empty()), "{name}");
    }
    // Below what exists the closest encloser has no wildcard.
    for name in [
        "x.is.play.example.com",
        "x.b.play.example.com",
        "x.a.b.play.example.com",
        "x.lon.play.example.com",
        "x.probe.play.example.com",
        "http._tcp.play.example.com",
        "x.*.play.example.com",
        "*.*.play.example.com",
    ] {
        assert_eq!(bench.ask(&ask(name, RecordType::TXT)).rcode(), 3, "{name}");
    }
}

#[test]
fn the_owner_is_the_questions_name_in_its_spelling() {
    let mut fixture = Fixture::three();
    fixture.record("*.play.example.com", text("t"));
    let reply = bench(&fixture).ask(&ask("No.Such.PLAY.example.com", RecordType::TXT));
    assert_eq!(reply.message.answers[0].name.to_string(), "No.Such.PLAY.example.com.");
    assert_eq!(reply.message.answers[0].ttl, 300);
    let nothing = bench(&fixture).ask(&ask("no.such.play.example.com", RecordType::MX));
    assert_eq!((nothing.rcode(), nothing.authority()), (0, vec!["play.example.com. 7 SOA".to_owned()]));
    let any = bench(&fixture).ask(&ask("no.such.play.example.com", RecordType::ANY));
    assert_eq!(any.answers(), ["HINFO RFC8482 "]);
}

#[test]
fn an_alias_at_a_wildcard_is_followed() {
    let mut fixture = Fixture::three();
    fixture
        .record("*.play.example.com", StaticData::Cname("play.example.com".into()))
        .record("*.out.play.example.com", StaticData::Cname("example.net".into()))
        .record("*.round.play.example.com", StaticData::Cname("no.round.play.example.com".into()));
    let bench = bench(&fixture);
    let reply = bench.ask(&ask("x.play.example.com", RecordType::A).subnet("3.1.2.0/24"));
    assert_eq!(reply.answers(), ["CNAME play.example.com.", "A 192.0.2.2"]);
    assert_eq!(reply.message.answers[0].name.to_string(), "x.play.example.com.");
    assert_eq!(reply.outcome.scope, Some(9));
    assert_eq!(bench.ask(&ask("x.out.play.example.com", RecordType::A)).answers(), ["CNAME example.net."]);
    // Its own target is covered by it.
    assert_eq!(bench.ask(&ask("x.round.play.example.com", RecordType::A)).rcode(), 2);
}

#[test]
fn below_a_cut_nothing_is_covered() {
    let mut fixture = Fixture::three();
    fixture
        .record("*.play.example.com", text("outer"))
        .record("cut.play.example.com", StaticData::Ns("ns.x.cut.play.example.com".into()))
        .record("*.cut.play.example.com", text("hidden"))
        .record("*.x.cut.play.example.com", StaticData::A("192.0.2.9".parse().unwrap()));
    for name in ["cut.play.example.com", "a.cut.play.example.com", "*.cut.play.example.com"] {
        let reply = bench(&fixture).ask(&ask(name, RecordType::TXT));
        assert!(!reply.message.metadata.authoritative && reply.answers().is_empty(), "{name}");
        assert_eq!(reply.authority(), ["cut.play.example.com. 300 NS"], "{name}");
        assert!(reply.message.additionals.is_empty(), "a wildcard is no glue");
    }
}

#[test]
fn another_domain_is_not_covered() {
    let mut fixture = Fixture::empty();
    fixture.domain("example.com", vec![]);
    fixture.record("*.example.com", text("outer"));
    fixture.domain("in.b.example.com", vec![mirror("one", "192.0.2.1", "", LONDON)]);
    for zones in [vec![], vec!["example.com".to_owned()]] {
        let bench = Bench::new(&fixture, DnsConfig { zones: zones.clone(), ..DnsConfig::default() });
        for (name, rcode, answers) in [
            ("x.example.com", 0, 1),
            ("x.y.example.com", 0, 1),
            // A domain without mirrors has no services and no one-time names.
            ("_http._tcp.example.com", 0, 1),
            ("probe.example.com", 0, 1),
            ("in.b.example.com", 0, 0),
            ("x.in.b.example.com", 3, 0),
            ("b.example.com", 0, 0),
            ("x.b.example.com", 3, 0),
        ] {
            let reply = bench.ask(&ask(name, RecordType::TXT));
            assert_eq!((reply.rcode(), reply.answers().len()), (rcode, answers), "{name} {zones:?}");
        }
        let parent = bench.ask(&ask("in.b.example.com", RecordType::DS));
        assert_eq!((parent.rcode(), parent.answers().len()), (0, 0), "{zones:?}");
    }
}

/// RFC 4592 §3.3 word for word: the closest encloser is the longest existing ancestor, and the source of
/// synthesis is the asterisk label below it.
fn expected(owners: &BTreeSet<String>, name: &str) -> Option<Option<String>> {
    let exists = |n: &str| n == "d.test" || owners.iter().any(|o| o == n || o.ends_with(&format!(".{n}")));
    if exists(name) {
        return Some(owners.get(name).cloned());
    }
    let mut above = name;
    while let Some((_, parent)) = above.split_once('.') {
        above = parent;
        if exists(above) {
            return owners.get(&format!("*.{above}")).cloned().map(Some);
        }
    }
    None
}

proptest! {
    /// Agrees with the standard's own words for any set of names.
    #[test]
    fn synthesis_is_that_of_the_standard(
        owners in proptest::collection::btree_set("(\\*\\.)?([ab]\\.){0,3}d\\.test", 0..6),
        name in "((\\*|[abc])\\.){0,4}d\\.test",
    ) {
        let mut fixture = Fixture::empty();
        fixture.domain("d.test", vec![]);
        for owner in &owners {
            fixture.record(owner, text(owner));
        }
        let reply = bench(&fixture).from("192.0.2.1", &ask(&name, RecordType::TXT), Transport::Tcp);
        let found = match reply.rcode() {
            0 => Some(reply.answers().first().map(|a| a.trim_start_matches("TXT ").to_owned())),
            _ => None,
        };
        prop_assert_eq!(found, expected(&owners, &name));
    }
}
