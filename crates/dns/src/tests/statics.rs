//! Static records in the corners: aliases, delegations with their glue and keys, long names and texts.

use crate::testing::{Ask, Bench, Fixture, LONDON, Replied, ask, mirror};
use crate::{DnsConfig, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{StaticData, StaticRecord};

const NAME: &str = "play.example.com";

fn a(addr: &str) -> StaticData {
    StaticData::A(addr.parse().unwrap())
}

fn ns(server: &str) -> StaticData {
    StaticData::Ns(server.into())
}

fn ds(tag: u16) -> StaticData {
    StaticData::Ds { key_tag: tag, algorithm: 13, digest_type: 2, digest: vec![0xab; 32] }
}

fn bench(fixture: &Fixture) -> Bench {
    Bench::new(fixture, DnsConfig::default())
}

fn with_do(name: &str, qtype: RecordType) -> Ask {
    Ask { dnssec_ok: true, ..ask(name, qtype).edns(1232) }
}

fn glue(reply: &Replied) -> Vec<String> {
    reply.message.additionals.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.data)).collect()
}

/// A configured zone with two domains, each with a record that the other refers to.
fn siblings() -> (Fixture, DnsConfig) {
    let mut fixture = Fixture::three();
    fixture
        .record("ns.play.example.com", a("203.0.113.1"))
        .record("to.play.example.com", StaticData::Cname("from.chat.example.com".into()));
    let chat = fixture.domain("chat.example.com", vec![mirror("one", "192.0.2.40", "", LONDON)]);
    let record = |name: &str, ttl_s, data| StaticRecord { name: name.into(), ttl_s, data };
    chat.records = vec![
        record("cut.chat.example.com", 60, ns("ns.play.example.com")),
        record("cut.chat.example.com", 50, ns("lon.play.example.com")),
        record("cut.chat.example.com", 40, ns("ns1.example.com")),
        record("cut.chat.example.com", 70, ns("ns.example.net")),
        record("from.chat.example.com", 20, StaticData::Cname("play.example.com".into())),
    ];
    let config = DnsConfig {
        zones: vec!["example.com".into()],
        nameservers: vec!["ns1.example.com".into()],
        nameserver_addresses: vec!["198.51.100.53".parse().unwrap()],
        ..DnsConfig::default()
    };
    (fixture, config)
}

#[test]
fn aliases_lead_through_other_domains_of_the_zone() {
    let (fixture, config) = siblings();
    let reply = Bench::new(&fixture, config).ask(&ask("TO.play.example.com", RecordType::A));
    assert_eq!(reply.answers(), ["CNAME from.chat.example.com.", "CNAME play.example.com.", "A 192.0.2.1"]);
    // Where each domain is a zone of its own, the resolver goes on by itself.
    let reply = bench(&fixture).ask(&ask("to.play.example.com", RecordType::A));
    assert_eq!((reply.rcode(), reply.answers()), (0, vec!["CNAME from.chat.example.com.".to_owned()]));
}

#[test]
fn a_long_chain_is_begun_and_a_circle_refused() {
    let mut fixture = Fixture::three();
    for i in 0..20 {
        fixture.record(
            &format!("c{i}.play.example.com"),
            StaticData::Cname(format!("c{}.play.example.com", i + 1)),
        );
    }
    fixture.record("c20.play.example.com", a("203.0.113.9"));
    let bench = bench(&fixture);
    let reply = bench.ask(&ask("c0.play.example.com", RecordType::A).edns(1232));
    assert_eq!((reply.rcode(), reply.answers().len()), (0, 9));
    assert_eq!(reply.answers()[8], "CNAME c9.play.example.com.");
    let reply = bench.ask(&ask("c14.play.example.com", RecordType::A).edns(1232));
    assert_eq!((reply.answers().len(), &*reply.answers()[6]), (7, "A 203.0.113.9"));
    fixture
        .record("u.play.example.com", StaticData::Cname("V.play.example.com.".into()))
        .record("v.play.example.com", StaticData::Cname("w.play.example.com".into()))
        .record("w.play.example.com", StaticData::Cname("v.play.example.com".into()));
    assert_eq!(self::bench(&fixture).ask(&ask("u.play.example.com", RecordType::A)).rcode(), 2);
}

#[test]
fn servers_of_a_part_may_lie_in_another_domain_of_the_zone() {
    let (fixture, config) = siblings();
    let reply = Bench::new(&fixture, config).ask(&ask("a.cut.chat.example.com", RecordType::A));
    assert!(!reply.message.metadata.authoritative);
    // The TTLs of a set of records are equal.
    assert_eq!(reply.authority(), ["cut.chat.example.com. 40 NS"; 4]);
    assert_eq!(
        glue(&reply),
        [
            "ns.play.example.com. 300 203.0.113.1",
            "lon.play.example.com. 20 192.0.2.1",
            "lon.play.example.com. 20 2001:db8::1",
            "ns1.example.com. 3600 198.51.100.53",
        ]
    );
    // Another zone's records are not ours to add.
    let reply = bench(&fixture).ask(&ask("a.cut.chat.example.com", RecordType::A));
    assert!(reply.message.additionals.is_empty(), "{:?}", glue(&reply));
}

#[test]
fn glue_has_one_ttl_and_any_spelling() {
    let mut fixture = Fixture::three();
    fixture.record("sub.play.example.com", ns("NS.Sub.Play.Example.Com."));
    for (n, ttl_s) in [(1, 90), (2, 80)] {
        let name = "ns.sub.play.example.com".into();
        fixture.first().records.push(StaticRecord { name, ttl_s, data: a(&format!("203.0.113.{n}")) });
    }
    let reply = bench(&fixture).ask(&ask("X.SUB.play.example.com", RecordType::MX));
    assert_eq!(
        glue(&reply),
        ["ns.sub.play.example.com. 80 203.0.113.1", "ns.sub.play.example.com. 80 203.0.113.2"]
    );
}

#[test]
fn what_lies_below_a_cut_is_the_other_servers_to_tell() {
    let mut fixture = Fixture::three();
    fixture
        .record("sub.play.example.com", ns("ns.example.net"))
        .record("sub.play.example.com", StaticData::Txt(vec!["hidden".into()]))
        .record("www.sub.play.example.com", a("203.0.113.9"))
        .record("deep.sub.play.example.com", ns("ns.elsewhere.net"))
        .record("deep.sub.play.example.com", ds(1));
    let bench = bench(&fixture);
    for (name, qtype) in [
        ("sub.play.example.com", RecordType::TXT),
        ("sub.play.example.com", RecordType::NS),
        ("sub.play.example.com", RecordType::ANY),
        ("sub.play.example.com", RecordType::SOA),
        ("www.sub.play.example.com", RecordType::A),
        ("x.deep.sub.play.example.com", RecordType::A),
        ("deep.sub.play.example.com", RecordType::DS),
    ] {
        let reply = bench.ask(&ask(name, qtype));
        assert_eq!((reply.rcode(), reply.answers().len()), (0, 0), "{name} {qtype}");
        assert_eq!(reply.authority(), ["sub.play.example.com. 300 NS"], "{name} {qtype}");
        assert!(!reply.message.metadata.authoritative, "{name} {qtype}");
    }
}

#[test]
fn the_parent_vouches_for_the_keys_of_a_part() {
    let mut fixture = Fixture::three();
    fixture
        .record("sub.play.example.com", ns("ns.example.net"))
        .record("sub.play.example.com", ds(1))
        .record("sub.play.example.com", ds(0xbeef));
    let bench = bench(&fixture);
    let reply = bench.ask(&ask("sub.play.example.com", RecordType::DS));
    assert!(reply.message.metadata.authoritative && reply.authority().is_empty());
    assert_eq!(reply.answers().len(), 2);
    for tag in [1_u16, 0xbeef] {
        // Length, key tag, algorithm, digest type, digest.
        let mut data = vec![0, 36];
        data.extend(tag.to_be_bytes());
        data.extend([13, 2]);
        data.extend([0xab; 32]);
        assert!(reply.bytes.windows(data.len()).any(|w| w == data), "{tag}");
    }
    let kinds = Replied::authority;
    let plain = bench.ask(&ask("a.sub.play.example.com", RecordType::A).edns(1232));
    assert_eq!(kinds(&plain), ["sub.play.example.com. 300 NS"]);
    let signed = bench.ask(&with_do("a.sub.play.example.com", RecordType::A));
    assert_eq!(
        kinds(&signed),
        ["sub.play.example.com. 300 NS", "sub.play.example.com. 300 DS", "sub.play.example.com. 300 DS"]
    );
    assert!(!signed.message.metadata.authoritative && signed.answers().is_empty());
    // Without keys there is nothing to add.
    fixture.first().records.retain(|r| !matches!(r.data, StaticData::Ds { .. }));
    let unsigned = self::bench(&fixture).ask(&with_do("a.sub.play.example.com", RecordType::A));
    assert_eq!(kinds(&unsigned), ["sub.play.example.com. 300 NS"]);
}

#[test]
fn a_domain_below_another_exists_in_the_zone_above() {
    let mut fixture = Fixture::three();
    fixture.domain("in.play.example.com", vec![]);
    let reply = bench(&fixture).ask(&ask("in.play.example.com", RecordType::DS));
    assert_eq!((reply.rcode(), reply.authority()), (0, vec!["play.example.com. 7 SOA".to_owned()]));
    // What the zone above says of it: its servers are told by itself, its keys from above.
    fixture.record("in.play.example.com", ns("ns.example.net")).record("in.play.example.com", ds(7));
    let bench = bench(&fixture);
    let reply = bench.ask(&ask("in.play.example.com", RecordType::DS));
    assert_eq!((reply.answers().len(), reply.message.metadata.authoritative), (1, true));
    let reply = bench.ask(&ask("in.play.example.com", RecordType::NS));
    assert_eq!(reply.answers(), ["NS ns1.in.play.example.com."]);
    let reply = bench.ask(&ask("x.in.play.example.com", RecordType::A));
    assert_eq!((reply.rcode(), reply.authority()), (3, vec!["in.play.example.com. 7 SOA".to_owned()]));
}

#[test]
fn servers_of_a_domain_that_is_part_of_a_zone_are_the_zones() {
    let (mut fixture, config) = siblings();
    fixture.record(NAME, ns("ns.elsewhere.net"));
    let reply = Bench::new(&fixture, config).ask(&ask(NAME, RecordType::NS));
    assert_eq!(
        (reply.rcode(), reply.answers().len(), reply.authority()),
        (0, 0, vec!["example.com. 7 SOA".to_owned()])
    );
    assert_eq!(bench(&fixture).ask(&ask(NAME, RecordType::NS)).answers(), ["NS ns.elsewhere.net."]);
}

#[test]
fn sets_of_records_have_one_ttl() {
    let mut fixture = Fixture::three();
    for (ttl_s, text) in [(300, "a"), (60, "b"), (600, "c")] {
        let data = StaticData::Txt(vec![text.into()]);
        fixture.first().records.push(StaticRecord { name: NAME.into(), ttl_s, data });
    }
    let reply = bench(&fixture).ask(&ask(NAME, RecordType::TXT));
    assert_eq!(reply.message.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [60, 60, 60]);
}

#[test]
fn a_text_is_several_strings() {
    let mut fixture = Fixture::three();
    fixture.record(NAME, StaticData::Txt(vec!["x".repeat(255), "y".repeat(45), String::new()]));
    let reply = bench(&fixture).ask(&ask(NAME, RecordType::TXT));
    let mut data = vec![255];
    data.extend([b'x'; 255]);
    data.push(45);
    data.extend([b'y'; 45]);
    data.push(0);
    assert!(reply.bytes.ends_with(&data) && reply.answers().len() == 1);
}

#[test]
fn a_static_service_wins_over_the_derived_and_a_null_one_is_told() {
    let mut fixture = Fixture::three();
    let srv = |target: &str| StaticData::Srv { priority: 5, weight: 0, port: 1, target: target.into() };
    fixture
        .record("_x._tcp.play.example.com", srv("there.example.net"))
        .record("_none._tcp.play.example.com", srv("."))
        .record(NAME, StaticData::Mx { preference: 0, exchange: ".".into() });
    let bench = bench(&fixture);
    for (name, expected) in [
        ("_x._tcp.play.example.com", "SRV 5 0 1 there.example.net."),
        ("_none._tcp.play.example.com", "SRV 5 0 1 ."),
        ("_y._tcp.play.example.com", "SRV 0 100 443 lon.play.example.com."),
    ] {
        assert_eq!(bench.ask(&ask(name, RecordType::SRV)).answers(), [expected]);
    }
    assert_eq!(bench.ask(&ask(NAME, RecordType::MX)).answers(), ["MX 0 ."]);
}

#[test]
fn the_longest_names_are_answered() {
    let labels = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
    let domain = format!("{}.{labels}", "d".repeat(61));
    assert_eq!(domain.len(), 253);
    let mut fixture = Fixture::empty();
    fixture.domain(&domain, vec![mirror("m", "192.0.2.1", "", LONDON)]);
    fixture.record(&domain, StaticData::Txt(vec!["t".into()]));
    let ask = |qtype| bench(&fixture).ask(&ask(&domain, qtype).edns(1232));
    assert_eq!(ask(RecordType::TXT).answers(), ["TXT t"]);
    assert_eq!(ask(RecordType::A).answers(), ["A 192.0.2.1"]);
    // There is no room for hostmaster below it.
    let nothing = ask(RecordType::MX);
    assert_eq!((nothing.rcode(), nothing.message.authorities.len()), (0, 1));
    let owner = format!("{}.{labels}", "d".repeat(59));
    let mut fixture = Fixture::empty();
    fixture.domain(&labels, vec![]);
    fixture.record(&format!("*.{labels}"), StaticData::Cname(owner.clone()));
    fixture.record(&owner, a("192.0.2.2"));
    let reply = bench(&fixture).from(
        "192.0.2.9",
        &self::ask(&format!("{}.{labels}", "E".repeat(61)), RecordType::A),
        Transport::Udp,
    );
    assert_eq!(reply.answers().len(), 2, "{:?}", reply.message);
}

#[test]
fn names_are_compressed_where_that_is_allowed() {
    let mut fixture = Fixture::three();
    fixture
        .record(NAME, StaticData::Mx { preference: 1, exchange: "mail.play.example.com".into() })
        .record("sub.play.example.com", ns("ns.sub.play.example.com"))
        .record("ns.sub.play.example.com", a("203.0.113.1"));
    let bench = bench(&fixture);
    // Header, question, and the record: pointer, fixed fields, preference, one label and a pointer.
    let question = 12 + 18 + 4;
    assert_eq!(bench.ask(&ask(NAME, RecordType::MX)).bytes.len(), question + 2 + 10 + 2 + 5 + 2);
    // The question is longer by its label; NS: pointer to the question, one label and a pointer; glue.
    let reply = bench.ask(&ask("sub.play.example.com", RecordType::A));
    assert_eq!(reply.bytes.len(), question + 4 + (2 + 10 + 3 + 2) + (2 + 10 + 4));
}
