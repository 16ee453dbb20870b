//! Client subnets: whose place decides, and which scope comes back.

use crate::testing::{Ask, Bench, Fixture, LONDON, NEW_YORK, Replied, SYDNEY, ask, mirror, place};
use crate::{DnsConfig, EdnsConfig, ErrorKind, Transport};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{AllDown, Rule, RuleEffect, Who};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NAME: &str = "play.example.com";

fn a() -> Ask {
    ask(NAME, RecordType::A)
}

fn bench() -> Bench {
    Bench::new(&Fixture::three(), DnsConfig::default())
}

/// The bytes of the client subnet option in a reply, from its family on.
fn echoed(reply: &Replied) -> Option<Vec<u8>> {
    // The OPT record is last, the option its first.
    let opt = reply.bytes.windows(3).rposition(|w| w == [0, 0, 41])?;
    let option = reply.bytes[opt + 11..].strip_prefix(&[0, 8, 0])?;
    Some(option[1..][..usize::from(option[0])].to_vec())
}

#[test]
fn the_subnet_decides_and_its_cell_is_the_scope() {
    for (net, mirror, echo) in [
        ("3.1.2.0/24", "A 192.0.2.2", vec![0, 1, 24, 9, 3, 1, 2]),
        ("81.2.69.142/32", "A 192.0.2.1", vec![0, 1, 32, 8, 81, 2, 69, 142]),
        // A scope may be longer than what the resolver disclosed.
        ("1.128.0.0/9", "A 192.0.2.3", vec![0, 1, 9, 11, 1, 128]),
        ("2600:1::/56", "A 192.0.2.2", vec![0, 2, 56, 16, 0x26, 0, 0, 1, 0, 0, 0]),
        (
            "::ffff:3.1.2.0/120",
            "A 192.0.2.2",
            vec![0, 2, 120, 105, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 3, 1, 2],
        ),
    ] {
        let reply = bench().ask(&a().subnet(net));
        assert_eq!(reply.answers(), [mirror], "{net}");
        assert_eq!(echoed(&reply), Some(echo), "{net}");
        assert!(reply.outcome.account.ecs);
    }
}

/// Each family has one mirror, so neither alone depends on the client; which comes first does.
#[test]
fn services_of_two_families_depend_on_the_client() {
    let mut fixture = Fixture::three();
    *fixture.mirrors() =
        vec![mirror("lon", "192.0.2.1", "", LONDON), mirror("syd", "", "2001:db8::3", SYDNEY)];
    let bench = Bench::new(&fixture, DnsConfig::default());
    for kind in [RecordType::SVCB, RecordType::SRV] {
        let name = if kind == RecordType::SRV { "_play._tcp.play.example.com" } else { NAME };
        let ask = |net| bench.ask(&ask(name, kind).subnet(net));
        let (british, australian) = (ask("81.2.69.0/24"), ask("1.128.0.0/24"));
        assert_ne!(british.answers(), australian.answers(), "{kind}");
        for reply in [british, australian] {
            assert_ne!(reply.outcome.scope, Some(0), "{kind}");
        }
    }
    assert_eq!(bench.ask(&a().subnet("81.2.69.0/24")).outcome.scope, Some(0));
}

#[test]
fn no_option_no_echo() {
    let reply = bench().ask(&a().edns(1232));
    assert_eq!((echoed(&reply), reply.outcome.scope), (None, None));
    assert!(reply.message.edns.is_some());
    assert!(bench().ask(&a()).message.edns.is_none());
}

#[test]
fn source_zero_uses_the_resolvers_address_and_scope_zero() {
    for option in [[0, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]] {
        let mut question = a().edns(1232);
        question.options.push((8, option.to_vec()));
        let (out, outcome) = bench().raw(&question.wire(), "3.1.2.3", Transport::Udp);
        let name = outcome.mirrors.first().map(|m| bench().snapshot.registry.mirror(*m).name.to_string());
        assert_eq!(name.as_deref(), Some("nyc"));
        assert_eq!(outcome.scope, Some(0));
        assert_eq!(out[out.len() - 8..], [&[0, 8, 0, 4], &option[..]].concat());
    }
}

#[test]
fn switched_off_it_is_neither_used_nor_echoed() {
    let config =
        DnsConfig { edns: EdnsConfig { ecs: false, ..EdnsConfig::default() }, ..DnsConfig::default() };
    let bench = Bench::new(&Fixture::three(), config);
    let reply = bench.ask(&a().subnet("3.1.2.0/24"));
    assert_eq!(reply.answers(), ["A 192.0.2.1"]);
    assert_eq!(echoed(&reply), None);
    assert!(reply.outcome.account.ecs);
    // What is malformed is refused all the same.
    let mut question = a().edns(1232);
    question.options.push((8, vec![0, 1, 24, 0]));
    assert_eq!(bench.ask(&question).rcode(), 1);
}

#[test]
fn answers_that_depend_on_nobody_have_scope_zero() {
    let mut fixture = Fixture::three();
    let scope =
        |f: &Fixture, q: Ask| Bench::new(f, DnsConfig::default()).ask(&q.subnet("3.1.2.0/24")).outcome.scope;
    assert_eq!(scope(&fixture, a()), Some(9));
    assert_eq!(scope(&fixture, ask(NAME, RecordType::HTTPS)), Some(9));
    assert_eq!(scope(&fixture, ask("_a._tcp.play.example.com", RecordType::SRV)), Some(9));
    assert_eq!(scope(&fixture, ask(NAME, RecordType::SOA)), Some(0));
    assert_eq!(scope(&fixture, ask("x.play.example.com", RecordType::A)), Some(0));
    fixture.mirrors()[0].v6 = None;
    assert_eq!(scope(&fixture, ask(NAME, RecordType::AAAA)), Some(0), "the only mirror of its family");
    fixture.mirrors().iter_mut().for_each(|m| m.up = false);
    fixture.first().policy.failover.all_down = AllDown::Fallback(vec![IpAddr::from([198, 51, 100, 1])]);
    assert_eq!(scope(&fixture, a()), Some(0));
    fixture.first().policy.failover.all_down = AllDown::All;
    assert_eq!(scope(&fixture, a()), Some(9));
    fixture.mirrors().truncate(1);
    assert_eq!(scope(&fixture, a()), Some(0), "the only mirror is everyone's");
}

/// A resolver keeps what it gets for whoever is in the scope: an exclusion must not be lost in it, nor
/// spread to others.
#[test]
fn what_rules_keep_from_some_is_never_told_to_everyone() {
    let mut fixture = Fixture::three();
    fixture.mirrors().truncate(1);
    fixture.first().policy.rules = vec![Rule {
        who: Who::Prefix("3.1.0.0/16".parse().unwrap()),
        effect: RuleEffect::Exclude,
        mirrors: vec!["lon".into()],
    }];
    let bench = Bench::new(&fixture, DnsConfig::default());
    for (kind, answers) in [(RecordType::A, 1), (RecordType::AAAA, 1), (RecordType::HTTPS, 1)] {
        let [given, kept] = ["81.2.69.0/24", "3.1.2.0/24"].map(|net| bench.ask(&ask(NAME, kind).subnet(net)));
        assert_eq!((given.answers().len(), kept.answers().len()), (answers, 0), "{kind}");
        for reply in [given, kept] {
            assert!(reply.outcome.scope.is_some_and(|s| s > 0), "{kind}: {:?}", reply.outcome.scope);
        }
    }
}

#[test]
fn malformed_options_are_refused_with_their_kind() {
    let bench = bench();
    for (data, kind) in [
        (vec![], ErrorKind::EcsShort),
        (vec![0, 7, 8, 0, 1], ErrorKind::EcsFamily),
        (vec![0, 1, 33, 0, 1, 2, 3, 4, 0], ErrorKind::EcsSource),
        (vec![0, 1, 24, 1, 1, 2, 3], ErrorKind::EcsScope),
        (vec![0, 1, 24, 0, 1, 2, 3, 4], ErrorKind::EcsAddress),
        (vec![0, 1, 20, 0, 1, 2, 1], ErrorKind::EcsBits),
    ] {
        let mut question = a().edns(1232);
        question.options.push((10, vec![1; 8]));
        question.options.push((8, data.clone()));
        let reply = bench.ask(&question);
        assert_eq!(reply.rcode(), 1, "{data:?}");
        assert_eq!(reply.outcome.error.unwrap().kind, kind);
        assert!(reply.answers().is_empty() && reply.message.edns.is_some());
    }
    let reply = bench.ask(&a().subnet("3.1.2.0/24").subnet("3.1.2.0/24"));
    assert_eq!(reply.outcome.error.unwrap().kind, ErrorKind::EcsTwice);
}

/// Prefixes of all sizes at a few places, nested and beside each other.
fn patchwork() -> Fixture {
    let mut fixture = Fixture::three();
    fixture.places.extend([
        ("3.64.0.0/10", place(LONDON)),
        ("3.64.128.0/17", place(SYDNEY)),
        ("3.64.128.77/32", place(NEW_YORK)),
        ("2600:8000::/17", place(SYDNEY)),
        ("2600:8000:1::/48", place(LONDON)),
        ("2002::/17", place(SYDNEY)),
        ("::/8", place(SYDNEY)),
        ("8000::/1", place(NEW_YORK)),
    ]);
    fixture
}

/// An address near the patchwork's seams more often than not.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = prop_oneof![any::<u32>(), (0u32..1 << 24).prop_map(|r| 3 << 24 | r)];
    let v6 = prop_oneof![
        any::<u128>(),
        (0u128..1 << 96).prop_map(|r| 0x2600_8000 << 96 | r),
        any::<u32>().prop_map(|r| 0xffff_0000_0000 | u128::from(r)),
        any::<u32>().prop_map(|r| 0x64_ff9b << 96 | u128::from(r)),
        (0u128..1 << 108).prop_map(|r| 0x200_2030 << 100 | r),
        (0u128..1 << 114).prop_map(|r| 0x2000 << 112 | r),
        any::<u128>().prop_map(|r| r >> 60),
    ];
    prop_oneof![
        v4.prop_map(|a| IpAddr::V4(Ipv4Addr::from_bits(a))),
        v6.prop_map(|a| IpAddr::V6(Ipv6Addr::from_bits(a)))
    ]
}

fn within(addr: IpAddr, other: u128, scope: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(scope)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & keep | other as u32 & !keep))
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(scope)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & keep | other & !keep))
        }
    }
}

#[test]
fn everyone_in_a_scope_gets_the_same_answer_and_scope() {
    let bench = Bench::new(&patchwork(), DnsConfig::default());
    let full = |addr: IpAddr| bench.ask(&a().subnet(&ipnet::IpNet::from(addr).to_string()));
    proptest!(ProptestConfig::with_cases(4000), |(addr in address(), other: u128)| {
        let first = full(addr);
        let scope = first.outcome.scope.unwrap();
        let neighbour = within(addr, other, scope);
        let second = full(neighbour);
        prop_assert_eq!(first.answers(), second.answers(), "{} and {} in /{}", addr, neighbour, scope);
        prop_assert_eq!(Some(scope), second.outcome.scope, "{} and {}", addr, neighbour);
    });
}
