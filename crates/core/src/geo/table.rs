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
mod correct;
mod key;
mod ranges;
#[cfg(test)]
mod tests;

pub use build::{BuildError, DatabaseLayer, PlaceId, PlaceTableBuilder, unmapped};

use super::{Place, PlaceSource};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub(crate) use key::Key;
pub(crate) use ranges::{Found, Ranges};
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
    v4: Layered<u32>,
    v6: Layered<u128>,
    entries: Vec<Entry>,
    sources: Vec<String>,
}

impl PlaceTable {
    /// Where an address is. IPv4-mapped IPv6 addresses are IPv6 here: callers canonicalise.
    pub fn locate(&self, addr: IpAddr) -> Located {
        let (found, cell) = match addr {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits();
                let found = self.v4.ranges.find(bits);
                (self.resolve(&self.v4, bits, found.entry), v4_net(bits, found.prefix_len(bits)))
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                let found = self.v6.ranges.find(bits);
                (self.resolve(&self.v6, bits, found.entry), v6_net(bits, found.prefix_len(bits)))
            }
        };
        Located { place: found.0, source: found.1, cell }
    }

    fn resolve<K: Key>(&self, layered: &Layered<K>, addr: K, entry: u32) -> (Place, PlaceSource) {
        match self.entries.get(entry as usize) {
            Some(Entry { place, source: Some(source) }) => (*place, *source),
            Some(Entry { place, source: None }) => (*place, layered.source_within(addr)),
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

    /// The ranges of IPv4 and IPv6, whose entries [`PlaceTable::entry`] knows.
    pub(crate) fn families(&self) -> (&Ranges<u32>, &Ranges<u128>) {
        (&self.v4.ranges, &self.v6.ranges)
    }

    /// The place of an entry; nowhere for one that is not there.
    pub(crate) fn entry(&self, entry: u32) -> Place {
        self.entries.get(entry as usize).map_or(Place::default(), |e| e.place)
    }

    /// Number of entries.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Ranges of both families, after merging; gaps that nothing is known of count too.
    pub fn ranges(&self) -> usize {
        self.v4.ranges.len() + self.v6.ranges.len()
    }

    /// Each known place with its number of IPv4 addresses, in the order of first appearance in the
    /// table. Linear in the ranges: for previews, not for queries.
    pub fn v4_addresses_by_place(&self) -> Vec<(Place, u64)> {
        let mut addresses = vec![0_u64; self.entries.len()];
        let ends = self.v4.ranges.iter().skip(1).map(|(start, _)| u64::from(start)).chain([1 << 32]);
        for ((start, entry), end) in self.v4.ranges.iter().zip(ends) {
            if let Some(n) = addresses.get_mut(entry as usize) {
                *n += end - u64::from(start);
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

pub(crate) fn v4_net(addr: u32, prefix_len: u8) -> IpNet {
    // `prefix_len` of a 32-bit key never exceeds 32, so the fallback is never taken.
    let addr = Ipv4Addr::from_bits(addr);
    IpNet::V4(Ipv4Net::new(addr, prefix_len).unwrap_or_else(|_| addr.into()).trunc())
}

pub(crate) fn v6_net(addr: u128, prefix_len: u8) -> IpNet {
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

/// The ranges of one address family and what they are made of.
#[derive(Clone, Debug)]
struct Layered<K> {
    ranges: Ranges<K>,
    /// Inside ranges of several sources: where each source begins, ascending.
    mixed: Vec<(K, PlaceSource)>,
}

impl<K> Default for Layered<K> {
    fn default() -> Self {
        Layered { ranges: Ranges::default(), mixed: Vec::new() }
    }
}

impl<K: Key> Layered<K> {
    fn source_within(&self, addr: K) -> PlaceSource {
        let next = self.mixed.partition_point(|(start, _)| *start <= addr);
        next.checked_sub(1).map_or(PlaceSource::Unknown, |at| self.mixed[at].1)
    }

    fn finish(&mut self) {
        self.ranges.finish();
        self.mixed.shrink_to_fit();
    }

    fn memory_bytes(&self) -> usize {
        self.ranges.memory_bytes() + self.mixed.capacity() * size_of::<(K, PlaceSource)>()
    }
}
