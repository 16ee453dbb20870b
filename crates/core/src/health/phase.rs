//! The states of [`super::machine::Machine`] as the evidence makes them, one step at a time.
//!
//! A [`Phase`] is finer than the public [`State`]: it says what is still needed before the mirror
//! may be eligible. The step functions are pure; orders of people are not seen here.

use super::machine::{Input, Mode, Outside, Rules};
use super::{Reason, State, Vantage, Verdict};

/// Where the evidence about one mirror in one family stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing heard: unknown.
    Unheard,
    /// The agent says not ready, and the mirror was never up: unknown.
    NotReady,
    /// The agent says healthy, the outside probe is awaited: unknown.
    Proving,
    /// As `Proving`, after having been down: still shown as down.
    Recovering,
    /// Proven, in its warm-up.
    Warming,
    /// Proven.
    Up,
    /// Something is missing (the reason) and probes are on their way.
    Suspect(Reason),
    /// The agent is silent, the address answers.
    Unattended,
    /// The agent drains.
    Draining,
    /// Down for this reason; only a healthy report leads out.
    Down(Reason),
    /// Probes fail, or long silence where nobody can be asked; a passing probe leads out.
    Unreachable,
    /// Probe mode: down, this many passes in a row on the way up.
    Rising(u8),
    /// Eligible before a restart, being re-checked.
    Resumed {
        /// As shown before the restart.
        state: State,
        /// The agent has reported healthy since.
        heard: bool,
        /// An outside probe has passed since.
        answered: bool,
    },
}

/// Result of one step: where to, whether the agent now counts as silent, whether to probe at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub phase: Phase,
    pub silent: bool,
    pub burst: bool,
}

impl Step {
    fn to(self, phase: Phase) -> Step {
        Step { phase, ..self }
    }

    fn probing(self, phase: Phase) -> Step {
        Step { phase, burst: true, ..self }
    }

    /// Report and probe are both good: up, unless the agent has fallen silent meanwhile.
    fn proven(self, rules: Rules) -> Step {
        let phase = match (self.silent, rules.warms) {
            (true, _) => Phase::Unattended,
            (false, true) => Phase::Warming,
            (false, false) => Phase::Up,
        };
        self.to(phase)
    }

    /// A healthy report came: ask from outside, or believe it where nobody can be asked.
    fn prove(self, rules: Rules, meanwhile: Phase) -> Step {
        match (rules.probed, self.silent) {
            (true, _) => self.probing(meanwhile),
            // Its word alone counts only while it is heard: beacons first.
            (false, true) => self,
            (false, false) => self.proven(rules),
        }
    }
}

impl Phase {
    /// Whether the evidence allows sending users.
    pub fn eligible(self) -> bool {
        use Phase::*;
        matches!(self, Warming | Up | Suspect(_) | Unattended | Resumed { .. })
    }

    /// The phase from which a verdict of before a restart goes on. Verdicts that rest on orders
    /// say nothing of the evidence.
    pub(super) fn resumed(mode: Mode, verdict: &Verdict) -> Phase {
        let by_order = matches!(
            verdict.reason,
            Reason::Forced | Reason::DrainedByOrder | Reason::Revoked | Reason::Manual | Reason::NoAddress
        );
        match verdict.state {
            _ if by_order => Phase::Unheard,
            s if s.eligible() => Phase::Resumed { state: s, heard: false, answered: false },
            State::Down if mode == Mode::Probe => Phase::Unreachable,
            State::Down => Phase::Down(verdict.reason),
            State::Draining if mode == Mode::Agent => Phase::Draining,
            _ => Phase::Unheard,
        }
    }

    /// State, reason and vantage as shown when no order overrules them; `outside` is who last
    /// concluded from outside.
    pub(super) fn shown(
        self,
        mode: Mode,
        rules: Rules,
        silent: bool,
        outside: Outside,
    ) -> (State, Reason, Vantage) {
        let (proven, proof) = match (mode, rules.probed, outside) {
            (_, true, Outside::Witnesses) => (Reason::PartlyReachable, Vantage::Witnesses),
            (Mode::Agent, true, _) => (Reason::Proven, Vantage::AgentAndBroker),
            (Mode::Agent, false, _) => (Reason::Proven, Vantage::Agent),
            _ => (Reason::Proven, Vantage::Broker),
        };
        let outside = outside.vantage();
        let teller = if mode == Mode::Agent { Vantage::Agent } else { Vantage::None };
        match self {
            Phase::Unheard => (State::Unknown, Reason::NothingHeard, Vantage::None),
            Phase::NotReady => (State::Unknown, Reason::NotReady, Vantage::Agent),
            Phase::Proving => (State::Unknown, Reason::AwaitingProbe, teller),
            Phase::Recovering => (State::Down, Reason::AwaitingProbe, teller),
            Phase::Warming => (State::Warming, proven, proof),
            Phase::Up => (State::Up, proven, proof),
            Phase::Suspect(Reason::ClientsFail) => (State::Suspect, Reason::ClientsFail, Vantage::Clients),
            Phase::Suspect(reason) => (State::Suspect, reason, Vantage::Broker),
            Phase::Unattended => (State::Unattended, Reason::SilentButAnswering, outside),
            Phase::Draining => (State::Draining, Reason::DrainedByAgent, Vantage::Agent),
            Phase::Down(reason) => (State::Down, reason, teller_of(reason, outside)),
            Phase::Unreachable if !rules.probed => (State::Down, Reason::MissedBeacons, Vantage::Broker),
            Phase::Unreachable if silent => (State::Down, Reason::SilentAndUnreachable, outside),
            Phase::Unreachable | Phase::Rising(_) => (State::Down, Reason::ProbeFailed, outside),
            Phase::Resumed { state, .. } => (state, Reason::Resumed, Vantage::None),
        }
    }

    /// One step on the evidence of an agent and of probes.
    pub(super) fn step_agent(self, rules: Rules, silent: bool, input: Input) -> Step {
        let here = Step { phase: self, silent, burst: false };
        match input {
            Input::AgentStarted => self.agent_started(rules, here),
            Input::BeaconsResumed => self.beacons_resumed(rules, here),
            Input::SecondBeaconMissed => self.fell_silent(rules, here, Reason::MissedBeacons),
            Input::SessionLost => self.fell_silent(rules, here, Reason::SessionLost),
            Input::SilenceConfirmedLong if rules.probed => {
                self.fell_silent(rules, here, Reason::MissedBeacons)
            }
            Input::SilenceConfirmedLong => self.long_silent(here),
            Input::AgentLeft => Step { silent: false, ..here }.to(Phase::Down(Reason::AgentLeft)),
            Input::ReportHealthy | Input::ReportFailing | Input::ReportStopped | Input::ReportNotReady => {
                self.reported(rules, here, input)
            }
            Input::AgentDraining => here.to(Phase::Draining),
            Input::AgentUndrained if self == Phase::Draining => here.to(Phase::Unheard),
            Input::ProbePassed(_) if rules.probed => self.answered(rules, here),
            Input::ProbeFailed(_) if rules.probed => self.did_not_answer(here),
            _ => self.step_common(rules, here, input),
        }
    }

    fn agent_started(self, rules: Rules, here: Step) -> Step {
        let (_, reason, _) = self.shown(Mode::Agent, rules, here.silent, Outside::Broker);
        let started = Step { silent: false, ..here };
        // What it reported before it fell silent no longer counts, so a probe alone must not
        // lead out of down any more.
        match self {
            Phase::Unreachable if here.silent => started.to(Phase::Down(reason)),
            _ => started,
        }
    }

    fn beacons_resumed(self, rules: Rules, here: Step) -> Step {
        let back = Step { silent: false, ..here };
        match self {
            Phase::Suspect(_) | Phase::Unattended => back.to(Phase::Up),
            Phase::Unreachable if here.silent => back.prove(rules, Phase::Recovering),
            _ => back,
        }
    }

    fn fell_silent(self, rules: Rules, here: Step, reason: Reason) -> Step {
        let gone = Step { silent: true, ..here };
        match self {
            Phase::Up | Phase::Warming | Phase::Resumed { .. } => {
                Step { burst: rules.probed, ..gone }.to(Phase::Suspect(reason))
            }
            Phase::Draining if !here.silent => Step { burst: rules.probed, ..gone },
            _ => gone,
        }
    }

    /// Where nobody can be asked, long silence decides.
    fn long_silent(self, here: Step) -> Step {
        let gone = Step { silent: true, ..here };
        match self {
            Phase::Draining => gone.to(Phase::Down(Reason::MissedBeacons)),
            _ if self.eligible() => gone.to(Phase::Unreachable),
            _ => gone,
        }
    }

    fn reported(self, rules: Rules, here: Step, input: Input) -> Step {
        use Phase::*;
        match (input, self) {
            (_, Draining) => here,
            (Input::ReportFailing, _) => here.to(Down(Reason::ServiceFailing)),
            (Input::ReportStopped, _) => here.to(Down(Reason::ProcessEnded)),
            (Input::ReportNotReady, Unheard | NotReady | Proving | Warming) => here.to(NotReady),
            (Input::ReportNotReady, _) => here.to(Down(Reason::NotReady)),
            (_, Unheard | NotReady) => here.prove(rules, Proving),
            (_, Down(_)) => here.prove(rules, Recovering),
            (_, Suspect(reason)) if !here.silent && reason.is_silence() => here.to(Up),
            (_, Unattended) if !here.silent => here.to(Up),
            (_, Resumed { answered, .. }) if answered || !rules.probed => here.proven(rules),
            (_, Resumed { state, answered, .. }) => here.to(Resumed { state, heard: true, answered }),
            _ => here,
        }
    }

    fn answered(self, rules: Rules, here: Step) -> Step {
        use Phase::*;
        match self {
            Proving | Recovering | Unreachable => here.proven(rules),
            Suspect(_) if here.silent => here.to(Unattended),
            Suspect(reason) if !reason.is_silence() => here.to(Up),
            // It was silent a moment ago; a report or beacon comes next.
            Suspect(_) => here.to(Unattended),
            Resumed { heard: true, .. } => here.proven(rules),
            Resumed { state, heard, .. } => here.to(Resumed { state, heard, answered: true }),
            _ => here,
        }
    }

    fn did_not_answer(self, here: Step) -> Step {
        use Phase::*;
        match self {
            Proving | Recovering | Warming | Up | Suspect(_) | Unattended => here.to(Unreachable),
            // Without a report of this lifetime a passing probe alone must not lead out.
            Resumed { heard: false, .. } => here.to(Down(Reason::ProbeFailed)),
            Resumed { .. } => here.to(Unreachable),
            // It was leaving: only its agent can bring it back.
            Draining if here.silent => here.to(Down(Reason::SilentAndUnreachable)),
            _ => here,
        }
    }

    /// One step on the evidence of the broker's own probes alone.
    pub(super) fn step_probe(self, rules: Rules, input: Input) -> Step {
        use Phase::*;
        let here = Step { phase: self, silent: false, burst: false };
        match (input, self) {
            (Input::ProbePassed(_), Unheard | Proving | Resumed { .. }) => here.proven(rules),
            (Input::ProbePassed(_), Suspect(_)) => here.to(Up),
            (Input::ProbePassed(_), Unreachable) => here.risen(rules, 1),
            (Input::ProbePassed(_), Rising(n)) => here.risen(rules, n.saturating_add(1)),
            (Input::ProbeMissed, Warming | Up) => here.probing(Suspect(Reason::ProbeFailed)),
            (Input::ProbeMissed, Unheard | Proving | Suspect(_) | Resumed { .. }) => here.probing(self),
            (Input::ProbeMissed, Rising(_)) => here.to(Unreachable),
            (Input::ProbeFailed(_), _) => here.to(Unreachable),
            _ => self.step_common(rules, here, input),
        }
    }

    /// What agent mode and probe mode share: addresses, undrain, the warm-up's end.
    fn step_common(self, rules: Rules, here: Step, input: Input) -> Step {
        use Phase::*;
        let reprove = rules.probed && self.eligible();
        let resumed = matches!(self, Resumed { .. });
        match input {
            Input::OrderUndrain if reprove => here.probing(Proving),
            Input::AddressLost if reprove && !resumed => here.to(Proving),
            Input::AddressKnown if reprove && !resumed => here.probing(Proving),
            Input::AddressKnown if rules.probed => here.probing(self),
            Input::WarmedUp if self == Warming => here.to(Up),
            Input::ClientsFail if rules.probed && matches!(self, Warming | Up) => {
                here.probing(Suspect(Reason::ClientsFail))
            }
            Input::Withheld(reason) if matches!(self, Warming | Up | Suspect(_) | Unattended) => {
                here.to(Suspect(reason))
            }
            Input::Returned if self == Unreachable => here.to(Suspect(Reason::Panic)),
            _ => here,
        }
    }
}

impl Step {
    fn risen(self, rules: Rules, passes: u8) -> Step {
        if passes >= rules.rise { self.proven(rules) } else { self.to(Phase::Rising(passes)) }
    }
}

/// Whose word a lasting down rests on.
fn teller_of(reason: Reason, outside: Vantage) -> Vantage {
    match reason {
        Reason::ServiceFailing
        | Reason::ProcessEnded
        | Reason::NotReady
        | Reason::AgentLeft
        | Reason::AwaitingProbe => Vantage::Agent,
        Reason::ProbeFailed | Reason::SilentAndUnreachable => outside,
        _ => Vantage::Broker,
    }
}
