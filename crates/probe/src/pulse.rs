//! Whether a check still lives: what its task notes of itself, and when that is too old.

use nearmost_core::check::CheckSpec;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How much later than it should have a check may end or start, on a machine with much to do.
const MARGIN: Duration = Duration::from_secs(2);

/// How a check hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// It has run for so long, far beyond its timeout.
    Running(Duration),
    /// It should have started so long ago: its task is gone, or it waits for a slot.
    NotStarted(Duration),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Running(time) => write!(f, "stuck: has run for {} s, beyond its timeout", time.as_secs()),
            Stuck::NotStarted(time) => write!(f, "stuck: should have started {} s ago", time.as_secs()),
        }
    }
}

/// What a check's task last noted of itself.
pub struct Pulse(Mutex<Phase>);

#[derive(Clone, Copy)]
enum Phase {
    /// The next start is due then.
    Waiting(Instant),
    /// Running since then.
    Running(Instant),
}

impl Pulse {
    /// Of a check that is to start then.
    pub fn due(at: Instant) -> Pulse {
        Pulse(Mutex::new(Phase::Waiting(at)))
    }

    /// It runs from now on.
    pub fn runs(&self, now: Instant) {
        self.set(Phase::Running(now));
    }

    /// It waits for its next start.
    pub fn waits(&self, due: Instant) {
        self.set(Phase::Waiting(due));
    }

    /// Whether it runs.
    #[cfg(test)]
    pub fn runs_at(&self, now: Instant) -> bool {
        matches!(*self.0.lock().expect("whole"), Phase::Running(start) if start <= now)
    }

    fn set(&self, phase: Phase) {
        // A phase is whole whatever its writer died of.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Whether it hangs: it runs longer than its timeout allows, or should have started an interval ago.
    pub fn stuck(&self, now: Instant, spec: &CheckSpec) -> Option<Stuck> {
        let phase = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, limit, how): (_, _, fn(Duration) -> Stuck) = match phase {
            Phase::Waiting(due) => (due, spec.interval, Stuck::NotStarted),
            Phase::Running(start) => (start, spec.timeout, Stuck::Running),
        };
        let time = now.saturating_duration_since(since);
        (time > limit.saturating_add(MARGIN)).then(|| how(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use nearmost_core::check::CheckKind;

    #[test]
    fn what_runs_or_waits_too_long_hangs() {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
        let spec = CheckSpec { kind: CheckKind::Tcp, interval, timeout, rise: 1, fall: 1 };
        let start = clock::now();
        let seconds = |s| Duration::from_secs(s);
        let pulse = Pulse::due(start + seconds(5));
        assert_eq!(pulse.stuck(start + seconds(5 + 12), &spec), None);
        assert_eq!(pulse.stuck(start + seconds(5 + 13), &spec), Some(Stuck::NotStarted(seconds(13))));
        pulse.runs(start);
        assert_eq!(pulse.stuck(start + seconds(3), &spec), None);
        assert_eq!(pulse.stuck(start + seconds(4), &spec), Some(Stuck::Running(seconds(4))));
        pulse.waits(start + seconds(14));
        assert_eq!(pulse.stuck(start + seconds(4), &spec), None);
    }
}
