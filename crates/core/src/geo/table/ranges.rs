//! Sorted ranges that cover one address family, each with an entry: found by an index of the top bits
//! and a binary search.
//!
//! A range's start and entry stand side by side: whoever looks one up is told both by one line of the
//! cache, and lookups at addresses nobody knows beforehand spend their time waiting for such lines.

use super::key::Key;
use crate::ahead::fetch;

/// An index of 1 KiB, for tables of a few ranges.
const MIN_INDEX_BITS: u32 = 8;
/// An index of 256 KiB: a larger one was measured to gain 4 % at four million ranges.
const MAX_INDEX_BITS: u32 = 16;

/// Ranges of one line of the cache, of the smaller kind.
const LINE: usize = 8;

/// Ranges of one family. The first begins at zero, each ends where the next begins.
#[derive(Clone, Debug)]
pub(crate) struct Ranges<K: Key> {
    /// By first addresses, ascending.
    all: Vec<Range<K::Packed>>,
    /// For each value of the top `index_bits` bits, the range that holds its first address; then
    /// one more, the last range.
    index: Vec<u32>,
    index_bits: u32,
}

/// One range.
#[derive(Clone, Copy, Debug)]
struct Range<P> {
    start: P,
    entry: u32,
}

impl<P: Copy> Range<P> {
    #[inline]
    fn start<K: Key<Packed = P>>(&self) -> K {
        K::unpack(self.start)
    }
}

impl<K: Key> Default for Ranges<K> {
    fn default() -> Self {
        Ranges { all: Vec::new(), index: Vec::new(), index_bits: MIN_INDEX_BITS }
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
    #[inline]
    pub(crate) fn prefix_len(&self, addr: K) -> u8 {
        let beyond = |outside: Option<K>| outside.map_or(0, |o| addr.common_bits(o) + 1);
        beyond(self.before).max(beyond(self.after))
    }
}

impl<K: Key> Ranges<K> {
    /// Appends a range; the caller keeps `start` ascending.
    pub(crate) fn push(&mut self, start: K, entry: u32) {
        self.all.push(Range { start: start.pack(), entry });
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Starts and entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.all.iter().map(|range| (range.start(), range.entry))
    }

    /// The range that holds an address.
    #[inline]
    pub(crate) fn find(&self, addr: K) -> Found<K> {
        let top = addr.top(self.index_bits);
        let (low, high) = match self.index.get(top..top + 2) {
            Some(&[low, high]) => (low as usize, high as usize + 1),
            _ => (0, self.all.len()),
        };
        let high = high.min(self.all.len());
        let low = low.min(high);
        // Ranges before `low` start below `addr`, those from `high` on above it.
        let next = low + self.all[low..high].partition_point(|range| range.start::<K>() <= addr);
        let Some(found) = next.checked_sub(1).and_then(|at| self.all.get(at)) else {
            return Found { before: None, after: None, entry: u32::MAX };
        };
        Found {
            before: found.start::<K>().previous(),
            after: self.all.get(next).map(Range::start),
            entry: found.entry,
        }
    }

    /// Has what a lookup of this address reads first brought to the cache.
    #[inline]
    pub(crate) fn expect(&self, addr: K) {
        fetch(&self.index, addr.top(self.index_bits));
    }

    /// Has what it reads then brought there: the whole of a short search, the first steps of a long one.
    #[inline]
    pub(crate) fn expect_more(&self, addr: K) {
        let top = addr.top(self.index_bits);
        let Some(&[low, high]) = self.index.get(top..top + 2) else { return };
        let (low, high) = (low as usize, high as usize);
        let middle = low.midpoint(high);
        fetch(&self.all, middle);
        match high - low {
            // One line, or two.
            0..LINE => {
                fetch(&self.all, low);
                fetch(&self.all, high);
            }
            _ => {
                fetch(&self.all, low.midpoint(middle));
                fetch(&self.all, middle.midpoint(high));
            }
        }
    }

    /// Sorted ranges are final: gives back spare memory and indexes them.
    pub(crate) fn finish(&mut self) {
        self.all.shrink_to_fit();
        let Some(last) = self.all.len().checked_sub(1) else {
            return;
        };
        // About a range for each value, so that a lookup's search stays short.
        self.index_bits = (last + 1).ilog2().clamp(MIN_INDEX_BITS, MAX_INDEX_BITS);
        let values = 1_u32 << self.index_bits;
        self.index = Vec::with_capacity(values as usize + 1);
        let mut at = 0;
        for top in 0..values {
            let first = K::from_top(top, self.index_bits);
            while at < last && self.all[at + 1].start::<K>() <= first {
                at += 1;
            }
            self.index.push(at as u32);
        }
        self.index.push(last as u32);
    }

    /// Bytes held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Range<K::Packed>>() + self.index.capacity() * size_of::<u32>()
    }
}
