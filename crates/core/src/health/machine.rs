//! The state machine of one mirror in one address family.
//!
//! Three layers, so that none knows the others:
//!
//! * the **underlying** machine follows the evidence, always, whatever people ordered
//!   ([`Phase`], finer than the public [`State`]);
//! * **damping** keeps out what failed too often lately, or what waits for a person
//!   ([`super::damping`]);
//! * the **overlay** of what people ordered is a pure function over both ([`overlay`]): revoked, then
//!   no address, then force or freeze, then drain, then maintenance, then what is set by hand or
//!   underlying.
//!
//! What an agent says of readiness: a mirror that was never up stays *unknown* (`NotReady`), one
//! that was up goes *down* (`NotReady`); neither is eligible, and only the second is news.
//!
//! Who was asked from outside, and whether what they found may take the mirror out, is settled
//! before it becomes [`Input::ProbePassed`], [`Input::ProbeFailed`] or [`Input::Withheld`]: see
//! [`crate::fleet`].

use super::damping::{Damping, DampingRules, Flaps, Hold};
use super::phase::{Phase, Step};
use super::{Reason, State, Vantage, Verdict};
use crate::time::{MonoTime, Now};

/// Where the evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The node's agent, confirmed by the broker's probes.
    Agent,
    /// The broker's probes alone.
    Probe,
    /// A person.
    Manual {
        /// Eligible or not.
        up: bool,
    },
}

/// What the machine must know of its mirror's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The broker can probe it from outside.
    pub probed: bool,
    /// It is warmed up before it is up.
    pub warms: bool,
    /// Probe mode: passes in a row that lead out of down; at least 1.
    pub rise: u8,
    /// How repeated failures count.
    pub damping: DampingRules,
}

/// Who concluded from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outside {
    /// The broker; when it failed: alone, since too few others could be asked.
    #[default]
    Broker,
    /// Witnesses reach it and the broker does not.
    Witnesses,
    /// Neither the broker nor witnesses reach it.
    BrokerAndWitnesses,
    /// The broker got an answer, and not a good service's: no silence that could be the broker's own.
    Refused,
}

/// The last conclusion from outside.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    by: Outside,
    /// It was eligible, and that conclusion took it out.
    evicted: bool,
}

impl Outside {
    /// As shown.
    pub fn vantage(self) -> Vantage {
        match self {
            Outside::Broker | Outside::Refused => Vantage::Broker,
            Outside::Witnesses => Vantage::Witnesses,
            Outside::BrokerAndWitnesses => Vantage::BrokerAndWitnesses,
        }
    }
}

/// What can happen to a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The agent is there, by a new session or the first beacon of a new boot; what it reported
    /// before no longer counts.
    AgentStarted,
    /// A beacon came after beacons were missed or the session was lost.
    BeaconsResumed,
    /// As many beacons in a row are missing as raise suspicion.
    SecondBeaconMissed,
    /// So many beacons are missing that loss does not explain it.
    SilenceConfirmedLong,
    /// The agent's last session ended without a goodbye.
    SessionLost,
    /// The agent said goodbye.
    AgentLeft,
    /// The agent says: checks pass, ready.
    ReportHealthy,
    /// The agent says: a check fails.
    ReportFailing,
    /// The agent says: the service's process has ended.
    ReportStopped,
    /// The agent says: not ready.
    ReportNotReady,
    /// The agent drains.
    AgentDraining,
    /// The agent does not drain (any more); a report of the service follows.
    AgentUndrained,
    /// It was reached from outside.
    ProbePassed(Outside),
    /// Probe mode: one probe failed, nothing is concluded yet.
    ProbeMissed,
    /// It was not reached from outside, and that may take it out.
    ProbeFailed(Outside),
    /// It should be down, but for the reason given it must not be taken out now.
    Withheld(Reason),
    /// Taken out on the broker's word alone, it is needed again.
    Returned,
    /// Clients report that they do not reach it.
    ClientsFail,
    /// A person drained the mirror or its node.
    OrderDrain,
    /// That drain ended.
    OrderUndrain,
    /// A person forced it up.
    ForceUp,
    /// A person forced it down.
    ForceDown,
    /// A person froze it as it is shown.
    Freeze,
    /// How it was shown when a person froze it, before a restart; heeded only while it is frozen.
    Refreeze(State),
    /// The force or freeze ended.
    ForceEnded,
    /// A person lets it back, whatever holds it down.
    Release,
    /// It was waiting for a person before a restart.
    AwaitRelease,
    /// A hold may be over.
    HoldOver,
    /// A maintenance window began.
    MaintenanceBegan,
    /// It ended.
    MaintenanceEnded,
    /// Its node was revoked.
    Revoked,
    /// Its node is no longer revoked.
    Reinstated,
    /// Its address is no longer known.
    AddressLost,
    /// Its address or port became known or changed.
    AddressKnown,
    /// The warm-up is over.
    WarmedUp,
    /// The underlying verdict of before a restart; heeded only while nothing was heard.
    Resume(Verdict),
}

/// How often the mirror wants to be probed when nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// Not at all.
    Idle,
    /// From time to time: it is up and its agent watches it.
    Steady,
    /// Soon again: a verdict hangs on it.
    Quick,
    /// At its probe's own interval.
    Regular,
}

/// What people ordered, as the overlay sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Its node is revoked.
    pub revoked: bool,
    /// Its address is not known.
    pub unaddressed: bool,
    /// Forced or frozen.
    pub force: Option<Forced>,
    /// Drained.
    pub drained: bool,
    /// In a maintenance window.
    pub maintained: bool,
}

/// A state that a person holds against the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Up.
    Up,
    /// Down.
    Down,
    /// As it was when it was frozen.
    Frozen(State),
}

/// The health of one mirror in one family.
///
/// Agent mode, with a probe (`~`: an input from the agent, `!`: start a burst of probes):
///
/// ```text
///              ~healthy !                passed            warmed up
///   UNKNOWN ───────────▶ UNKNOWN ──────────────▶ (WARMING) ─────────▶ UP ◀──────────────┐
///   nothing heard        awaiting probe    ▲          │                │                │
///      │ ▲                    │ failed     │ passed   └───────┬────────┘                │
///      │ │ ~not ready         ▼            │                  │ missed beacons !        │
///      │ │ before up      DOWN probe ──────┘                  │ session lost   !        │
///      ▼ │                  failed ◀───────── failed ─────────┤                         │
///   UNKNOWN                                                   ▼      ~beacons resumed   │
///   not ready                                             SUSPECT ──────────────────────┤
///                                                 failed   │   │ passed                 │
///                       DOWN silent, unreachable ◀─────────┘   ▼                        │
///                        │    ▲    │ passed             UNATTENDED ─────────────────────┘
///        ~beacons        │    │    └──────────────────────▶ │       ~beacons resumed
///         resumed !      │    └──────────── failed ─────────┘
///                        ▼        passed
///                 DOWN awaiting ────────────▶ (WARMING) UP
///                    probe    ▲
///                             │ ~healthy !
///   any ── ~failing ────▶ DOWN service failing
///   any ── ~stopped ────▶ DOWN process ended
///   any ── ~left ───────▶ DOWN agent left
///   was up ~not ready ──▶ DOWN not ready
///   any ── ~draining ───▶ DRAINING ── ~undrained ──▶ UNKNOWN nothing heard
/// ```
///
/// "failed" is a conclusion of the broker and witnesses, from UP only after two rounds of asking. One that must not take the mirror out now
/// (the broker doubts itself, too many are out by silence, too little is left) is *withheld*, and the
/// mirror stays SUSPECT with that reason; one that only this broker drew is undone, back to SUSPECT,
/// when too little is left of the domain. Clients' reports lead from UP to SUSPECT !, and only the
/// probes from there. Evidence that is good again after a failure may be *held*, shown as DOWN, by
/// damping or until a person releases it.
///
/// Without a probe the healthy report alone leads up, and *suspect* becomes down only by long
/// silence. Probe mode:
///
/// ```text
///             passed                 missed one !
///   UNKNOWN ─────────▶ (WARMING) UP ─────────────▶ SUSPECT
///      │                ▲   ▲   ▲        passed       │ failed
///      │ failed         │   │   └─────────────────────┤
///      └──▶ DOWN ───────┘ passed × rise               │
///            ▲────────────────────────────────────────┘
/// ```
///
/// After a restart a mirror goes on as it was, marked stale: eligible states are probed at once
/// and stay while report and probe are awaited, silence and failures act as ever, and down stays
/// down until the agent reports healthy again (in probe mode, until probes pass).
#[derive(Clone, Debug)]
pub struct Machine {
    mode: Mode,
    rules: Rules,
    phase: Phase,
    silent: bool,
    stale: bool,
    outlook: Outlook,
    damping: Damping,
    overlay: Overlay,
    underlying: Verdict,
    verdict: Verdict,
}

impl Machine {
    /// Nothing heard, no orders, no address known.
    pub fn new(mode: Mode, rules: Rules, now: Now) -> Machine {
        let overlay = Overlay { unaddressed: true, ..Overlay::default() };
        let mut machine = Machine {
            mode,
            rules,
            phase: Phase::Unheard,
            silent: false,
            stale: false,
            outlook: Outlook::default(),
            damping: Damping::default(),
            overlay,
            underlying: Verdict { since: now.unix, ..Verdict::default() },
            verdict: Verdict { since: now.unix, ..Verdict::default() },
        };
        machine.conclude(now);
        machine
    }

    /// What is concluded, orders included.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What the evidence says beneath any orders; this is what survives a restart.
    pub fn underlying(&self) -> &Verdict {
        &self.underlying
    }

    /// Where the evidence stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Where the evidence comes from.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it is down by silence that nobody but this broker saw: it may be returned.
    pub fn uncorroborated(&self) -> bool {
        let alone = !self.rules.probed || self.outlook.by == Outside::Broker;
        self.phase == Phase::Unreachable && self.outlook.evicted && alone
    }

    /// Whether its evidence is good and it waits for a person.
    pub fn awaits_release(&self) -> bool {
        matches!(self.damping.hold(&self.rules.damping, MonoTime::ZERO), Some(Hold::Release))
    }

    /// How it is shown for as long as a person has frozen it.
    pub fn frozen(&self) -> Option<State> {
        match self.overlay.force {
            Some(Forced::Frozen(state)) => Some(state),
            _ => None,
        }
    }

    /// When a hold ends by itself.
    pub fn hold_deadline(&self) -> Option<MonoTime> {
        self.damping.deadline()
    }

    /// Whether its agent counts as silent.
    pub fn silent(&self) -> bool {
        self.silent
    }

    /// The flap penalty by now.
    pub fn penalty(&self, now: MonoTime) -> f64 {
        self.damping.penalty(&self.rules.damping, now)
    }

    /// The failures that a restart must not forget.
    pub fn flaps(&self, now: Now) -> Option<Flaps> {
        self.damping.flaps(now)
    }

    /// Goes on with the failures of before a restart; they show with the next input.
    pub fn resume_flaps(&mut self, flaps: &Flaps, now: Now) {
        self.damping.resume(flaps, &self.rules.damping, now);
    }

    /// Whether the answer to users may change soon: evidence is being gathered, or it failed lately.
    pub fn unsettled(&self, now: MonoTime) -> bool {
        let shown = self.verdict.state;
        let gathering = matches!(shown, State::Suspect | State::Unattended | State::Warming) || self.stale;
        gathering || self.penalty(now) > 0.5
    }

    /// Takes one input; whether a burst of probes must start at once.
    #[must_use = "a burst of probes may have to start"]
    pub fn handle(&mut self, input: Input, now: Now) -> bool {
        self.order(input);
        let step = match (input, self.mode) {
            // What was never proven, or what others saw as dead, is not brought back.
            (Input::Returned, _) if !self.uncorroborated() => self.stay(),
            // What a revoked node says, and what was known of it, counts for nothing.
            _ if self.overlay.revoked => Step { phase: Phase::Unheard, silent: false, burst: false },
            (Input::Resume(verdict), _) => self.resume(&verdict),
            // The evidence starts anew; in probe mode there is nobody to wait for.
            (Input::Reinstated, Mode::Probe) => Step { phase: self.phase, silent: false, burst: true },
            (_, Mode::Agent) => self.phase.step_agent(self.rules, self.silent, input),
            (_, Mode::Probe) => self.phase.step_probe(self.rules, input),
            (_, Mode::Manual { .. }) => Step { phase: self.phase, silent: false, burst: false },
        };
        let confirms = matches!(
            input,
            Input::ReportHealthy
                | Input::ReportFailing
                | Input::ReportStopped
                | Input::ReportNotReady
                | Input::ProbePassed(_)
                | Input::ProbeFailed(_)
        );
        if let Input::ProbePassed(outside) | Input::ProbeFailed(outside) = input
            && !(self.phase == Phase::Unreachable && input == Input::ProbeFailed(Outside::Broker))
        {
            // What others saw fail stays seen when later only the broker can look.
            self.outlook.by = outside;
        }
        if step.phase != self.phase || confirms {
            self.stale = matches!(input, Input::Resume(_)) || matches!(step.phase, Phase::Resumed { .. });
        }
        let moved = matches!(input, Input::AddressLost | Input::AddressKnown);
        let evicted = self.outlook.evicted || self.phase.eligible();
        self.outlook.evicted = step.phase == Phase::Unreachable && evicted && !moved;
        self.phase = step.phase;
        self.silent = step.silent;
        self.conclude(now);
        if let Input::Resume(verdict) = input
            && self.stale
        {
            self.underlying.since = verdict.since;
            if self.verdict.stale {
                self.verdict.since = verdict.since;
            }
        }
        step.burst && self.cadence() != Cadence::Idle
    }

    /// Other settings for the same mirror: what was proven stays proven, except that another mode
    /// starts anew. Whether a burst of probes must start at once.
    #[must_use = "a burst of probes may have to start"]
    pub fn configure(&mut self, mode: Mode, rules: Rules, now: Now) -> bool {
        let same_mode = std::mem::discriminant(&self.mode) == std::mem::discriminant(&mode);
        let newly_probed = rules.probed && !self.rules.probed;
        self.mode = mode;
        self.rules = rules;
        if !same_mode {
            return self.restart(now);
        }
        // Nobody can be asked any more: what waits for a probe waits for the next report instead.
        if !rules.probed && matches!(self.phase, Phase::Proving | Phase::Recovering | Phase::Unreachable) {
            self.phase = Phase::Unheard;
        }
        self.conclude(now);
        newly_probed && self.phase.eligible() && self.probing()
    }

    /// Forgets the evidence, not the orders. Whether a burst of probes must start at once.
    #[must_use = "a burst of probes may have to start"]
    pub fn restart(&mut self, now: Now) -> bool {
        self.phase = Phase::Unheard;
        self.silent = false;
        self.stale = false;
        self.outlook = Outlook::default();
        self.conclude(now);
        self.mode == Mode::Probe && self.probing()
    }

    /// How often it wants to be probed when nothing happens.
    pub fn cadence(&self) -> Cadence {
        use Phase::*;
        match (self.mode, self.phase) {
            _ if !self.probing() => Cadence::Idle,
            (Mode::Probe, _) => Cadence::Regular,
            (_, Up | Warming | Resumed { answered: true, .. }) => Cadence::Steady,
            (_, Proving | Recovering | Suspect(_) | Unattended | Unreachable | Resumed { .. }) => {
                Cadence::Quick
            }
            (_, Draining) if self.silent => Cadence::Quick,
            _ => Cadence::Idle,
        }
    }

    /// Whether users could be told within the second that it is gone: its probes must not dally.
    pub fn urgent(&self) -> bool {
        matches!(self.phase, Phase::Suspect(reason) if reason.is_silence() || reason == Reason::ClientsFail)
    }

    /// Whether there is something to probe at all.
    fn probing(&self) -> bool {
        let wanted = self.rules.probed && !matches!(self.mode, Mode::Manual { .. });
        wanted && !self.overlay.unaddressed && !self.overlay.revoked
    }

    fn stay(&self) -> Step {
        Step { phase: self.phase, silent: self.silent, burst: false }
    }

    fn order(&mut self, input: Input) {
        let overlay = &mut self.overlay;
        match input {
            Input::OrderDrain => overlay.drained = true,
            Input::OrderUndrain => overlay.drained = false,
            Input::ForceUp => overlay.force = Some(Forced::Up),
            Input::ForceDown => overlay.force = Some(Forced::Down),
            Input::Freeze => overlay.force = Some(Forced::Frozen(self.verdict.state)),
            Input::Refreeze(state) if matches!(overlay.force, Some(Forced::Frozen(_))) => {
                overlay.force = Some(Forced::Frozen(state));
            }
            Input::ForceEnded => overlay.force = None,
            Input::MaintenanceBegan => overlay.maintained = true,
            Input::MaintenanceEnded => overlay.maintained = false,
            Input::Release => self.damping.release(),
            Input::AwaitRelease => self.damping.await_release(),
            Input::Revoked => overlay.revoked = true,
            Input::Reinstated => overlay.revoked = false,
            Input::AddressLost => overlay.unaddressed = true,
            Input::AddressKnown => overlay.unaddressed = false,
            _ => {}
        }
    }

    fn resume(&self, verdict: &Verdict) -> Step {
        let fresh = self.phase == Phase::Unheard && !matches!(self.mode, Mode::Manual { .. });
        let phase = if fresh { Phase::resumed(self.mode, verdict) } else { self.phase };
        Step { phase, silent: self.silent, burst: fresh && phase.eligible() }
    }

    /// Remakes both verdicts from phase and overlay.
    fn conclude(&mut self, now: Now) {
        let beneath = match self.mode {
            Mode::Manual { up } => {
                (if up { State::Up } else { State::Down }, Reason::Manual, Vantage::Operator)
            }
            mode => self.phase.shown(mode, self.rules, self.silent, self.outlook.by),
        };
        self.damp(beneath, now.mono);
        let held = self.damping.hold(&self.rules.damping, now.mono).filter(|_| beneath.0.eligible());
        let damped = match held {
            Some(hold) => (State::Down, hold.reason(), Vantage::Broker),
            None => beneath,
        };
        let shown = overlay(self.overlay, damped);
        renew(&mut self.underlying, beneath, self.stale, now);
        renew(&mut self.verdict, shown, self.stale && shown == beneath, now);
    }
}

impl Machine {
    /// Counts failures and recoveries of the evidence.
    fn damp(&mut self, beneath: (State, Reason, Vantage), now: MonoTime) {
        let (was, is) = (self.underlying.state, beneath.0);
        // Leaving, catching up on data and a person's word are no failures.
        let failed = is == State::Down
            && !matches!(beneath.1, Reason::AgentLeft | Reason::NotReady | Reason::Manual | Reason::Revoked);
        if was.eligible() && failed {
            self.damping.evicted(&self.rules.damping, now);
        } else if !was.eligible() && is.eligible() && !self.stale {
            self.damping.recovered(&self.rules.damping, now);
        }
    }
}

/// What is shown for what lies beneath, given what people ordered.
pub fn overlay(orders: Overlay, beneath: (State, Reason, Vantage)) -> (State, Reason, Vantage) {
    match orders {
        Overlay { revoked: true, .. } => (State::Down, Reason::Revoked, Vantage::Operator),
        Overlay { unaddressed: true, .. } => (State::Unknown, Reason::NoAddress, Vantage::None),
        Overlay { force: Some(Forced::Up), .. } => (State::Up, Reason::Forced, Vantage::Operator),
        Overlay { force: Some(Forced::Down), .. } => (State::Down, Reason::Forced, Vantage::Operator),
        Overlay { force: Some(Forced::Frozen(state)), .. } => (state, Reason::Frozen, Vantage::Operator),
        Overlay { drained: true, .. } => (State::Draining, Reason::DrainedByOrder, Vantage::Operator),
        Overlay { maintained: true, .. } => (State::Draining, Reason::Maintenance, Vantage::Operator),
        _ => beneath,
    }
}

fn renew(verdict: &mut Verdict, shown: (State, Reason, Vantage), stale: bool, now: Now) {
    let (state, reason, vantage) = shown;
    let same = verdict.state == state && verdict.reason == reason;
    let since = if same { verdict.since } else { now.unix };
    *verdict = Verdict { state, reason, vantage, since, stale };
}

#[cfg(test)]
impl Machine {
    /// A machine in the middle of its life, for tables.
    pub(super) fn at(mode: Mode, rules: Rules, phase: Phase, silent: bool) -> Machine {
        let mut machine = Machine::new(mode, rules, Now::default());
        machine.overlay.unaddressed = false;
        machine.phase = phase;
        machine.silent = silent;
        machine.outlook.evicted = phase == Phase::Unreachable;
        machine.conclude(Now::default());
        machine
    }
}
