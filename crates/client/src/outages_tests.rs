use super::*;
use nearmost_wire::api::VerdictView;
use proptest::prelude::*;

const DAY: (u64, u64) = (0, 1_000_000);

fn event(at_unix_ms: u64, from: &str, to: &str, reason: &str) -> EventView {
    EventView {
        number: at_unix_ms,
        at_unix_ms,
        domain: "play.test".into(),
        mirror: "lon".into(),
        family: "v4".into(),
        from: from.into(),
        to: to.into(),
        reason: reason.into(),
        vantage: "broker".into(),
        evidence: String::new(),
    }
}

fn wanted(reason: &str) -> bool {
    matches!(reason, "drained_by_order" | "maintenance")
}

fn told<'a>(events: &'a [EventView], gaps: &'a [RunGapView]) -> Told<'a> {
    Told { events, before: &[], gaps, fleet: None }
}

fn exactly(at_unix_ms: u64) -> Moment {
    Moment { at_unix_ms, not_before_unix_ms: None }
}

fn spans(outages: &[Outage]) -> Vec<(Option<u64>, Option<u64>, bool)> {
    let until = |end| match end {
        End::At(moment) => Some(moment.at_unix_ms),
        End::Still | End::Removed => None,
    };
    outages.iter().map(|o| (o.from.map(|m| m.at_unix_ms), until(o.until), o.planned)).collect()
}

#[test]
fn one_outage_has_its_beginning_its_end_and_its_reason() {
    let events = [
        event(10, "unknown", "up", "proven"),
        event(100, "up", "suspect", "missed_beacons"),
        event(200, "suspect", "down", "silent_and_unreachable"),
        event(500, "down", "warming", "proven"),
        event(600, "warming", "up", "proven"),
    ];
    let found = outages(told(&events, &[]), DAY, wanted);
    assert_eq!(spans(&found), [(Some(200), Some(500), false)]);
    assert_eq!((found[0].reason.as_str(), found[0].lasted_ms(0)), ("silent_and_unreachable", Some(300)));
}

#[test]
fn a_mirror_that_was_never_up_has_no_outage_until_it_is_down() {
    assert_eq!(outages(told(&[event(10, "unknown", "up", "proven")], &[]), DAY, wanted), []);
    let lost = [event(10, "unknown", "up", "proven"), event(20, "up", "unknown", "no_address")];
    assert_eq!(spans(&outages(told(&lost, &[]), DAY, wanted)), [(Some(20), None, false)]);
    let down = [event(10, "unknown", "down", "probe_failed")];
    assert_eq!(spans(&outages(told(&down, &[]), DAY, wanted)), [(Some(10), None, false)]);
}

#[test]
fn what_is_planned_is_told_apart_also_where_it_turns_into_a_fault() {
    let events = [
        event(100, "up", "draining", "drained_by_order"),
        event(300, "draining", "down", "probe_failed"),
        event(400, "down", "up", "proven"),
    ];
    let found = outages(told(&events, &[]), DAY, wanted);
    assert_eq!(spans(&found), [(Some(100), Some(300), true), (Some(300), Some(400), false)]);
}

#[test]
fn an_outage_over_a_restart_is_one_and_what_nobody_saw_is_said() {
    let gaps = [RunGapView { from_unix_ms: 300_000, until_unix_ms: 400_000 }];
    let down = event(200_000, "up", "down", "probe_failed");
    let late = [down.clone(), event(500_000, "down", "up", "proven")];
    let found = outages(told(&late, &gaps), DAY, wanted);
    assert_eq!(found[0].until, End::At(exactly(500_000)), "it was seen to be down after the restart");
    assert_eq!((found.len(), found[0].unwatched_ms), (1, 100_000));
    let soon = [down, event(402_000, "down", "up", "proven")];
    let found = outages(told(&soon, &gaps), DAY, wanted);
    let unseen = Moment { at_unix_ms: 402_000, not_before_unix_ms: Some(300_000) };
    assert_eq!(found[0].until, End::At(unseen));
    let began = [event(401_000, "up", "down", "probe_failed")];
    let found = outages(told(&began, &gaps), DAY, wanted);
    assert_eq!(found[0].from.unwrap().not_before_unix_ms, Some(300_000));
}

#[test]
fn what_began_before_the_time_asked_for_or_before_anything_is_kept_is_there() {
    let before = [event(50, "up", "down", "probe_failed")];
    let events = [event(700, "down", "up", "proven")];
    let all = Told { events: &events, before: &before, gaps: &[], fleet: None };
    assert_eq!(spans(&outages(all, (600, 1000), wanted)), [(Some(50), Some(700), false)]);
    assert_eq!(outages(all, (800, 1000), wanted), []);
    assert_eq!(spans(&outages(told(&events, &[]), (600, 1000), wanted)), [(None, Some(700), false)]);
}

fn fleet(state: &str, since_unix_ms: u64) -> Vec<FleetMirror> {
    let verdict = VerdictView {
        family: "v4".into(),
        address: None,
        state: state.into(),
        eligible: !is_out(state),
        reason: "probe_failed".into(),
        vantage: "broker".into(),
        since_unix_ms,
        age_ms: 0,
        stale: false,
        evidence: None,
    };
    let json = serde_json::json!({
        "domain": "play.test", "mirror": "lon", "port": 1, "weight": 1, "cpu": 0, "memory": 0,
        "connections": 0, "capacity": 0, "place": { "source": "unknown" }, "health": "agent",
        "verdicts": [verdict],
    });
    vec![serde_json::from_value(json).expect("a mirror of the fleet")]
}

#[test]
fn how_it_stands_now_decides_what_no_transition_does() {
    let events = [event(200, "up", "down", "probe_failed")];
    let with = |fleet: &[FleetMirror]| {
        outages(Told { fleet: Some(fleet), ..told(&events, &[]) }, DAY, wanted)[0].until
    };
    assert_eq!(with(&fleet("down", 200)), End::Still);
    assert_eq!(with(&fleet("up", 900)), End::At(exactly(900)));
    assert_eq!(with(&[]), End::Removed);
    let all = Told { events: &[], before: &[], gaps: &[], fleet: Some(&fleet("down", 5)) };
    assert_eq!(spans(&outages(all, DAY, wanted)), [(Some(5), None, false)]);
}

proptest! {
    /// Whatever happens, outages of one mirror do not overlap, and it is out exactly then.
    #[test]
    fn outages_are_the_times_in_which_it_was_out(
        states in proptest::collection::vec(0_usize..7, 1..40), cuts in proptest::collection::vec(1_u64..4000, 0..4)
    ) {
        const STATES: [&str; 7] = ["up", "suspect", "warming", "unattended", "down", "draining", "unknown"];
        let mut events = Vec::new();
        let mut last = "up";
        for (at, state) in states.iter().enumerate() {
            let to = STATES[*state];
            if to != last {
                let reason = if to == "draining" { "drained_by_order" } else { "probe_failed" };
                events.push(event((at as u64 + 1) * 100, last, to, reason));
                last = to;
            }
        }
        let gaps: Vec<RunGapView> = {
            let mut cuts = cuts.clone();
            cuts.sort_unstable();
            cuts.iter().map(|at| RunGapView { from_unix_ms: *at, until_unix_ms: *at + 1 }).collect()
        };
        let found = outages(told(&events, &gaps), (0, u64::MAX), wanted);
        let plain = outages(told(&events, &[]), (0, u64::MAX), wanted);
        prop_assert_eq!(spans(&found), spans(&plain), "restarts make and end none");
        let times = spans(&found);
        prop_assert!(times.windows(2).all(|w| w[0].1.is_some_and(|end| end <= w[1].0.unwrap())));
        for event in &events {
            let out = times.iter().any(|(from, until, _)| {
                from.unwrap() <= event.at_unix_ms && until.is_none_or(|end| event.at_unix_ms < end)
            });
            prop_assert_eq!(out, is_out(&event.to), "at {}", event.at_unix_ms);
        }
        for outage in &found {
            if let End::At(end) = outage.until {
                prop_assert!(outage.unwatched_ms <= end.at_unix_ms);
                prop_assert!(end.not_before_unix_ms.is_none_or(|early| early <= end.at_unix_ms));
            }
        }
    }
}
