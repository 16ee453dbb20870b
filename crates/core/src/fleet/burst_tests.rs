//! Bursts of attempts: their schedule, their limits, and what becomes of attempts that are not carried out.

use super::tests::{ID, PASSED, at, one_up, orders_of, state};
use super::*;
use crate::health::{Reason, State, Vantage};
use crate::registry::MirrorIndex;

#[test]
fn a_burst_follows_its_schedule_and_the_tighter_limit_of_suspicion() {
    let mut fleet = one_up();
    fleet.on_session_lost(ID, 1, at(150));
    let (mut times, mut down) = (Vec::new(), None);
    for ms in 150..4000 {
        fleet.on_deadline(at(ms));
        for order in orders_of(&mut fleet) {
            // Its answers usually take 5 ms.
            let expected = if down.is_none() { 120 } else { 1000 };
            assert_eq!(order.spec.timeout, Duration::from_millis(expected), "{ms} {:?}", state(&fleet, 0));
            times.push(ms);
        }
        if state(&fleet, 0).0 == State::Down {
            down.get_or_insert(ms);
        }
    }
    // Nobody answers and nobody else can be asked: three rounds, each with the last attempt's limit
    // and a little for its result, and pauses between them.
    assert_eq!(times[..9], [150, 170, 190, 1310, 1330, 1350, 2470, 2490, 2510]);
    assert_eq!(down, Some(2510 + 120 + 600));
    assert_eq!(state(&fleet, 0), (State::Down, Reason::SilentAndUnreachable));
    assert_eq!(fleet.live().mirror(MirrorIndex(0)).verdict(Family::V4).vantage, Vantage::Broker);
}

#[test]
fn a_skipped_probe_says_nothing_and_is_asked_again() {
    let mut fleet = one_up();
    fleet.on_session_lost(ID, 1, at(150));
    for ms in (150..4000).step_by(10) {
        fleet.on_deadline(at(ms));
        for order in orders_of(&mut fleet) {
            fleet.on_probe_skipped(order.token, at(ms));
        }
    }
    assert_eq!(state(&fleet, 0).0, State::Suspect);
}

#[test]
fn an_attempt_without_room_holds_up_no_other() {
    let mut fleet = one_up();
    fleet.on_session_lost(ID, 1, at(150));
    let (mut nth, mut skipped) = (0, 0);
    let mut down = None;
    for ms in 150..30_000 {
        fleet.on_deadline(at(ms));
        for order in orders_of(&mut fleet) {
            assert!(order.urgent || down.is_some());
            // Every other attempt finds no room; the others are answered by nobody.
            nth += 1;
            if nth % 2 == 0 && skipped < 20 {
                skipped += 1;
                fleet.on_probe_skipped(order.token, at(ms));
            }
        }
        if state(&fleet, 0).0 == State::Down {
            down.get_or_insert(ms);
        }
    }
    assert!(skipped >= 3 && down.is_some_and(|ms| ms < 30_000), "{skipped} {down:?} {:?}", state(&fleet, 0));
}

#[test]
fn what_passed_counts_though_another_attempt_found_no_room() {
    let mut fleet = one_up();
    fleet.on_session_lost(ID, 1, at(150));
    fleet.on_deadline(at(150));
    let first = orders_of(&mut fleet);
    fleet.on_deadline(at(170));
    let second = orders_of(&mut fleet);
    assert_eq!((first.len(), second.len()), (1, 1));
    fleet.on_probe_skipped(second[0].token, at(171));
    fleet.on_probe_result(first[0].token, PASSED, at(180));
    assert_eq!(state(&fleet, 0).0, State::Unattended, "it answers, and its agent is silent");
}

#[test]
fn a_pause_asks_again_instead_of_concluding() {
    let mut fleet = one_up();
    fleet.on_session_lost(ID, 1, at(150));
    let before = orders_of(&mut fleet);
    // The driver was stopped; its own timers now say that the probe took too long.
    fleet.on_probe_result(before[0].token, ProbeAnswer::Refused, at(4000));
    assert_eq!(state(&fleet, 0).0, State::Suspect);
    let again = orders_of(&mut fleet);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].token, before[0].token);
}
