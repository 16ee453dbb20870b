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
use crate::time::{MonoTime, Now, UnixMillis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Up to this penalty nothing is held: one failure, and what is left of an older one.
const FREE: f64 = 1.25;
/// Highest penalty that a kept one may claim: far beyond what any hold needs.
const MOST_KEPT: f64 = 64.0;

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

/// What a restart must not forget: on the wall clock, since the other one starts anew. A jump of the
/// wall clock can forgive, and can hold for no longer than any hold lasts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flaps {
    /// The penalty …
    pub penalty: f64,
    /// … as it was then.
    pub at: UnixMillis,
    /// Until when the mirror is held down.
    pub held_until: Option<UnixMillis>,
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

    /// What to keep for the time after a restart; `None` where there is nothing.
    pub fn flaps(&self, now: Now) -> Option<Flaps> {
        let held_until = self.deadline().filter(|until| *until > now.mono).map(|until| {
            let left = u64::try_from(until.since(now.mono).as_millis()).unwrap_or(u64::MAX);
            UnixMillis(now.unix.0.saturating_add(left))
        });
        let ago = u64::try_from(now.mono.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let at = UnixMillis(now.unix.0.saturating_sub(ago));
        (self.penalty > 0.0).then_some(Flaps { penalty: self.penalty, at, held_until })
    }

    /// Goes on with what was kept before a restart.
    pub fn resume(&mut self, flaps: &Flaps, rules: &DampingRules, now: Now) {
        let kept = if flaps.penalty.is_finite() { flaps.penalty.clamp(0.0, MOST_KEPT) } else { 0.0 };
        let age = Duration::from_millis(now.unix.0.saturating_sub(flaps.at.0));
        self.penalty = kept * decay(rules, age);
        self.at = now.mono;
        let left = flaps.held_until.map_or(0, |until| until.0.saturating_sub(now.unix.0));
        let left = Duration::from_millis(left).min(rules.most);
        if self.hold.is_none() && !left.is_zero() {
            self.hold = Some(Hold::Until(now.mono + left));
        }
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
        self.penalty * decay(rules, now.since(self.at))
    }
}

/// What is left of a penalty after that time, as a share.
fn decay(rules: &DampingRules, age: Duration) -> f64 {
    if rules.half_life.is_zero() {
        return 0.0;
    }
    0.5f64.powf(age.as_secs_f64() / rules.half_life.as_secs_f64())
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

    #[test]
    fn a_restart_forgets_nothing_and_a_wrong_clock_holds_no_longer_than_any_hold() {
        let moment = |mono: u64, unix: u64| Now { mono: at(mono), unix: UnixMillis(unix * 1000) };
        let mut damping = Damping::default();
        for second in [100, 110, 120] {
            damping.evicted(&RULES, at(second));
        }
        damping.recovered(&RULES, at(130));
        let left = held(&damping, at(135));
        let kept = damping.flaps(moment(135, 1_000_135)).unwrap();

        let mut next = Damping::default();
        next.resume(&kept, &RULES, moment(3, 1_000_140));
        assert_eq!(held(&next, at(3)).as_millis(), left.as_millis() - 5_000);
        let (was, is) = (damping.penalty(&RULES, at(140)), next.penalty(&RULES, at(3)));
        assert!((was - is).abs() < 1e-9, "{was} {is}");

        let mut early = Damping::default();
        early.resume(&kept, &RULES, moment(3, 5));
        assert_eq!(held(&early, at(3)), RULES.most);
        let mut late = Damping::default();
        late.resume(&kept, &RULES, moment(3, 2_000_000));
        assert!(held(&late, at(3)).is_zero() && late.penalty(&RULES, at(3)) < 1e-9);
        let mut broken = Damping::default();
        broken.resume(&Flaps { penalty: f64::NAN, ..kept }, &RULES, moment(3, 2_000_000));
        assert_eq!(broken, Damping { at: at(3), ..Damping::default() });
        assert_eq!(Damping::default().flaps(moment(1, 1)), None);
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
