//! Sharing users out among all mirrors, wherever they are: clients of unknown position, and domains
//! whose policy is `weighted`.
//!
//! Few mirrors: weighted rendezvous over the cell (Thaler and Ravishankar 1998; weights after
//! Schindelhauer and Schomaker 2005). Many: a hash ring with points in proportion to weight (Karger
//! et al. 1997), which costs the same for ten thousand as for a hundred. Either way each mirror gets
//! its weight's share of the cells, every broker chooses alike, and a mirror that comes or goes moves
//! its own share only.

use super::ranked::RANKED;
use crate::hash::{mix, unit};
use arrayvec::ArrayVec;

/// Up to so many mirrors each is scored.
const SCORED: usize = 64;
/// Points on the ring of a mirror of mean weight.
const POINTS: f64 = 64.0;
/// Most points of one mirror.
const MOST_POINTS: f64 = 4096.0;

/// How much a mirror claims a cell: the greatest score has it. Positive and finite.
pub(crate) fn score(cell: u64, mirror: u64, weight: f64) -> f64 {
    -weight / unit(mix(cell ^ mirror)).ln()
}

/// Shares of a set of mirrors.
#[derive(Debug)]
pub(super) enum Shares {
    /// Hash and weight of each.
    Scored(Vec<(u64, f64)>),
    /// Points in ascending order, and the slot of each.
    Ring(Vec<(u64, u16)>),
}

impl Shares {
    /// Of mirrors' hashes and weights.
    pub(super) fn new(mirrors: &[(u64, u32)]) -> Shares {
        let weight = |w: u32| f64::from(w.max(1));
        if mirrors.len() <= SCORED {
            return Shares::Scored(mirrors.iter().map(|(h, w)| (*h, weight(*w))).collect());
        }
        let mean = mirrors.iter().map(|(_, w)| weight(*w)).sum::<f64>() / mirrors.len() as f64;
        let mut ring = Vec::new();
        for ((hash, w), slot) in mirrors.iter().zip(0..=u16::MAX) {
            let points = (weight(*w) / mean * POINTS).round().clamp(1.0, MOST_POINTS) as u64;
            ring.extend((1..=points).map(|p| (mix(hash.wrapping_add(mix(p))), slot)));
        }
        ring.sort_unstable();
        Shares::Ring(ring)
    }

    /// The first mirrors of a cell, of those that `wanted` admits.
    pub(super) fn first(&self, cell: u64, wanted: impl Fn(u16) -> bool) -> ArrayVec<u16, RANKED> {
        match self {
            Shares::Scored(mirrors) => scored(mirrors, cell, wanted),
            Shares::Ring(ring) => around(ring, mix(cell), wanted),
        }
    }
}

fn scored(mirrors: &[(u64, f64)], cell: u64, wanted: impl Fn(u16) -> bool) -> ArrayVec<u16, RANKED> {
    let mut best: ArrayVec<(f64, u16), RANKED> = ArrayVec::new();
    for ((hash, weight), slot) in mirrors.iter().zip(0..=u16::MAX).filter(|(_, slot)| wanted(*slot)) {
        let score = score(cell, *hash, *weight);
        // Equal scores stay in the order of slots.
        let at = best.partition_point(|b| b.0 >= score);
        if at < RANKED {
            best.truncate(RANKED - usize::from(best.is_full()));
            best.insert(at, (score, slot));
        }
    }
    best.into_iter().map(|(_, slot)| slot).collect()
}

/// The distinct mirrors met when walking the ring once around from a point.
fn around(ring: &[(u64, u16)], from: u64, wanted: impl Fn(u16) -> bool) -> ArrayVec<u16, RANKED> {
    let start = ring.partition_point(|(point, _)| *point < from);
    let mut found: ArrayVec<u16, RANKED> = ArrayVec::new();
    for (_, slot) in ring[start..].iter().chain(&ring[..start]) {
        if !found.contains(slot) && wanted(*slot) && found.try_push(*slot).is_ok() && found.is_full() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_of_name;

    fn mirrors(n: usize, weight: impl Fn(usize) -> u32) -> Vec<(u64, u32)> {
        (0..n).map(|i| (hash_of_name(&format!("m{i}")), weight(i))).collect()
    }

    fn firsts(shares: &Shares, cells: u64) -> Vec<u16> {
        (0..cells).map(|c| shares.first(mix(c), |_| true)[0]).collect()
    }

    #[test]
    fn each_gets_its_weight_s_share_and_only_that_moves() {
        for n in [20, 200] {
            let all = mirrors(n, |i| if i == 0 { 300 } else { 100 });
            let cells = 40_000;
            let before = firsts(&Shares::new(&all), cells);
            let count = |slot| before.iter().filter(|s| **s == slot).count() as f64;
            let mean = cells as f64 / (n as f64 + 2.0);
            assert!((count(0) / mean - 3.0).abs() < 0.6, "{n}: {}", count(0) / mean);
            assert!((1..n as u16).all(|s| (0.5..1.7).contains(&(count(s) / mean))), "{n}");
            let after = firsts(&Shares::new(&all[..n - 1]), cells);
            let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
            assert!(moved.clone().all(|(b, _)| *b == n as u16 - 1), "{n}: only the lost mirror's cells move");
        }
    }

    #[test]
    fn the_first_are_distinct_and_wanted() {
        for n in [3, 20, 200] {
            let shares = Shares::new(&mirrors(n, |_| 1));
            for cell in 0..200 {
                let first = shares.first(cell, |slot| slot % 3 != 1);
                let mut sorted = first.clone();
                sorted.sort_unstable();
                assert!(sorted.windows(2).all(|w| w[0] != w[1]) && first.iter().all(|s| s % 3 != 1));
                assert_eq!(first.len(), RANKED.min(n - n.div_ceil(3)), "{n}");
            }
        }
    }
}
