//! Corrected places laid over a table that is built: what people correct changes while databases do
//! not, and a database of millions of networks is not read again for that.

use super::build::{BuildError, Runs, compose, flatten};
use super::{Entry, Key, Layered, PlaceTable, Ranges};
use crate::geo::{Place, PlaceSource};
use ipnet::IpNet;
use std::collections::HashMap;

/// The entry of addresses that a table without ranges does not know.
const NO_ENTRY: u32 = u32::MAX;

impl PlaceTable {
    /// The table with other places for some prefixes. Of nested prefixes the longest decides alone, of
    /// equal ones the last; parts that it does not give stay as they are, except a position in
    /// another country than it says. Prefixes of IPv4-mapped addresses are the IPv4 prefixes.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] when 32-bit indexes do not suffice.
    pub fn corrected(&self, overrides: &[(IpNet, Place)]) -> Result<PlaceTable, BuildError> {
        let mut laid =
            Overlay { table: self, places: Vec::new(), entries: self.entries.clone(), known: HashMap::new() };
        let numbered = overrides.iter().map(|(net, place)| (super::unmapped(*net), laid.number(*place)));
        let layer = flatten(numbered.collect())?;
        let v4 = laid.over(&self.v4, layer.v4)?;
        let v6 = laid.over(&self.v6, layer.v6)?;
        Ok(PlaceTable { v4, v6, entries: laid.entries, sources: self.sources.clone() })
    }
}

struct Overlay<'t> {
    table: &'t PlaceTable,
    /// The corrected places; number 0 is none.
    places: Vec<Place>,
    /// Those of the table, and new ones.
    entries: Vec<Entry>,
    /// New entries, by correction and what was there.
    known: HashMap<(u32, u32, PlaceSource), u32>,
}

impl Overlay<'_> {
    fn number(&mut self, place: Place) -> super::PlaceId {
        self.places.push(place);
        super::PlaceId(self.places.len() as u32)
    }

    fn over<K: Key>(&mut self, base: &Layered<K>, mut runs: Runs<K>) -> Result<Layered<K>, BuildError> {
        runs.close();
        let mut out = Ranges::default();
        let mut last = None;
        let mut ranges = base.ranges.iter().peekable();
        let mut corrections = runs.starts.into_iter().zip(runs.places).peekable();
        let (mut below, mut above) = (NO_ENTRY, 0);
        let mut at = Some(K::ZERO);
        while let Some(start) = at {
            if let Some((_, entry)) = ranges.next_if(|(s, _)| *s == start) {
                below = entry;
            }
            if let Some((_, place)) = corrections.next_if(|(s, _)| *s == start) {
                above = place.0;
            }
            let entry = self.entry(above, below, base, start)?;
            if last != Some(entry) {
                last = Some(entry);
                out.push(start, entry);
            }
            at = match (ranges.peek().map(|(s, _)| *s), corrections.peek().map(|(s, _)| *s)) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let mut layered = Layered { ranges: out, mixed: base.mixed.clone() };
        layered.finish();
        Ok(layered)
    }

    fn entry<K: Key>(
        &mut self,
        correction: u32,
        below: u32,
        base: &Layered<K>,
        start: K,
    ) -> Result<u32, BuildError> {
        let Some(place) = correction.checked_sub(1).and_then(|at| self.places.get(at as usize)) else {
            return Ok(below);
        };
        // Ranges of several sources are rare; the first of them is named for the whole.
        let (was, source) = self.table.resolve(base, start, below);
        let key = (correction, below, source);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let (place, from) = compose([*place, was].into_iter());
        let source = if from == PlaceSource::Override { from } else { source };
        let entry = u32::try_from(self.entries.len()).map_err(|_| BuildError::TooLarge)?;
        self.entries.push(Entry { place, source: Some(source) });
        self.known.insert(key, entry);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PlaceTableBuilder;
    use super::*;
    use crate::geo::{CountryCode, Position};
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn place(n: u8) -> Place {
        Place {
            position: Position::from_degrees(f64::from(n) - 40.0, f64::from(n)),
            country: CountryCode::new(["DE", "FR", "JP"][usize::from(n) % 3]),
            asn: n.is_multiple_of(2).then_some(u32::from(n)),
        }
    }

    fn nets(of: impl Strategy<Value = IpNet>) -> impl Strategy<Value = Vec<(IpNet, Place)>> {
        prop::collection::vec((of, 0..40_u8).prop_map(|(net, n)| (net, place(n))), 0..12)
    }

    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u8>(), 4..=12_u8)
            .prop_map(|(a, l)| IpNet::new(IpAddr::from([a, a << 3, 0, 0]), l).unwrap().trunc());
        let v6 = (any::<u8>(), 4..=12_u8).prop_map(|(a, l)| {
            IpNet::new(IpAddr::from([u16::from(a) << 8, 0, 0, 0, 0, 0, 0, 0]), l).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    /// One database of the disjoint ones of some networks.
    fn database(builder: &mut PlaceTableBuilder, mut nets: Vec<(IpNet, Place)>) {
        nets.sort_by_key(|(n, _)| (n.network(), n.prefix_len()));
        let mut layer = builder.database("base").unwrap();
        for (net, place) in nets {
            let id = layer.place(place);
            // Those that overlap are left out.
            let _ = layer.add(net, id);
        }
    }

    proptest! {
        #[test]
        fn corrections_are_as_if_they_had_been_compiled_in(base in nets(net()), over in nets(net()), addrs: Vec<u32>) {
            let mut plain = PlaceTableBuilder::new();
            database(&mut plain, base.clone());
            let corrected = plain.build().unwrap().corrected(&over).unwrap();
            let mut whole = PlaceTableBuilder::new();
            database(&mut whole, base);
            over.iter().for_each(|(net, place)| whole.add_override(*net, *place));
            let whole = whole.build().unwrap();
            let ends = over.iter().flat_map(|(n, _)| [n.network(), n.broadcast()]);
            for addr in ends.chain(addrs.into_iter().map(|a| IpAddr::from(a.to_be_bytes()))) {
                let (a, b) = (corrected.locate(addr), whole.locate(addr));
                prop_assert_eq!(a.place, b.place, "{}", addr);
                prop_assert_eq!(a.source, b.source, "{}", addr);
                // Equal places of different sources may be told apart here.
                prop_assert!(a.cell.prefix_len() >= b.cell.prefix_len());
                prop_assert_eq!(corrected.locate(a.cell.network()).place, a.place);
                prop_assert_eq!(corrected.locate(a.cell.broadcast()).place, a.place);
            }
        }
    }

    #[test]
    fn no_corrections_change_nothing_and_an_empty_table_can_be_corrected() {
        let empty = PlaceTable::default();
        let tokyo = place(2);
        let table = empty.corrected(&[("192.0.2.0/24".parse().unwrap(), tokyo)]).unwrap();
        let found = table.locate([192, 0, 2, 9].into());
        assert_eq!((found.place, found.source), (tokyo, PlaceSource::Override));
        assert_eq!(table.locate([192, 0, 3, 9].into()).source, PlaceSource::Unknown);
        assert_eq!(table.corrected(&[]).unwrap().ranges(), table.ranges());
    }
}
