use super::{
    AttachRequest, Beacon, ClientId, CloseReason, MirrorConfig, MirrorInput, MirrorOutput, RefuseReason,
    SessionKey, SessionPhase, Sessions,
};
use crate::session::{Ack, MirrorKey, Role, SessionId};
use crate::time::MonoTime;
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::Duration;

const ONE: SessionKey = key(1, 1);
/// The same number, of another client.
const OTHER: SessionKey = key(2, 1);

const fn key(client: u8, session: u64) -> SessionKey {
    SessionKey { client: ClientId([client; 32]), session: SessionId(session) }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn config(capacity: usize, standbys: usize) -> MirrorConfig {
    MirrorConfig { capacity, standbys, ..MirrorConfig::default() }
}

fn attach(session: SessionKey, role: Role, proven: bool) -> MirrorInput {
    MirrorInput::Attach(AttachRequest { session, role, proven })
}

fn beacon(session: SessionKey, seq: u64, role: Role, ask: bool) -> MirrorInput {
    MirrorInput::Packet { session, seq, beacon: Some(Beacon { ask, role, period: ms(50) }) }
}

fn give(sessions: &mut Sessions, input: MirrorInput, now: u64) -> Vec<MirrorOutput> {
    sessions.handle(input, MonoTime::from_millis(now));
    std::iter::from_fn(|| sessions.poll_output()).collect()
}

/// Outputs in short; beacons are left out.
fn short(outputs: &[MirrorOutput]) -> String {
    let part = |output: &MirrorOutput| match output {
        MirrorOutput::Accept { role: Role::Primary, .. } => "+p",
        MirrorOutput::Accept { role: Role::Standby, .. } => "+s",
        MirrorOutput::Refuse { reason, .. } => match reason {
            RefuseReason::Full => "!full",
            RefuseReason::Draining => "!drains",
            RefuseReason::Unproven => "!unproven",
        },
        MirrorOutput::Promoted(_) => "^",
        MirrorOutput::Beacon { .. } => "",
        MirrorOutput::TellDrain { .. } => "v",
        MirrorOutput::Close { reason: CloseReason::Idle, .. } => "-idle",
        MirrorOutput::Close { reason: CloseReason::Drained, .. } => "-done",
        MirrorOutput::Close { reason: CloseReason::DrainDeadline, .. } => "-late",
        MirrorOutput::Drained => ".",
    };
    outputs.iter().map(part).collect()
}

fn code(sessions: &Sessions) -> &'static str {
    match (sessions.phase(ONE), sessions.serves(ONE)) {
        (None, _) => "no",
        (Some(SessionPhase::Standby), _) => "st",
        (Some(SessionPhase::Primary), true) => "pr",
        (Some(SessionPhase::Primary), false) => "re",
        (Some(SessionPhase::Promoted), true) => "up",
        (Some(SessionPhase::Promoted), false) => "re",
        (Some(SessionPhase::Draining), true) => "dp",
        (Some(SessionPhase::Draining), false) => "ds",
    }
}

/// `re`: retired; `dp`, `ds`: draining, served or not; `fu`: absent, and no room.
fn in_state(state: &str) -> Sessions {
    let mut sessions = Sessions::new(if state == "fu" { config(0, 0) } else { config(2, 2) });
    let role = if matches!(state, "st" | "up" | "ds") { Role::Standby } else { Role::Primary };
    if matches!(state, "no" | "fu") {
        return sessions;
    }
    give(&mut sessions, attach(ONE, role, true), 0);
    match state {
        "up" => drop(give(&mut sessions, beacon(ONE, 0, Role::Primary, false), 0)),
        "re" => drop(give(&mut sessions, MirrorInput::Retired(ONE), 0)),
        "dp" | "ds" => drop(give(&mut sessions, MirrorInput::Drain { within: ms(5000) }, 0)),
        _ => {}
    }
    sessions
}

#[test]
fn every_state_and_input() {
    let (p, s) = (Role::Primary, Role::Standby);
    let inputs = [
        ("AttP", attach(ONE, p, true), 1),
        ("AttS", attach(ONE, s, true), 1),
        ("Forg", attach(ONE, p, false), 1),
        ("Othr", attach(OTHER, s, true), 1),
        ("BeaS", beacon(ONE, 9, s, true), 1),
        ("BeaP", beacon(ONE, 9, p, true), 1),
        ("Data", MirrorInput::Packet { session: ONE, seq: 9, beacon: None }, 1),
        ("Work", MirrorInput::Work { session: ONE, open: 1 }, 1),
        ("Reti", MirrorInput::Retired(ONE), 1),
        ("Deta", MirrorInput::Detach(ONE), 1),
        ("Drai", MirrorInput::Drain { within: ms(5000) }, 1),
        ("Undr", MirrorInput::Undrain, 1),
        ("Lat6", MirrorInput::Tick, 6_000),
        ("La13", MirrorInput::Tick, 13_000),
        ("La20", MirrorInput::Tick, 20_000),
    ];
    let states = ["no", "st", "pr", "up", "re", "dp", "ds", "fu"];
    let table = "
        AttP: pr+p       pr+p       .+p        pr+p       pr+p       .!drains   .!drains   no!full
        AttS: st+s       .+s        st+s       st+s       st+s       .!drains   .!drains   no!full
        Forg: .!unproven .!unproven .!unproven .!unproven .!unproven .!unproven .!unproven no!unproven
        Othr: .+s        .+s        .+s        .+s        .+s        .!drains   .!drains   no!full
        BeaS: .          .          .          .          .          .          .          no
        BeaP: .          up^        .          .          .          .          dp^        no
        Data: .          .          .          .          .          .          .          no
        Work: .          .          .          .          .          .          .          no
        Reti: .          .          re         re         .          ds         .          no
        Deta: .          no         no         no         no         no.        no.        no
        Drai: ..         dsv        dpv        dpv        dsv        .          .          no.
        Undr: .          .          .          .          .          .          .          no
        Lat6: .          .          .          .          .          no-late.   no-late.   no
        La13: .          .          .          .          no-done    no-late.   no-late.   no
        La20: .          no-idle    no-idle    no-idle    no-done    no-late.   no-late.   no";
    let mut wrong = Vec::new();
    let rows = table.lines().map(str::trim).filter(|line| !line.is_empty());
    for ((name, input, now), row) in inputs.into_iter().zip(rows) {
        let mut got = vec![format!("{name}:")];
        for state in states {
            let mut sessions = in_state(state);
            let outputs = short(&give(&mut sessions, input, now));
            let after = code(&sessions);
            got.push(format!("{}{outputs}", if after == state { "." } else { after }));
        }
        if row.split_whitespace().ne(got.iter().map(String::as_str)) {
            wrong.push(got.iter().map(|cell| format!("{cell:<10} ")).collect::<String>());
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_who_is_refused_for_want_of_room_is_sent_elsewhere() {
    let mut sessions = Sessions::new(config(1, 0));
    sessions.set_go_to(Some(MirrorKey(7)));
    give(&mut sessions, attach(ONE, Role::Primary, true), 0);
    let go_to = |outputs: Vec<MirrorOutput>| match outputs[..] {
        [MirrorOutput::Refuse { go_to, .. }] => go_to,
        ref other => panic!("{other:?}"),
    };
    let full = give(&mut sessions, attach(OTHER, Role::Primary, true), 0);
    assert_eq!(go_to(full), Some(MirrorKey(7)));
    let unproven = give(&mut sessions, attach(OTHER, Role::Primary, false), 0);
    assert_eq!(go_to(unproven), None);
    let tally = sessions.tally();
    assert_eq!((tally.full, tally.unproven, tally.taken_over), (1, 1, 0));
}

#[test]
fn a_standby_is_promoted_only_where_there_is_room() {
    let mut sessions = Sessions::new(config(1, 1));
    give(&mut sessions, attach(ONE, Role::Primary, true), 0);
    give(&mut sessions, attach(OTHER, Role::Standby, true), 0);
    let outputs = give(&mut sessions, beacon(OTHER, 0, Role::Primary, true), 1);
    assert_eq!(short(&outputs), "!full");
    // It is told once, and its questions are answered all the same.
    for seq in 1..9 {
        let outputs = give(&mut sessions, beacon(OTHER, seq, Role::Primary, true), 1);
        assert!(matches!(outputs[..], [MirrorOutput::Beacon { .. }]), "{outputs:?}");
    }
    assert_eq!(sessions.tally().full, 1);
    // It has taken that in, and asks again.
    give(&mut sessions, beacon(OTHER, 9, Role::Standby, false), 1);
    assert_eq!(short(&give(&mut sessions, beacon(OTHER, 10, Role::Primary, true), 1)), "!full");
    give(&mut sessions, MirrorInput::Retired(ONE), 2);
    let outputs = give(&mut sessions, beacon(OTHER, 11, Role::Primary, true), 3);
    assert_eq!(short(&outputs), "^");
    // A beacon that was overtaken does not take the role back.
    give(&mut sessions, beacon(OTHER, 0, Role::Standby, false), 4);
    assert!(sessions.serves(OTHER) && sessions.sends(ONE));
}

#[test]
fn beacons_keep_the_period_that_the_client_asked_for() {
    let mut sessions = Sessions::new(MirrorConfig::default());
    give(&mut sessions, attach(ONE, Role::Standby, true), 0);
    let mut sent = |from: u64, to: u64, period: Duration| {
        let beacon = Some(Beacon { ask: false, role: Role::Standby, period });
        let packet = MirrorInput::Packet { session: ONE, seq: from, beacon };
        let mut beacons = give(&mut sessions, packet, from).len();
        while let Some(at) = sessions.next_deadline().filter(|at| *at <= MonoTime::from_millis(to)) {
            beacons += give(&mut sessions, MirrorInput::Tick, at.0.div_ceil(1000)).len();
        }
        beacons
    };
    assert_eq!(sent(1, 1000, ms(250)), 4);
    assert!((38..=41).contains(&sent(1001, 2000, ms(25))));
    assert!(sent(2001, 3000, Duration::ZERO) <= 101, "no quicker than is allowed");
}

#[test]
fn who_asks_is_answered_at_once() {
    let mut sessions = Sessions::new(MirrorConfig::default());
    give(&mut sessions, attach(ONE, Role::Standby, true), 0);
    give(&mut sessions, MirrorInput::Tick, 5);
    let beacons = |outputs: Vec<MirrorOutput>| {
        outputs.iter().filter(|output| matches!(output, MirrorOutput::Beacon { .. })).count()
    };
    assert_eq!(beacons(give(&mut sessions, beacon(ONE, 1, Role::Standby, false), 10)), 0);
    for seq in 2..6 {
        assert_eq!(beacons(give(&mut sessions, beacon(ONE, seq, Role::Standby, true), 10)), 1);
    }
}

#[test]
fn acknowledgements_name_the_highest_packet_and_its_age() {
    let mut sessions = Sessions::new(MirrorConfig::default());
    give(&mut sessions, attach(ONE, Role::Primary, true), 0);
    for (seq, now) in [(4, 10), (2, 12)] {
        give(&mut sessions, MirrorInput::Packet { session: ONE, seq, beacon: None }, now);
    }
    let stamp = sessions.stamp(ONE, MonoTime::from_millis(15)).unwrap();
    assert_eq!(stamp.1, Some(Ack { seq: 4, held: ms(5) }));
    let next = sessions.stamp(ONE, MonoTime::from_millis(15)).unwrap();
    assert_eq!(next.0, stamp.0 + 1);
}

#[test]
fn work_under_way_is_waited_for_until_the_deadline() {
    let mut sessions = Sessions::new(MirrorConfig { linger: ms(100), ..MirrorConfig::default() });
    give(&mut sessions, attach(ONE, Role::Primary, true), 0);
    give(&mut sessions, MirrorInput::Work { session: ONE, open: 2 }, 0);
    give(&mut sessions, MirrorInput::Drain { within: ms(3000) }, 0);
    give(&mut sessions, MirrorInput::Retired(ONE), 10);
    assert_eq!(short(&give(&mut sessions, MirrorInput::Tick, 2000)), "");
    give(&mut sessions, MirrorInput::Work { session: ONE, open: 0 }, 2100);
    assert_eq!(short(&give(&mut sessions, MirrorInput::Tick, 2200)), "-done.");
}

fn any_input() -> impl Strategy<Value = MirrorInput> {
    let session = || (1u8..4, 0u64..4).prop_map(|(client, session)| key(client, session));
    let role = || prop::sample::select(vec![Role::Primary, Role::Standby]);
    prop_oneof![
        6 => (session(), role(), prop::bool::weighted(0.9)).prop_map(|(s, r, p)| attach(s, r, p)),
        8 => (session(), 0u64..50, role(), any::<bool>()).prop_map(|(s, q, r, a)| beacon(s, q, r, a)),
        2 => (session(), 0u32..3).prop_map(|(session, open)| MirrorInput::Work { session, open }),
        2 => session().prop_map(MirrorInput::Retired),
        2 => session().prop_map(MirrorInput::Detach),
        1 => (0u64..5000).prop_map(|within| MirrorInput::Drain { within: ms(within) }),
        1 => Just(MirrorInput::Undrain),
        4 => Just(MirrorInput::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn bounds_hold(steps in prop::collection::vec((any_input(), 0u64..1500), 0..200)) {
        let mut sessions = Sessions::new(config(3, 4));
        let mut owners = HashSet::new();
        let mut now = 0;
        for (input, wait) in steps {
            now += wait;
            let outputs = give(&mut sessions, input, now);
            for output in &outputs {
                if let (MirrorOutput::Accept { session, .. }, MirrorInput::Attach(request)) = (output, input) {
                    prop_assert!(request.proven);
                    prop_assert!(sessions.phase(*session).is_some());
                    owners.insert(*session);
                }
            }
            owners.retain(|session| sessions.phase(*session).is_some());
            prop_assert_eq!(owners.len(), sessions.len());
            let served = owners.iter().filter(|session| sessions.serves(**session)).count();
            prop_assert_eq!(served, sessions.served());
            // Those that retired are on their way out and take no place of either kind for long.
            prop_assert!(served <= 3 && sessions.len() <= 3 + 4 + 3 + 4);
            prop_assert!(sessions.next_deadline().is_some() || sessions.is_empty());
            prop_assert!(sessions.next_deadline().is_none_or(|at| at > MonoTime::from_millis(now)));
        }
    }
}
