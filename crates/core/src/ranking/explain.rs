//! What people want to know of a choice beyond the choice itself; not for the query path.

use super::{Basis, Chooser, choose};
use crate::hash::{fnv1a, mix};
use crate::health::Family;
use crate::live::Live;
use crate::map::{RANKED, View};
use crate::registry::{DomainIndex, MirrorIndex, Registry, Strategy};
use arrayvec::ArrayVec;
use std::collections::BTreeMap;

/// Users that are too few to look for their mirror.
const NEXT_TO_NOBODY: f64 = 1e-4;

/// The ranking of a client as a number: equal where the same mirrors stand in the same order with the
/// same ties, on whichever broker.
pub fn list_id(registry: &Registry, domain: DomainIndex, view: &View<'_>) -> u32 {
    let start = registry.domain(domain).mirrors.start;
    let ranking = view.ranking();
    let line = |(place, slot): (usize, &u16)| {
        let name = &registry.mirror(MirrorIndex(start + u32::from(*slot))).name;
        // No name holds a zero byte, so two lists are equal only line by line.
        let ends = [0, ranking.ties(place) as u8];
        name.bytes().chain(ends).collect::<Vec<u8>>()
    };
    let lines = ranking.slots().iter().enumerate().flat_map(line);
    (mix(fnv1a(lines)) >> 32) as u32
}

/// How the users that have a client's ranking are shared out: for each mirror that gets some, the share
/// of their parts whose answer it leads. It follows from weights, offers and loads alone, so it is
/// what a part's own choice is one draw of. Where everyone is shared out among all mirrors, it
/// is the share of all such users. The shares add up to 1 unless there is nobody to answer with; for
/// users who are shared out among all, what loaded mirrors shed is divided among the others in
/// proportion.
pub fn spread_shares(
    registry: &Registry,
    live: &Live,
    domain: DomainIndex,
    view: &View<'_>,
    family: Family,
) -> BTreeMap<MirrorIndex, f64> {
    let choice = choose(registry, live, domain, view, family);
    let chooser = Chooser { registry, live, domain, view, family };
    let (basis, explores) = (choice.basis, choice.part.is_small());
    let mut shares = Shares { chooser, basis, explores, by_slot: BTreeMap::new() };
    match view.shared() {
        true => shares.share_out(),
        false => shares.spread(),
    }
    let Shares { chooser, by_slot, .. } = shares;
    let some = by_slot.into_iter().filter(|(_, share)| *share > 0.0);
    some.map(|(slot, share)| (chooser.mirror(slot), share)).collect()
}

/// Shares in the making.
struct Shares<'a, 'm> {
    chooser: Chooser<'a, 'm>,
    basis: Basis,
    /// Whether parts like the client's are small enough to try mirrors out on.
    explores: bool,
    by_slot: BTreeMap<usize, f64>,
}

impl Shares<'_, '_> {
    fn give(&mut self, slot: usize, share: f64) {
        *self.by_slot.entry(slot).or_default() += share;
    }

    fn usable(&self, slot: usize) -> bool {
        let Chooser { live, family, .. } = self.chooser;
        self.chooser.usable(slot, &|i| self.basis.admits(live.mirror(i), family))
    }

    /// The share of its parts that a mirror sheds.
    fn sheds(&self, slot: usize) -> f64 {
        f64::from(self.chooser.live.mirror(self.chooser.mirror(slot)).offer.shed) / f64::from(u16::MAX)
    }

    /// What a mirror weighs among equals.
    fn weight(&self, slot: usize) -> f64 {
        let mirror = self.chooser.mirror(slot);
        self.chooser.live.mirror(mirror).offer.weight(self.chooser.registry.mirror(mirror).weight)
    }

    /// All mirrors shed in one order of parts, so from one point of it where a mirror begins to take
    /// parts to the next the same mirrors take them.
    fn spread(&mut self) {
        let slots = self.chooser.view.ranking().slots().iter().enumerate();
        let usable: ArrayVec<(usize, usize), RANKED> =
            slots.map(|(place, slot)| (place, usize::from(*slot))).filter(|(_, s)| self.usable(*s)).collect();
        let mut points: ArrayVec<f64, RANKED> = usable.iter().map(|(_, slot)| self.sheds(*slot)).collect();
        points.sort_by(f64::total_cmp);
        let mut from = 0.0;
        for to in points.into_iter().chain([1.0]) {
            let taking: ArrayVec<(usize, usize), RANKED> =
                usable.iter().copied().filter(|(_, slot)| self.sheds(*slot) <= from).collect();
            if to > from {
                match taking.is_empty() {
                    true => self.beyond(&usable, from, to),
                    false => self.among(&taking, to - from),
                }
            }
            from = f64::max(from, to);
        }
    }

    /// Shares users out among mirrors that take them all.
    fn among(&mut self, taking: &[(usize, usize)], users: f64) {
        let view = self.chooser.view;
        let Some((first, leader)) = taking.first().copied() else { return };
        let mut users = users;
        let policy = self.chooser.policy();
        let balanced = policy.strategy == Strategy::Balanced;
        if let Some((_, tried)) = taking.iter().find(|(place, _)| Some(*place) == view.ranking().explore())
            && self.explores
        {
            let share = users * f64::from(policy.explore).clamp(0.0, 1.0);
            self.give(*tried, share);
            users -= share;
        }
        let end = first + view.ranking().ties(first);
        let equals = taking.iter().filter(|(place, _)| *place <= end && balanced);
        let weights: ArrayVec<(usize, f64), RANKED> = equals.map(|(_, s)| (*s, self.weight(*s))).collect();
        let sum: f64 = weights.iter().map(|(_, w)| w).sum();
        for (slot, weight) in &weights {
            self.give(*slot, users * weight / sum);
        }
        if weights.is_empty() {
            self.give(leader, users);
        }
    }

    /// The parts of these turns, which none of the ranking takes, go to the best mirror that takes them,
    /// else to the first.
    fn beyond(&mut self, usable: &[(usize, usize)], from: f64, to: f64) {
        let view = self.chooser.view;
        let mut to = to;
        let mut asked: Vec<usize> = usable.iter().map(|(_, slot)| *slot).collect();
        let first = asked.first().copied();
        while to - from > NEXT_TO_NOBODY {
            let Some(slot) = view.beyond(|slot| self.usable(slot) && !asked.contains(&slot)) else { break };
            let begins = self.sheds(slot).clamp(from, to);
            self.give(slot, to - begins);
            to = begins;
            asked.push(slot);
        }
        let last = first.or_else(|| view.beyond(|slot| self.usable(slot)));
        if let Some(slot) = last {
            self.give(slot, to - from);
        }
    }

    /// All mirrors by weight, those that are pinned before others.
    fn share_out(&mut self) {
        let view = self.chooser.view;
        let usable: Vec<usize> =
            (0..view.set().len()).filter(|slot| self.usable(*slot) && !view.excludes(*slot)).collect();
        let pinned: Vec<usize> = usable.iter().copied().filter(|slot| view.pins(*slot)).collect();
        let takers = if pinned.is_empty() { usable } else { pinned };
        let weight =
            |slot: usize| f64::from(self.chooser.registry.mirror(self.chooser.mirror(slot)).weight.max(1));
        let weighed: Vec<(usize, f64, f64)> =
            takers.into_iter().map(|slot| (slot, weight(slot), self.sheds(slot))).collect();
        let all: f64 = weighed.iter().map(|(_, w, _)| w).sum();
        let room: f64 = weighed.iter().map(|(_, w, shed)| w * (1.0 - shed)).sum();
        for (slot, weight, shed) in &weighed {
            self.give(*slot, weight / all * (1.0 - shed));
            let others = room - weight * (1.0 - shed);
            for (other, w, s) in weighed.iter().filter(|(other, ..)| *shed > 0.0 && other != slot) {
                self.give(*other, weight / all * shed * w * (1.0 - s) / others.max(f64::MIN_POSITIVE));
            }
            if others <= 0.0 {
                self.give(*slot, weight / all * shed);
            }
        }
    }
}
