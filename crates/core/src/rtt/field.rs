//! What is learned of a target region by region.
//!
//! Each observer of a target (a client network, or another node that probed it) votes in its region,
//! the hub nearest to it, with the residual of what it measured against the line. In each region the
//! field is the weighted mean of all votes, near ones counting more, `exp(-distance / 2 350 km)`,
//! times how sure that makes us, `1 - Π (1 - exp(-distance / 2 350 km))` over the votes: from an
//! ocean away many votes are worth little more than one.
//!
//! **No single observer moves anything by itself.** Of all the means that leave one observer out, the
//! most cautious counts: the one nearest to no difference, and none where two of them disagree about
//! the direction. So an observer that speaks alone changes nothing, and one that lies can at most
//! undo what others say, never go beyond it. Where three or more observers of one region voted, their
//! median stands for them.

use super::routes::{HUBS, Routes};

/// How far a vote is heard, in kilometres.
const REACH_KM: f32 = 2350.0;
/// What the line weighs against the votes: keeps a mean of next to nothing from counting.
const LINE_WEIGHT: f32 = 0.03;
/// Votes of one region from which on their median stands for them.
const MEDIAN_FROM: usize = 3;
/// The most weight that the voters of one region have together: they share a way out.
const MOST_WEIGHT: f32 = 8.0;

/// What one observer measured of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    /// Where the observer is.
    pub(super) region: u8,
    /// Measured less predicted by the line, on the scale.
    pub(super) residual: f32,
    /// 1 when fresh, less with age.
    pub(super) weight: f32,
}

/// One target as seen from every region.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    /// What to add to the line's prediction, on the scale.
    residual: [f32; HUBS],
    /// How sure that is, 0..1.
    share: [f32; HUBS],
}

impl Field {
    /// What to add in a region, on the scale.
    pub(super) fn residual(&self, region: usize) -> f32 {
        self.residual.get(region).copied().unwrap_or(0.0)
    }

    /// The votes' share in a region's prediction, against the line's, 0..1.
    pub(super) fn share(&self, region: usize) -> f32 {
        self.share.get(region).copied().unwrap_or(0.0)
    }
}

/// How well each region hears each other.
#[derive(Debug)]
pub(super) struct Kernel(Vec<f32>);

impl Kernel {
    /// From the distances between hubs.
    pub(super) fn new(routes: &Routes) -> Kernel {
        let pairs = (0..HUBS).flat_map(|a| (0..HUBS).map(move |b| (a, b)));
        Kernel(pairs.map(|(a, b)| (-routes.apart_km(a, b) / REACH_KM).exp()).collect())
    }

    fn between(&self, a: usize, b: usize) -> f32 {
        self.0.get(a * HUBS + b).copied().unwrap_or(0.0)
    }

    /// The field of the votes; `None` without any.
    pub(super) fn field(&self, votes: &mut [Vote]) -> Option<Field> {
        if votes.is_empty() {
            return None;
        }
        let voices = voices(votes);
        let mut field = Field { residual: [0.0; HUBS], share: [0.0; HUBS] };
        for region in 0..HUBS {
            (field.residual[region], field.share[region]) = self.heard(&voices, region);
        }
        Some(field)
    }

    /// The most cautious residual in a region, and how sure it is.
    fn heard(&self, voices: &[Voice], region: usize) -> (f32, f32) {
        let near = |v: &Voice| self.between(region, usize::from(v.region));
        let [mut sum, mut total, mut doubt] = [0.0, 0.0, 1.0];
        for v in voices {
            sum += near(v) * v.weight * v.residual;
            total += near(v) * v.weight;
            doubt *= 1.0 - near(v) * v.weight.min(1.0);
        }
        let mean = |sum: f32, weight: f32| sum / (weight.max(0.0) + LINE_WEIGHT);
        let (mut low, mut high, mut weight) = (mean(sum, total), mean(sum, total), total);
        for v in voices.iter().filter(|v| v.single) {
            let w = near(v) * v.weight;
            let without = mean(sum - w * v.residual, total - w);
            (low, high, weight) = (low.min(without), high.max(without), weight.min(total - w));
        }
        let cautious = match (low, high) {
            (low, _) if low > 0.0 => low,
            (_, high) if high < 0.0 => high,
            _ => 0.0,
        };
        let sure = (1.0 - doubt).clamp(0.0, 1.0);
        (cautious * sure, sure * weight.max(0.0) / (weight.max(0.0) + LINE_WEIGHT))
    }
}

/// One observer, or the median of several of one region.
struct Voice {
    region: u8,
    residual: f32,
    weight: f32,
    single: bool,
}

fn voices(votes: &mut [Vote]) -> Vec<Voice> {
    votes.sort_by(|a, b| a.region.cmp(&b.region).then(a.residual.total_cmp(&b.residual)));
    let mut voices = Vec::new();
    for votes in votes.chunk_by(|a, b| a.region == b.region) {
        if let [first, .., _] = votes
            && votes.len() >= MEDIAN_FROM
        {
            let weight = votes.iter().map(|v| v.weight).sum::<f32>().min(MOST_WEIGHT);
            voices.push(Voice { region: first.region, residual: median(votes), weight, single: false });
        } else {
            let single =
                |v: &Vote| Voice { region: v.region, residual: v.residual, weight: v.weight, single: true };
            voices.extend(votes.iter().map(single));
        }
    }
    voices
}

/// Of votes in ascending order.
fn median(votes: &[Vote]) -> f32 {
    let (low, high) = (votes.get((votes.len() - 1) / 2), votes.get(votes.len() / 2));
    low.zip(high).map_or(0.0, |(a, b)| (a.residual + b.residual) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtt::routes::Hub;
    use proptest::prelude::*;

    fn vote(region: u8, residual: f32) -> Vote {
        Vote { region, residual, weight: 1.0 }
    }

    fn field(votes: &[Vote]) -> Option<Field> {
        Kernel::new(&Routes::new()).field(&mut votes.to_vec())
    }

    #[test]
    fn two_observers_are_heard_near_them_and_hardly_far_away() {
        let london = Hub::London as u8;
        let field = field(&[vote(london, 0.5), vote(london, 0.4)]).unwrap();
        let at = |hub: Hub| field.residual(hub as usize);
        assert!(
            at(Hub::London) > 0.3 && at(Hub::Amsterdam) > 0.3,
            "{} {}",
            at(Hub::London),
            at(Hub::Amsterdam)
        );
        assert!(at(Hub::Sydney) < 0.01);
        assert!(field.share(Hub::London as usize) > 0.8);
    }

    proptest! {
        /// Whoever speaks alone moves nothing.
        #[test]
        fn one_observer_moves_nothing(region in 0..HUBS as u8, residual in -3.0f32..3.0) {
            let field = field(&[vote(region, residual)]).unwrap();
            prop_assert!((0..HUBS).all(|r| field.residual(r).abs() < 1e-4 && field.share(r) < 1e-4));
        }

        /// A liar among honest observers moves no prediction beyond what they say without it.
        #[test]
        fn a_liar_goes_beyond_nobody(
            honest in proptest::collection::vec((0..HUBS as u8, 0.1f32..0.5), 2..30), liar in 0..HUBS as u8, lie in -3.0f32..3.0,
        ) {
            let mut with: Vec<Vote> = honest.iter().map(|(r, v)| vote(*r, *v)).collect();
            let most = honest.iter().map(|h| h.1).fold(0.0, f32::max);
            with.push(vote(liar, lie));
            let field = field(&with).unwrap();
            for region in 0..HUBS {
                let r = field.residual(region);
                prop_assert!((-1e-4..=most + 1e-4).contains(&r), "{} in region {}", r, region);
            }
        }
    }

    #[test]
    fn nobody_says_nothing() {
        assert_eq!(field(&[]), None);
    }
}
