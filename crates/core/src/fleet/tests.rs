use super::node::{Fresh, Hearing, Loss, ReplayWindow, Stage};
use super::probing::Prober;
use super::*;
use crate::check::{CheckKind, CheckSpec};
use crate::geo::{Place, PlaceSource};
use crate::health::machine::Input;
use crate::health::{Reason, State, Verdict};
use crate::id::NodeId;
use crate::registry::{
    Domain, DomainIndex, Force, ForcedTo, HealthMode, Mirror, MirrorAddress, MirrorIndex, Node, NodeIndex,
    Orders, Policy,
};
use crate::time::UnixMillis;
use proptest::prelude::*;
use std::net::IpAddr;

pub(super) const ID: NodeId = NodeId([3; 32]);
pub(super) const PASSED: ProbeAnswer = ProbeAnswer::Passed(Duration::from_millis(5));

pub(super) fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), unix: UnixMillis(1_000_000 + ms) }
}

fn probe() -> CheckSpec {
    let second = Duration::from_secs(1);
    CheckSpec { kind: CheckKind::Tcp, interval: second, timeout: second, rise: 2, fall: 3 }
}

/// One domain, one node, a mirror a health mode given.
pub(super) fn registry(modes: &[HealthMode]) -> Registry {
    let policy = Policy {
        answers: 2,
        ttl: Duration::from_secs(20),
        negative_ttl: Duration::from_secs(20),
        tie_band_ms: 5.0,
        tie_band_share: 0.05,
        failover: Default::default(),
        alpn: vec![],
        ..Policy::default()
    };
    let name: Arc<str> = "play.example".into();
    let domain = Domain {
        name: name.clone(),
        mirrors: 0..modes.len() as u32,
        policy,
        records: vec![],
        redirect_hosts: vec![],
        trust: Default::default(),
    };
    let node = Node {
        name: "n".into(),
        id: Some(ID),
        revoked: false,
        domains: vec![name.clone()],
        drained: false,
        windows: Vec::new(),
        place: None,
    };
    let mirror = |(i, health): (usize, &HealthMode)| Mirror {
        name: format!("m{i}").into(),
        domain: DomainIndex(0),
        node: Some(NodeIndex(0)),
        address: MirrorAddress::Declared { v4: Some([192, 0, 2, i as u8 + 1].into()), v6: None },
        port: 80,
        weight: 1,
        place: Place::default(),
        place_source: PlaceSource::Unknown,
        health: *health,
        probe: Some(probe()),
        url: None,
        ingress: None,
        orders: Orders::default(),
    };
    Registry {
        version: 1,
        domains: vec![domain],
        nodes: vec![node],
        mirrors: modes.iter().enumerate().map(mirror).collect(),
        domain_by_name: [(name, DomainIndex(0))].into(),
        node_by_id: [(ID, NodeIndex(0))].into(),
        ..Registry::default()
    }
}

fn remotes(v6: bool) -> IpAddr {
    if v6 { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() } else { remote() }
}

pub(super) fn remote() -> IpAddr {
    [198, 51, 100, 1].into()
}

pub(super) fn report(mirrors: &[&str]) -> NodeReport {
    let service = |m: &&str| ServiceReport {
        domain: "play.example".into(),
        mirror: (*m).into(),
        healthy: true,
        ready: true,
        ..ServiceReport::default()
    };
    NodeReport { services: mirrors.iter().map(service).collect(), ..NodeReport::default() }
}

pub(super) fn orders_of(fleet: &mut Fleet) -> Vec<ProbeOrder> {
    std::iter::from_fn(|| fleet.poll_output())
        .filter_map(|o| match o {
            Output::Probe(order) => Some(order),
            _ => None,
        })
        .collect()
}

pub(super) fn state(fleet: &Fleet, mirror: u32) -> (State, Reason) {
    let v = fleet.live().mirror(MirrorIndex(mirror)).verdict(Family::V4);
    (v.state, v.reason)
}

/// A fleet of one agent-mode mirror that is up at 100 ms.
pub(super) fn one_up() -> Fleet {
    let mut fleet = Fleet::new(FleetConfig::default(), 1);
    fleet.set_registry(Arc::new(registry(&[HealthMode::Agent])), at(0));
    fleet.on_session_up(ID, 1, 1, remote(), at(10));
    fleet.on_report(ID, &report(&["m0"]), at(20));
    let orders = orders_of(&mut fleet);
    assert_eq!((orders.len(), state(&fleet, 0)), (1, (State::Unknown, Reason::AwaitingProbe)));
    fleet.on_probe_result(orders[0].token, PASSED, at(30));
    fleet.on_beacon(ID, 1, 0, false, at(100));
    assert_eq!(state(&fleet, 0), (State::Up, Reason::Proven));
    fleet
}

#[test]
fn beacons_count_once_and_boots_only_go_up() {
    let mut fleet = one_up();
    let mut send = |boot, seq| fleet.on_beacon(ID, boot, seq, false, at(110));
    assert_eq!(send(1, 0), BeaconOutcome::Replayed);
    assert_eq!(send(1, 5), BeaconOutcome::Accepted);
    assert_eq!(send(1, 3), BeaconOutcome::Accepted);
    assert_eq!(send(1, 3), BeaconOutcome::Replayed);
    assert_eq!(send(1, 100), BeaconOutcome::Accepted);
    assert_eq!(send(1, 36), BeaconOutcome::Stale);
    assert_eq!(send(1, 37), BeaconOutcome::Accepted);
    assert_eq!(send(2, 0), BeaconOutcome::Accepted);
    assert_eq!(send(1, 101), BeaconOutcome::Stale);
    assert_eq!(fleet.on_beacon(NodeId([9; 32]), 1, 1, false, at(110)), BeaconOutcome::UnknownNode);
    // 0, 5 after four, 100 after 94, and 0 of the next boot; 3 and 37 came late; what did not count is not in it.
    let expected = BeaconTally { heard: 4, missed: 98, late: 2 };
    let heard: Vec<_> = fleet.beacons(at(160)).collect();
    assert_eq!(heard, [(ID, expected, Some(Duration::from_millis(50)))]);
}

#[test]
fn overlapping_sessions_count_as_one_agent() {
    let mut fleet = one_up();
    fleet.on_session_up(ID, 2, 1, remote(), at(150));
    fleet.on_session_lost(ID, 1, at(160));
    assert_eq!(state(&fleet, 0).0, State::Up);
    fleet.on_session_left(ID, 1, at(165));
    assert_eq!(state(&fleet, 0).0, State::Up, "a goodbye of a session that is over");
    fleet.on_session_lost(ID, 2, at(170));
    assert_eq!(state(&fleet, 0), (State::Suspect, Reason::SessionLost));
    assert_eq!(orders_of(&mut fleet).len(), 1, "probing begins at once");
    fleet.on_beacon(ID, 1, 1, false, at(180));
    assert_eq!(state(&fleet, 0), (State::Up, Reason::Proven));
    fleet.on_session_up(ID, 3, 1, remote(), at(200));
    fleet.on_session_left(ID, 3, at(210));
    assert_eq!(state(&fleet, 0), (State::Down, Reason::AgentLeft));
    fleet.on_beacon(ID, 1, 2, false, at(220));
    assert_eq!(state(&fleet, 0), (State::Down, Reason::AgentLeft), "overtaken by the goodbye");
}

#[test]
fn services_are_matched_to_the_node_that_serves_them() {
    let mut fleet = one_up();
    let mut said = report(&["m0", "other"]);
    said.services[0].connections = 9;
    said.load.cpu = 0.5;
    assert_eq!(fleet.on_report(ID, &said, at(120)), 1);
    let load = fleet.live().mirrors[0].load;
    assert_eq!((load.connections, load.cpu), (9, 0.5));
    assert_eq!(fleet.on_report(NodeId([9; 32]), &said, at(121)), 2);
    assert_eq!(fleet.on_report(ID, &NodeReport::default(), at(122)), 0);
    assert_eq!(state(&fleet, 0), (State::Down, Reason::NotReady), "no longer listed");
}

#[test]
fn last_known_keeps_the_last_that_were_eligible_but_none_withdrawn() {
    let up = HealthMode::Manual { up: true };
    let down = HealthMode::Manual { up: false };
    let mut fleet = Fleet::new(FleetConfig::default(), 1);
    let known =
        |fleet: &Fleet| -> Vec<bool> { fleet.live().mirrors.iter().map(|m| m.last_known[0]).collect() };
    fleet.set_registry(Arc::new(registry(&[HealthMode::Probe, up, HealthMode::Probe])), at(0));
    let orders = orders_of(&mut fleet);
    for order in orders.iter().filter(|o| o.mirror != MirrorIndex(2)) {
        fleet.on_probe_result(order.token, PASSED, at(10));
    }
    assert_eq!(known(&fleet), [true, true, false]);
    let mut next = registry(&[HealthMode::Probe, down, HealthMode::Probe]);
    fleet.set_registry(Arc::new(next.clone()), at(20));
    assert_eq!(known(&fleet), [true, false, false]);
    for ms in (20..5000).step_by(20) {
        fleet.on_deadline(at(ms));
        for order in orders_of(&mut fleet) {
            fleet.on_probe_result(order.token, ProbeAnswer::Refused, at(ms));
        }
    }
    assert_eq!(state(&fleet, 0), (State::Down, Reason::ProbeFailed));
    assert_eq!(known(&fleet), [true, false, false], "all down: the last that was eligible");
    next.mirrors[0].orders.drained = true;
    fleet.set_registry(Arc::new(next), at(5000));
    assert_eq!(known(&fleet), [false; 3]);
}

#[test]
fn a_changed_port_or_address_must_be_proven_anew() {
    let mut fleet = one_up();
    let mut next = registry(&[HealthMode::Agent]);
    next.mirrors[0].port = 81;
    fleet.set_registry(Arc::new(next.clone()), at(200));
    assert_eq!(state(&fleet, 0), (State::Unknown, Reason::AwaitingProbe));
    let orders = orders_of(&mut fleet);
    assert_eq!((orders.len(), orders[0].port), (1, 81));
    fleet.on_probe_result(orders[0].token, PASSED, at(210));
    next.mirrors[0].address = MirrorAddress::Hostname("h.example".into());
    fleet.set_registry(Arc::new(next), at(220));
    assert_eq!(state(&fleet, 0), (State::Unknown, Reason::NoAddress));
    let resolved: IpAddr = [203, 0, 113, 5].into();
    fleet.set_address(MirrorIndex(0), Family::V6, Some(resolved), at(230));
    assert_eq!(fleet.live().mirrors[0].v6, None, "not of that family");
    fleet.set_address(MirrorIndex(0), Family::V4, Some(resolved), at(230));
    let orders = orders_of(&mut fleet);
    assert_eq!((orders.len(), orders[0].addr), (1, resolved));
    fleet.on_probe_result(orders[0].token, PASSED, at(240));
    assert_eq!(state(&fleet, 0), (State::Up, Reason::Proven));
    assert!(fleet.live().mirrors[0].eligible(Family::V4));
}

#[test]
fn a_warm_up_ends_by_itself() {
    let config = FleetConfig { warm_for: Duration::from_secs(2), ..FleetConfig::default() };
    let mut fleet = Fleet::new(config, 1);
    fleet.set_registry(Arc::new(registry(&[HealthMode::Probe])), at(0));
    let token = orders_of(&mut fleet)[0].token;
    fleet.on_probe_result(token, PASSED, at(10));
    assert_eq!(state(&fleet, 0), (State::Warming, Reason::Proven));
    for ms in (10..2100).step_by(50) {
        fleet.on_deadline(at(ms));
        for order in orders_of(&mut fleet) {
            fleet.on_probe_result(order.token, PASSED, at(ms));
        }
    }
    assert_eq!(state(&fleet, 0), (State::Up, Reason::Proven));
}

#[test]
fn k_follows_the_measured_loss() {
    let k = |lost_of_100: u64| {
        let mut loss = Loss::default();
        for i in 0..2000u64 {
            let lost = i % 100 < lost_of_100;
            loss.on(if lost { Fresh::Ahead(1) } else { Fresh::Ahead(0) });
        }
        loss.k((5, 50))
    };
    assert_eq!(Loss::default().k((5, 50)), 10, "nothing measured");
    assert_eq!(k(0), 5);
    // 5 lost of 105 sent: ln 1e-9 / ln 0.0476 = 6.8.
    assert_eq!(k(5), 7);
    assert_eq!(k(100), 30);
    let mut outage = Loss::default();
    (0..200).for_each(|_| outage.on(Fresh::Ahead(0)));
    outage.on(Fresh::Ahead(10_000));
    assert_eq!(outage.k((5, 50)), 5, "an outage is not loss");
}

#[test]
fn losses_that_come_together_make_a_network_rough() {
    let mut seed = Prober::new(&FleetConfig::default(), 5);
    // Random losses of a share, and as many in runs of so many.
    let mut heard = |share: f64, run: u64| {
        let (mut loss, mut missing) = (Loss::default(), 0);
        for _ in 0..6000 {
            let lost = (seed.random() >> 11) as f64 / ((1u64 << 53) as f64) < share / run as f64;
            missing += if lost { run } else { 0 };
            if !lost {
                loss.on(Fresh::Ahead(missing));
                missing = 0;
            }
        }
        loss
    };
    for share in [0.0, 0.005, 0.05, 0.08] {
        assert!(!heard(share, 1).is_rough(), "{share}");
        assert_eq!(heard(share, 1).is_lossy(), share > 0.02, "{share}");
    }
    assert!(heard(0.2, 1).is_rough(), "so much is lost");
    for share in [0.01, 0.05] {
        assert!(heard(share, 2).is_rough() && heard(share, 4).is_rough(), "{share}");
    }
}

/// Every stage of hearing, looked at before and after its deadline.
#[test]
fn hearing_every_stage() {
    let config = FleetConfig::default();
    let look = |stage, ms| {
        let mut hearing = Hearing::default();
        hearing.set_k(10);
        hearing.stage = stage;
        let input = hearing.due(&config, MonoTime::ZERO, MonoTime::from_millis(ms));
        (hearing.stage, input)
    };
    let (short, long) = (Stage::Silent { long: false }, Stage::Silent { long: true });
    let table = [
        (Stage::Never, 9_999, Stage::Never, None),
        (Stage::Left, 9_999, Stage::Left, None),
        (Stage::Present, 449, Stage::Present, None),
        (Stage::Present, 450, short, Some(Input::SecondBeaconMissed)),
        (short, 2_049, short, None),
        (short, 2_050, long, Some(Input::SilenceConfirmedLong)),
        (long, 9_999, long, None),
    ];
    for (stage, ms, after, input) in table {
        assert_eq!(look(stage, ms), (after, input), "{stage:?} at {ms}");
    }
}

#[test]
fn jitter_stays_within_a_fifth() {
    let mut prober = Prober::new(&FleetConfig::default(), 42);
    let drawn: Vec<_> = (0..1000).map(|_| prober.jittered(Duration::from_secs(10)).as_millis()).collect();
    assert!(drawn.iter().all(|ms| (8_000..=12_000).contains(ms)));
    assert!(drawn.iter().any(|ms| *ms < 8_500) && drawn.iter().any(|ms| *ms > 11_500));
}

#[test]
fn persisted_verdicts_go_on_in_another_fleet() {
    let fleet = one_up();
    let stored = fleet.persisted(at(9000));
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].verdict.state, stored[0].verdict.reason), (State::Up, Reason::Proven));
    let mut again = Fleet::new(FleetConfig::default(), 2);
    again.set_registry(Arc::new(registry(&[HealthMode::Agent])), at(9000));
    let mut unknown = stored[0].clone();
    unknown.mirror = "gone".into();
    again.resume(vec![unknown, stored[0].clone()], at(9000));
    assert_eq!(state(&again, 0), (State::Up, Reason::Resumed));
    assert_eq!(again.live().mirrors[0].verdicts[0].since, stored[0].verdict.since);
    assert_eq!(orders_of(&mut again).len(), 1, "re-checked at once");
}

#[test]
fn verdicts_wait_for_the_first_registry() {
    let stored = one_up().persisted(at(9000));
    let mut fleet = Fleet::new(FleetConfig::default(), 2);
    fleet.resume(stored.clone(), at(9000));
    fleet.set_registry(Arc::new(registry(&[HealthMode::Agent])), at(9001));
    assert_eq!(state(&fleet, 0), (State::Up, Reason::Resumed));
    assert!(fleet.live().mirrors[0].verdicts[0].stale);
    // A mirror registered only later is a new one.
    let mut late = Fleet::new(FleetConfig::default(), 2);
    late.resume(stored, at(9000));
    late.set_registry(Arc::new(registry(&[])), at(9001));
    late.set_registry(Arc::new(registry(&[HealthMode::Agent])), at(9002));
    assert_eq!(state(&late, 0), (State::Unknown, Reason::NothingHeard));
}

#[derive(Clone, Debug)]
enum Act {
    Up { session: u64, boot: u64, v6: bool },
    Moved { session: u64, v6: bool },
    Lost(u64),
    Left(u64),
    Beacon(u64, u64, bool),
    Report { healthy: bool, ready: bool, draining: bool },
    Result { which: usize, passed: bool },
    Skip(usize),
    Registry { revoked: bool, drained: bool, force: Option<bool>, mode: u8, probed: bool },
    Address(Option<u8>),
    Resume(u8),
    Wait(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..4u64, 0..3u64, any::<bool>()).prop_map(|(session, boot, v6)| Act::Up { session, boot, v6 }),
        1 => (0..4u64, any::<bool>()).prop_map(|(session, v6)| Act::Moved { session, v6 }),
        1 => (0..4u64).prop_map(Act::Lost),
        1 => (0..4u64).prop_map(Act::Left),
        4 => (0..3u64, 0..80u64, prop::bool::weighted(0.1)).prop_map(|(b, s, d)| Act::Beacon(b, s, d)),
        4 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8), prop::bool::weighted(0.1))
            .prop_map(|(healthy, ready, draining)| Act::Report { healthy, ready, draining }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(which, passed)| Act::Result { which, passed }),
        1 => any::<usize>().prop_map(Act::Skip),
        1 => (any::<bool>(), any::<bool>(), any::<Option<bool>>(), 0..6u8, any::<bool>()).prop_map(
            |(revoked, drained, force, mode, probed)| Act::Registry { revoked, drained, force, mode, probed }
        ),
        1 => any::<Option<u8>>().prop_map(Act::Address),
        1 => (0..7u8).prop_map(Act::Resume),
        8 => (0..3_000u64).prop_map(Act::Wait),
    ]
}

fn act(fleet: &mut Fleet, act: &Act, orders: &mut Vec<ProbeOrder>, ms: &mut u64) {
    let now = at(*ms);
    match act {
        Act::Up { session, boot, v6 } => fleet.on_session_up(ID, *session, *boot, remotes(*v6), now),
        Act::Moved { session, v6 } => fleet.on_session_moved(ID, *session, remotes(*v6), now),
        Act::Lost(n) => fleet.on_session_lost(ID, *n, now),
        Act::Left(n) => fleet.on_session_left(ID, *n, now),
        Act::Beacon(boot, seq, draining) => drop(fleet.on_beacon(ID, *boot, *seq, *draining, now)),
        Act::Report { healthy, ready, draining } => {
            let mut said = report(&["m0"]);
            said.draining = *draining;
            said.services[0].healthy = *healthy;
            said.services[0].ready = *ready;
            fleet.on_report(ID, &said, now);
        }
        Act::Result { which, passed } if !orders.is_empty() => {
            let order = orders.swap_remove(which % orders.len());
            fleet.on_probe_result(order.token, if *passed { PASSED } else { ProbeAnswer::Refused }, now);
        }
        Act::Skip(which) if !orders.is_empty() => {
            fleet.on_probe_skipped(orders[which % orders.len()].token, now)
        }
        Act::Registry { revoked, drained, force, mode, probed } => {
            let modes = [HealthMode::Agent, HealthMode::Probe, HealthMode::Manual { up: false }];
            let mut r = registry(&[modes.get(usize::from(*mode)).copied().unwrap_or(HealthMode::Agent)]);
            r.nodes[0].revoked = *revoked;
            r.mirrors[0].orders.drained = *drained;
            r.mirrors[0].orders.force = force.map(|up| Force {
                to: if up { ForcedTo::Up } else { ForcedTo::Down },
                until: UnixMillis(now.unix.0 + 700),
            });
            r.mirrors[0].probe = probed.then(probe);
            if *mode == 4 {
                r.mirrors[0].address = MirrorAddress::Hostname("h.example".into());
            }
            if *mode == 5 {
                r.mirrors[0].address = MirrorAddress::Observed;
            }
            fleet.set_registry(Arc::new(r), now);
        }
        Act::Address(last) => {
            let addr = last.map(|b| IpAddr::from([203, 0, 113, b]));
            fleet.set_address(MirrorIndex(0), Family::V4, addr, now);
        }
        Act::Resume(state) => {
            let verdict = Verdict { state: State::ALL[usize::from(*state)], ..Verdict::default() };
            let (domain, mirror) = ("play.example".into(), "m0".into());
            fleet.resume(
                vec![PersistedVerdict {
                    domain,
                    mirror,
                    family: Family::V4,
                    verdict,
                    addr: None,
                    awaits_release: false,
                    frozen: None,
                    flaps: None,
                }],
                now,
            );
        }
        Act::Wait(more) => *ms += more,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever happens, in whatever order: no panic, the live part agrees with what was told, the
    /// revoked are out, and deadlines come to rest.
    #[test]
    fn any_sequence_of_events_is_survived(acts in prop::collection::vec(any_act(), 0..80)) {
        let mut fleet = Fleet::new(FleetConfig::default(), 5);
        fleet.set_registry(Arc::new(registry(&[HealthMode::Agent])), at(0));
        let (mut ms, mut orders, mut told) = (0, Vec::new(), Verdict::default());
        for a in &acts {
            act(&mut fleet, a, &mut orders, &mut ms);
            // A look at the deadline must move the deadline on.
            for _ in 0..3 {
                if fleet.next_deadline().is_some_and(|d| d <= at(ms).mono) {
                    fleet.on_deadline(at(ms));
                }
            }
            prop_assert!(fleet.next_deadline().is_none_or(|d| d > at(ms).mono), "stuck after {:?}", a);
            while let Some(output) = fleet.poll_output() {
                match output {
                    Output::Probe(order) => orders.push(order),
                    Output::Transition(t) if t.family == Family::V4 => {
                        prop_assert_ne!(t.from, t.to);
                        told = t.to;
                    }
                    _ => {}
                }
            }
            let live = fleet.live().mirror(MirrorIndex(0));
            prop_assert_eq!(told, *live.verdict(Family::V4), "after {:?}", a);
            let revoked = fleet.registry().nodes[0].revoked;
            prop_assert_eq!(revoked, live.verdict(Family::V4).reason == Reason::Revoked);
        }
    }

    /// No beacon counts twice, whatever order they come in.
    #[test]
    fn no_beacon_counts_twice(beacons in prop::collection::vec((0..3u64, 0..150u64), 0..300)) {
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::HashSet::new();
        let mut boot = 0;
        for (b, s) in beacons {
            if window.accept(b, s).is_ok() {
                prop_assert!(seen.insert((b, s)));
                prop_assert!(b >= boot);
                boot = b;
            }
        }
    }
}

/// The grace of a new session ends with its first beacon: an agent that dies right after it is
/// missed as soon as any other.
#[test]
fn a_first_beacon_ends_the_grace_of_a_new_session() {
    let mut fleet = one_up();
    let _ = fleet.on_beacon(ID, 1, 1_000, false, at(200));
    let patience = FleetConfig::default().silence(2);
    let mut now = at(200);
    while let Some(due) = fleet.next_deadline().filter(|_| state(&fleet, 0).0 == State::Up) {
        now = Now { mono: due, unix: UnixMillis(1_000_000 + due.0 / 1000) };
        fleet.on_deadline(now);
    }
    let waited = now.mono.since(at(200).mono);
    assert!(waited <= patience + FleetConfig::default().beacon_period, "{waited:?}");
}
