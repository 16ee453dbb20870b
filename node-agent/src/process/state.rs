//! What a service's process is known to do: pure, fed with what was observed.
//!
//! ```text
//!              found             ended                found
//!  unknown ───────────▶ running ───────▶ ended ───────────────▶ proving
//!                        ▲  │ halted       ▲ ended                │ ▲
//!                        │  ▼              │                      │ │
//!                        │ halted ─────────┴──────────────────────┼─┘ continued
//!                        └────────────────────────────────────────┘
//!                              proven: the checks passed since
//! ```
//!
//! Until a process was found once, only checks decide: a setting that is wrong takes out no service.
//! From ended to proven the service counts as stopped. A process that is replaced while it lives (a
//! program that renews itself) is found anew in whatever state there is, and none is left for that.

/// The state of one service's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    phase: Phase,
    /// The process last found; meaningless while unknown.
    pid: u32,
    /// Why none is found, while unknown.
    missing: Option<String>,
    /// Grows at each turn to proving, so that a proof of an earlier one does not count.
    epoch: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It was never found.
    #[default]
    Unknown,
    /// It is there.
    Running,
    /// It is there and does not run: SIGSTOP or a debugger.
    Halted,
    /// It is gone, and no new one was found.
    Ended,
    /// It is there, or runs again; its checks have not passed since.
    Proving,
}

impl Phase {
    /// For people and status pages.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Unknown => "not found",
            Phase::Running => "running",
            Phase::Halted => "halted",
            Phase::Ended => "ended",
            Phase::Proving => "proving",
        }
    }
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// No process is there, and why.
    Missing(String),
    /// The process is this one.
    Found(u32),
    /// It ended.
    Ended,
    /// It was stopped.
    Halted,
    /// It goes on.
    Continued,
}

impl Machine {
    /// Takes what was observed; whether anything changed.
    pub fn on(&mut self, observed: Observed) -> bool {
        let before = self.clone();
        match (self.phase, observed) {
            (Phase::Unknown, Observed::Missing(why)) => self.missing = Some(why),
            (Phase::Unknown, Observed::Found(pid)) => {
                (self.phase, self.pid, self.missing) = (Phase::Running, pid, None);
            }
            (Phase::Ended, Observed::Found(pid)) => {
                self.pid = pid;
                self.prove();
            }
            (Phase::Running | Phase::Halted | Phase::Proving, Observed::Found(pid)) => self.pid = pid,
            (Phase::Running | Phase::Halted | Phase::Proving, Observed::Ended) => self.phase = Phase::Ended,
            (Phase::Running | Phase::Proving, Observed::Halted) => self.phase = Phase::Halted,
            (Phase::Halted, Observed::Continued) => self.prove(),
            (Phase::Unknown, Observed::Ended | Observed::Halted | Observed::Continued)
            | (
                Phase::Ended,
                Observed::Missing(_) | Observed::Ended | Observed::Halted | Observed::Continued,
            )
            | (Phase::Running | Phase::Proving, Observed::Missing(_) | Observed::Continued)
            | (Phase::Halted, Observed::Missing(_) | Observed::Halted) => {}
        }
        *self != before
    }

    fn prove(&mut self) {
        self.phase = Phase::Proving;
        self.epoch += 1;
    }

    /// What is to be proven, if anything.
    pub fn proving(&self) -> Option<u64> {
        (self.phase == Phase::Proving).then_some(self.epoch)
    }

    /// The checks passed since [`Machine::proving`] said `epoch`; whether anything changed.
    pub fn proven(&mut self, epoch: u64) -> bool {
        let proven = self.proving() == Some(epoch);
        if proven {
            self.phase = Phase::Running;
        }
        proven
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The process, once one was found.
    pub fn pid(&self) -> Option<u32> {
        (self.phase != Phase::Unknown).then_some(self.pid)
    }

    /// Whether the service counts as stopped.
    pub fn stopped(&self) -> bool {
        matches!(self.phase, Phase::Halted | Phase::Ended | Phase::Proving)
    }

    /// What is wrong, for people.
    pub fn problem(&self) -> Option<String> {
        let pid = self.pid;
        match self.phase {
            Phase::Unknown => self.missing.as_ref().map(|why| format!("process not found: {why}")),
            Phase::Running => None,
            Phase::Halted => Some(format!("process {pid} is stopped")),
            Phase::Ended => Some(format!("process {pid} ended")),
            Phase::Proving => Some(format!("process {pid} runs; the checks have not passed since")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(inputs: &[Observed]) -> Machine {
        let mut machine = Machine::default();
        inputs.iter().cloned().for_each(|observed| {
            machine.on(observed);
        });
        machine
    }

    #[test]
    fn every_state_and_input() {
        use Observed::{Continued, Ended, Found, Halted, Missing};
        let unknown = || after(&[]);
        let running = || after(&[Found(1)]);
        let halted = || after(&[Found(1), Halted]);
        let ended = || after(&[Found(1), Ended]);
        let proving = || after(&[Found(1), Ended, Found(2)]);
        let inputs = [Missing("gone".into()), Found(3), Ended, Halted, Continued];
        type Make<'a> = &'a dyn Fn() -> Machine;
        // After each input, and after the proof.
        let table: [(Make<'_>, [Phase; 6]); 5] = {
            use Phase::{Ended, Halted, Proving, Running, Unknown};
            [
                (&unknown, [Unknown, Running, Unknown, Unknown, Unknown, Unknown]),
                (&running, [Running, Running, Ended, Halted, Running, Running]),
                (&halted, [Halted, Halted, Ended, Halted, Proving, Halted]),
                (&ended, [Ended, Proving, Ended, Ended, Ended, Ended]),
                (&proving, [Proving, Proving, Ended, Halted, Proving, Running]),
            ]
        };
        for (make, expected) in table {
            let mut phases: Vec<Phase> = Vec::new();
            for input in &inputs {
                let mut machine = make();
                let changed = machine.on(input.clone());
                assert_eq!(changed, machine != make(), "{:?} {input:?}", make().phase());
                phases.push(machine.phase());
            }
            let mut machine = make();
            machine.proven(1);
            phases.push(machine.phase());
            assert_eq!(phases, expected, "{:?}", make().phase());
        }
    }

    #[test]
    fn only_what_was_found_once_can_stop_a_service() {
        let missing = after(&[Observed::Missing("no such file".into()), Observed::Ended]);
        assert!(!missing.stopped());
        assert_eq!(
            (missing.pid(), missing.problem().as_deref()),
            (None, Some("process not found: no such file"))
        );
        let ended = after(&[Observed::Found(1234), Observed::Ended]);
        assert!(ended.stopped());
        assert_eq!(ended.problem().as_deref(), Some("process 1234 ended"));
        let halted = after(&[Observed::Found(1234), Observed::Halted]);
        assert!(halted.stopped());
        assert_eq!(halted.problem().as_deref(), Some("process 1234 is stopped"));
    }

    #[test]
    fn a_proof_of_an_earlier_process_does_not_count() {
        let mut machine = after(&[Observed::Found(1), Observed::Ended, Observed::Found(2)]);
        let first = machine.proving().expect("to be proven");
        machine.on(Observed::Ended);
        machine.on(Observed::Found(3));
        assert!(!machine.proven(first) && machine.stopped());
        let second = machine.proving().expect("to be proven");
        assert!(machine.proven(second) && !machine.stopped() && machine.problem().is_none());
    }
}
