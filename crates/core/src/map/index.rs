//! Finding the mirrors that may be near among thousands.
//!
//! What a ranking of all mirrors would put first is among few: those first in the lists of the hubs
//! nearest to the client, as routes go through those; the nearest by great circle and the ones around
//! it, as short routes go directly; and those that somebody like the client measured. So the time to
//! rank does not grow with the number of mirrors.

use super::set::Member;
use crate::rtt::routes::HUBS;
use crate::rtt::{Client, Model};
use arrayvec::ArrayVec;
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use std::collections::HashMap;
use std::num::NonZero;

/// Mirrors in the list of each hub.
const PER_HUB: usize = 16;
/// Mirrors around each mirror.
const AROUND: usize = 16;
/// Mirrors that somebody like the client measured, at most.
const MEASURED: usize = 16;
/// Slots that are remembered so that none is offered twice; as many as there are, as a rule.
const CANDIDATES: usize = 128;

type Tree = ImmutableKdTree<f32, 3>;

/// Of one set of mirrors and one model.
pub(super) struct Index {
    /// Over unit vectors, so that poles and the date line are nowhere.
    tree: Option<Tree>,
    /// The slot of each point of the tree.
    slots: Vec<u16>,
    /// Beside `slots`: the nearest others.
    around: Vec<ArrayVec<u16, AROUND>>,
    /// Of each hub, the first mirrors as seen from it.
    hubs: Vec<ArrayVec<u16, PER_HUB>>,
    by_target: HashMap<u32, u16>,
}

impl Index {
    pub(super) fn new(members: &[Member], model: &Model) -> Index {
        let placed = members.iter().zip(0..).filter_map(|(m, slot)| Some((m.site.position()?.unit(), slot)));
        let (points, slots): (Vec<[f32; 3]>, Vec<u16>) = placed.unzip();
        let tree = Tree::new_from_slice(&points).ok().filter(|_| !points.is_empty());
        let around = match &tree {
            Some(tree) => points.iter().map(|p| nearest(tree, p, &slots)).collect(),
            None => Vec::new(),
        };
        let target = |(m, slot): (&Member, u16)| Some((m.site.target()?, slot));
        Index {
            tree,
            slots,
            around,
            hubs: (0..HUBS).map(|hub| first(members, model, hub)).collect(),
            by_target: members.iter().zip(0..).filter_map(target).collect(),
        }
    }

    /// Calls `take` with every slot that may be among the first for a client.
    pub(super) fn candidates(&self, client: &Client<'_>, mut offer: impl FnMut(u16)) {
        // Lists of hubs near each other hold the same mirrors, and a prediction costs more than a look
        // at what was taken.
        let mut taken: ArrayVec<u16, CANDIDATES> = ArrayVec::new();
        let mut take = |slot: u16| {
            if taken.try_push(slot).is_err() {
                offer(slot);
            }
        };
        if let Some(access) = client.access() {
            for hub in access.hubs() {
                self.hubs.get(hub).into_iter().flatten().for_each(|slot| take(*slot));
            }
        }
        if let (Some(tree), Some(position)) = (&self.tree, client.position()) {
            let nearest = tree.query(&position.unit()).nearest_one::<SquaredEuclidean<f32>>().execute();
            let at = nearest.item as usize;
            self.slots.get(at).into_iter().for_each(|slot| take(*slot));
            self.around.get(at).into_iter().flatten().for_each(|slot| take(*slot));
        }
        let known = client.measured().chain(client.corrected().take(MEASURED));
        known.filter_map(|target| self.by_target.get(&target)).for_each(|slot| take(*slot));
        taken.sort_unstable();
        let mut last = None;
        taken.iter().filter(|slot| last.replace(**slot) != Some(**slot)).for_each(|slot| offer(*slot));
    }
}

/// The nearest mirrors around a point of the tree, itself among them.
fn nearest(tree: &Tree, point: &[f32; 3], slots: &[u16]) -> ArrayVec<u16, AROUND> {
    // A constant: were it zero, this would not compile.
    const N: NonZero<usize> = NonZero::new(AROUND).unwrap();
    let found = tree.query(point).nearest_n::<SquaredEuclidean<f32>>(N).execute();
    found.iter().filter_map(|f| slots.get(f.item as usize).copied()).take(AROUND).collect()
}

/// The first mirrors as seen from a hub.
fn first(members: &[Member], model: &Model, hub: usize) -> ArrayVec<u16, PER_HUB> {
    let mut best: ArrayVec<(f32, u16), PER_HUB> = ArrayVec::new();
    for (member, slot) in members.iter().zip(0..) {
        let point = model.seen_from_hub(&member.site, hub);
        let at = best.partition_point(|b| b.0 <= point);
        if at < PER_HUB {
            best.truncate(PER_HUB - usize::from(best.is_full()));
            best.insert(at, (point, slot));
        }
    }
    best.into_iter().map(|(_, slot)| slot).collect()
}
