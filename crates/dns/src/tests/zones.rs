//! Which zone answers, and what it says of names that have nothing.

use crate::DnsConfig;
use crate::testing::{Bench, Fixture, LONDON, ask, mirror};
use hickory_proto::rr::{RData, RecordType};
use nearmost_core::registry::StaticData;

/// Two domains under a configured zone, one outside it.
fn shared() -> (Fixture, DnsConfig) {
    let mut fixture = Fixture::three();
    fixture.domain("a.b.example.com", vec![mirror("one", "192.0.2.20", "", LONDON)]);
    fixture.domain("other.test", vec![mirror("one", "192.0.2.30", "", LONDON)]);
    let config = DnsConfig {
        zones: vec!["Example.COM.".into()],
        nameservers: vec!["ns1.example.com".into(), "ns.deep.example.com".into(), "ns.example.net".into()],
        nameserver_addresses: vec!["198.51.100.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        hostmaster: Some("dns.admin@example.com".into()),
        ..DnsConfig::default()
    };
    (fixture, config)
}

#[test]
fn existence_and_authority() {
    let (fixture, config) = shared();
    let bench = Bench::new(&fixture, config);
    for (name, rcode, soa) in [
        // NODATA: the name exists, or something below it does.
        ("example.com", 0, "example.com. 30 SOA"),
        ("b.example.com", 0, "example.com. 30 SOA"),
        ("deep.example.com", 0, "example.com. 30 SOA"),
        ("play.example.com", 0, "example.com. 7 SOA"),
        ("lon.play.example.com", 0, "example.com. 7 SOA"),
        ("_tcp.play.example.com", 0, "example.com. 7 SOA"),
        ("ns1.example.com", 0, "example.com. 30 SOA"),
        ("other.test", 0, "other.test. 7 SOA"),
        // NXDOMAIN.
        ("c.example.com", 3, "example.com. 30 SOA"),
        ("x.lon.play.example.com", 3, "example.com. 7 SOA"),
        ("ns1.play.example.com", 3, "example.com. 7 SOA"),
        ("x.b.example.com", 3, "example.com. 30 SOA"),
        ("no.other.test", 3, "other.test. 7 SOA"),
    ] {
        let reply = bench.ask(&ask(name, RecordType::PTR).subnet("81.2.3.0/24"));
        assert_eq!(reply.rcode(), rcode, "{name}");
        assert_eq!(reply.authority(), [soa], "{name}");
        assert!(reply.message.metadata.authoritative && reply.answers().is_empty());
        assert_eq!(reply.outcome.scope, Some(0), "{name}");
    }
}

#[test]
fn names_outside_are_refused() {
    let (fixture, config) = shared();
    let bench = Bench::new(&fixture, config);
    for name in ["", "com", "xexample.com", "example.net", "ns.example.net", "test", "notother.test"] {
        let reply = bench.ask(&ask(name, RecordType::A).subnet("81.2.3.0/24"));
        assert_eq!((reply.rcode(), reply.answers().len(), reply.authority().len()), (5, 0, 0), "{name:?}");
        assert!(!reply.message.metadata.authoritative);
        assert_eq!(reply.outcome.domain, None);
    }
}

#[test]
fn apex_records() {
    let (fixture, config) = shared();
    let bench = Bench::new(&fixture, config);
    let reply = bench.ask(&ask("example.com", RecordType::SOA));
    assert_eq!(reply.answers(), ["SOA ns1.example.com. dns\\.admin.example.com. 42 3600 600 604800 30"]);
    let reply = bench.ask(&ask("example.com", RecordType::NS));
    assert_eq!(reply.answers(), ["NS ns1.example.com.", "NS ns.deep.example.com.", "NS ns.example.net."]);
    assert_eq!(reply.message.additionals.len(), 4, "glue for the two inside");
    for (qtype, expected) in [(RecordType::A, "A 198.51.100.53"), (RecordType::AAAA, "AAAA 2001:db8::53")] {
        assert_eq!(bench.ask(&ask("ns1.example.com", qtype)).answers(), [expected]);
    }
    // A domain inside the zone is no apex.
    let reply = bench.ask(&ask("play.example.com", RecordType::SOA));
    assert_eq!((reply.answers().len(), reply.authority()), (0, vec!["example.com. 7 SOA".to_owned()]));
}

#[test]
fn a_domain_outside_is_its_own_zone() {
    let bench = Bench::new(&Fixture::three(), DnsConfig::default());
    let reply = bench.ask(&ask("play.example.com", RecordType::SOA));
    assert_eq!(
        reply.answers(),
        ["SOA ns1.play.example.com. hostmaster.play.example.com. 42 3600 600 604800 7"]
    );
    assert_eq!(bench.ask(&ask("play.example.com", RecordType::NS)).answers(), ["NS ns1.play.example.com."]);
    assert_eq!(bench.ask(&ask("ns1.play.example.com", RecordType::A)).rcode(), 0);
    assert_eq!(bench.ask(&ask("example.com", RecordType::A)).rcode(), 5);
}

#[test]
fn a_mirror_named_like_the_default_name_server_is_that_name() {
    let config =
        || DnsConfig { nameserver_addresses: vec!["198.51.100.53".parse().unwrap()], ..DnsConfig::default() };
    let glue = |fixture: &Fixture| {
        let reply = Bench::new(fixture, config()).ask(&ask("play.example.com", RecordType::NS));
        assert_eq!(reply.answers(), ["NS ns1.play.example.com."]);
        reply.message.additionals.iter().map(|r| r.data.to_string()).collect::<Vec<_>>()
    };
    let own = |fixture: &Fixture| {
        Bench::new(fixture, config()).ask(&ask("ns1.play.example.com", RecordType::A)).answers()
    };
    let mut fixture = Fixture::three();
    assert_eq!(
        (glue(&fixture), own(&fixture)),
        (vec!["198.51.100.53".into()], vec!["A 198.51.100.53".into()])
    );
    fixture.mirrors().push(mirror("ns1", "192.0.2.77", "", LONDON));
    assert_eq!((glue(&fixture), own(&fixture)), (vec!["192.0.2.77".into()], vec!["A 192.0.2.77".into()]));
    fixture.record("ns1.play.example.com", StaticData::A("203.0.113.1".parse().unwrap()));
    assert_eq!((glue(&fixture), own(&fixture)), (vec!["203.0.113.1".into()], vec!["A 203.0.113.1".into()]));
}

#[test]
fn an_alias_into_a_delegated_part_is_authoritative() {
    let mut fixture = Fixture::three();
    fixture
        .record("sub.play.example.com", StaticData::Ns("ns.example.net".into()))
        .record("www.play.example.com", StaticData::Cname("a.sub.play.example.com".into()));
    let bench = Bench::new(&fixture, DnsConfig::default());
    let reply = bench.ask(&ask("www.play.example.com", RecordType::A));
    assert_eq!(reply.answers(), ["CNAME a.sub.play.example.com."]);
    assert_eq!(reply.authority(), ["sub.play.example.com. 300 NS"]);
    assert!(reply.message.metadata.authoritative);
}

#[test]
fn glue_that_does_not_fit_truncates_if_nothing_else_finds_the_server() {
    let within = |parent: &str| {
        let mut fixture = Fixture::three();
        for i in 0..13 {
            let server = format!("server-{i}.{parent}");
            fixture.record("sub.play.example.com", StaticData::Ns(server.clone()));
            for n in 0..4 {
                fixture.record(&server, StaticData::A([203, 0, 113, n].into()));
            }
        }
        let reply =
            Bench::new(&fixture, DnsConfig::default()).ask(&ask("a.sub.play.example.com", RecordType::A));
        assert!(reply.bytes.len() <= 512 && reply.message.additionals.len() < 52);
        assert_eq!(reply.message.authorities.len(), 13);
        reply.message.metadata.truncation
    };
    assert!(within("sub.play.example.com"), "in-domain");
    assert!(!within("play.example.com"), "sibling");
}

#[test]
fn static_ns_replaces_the_configured_at_an_apex() {
    let mut fixture = Fixture::three();
    fixture.record("play.example.com", StaticData::Ns("ns.elsewhere.net".into()));
    let bench = Bench::new(&fixture, DnsConfig::default());
    assert_eq!(bench.ask(&ask("play.example.com", RecordType::NS)).answers(), ["NS ns.elsewhere.net."]);
    assert_eq!(bench.ask(&ask("play.example.com", RecordType::A)).answers(), ["A 192.0.2.1"]);
}

#[test]
fn static_ns_below_delegates() {
    let mut fixture = Fixture::three();
    fixture
        .record("sub.play.example.com", StaticData::Ns("ns.sub.play.example.com.".into()))
        .record("ns.sub.play.example.com", StaticData::A("203.0.113.53".parse().unwrap()));
    let bench = Bench::new(&fixture, DnsConfig::default());
    for name in ["sub.play.example.com", "a.sub.play.example.com", "ns.sub.play.example.com"] {
        let reply = bench.ask(&ask(name, RecordType::A));
        assert!(!reply.message.metadata.authoritative, "{name}");
        assert_eq!(reply.authority(), ["sub.play.example.com. 300 NS"]);
        assert_eq!(reply.message.additionals.len(), 1);
        assert_eq!(reply.rcode(), 0);
    }
    let reply = bench.ask(&ask("sub.play.example.com", RecordType::DS));
    assert!(reply.message.metadata.authoritative);
    assert_eq!(reply.authority(), ["play.example.com. 7 SOA"]);
}

#[test]
fn nested_domains_answer_each_for_itself() {
    let mut fixture = Fixture::three();
    fixture.domain("in.play.example.com", vec![mirror("one", "192.0.2.40", "", LONDON)]);
    let bench = Bench::new(&fixture, DnsConfig::default());
    assert_eq!(bench.ask(&ask("in.play.example.com", RecordType::A)).answers(), ["A 192.0.2.40"]);
    assert_eq!(
        bench.ask(&ask("x.in.play.example.com", RecordType::A)).authority(),
        ["in.play.example.com. 7 SOA"]
    );
    // DS of the child is asked of the parent.
    assert_eq!(
        bench.ask(&ask("in.play.example.com", RecordType::DS)).authority(),
        ["play.example.com. 7 SOA"]
    );
    assert_eq!(bench.ask(&ask("play.example.com", RecordType::DS)).authority(), ["play.example.com. 7 SOA"]);
}

#[test]
fn a_domain_above_a_configured_zone_has_no_say_in_it() {
    let mut fixture = Fixture::empty();
    fixture.domain("example.com", vec![mirror("one", "192.0.2.50", "", LONDON)]);
    let config = DnsConfig { zones: vec!["cdn.example.com".into()], ..DnsConfig::default() };
    let bench = Bench::new(&fixture, config);
    assert_eq!(bench.ask(&ask("one.example.com", RecordType::A)).answers(), ["A 192.0.2.50"]);
    let reply = bench.ask(&ask("one.cdn.example.com", RecordType::A));
    assert_eq!((reply.rcode(), reply.authority()), (3, vec!["cdn.example.com. 30 SOA".to_owned()]));
}

#[test]
fn negative_ttl_is_the_soas_minimum() {
    let (fixture, config) = shared();
    let bench = Bench::new(&fixture, config);
    let reply = bench.ask(&ask("other.test", RecordType::PTR));
    let RData::SOA(soa) = &reply.message.authorities[0].data else { panic!("no SOA") };
    assert_eq!((soa.minimum, soa.serial), (7, 42));
}
