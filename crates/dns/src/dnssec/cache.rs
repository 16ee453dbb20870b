//! Signatures made before.
//!
//! Two halves a shard: what is found in the old half moves to the new one, and when the new half is full
//! it becomes the old one, whose contents are dropped. So what is asked for stays, what is not goes, and
//! nothing is walked through. A signature of a window that is over is not asked for any more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Shards: threads rarely meet in one.
const SHARDS: usize = 16;

/// Names a signature: hash of what is signed, and the beginning of the public key.
pub(super) type Key = ([u8; 32], [u8; 8]);

/// A bounded map of signatures.
#[derive(Debug)]
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    /// Most signatures of one half.
    half: usize,
}

#[derive(Debug, Default)]
struct Shard {
    new: HashMap<Key, [u8; 64]>,
    old: HashMap<Key, [u8; 64]>,
}

impl Cache {
    /// Holds about that many signatures.
    pub(super) fn new(size: usize) -> Cache {
        Cache { shards: Default::default(), half: (size / SHARDS / 2).max(1) }
    }

    /// The signature of this name, else the one that is made now. Nothing is locked meanwhile.
    pub(super) fn get_or(&self, key: Key, make: impl FnOnce() -> Option<[u8; 64]>) -> Option<[u8; 64]> {
        let shard = &self.shards[usize::from(key.0[0]) % SHARDS];
        // A map is as good after a panic elsewhere as before.
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut shard = lock();
            if let Some(known) = shard.new.get(&key) {
                return Some(*known);
            }
            if let Some(known) = shard.old.remove(&key) {
                shard.put(key, known, self.half);
                return Some(known);
            }
        }
        let made = make()?;
        lock().put(key, made, self.half);
        Some(made)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.new.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }
}

impl Shard {
    fn put(&mut self, key: Key, signature: [u8; 64], half: usize) {
        if self.new.len() >= half {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, signature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        (hash, [0; 8])
    }

    #[test]
    fn what_is_known_is_not_made_again() {
        let cache = Cache::new(1000);
        assert_eq!(cache.get_or(key(1), || Some([1; 64])), Some([1; 64]));
        assert_eq!(cache.get_or(key(1), || panic!("known")), Some([1; 64]));
        assert_eq!(cache.get_or(key(2), || None), None);
        assert_eq!(cache.get_or(key(2), || Some([2; 64])), Some([2; 64]));
        // Another key's signature of the same is another.
        assert_eq!(cache.get_or((key(1).0, [1; 8]), || Some([3; 64])), Some([3; 64]));
    }

    #[test]
    fn it_stays_within_its_size_and_keeps_what_is_asked_for() {
        let cache = Cache::new(320);
        for n in 0..10_000 {
            cache.get_or(key(n), || Some([0; 64]));
            assert!(cache.get_or(key(7), || Some([9; 64])).is_some());
        }
        assert!(cache.len() <= 320, "{}", cache.len());
        assert!(cache.get_or(key(7), || panic!("asked for all the time")).is_some());
    }
}
