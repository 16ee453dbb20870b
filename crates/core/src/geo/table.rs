//! The compiled table: address → place, with the widest prefix that shares it.
//!
//! ```text
//!  databases (strongest first), overrides          address
//!        │ PlaceTableBuilder: one sweep                │ index of top bits, then binary search
//!        ▼                                             ▼
//!  starts: [0.0.0.0, 1.0.0.0, 1.0.1.0, …]   range [lo, hi] ── CIDR block around it ──► cell
//!  entries:[      0,       7,       3, …]   entry ──────────────────────────────────► place, source
//! ```
//!
//! Each family is a sorted array of range starts (a range ends where the next begins, and the first
//! begins at zero, so every address is in exactly one) beside an array of indexes into one array of
//! distinct places. Neighbouring ranges of one place are merged when the table is built. A cell is
//! the block of the canonical CIDR decomposition of its range that holds the address: the widest
//! aligned prefix inside the range. Two cells are therefore equal or disjoint, which is what ECS
//! scopes need (RFC 7871 section 7.3.1: answers' scopes must not overlap).
//!
//! An index of the address's top bits narrows the search. A lookup allocates nothing.

mod build;
mod key;
#[cfg(test)]
mod tests;

pub use build::{BuildError, DatabaseLayer, PlaceId, PlaceTableBuilder, unmapped};

use super::{Place, PlaceSource};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use key::Key;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the table knows of one address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    /// The place; all unknown when no source has the address.
    pub place: Place,
    /// Which source decided the position and country.
    pub source: PlaceSource,
    /// The widest prefix around the address whose every address has this same place.
    pub cell: IpNet,
}

/// Address → place, compiled from databases and overrides by a [`PlaceTableBuilder`].
///
/// The default table knows nothing: every address is nowhere, and one cell holds its family.
#[derive(Clone, Debug, Default)]
pub struct PlaceTable {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    entries: Vec<Entry>,
    sources: Vec<String>,
}

impl PlaceTable {
    /// Where an address is. IPv4-mapped IPv6 addresses are IPv6 here: callers canonicalise.
    pub fn locate(&self, addr: IpAddr) -> Located {
        let (found, cell) = match addr {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits();
                let found = self.v4.find(bits);
                (self.resolve(&self.v4, bits, found.entry), v4_net(bits, found.prefix_len(bits)))
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                let found = self.v6.find(bits);
                (self.resolve(&self.v6, bits, found.entry), v6_net(bits, found.prefix_len(bits)))
            }
        };
        Located { place: found.0, source: found.1, cell }
    }

    fn resolve<K: Key>(&self, ranges: &Ranges<K>, addr: K, entry: u32) -> (Place, PlaceSource) {
        match self.entries.get(entry as usize) {
            Some(Entry { place, source: Some(source) }) => (*place, *source),
            Some(Entry { place, source: None }) => (*place, ranges.source_within(addr)),
            None => (Place::default(), PlaceSource::Unknown),
        }
    }

    /// Names of the databases, strongest first: [`PlaceSource::Database`] indexes them.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// A source's name for people.
    pub fn source_name(&self, source: PlaceSource) -> &str {
        match source {
            PlaceSource::Unknown => "unknown",
            PlaceSource::Override => "override",
            PlaceSource::Given => "given",
            PlaceSource::Database(at) => self.sources.get(usize::from(at)).map_or("unknown", String::as_str),
        }
    }

    /// Ranges of both families, after merging; gaps that nothing is known of count too.
    pub fn ranges(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }

    /// Each known place with its number of IPv4 addresses, in the order of first appearance in the
    /// table. Linear in the ranges: for previews, not for queries.
    pub fn v4_addresses_by_place(&self) -> Vec<(Place, u64)> {
        let mut addresses = vec![0_u64; self.entries.len()];
        let ends = self.v4.starts.iter().skip(1).map(|start| u64::from(*start)).chain([1 << 32]);
        for ((start, end), entry) in self.v4.starts.iter().zip(ends).zip(&self.v4.entries) {
            if let Some(n) = addresses.get_mut(*entry as usize) {
                *n += end - u64::from(*start);
            }
        }
        let counted = self.entries.iter().map(|e| e.place).zip(addresses);
        counted.filter(|(place, n)| *n > 0 && *place != Place::default()).collect()
    }

    /// Distinct places, the unknown one not counted.
    pub fn places(&self) -> usize {
        self.entries.iter().filter(|e| e.place != Place::default()).count()
    }

    /// Bytes of memory the table holds, up to the allocator's overhead.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.v4.memory_bytes()
            + self.v6.memory_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.sources.iter().map(String::capacity).sum::<usize>()
    }
}

fn v4_net(addr: u32, prefix_len: u8) -> IpNet {
    // `prefix_len` of a 32-bit key never exceeds 32, so the fallback is never taken.
    let addr = Ipv4Addr::from_bits(addr);
    IpNet::V4(Ipv4Net::new(addr, prefix_len).unwrap_or_else(|_| addr.into()).trunc())
}

fn v6_net(addr: u128, prefix_len: u8) -> IpNet {
    let addr = Ipv6Addr::from_bits(addr);
    IpNet::V6(Ipv6Net::new(addr, prefix_len).unwrap_or_else(|_| addr.into()).trunc())
}

/// One distinct place. Neighbouring ranges whose sources differ but whose places are equal are one
/// range all the same (the cell is about the place); its `source` is `None` and the family's
/// `mixed` list tells them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    place: Place,
    source: Option<PlaceSource>,
}

/// The ranges of one address family.
#[derive(Clone, Debug)]
struct Ranges<K> {
    /// First addresses, ascending; the first is zero.
    starts: Vec<K>,
    /// Beside `starts`: the entry of each range.
    entries: Vec<u32>,
    /// For each value of the top `index_bits` bits, the range that holds its first address; then
    /// one more, the last range.
    index: Vec<u32>,
    index_bits: u32,
    /// Inside ranges of several sources: where each source begins, ascending.
    mixed: Vec<(K, PlaceSource)>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Ranges {
            starts: Vec::new(),
            entries: Vec::new(),
            index: Vec::new(),
            index_bits: MIN_INDEX_BITS,
            mixed: Vec::new(),
        }
    }
}

/// A range found: what lies just outside it, and its entry.
struct Found<K> {
    /// The last address before the range; `None` when it begins at zero.
    before: Option<K>,
    /// The first address after the range; `None` when it ends with the address space.
    after: Option<K>,
    entry: u32,
}

impl<K: Key> Found<K> {
    /// Length of the widest prefix around `addr` that holds neither neighbour.
    fn prefix_len(&self, addr: K) -> u8 {
        let beyond = |outside: Option<K>| outside.map_or(0, |o| addr.common_bits(o) + 1);
        beyond(self.before).max(beyond(self.after))
    }
}

impl<K: Key> Ranges<K> {
    fn find(&self, addr: K) -> Found<K> {
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

    fn source_within(&self, addr: K) -> PlaceSource {
        let next = self.mixed.partition_point(|(start, _)| *start <= addr);
        next.checked_sub(1).map_or(PlaceSource::Unknown, |at| self.mixed[at].1)
    }

    /// Sorted ranges are final: give back spare memory and index them.
    fn finish(&mut self) {
        self.starts.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.mixed.shrink_to_fit();
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

    fn memory_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<K>()
            + self.entries.capacity() * size_of::<u32>()
            + self.index.capacity() * size_of::<u32>()
            + self.mixed.capacity() * size_of::<(K, PlaceSource)>()
    }
}

/// An index of 1 KiB, for tables of a few overrides.
const MIN_INDEX_BITS: u32 = 8;
/// An index of 256 KiB: a larger one was measured to gain 4 % at four million ranges.
const MAX_INDEX_BITS: u32 = 16;
