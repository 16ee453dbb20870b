//! Damping: a mirror that keeps failing is kept out longer each time.
//!
//! Each eviction on evidence adds one to a penalty that halves every [`DampingRules::half_life`], as
//! routers damp routes (RFC 2439). A mirror that proves itself good again is held down for
//!
//! ```text
//! hold × 2^(penalty − 2), at most `most`; nothing while the penalty is at most FREE
//! ```
//!
//! so a first failure costs nothing beyond its own length, and a mirror that behaves for some half
//! lives starts afresh. Where fail-back is manual, an evicted mirror waits for a person instead.

use super::Reason;
use crate::time::MonoTime;
use std::time::Duration;

/// Up to this penalty nothing is held: one failure, and what is left of an older one.
const FREE: f64 = 1.25;

/// How failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DampingRules {
    /// The penalty halves in this time; zero for no damping at all.
    pub half_life: Duration,
    /// How long the second failure in a row keeps a mirror out.
    pub hold: Duration,
    /// Longest hold.
    pub most: Duration,
    /// Once evicted, it comes back only when a person says so.
    pub manual_failback: bool,
}

impl Default for DampingRules {
    fn default() -> Self {
        DampingRules {
            half_life: Duration::from_secs(300),
            hold: Duration::from_secs(10),
            most: Duration::from_secs(600),
            manual_failback: false,
        }
    }
}

/// What holds back a mirror whose evidence is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It failed too often lately; until then.
    Until(MonoTime),
    /// A person has to let it back.
    Release,
}

impl Hold {
    /// As shown.
    pub fn reason(self) -> Reason {
        match self {
            Hold::Until(_) => Reason::HeldDown,
            Hold::Release => Reason::AwaitingRelease,
        }
    }
}

/// The failures of one mirror in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Damping {
    penalty: f64,
    at: MonoTime,
    hold: Option<Hold>,
}

impl Damping {
    /// It was taken out on evidence.
    pub fn evicted(&mut self, rules: &DampingRules, now: MonoTime) {
        self.penalty = self.penalty(rules, now) + 1.0;
        self.at = now;
        self.hold = rules.manual_failback.then_some(Hold::Release);
    }

    /// The evidence is good again.
    pub fn recovered(&mut self, rules: &DampingRules, now: MonoTime) {
        if self.hold == Some(Hold::Release) && rules.manual_failback {
            return;
        }
        let penalty = self.penalty(rules, now);
        let held = rules.hold.mul_f64(2f64.powf((penalty - 2.0).min(20.0))).min(rules.most);
        self.hold = (penalty > FREE && !held.is_zero()).then(|| Hold::Until(now + held));
    }

    /// A person lets it back.
    pub fn release(&mut self) {
        self.hold = None;
    }

    /// It was waiting for a person before a restart.
    pub fn await_release(&mut self) {
        self.hold = Some(Hold::Release);
    }

    /// What holds it back now.
    pub fn hold(&self, rules: &DampingRules, now: MonoTime) -> Option<Hold> {
        self.hold.filter(|hold| match hold {
            Hold::Until(until) => *until > now,
            Hold::Release => rules.manual_failback,
        })
    }

    /// When a hold ends by itself.
    pub fn deadline(&self) -> Option<MonoTime> {
        match self.hold {
            Some(Hold::Until(until)) => Some(until),
            _ => None,
        }
    }

    /// The penalty as it has decayed by now.
    pub fn penalty(&self, rules: &DampingRules, now: MonoTime) -> f64 {
        if rules.half_life.is_zero() {
            return 0.0;
        }
        let halves = now.since(self.at).as_secs_f64() / rules.half_life.as_secs_f64();
        self.penalty * 0.5f64.powf(halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: DampingRules = DampingRules {
        half_life: Duration::from_secs(300),
        hold: Duration::from_secs(10),
        most: Duration::from_secs(600),
        manual_failback: false,
    };

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    fn held(damping: &Damping, now: MonoTime) -> Duration {
        match damping.hold(&RULES, now) {
            Some(Hold::Until(until)) => until.since(now),
            _ => Duration::ZERO,
        }
    }

    #[test]
    fn a_first_failure_is_free_and_each_further_one_costs_more_up_to_the_cap() {
        let mut damping = Damping::default();
        let mut holds = Vec::new();
        let mut now = at(0);
        for _ in 0..14 {
            damping.evicted(&RULES, now);
            now = now + Duration::from_secs(5);
            damping.recovered(&RULES, now);
            holds.push(held(&damping, now));
            // It fails again while it is held.
            now = now + Duration::from_secs(5);
        }
        assert_eq!(holds[0], Duration::ZERO);
        assert!(holds.windows(2).all(|w| w[1] > w[0] || w[1] == RULES.most), "{holds:?}");
        assert_eq!(holds[13], RULES.most);
    }

    #[test]
    fn a_mirror_that_behaves_starts_afresh() {
        let mut damping = Damping::default();
        for second in [0, 10, 20, 30] {
            damping.evicted(&RULES, at(second));
        }
        let later = at(30 + 6 * 300);
        damping.evicted(&RULES, later);
        damping.recovered(&RULES, later);
        assert_eq!(damping.hold(&RULES, later), None);
    }

    #[test]
    fn a_manual_fail_back_waits_for_a_person_however_long() {
        let rules = DampingRules { manual_failback: true, ..RULES };
        let mut damping = Damping::default();
        damping.evicted(&rules, at(0));
        damping.recovered(&rules, at(5));
        assert_eq!(damping.hold(&rules, at(1_000_000)), Some(Hold::Release));
        damping.release();
        assert_eq!(damping.hold(&rules, at(6)), None);
        // Whoever makes it automatic lets it back, too.
        damping.evicted(&rules, at(7));
        assert_eq!(damping.hold(&RULES, at(8)), None);
    }

    proptest! {
        /// No hold is longer than the cap, and without damping nothing is ever held.
        #[test]
        fn holds_are_bounded(gaps in prop::collection::vec(0u64..4000, 1..40)) {
            let none = DampingRules { half_life: Duration::ZERO, ..RULES };
            let (mut damping, mut undamped, mut now) = (Damping::default(), Damping::default(), at(0));
            for gap in gaps {
                now = now + Duration::from_secs(gap);
                damping.evicted(&RULES, now);
                undamped.evicted(&none, now);
                damping.recovered(&RULES, now);
                undamped.recovered(&none, now);
                prop_assert!(held(&damping, now) <= RULES.most);
                prop_assert_eq!(undamped.hold(&none, now), None);
            }
        }
    }
}
