//! From single results to good or bad.

/// Counts results in a row.
///
/// ```text
///             pass                          fail × fall
///  unknown ───────────▶ good ◀──────────────────────────▶ bad
///     │                          pass × rise               ▲
///     └────────────────────────────────────────────────────┘
///                             fail
/// ```
///
/// Nothing is good until proven, and the first result is the first proof there is, so it decides
/// alone; `rise` and `fall` damp changes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiseFall {
    rise: u8,
    fall: u8,
    good: Option<bool>,
    /// The last result and how often it came in a row.
    last: Option<bool>,
    consecutive: u32,
}

impl RiseFall {
    /// Nothing known yet. Zeros count as 1.
    pub fn new(rise: u8, fall: u8) -> Self {
        RiseFall { rise: rise.max(1), fall: fall.max(1), good: None, last: None, consecutive: 0 }
    }

    /// Takes one result; whether good or bad changed by it.
    pub fn on(&mut self, passed: bool) -> bool {
        self.consecutive = if self.last == Some(passed) { self.consecutive.saturating_add(1) } else { 1 };
        self.last = Some(passed);
        let needed = match (self.good, passed) {
            (None, _) => 1,
            (Some(_), true) => u32::from(self.rise),
            (Some(_), false) => u32::from(self.fall),
        };
        let changes = self.good != Some(passed) && self.consecutive >= needed;
        if changes {
            self.good = Some(passed);
        }
        changes
    }

    /// Good, bad, or not known yet.
    pub fn good(&self) -> Option<bool> {
        self.good
    }

    /// How many results equal to the last one came in a row.
    pub fn consecutive(&self) -> u32 {
        self.consecutive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Option<bool> = None;
    const GOOD: Option<bool> = Some(true);
    const BAD: Option<bool> = Some(false);

    /// Every state with every input. A state is what is concluded, the last result and its run.
    #[test]
    fn every_state_and_input() {
        // (good, last, run, input) → (good, changed); rise 3, fall 2.
        let table = [
            (UNKNOWN, None, 0, true, GOOD, true),
            (UNKNOWN, None, 0, false, BAD, true),
            (GOOD, Some(true), 1, true, GOOD, false),
            (GOOD, Some(true), 9, false, GOOD, false),
            (GOOD, Some(false), 1, true, GOOD, false),
            (GOOD, Some(false), 1, false, BAD, true),
            (BAD, Some(false), 2, false, BAD, false),
            (BAD, Some(false), 9, true, BAD, false),
            (BAD, Some(true), 1, true, BAD, false),
            (BAD, Some(true), 1, false, BAD, false),
            (BAD, Some(true), 2, true, GOOD, true),
            (BAD, Some(true), 2, false, BAD, false),
        ];
        for (good, last, consecutive, input, after, changed) in table {
            let mut m = RiseFall { rise: 3, fall: 2, good, last, consecutive };
            let what = format!("{m:?} on {input}");
            assert_eq!(m.on(input), changed, "{what}");
            assert_eq!(m.good(), after, "{what}");
            let run = if last == Some(input) { consecutive + 1 } else { 1 };
            assert_eq!(m.consecutive(), run, "{what}");
        }
    }

    #[test]
    fn zeros_count_as_one_and_runs_do_not_overflow() {
        let mut m = RiseFall::new(0, 0);
        assert!(m.on(true) && m.on(false) && m.on(true));
        m.consecutive = u32::MAX;
        assert!(!m.on(true));
        assert_eq!(m.consecutive(), u32::MAX);
    }
}
