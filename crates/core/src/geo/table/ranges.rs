//! Sorted ranges that cover one address family, each with an entry: found by an index of the top bits
//! and a binary search.

use super::key::Key;

/// An index of 1 KiB, for tables of a few ranges.
const MIN_INDEX_BITS: u32 = 8;
/// An index of 256 KiB: a larger one was measured to gain 4 % at four million ranges.
const MAX_INDEX_BITS: u32 = 16;

/// Ranges of one family. The first begins at zero, each ends where the next begins.
#[derive(Clone, Debug)]
pub(crate) struct Ranges<K> {
    /// First addresses, ascending.
    pub(super) starts: Vec<K>,
    /// Beside `starts`: the entry of each range.
    pub(super) entries: Vec<u32>,
    /// For each value of the top `index_bits` bits, the range that holds its first address; then
    /// one more, the last range.
    index: Vec<u32>,
    index_bits: u32,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Ranges { starts: Vec::new(), entries: Vec::new(), index: Vec::new(), index_bits: MIN_INDEX_BITS }
    }
}

/// A range found: what lies just outside it, and its entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<K> {
    /// The last address before the range; `None` when it begins at zero.
    pub(crate) before: Option<K>,
    /// The first address after the range; `None` when it ends with the address space.
    pub(crate) after: Option<K>,
    /// Its entry; `u32::MAX` in an empty table.
    pub(crate) entry: u32,
}

impl<K: Key> Found<K> {
    /// Length of the widest prefix around `addr` that holds neither neighbour.
    pub(crate) fn prefix_len(&self, addr: K) -> u8 {
        let beyond = |outside: Option<K>| outside.map_or(0, |o| addr.common_bits(o) + 1);
        beyond(self.before).max(beyond(self.after))
    }
}

impl<K: Key> Ranges<K> {
    /// Appends a range; the caller keeps `start` ascending.
    pub(crate) fn push(&mut self, start: K, entry: u32) {
        self.starts.push(start);
        self.entries.push(entry);
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Starts and entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.starts.iter().copied().zip(self.entries.iter().copied())
    }

    /// The range that holds an address.
    pub(crate) fn find(&self, addr: K) -> Found<K> {
        let top = addr.top(self.index_bits);
        let (low, high) = match (self.index.get(top), self.index.get(top + 1)) {
            (Some(&low), Some(&high)) => (low as usize, high as usize + 1),
            _ => (0, self.starts.len()),
        };
        let (low, high) = (low.min(self.starts.len()), high.min(self.starts.len()));
        // Ranges before `low` start below `addr`, those from `high` on above it.
        let next = low + self.starts[low..high.max(low)].partition_point(|start| *start <= addr);
        let Some(at) = next.checked_sub(1) else {
            return Found { before: None, after: None, entry: u32::MAX };
        };
        Found {
            before: self.starts[at].previous(),
            after: self.starts.get(next).copied(),
            entry: self.entries.get(at).copied().unwrap_or(u32::MAX),
        }
    }

    /// Sorted ranges are final: gives back spare memory and indexes them.
    pub(crate) fn finish(&mut self) {
        self.starts.shrink_to_fit();
        self.entries.shrink_to_fit();
        let Some(last) = self.starts.len().checked_sub(1) else {
            return;
        };
        // About a range for each value, so that a lookup's search stays short.
        self.index_bits = (last + 1).ilog2().clamp(MIN_INDEX_BITS, MAX_INDEX_BITS);
        let values = 1_u32 << self.index_bits;
        self.index = Vec::with_capacity(values as usize + 1);
        let mut at = 0;
        for top in 0..values {
            let first = K::from_top(top, self.index_bits);
            while at < last && self.starts[at + 1] <= first {
                at += 1;
            }
            self.index.push(at as u32);
        }
        self.index.push(last as u32);
    }

    /// Bytes held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<K>()
            + self.entries.capacity() * size_of::<u32>()
            + self.index.capacity() * size_of::<u32>()
    }
}
