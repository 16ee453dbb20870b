use super::damping::DampingRules;
use super::machine::{Cadence, Forced, Input, Machine, Mode, Outside, Overlay, Rules, overlay};
use super::phase::Phase;
use super::{Reason, State, Vantage, Verdict};
use crate::time::{MonoTime, Now, UnixMillis};
use proptest::prelude::*;
use std::time::Duration;

const UNDAMPED: DampingRules = DampingRules {
    half_life: Duration::ZERO,
    hold: Duration::ZERO,
    most: Duration::ZERO,
    manual_failback: false,
};
const PROBED: Rules = Rules { probed: true, warms: false, rise: 2, damping: UNDAMPED };
const PASSED: Input = Input::ProbePassed(Outside::Broker);
const FAILED: Input = Input::ProbeFailed(Outside::Broker);
const UNPROBED: Rules = Rules { probed: false, ..PROBED };

const AGENT: [(&str, Input); 14] = [
    ("Strt", Input::AgentStarted),
    ("Beac", Input::BeaconsResumed),
    ("Miss", Input::SecondBeaconMissed),
    ("Long", Input::SilenceConfirmedLong),
    ("Lost", Input::SessionLost),
    ("Left", Input::AgentLeft),
    ("Heal", Input::ReportHealthy),
    ("Fail", Input::ReportFailing),
    ("Stop", Input::ReportStopped),
    ("NotR", Input::ReportNotReady),
    ("Drai", Input::AgentDraining),
    ("Undr", Input::AgentUndrained),
    ("Pass", PASSED),
    ("PFai", FAILED),
];
const COMMON: [(&str, Input); 7] = [
    ("OUnd", Input::OrderUndrain),
    ("ALos", Input::AddressLost),
    ("AKno", Input::AddressKnown),
    ("Warm", Input::WarmedUp),
    ("Clie", Input::ClientsFail),
    ("With", Input::Withheld(Reason::CapReached)),
    ("Retu", Input::Returned),
];
/// Inputs that move no phase in any mode.
const INERT: [Input; 12] = [
    Input::OrderDrain,
    Input::ForceUp,
    Input::ForceDown,
    Input::Freeze,
    Input::Refreeze(State::Up),
    Input::ForceEnded,
    Input::Reinstated,
    Input::Release,
    Input::AwaitRelease,
    Input::HoldOver,
    Input::MaintenanceBegan,
    Input::MaintenanceEnded,
];

/// Phases by code; `~` behind a code: the agent is silent; `!`: a burst starts; `.`: nothing moves.
fn phase(code: &str) -> Phase {
    let resumed = |heard, answered| Phase::Resumed { state: State::Up, heard, answered };
    match code {
        "un" => Phase::Unheard,
        "nr" => Phase::NotReady,
        "pr" => Phase::Proving,
        "re" => Phase::Recovering,
        "wa" => Phase::Warming,
        "up" => Phase::Up,
        "su" => Phase::Suspect(Reason::MissedBeacons),
        "sl" => Phase::Suspect(Reason::SessionLost),
        "sp" => Phase::Suspect(Reason::ProbeFailed),
        "sc" => Phase::Suspect(Reason::ClientsFail),
        "sk" => Phase::Suspect(Reason::CapReached),
        "sn" => Phase::Suspect(Reason::Panic),
        "dx" => Phase::Down(Reason::ProcessEnded),
        "ua" => Phase::Unattended,
        "dr" => Phase::Draining,
        "df" => Phase::Down(Reason::ServiceFailing),
        "dn" => Phase::Down(Reason::NotReady),
        "dl" => Phase::Down(Reason::AgentLeft),
        "dp" => Phase::Down(Reason::ProbeFailed),
        "ds" => Phase::Down(Reason::SilentAndUnreachable),
        "dm" => Phase::Down(Reason::MissedBeacons),
        "ur" => Phase::Unreachable,
        "g1" => Phase::Rising(1),
        "r0" => resumed(false, false),
        "rh" => resumed(true, false),
        "ra" => resumed(false, true),
        other => panic!("no phase {other}"),
    }
}

fn check(mode: Mode, rules: Rules, columns: &[(&str, Input)], table: &str) {
    let mut wrong = Vec::new();
    for line in table.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (row, cells) = line.split_once(':').unwrap();
        let row = row.trim();
        let cells: Vec<_> = cells.split_whitespace().filter(|c| *c != "|").collect();
        assert_eq!(cells.len(), columns.len(), "cells of {row}");
        for ((name, input), cell) in columns.iter().zip(cells) {
            let expected = if cell == "." { row } else { cell };
            let got = step(mode, rules, row, *input);
            let (code, burst) = expected.strip_suffix('!').map_or((expected, false), |c| (c, true));
            let (code, silent) = code.strip_suffix('~').map_or((code, false), |c| (c, true));
            if got != (phase(code), silent, burst) {
                wrong.push(format!("{row} on {name}: expected {expected}, got {got:?}"));
            }
        }
        for input in INERT {
            let (was, silent) = row.strip_suffix('~').map_or((row, false), |c| (c, true));
            let burst = mode == Mode::Probe && input == Input::Reinstated;
            assert_eq!(step(mode, rules, row, input), (phase(was), silent, burst), "{row} on {input:?}");
        }
        assert_eq!(step(mode, rules, row, Input::Revoked), (Phase::Unheard, false, false), "{row} revoked");
    }
    assert!(wrong.is_empty(), "{mode:?}\n{}", wrong.join("\n"));
}

fn step(mode: Mode, rules: Rules, row: &str, input: Input) -> (Phase, bool, bool) {
    let (code, silent) = row.strip_suffix('~').map_or((row, false), |c| (c, true));
    let mut machine = Machine::at(mode, rules, phase(code), silent);
    let burst = machine.handle(input, Now::default());
    (machine.phase(), machine.silent(), burst)
}

#[test]
fn agent_mode_every_state_and_input() {
    let columns: Vec<_> = AGENT.into_iter().chain(COMMON).chain([("PMis", Input::ProbeMissed)]).collect();
    let table = "
             Strt Beac Miss Long Lost Left Heal Fail Stop NotR Drai Undr Pass PFai | OUnd ALos AKno Warm Clie With Retu PMis
        un : .    .    un~  un~  un~  dl   pr!  df   dx   nr   dr   .    .    .    | .    .    .    .    .    .    .    .
        un~: un   un   .    .    .    dl   pr~! df~  dx~  nr~  dr~  .    .    .    | .    .    .    .    .    .    .    .
        nr : .    .    nr~  nr~  nr~  dl   pr!  df   dx   .    dr   .    .    .    | .    .    .    .    .    .    .    .
        nr~: nr   nr   .    .    .    dl   pr~! df~  dx~  .    dr~  .    .    .    | .    .    .    .    .    .    .    .
        pr : .    .    pr~  pr~  pr~  dl   .    df   dx   nr   dr   .    up   ur   | .    .    pr!  .    .    .    .    .
        pr~: pr   pr   .    .    .    dl   .    df~  dx~  nr~  dr~  .    ua~  ur~  | .    .    pr~! .    .    .    .    .
        re : .    .    re~  re~  re~  dl   .    df   dx   dn   dr   .    up   ur   | .    .    re!  .    .    .    .    .
        re~: re   re   .    .    .    dl   .    df~  dx~  dn~  dr~  .    ua~  ur~  | .    .    re~! .    .    .    .    .
        wa : .    .    su~! su~! sl~! dl   .    df   dx   nr   dr   .    .    ur   | pr!  pr   pr!  up   sc!  sk   .    .
        up : .    .    su~! su~! sl~! dl   .    df   dx   dn   dr   .    .    ur   | pr!  pr   pr!  .    sc!  sk   .    .
        su : .    up   su~  su~  su~  dl   up   df   dx   dn   dr   .    ua   ur   | pr!  pr   pr!  .    .    sk   .    .
        su~: su   up   .    .    .    dl   .    df~  dx~  dn~  dr~  .    ua~  ur~  | pr~! pr~  pr~! .    .    sk~  .    .
        sl : .    up   sl~  sl~  sl~  dl   up   df   dx   dn   dr   .    ua   ur   | pr!  pr   pr!  .    .    sk   .    .
        sl~: sl   up   .    .    .    dl   .    df~  dx~  dn~  dr~  .    ua~  ur~  | pr~! pr~  pr~! .    .    sk~  .    .
        sk : .    up   sk~  sk~  sk~  dl   .    df   dx   dn   dr   .    up   ur   | pr!  pr   pr!  .    .    .    .    .
        sk~: sk   up   .    .    .    dl   .    df~  dx~  dn~  dr~  .    ua~  ur~  | pr~! pr~  pr~! .    .    .    .    .
        sc : .    up   sc~  sc~  sc~  dl   .    df   dx   dn   dr   .    up   ur   | pr!  pr   pr!  .    .    sk   .    .
        sn : .    up   sn~  sn~  sn~  dl   .    df   dx   dn   dr   .    up   ur   | pr!  pr   pr!  .    .    sk   .    .
        ua : .    up   ua~  ua~  ua~  dl   up   df   dx   dn   dr   .    .    ur   | pr!  pr   pr!  .    .    sk   .    .
        ua~: ua   up   .    .    .    dl   .    df~  dx~  dn~  dr~  .    .    ur~  | pr~! pr~  pr~! .    .    sk~  .    .
        dr : .    .    dr~! dr~! dr~! dl   .    .    .    .    .    un   .    .    | .    .    .    .    .    .    .    .
        dr~: dr   dr   .    .    .    dl   .    .    .    .    .    un~  .    ds~  | .    .    dr~! .    .    .    .    .
        df : .    .    df~  df~  df~  dl   re!  .    dx   dn   dr   .    .    .    | .    .    .    .    .    .    .    .
        df~: df   df   .    .    .    dl   re~! .    dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    .    .
        dn : .    .    dn~  dn~  dn~  dl   re!  df   dx   .    dr   .    .    .    | .    .    .    .    .    .    .    .
        dn~: dn   dn   .    .    .    dl   re~! df~  dx~  .    dr~  .    .    .    | .    .    .    .    .    .    .    .
        dl : .    .    dl~  dl~  dl~  .    re!  df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .    .
        dl~: dl   dl   .    .    .    dl   re~! df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    .    .
        dp : .    .    dp~  dp~  dp~  dl   re!  df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .    .
        dp~: dp   dp   .    .    .    dl   re~! df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    .    .
        ds : .    .    ds~  ds~  ds~  dl   re!  df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .    .
        ds~: ds   ds   .    .    .    dl   re~! df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    .    .
        ur : .    .    ur~  ur~  ur~  dl   .    df   dx   dn   dr   .    up   .    | .    .    ur!  .    .    .    sn   .
        ur~: ds   re!  .    .    .    dl   .    df~  dx~  dn~  dr~  .    ua~  .    | .    .    ur~! .    .    .    sn~  .
        r0 : .    .    su~! su~! sl~! dl   rh   df   dx   dn   dr   .    ra   dp   | pr!  .    r0!  .    .    .    .    .
        rh : .    .    su~! su~! sl~! dl   .    df   dx   dn   dr   .    up   ur   | pr!  .    rh!  .    .    .    .    .
        ra : .    .    su~! su~! sl~! dl   up   df   dx   dn   dr   .    .    dp   | pr!  .    ra!  .    .    .    .    .";
    let (_, rows) = table.split_once("PMis").unwrap();
    check(Mode::Agent, PROBED, &columns, rows);
}

#[test]
fn agent_mode_where_nobody_can_be_asked() {
    let columns: Vec<_> = AGENT.into_iter().chain(COMMON).collect();
    let table = "
             Strt Beac Miss Long Lost Left Heal Fail Stop NotR Drai Undr Pass PFai | OUnd ALos AKno Warm Clie With Retu
        un : .    .    un~  un~  un~  dl   up   df   dx   nr   dr   .    .    .    | .    .    .    .    .    .    .
        un~: un   un   .    .    .    dl   .    df~  dx~  nr~  dr~  .    .    .    | .    .    .    .    .    .    .
        nr : .    .    nr~  nr~  nr~  dl   up   df   dx   .    dr   .    .    .    | .    .    .    .    .    .    .
        nr~: nr   nr   .    .    .    dl   .    df~  dx~  .    dr~  .    .    .    | .    .    .    .    .    .    .
        wa : .    .    su~  ur~  sl~  dl   .    df   dx   nr   dr   .    .    .    | .    .    .    up   .    sk   .
        up : .    .    su~  ur~  sl~  dl   .    df   dx   dn   dr   .    .    .    | .    .    .    .    .    sk   .
        su : .    up   su~  ur~  su~  dl   up   df   dx   dn   dr   .    .    .    | .    .    .    .    .    sk   .
        su~: su   up   .    ur~  .    dl   .    df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    sk~  .
        sl : .    up   sl~  ur~  sl~  dl   up   df   dx   dn   dr   .    .    .    | .    .    .    .    .    sk   .
        sl~: sl   up   .    ur~  .    dl   .    df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    sk~  .
        dr : .    .    dr~  dm~  dr~  dl   .    .    .    .    .    un   .    .    | .    .    .    .    .    .    .
        dr~: dr   dr   .    dm~  .    dl   .    .    .    .    .    un~  .    .    | .    .    .    .    .    .    .
        df : .    .    df~  df~  df~  dl   up   .    dx   dn   dr   .    .    .    | .    .    .    .    .    .    .
        df~: df   df   .    .    .    dl   .    .    dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    .
        dl : .    .    dl~  dl~  dl~  .    up   df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .
        dm : .    .    dm~  dm~  dm~  dl   up   df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .
        ur~: dm   up   .    .    .    dl   .    df~  dx~  dn~  dr~  .    .    .    | .    .    .    .    .    .    sn~
        r0 : .    .    su~  ur~  sl~  dl   up   df   dx   dn   dr   .    .    .    | .    .    .    .    .    .    .";
    let (_, rows) = table.split_once("Retu").unwrap();
    check(Mode::Agent, UNPROBED, &columns, rows);
}

#[test]
fn probe_mode_every_state_and_input() {
    let mut columns = vec![("Pass", PASSED), ("PMis", Input::ProbeMissed), ("PFai", FAILED)];
    columns.extend(COMMON);
    let table = "
        un :  up   un!  ur   |  .    .    un!  .    .    .    .
        pr :  up   pr!  ur   |  .    .    pr!  .    .    .    .
        wa :  .    sp!  ur   |  pr!  pr   pr!  up   sc!  sk   .
        up :  .    sp!  ur   |  pr!  pr   pr!  .    sc!  sk   .
        sp :  up   sp!  ur   |  pr!  pr   pr!  .    .    sk   .
        sc :  up   sc!  ur   |  pr!  pr   pr!  .    .    sk   .
        ur :  g1   .    .    |  .    .    ur!  .    .    .    sn
        g1 :  up   ur   ur   |  .    .    g1!  .    .    .    .
        r0 :  up   r0!  ur   |  pr!  .    r0!  .    .    .    .";
    check(Mode::Probe, PROBED, &columns, table);
    let from_agents: Vec<_> = AGENT[..12].to_vec();
    let unmoved: String = ["un", "pr", "wa", "up", "sp", "ur", "g1", "r0"]
        .map(|row| format!("{row}: {}\n", ". ".repeat(from_agents.len())))
        .concat();
    check(Mode::Probe, PROBED, &from_agents, &unmoved);
}

#[test]
fn what_is_shown_for_each_phase() {
    use Phase as P;
    let table = [
        ("un", State::Unknown, Reason::NothingHeard, Vantage::None, Cadence::Idle),
        ("nr", State::Unknown, Reason::NotReady, Vantage::Agent, Cadence::Idle),
        ("pr", State::Unknown, Reason::AwaitingProbe, Vantage::Agent, Cadence::Quick),
        ("re", State::Down, Reason::AwaitingProbe, Vantage::Agent, Cadence::Quick),
        ("wa", State::Warming, Reason::Proven, Vantage::AgentAndBroker, Cadence::Steady),
        ("up", State::Up, Reason::Proven, Vantage::AgentAndBroker, Cadence::Steady),
        ("su~", State::Suspect, Reason::MissedBeacons, Vantage::Broker, Cadence::Quick),
        ("sl~", State::Suspect, Reason::SessionLost, Vantage::Broker, Cadence::Quick),
        ("ua~", State::Unattended, Reason::SilentButAnswering, Vantage::Broker, Cadence::Quick),
        ("dr", State::Draining, Reason::DrainedByAgent, Vantage::Agent, Cadence::Idle),
        ("dr~", State::Draining, Reason::DrainedByAgent, Vantage::Agent, Cadence::Quick),
        ("df", State::Down, Reason::ServiceFailing, Vantage::Agent, Cadence::Idle),
        ("dl", State::Down, Reason::AgentLeft, Vantage::Agent, Cadence::Idle),
        ("dp", State::Down, Reason::ProbeFailed, Vantage::Broker, Cadence::Idle),
        ("ur", State::Down, Reason::ProbeFailed, Vantage::Broker, Cadence::Quick),
        ("ur~", State::Down, Reason::SilentAndUnreachable, Vantage::Broker, Cadence::Quick),
        ("r0", State::Up, Reason::Resumed, Vantage::None, Cadence::Quick),
        ("ra", State::Up, Reason::Resumed, Vantage::None, Cadence::Steady),
    ];
    for (row, state, reason, vantage, cadence) in table {
        let (code, silent) = row.strip_suffix('~').map_or((row, false), |c| (c, true));
        let machine = Machine::at(Mode::Agent, PROBED, phase(code), silent);
        let v = machine.verdict();
        assert_eq!((v.state, v.reason, v.vantage), (state, reason, vantage), "{row}");
        assert_eq!(machine.cadence(), cadence, "{row}");
        assert_eq!(machine.phase().eligible(), state.eligible(), "{row}");
    }
    let shown = |mode, rules, phase, silent| {
        let v = *Machine::at(mode, rules, phase, silent).verdict();
        (v.state, v.reason, v.vantage)
    };
    let alone = shown(Mode::Agent, UNPROBED, P::Up, false);
    assert_eq!(alone, (State::Up, Reason::Proven, Vantage::Agent));
    let silence = shown(Mode::Agent, UNPROBED, P::Unreachable, true);
    assert_eq!(silence, (State::Down, Reason::MissedBeacons, Vantage::Broker));
    assert_eq!(shown(Mode::Probe, PROBED, P::Up, false), (State::Up, Reason::Proven, Vantage::Broker));
    assert_eq!(
        shown(Mode::Probe, PROBED, P::Rising(1), false),
        (State::Down, Reason::ProbeFailed, Vantage::Broker)
    );
}

#[test]
fn orders_overlay_every_combination() {
    let beneath = (State::Suspect, Reason::MissedBeacons, Vantage::Broker);
    for revoked in [false, true] {
        for unaddressed in [false, true] {
            for force in [None, Some(Forced::Up), Some(Forced::Down), Some(Forced::Frozen(State::Warming))] {
                for (drained, maintained) in [(false, false), (true, false), (false, true), (true, true)] {
                    let orders = Overlay { revoked, unaddressed, force, drained, maintained };
                    let (state, reason, _) = overlay(orders, beneath);
                    let expected = if revoked {
                        (State::Down, Reason::Revoked)
                    } else if unaddressed {
                        (State::Unknown, Reason::NoAddress)
                    } else if let Some(forced) = force {
                        match forced {
                            Forced::Up => (State::Up, Reason::Forced),
                            Forced::Down => (State::Down, Reason::Forced),
                            Forced::Frozen(state) => (state, Reason::Frozen),
                        }
                    } else if drained {
                        (State::Draining, Reason::DrainedByOrder)
                    } else if maintained {
                        (State::Draining, Reason::Maintenance)
                    } else {
                        (State::Suspect, Reason::MissedBeacons)
                    };
                    assert_eq!((state, reason), expected);
                }
            }
        }
    }
}

#[test]
fn manual_mode_heeds_orders_only() {
    for up in [true, false] {
        let expected = if up { State::Up } else { State::Down };
        let mut machine = Machine::at(Mode::Manual { up }, PROBED, Phase::Unheard, false);
        for (_, input) in AGENT.into_iter().chain(COMMON).filter(|(_, i)| *i != Input::AddressLost) {
            assert!(!machine.handle(input, Now::default()), "{input:?}");
            assert_eq!(
                (machine.verdict().state, machine.verdict().reason),
                (expected, Reason::Manual),
                "{input:?}"
            );
        }
        let _ = machine.handle(Input::OrderDrain, Now::default());
        assert_eq!(machine.verdict().reason, Reason::DrainedByOrder);
        assert_eq!(machine.cadence(), Cadence::Idle);
    }
}

#[test]
fn what_others_saw_fail_is_not_returned_when_later_only_the_broker_looks() {
    let mut machine = Machine::at(Mode::Agent, PROBED, Phase::Suspect(Reason::MissedBeacons), true);
    let _ = machine.handle(Input::ProbeFailed(Outside::BrokerAndWitnesses), Now::default());
    let _ = machine.handle(FAILED, Now::default());
    assert!(!machine.uncorroborated());
    assert_eq!(machine.verdict().vantage, Vantage::BrokerAndWitnesses);
    let _ = machine.handle(Input::Returned, Now::default());
    assert_eq!(machine.verdict().state, State::Down);
    // What the broker alone took out may be corroborated later.
    let mut machine = Machine::at(Mode::Agent, PROBED, Phase::Suspect(Reason::MissedBeacons), true);
    let _ = machine.handle(FAILED, Now::default());
    assert!(machine.uncorroborated());
    let _ = machine.handle(Input::ProbeFailed(Outside::BrokerAndWitnesses), Now::default());
    assert!(!machine.uncorroborated());
}

#[test]
fn a_freeze_of_before_a_restart_is_shown_only_while_it_lasts() {
    let mut machine = Machine::at(Mode::Agent, PROBED, Phase::Unheard, false);
    let _ = machine.handle(Input::Refreeze(State::Up), Now::default());
    assert_eq!((machine.verdict().state, machine.frozen()), (State::Unknown, None));
    let _ = machine.handle(Input::Freeze, Now::default());
    let _ = machine.handle(Input::Refreeze(State::Warming), Now::default());
    let shown = machine.verdict();
    assert_eq!((shown.state, shown.reason), (State::Warming, Reason::Frozen));
    assert_eq!(machine.frozen(), Some(State::Warming));
    let _ = machine.handle(Input::ForceEnded, Now::default());
    assert_eq!((machine.verdict().state, machine.frozen()), (State::Unknown, None));
}

#[test]
fn a_warm_up_comes_before_up_and_rise_counts_passes() {
    let warms = Rules { warms: true, ..PROBED };
    let mut machine = Machine::at(Mode::Agent, warms, Phase::Proving, false);
    let _ = machine.handle(PASSED, Now::default());
    assert_eq!(machine.verdict().state, State::Warming);
    let _ = machine.handle(Input::WarmedUp, Now::default());
    assert_eq!(machine.verdict().state, State::Up);
    let mut machine = Machine::at(Mode::Probe, Rules { rise: 3, ..PROBED }, Phase::Unreachable, false);
    for expected in [State::Down, State::Down, State::Up] {
        let _ = machine.handle(PASSED, Now::default());
        assert_eq!(machine.verdict().state, expected);
    }
}

#[test]
fn resumed_verdicts_go_on_stale_until_confirmed() {
    let since = UnixMillis(77);
    let now = Now { mono: MonoTime(5), unix: UnixMillis(1000) };
    let resume = |mode, state, reason| {
        let mut machine = Machine::at(mode, PROBED, Phase::Unheard, false);
        let burst =
            machine.handle(Input::Resume(Verdict { state, reason, since, ..Verdict::default() }), now);
        (machine, burst)
    };
    for state in State::ALL {
        let (machine, burst) = resume(Mode::Agent, state, Reason::ProbeFailed);
        let v = machine.verdict();
        assert_eq!(
            (v.state, v.stale, burst),
            (state, state != State::Unknown, state.eligible()),
            "{state:?}"
        );
        if state != State::Unknown {
            assert_eq!(v.since, since, "{state:?}");
        }
        for reason in [Reason::Forced, Reason::DrainedByOrder, Reason::Revoked, Reason::Manual] {
            let (machine, _) = resume(Mode::Agent, state, reason);
            assert_eq!((machine.phase(), machine.verdict().stale), (Phase::Unheard, false));
        }
    }
    let (mut machine, _) = resume(Mode::Agent, State::Up, Reason::Proven);
    let _ = machine.handle(PASSED, now);
    assert!(machine.verdict().stale && machine.verdict().reason == Reason::Resumed);
    let _ = machine.handle(Input::ReportHealthy, now);
    assert_eq!((machine.verdict().stale, machine.verdict().reason), (false, Reason::Proven));
    let (mut machine, _) = resume(Mode::Probe, State::Down, Reason::ProbeFailed);
    assert_eq!(machine.phase(), Phase::Unreachable);
    let _ = machine.handle(FAILED, now);
    assert!(!machine.verdict().stale);
    let before = machine.phase();
    let up = Verdict { state: State::Up, ..Verdict::default() };
    let _ = machine.handle(Input::Resume(up), now);
    assert_eq!(machine.phase(), before, "only the first word counts");
}

#[test]
fn what_a_revoked_node_says_counts_for_nothing() {
    let mut machine = Machine::at(Mode::Agent, PROBED, Phase::Up, false);
    let script = [Input::Revoked, Input::ReportHealthy, PASSED, Input::ForceUp];
    for input in script {
        assert!(!machine.handle(input, Now::default()));
        assert_eq!((machine.verdict().state, machine.verdict().reason), (State::Down, Reason::Revoked));
    }
    for input in [Input::ForceEnded, Input::Reinstated] {
        let _ = machine.handle(input, Now::default());
    }
    assert_eq!((machine.verdict().state, machine.verdict().reason), (State::Unknown, Reason::NothingHeard));
}

fn any_input() -> impl Strategy<Value = Input> {
    let plain: Vec<Input> = AGENT
        .into_iter()
        .chain(COMMON)
        .map(|(_, i)| i)
        .chain(INERT)
        .chain([Input::ProbeMissed, Input::Revoked])
        .collect();
    let state = (0..State::ALL.len()).prop_map(|i| State::ALL[i]);
    let reason = (0..Reason::ALL.len()).prop_map(|i| Reason::ALL[i]);
    let resume = (state, reason)
        .prop_map(|(state, reason)| Input::Resume(Verdict { state, reason, ..Verdict::default() }));
    prop_oneof![20 => prop::sample::select(plain), 1 => resume]
}

/// What must have happened for a mirror to be eligible; kept beside the machine, not within it.
#[derive(Default)]
struct Proof {
    healthy: bool,
    passed: bool,
    resumed: bool,
    /// It was reached once, and nobody but the broker has said otherwise.
    before: bool,
}

impl Proof {
    fn take(&mut self, input: Input) {
        match input {
            Input::ReportHealthy => self.healthy = true,
            Input::ProbePassed(_) => (self.passed, self.before) = (true, true),
            // Brought back from what this broker alone concluded.
            Input::Returned => self.passed |= self.before,
            Input::Resume(v) if v.state.eligible() => self.resumed = true,
            Input::ProbeFailed(_) => self.passed = false,
            Input::AddressLost | Input::AddressKnown => (self.passed, self.before) = (false, false),
            Input::ReportFailing
            | Input::ReportStopped
            | Input::ReportNotReady
            | Input::AgentLeft
            | Input::Revoked => {
                *self = Proof::default();
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn nothing_is_eligible_without_proof(inputs in prop::collection::vec(any_input(), 0..60), probe_mode: bool, warms: bool) {
        let mode = if probe_mode { Mode::Probe } else { Mode::Agent };
        let mut machine = Machine::new(mode, Rules { warms, ..PROBED }, Now::default());
        let mut proof = Proof::default();
        let mut forced = false;
        for (i, input) in inputs.iter().enumerate() {
            let _ = machine.handle(*input, Now::default());
            if !probe_mode || matches!(input, Input::ProbePassed(_) | Input::ProbeFailed(_) | Input::Returned | Input::Resume(_)
                | Input::AddressLost | Input::AddressKnown | Input::Revoked) {
                proof.take(*input);
            }
            forced = match input {
                Input::ForceUp => true,
                Input::Freeze => machine.verdict().state.eligible(),
                Input::Refreeze(state) if machine.frozen().is_some() => state.eligible(),
                Input::ForceDown | Input::ForceEnded => false,
                _ => forced,
            };
            let proven = proof.passed && (proof.healthy || probe_mode);
            let allowed = proven || proof.resumed || forced;
            prop_assert!(!machine.verdict().state.eligible() || allowed, "input {} of {:?}", i, inputs);
            prop_assert!(!machine.underlying().state.eligible() || proven || proof.resumed, "input {} of {:?}", i, inputs);
        }
    }
}
