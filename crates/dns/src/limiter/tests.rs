//! Bounds that hold for every sequence of replies, and who is never limited.

use super::*;
use crate::outcome::Account;
use crate::testing::{Bench, Fixture, ask};
use crate::{CookieKey, DnsConfig, EdnsConfig};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use nearmost_core::registry::StaticData;
use nearmost_core::time::UnixMillis;
use proptest::prelude::*;
use std::time::Duration;

/// Rates only.
fn rates(per_second: u32) -> LimitConfig {
    LimitConfig {
        responses_per_second: per_second,
        nxdomains_per_second: per_second,
        errors_per_second: per_second,
        max_amplification: 0,
        slip: 0,
        ..LimitConfig::default()
    }
}

/// The budget only.
fn budget(ratio: u32) -> LimitConfig {
    LimitConfig { max_amplification: ratio, ..rates(0) }
}

fn limiter(config: LimitConfig) -> Limiter {
    Limiter::new(config, [11, 12]).unwrap()
}

fn from(source: &str) -> Client {
    Client { source: source.parse().unwrap(), transport: Transport::Udp, now: UnixMillis(0) }
}

fn outcome(rcode: Rcode, alike: u64) -> Outcome {
    Outcome { rcode, account: Account { alike, ..Account::default() }, ..Outcome::default() }
}

/// A reply of a length: a header, no question, and an unknown record that fills it.
fn reply(length: usize) -> Vec<u8> {
    let mut reply = vec![0; length.max(HEADER + 11)];
    reply[7] = 1;
    let data = (reply.len() - HEADER - 11) as u16;
    reply[HEADER + 2] = 99;
    reply[HEADER + 9..HEADER + 11].copy_from_slice(&data.to_be_bytes());
    reply
}

const HEADER: usize = 12;
const QUERY: usize = 60;

/// How many of so many replies, one every so many milliseconds, are sent in full.
fn sent(limiter: &mut Limiter, client: &Client, outcome: &Outcome, times: std::ops::Range<u64>) -> usize {
    times.filter(|at| limiter.check(*at, client, outcome, QUERY, &reply(100)) == Verdict::Send).count()
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let with = |f: fn(&mut LimitConfig)| {
        let mut config = LimitConfig::default();
        f(&mut config);
        Limiter::new(config, [0; 2]).unwrap_err()
    };
    assert_eq!(with(|c| c.errors_per_second = 20_001), LimitError::Rate(20_001));
    assert_eq!(
        with(|c| c.window = Duration::from_millis(999)),
        LimitError::Window(Duration::from_millis(999))
    );
    assert_eq!(with(|c| c.window = Duration::from_secs(61)), LimitError::Window(Duration::from_secs(61)));
    assert_eq!(with(|c| c.ipv4_prefix = 33), LimitError::Prefix(33, 32));
    assert_eq!(with(|c| c.ipv4_prefix = 0), LimitError::Prefix(0, 32));
    assert_eq!(with(|c| c.ipv6_prefix = 65), LimitError::Prefix(65, 64));
    assert_eq!(with(|c| c.max_amplification = 1), LimitError::Amplification(1));
    assert_eq!(with(|c| c.max_amplification = 1001), LimitError::Amplification(1001));
    assert_eq!(with(|c| c.table_size = 63), LimitError::Table(63));
}

#[test]
fn a_flood_gets_its_rate_first_and_nothing_while_it_lasts() {
    let (client, answer) = (from("192.0.2.1"), outcome(Rcode::NoError, 5));
    let mut limiter = limiter(rates(10));
    assert_eq!(sent(&mut limiter, &client, &answer, 0..20_000), 10, "a second's worth");
    // The window's debt of 15 s has to pass.
    assert_eq!(sent(&mut limiter, &client, &answer, 30_000..30_001), 0);
    assert_eq!(sent(&mut limiter, &client, &answer, 36_000..36_001), 1);
}

#[test]
fn limits_are_by_code_likeness_and_network() {
    let mut limiter = limiter(rates(10));
    let mut all =
        |source: &str, rcode, alike| sent(&mut limiter, &from(source), &outcome(rcode, alike), 0..50);
    assert_eq!(all("192.0.2.1", Rcode::NoError, 5), 10);
    assert_eq!(all("192.0.2.200", Rcode::NoError, 5), 0, "the same network");
    assert_eq!(all("::ffff:192.0.2.9", Rcode::NoError, 5), 0, "the same network, as another family tells it");
    assert_eq!(all("192.0.3.1", Rcode::NoError, 5), 10);
    assert_eq!(all("192.0.2.1", Rcode::NoError, 6), 10);
    assert_eq!(all("192.0.2.1", Rcode::NxDomain, 5), 10);
    // A signed denial is one, whatever its code.
    let account = Account { alike: 5, denial: true, ..Account::default() };
    let signed = Outcome { account, ..Outcome::default() };
    assert_eq!(sent(&mut limiter, &from("192.0.2.1"), &signed, 0..50), 0);
    assert_eq!(sent(&mut limiter, &from("192.0.4.1"), &signed, 0..50), 10);
    let mut all =
        |source: &str, rcode, alike| sent(&mut limiter, &from(source), &outcome(rcode, alike), 0..50);
    assert_eq!(all("192.0.2.1", Rcode::Refused, 5), 10);
    assert_eq!(all("192.0.2.1", Rcode::FormErr, 6), 0, "errors are all alike");
    assert_eq!(all("2001:db8:0:1::1", Rcode::NoError, 5), 10);
    assert_eq!(all("2001:db8:0:ff::1", Rcode::NoError, 5), 0, "the same /56");
    assert_eq!(all("2001:db8:0:100::1", Rcode::NoError, 5), 10);
}

#[test]
fn whoever_cannot_be_forged_is_not_limited() {
    let config =
        LimitConfig { allow: vec!["198.51.100.0/24".parse().unwrap()], max_amplification: 2, ..rates(1) };
    let mut limiter = limiter(config);
    let answer = outcome(Rcode::NoError, 5);
    let mut count = |client: &Client, outcome: &Outcome| {
        (0..100).filter(|_| limiter.check(0, client, outcome, 50, &reply(1200)) == Verdict::Send).count()
    };
    for transport in [Transport::Tcp, Transport::Tls, Transport::Quic] {
        assert_eq!(count(&Client { transport, ..from("192.0.2.1") }, &answer), 100);
    }
    let mut known = answer.clone();
    known.account.cookie = CookieState::Valid;
    assert_eq!(count(&from("192.0.2.1"), &known), 100);
    assert_eq!(count(&from("198.51.100.3"), &answer), 100);
    assert_eq!(count(&from("::ffff:198.51.100.3"), &answer), 100);
    for state in [CookieState::Absent, CookieState::ClientOnly, CookieState::Bad] {
        known.account.cookie = state;
        assert!(count(&from("192.0.2.1"), &known) <= 1, "{state:?}");
    }
}

#[test]
fn one_in_so_many_slips() {
    for (slip, share) in [(0, 0.0), (1, 1.0), (2, 0.5), (5, 0.2)] {
        let mut limiter = limiter(LimitConfig { slip, ..rates(1) });
        let (client, answer) = (from("192.0.2.1"), outcome(Rcode::NoError, 5));
        let verdicts: Vec<Verdict> =
            (0..10_000).map(|_| limiter.check(0, &client, &answer, QUERY, &reply(100))).collect();
        let count = |v| verdicts.iter().filter(|x| **x == v).count();
        assert_eq!(count(Verdict::Send), 1);
        let slips = count(Verdict::Slip(Reason::Responses));
        assert_eq!(slips + count(Verdict::Drop(Reason::Responses)), 9_999);
        assert!((slips as f64 / 9_999.0 - share).abs() < 0.02, "slip {slip}: {slips}");
    }
}

#[test]
fn beyond_the_budget_replies_are_short_and_nobody_is_left_without() {
    let mut limiter = limiter(budget(4));
    let (client, answer, reply) = (from("192.0.2.1"), outcome(Rcode::NoError, 5), reply(1200));
    let (mut full, mut bytes) = (0, 0);
    for _ in 0..10_000 {
        match limiter.check(0, &client, &answer, QUERY, &reply) {
            Verdict::Send => (full, bytes) = (full + 1, bytes + reply.len()),
            Verdict::Slip(Reason::Amplification) => bytes += HEADER,
            verdict => panic!("{verdict:?}"),
        }
    }
    assert!(bytes as f64 / (10_000 * QUERY) as f64 <= 4.01);
    assert!(full > 1500, "the budget is used: {full}");
    // A resolver that asks now and then gets the burst back.
    assert_eq!(limiter.check(u64::from(REFILL_MS), &client, &answer, QUERY, &reply), Verdict::Send);
}

/// More floods than the table has places for: a network that is new always gets a full bucket.
#[test]
fn floods_of_many_networks_starve_nobody() {
    let mut limiter = limiter(LimitConfig { table_size: 64, ..rates(5) });
    let answer = outcome(Rcode::NoError, 5);
    let flood = |i: u64| from(&format!("10.{}.{}.1", i % 8, i % 256));
    let honest = from("192.0.2.1");
    for at in 0..20_000 {
        for i in 0..8 {
            limiter.check(at, &flood(at * 8 + i), &answer, QUERY, &reply(100));
        }
        if at % 250 == 0 {
            let verdict = limiter.check(at, &honest, &answer, QUERY, &reply(100));
            assert_eq!(verdict, Verdict::Send, "at {at} ms");
        }
    }
}

/// One flood among many networks that ask once: its debt is not what is forgotten.
#[test]
fn a_flood_is_not_forgotten_among_many_others() {
    let mut limiter = limiter(LimitConfig { table_size: 64, ..rates(5) });
    let (answer, flood) = (outcome(Rcode::NoError, 5), from("192.0.2.1"));
    let mut full = 0;
    for at in 0..10_000_u64 {
        full += usize::from(limiter.check(at, &flood, &answer, QUERY, &reply(100)) == Verdict::Send);
        let other = from(&format!("10.{}.{}.1", at / 256 % 256, at % 256));
        limiter.check(at, &other, &answer, QUERY, &reply(100));
    }
    assert!(full <= 6, "{full}");
}

#[test]
fn clocks_wrap() {
    let mut limiter = limiter(rates(10));
    let (client, answer) = (from("192.0.2.1"), outcome(Rcode::NoError, 5));
    let wrap = u64::from(u32::MAX);
    assert_eq!(sent(&mut limiter, &client, &answer, wrap - 50..wrap), 10);
    assert_eq!(sent(&mut limiter, &client, &answer, wrap..wrap + 500), 0);
    assert_eq!(sent(&mut limiter, &client, &answer, wrap + 20_000..wrap + 20_001), 1);
}

#[test]
fn reasons_are_listed_in_order_and_labels_are_distinct() {
    for (i, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, i);
        assert_eq!(Reason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
    }
}

fn bench() -> Bench {
    let mut fixture = Fixture::three();
    for i in 0..30 {
        fixture.record("play.example.com", StaticData::Txt(vec![i.to_string().repeat(60)]));
    }
    fixture.record("part.play.example.com", StaticData::Ns("ns.part.play.example.com".into()));
    fixture.record("ns.part.play.example.com", StaticData::A([192, 0, 2, 53].into()));
    let edns = EdnsConfig { cookies: Some(CookieKey::new([3; 16])), ..EdnsConfig::default() };
    Bench::new(&fixture, DnsConfig { edns, ..DnsConfig::default() })
}

#[test]
fn what_slips_is_a_short_reply() {
    let bench = bench();
    for (name, kind) in [
        ("play.example.com", RecordType::A),
        ("PLAY.example.com", RecordType::TXT),
        ("play.example.com", RecordType::SOA),
        ("play.example.com", RecordType::SRV),
        ("_a._tcp.play.example.com", RecordType::SRV),
        ("x.part.play.example.com", RecordType::A),
        ("nothing.play.example.com", RecordType::A),
        ("example.org", RecordType::A),
    ] {
        let plain = ask(name, kind);
        let subnet = plain.clone().subnet("81.2.69.0/24");
        let mut cookie = subnet.clone();
        cookie.options.push((10, b"a client".to_vec()));
        for (question, badcookie) in [(plain, false), (subnet, false), (cookie, true)] {
            let full = bench.ask(&question);
            let (mut bytes, mut outcome) = (full.bytes.clone(), full.outcome.clone());
            slip(&mut bytes, &mut outcome);
            assert_eq!(bytes.len(), slip::length(&full.bytes));
            let short = Message::from_vec(&bytes).unwrap();
            assert_eq!(short.metadata.id, question.id);
            assert_eq!(short.queries, full.message.queries);
            assert!(short.answers.is_empty() && short.authorities.is_empty() && short.additionals.is_empty());
            assert_eq!(short.metadata.truncation, !badcookie);
            let code = u16::from(short.metadata.response_code);
            assert_eq!(code, if badcookie { 23 } else { full.rcode() }, "{name} {kind}");
            let options = |m: &Message| m.edns.as_ref().map(|e| format!("{:?}", e.options()));
            assert_eq!(options(&short), options(&full.message));
            assert_eq!(short.to_vec().unwrap(), bytes);
        }
    }
}

#[test]
fn what_is_no_reply_of_ours_slips_to_nothing() {
    let full = bench().ask(&ask("play.example.com", RecordType::A).edns(1232));
    for length in 0..full.bytes.len() {
        let mut part = full.bytes[..length].to_vec();
        slip(&mut part, &mut full.outcome.clone());
        assert!(part.is_empty(), "{length}");
    }
}

proptest! {
    /// Within any stretch of time a network gets no more bytes than the ratio allows for what came from
    /// it, and the burst.
    #[test]
    fn bytes_toward_a_network_are_bounded(
        ratio in 2u32..20,
        slip in 0u32..3,
        rate in prop::sample::select(vec![0u32, 5, 500]),
        events in prop::collection::vec((0u64..400, 0u8..2, 17usize..120, 17usize..1232, 0u64..3), 1..400),
    ) {
        let mut limiter = limiter(LimitConfig { slip, ..LimitConfig { max_amplification: ratio, ..rates(rate) } });
        let mut now = 1_000_000;
        let mut log = Vec::new();
        for (pause, network, query, length, alike) in events {
            now += pause / 4;
            let reply = reply(length);
            let source = from(&format!("192.0.{network}.1"));
            let out = match limiter.check(now, &source, &outcome(Rcode::NoError, alike), query, &reply) {
                Verdict::Send => reply.len(),
                Verdict::Slip(_) => slip::length(&reply),
                Verdict::Drop(_) => 0,
            };
            if network == 0 {
                log.push((now, query as f64, out as f64));
            }
        }
        for start in 0..log.len() {
            let (mut sent, mut received) = (0.0, 0.0);
            for (at, query, out) in &log[start..] {
                (sent, received) = (sent + out, received + query);
                let refilled = (at - log[start].0) as f64 / f64::from(REFILL_MS);
                prop_assert!(sent <= received * f64::from(ratio) + f64::from(BURST) * (1.0 + refilled) + 1.0);
            }
        }
    }

    /// Whoever stays within the rate in each second gets every reply, whatever others do.
    #[test]
    fn a_source_within_its_rate_is_never_limited(
        rate in 1u32..20,
        pauses in prop::collection::vec(0u64..50, 1..200),
        noise in prop::collection::vec((0u8..4, 0u64..4, 0u8..3), 200),
    ) {
        let mut limiter = limiter(LimitConfig { table_size: 64, ..rates(rate) });
        let (client, answer) = (from("192.0.2.1"), outcome(Rcode::NoError, 5));
        let mut now = 5_000;
        for (pause, (network, alike, times)) in pauses.into_iter().zip(noise) {
            now += (1000_u64).div_ceil(rate.into()) + pause;
            for _ in 0..times * 10 {
                // Never the same network and the same name.
                let other = from(&format!("192.0.{}.9", 2 + network));
                limiter.check(now, &other, &outcome(Rcode::NoError, 10 + alike), QUERY, &reply(100));
            }
            prop_assert_eq!(limiter.check(now, &client, &answer, QUERY, &reply(1000)), Verdict::Send);
        }
    }

    /// A flood gets at most its rate, and a second's worth before.
    #[test]
    fn full_replies_are_bounded_by_the_rate(
        rate in 1u32..100,
        pauses in prop::collection::vec(0u64..30, 1..500),
    ) {
        let mut limiter = limiter(rates(rate));
        let (client, answer) = (from("2001:db8::1"), outcome(Rcode::NxDomain, 5));
        let (mut now, mut full) = (77, 0);
        let start = now;
        for pause in pauses {
            now += pause;
            full += u64::from(limiter.check(now, &client, &answer, QUERY, &reply(100)) == Verdict::Send);
            prop_assert!(full * 1000 <= u64::from(rate) * (1000 + now - start));
        }
    }

    #[test]
    fn arbitrary_bytes_slip_to_no_more_than_they_were(mut bytes: Vec<u8>) {
        let length = bytes.len();
        slip(&mut bytes, &mut Outcome::default());
        prop_assert!(bytes.len() <= length);
    }
}
