//! Boots, drain flags and observed addresses: what sessions and beacons say besides being there.

use super::node::{DrainFlag, ReplayWindow};
use super::sessions::GRACE;
use super::tests::{ID, PASSED, at, one_up, orders_of, registry, remote, report, state};
use super::*;
use crate::health::{Reason, State};
use crate::registry::{HealthMode, MirrorAddress, MirrorIndex};
use std::net::IpAddr;

fn v6() -> IpAddr {
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()
}

#[test]
fn an_agent_whose_clock_was_set_back_is_heard_again() {
    let mut fleet = one_up();
    fleet.on_session_up(ID, 2, 90, remote(), at(150));
    assert_eq!(fleet.on_beacon(ID, 90, 400, false, at(160)), BeaconOutcome::Accepted);
    fleet.on_session_lost(ID, 1, at(170));
    // Restarted, with a clock that is behind.
    fleet.on_session_up(ID, 3, 7, remote(), at(200));
    assert_eq!(fleet.on_beacon(ID, 7, 0, false, at(210)), BeaconOutcome::Accepted);
    assert_eq!(fleet.on_beacon(ID, 7, 0, false, at(211)), BeaconOutcome::Replayed);
    assert_eq!(fleet.on_beacon(ID, 90, 401, false, at(212)), BeaconOutcome::Stale, "recorded earlier");
    assert_eq!(fleet.on_beacon(ID, 7, 1, false, at(213)), BeaconOutcome::Accepted);
    assert_eq!(state(&fleet, 0).0, State::Up);
}

#[test]
fn neither_an_older_session_nor_a_moved_one_restarts_the_window() {
    let mut fleet = one_up();
    fleet.on_session_up(ID, 5, 20, remote(), at(150));
    assert_eq!(fleet.on_beacon(ID, 20, 0, false, at(160)), BeaconOutcome::Accepted);
    fleet.on_session_up(ID, 4, 3, remote(), at(165));
    fleet.on_session_moved(ID, 5, v6(), at(170));
    assert_eq!(fleet.on_beacon(ID, 20, 0, false, at(180)), BeaconOutcome::Replayed);
    assert_eq!(fleet.on_beacon(ID, 3, 0, false, at(180)), BeaconOutcome::Stale);
}

#[test]
fn a_session_of_the_same_boot_keeps_what_was_seen() {
    let mut window = ReplayWindow::default();
    assert!(!window.restart(5), "heard for the first time");
    assert!(window.accept(5, 3).is_ok());
    assert!(!window.restart(5));
    assert_eq!(window.accept(5, 3), Err(BeaconOutcome::Replayed));
    assert!(window.restart(4));
    assert!(window.accept(6, 0).is_ok(), "a later boot needs no session");
}

#[test]
fn a_draining_beacon_acts_at_once_and_a_report_ends_it() {
    let mut fleet = one_up();
    let _ = fleet.on_beacon(ID, 1, 5, true, at(200));
    assert_eq!(state(&fleet, 0), (State::Draining, Reason::DrainedByAgent));
    let _ = fleet.on_beacon(ID, 1, 6, false, at(300));
    assert_eq!(state(&fleet, 0).0, State::Draining, "only a report says what is served");
    fleet.on_report(ID, &report(&["m0"]), at(310));
    assert_eq!(state(&fleet, 0), (State::Unknown, Reason::AwaitingProbe));
    let orders = orders_of(&mut fleet);
    fleet.on_probe_result(orders[0].token, PASSED, at(320));
    assert_eq!(state(&fleet, 0).0, State::Up);
    let _ = fleet.on_beacon(ID, 1, 4, true, at(330));
    assert_eq!(state(&fleet, 0).0, State::Up, "an overtaken beacon says nothing of now");
}

#[test]
fn a_report_overrules_the_flags_still_under_way() {
    let mut flag = DrainFlag::default();
    assert!(flag.beacon(true));
    assert!(!flag.beacon(true), "told once");
    flag.report(false);
    assert!(!flag.beacon(true), "sent before the report");
    assert!(!flag.beacon(false));
    assert!(flag.beacon(true), "drains again");
    flag.report(true);
    assert!(!flag.beacon(true));
}

/// A fleet of one mirror that follows its agent, up in IPv4 at 40 ms.
fn observed() -> Fleet {
    let mut fleet = Fleet::new(FleetConfig::default(), 1);
    let mut registry = registry(&[HealthMode::Agent]);
    registry.mirrors[0].address = MirrorAddress::Observed;
    fleet.set_registry(Arc::new(registry), at(0));
    fleet.on_session_up(ID, 1, 1, remote(), at(10));
    fleet.on_report(ID, &report(&["m0"]), at(20));
    answer(&mut fleet, 30);
    fleet
}

fn answer(fleet: &mut Fleet, ms: u64) {
    for order in orders_of(fleet) {
        fleet.on_probe_result(order.token, PASSED, at(ms));
    }
}

/// Beacons and passing probes, from one time to another.
fn go_on(fleet: &mut Fleet, from: u64, to: u64) {
    for ms in (from..to).step_by(50) {
        if ms % 200 == 0 {
            let _ = fleet.on_beacon(ID, 1, ms / 200, false, at(ms));
        }
        fleet.on_deadline(at(ms));
        answer(fleet, ms);
    }
}

fn addresses(fleet: &Fleet) -> [bool; 2] {
    let live = fleet.live().mirror(MirrorIndex(0));
    [live.v4.is_some(), live.v6.is_some()]
}

#[test]
fn an_agent_that_moved_to_another_family_leaves_the_first_after_a_grace() {
    let mut fleet = observed();
    go_on(&mut fleet, 50, 1000);
    fleet.on_session_up(ID, 2, 1, v6(), at(1000));
    go_on(&mut fleet, 1000, 13_000);
    assert_eq!(addresses(&fleet), [true, true], "a session of each family");
    fleet.on_session_lost(ID, 1, at(13_000));
    let grace = GRACE.as_millis() as u64;
    go_on(&mut fleet, 13_000, 13_000 + grace);
    assert_eq!(addresses(&fleet), [true, true]);
    go_on(&mut fleet, 13_000 + grace, 13_100 + grace);
    assert_eq!(addresses(&fleet), [false, true]);
    // A registry change does not bring it back.
    let registry = fleet.registry().clone();
    fleet.set_registry(registry, at(13_100 + grace));
    assert_eq!(addresses(&fleet), [false, true]);
}

#[test]
fn a_session_that_migrates_leaves_its_family_and_may_come_back() {
    let mut fleet = observed();
    go_on(&mut fleet, 50, 1000);
    fleet.on_session_moved(ID, 1, v6(), at(1000));
    go_on(&mut fleet, 1000, 6000);
    assert_eq!(addresses(&fleet), [true, true]);
    fleet.on_session_moved(ID, 1, remote(), at(6000));
    go_on(&mut fleet, 6000, 12_000);
    assert_eq!(addresses(&fleet), [true, true], "v4 was left for five seconds only");
    go_on(&mut fleet, 12_000, 17_000);
    assert_eq!(addresses(&fleet), [true, false]);
}

#[test]
fn an_agent_without_any_session_keeps_its_address() {
    let mut fleet = observed();
    go_on(&mut fleet, 50, 1000);
    fleet.on_session_lost(ID, 1, at(1000));
    for ms in (1000..40_000).step_by(50) {
        fleet.on_deadline(at(ms));
        answer(&mut fleet, ms);
    }
    assert_eq!(addresses(&fleet), [true, false]);
    assert_eq!(state(&fleet, 0), (State::Unattended, Reason::SilentButAnswering));
}
