//! Tests of [`super`].

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn slot(n: u64) -> Slot {
    Slot(hash_of(b"slot", &[&n.to_be_bytes()]))
}

fn version(n: u64) -> Version {
    hash_of(b"version", &[&n.to_be_bytes()])
}

fn tree(items: impl IntoIterator<Item = (u64, u64)>) -> DigestTree {
    let mut tree = DigestTree::default();
    items.into_iter().for_each(|(s, v)| tree.insert(slot(s), version(v)));
    tree.refresh();
    tree
}

/// Brings `ours` in line with `theirs` as two stores would, and tells how many bytes were told, and how
/// many statements moved.
fn reconcile(ours: &mut DigestTree, theirs: &DigestTree) -> (usize, Vec<Slot>, Vec<Slot>) {
    let (mut bytes, mut fetched, mut offered) = (16, vec![], vec![]);
    let mut ask = if ours.root() == theirs.root() { vec![] } else { vec![Prefix::ROOT] };
    while let Some(prefix) = ask.pop() {
        let view = theirs.view(prefix);
        bytes += match &view {
            View::Inner(_) => 16 * 16,
            View::Leaf(items) => items.len() * 32,
        };
        let found = differences(ours, prefix, &view).unwrap();
        ask.extend(found.ask);
        fetched.extend(found.fetch);
        for part in found.take {
            fetched.extend(theirs.range(part, part.first(), usize::MAX).iter().map(|i| i.0));
        }
        offered.extend(found.offer);
    }
    for slot in &fetched {
        ours.insert(*slot, theirs.get(*slot).unwrap());
    }
    ours.refresh();
    (bytes, fetched, offered)
}

#[test]
fn equal_sets_cost_one_hash_and_others_what_differs() {
    let base: Vec<(u64, u64)> = (0..20_000).map(|n| (n, n)).collect();
    let theirs = tree(base.iter().copied());
    let mut ours = tree(base.iter().copied().rev());
    assert_eq!(ours.root(), theirs.root());
    let (bytes, fetched, offered) = reconcile(&mut ours, &theirs);
    assert_eq!((bytes, fetched.len(), offered.len()), (16, 0, 0));

    for d in [1u64, 10, 100] {
        let mut ours = tree(base.iter().map(|&(s, v)| if s < d { (s, v + 1_000_000) } else { (s, v) }));
        let (bytes, fetched, _) = reconcile(&mut ours, &theirs);
        assert_eq!(fetched.len() as u64, d);
        assert!(bytes as u64 <= d * 1800 + 300, "{bytes} bytes for {d} differences");
        assert_eq!(ours.root(), theirs.root());
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let ours = tree((0..100).map(|n| (n, n)));
    let part = Prefix::ROOT.child(3).unwrap();
    let outside = Slot([0xff; 16]);
    assert_eq!(differences(&ours, part, &View::Leaf(vec![(outside, EMPTY)])), None);
    let (a, b) = (Slot([0x31; 16]), Slot([0x32; 16]));
    assert_eq!(differences(&ours, part, &View::Leaf(vec![(b, EMPTY), (a, EMPTY)])), None);
    assert!(differences(&ours, part, &View::Leaf(vec![(a, EMPTY), (b, EMPTY)])).is_some());
    let deepest = (0..32).try_fold(Prefix::ROOT, |p, _| p.child(7)).unwrap();
    assert_eq!(deepest.child(0), None);
    assert_eq!(differences(&ours, deepest, &View::Inner(Box::new([EMPTY; 16]))), None);
    assert!(deepest.is_valid() && !Prefix { bits: [1; 16], nibbles: 3 }.is_valid());
    assert!(!Prefix { bits: EMPTY, nibbles: 33 }.is_valid());
}

/// Slots that share many nibbles, so that leaves and deep parts are common.
fn crowded() -> impl Strategy<Value = Slot> {
    (prop::collection::vec(0u8..2, 16), any::<u8>()).prop_map(|(bytes, last)| {
        let mut slot = [0; 16];
        slot.copy_from_slice(&bytes);
        slot[15] = last;
        Slot(slot)
    })
}

proptest! {
    #[test]
    fn the_tree_follows_from_the_set_alone(
        steps in prop::collection::vec((crowded(), prop::option::of(0u64..3)), 0..300),
    ) {
        let mut set = BTreeMap::new();
        let mut tree = DigestTree::default();
        for (slot, content) in steps {
            match content {
                Some(v) => { set.insert(slot, version(v)); tree.insert(slot, version(v)); }
                None => { set.remove(&slot); tree.remove(slot); }
            }
            if slot.0[15].is_multiple_of(3) { tree.refresh(); }
        }
        let mut fresh = DigestTree::default();
        set.iter().for_each(|(s, v)| fresh.insert(*s, *v));
        prop_assert_eq!(tree.root(), fresh.root());
        tree.refresh();
        prop_assert_eq!(tree.root(), fresh.root());
        prop_assert_eq!(tree.len(), set.len());
        let all: Vec<_> = set.into_iter().collect();
        prop_assert_eq!(tree.range(Prefix::ROOT, Slot(EMPTY), usize::MAX), all.clone());
        if let Some((middle, _)) = all.get(all.len() / 2) {
            let from: Vec<_> = all.iter().copied().filter(|i| i.0 >= *middle).take(5).collect();
            prop_assert_eq!(tree.range(Prefix::ROOT, *middle, 5), from);
        }
    }

    #[test]
    fn comparing_finds_exactly_what_differs(
        a in prop::collection::btree_map(crowded(), 0u64..3, 0..200),
        b in prop::collection::btree_map(crowded(), 0u64..3, 0..200),
    ) {
        let build = |set: &BTreeMap<Slot, u64>| {
            let mut tree = DigestTree::default();
            set.iter().for_each(|(s, v)| tree.insert(*s, version(*v)));
            tree.refresh();
            tree
        };
        let (mut ours, theirs) = (build(&a), build(&b));
        let (_, mut fetched, mut offered) = reconcile(&mut ours, &theirs);
        fetched.sort();
        offered.sort();
        let lacks = |x: &BTreeMap<Slot, u64>, y: &BTreeMap<Slot, u64>| -> Vec<Slot> {
            y.iter().filter(|(s, v)| x.get(s) != Some(v)).map(|(s, _)| *s).collect()
        };
        prop_assert_eq!(fetched, lacks(&a, &b));
        prop_assert_eq!(offered, lacks(&b, &a));
    }
}
