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

    /// IPv4 addresses that stand for all of which anything is known, each with the number that it stands
    /// for: one for each stretch of one place, of at most a /20; where those are more than `most`,
    /// addresses at equal distances among all of them. Linear in the stretches: for previews, not for
    /// queries.
    pub fn v4_samples(&self, most: usize) -> Vec<(Ipv4Addr, f64)> {
        let (count, addresses) = self.v4_stretches().fold((0, 0), |(n, sum), (_, len)| (n + 1, sum + len));
        if count <= most {
            let middle =
                |(start, len): (u32, u64)| (Ipv4Addr::from_bits(start + (len / 2) as u32), len as f64);
            return self.v4_stretches().map(middle).collect();
        }
        let step = addresses as f64 / most.max(1) as f64;
        let (mut samples, mut before) = (Vec::with_capacity(most), 0);
        for (start, len) in self.v4_stretches() {
            // The next sample's place among all addresses that are known.
            while let at = ((samples.len() as f64 + 0.5) * step) as u64
                && at < before + len
                && samples.len() < most
            {
                samples.push((Ipv4Addr::from_bits(start + (at - before) as u32), step));
            }
            before += len;
        }
        samples
    }

    /// First addresses and lengths of the stretches of known places, none over the border of a /20.
    fn v4_stretches(&self) -> impl Iterator<Item = (u32, u64)> {
        const WIDEST: u64 = 1 << 12;
        let ends = self.v4.ranges.iter().skip(1).map(|(start, _)| u64::from(start)).chain([1 << 32]);
        let known = |((_, entry), _): &((u32, u32), u64)| self.entry(*entry) != Place::default();
        self.v4.ranges.iter().zip(ends).filter(known).flat_map(|((start, _), end)| {
            let border = move |at: u64| (at / WIDEST + 1) * WIDEST;
            let cut = move |at: &u64| Some(border(*at)).filter(|next| *next < end);
            let starts = std::iter::successors(Some(u64::from(start)), cut);
            // A start is within the range, so below 2^32.
            starts.map(move |at| (at as u32, border(at).min(end) - at))
        })
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
struct Layered<K: Key> {
    ranges: Ranges<K>,
    /// Inside ranges of several sources: where each source begins, ascending.
    mixed: Vec<(K, PlaceSource)>,
}

impl<K: Key> Default for Layered<K> {
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
