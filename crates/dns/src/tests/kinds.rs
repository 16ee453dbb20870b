//! Record types, one by one.

use crate::testing::{Ask, Bench, Fixture, NEW_YORK, ask, mirror, place};
use crate::{DnsConfig, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::ranking::Basis;
use nearmost_core::registry::{AllDown, StaticData};
use std::net::IpAddr;

const NAME: &str = "play.example.com";

fn three() -> Bench {
    Bench::new(&Fixture::three(), DnsConfig::default())
}

fn answers(fixture: &Fixture, question: &Ask) -> Vec<String> {
    Bench::new(fixture, DnsConfig::default()).ask(question).answers()
}

#[test]
fn addresses_of_the_nearest_mirror() {
    let bench = three();
    for (source, v4, v6) in [
        ("81.2.69.142", "A 192.0.2.1", "AAAA 2001:db8::1"),
        ("3.1.2.3", "A 192.0.2.2", "AAAA 2001:db8::2"),
        ("2600::1", "A 192.0.2.2", "AAAA 2001:db8::2"),
        // Sydney has no IPv6: the nearest that has.
        ("1.128.1.1", "A 192.0.2.3", "AAAA 2001:db8::2"),
        ("::ffff:3.1.2.3", "A 192.0.2.2", "AAAA 2001:db8::2"),
    ] {
        let reply = bench.from(source, &ask(NAME, RecordType::A), Transport::Udp);
        assert_eq!(reply.answers(), [v4], "{source}");
        assert_eq!(reply.message.answers[0].ttl, 20);
        assert!(reply.message.metadata.authoritative && reply.message.metadata.recursion_desired);
        assert!(!reply.message.metadata.recursion_available);
        assert_eq!(reply.outcome.chosen.map(|c| c.basis), Some(Basis::Eligible));
        assert_eq!(reply.outcome.mirrors.len(), 1);
        let reply = bench.from(source, &ask(NAME, RecordType::AAAA), Transport::Udp);
        assert_eq!(reply.answers(), [v6], "{source}");
    }
}

#[test]
fn several_addresses_within_the_tie_band_only() {
    let mut fixture = Fixture::three();
    fixture.mirrors().push(mirror("lon2", "192.0.2.9", "", (51.6, -0.2)));
    assert_eq!(answers(&fixture, &ask(NAME, RecordType::A)), ["A 192.0.2.1", "A 192.0.2.9"]);
    fixture.first().policy.answers = 1;
    assert_eq!(answers(&fixture, &ask(NAME, RecordType::A)), ["A 192.0.2.1"]);
}

#[test]
fn a_mirror_that_is_down_is_walked_past() {
    let mut fixture = Fixture::three();
    fixture.mirrors()[0].up = false;
    assert_eq!(answers(&fixture, &ask(NAME, RecordType::A)), ["A 192.0.2.2"]);
}

#[test]
fn all_down_is_the_owners_choice() {
    let mut fixture = Fixture::three();
    fixture.mirrors().iter_mut().for_each(|m| m.up = false);
    let fallback = |a: &str| AllDown::Fallback(vec![a.parse::<IpAddr>().unwrap()]);
    for (policy, expected, basis) in [
        (AllDown::All, vec!["A 192.0.2.1"], Basis::AllDownAll),
        (AllDown::LastKnown, vec![], Basis::Empty),
        (fallback("198.51.100.1"), vec!["A 198.51.100.1"], Basis::AllDownFallback),
        (fallback("2001:db8::f"), vec![], Basis::Empty),
        (AllDown::NoAnswer, vec![], Basis::Empty),
    ] {
        fixture.first().policy.failover.all_down = policy.clone();
        let reply = Bench::new(&fixture, DnsConfig::default()).ask(&ask(NAME, RecordType::A));
        assert_eq!(reply.answers(), expected, "{policy:?}");
        assert_eq!(reply.outcome.chosen.map(|c| c.basis), Some(basis));
        assert_eq!(reply.rcode(), 0);
        if expected.is_empty() {
            assert_eq!(reply.authority(), ["play.example.com. 7 SOA"]);
        }
    }
}

#[test]
fn services_of_one_mirror_are_the_owners_own() {
    let bench = three();
    for qtype in [RecordType::HTTPS, RecordType::SVCB] {
        let reply = bench.ask(&ask(NAME, qtype));
        let text = reply.answers().join("\n");
        assert!(text.contains(" 1 . "), "{text}");
        for part in ["h2", "443", "192.0.2.1", "2001:db8::1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(reply.message.answers.len(), 1);
    }
}

#[test]
fn services_of_several_mirrors_name_each() {
    let mut fixture = Fixture::three();
    fixture.mirrors().push(mirror("lon2", "192.0.2.9", "", (51.6, -0.2)));
    fixture.mirrors()[0].port = 8443;
    let got = answers(&fixture, &ask(NAME, RecordType::HTTPS));
    assert_eq!(got.len(), 2);
    assert!(got[0].contains(" 1 lon.play.example.com. ") && got[0].contains("8443"), "{got:?}");
    assert!(got[1].contains(" 1 lon2.play.example.com. ") && !got[1].contains("ipv6"), "{got:?}");
    // Without a protocol a browser must not be told of HTTPS; a generic service may be.
    fixture.first().policy.alpn.clear();
    assert!(answers(&fixture, &ask(NAME, RecordType::HTTPS)).is_empty());
    assert_eq!(answers(&fixture, &ask(NAME, RecordType::SVCB)).len(), 2);
}

#[test]
fn a_service_that_is_near_in_one_family_only_comes_second() {
    let bench = three();
    let reply = bench.from("1.128.1.1", &ask(NAME, RecordType::SVCB), Transport::Udp);
    let got = reply.answers();
    assert!(got[0].contains(" 1 syd.play.example.com. ") && !got[0].contains("ipv6"), "{got:?}");
    assert!(got[1].contains(" 2 nyc.play.example.com. ") && !got[1].contains("ipv4"), "{got:?}");
}

#[test]
fn a_fallback_is_no_mirrors_address() {
    let mut fixture = Fixture::three();
    fixture.mirrors().truncate(1);
    fixture.mirrors()[0].v6 = None;
    fixture.first().policy.failover.all_down = AllDown::Fallback(vec!["2001:db8::f".parse().unwrap()]);
    // While one family works, the other has no fallback.
    assert!(answers(&fixture, &ask(NAME, RecordType::AAAA)).is_empty());
    let got = answers(&fixture, &ask(NAME, RecordType::SVCB));
    assert!(got.len() == 1 && got[0].contains(" 1 . ") && !got[0].contains("2001:db8::f"), "{got:?}");
    fixture.mirrors()[0].up = false;
    assert_eq!(answers(&fixture, &ask(NAME, RecordType::AAAA)), ["AAAA 2001:db8::f"]);
    assert!(answers(&fixture, &ask(NAME, RecordType::SVCB)).is_empty());
}

#[test]
fn services_are_no_more_than_answers() {
    let mut fixture = Fixture::three();
    fixture.first().policy.answers = 1;
    let bench = Bench::new(&fixture, DnsConfig::default());
    for (name, qtype) in [
        (NAME, RecordType::HTTPS),
        (NAME, RecordType::SVCB),
        ("_game._udp.play.example.com", RecordType::SRV),
    ] {
        // In Sydney the families have different mirrors.
        let got = bench.from("1.128.1.1", &ask(name, qtype), Transport::Udp).answers();
        // The owner's IPv6 address is another mirror's, so the target is named.
        assert!(got.len() == 1 && got[0].contains("syd.play.example.com."), "{qtype}: {got:?}");
    }
}

#[test]
fn users_of_unknown_place_share_out_by_network() {
    let mut fixture = Fixture::three();
    fixture.first().policy.answers = 8;
    let bench = Bench::new(&fixture, DnsConfig::default());
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..64 {
        let reply = bench.ask(&ask(NAME, RecordType::A).subnet(&format!("203.0.{n}.128/25")));
        assert_eq!((reply.answers().len(), reply.outcome.scope), (1, Some(24)));
        let neighbour = bench.ask(&ask(NAME, RecordType::A).subnet(&format!("203.0.{n}.7/32")));
        assert_eq!(reply.answers(), neighbour.answers());
        seen.extend(reply.answers());
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn locations_with_their_addresses() {
    let bench = three();
    let reply = bench.ask(&ask("_game._udp.play.example.com", RecordType::SRV));
    assert_eq!(reply.answers(), ["SRV 0 100 443 lon.play.example.com."]);
    let extra: Vec<String> =
        reply.message.additionals.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    assert_eq!(extra, ["lon.play.example.com. 192.0.2.1", "lon.play.example.com. 2001:db8::1"]);
    for (name, rcode) in [
        ("_game._udp.play.example.com", 0),
        ("_udp.play.example.com", 0),
        ("_x.play.example.com", 3),
        ("game._udp.play.example.com", 3),
        ("_a._b._udp.play.example.com", 3),
    ] {
        let reply = bench.ask(&ask(name, RecordType::A));
        assert_eq!((reply.rcode(), reply.answers().len()), (rcode, 0), "{name}");
    }
}

#[test]
fn a_mirrors_own_name() {
    let mut fixture = Fixture::three();
    fixture.mirrors()[1].up = false;
    let name = "nyc.play.example.com";
    let reply =
        Bench::new(&fixture, DnsConfig::default()).ask(&ask(name, RecordType::A).subnet("81.2.3.0/24"));
    assert_eq!(reply.answers(), ["A 192.0.2.2"]);
    assert_eq!(reply.outcome.scope, Some(0));
    assert_eq!(answers(&fixture, &ask(name, RecordType::AAAA)), ["AAAA 2001:db8::2"]);
    assert!(answers(&fixture, &ask("syd.play.example.com", RecordType::AAAA)).is_empty());
    fixture.record(name, StaticData::A("203.0.113.5".parse().unwrap()));
    assert_eq!(answers(&fixture, &ask(name, RecordType::A)), ["A 203.0.113.5"]);
}

#[test]
fn static_records_of_every_type() {
    let mut fixture = Fixture::three();
    let caa = StaticData::Caa { critical: true, tag: "issue".into(), value: "ca.example.net; a=b".into() };
    let srv = StaticData::Srv { priority: 1, weight: 2, port: 3, target: "t.example.net".into() };
    fixture
        .record(NAME, StaticData::Txt(vec!["v=spf1 -all".into(), "second".into()]))
        .record(NAME, StaticData::Mx { preference: 10, exchange: "mx.example.net.".into() })
        .record(NAME, caa)
        .record("_x._tcp.play.example.com", srv)
        .record("empty.play.example.com", StaticData::Txt(vec![]))
        .record("w.play.example.com", StaticData::A("203.0.113.7".parse().unwrap()))
        .record("w.play.example.com", StaticData::Aaaa("2001:db8::7".parse().unwrap()));
    for (name, qtype, expected) in [
        (NAME, RecordType::TXT, "TXT v=spf1 -allsecond"),
        (NAME, RecordType::MX, "MX 10 mx.example.net."),
        (NAME, RecordType::CAA, "CAA 128 issue \"ca.example.net; a=b\""),
        ("_x._tcp.play.example.com", RecordType::SRV, "SRV 1 2 3 t.example.net."),
        ("empty.play.example.com", RecordType::TXT, "TXT "),
        ("w.play.example.com", RecordType::A, "A 203.0.113.7"),
        ("w.play.example.com", RecordType::AAAA, "AAAA 2001:db8::7"),
    ] {
        let reply = Bench::new(&fixture, DnsConfig::default()).ask(&ask(name, qtype).subnet("81.2.3.0/24"));
        assert_eq!(reply.answers(), [expected]);
        assert_eq!(reply.message.answers[0].ttl, 300);
        assert_eq!(reply.outcome.scope, Some(0), "static answers depend on nobody");
    }
}

#[test]
fn any_is_answered_minimally() {
    let bench = three();
    assert_eq!(bench.ask(&ask(NAME, RecordType::ANY)).answers(), ["HINFO RFC8482 "]);
    assert_eq!(bench.ask(&ask("none.play.example.com", RecordType::ANY)).rcode(), 3);
    let nothing = bench.ask(&ask("_tcp.play.example.com", RecordType::ANY));
    assert_eq!((nothing.rcode(), nothing.answers().len()), (0, 0));
}

#[test]
fn aliases_are_followed_within_the_zone() {
    let mut fixture = Fixture::three();
    let cname = |t: &str| StaticData::Cname(t.into());
    fixture
        .record("www.play.example.com", cname("Play.example.com."))
        .record("out.play.example.com", cname("example.net"))
        .record("gone.play.example.com", cname("nothing.play.example.com"))
        .record("loop.play.example.com", cname("pool.play.example.com"))
        .record("pool.play.example.com", cname("loop.play.example.com"));
    let bench = Bench::new(&fixture, DnsConfig::default());
    let reply = bench.ask(&ask("WWW.play.example.com", RecordType::A).subnet("3.1.2.0/24"));
    assert_eq!(reply.answers(), ["CNAME Play.example.com.", "A 192.0.2.2"]);
    assert_eq!(reply.outcome.scope, Some(9));
    for qtype in [RecordType::CNAME, RecordType::ANY] {
        assert_eq!(bench.ask(&ask("www.play.example.com", qtype)).answers(), ["CNAME Play.example.com."]);
    }
    let reply = bench.ask(&ask("out.play.example.com", RecordType::A));
    assert_eq!((reply.rcode(), reply.answers()), (0, vec!["CNAME example.net.".to_owned()]));
    let reply = bench.ask(&ask("gone.play.example.com", RecordType::A));
    assert_eq!((reply.rcode(), reply.answers().len(), reply.authority().len()), (3, 1, 1));
    assert_eq!(bench.ask(&ask("loop.play.example.com", RecordType::A)).rcode(), 2);
}

#[test]
fn too_large_for_a_datagram_is_truncated_and_whole_over_tcp() {
    let mut fixture = Fixture::three();
    fixture.first().records.clear();
    for i in 0..8 {
        fixture.record(NAME, StaticData::Txt(vec![format!("{i}").repeat(200)]));
    }
    let bench = Bench::new(&fixture, DnsConfig::default());
    let question = ask(NAME, RecordType::TXT);
    for (question, limit) in
        [(question.clone(), 512), (question.clone().edns(4096), 1232), (question.clone().edns(0), 512)]
    {
        let reply = bench.ask(&question);
        assert!(reply.message.metadata.truncation && reply.outcome.truncated);
        assert!(reply.bytes.len() <= limit && reply.answers().is_empty());
        assert_eq!(reply.message.edns.is_some(), question.payload.is_some());
    }
    let reply = bench.from("81.2.69.142", &question.edns(512), Transport::Tcp);
    assert!(!reply.message.metadata.truncation);
    assert_eq!(reply.answers().len(), 8);
}

#[test]
fn additional_addresses_are_left_out_before_anything_is_truncated() {
    let mut fixture = Fixture::empty();
    fixture.places = vec![("81.0.0.0/8", place(NEW_YORK))];
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let domain = "x.".repeat(8) + "example.com";
    let mirrors = names.iter().map(|n| mirror(n, "192.0.2.1", "2001:db8::1", NEW_YORK)).collect();
    fixture.domain(&domain, mirrors).policy.answers = 8;
    let reply =
        Bench::new(&fixture, DnsConfig::default()).ask(&ask(&format!("_g._tcp.{domain}"), RecordType::SRV));
    assert!(!reply.outcome.truncated && reply.bytes.len() <= 512, "{}", reply.bytes.len());
    assert_eq!(reply.answers().len(), 8);
    assert!(reply.message.additionals.len() < 16);
}

#[test]
fn a_registered_record_that_cannot_be_encoded_is_servfail() {
    let mut fixture = Fixture::three();
    fixture
        .record("bad.play.example.com", StaticData::Mx { preference: 1, exchange: "a..b".into() })
        .record("long.play.example.com", StaticData::Txt(vec!["x".repeat(256)]));
    let bench = Bench::new(&fixture, DnsConfig::default());
    for (name, qtype) in
        [("bad.play.example.com", RecordType::MX), ("long.play.example.com", RecordType::TXT)]
    {
        let reply = bench.ask(&ask(name, qtype).edns(1232));
        assert_eq!((reply.rcode(), reply.answers().len()), (2, 0), "{name}");
        assert_eq!(reply.message.queries.len(), 1);
    }
}
