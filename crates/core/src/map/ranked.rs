//! The first few mirrors for everyone in a cell.

use arrayvec::ArrayVec;

/// Mirrors that a ranking holds; when none of them is eligible, the others are looked at one by one.
pub const RANKED: usize = 8;

/// The first mirrors of a set, in order, by their slots in it. Equal rankings give equal answers,
/// whichever mirrors are up, so neighbouring prefixes of equal rankings are one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ranking {
    len: u8,
    slots: [u16; RANKED],
    /// How many of those after it are as good as each: within its tie band.
    ties: [u8; RANKED],
    /// Place of the mirror worth a try, though it is not predicted to be the first; 0 for none.
    explore: u8,
}

/// One mirror on its way into a ranking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    /// Before anything else: pins, then the order of a failover list.
    pub(super) class: u16,
    /// The predicted round trip on the scale.
    pub(super) point: f32,
    pub(super) slot: u16,
}

impl Contender {
    pub(super) fn before(&self, other: &Contender) -> bool {
        let by_round_trip = || self.point.total_cmp(&other.point).then(self.slot.cmp(&other.slot));
        self.class.cmp(&other.class).then_with(by_round_trip).is_lt()
    }
}

/// The best contenders so far, best first.
#[derive(Clone, Debug, Default)]
pub(super) struct Podium(pub(super) ArrayVec<Contender, RANKED>);

impl Podium {
    /// Takes a contender in if it is among the best and not there yet.
    pub(super) fn offer(&mut self, contender: Contender) {
        let at = self.0.partition_point(|c| c.before(&contender));
        if at >= RANKED || self.0.get(at).is_some_and(|c| c.slot == contender.slot) {
            return;
        }
        self.0.truncate(RANKED - usize::from(self.0.is_full()));
        self.0.insert(at, contender);
    }
}

impl Podium {
    /// Appends slots that are in order already, as far as there is room; their places stand for
    /// round trips.
    pub(super) fn extend(&mut self, class: u16, slots: &[u16]) {
        for slot in slots {
            let _ = self.0.try_push(Contender { class, point: self.0.len() as f32, slot: *slot });
        }
    }
}

impl Ranking {
    /// From the best contenders; `ties` tells how many of those after each are as good as it.
    pub(super) fn new(podium: &Podium, ties: impl Fn(usize) -> u8, explore: Option<usize>) -> Ranking {
        let mut ranking = Ranking::default();
        for (at, contender) in podium.0.iter().enumerate() {
            ranking.slots[at] = contender.slot;
            ranking.ties[at] = ties(at);
            ranking.len += 1;
        }
        // Fewer than a byte holds.
        ranking.explore = explore.unwrap_or(0) as u8;
        ranking
    }

    /// Slots in order.
    pub fn slots(&self) -> &[u16] {
        &self.slots[..usize::from(self.len)]
    }

    /// Places after a place whose mirrors are as good as its own.
    pub fn ties(&self, at: usize) -> usize {
        self.ties.get(at).copied().unwrap_or(0).into()
    }

    /// The place of the mirror worth a try.
    pub fn explore(&self) -> Option<usize> {
        (self.explore > 0).then_some(self.explore.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stand_in_order_once() {
        let mut podium = Podium::default();
        for (class, point, slot) in
            [(1, 3.0, 7), (1, 1.0, 3), (0, 9.0, 5), (1, 1.0, 2), (1, 3.0, 7), (1, 1.0, 3), (0, 9.0, 5)]
        {
            podium.offer(Contender { class, point, slot });
        }
        for slot in 20..40u16 {
            podium.offer(Contender { class: 2, point: f32::from(slot), slot });
        }
        let ranking = Ranking::new(&podium, |_| 0, None);
        assert_eq!(ranking.slots(), [5, 2, 3, 7, 20, 21, 22, 23]);
    }
}
