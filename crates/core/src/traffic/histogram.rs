//! Round trips of users, coarse: buckets whose bounds grow by a quarter, from half a millisecond to a little
//! more than a second.

/// Buckets.
const BUCKETS: usize = 36;
/// Upper bound of the first, in milliseconds.
const FIRST_MS: f32 = 0.5;
/// Each bound is so many times the one before.
const GROWTH: f32 = 1.25;

/// Users by round trip.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram([f32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0.0; BUCKETS])
    }
}

/// What half of the users, and nearly all of them, are nearer than.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// The median, in milliseconds.
    pub p50_ms: f32,
    /// 95 % are nearer, in milliseconds.
    pub p95_ms: f32,
}

fn upper(bucket: usize) -> f32 {
    FIRST_MS * GROWTH.powi(i32::try_from(bucket).unwrap_or(i32::MAX))
}

impl Histogram {
    /// So many users have a round trip of `rtt_ms`. What is no time is left out.
    pub fn add(&mut self, rtt_ms: f32, users: f32) {
        if !rtt_ms.is_finite() || rtt_ms < 0.0 {
            return;
        }
        let above = (rtt_ms / FIRST_MS).max(1.0).ln() / GROWTH.ln();
        // The cast saturates.
        self.0[(above.ceil() as usize).min(BUCKETS - 1)] += users;
    }

    /// Adds another's users.
    pub fn merge(&mut self, other: &Histogram) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// `None` without users.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let all: f32 = self.0.iter().sum();
        (all > 0.0).then(|| Quantiles { p50_ms: self.at(all * 0.5), p95_ms: self.at(all * 0.95) })
    }

    /// The round trip that so many users are within, by even division of a bucket.
    fn at(&self, users: f32) -> f32 {
        let mut before = 0.0;
        for (bucket, here) in self.0.iter().enumerate() {
            if *here > 0.0 && before + here >= users {
                let lower = if bucket == 0 { 0.0 } else { upper(bucket - 1) };
                return lower + (upper(bucket) - lower) * ((users - before) / here).clamp(0.0, 1.0);
            }
            before += here;
        }
        upper(BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_nobody_there_is_no_median() {
        let mut none = Histogram::default();
        assert_eq!(none.quantiles(), None);
        [f32::NAN, f32::INFINITY, -1.0].into_iter().for_each(|rtt| none.add(rtt, 5.0));
        assert_eq!(none.quantiles(), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_bucket_of_the_exact_ones(mut rtts in prop::collection::vec(0.1_f32..1000.0, 1..200)) {
            let mut histogram = Histogram::default();
            rtts.iter().for_each(|rtt| histogram.add(*rtt, 1.0));
            rtts.sort_by(f32::total_cmp);
            let exact = |q: f32| rtts[((rtts.len() as f32 * q).ceil() as usize).clamp(1, rtts.len()) - 1];
            let seen = histogram.quantiles().unwrap();
            for (seen, exact) in [(seen.p50_ms, exact(0.5)), (seen.p95_ms, exact(0.95))] {
                prop_assert!(seen <= (exact * GROWTH * 1.001).max(FIRST_MS) && seen * GROWTH * 1.001 >= exact.min(upper(0)) , "{seen} {exact}");
                prop_assert!(exact < FIRST_MS || seen * GROWTH * 1.001 >= exact, "{seen} {exact}");
            }
        }

        #[test]
        fn merging_is_adding_all(a in prop::collection::vec((0.1_f32..2000.0, 1_u8..9), 0..50), b in prop::collection::vec((0.1_f32..2000.0, 1_u8..9), 0..50)) {
            let of = |list: &[(f32, u8)]| {
                let mut h = Histogram::default();
                list.iter().for_each(|(rtt, users)| h.add(*rtt, f32::from(*users)));
                h
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
