//! How many packets of a path get lost, and how long its silence must last to mean something.
//!
//! # The bound on silence
//!
//! A mirror sends at least every *T*. A packet is lost with probability *p*, and with *q* when the one
//! before it was lost (*q* = *p* where losses are independent, more where they come in bursts).
//!
//! **Loss alone.** An hour has 3600 s / *T* packets. Silence of *k T* needs *k* of them lost in a row,
//! which begins at a given packet with probability at most *p q^(k−1)*. Of such silences there are at
//! most *a* an hour when
//!
//! ```text
//! 3600 / T · p · q^(k−1) ≤ a        k ≥ 1 + ln(a T / (3600 p)) / ln q
//! ```
//!
//! **Pauses.** A server that pauses for *P* (collects garbage, is stopped by a hypervisor) is silent for
//! *x + P*, *x* being how long nothing had been heard when it paused. *x* exceeds *j T* only when *j*
//! packets before the pause were lost: *p q^(j−1)*. With *m* pauses an hour at most *b* of them are taken
//! for a death when silence of *P + j T* is waited for and
//!
//! ```text
//! m · p · q^(j−1) ≤ b               j ≥ 1 + ln(b / (m p)) / ln q
//! ```
//!
//! That the first packets after a pause may be lost as well needs no term: while a client doubts, it
//! asks every few milliseconds, and a server that wakes answers all that has gathered.
//!
//! The bound is the longer of the two; what the path's jitter needs is added by the caller. *a + b* is
//! well below the one false move an hour that is allowed, since *p* is only estimated. With *T* = 25 ms (a client whose path loses more
//! than one packet in a hundred asks for that pace), *p* = *q* = 0.05, *P* = 200 ms, *m* = 360, *a* = 0.1
//! and *b* = 0.25: *k* = 5 and *j* = 3, so 275 ms. Without loss and with *T* = 50 ms: *j* = 1, 250 ms.

use std::time::Duration;

/// Longer gaps are an outage, not loss.
const LONGEST_GAP: u64 = 20;
/// At this many packets, all counts are halved.
const MEMORY: f64 = 1024.0;
/// What is believed before the first packet: a little loss, as if so many had been seen.
const PRIOR: (f64, f64) = (0.2, 50.0);
/// Losses that must have been seen before runs of them outweigh the assumption of independence.
const PRIOR_RUNS: f64 = 8.0;

/// The loss of one direction of a path, from gaps in the numbers of what arrived.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    highest: Option<u64>,
    /// Of the last 64 numbers, the highest in the lowest bit.
    seen: u64,
    sent: f64,
    lost: f64,
    /// Runs of losses.
    runs: f64,
}

impl Loss {
    /// A packet of this number came. Packets that come late are no longer lost; copies do not count.
    /// Whether it was the first of its number.
    pub fn received(&mut self, seq: u64) -> bool {
        let Some(highest) = self.highest else {
            (self.highest, self.seen) = (Some(seq), 1);
            return true;
        };
        if seq > highest {
            self.ahead(seq - highest);
            self.highest = Some(seq);
            return true;
        }
        let behind = highest - seq;
        if behind >= 64 || self.seen & 1 << behind != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        self.lost = (self.lost - 1.0).max(0.0);
        self.runs = self.runs.min(self.lost);
        true
    }

    fn ahead(&mut self, by: u64) {
        self.seen = if by < 64 { self.seen << by | 1 } else { 1 };
        let gap = by - 1;
        if gap > LONGEST_GAP {
            return;
        }
        self.sent += by as f64;
        self.lost += gap as f64;
        self.runs += f64::from(u8::from(gap > 0));
        if self.sent >= MEMORY {
            self.sent /= 2.0;
            self.lost /= 2.0;
            self.runs /= 2.0;
        }
    }

    /// Probability that a packet is lost.
    pub fn rate(&self) -> f64 {
        ((self.lost + PRIOR.0) / (self.sent + PRIOR.1)).clamp(0.0, 0.95)
    }

    /// Probability that a packet is lost when the one before it was; never below [`Loss::rate`].
    pub fn run_on(&self) -> f64 {
        let rate = self.rate();
        let joined = (self.lost - self.runs).max(0.0);
        ((joined + PRIOR_RUNS * rate) / (self.lost + PRIOR_RUNS)).clamp(rate, 0.95)
    }
}

/// What silence is allowed to cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Longest pause of a server that is no death.
    pub pause: Duration,
    /// Pauses an hour.
    pub pauses: f64,
    /// Pauses an hour that may be taken for a death.
    pub by_pause: f64,
    /// Losses an hour that may.
    pub by_loss: f64,
    /// The most that is waited for the sake of pauses …
    pub most_for_pause: Duration,
    /// … and of losses.
    pub most_for_loss: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            pause: Duration::from_millis(200),
            pauses: 360.0,
            by_pause: 0.25,
            by_loss: 0.1,
            most_for_pause: Duration::from_millis(280),
            most_for_loss: Duration::from_secs(1),
        }
    }
}

impl Patience {
    /// How long nothing must be heard of a peer that sends every `period` before it counts as gone.
    pub fn bound(&self, loss: &Loss, period: Duration) -> Duration {
        let an_hour = 3600.0 / period.as_secs_f64().max(1e-3);
        let k = self.losses(loss, an_hour, self.by_loss);
        let j = self.losses(loss, self.pauses, self.by_pause);
        let for_loss = period.saturating_mul(k).min(self.most_for_loss);
        let for_pause = self
            .pause
            .saturating_add(period.saturating_mul(j))
            .min(self.most_for_pause.max(self.pause + period));
        for_loss.max(for_pause)
    }

    /// Packets in a row whose loss happens `allowed` times in `chances` at most; at least one.
    fn losses(&self, loss: &Loss, chances: f64, allowed: f64) -> u32 {
        let (p, q) = (loss.rate(), loss.run_on());
        let more = ((allowed / (chances * p)).ln() / q.ln()).ceil();
        // A float becomes the nearest whole number in range; negative means that one is enough.
        (more.max(0.0) as u32).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BRISK: Duration = Duration::from_millis(25);
    const STEADY: Duration = Duration::from_millis(50);

    fn losing(every: u64) -> Loss {
        let mut loss = Loss::default();
        (0..4000).filter(|seq| seq % every != 0).for_each(|seq| assert!(loss.received(seq)));
        loss
    }

    #[test]
    fn the_figures_of_the_derivation() {
        let ms = Duration::from_millis;
        let patience = Patience::default();
        assert_eq!(patience.bound(&losing(20), BRISK), ms(275));
        assert_eq!(patience.bound(&losing(u64::MAX), STEADY), ms(250));
        // Bursts make it longer, and so does heavy loss.
        let mut bursty = Loss::default();
        (0..4000u64).filter(|seq| seq % 100 >= 5).for_each(|seq| {
            bursty.received(seq);
        });
        assert!(bursty.run_on() > 0.65 && bursty.rate() < 0.07, "{bursty:?}");
        assert!(patience.bound(&bursty, BRISK) > ms(500));
        assert!((ms(300)..=ms(400)).contains(&patience.bound(&losing(3), BRISK)));
    }

    #[test]
    fn an_outage_is_no_loss_and_late_is_not_lost() {
        let mut loss = losing(u64::MAX);
        let before = loss.rate();
        assert!(loss.received(9000));
        assert_eq!(loss.rate(), before);
        assert!(loss.received(9003) && loss.rate() > before);
        assert!(loss.received(9002) && loss.received(9001) && loss.rate() < before * 1.1);
        assert!(!loss.received(9001) && !loss.received(9003) && !loss.received(8000));
    }

    proptest! {
        #[test]
        fn estimates_are_near_the_truth(percent in 0u64..40, seed: u64) {
            let mut loss = Loss::default();
            let drawn = |seq| crate::hash::mix(crate::hash::mix(seed) ^ seq) % 100 >= percent;
            (0..5000u64).filter(|seq| drawn(*seq)).for_each(|seq| { loss.received(seq); });
            prop_assert!((loss.rate() - percent as f64 / 100.0).abs() < 0.1, "{}", loss.rate());
            prop_assert!(loss.run_on() >= loss.rate());
        }

        #[test]
        fn any_numbers_give_a_bound(seqs in prop::collection::vec(0u64..3000, 0..300), period in 1u64..2000) {
            let mut loss = Loss::default();
            seqs.into_iter().for_each(|seq| { loss.received(seq); });
            let period = Duration::from_millis(period);
            let bound = Patience::default().bound(&loss, period);
            prop_assert!((0.0..=0.95).contains(&loss.rate()) && (0.0..=0.95).contains(&loss.run_on()));
            prop_assert!(bound >= Duration::from_millis(200).min(period) && bound <= Duration::from_secs(4));
        }
    }
}
