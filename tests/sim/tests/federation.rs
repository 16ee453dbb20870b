//! Brokers that federate, through storms and long absences: nothing acknowledged is lost, nothing deleted
//! returns, and all end equal.

use nearmost_sim::federation::plan::{Theme, run};
use nearmost_sim::seeds::{for_seeds, for_share, is_replay};

/// Storms in all; with the other themes 2000 seeds.
const STORMS: u64 = 1400;

#[test]
fn a_storm_of_everything_ends_with_equal_stores() {
    for_share(0, 2, STORMS, |seed| {
        run(Theme::Storm, seed);
    });
}

#[test]
fn another_storm_of_everything_ends_with_equal_stores() {
    for_share(1, 2, STORMS, |seed| {
        run(Theme::Storm, seed);
    });
}

#[test]
fn brokers_that_were_away_for_73_hours_come_back_whole() {
    let mut fell_behind = 0;
    for_seeds(200, |seed| fell_behind += run(Theme::Away73Hours, seed).fell_behind);
    assert!(fell_behind > 0 || is_replay(), "no queue has expired");
}

#[test]
fn brokers_that_were_away_for_31_days_bring_back_nothing_deleted() {
    for_seeds(100, |seed| {
        run(Theme::Away31Days, seed);
    });
}

#[test]
fn rights_that_come_and_go_in_a_storm_end_alike() {
    let mut refused = 0;
    for_seeds(300, |seed| refused += run(Theme::Rights, seed).refused);
    assert!(refused > 0 || is_replay(), "nothing was ever refused");
}
