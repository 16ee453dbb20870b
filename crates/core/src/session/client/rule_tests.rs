//! Single rules: expiry, versions, brokers, families, modes, whom to keep warm.

use super::book::Book;
use super::tests::{A, B, C, X, at, list, listed, ms};
use super::{Client, ClientConfig, Event, Input, Output, Phase};
use crate::health::Family;
use crate::session::list::{Change, FailureDomain, HARD_TTL, Held, ListVersion, Listed, Standing};
use crate::session::{Ack, Dice, Duplicate, MirrorKey, Mode, SessionId};
use crate::time::MonoTime;
use std::collections::HashMap;
use std::net::SocketAddrV6;
use std::time::Duration;

const START: MonoTime = MonoTime::from_millis(1000);

fn client(mode: Mode) -> Client {
    let mut client = Client::new(ClientConfig::default(), SessionId(7), mode, 2, 1);
    give(&mut client, Input::Tick, START);
    client
}

fn give(client: &mut Client, input: Input, now: MonoTime) -> Vec<Output> {
    client.handle(input, at(now));
    std::iter::from_fn(|| client.poll_output()).collect()
}

fn three() -> Vec<Listed> {
    vec![listed(1, 10), listed(2, 40), listed(3, 60)]
}

/// Attached to A, with B warm.
fn attached(mode: Mode) -> Client {
    let mut client = client(mode);
    give(&mut client, Input::ListArrived(list(1, three())), START);
    give(&mut client, Input::ProbeAnswered { mirror: A, family: Family::V4, rtt: ms(10) }, START);
    give(&mut client, Input::Accepted(A), START);
    give(&mut client, Input::Accepted(B), START);
    assert_eq!((client.primary(), client.standby()), (Some(A), Some(B)));
    client
}

#[test]
fn without_brokers_a_list_is_good_for_a_day() {
    let mut client = client(Mode::Stream);
    give(&mut client, Input::ListArrived(list(1, three())), START);
    let (mut now, mut last_probe, mut resolved) = (START, START, 0);
    while now < START + HARD_TTL + Duration::from_secs(600) {
        for output in give(&mut client, Input::Tick, now) {
            match output {
                Output::Probe { .. } => last_probe = now,
                Output::Resolve { .. } => {
                    resolved += 1;
                    give(&mut client, Input::BrokerLost, now);
                }
                other => panic!("{other:?}"),
            }
        }
        now = client.next_deadline().unwrap();
    }
    assert_eq!(client.phase(), Phase::Resolving);
    assert!(last_probe <= START + HARD_TTL && last_probe + Duration::from_secs(120) > START + HARD_TTL);
    // More than once an hour, and not much more than twice a minute.
    assert!((24..4000).contains(&resolved), "{resolved}");
}

#[test]
fn brokers_take_turns_and_are_given_time() {
    let mut client = Client::new(ClientConfig::default(), SessionId(7), Mode::Stream, 3, 1);
    let (mut now, mut asked) = (START, Vec::new());
    while asked.len() < 30 {
        for output in give(&mut client, Input::Tick, now) {
            if let Output::Resolve { broker, have: None } = output {
                asked.push((now, broker));
                give(&mut client, Input::BrokerLost, now);
            }
        }
        now = client.next_deadline().unwrap();
    }
    assert!(asked.iter().enumerate().all(|(i, (_, broker))| i % 3 == *broker), "{asked:?}");
    let waits: Vec<Duration> = asked.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    assert!(waits[..3].iter().all(|wait| *wait <= ms(250)), "{waits:?}");
    assert!(waits[26..].iter().all(|wait| (30_000..=60_000).contains(&wait.as_millis())), "{waits:?}");
}

#[test]
fn what_cannot_be_used_is_counted_and_a_gap_asks_for_the_whole_list() {
    let mut client = attached(Mode::Stream);
    let change = |from, number| Change {
        ends: None,
        from,
        to: ListVersion { source: 1, number },
        issued: at(START).unix,
        put: vec![],
        removed: vec![],
    };
    assert_eq!(give(&mut client, Input::Changed(change(0, 0)), START), []);
    let asked = give(&mut client, Input::Changed(change(5, 6)), START);
    assert_eq!(asked, [Output::Resolve { broker: 0, have: None }]);
    let mut old = list(9, three());
    old.issued.0 -= HARD_TTL.as_millis() as u64 + 60_000;
    give(&mut client, Input::ListArrived(old), START);
    give(&mut client, Input::Accepted(X), START);
    give(&mut client, Input::TripwireClosed(X), START);
    let tally = client.tally();
    assert_eq!((tally.stale, tally.gaps, tally.expired, tally.unexpected), (1, 1, 1, 2));
}

#[test]
fn a_mirror_cannot_acknowledge_what_was_never_sent() {
    let mut client = attached(Mode::Stream);
    let now = client.next_deadline().unwrap();
    let ack = Some(Ack { seq: 1_000_000, held: Duration::ZERO });
    give(&mut client, Input::Heard { mirror: A, seq: 1, ack }, now);
    assert_eq!(client.tally().false_acks, 1);
    // Packets that prove nothing of the other direction do not keep a mirror for ever.
    let (mut now, mut seq, mut degraded) = (now, 2, false);
    while now < START + ms(2000) && !degraded {
        now = now + ms(10);
        seq += 1;
        let outputs = give(&mut client, Input::Heard { mirror: A, seq, ack }, now);
        degraded = outputs.contains(&Output::Event(Event::Degraded(A)));
    }
    assert!(degraded);
}

#[test]
fn data_takes_the_place_of_beacons() {
    let mut client = attached(Mode::Stream);
    let (mut beacons, mut now, mut last) = (0, START, None);
    for step in 1..200 {
        now = START + ms(10) * step;
        let stamp = client.stamp(A, now).unwrap();
        assert!(last.is_none_or(|last| stamp > last));
        last = Some(stamp);
        let ack = Some(Ack { seq: stamp, held: Duration::ZERO });
        let outputs = give(&mut client, Input::Heard { mirror: A, seq: u64::from(step), ack }, now);
        beacons +=
            outputs.iter().filter(|o| matches!(o, Output::Beacon { mirror, .. } if *mirror == A)).count();
    }
    assert!((1..=3).contains(&beacons), "{beacons} in two seconds");
    assert_eq!(client.phase(), Phase::Attached);
    assert_eq!(client.stamp(C, now), None);
}

#[test]
fn datagrams_are_doubled_as_the_mode_says() {
    let over_standby = Output::Duplicate(Some(B));
    for (mode, before, after) in [
        (Mode::Stream, None, None),
        (Mode::Datagram(Duplicate::Never), None, None),
        (Mode::Datagram(Duplicate::WhileDegraded), None, Some(B)),
        (Mode::Datagram(Duplicate::Always), Some(B), Some(B)),
    ] {
        let mut client = attached(mode);
        assert_eq!(client.links.doubled(), before, "{mode:?}");
        let outputs = give(&mut client, Input::NetworkChanged, START);
        assert_eq!(client.phase(), Phase::Degraded);
        assert_eq!(outputs.contains(&over_standby), before != after, "{mode:?}");
        assert_eq!(client.links.doubled(), after, "{mode:?}");
    }
}

#[test]
fn the_family_that_answers_is_attached_and_ipv6_when_both_do() {
    let v6 = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 7850, 0, 0);
    for (answers, expected) in [
        (vec![(Family::V4, 12), (Family::V6, 14)], true),
        (vec![(Family::V4, 12), (Family::V6, 40)], false),
        (vec![(Family::V4, 12)], false),
        (vec![(Family::V6, 14)], true),
    ] {
        let mut book = Book::default();
        let both = Listed { v6: Some(v6), ..listed(1, 10) };
        let _ = Held::take(&mut book.held, list(1, vec![both]), false, at(START));
        for (family, rtt) in &answers {
            book.answered(A, *family, ms(*rtt), START);
        }
        assert_eq!(book.address(&both).unwrap().is_ipv6(), expected, "{answers:?}");
    }
}

fn standbys(mirrors: Vec<Listed>, primary: u64) -> HashMap<MirrorKey, usize> {
    let mut book = Book::default();
    let beside = mirrors.iter().find(|m| m.key.0 == primary).unwrap();
    let beside = (beside.domain, beside.predicted);
    let _ = Held::take(&mut book.held, list(1, mirrors), false, at(START));
    let mut count = HashMap::new();
    for session in 0..4000 {
        let chosen = book.standby(SessionId(session), beside, &[MirrorKey(primary)], START);
        *count.entry(chosen.unwrap()).or_default() += 1;
    }
    count
}

#[test]
fn a_standby_fails_apart_from_the_primary_unless_that_is_too_far() {
    let region = |key, ms, region| Listed {
        domain: FailureDomain { site: key, asn: 1, region },
        weight: 1.0,
        ..listed(key, ms)
    };
    let only = |key| HashMap::from([(MirrorKey(key), 4000)]);
    assert_eq!(standbys(vec![region(1, 10, 1), region(2, 12, 1), region(3, 60, 2)], 1), only(3));
    assert_eq!(standbys(vec![region(1, 10, 1), region(2, 12, 1), region(3, 200, 2)], 1), only(2));
    assert_eq!(standbys(vec![region(1, 10, 1), region(3, 200, 2)], 1), only(3));
    let endangered = Listed { standing: Standing::Endangered, ..region(3, 60, 2) };
    assert_eq!(standbys(vec![region(1, 10, 1), region(2, 12, 1), endangered], 1), only(2));
    // Among those that are near enough, by weight.
    let heavy = Listed { weight: 3.0, ..region(4, 50, 3) };
    let shared = standbys(vec![region(1, 10, 1), region(3, 40, 2), heavy, region(5, 65, 4)], 1);
    let of = |key| shared.get(&MirrorKey(key)).copied().unwrap_or_default();
    assert!(
        (700..900).contains(&of(3)) && (2300..2500).contains(&of(4)) && (700..900).contains(&of(5)),
        "{shared:?}"
    );
}

#[test]
fn penalties_double_and_a_probe_ends_only_those_of_silence() {
    let mut book = Book::default();
    let _ = Held::take(&mut book.held, list(1, three()), false, at(START));
    let mut dice = Dice(3);
    book.failed(A, false, Duration::ZERO, &mut dice, START);
    assert!(!book.usable(A, START) && book.usable(A, START + ms(1000)));
    assert!(book.answered(A, Family::V4, ms(10), START) && book.usable(A, START));
    for _ in 0..20 {
        book.failed(A, true, Duration::ZERO, &mut dice, START);
    }
    assert!(book.answered(A, Family::V4, ms(10), START) && !book.usable(A, START + ms(30_000 - 1)));
    assert!(book.usable(A, START + ms(60_000)));
    assert!(!book.answered(X, Family::V4, ms(10), START));
}

#[test]
fn what_a_driver_slept_through_proves_nothing_of_a_mirror_whose_tripwire_closed() {
    let mut client = client(Mode::Stream);
    let one = vec![listed(1, 10)];
    give(&mut client, Input::ListArrived(list(1, one)), START);
    give(&mut client, Input::ProbeAnswered { mirror: A, family: Family::V4, rtt: ms(10) }, START);
    give(&mut client, Input::Accepted(A), START);
    give(&mut client, Input::TripwireClosed(A), START + ms(10));
    assert_eq!(client.phase(), Phase::Degraded);
    // The driver was held up; a packet without news of this client's is all that comes.
    let late = START + ms(200);
    let ack = Some(Ack { seq: 0, held: ms(190) });
    let outputs = give(&mut client, Input::Heard { mirror: A, seq: 1, ack }, late);
    assert!(!outputs.contains(&Output::Event(Event::Restored(A))), "{outputs:?}");
    assert_eq!(client.phase(), Phase::Degraded);
}

#[test]
fn settings_that_no_session_can_keep_to_are_named() {
    assert_eq!(ClientConfig::default().check(), Ok(()));
    let wrong = |change: fn(&mut ClientConfig)| {
        let mut config = ClientConfig::default();
        change(&mut config);
        config.check().unwrap_err().name
    };
    assert_eq!(wrong(|c| c.shifting.margin = Duration::MAX), "shifting.margin");
    assert_eq!(wrong(|c| c.shifting.check = Duration::MAX), "shifting.check");
    assert_eq!(wrong(|c| c.shifting.hold = Duration::MAX), "shifting.hold");
    assert_eq!(wrong(|c| c.gaining.first_rest = Duration::MAX), "gaining.first_rest");
    assert_eq!(wrong(|c| c.patience.by_loss = 0.0), "patience.by_loss");
    assert_eq!(wrong(|c| c.shifting.share = f64::NAN), "shifting.share");
    assert_eq!(wrong(|c| c.pace.steady = Duration::ZERO), "pace.steady");
    assert_eq!(wrong(|c| c.gaining.probes = 0), "gaining.probes");
}

#[test]
fn what_waits_behind_a_burst_says_nothing_of_the_path() {
    let mut client = attached(Mode::Stream);
    let heard = |client: &mut Client, seq, of, now| {
        let ack = Some(Ack { seq: of, held: Duration::ZERO });
        give(client, Input::Heard { mirror: A, seq, ack }, now)
    };
    let first = client.stamp(A, START + ms(10)).unwrap();
    heard(&mut client, 1, first, START + ms(20));
    let before = client.rtt(A);
    let behind = (0..50).filter_map(|_| client.stamp_behind(A)).last().unwrap();
    heard(&mut client, 2, behind, START + ms(40));
    assert_eq!((client.rtt(A), client.tally().false_acks), (before, 0));
    assert!(client.stamp(A, START + ms(40)).unwrap() > behind);
}
