//! EDNS besides client subnets: options of the reply, cookies, extended errors, the server's name.

use crate::testing::{Ask, Bench, Fixture, Replied, ask};
use crate::{
    CookieKey, CookieState, DnsConfig, EdnsConfig, ErrorKind, Identity, IdleTimeouts, Rcode, Transport,
};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{AllDown, StaticData};
use std::time::Duration;

const NAME: &str = "play.example.com";
const CLIENT: &str = "81.2.69.142";
const COOKIE: u16 = 10;

fn config() -> DnsConfig {
    DnsConfig {
        edns: EdnsConfig { cookies: Some(CookieKey::new([3; 16])), ..EdnsConfig::default() },
        identity: Identity { id: Some("lon-1".into()), version: Some("of ours".into()) },
        ..DnsConfig::default()
    }
}

fn bench() -> Bench {
    Bench::new(&Fixture::three(), config())
}

fn requiring() -> Bench {
    let mut config = config();
    config.edns.require_cookie = true;
    Bench::new(&Fixture::three(), config)
}

fn with(options: &[(u16, &[u8])]) -> Ask {
    let mut question = ask(NAME, RecordType::A).edns(1232);
    question.options = options.iter().map(|(c, d)| (*c, d.to_vec())).collect();
    question
}

/// The options of a reply that ends with its OPT record.
fn options(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let opt = (12..bytes.len() - 10).find(|&at| {
        let length = usize::from(u16::from_be_bytes([bytes[at + 9], bytes[at + 10]]));
        bytes[at..at + 3] == [0, 0, 41] && at + 11 + length == bytes.len()
    });
    let mut rest = &bytes[opt.expect("an OPT record") + 11..];
    let mut all = Vec::new();
    while let [c0, c1, l0, l1, after @ ..] = rest {
        let (data, next) = after.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        all.push((u16::from_be_bytes([*c0, *c1]), data.to_vec()));
        rest = next;
    }
    all
}

fn option(reply: &Replied, code: u16) -> Option<Vec<u8>> {
    let mut found = options(&reply.bytes).into_iter().filter(|(c, _)| *c == code);
    let data = found.next().map(|(_, data)| data);
    assert_eq!(found.next(), None, "option {code} twice");
    data
}

#[test]
fn what_is_not_asked_for_is_not_said() {
    for transport in Transport::ALL {
        let reply = bench().from(CLIENT, &with(&[(65_001, b"x")]), transport);
        assert_eq!(options(&reply.bytes), [], "{transport:?}");
        assert_eq!(reply.outcome.account.cookie, CookieState::Absent);
        assert_eq!(usize::from(reply.outcome.account.reply_bytes), reply.bytes.len());
    }
}

#[test]
fn unknown_flags_are_passed_over_and_not_given_back() {
    let mut wire = with(&[]).wire();
    let flags = wire.len() - 4;
    wire[flags] = 0x7f;
    wire[flags + 1] = 0xff;
    let (out, outcome) = bench().raw(&wire, CLIENT, Transport::Udp);
    assert_eq!((outcome.rcode, outcome.error), (Rcode::NoError, None));
    assert_eq!(out[out.len() - 4..], [0; 4]);
}

#[test]
fn a_server_with_a_name_tells_it() {
    assert_eq!(option(&bench().ask(&with(&[(3, &[])])), 3).unwrap(), b"lon-1");
    let plain = Bench::new(&Fixture::three(), DnsConfig::default());
    assert_eq!(options(&plain.ask(&with(&[(3, &[])])).bytes), []);
}

#[test]
fn idle_time_is_told_over_tcp_and_tls_only_each_its_own() {
    let mut config = config();
    for (idle, told) in [(Duration::from_millis(12_345), 123), (Duration::from_secs(100_000), u16::MAX)] {
        config.edns.keepalive = IdleTimeouts { tcp: idle, tls: Duration::from_secs(7) };
        let bench = Bench::new(&Fixture::three(), config.clone());
        for (transport, told) in [(Transport::Tcp, told), (Transport::Tls, 70)] {
            let reply = bench.from(CLIENT, &with(&[(11, &[])]), transport);
            assert_eq!(option(&reply, 11).unwrap(), told.to_be_bytes(), "{transport:?}");
            let (_, outcome) = bench.raw(&with(&[(11, &[0, 1])]).wire(), CLIENT, transport);
            assert_eq!(outcome.error.unwrap().kind, ErrorKind::KeepaliveData);
        }
    }
    for data in [&[][..], &[0, 1]] {
        assert_eq!(options(&bench().ask(&with(&[(11, data)])).bytes), [], "ignored over UDP");
        let (out, outcome) = bench().raw(&with(&[(11, data)]).wire(), CLIENT, Transport::Quic);
        assert_eq!(outcome.error.unwrap().kind, ErrorKind::KeepaliveQuic);
        assert_eq!((outcome.rcode, out[3] & 15), (Rcode::FormErr, 1));
    }
}

#[test]
fn padded_queries_get_replies_in_blocks_where_nobody_reads_along() {
    let mut fixture = Fixture::three();
    fixture.record(NAME, StaticData::Txt(vec!["x".repeat(255), "y".repeat(200)]));
    let bench = Bench::new(&fixture, config());
    for kind in [RecordType::A, RecordType::TXT, RecordType::SOA] {
        let mut question = with(&[(12, &[0; 9]), (3, &[])]);
        question.qtype = kind.into();
        for transport in Transport::ALL {
            let reply = bench.from(CLIENT, &question, transport);
            assert_eq!(
                reply.bytes.len().is_multiple_of(468),
                transport.encrypted(),
                "{kind} over {transport:?}"
            );
            assert_eq!(option(&reply, 12).is_some(), transport.encrypted());
        }
        question.options.clear();
        assert_ne!(bench.from(CLIENT, &question, Transport::Tls).bytes.len() % 468, 0);
    }
}

/// The cookie of a reply.
fn cookie(reply: &Replied) -> Vec<u8> {
    option(reply, COOKIE).expect("a cookie")
}

#[test]
fn a_client_learns_a_cookie_and_is_known_by_it() {
    let bench = bench();
    let first = bench.ask(&with(&[(COOKIE, b"a client")]));
    assert_eq!(first.outcome.account.cookie, CookieState::ClientOnly);
    assert_eq!(first.answers(), ["A 192.0.2.1"]);
    let learned = cookie(&first);
    assert_eq!((learned.len(), &learned[..8]), (24, &b"a client"[..]));
    let second = bench.ask(&with(&[(COOKIE, &learned)]));
    assert_eq!(second.outcome.account.cookie, CookieState::Valid);
    assert_eq!(cookie(&second), learned);
    // From elsewhere the same cookie is worth nothing, and the answer is given anyway.
    let other = bench.from("81.2.69.143", &with(&[(COOKIE, &learned)]), Transport::Udp);
    assert_eq!(other.outcome.account.cookie, CookieState::Bad);
    assert_eq!(other.answers(), ["A 192.0.2.1"]);
    assert_ne!(cookie(&other), learned);
    let off = Bench::new(&Fixture::three(), DnsConfig::default());
    let reply = off.ask(&with(&[(COOKIE, &learned)]));
    assert_eq!((reply.outcome.account.cookie, option(&reply, COOKIE)), (CookieState::Absent, None));
}

#[test]
fn malformed_cookies_are_refused() {
    let (out, outcome) = bench().raw(&with(&[(COOKIE, b"short")]).wire(), CLIENT, Transport::Udp);
    assert_eq!((outcome.rcode, outcome.error.unwrap().kind), (Rcode::FormErr, ErrorKind::CookieLength));
    assert_eq!(options(&out), [(15, [&[0, 0], ErrorKind::CookieLength.what().as_bytes()].concat())]);
}

#[test]
fn required_cookies_are_given_by_badcookie() {
    let bench = requiring();
    let told = bench.ask(&with(&[(COOKIE, b"a client")]));
    assert_eq!((told.rcode(), told.outcome.rcode), (23, Rcode::BadCookie));
    assert!(told.answers().is_empty() && !told.outcome.truncated);
    let known = bench.ask(&with(&[(COOKIE, &cookie(&told))]));
    assert_eq!((known.rcode(), known.answers().len()), (0, 1));
    // Without the option, and where the source is not forged, there is an answer.
    assert_eq!(bench.ask(&with(&[])).answers().len(), 1);
    assert_eq!(bench.ask(&ask(NAME, RecordType::A)).answers().len(), 1);
    for transport in [Transport::Tcp, Transport::Tls, Transport::Quic] {
        assert_eq!(bench.from(CLIENT, &with(&[(COOKIE, b"a client")]), transport).answers().len(), 1);
    }
}

#[test]
fn a_query_without_a_question_gets_a_cookie() {
    let without_question = |options: &[(u16, &[u8])]| {
        let mut wire = with(options).wire();
        wire[5] = 0;
        wire.drain(12..12 + 18 + 4);
        wire
    };
    let raw = |bench: &Bench, wire: &[u8]| bench.raw(wire, CLIENT, Transport::Udp);
    for bench in [bench(), requiring()] {
        let (first, outcome) = raw(&bench, &without_question(&[(COOKIE, b"a client")]));
        let required = bench.responder.config().edns.require_cookie;
        assert_eq!(outcome.rcode, if required { Rcode::BadCookie } else { Rcode::NoError });
        assert_eq!(first[4..12], [0, 0, 0, 0, 0, 0, 0, 1]);
        let learned = options(&first).remove(0).1;
        let (_, outcome) = raw(&bench, &without_question(&[(COOKIE, &learned)]));
        assert_eq!((outcome.rcode, outcome.account.cookie), (Rcode::NoError, CookieState::Valid));
        let (again, outcome) = raw(&bench, &without_question(&[(COOKIE, &[9; 24])]));
        assert_eq!((outcome.rcode, outcome.account.cookie), (Rcode::BadCookie, CookieState::Bad));
        assert_eq!((again[3] & 15, options(&again).len()), (7, 1));
    }
    let off = Bench::new(&Fixture::three(), DnsConfig::default());
    let (_, outcome) = raw(&off, &without_question(&[(COOKIE, b"a client")]));
    assert_eq!(outcome.error.unwrap().kind, ErrorKind::QuestionCount);
}

fn chaos(name: &str, qtype: RecordType) -> Ask {
    let mut question = ask(name, qtype);
    question.qclass = 3;
    question
}

#[test]
fn class_chaos_says_what_the_operator_wants_said() {
    for (name, text) in [
        ("version.bind", "of ours"),
        ("VERSION.server", "of ours"),
        ("id.server", "lon-1"),
        ("hostname.bind", "lon-1"),
    ] {
        for kind in [RecordType::TXT, RecordType::ANY] {
            let reply = bench().ask(&chaos(name, kind).edns(1232));
            assert_eq!(reply.answers(), [format!("TXT {text}")], "{name}");
            assert_eq!(u16::from(reply.message.answers[0].dns_class), 3);
            assert_eq!(reply.message.answers[0].ttl, 0);
        }
        let plain = Bench::new(&Fixture::three(), DnsConfig::default());
        assert_eq!(plain.ask(&chaos(name, RecordType::TXT)).rcode(), 5, "{name}");
        assert_eq!(bench().ask(&chaos(name, RecordType::A)).rcode(), 5, "{name}");
    }
    assert_eq!(bench().ask(&chaos("authors.bind", RecordType::TXT)).rcode(), 5);
}

/// The code of a reply's extended error.
fn extended(reply: &Replied) -> Option<u16> {
    option(reply, 15).map(|data| u16::from_be_bytes([data[0], data[1]]))
}

#[test]
fn extended_errors_say_why() {
    let of = |name: &str, kind| extended(&bench().ask(&ask(name, kind).edns(1232)));
    assert_eq!(of("example.org", RecordType::A), Some(20));
    assert_eq!(of(NAME, RecordType::AXFR), Some(21));
    assert_eq!(of(NAME, RecordType::Unknown(253)), Some(21));
    assert_eq!(of(NAME, RecordType::A), None);
    assert_eq!(of("nothing.play.example.com", RecordType::A), None);
    assert_eq!(extended(&bench().ask(&chaos("version.bind", RecordType::A).edns(1232))), Some(21));
    let mut wire = with(&[]).wire();
    wire.push(0);
    let (out, _) = bench().raw(&wire, CLIENT, Transport::Udp);
    assert_eq!(options(&out), [(15, b"\0\0bytes after the last record".to_vec())]);
    let bare = bench().ask(&ask("example.org", RecordType::A));
    assert!(bare.message.edns.is_none() && bare.rcode() == 5, "no EDNS, no option");
}

#[test]
fn answers_while_all_are_down_are_marked() {
    for (policy, code) in [
        (AllDown::LastKnown, Some(3)),
        (AllDown::All, Some(0)),
        (AllDown::Fallback(vec!["203.0.113.1".parse().unwrap()]), Some(0)),
        (AllDown::NoAnswer, None),
    ] {
        let mut fixture = Fixture::three();
        fixture.first().policy.failover.all_down = policy.clone();
        let mut snapshot = fixture.snapshot();
        let mut live = (*snapshot.live).clone();
        for mirror in &mut live.mirrors {
            mirror.verdicts.iter_mut().for_each(|v| v.state = nearmost_core::health::State::Down);
        }
        live.tally(&snapshot.registry);
        snapshot.live = std::sync::Arc::new(live);
        let bench = Bench { snapshot, ..Bench::new(&fixture, config()) };
        assert_eq!(extended(&bench.ask(&with(&[]))), code, "{policy:?}");
    }
}

#[test]
fn truncation_leaves_room_for_all_options() {
    let mut fixture = Fixture::three();
    for i in 0..8 {
        fixture.record(NAME, StaticData::Mx { preference: i, exchange: format!("mx{i}.example.org") });
    }
    let mut config = config();
    config.identity.id = Some("x".repeat(128));
    let bench = Bench::new(&fixture, config);
    let (mut whole, mut cut) = (0, 0);
    for more in 0..100 {
        let filler = format!("mx{}.example.net", "y".repeat(more % 60));
        fixture.record(NAME, StaticData::Mx { preference: 9, exchange: filler });
        let bench =
            Bench { snapshot: fixture.snapshot(), ..Bench::new(&fixture, bench.responder.config().clone()) };
        let mut question = with(&[(3, &[]), (COOKIE, b"a client")]).subnet("81.2.69.0/24");
        (question.qtype, question.payload) = (RecordType::MX.into(), Some(512 + more as u16));
        let reply = bench.ask(&question);
        assert!(reply.bytes.len() <= 512 + more);
        assert_eq!(options(&reply.bytes).len(), 3);
        match reply.outcome.truncated {
            true => cut += 1,
            false => whole += 1,
        }
    }
    assert!(whole > 0 && cut > 0, "{whole} whole, {cut} cut");
}

#[test]
fn replies_are_alike_by_what_can_be_made_up() {
    let mut fixture = Fixture::three();
    fixture.record("part.play.example.com", StaticData::Ns("ns.example.org".into()));
    let bench = Bench::new(&fixture, config());
    let alike = |name: &str, kind| bench.ask(&ask(name, kind)).outcome.account.alike;
    let positive = alike(NAME, RecordType::A);
    assert_eq!(alike("PLAY.example.com", RecordType::A), positive);
    assert_ne!(alike(NAME, RecordType::SOA), positive);
    assert_ne!(alike("lon.play.example.com", RecordType::A), positive);
    let made_up = alike("x.play.example.com", RecordType::A);
    assert_ne!(made_up, positive);
    for (name, kind) in [
        ("y.play.example.com", RecordType::AAAA),
        (NAME, RecordType::TXT),
        ("abcdefghij234567.probe.play.example.com", RecordType::A),
        ("abcdefghij234567.probe.play.example.com", RecordType::TXT),
        ("z.part.play.example.com", RecordType::A),
    ] {
        assert_eq!(alike(name, kind), made_up, "{name} {kind}");
    }
    assert_eq!(alike("example.org", RecordType::A), 0);
}
