//! What was acknowledged, and so what must stand in the end.

use super::broker::Broker;
use nearmost_replica::authority::Authority;
use nearmost_replica::digest::Slot;
use nearmost_replica::merge;
use nearmost_replica::set::{Tree, slot_of_record};
use nearmost_replica::{RecordKey, SignedRecord};
use std::collections::BTreeMap;

/// Every acknowledged write that is not known to be lost with the only disk that had it.
#[derive(Default)]
pub struct Oracle {
    greatest: BTreeMap<Slot, SignedRecord>,
    /// The highest statement that each broker has shown in each slot.
    shown: BTreeMap<(usize, Slot), SignedRecord>,
}

impl Oracle {
    /// A write was acknowledged.
    pub fn acknowledged(&mut self, signed: &SignedRecord) {
        let known = self.greatest.entry(slot_of_record(signed.record())).or_insert_with(|| signed.clone());
        if merge::order(signed, known).is_gt() {
            *known = signed.clone();
        }
    }

    /// A disk was lost or set back: what no disk has any more nobody can be asked for.
    pub fn disk_lost<A: Authority>(&mut self, brokers: &[Broker<A>], now_unix_ms: u64) {
        let mut left: BTreeMap<Slot, SignedRecord> = BTreeMap::new();
        for signed in brokers.iter().flat_map(|b| b.disk.statements.values()) {
            let slot = slot_of_record(signed.record());
            match left.get(&slot) {
                Some(known) if !merge::order(signed, known).is_gt() => {}
                _ => drop(left.insert(slot, signed.clone())),
            }
        }
        self.greatest = std::mem::take(&mut self.greatest)
            .into_iter()
            .filter_map(|(slot, signed)| match left.get(&slot) {
                Some(known) if merge::order(known, &signed).is_lt() => Some((slot, known.clone())),
                Some(_) => Some((slot, signed)),
                // Collected, else nowhere.
                None => merge::is_collectable(signed.record(), now_unix_ms).then_some((slot, signed)),
            })
            .collect();
    }

    /// Forgets what a broker has shown: its disk is another now.
    pub fn forget(&mut self, broker: usize) {
        self.shown.retain(|(b, _), _| *b != broker);
    }

    /// Within one life of its disk a broker never goes back to an earlier statement, unless the later one counts
    /// no longer.
    pub fn check_monotone<A: Authority>(&mut self, index: usize, broker: &Broker<A>, slot: Slot) {
        let Some(set) = broker.running.as_ref().map(|r| &r.set) else { return };
        let Some(signed) = set.get(slot) else { return };
        let before = self.shown.get(&(index, slot));
        if let Some(before) = before.filter(|before| set.authority().admits(before.record()).is_admitted()) {
            assert!(
                !merge::order(signed, before).is_lt(),
                "broker {index} went back from {before:?} to {signed:?}"
            );
        }
        self.shown.insert((index, slot), signed.clone());
    }

    /// Whether all that run hold the same.
    pub fn is_equal<A: Authority>(brokers: &[Broker<A>]) -> bool {
        let running = || brokers.iter().filter_map(|b| b.running.as_ref());
        let roots = |tree| running().map(move |r| r.set.tree(tree).root());
        [Tree::Rights, Tree::Rest].into_iter().all(|tree| {
            let first = roots(tree).next();
            roots(tree).all(|root| Some(root) == first)
        })
    }

    /// Everybody holds what was acknowledged, and the same.
    pub fn check_converged<A: Authority>(&self, brokers: &[Broker<A>], now_unix_ms: u64) {
        let running: Vec<_> = brokers.iter().filter_map(|b| b.running.as_ref()).collect();
        let root = |i: usize, tree| running[i].set.tree(tree).root();
        for i in 1..running.len() {
            for tree in [Tree::Rights, Tree::Rest] {
                if root(i, tree) != root(0, tree) {
                    let only = |a: usize, b: usize| {
                        let lacks =
                            |s: &&SignedRecord| running[b].set.get(slot_of_record(s.record())) != Some(*s);
                        running[a].set.statements().filter(lacks).cloned().collect::<Vec<_>>()
                    };
                    for signed in only(0, i).iter().chain(&only(i, 0)) {
                        let key = signed.record().key();
                        for b in [0, i] {
                            let grave = brokers[b].disk.graves.get(&key);
                            eprintln!("{key}: the grave at {b} is {grave:?}");
                        }
                    }
                    panic!(
                        "brokers 0 and {i} differ in {tree:?}: {:#?} against {:#?}",
                        only(0, i),
                        only(i, 0)
                    );
                }
            }
        }
        // What its author may not say any more is not to be seen, whoever acknowledged it.
        let counts = |signed: &SignedRecord| {
            let set = &running[0].set;
            set.authority().admits(signed.record()).is_admitted()
                && set.authority().in_force(signed.record(), now_unix_ms)
        };
        let expected = self.expected(counts);
        for (i, broker) in running.iter().enumerate() {
            let held: BTreeMap<RecordKey, SignedRecord> =
                broker.set.all_visible(now_unix_ms).map(|(k, s)| (k.clone(), s.clone())).collect();
            for (key, wanted) in &expected {
                let is_dead = merge::is_collectable(wanted.record(), now_unix_ms);
                match held.get(key) {
                    Some(found) => assert!(
                        !merge::order(found, wanted).is_lt(),
                        "broker {i} shows {found:?}, acknowledged was {wanted:?}"
                    ),
                    None => assert!(is_dead, "broker {i} lacks {wanted:?}"),
                }
            }
            for (key, found) in &held {
                if let Some(wanted) = expected.get(key)
                    && wanted.record().is_tombstone()
                {
                    assert!(found.record().is_tombstone(), "broker {i}: {found:?} is back after {wanted:?}");
                }
            }
        }
    }

    fn expected(&self, counts: impl Fn(&SignedRecord) -> bool) -> BTreeMap<RecordKey, SignedRecord> {
        let mut expected: BTreeMap<RecordKey, SignedRecord> = BTreeMap::new();
        for signed in self.greatest.values().filter(|s| counts(s)) {
            match expected.get(&signed.record().key()) {
                Some(known) if !merge::order(signed, known).is_gt() => {}
                _ => drop(expected.insert(signed.record().key(), signed.clone())),
            }
        }
        expected
    }
}
