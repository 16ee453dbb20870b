//! Fleets that are only probed, few and far between, and what the broker may conclude of them; witnesses
//! that cannot be right; and what is asked how often.

use super::lab::*;
use super::*;
use crate::health::{Reason, State, Vantage};
use crate::id::NodeId;
use crate::registry::MirrorIndex;

const OFTEN: Duration = Duration::from_secs(2);
const RARELY: Duration = Duration::from_secs(10);

#[test]
fn without_any_agent_a_host_that_swallows_packets_is_taken_out() {
    for (interval, fall) in [(OFTEN, 3), (RARELY, 3), (RARELY, 1)] {
        let mut lab = Lab::probed(3, interval, fall);
        lab.kill(0);
        let took = lab.until(0, State::Down, 60_000);
        let most = interval.mul_f64(1.2).as_millis() as u64 + 10_000;
        assert!(took < most, "{took} ms with probes each {interval:?}: {:?}", lab.log);
        assert_eq!(lab.shown(0).2, Vantage::Broker);
        assert!(!lab.fleet.doubts_itself());
        lab.run(30_000);
        assert!((1..3).all(|i| lab.shown(i).0 == State::Up), "{:?}", lab.log);
    }
}

#[test]
fn without_any_agent_a_broker_that_is_cut_off_takes_out_nobody() {
    for (interval, fall) in [(OFTEN, 3), (OFTEN, 1), (RARELY, 3), (RARELY, 1)] {
        let mut lab = Lab::probed(3, interval, fall);
        for i in 0..3 {
            lab.kill(i);
        }
        lab.run(120_000);
        assert!(lab.log.iter().all(|(_, t)| t.to.state.eligible()), "fall {fall}: {:?}", lab.log);
        assert!(lab.fleet.doubts_itself());
        for i in 0..3 {
            lab.revive(i);
        }
        lab.run(15_000);
        assert!((0..3).all(|i| lab.shown(i).0 == State::Up), "{:?}", lab.log);
        assert!(!lab.fleet.doubts_itself());
    }
}

#[test]
fn one_lost_probe_takes_out_nothing_however_few_failures_are_wanted() {
    let mut lab = Lab::probed(3, OFTEN, 1);
    lab.answers[0] = (false, false);
    while lab.pending.is_empty() {
        lab.run(1);
    }
    lab.answers[0] = (true, true);
    lab.run(10_000);
    assert_eq!(lab.shown(0).0, State::Up);
    assert!(lab.log.iter().all(|(_, t)| t.to.state.eligible()), "{:?}", lab.log);
}

#[test]
fn a_lone_witness_does_not_keep_a_dead_mirror_for_ever() {
    let mut lab = Lab::new(5, FleetConfig::default());
    // It is dead, its agent is not, and one of those asked says that it reaches it.
    let liar: NodeId = id(4);
    lab.ways.liar = Some(liar);
    lab.answers[0] = (false, false);
    lab.until(0, State::Down, 60_000);
    assert_eq!(lab.shown(0), (State::Down, Reason::ProbeFailed, Vantage::BrokerAndWitnesses));
    let down = lab.log.len();
    lab.run(120_000);
    assert_eq!(lab.log.len(), down, "and it stays down: {:?}", lab.log);
}

#[test]
fn what_others_reach_is_back_at_once_after_a_blip() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.answers[0] = (false, true);
    lab.run(60_000);
    assert_eq!(lab.shown(0), (State::Up, Reason::PartlyReachable, Vantage::Witnesses));
    let mut failing = super::tests::report(&["m0"]);
    failing.services[0].healthy = false;
    lab.fleet.on_report(id(0), &failing, super::tests::at(lab.now));
    lab.run(50);
    assert_eq!(lab.shown(0).0, State::Down);
    lab.fleet.on_report(id(0), &super::tests::report(&["m0"]), super::tests::at(lab.now));
    let took = lab.until(0, State::Up, 10_000);
    assert!(took < 6_000, "{took} ms");
}

#[test]
fn what_is_out_is_asked_about_ever_more_rarely() {
    let mut lab = Lab::new(5, FleetConfig::default());
    lab.kill(0);
    lab.until(0, State::Down, 2_000);
    lab.run(60_000);
    lab.tally.asked.clear();
    lab.tally.probed.clear();
    lab.run(120_000);
    let own = lab.tally.probed.iter().filter(|m| **m == MirrorIndex(0)).count();
    assert!((8..=80).contains(&own), "{own} probes in two minutes");
    assert!((3..=16).contains(&lab.tally.asked.len()), "{} orders to witnesses", lab.tally.asked.len());
    // It is found all the same when it is back.
    lab.revive(0);
    lab.until(0, State::Up, 5_000);
}

#[test]
fn while_all_is_well_one_attempt_is_enough() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.ways.slow = true;
    lab.tally.probed.clear();
    lab.run(100_000);
    // Ten looks at each of four, jittered by a fifth.
    let probes = lab.tally.probed.len();
    assert!((32..=52).contains(&probes), "{probes}");
}
