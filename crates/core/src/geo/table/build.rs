//! Compiles layers of networks into a [`PlaceTable`] by one sweep over the address space.
//!
//! Each layer (the overrides, then each database) is held as sorted runs: where a run starts and
//! which place it has. A database is taken as it is iterated, ascending and disjoint, so nothing is
//! sorted; overrides may nest and come in any order, are few, and are flattened first. The sweep
//! then walks the starts of all layers together, composes the layers' places at each, and merges
//! equal neighbours. Time is linear in the networks, memory is the runs and the table.

use super::key::Key;
use super::{Entry, Layered, PlaceTable};
use crate::geo::{CountryCode, Place, PlaceSource, Position, countries};
use ipnet::{IpNet, Ipv4Net};
use std::collections::HashMap;
use std::net::IpAddr;

/// A place that was given to a [`DatabaseLayer`], by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlaceId(pub(super) u32);

/// Nothing is known: the first of the builder's places.
const NOWHERE: PlaceId = PlaceId(0);

/// Why a network or database was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// A [`PlaceSource`] numbers databases in one byte.
    #[error("database {0:?} is one too many: at most 256 can be layered")]
    TooManyDatabases(String),
    /// A database's networks must come ascending and disjoint.
    #[error("network {0} comes after a higher address or overlaps the one before it")]
    OutOfOrder(IpNet),
    /// More ranges or places than 32-bit indexes can name.
    #[error("more than 2^32 ranges or places")]
    TooLarge,
}

/// Compiles databases and overrides into a [`PlaceTable`].
///
/// At each address, the override of the longest prefix comes first, then the databases in the order
/// they were added. Parts are filled from the first layer that has them: the country; a position
/// whose layer does not contradict that country; the AS number. Where only a country is known, the
/// position is its centre. The source is the layer the position came from, or the country where
/// the position is a centre.
#[derive(Debug)]
pub struct PlaceTableBuilder {
    places: Interner,
    overrides: Vec<(IpNet, PlaceId)>,
    databases: Vec<Layer>,
    names: Vec<String>,
}

impl Default for PlaceTableBuilder {
    fn default() -> Self {
        PlaceTableBuilder {
            places: Interner::new(),
            overrides: Vec::new(),
            databases: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl PlaceTableBuilder {
    /// A builder with no layers: what it builds knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one override. Of nested prefixes the longest decides alone; of equal ones the last. A
    /// prefix of IPv4-mapped addresses (`::ffff:0:0/96` or longer) is the IPv4 prefix it stands for,
    /// as such addresses are looked up as IPv4.
    pub fn add_override(&mut self, net: IpNet, place: Place) {
        let net = unmapped(net);
        let place = self.places.intern(place);
        self.overrides.push((net, place));
    }

    /// Begins the next database, weaker than those before it.
    ///
    /// # Errors
    /// [`BuildError::TooManyDatabases`] beyond 256.
    pub fn database(&mut self, name: impl Into<String>) -> Result<DatabaseLayer<'_>, BuildError> {
        let name = name.into();
        if self.databases.len() > usize::from(u8::MAX) {
            return Err(BuildError::TooManyDatabases(name));
        }
        self.names.push(name);
        self.databases.push(Layer::default());
        let at = self.databases.len() - 1;
        Ok(DatabaseLayer { places: &mut self.places, layer: &mut self.databases[at] })
    }

    /// Compiles the layers.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] when 32-bit indexes do not suffice.
    pub fn build(self) -> Result<PlaceTable, BuildError> {
        let mut layers = vec![flatten(self.overrides)?];
        layers.extend(self.databases);
        let (v4_layers, v6_layers): (Vec<_>, Vec<_>) =
            layers.into_iter().map(|layer| (layer.v4, layer.v6)).unzip();

        let mut composer = Composer::new(self.places.places);
        // The runs of one family are dropped before the other's are swept.
        let v4 = sweep(v4_layers, &mut composer)?;
        let v6 = sweep(v6_layers, &mut composer)?;
        let mut entries = composer.entries;
        entries.shrink_to_fit();
        Ok(PlaceTable { v4, v6, entries, sources: self.names })
    }
}

/// A prefix of IPv4-mapped addresses as the IPv4 prefix; others as they are.
pub fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let (Some(v4), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) else {
        return net;
    };
    // A length of an IPv6 prefix less 96 is one of IPv4.
    Ipv4Net::new(v4, length).map_or(net, IpNet::V4)
}

/// One database being added: networks ascending and disjoint, as the search tree of a database
/// gives them. IPv4 and IPv6 networks may alternate.
#[derive(Debug)]
pub struct DatabaseLayer<'a> {
    places: &'a mut Interner,
    layer: &'a mut Layer,
}

impl DatabaseLayer<'_> {
    /// Numbers a place; equal places get equal numbers, so that networks can share one.
    pub fn place(&mut self, place: Place) -> PlaceId {
        self.places.intern(place)
    }

    /// Adds a network.
    ///
    /// # Errors
    /// [`BuildError::OutOfOrder`] naming a network that is not above all before it.
    pub fn add(&mut self, net: IpNet, place: PlaceId) -> Result<(), BuildError> {
        self.layer.push(net, place)
    }
}

/// The runs of one layer, both families.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) v4: Runs<u32>,
    pub(super) v6: Runs<u128>,
}

impl Layer {
    fn push(&mut self, net: IpNet, place: PlaceId) -> Result<(), BuildError> {
        let taken = match net {
            IpNet::V4(n) => self.v4.push(n.network().to_bits(), n.broadcast().to_bits(), place),
            IpNet::V6(n) => self.v6.push(n.network().to_bits(), n.broadcast().to_bits(), place),
        };
        if taken { Ok(()) } else { Err(BuildError::OutOfOrder(net)) }
    }
}

/// Sorted runs that cover the whole address space from the first one's start.
#[derive(Debug)]
pub(super) struct Runs<K> {
    pub(super) starts: Vec<K>,
    pub(super) places: Vec<PlaceId>,
    /// Where the next network may begin; `None` when the last address is taken.
    open: Option<K>,
}

impl<K: Key> Default for Runs<K> {
    fn default() -> Self {
        Runs { starts: Vec::new(), places: Vec::new(), open: Some(K::ZERO) }
    }
}

impl<K: Key> Runs<K> {
    /// False when the network does not come after all before it.
    fn push(&mut self, first: K, last: K, place: PlaceId) -> bool {
        let Some(open) = self.open else { return false };
        if first < open {
            return false;
        }
        if first > open {
            self.begin(open, NOWHERE);
        }
        self.begin(first, place);
        self.open = last.next();
        true
    }

    fn begin(&mut self, start: K, place: PlaceId) {
        if self.places.last().copied().unwrap_or(NOWHERE) != place {
            self.starts.push(start);
            self.places.push(place);
        }
    }

    /// What follows the last network is nowhere.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.begin(open, NOWHERE);
        }
    }
}

/// Nested prefixes → disjoint ascending networks: each range goes to the longest prefix over it.
pub(super) fn flatten(mut overrides: Vec<(IpNet, PlaceId)>) -> Result<Layer, BuildError> {
    // Outer before inner; the sort is stable, so of equal prefixes the last one is the innermost.
    overrides.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    let mut layer = Layer::default();
    let (mut v4, mut v6) = (Nesting::default(), Nesting::default());
    for (net, place) in overrides {
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => v4.open(a.to_bits(), b.to_bits(), place, &mut layer.v4),
            (IpAddr::V6(a), IpAddr::V6(b)) => v6.open(a.to_bits(), b.to_bits(), place, &mut layer.v6),
            // Both ends of a network are of its family.
            _ => return Err(BuildError::OutOfOrder(net)),
        }
    }
    v4.close_before(None, &mut layer.v4);
    v6.close_before(None, &mut layer.v6);
    Ok(layer)
}

/// The prefixes open at a point of the walk, outermost first: (last address, place).
struct Nesting<K> {
    open: Vec<(K, PlaceId)>,
    /// What is below has been given out; `None` past the last address.
    at: Option<K>,
}

impl<K: Key> Default for Nesting<K> {
    fn default() -> Self {
        Nesting { open: Vec::new(), at: Some(K::ZERO) }
    }
}

impl<K: Key> Nesting<K> {
    fn open(&mut self, first: K, last: K, place: PlaceId, out: &mut Runs<K>) {
        self.close_before(Some(first), out);
        if let (Some((_, around)), Some(at), Some(end)) = (self.open.last(), self.at, first.previous())
            && at <= end
        {
            out.push(at, end, *around);
        }
        self.at = Some(first);
        self.open.push((last, place));
    }

    /// Gives out the rest of every open prefix that ends before `first` (all of them for `None`).
    fn close_before(&mut self, first: Option<K>, out: &mut Runs<K>) {
        while let Some((last, place)) = self.open.pop_if(|(last, _)| first.is_none_or(|first| *last < first))
        {
            if let Some(at) = self.at
                && at <= last
            {
                out.push(at, last, place);
                self.at = last.next();
            }
        }
    }
}

/// Distinct places, numbered.
#[derive(Debug)]
struct Interner {
    places: Vec<Place>,
    ids: HashMap<PlaceKey, PlaceId>,
}

/// A place as something that can be hashed: positions by their bits.
type PlaceKey = (Option<[u32; 3]>, Option<CountryCode>, Option<u32>);

fn place_key(place: &Place) -> PlaceKey {
    // Adding zero makes -0.0 and 0.0, which are equal, one.
    (place.position.map(|p| p.unit().map(|x| (x + 0.0).to_bits())), place.country, place.asn)
}

impl Interner {
    fn new() -> Self {
        let mut interner = Interner { places: Vec::new(), ids: HashMap::new() };
        interner.intern(Place::default());
        interner
    }

    fn intern(&mut self, place: Place) -> PlaceId {
        *self.ids.entry(place_key(&place)).or_insert_with(|| {
            // More distinct places than 2^32 would need more memory than they could be given.
            let id = PlaceId(u32::try_from(self.places.len()).unwrap_or(0));
            self.places.push(place);
            id
        })
    }
}

/// Composes the layers' places, each combination once.
struct Composer {
    /// The places that the layers number.
    given: Vec<Place>,
    /// Layers' place ids → composed place and source.
    memo: HashMap<Box<[PlaceId]>, (PlaceId, PlaceSource)>,
    composed: Interner,
    entries: Vec<Entry>,
    entry_ids: HashMap<(PlaceId, Option<PlaceSource>), u32>,
}

impl Composer {
    fn new(given: Vec<Place>) -> Self {
        Composer {
            given,
            memo: HashMap::new(),
            composed: Interner::new(),
            entries: Vec::new(),
            entry_ids: HashMap::new(),
        }
    }

    fn compose(&mut self, layers: &[PlaceId]) -> (PlaceId, PlaceSource) {
        if let Some(done) = self.memo.get(layers) {
            return *done;
        }
        let places = layers.iter().map(|id| self.given.get(id.0 as usize).copied().unwrap_or_default());
        let (place, source) = compose(places);
        let done = (self.composed.intern(place), source);
        self.memo.insert(layers.into(), done);
        done
    }

    fn entry(&mut self, place: PlaceId, source: Option<PlaceSource>) -> Result<u32, BuildError> {
        if let Some(id) = self.entry_ids.get(&(place, source)) {
            return Ok(*id);
        }
        let id = u32::try_from(self.entries.len()).map_err(|_| BuildError::TooLarge)?;
        let place_is = self.composed.places.get(place.0 as usize).copied().unwrap_or_default();
        self.entries.push(Entry { place: place_is, source });
        self.entry_ids.insert((place, source), id);
        Ok(id)
    }
}

/// The first layer is the overrides', then come the databases'.
fn layer_source(layer: usize) -> PlaceSource {
    match layer.checked_sub(1).map(u8::try_from) {
        None => PlaceSource::Override,
        Some(Ok(database)) => PlaceSource::Database(database),
        Some(Err(_)) => PlaceSource::Unknown,
    }
}

/// Fills each part from the first layer that has it. See [`PlaceTableBuilder`].
pub(super) fn compose(layers: impl Iterator<Item = Place> + Clone) -> (Place, PlaceSource) {
    let mut country = None;
    let mut position: Option<(Position, PlaceSource)> = None;
    let mut asn = None;
    for (at, layer) in layers.enumerate() {
        let source = layer_source(at);
        if position.is_none()
            && let Some(point) = layer.position
            // A position in another country than the stronger layer's is an error it corrects.
            && (country.is_none() || layer.country.is_none() || country.map(|(c, _)| c) == layer.country)
        {
            position = Some((point, source));
        }
        if country.is_none() {
            country = layer.country.map(|c| (c, source));
        }
        asn = asn.or(layer.asn.map(|a| (a, source)));
    }
    let centre = || country.and_then(|(code, source)| Some((countries::centre(code)?, source)));
    let point = position.or_else(centre);
    // An address of which only the AS is known still has a source.
    let source = point.map(|(_, s)| s).or(country.map(|(_, s)| s)).or(asn.map(|(_, s)| s));
    let place =
        Place { position: point.map(|(p, _)| p), country: country.map(|(c, _)| c), asn: asn.map(|(a, _)| a) };
    (place, source.unwrap_or(PlaceSource::Unknown))
}

/// Walks the runs of all layers together.
fn sweep<K: Key>(mut layers: Vec<Runs<K>>, composer: &mut Composer) -> Result<Layered<K>, BuildError> {
    for layer in &mut layers {
        layer.close();
    }
    let mut next = vec![0_usize; layers.len()];
    let mut current = vec![NOWHERE; layers.len()];
    let mut out = Merge::default();
    let mut at = Some(K::ZERO);
    while let Some(start) = at {
        at = None;
        for (l, layer) in layers.iter().enumerate() {
            if layer.starts.get(next[l]) == Some(&start) {
                current[l] = layer.places[next[l]];
                next[l] += 1;
            }
            if let Some(&ahead) = layer.starts.get(next[l]) {
                at = Some(at.map_or(ahead, |a: K| a.min(ahead)));
            }
        }
        let (place, source) = composer.compose(&current);
        out.push(start, place, source, composer)?;
    }
    out.finish(composer)
}

/// Merges neighbouring ranges of one place as they come.
struct Merge<K: Key> {
    out: Layered<K>,
    /// The range being gathered: its place, and where each of its sources begins.
    place: PlaceId,
    sources: Vec<(K, PlaceSource)>,
}

impl<K: Key> Default for Merge<K> {
    fn default() -> Self {
        Merge { out: Layered::default(), place: NOWHERE, sources: Vec::new() }
    }
}

impl<K: Key> Merge<K> {
    fn push(
        &mut self,
        start: K,
        place: PlaceId,
        source: PlaceSource,
        composer: &mut Composer,
    ) -> Result<(), BuildError> {
        if place != self.place {
            self.close(composer)?;
            self.place = place;
        }
        if self.sources.last().map(|(_, s)| *s) != Some(source) {
            self.sources.push((start, source));
        }
        Ok(())
    }

    fn close(&mut self, composer: &mut Composer) -> Result<(), BuildError> {
        let Some(&(start, first)) = self.sources.first() else {
            return Ok(());
        };
        let one = self.sources.len() == 1;
        let entry = composer.entry(self.place, one.then_some(first))?;
        if !one {
            self.out.mixed.extend_from_slice(&self.sources);
        }
        self.sources.clear();
        self.out.ranges.push(start, entry);
        u32::try_from(self.out.ranges.len()).map(drop).map_err(|_| BuildError::TooLarge)
    }

    fn finish(mut self, composer: &mut Composer) -> Result<Layered<K>, BuildError> {
        self.close(composer)?;
        self.out.finish();
        Ok(self.out)
    }
}
