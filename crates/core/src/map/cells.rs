//! All cells of one set of mirrors: the ranges of the geo table, cut where measured networks, their
//! covering prefixes and rules tell addresses apart, and merged where neighbours rank alike.
//!
//! Built in the background for sets that are asked for; until then, and for sets that there is no
//! memory for, a query ranks by itself and its cell is not merged.

use super::ranked::Ranking;
use super::set::MirrorSet;
use super::steady::Steady;
use super::{CARRIERS, Locality};
use crate::geo::table::{Key, PlaceTable, Ranges};
use crate::geo::{CountryCode, Place};
use crate::time::UnixMillis;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Entry of ranges whose users are shared out among all mirrors.
pub(super) const SHARED: u32 = u32::MAX - 1;
/// Entry of IPv6 ranges that carry IPv4 addresses, which are looked up as those.
const CARRIED: u32 = u32::MAX - 2;

/// The cells of one set of mirrors.
pub struct CellTable {
    pub(super) v4: Ranges<u32>,
    pub(super) v6: Ranges<u128>,
    rankings: Vec<Ranking>,
    pub(super) steady: Steady,
    /// What it was built from.
    places: Arc<PlaceTable>,
    set: Arc<MirrorSet>,
}

impl fmt::Debug for CellTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CellTable({} cells)", self.cells())
    }
}

impl CellTable {
    /// Builds the cells of a set over a geo table. What was there `before` keeps its first mirrors where
    /// others are not better by much, or not for long.
    pub fn build(
        set: &Arc<MirrorSet>,
        places: &Arc<PlaceTable>,
        before: Option<&CellTable>,
        now: UnixMillis,
    ) -> CellTable {
        let mut ranker = Ranker::new(set, places, before, now);
        let (v4, v6) = places.families();
        let model = set.model();
        let (rules_v4, rules_v6) = set.rules().cuts();
        let cuts_v4 = sorted(model.cuts_v4().into_iter().chain(rules_v4.iter().copied()));
        let carriers =
            CARRIERS.iter().flat_map(|(first, length)| [Some(*first), after(*first, *length)]).flatten();
        let cuts_v6 = sorted(model.cuts_v6().into_iter().chain(rules_v6.iter().copied()).chain(carriers));
        let v4 = sweep(v4, &cuts_v4, |addr| IpAddr::V4(addr.into()), &mut ranker);
        let v6 = sweep(v6, &cuts_v6, |addr| IpAddr::V6(addr.into()), &mut ranker);
        let Ranker { mut rankings, steady, .. } = ranker;
        rankings.shrink_to_fit();
        CellTable { v4, v6, rankings, steady, places: places.clone(), set: set.clone() }
    }

    /// Whether it was built from just these.
    pub fn is_of(&self, set: &Arc<MirrorSet>, places: &Arc<PlaceTable>) -> bool {
        Arc::ptr_eq(&self.set, set) && Arc::ptr_eq(&self.places, places)
    }

    /// Whether mirrors stay first here that others are clearly better than, but not for long enough:
    /// building again will tell when they are.
    pub fn is_challenged(&self) -> bool {
        self.steady.is_challenged()
    }

    /// When it was built.
    pub fn built(&self) -> UnixMillis {
        self.steady.now()
    }

    /// The set it was built for.
    pub fn set(&self) -> &Arc<MirrorSet> {
        &self.set
    }

    pub(super) fn ranking(&self, entry: u32) -> Option<&Ranking> {
        self.rankings.get(entry as usize)
    }

    /// The ranking at an address that carries no other.
    pub(super) fn at(&self, addr: IpAddr) -> Option<&Ranking> {
        let entry = match addr {
            IpAddr::V4(a) => self.v4.find(a.to_bits()).entry,
            IpAddr::V6(a) => self.v6.find(a.to_bits()).entry,
        };
        self.ranking(entry)
    }

    /// Cells of both families.
    pub fn cells(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Distinct rankings.
    pub fn rankings(&self) -> usize {
        self.rankings.len()
    }

    /// Bytes held, up to the allocator's overhead.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.v4.memory_bytes()
            + self.v6.memory_bytes()
            + self.rankings.capacity() * size_of::<Ranking>()
            + self.steady.memory_bytes()
    }
}

/// The first address after a prefix.
fn after(first: u128, length: u8) -> Option<u128> {
    let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    (first | host).checked_add(1)
}

fn sorted<K: Key>(cuts: impl Iterator<Item = K>) -> Vec<K> {
    let mut cuts: Vec<K> = cuts.collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// Walks places and cuts together and merges what ranks alike.
fn sweep<K: Key>(
    places: &Ranges<K>,
    cuts: &[K],
    addr: impl Fn(K) -> IpAddr,
    ranker: &mut Ranker<'_>,
) -> Ranges<K> {
    let mut out = Ranges::default();
    let mut last = None;
    let mut push = |start: K, entry: u32| {
        if last != Some(entry) {
            last = Some(entry);
            out.push(start, entry);
        }
    };
    let mut cuts = cuts.iter().copied().peekable();
    let mut apart = ranker.apart(addr(K::ZERO));
    let mut ranges = places.iter().peekable();
    let mut place = u32::MAX;
    let mut at = Some(K::ZERO);
    while let Some(start) = at {
        if let Some((_, entry)) = ranges.next_if(|(s, _)| *s == start) {
            place = entry;
        }
        if cuts.next_if(|c| *c == start).is_some() {
            apart = ranker.apart(addr(start));
        }
        push(start, ranker.entry(place, &apart, addr(start)));
        let next_range = ranges.peek().map(|(s, _)| *s);
        at = match (next_range, cuts.peek().copied()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    out.finish();
    out
}

/// Whatever can make a difference to a ranking, besides measured networks, prefixes and rules.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PlaceClass {
    position: [u32; 3],
    country: Option<CountryCode>,
    asn: Option<u32>,
}

/// Ranks each distinct kind of address once.
struct Ranker<'a> {
    set: &'a MirrorSet,
    places: &'a PlaceTable,
    before: Option<&'a CellTable>,
    steady: Steady,
    /// Of each entry of the geo table: its class, once that was needed.
    classes: Vec<u32>,
    class_numbers: HashMap<PlaceClass, u32>,
    /// Rankings of classes where nothing else matters, and of others by what matters.
    plain: HashMap<u32, u32>,
    special: HashMap<(u32, Locality), u32>,
    rankings: Vec<Ranking>,
    numbers: HashMap<Ranking, u32>,
}

/// Classes not looked at yet.
const UNSEEN: u32 = u32::MAX;
/// The class of unknown positions.
const NOWHERE: u32 = u32::MAX - 1;

impl<'a> Ranker<'a> {
    fn new(
        set: &'a MirrorSet,
        places: &'a PlaceTable,
        before: Option<&'a CellTable>,
        now: UnixMillis,
    ) -> Self {
        Ranker {
            set,
            places,
            before,
            steady: Steady::new(now),
            classes: vec![UNSEEN; places.entry_count()],
            class_numbers: HashMap::new(),
            plain: HashMap::new(),
            special: HashMap::new(),
            rankings: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// What tells the addresses from one cut to the next apart from others.
    fn apart(&self, addr: IpAddr) -> Locality {
        Locality::of(self.set, addr)
    }

    fn class(&mut self, entry: u32) -> u32 {
        match self.classes.get(entry as usize).copied() {
            Some(UNSEEN) => {
                let class = self.new_class(entry);
                self.classes[entry as usize] = class;
                class
            }
            Some(class) => class,
            None => NOWHERE,
        }
    }

    fn new_class(&mut self, entry: u32) -> u32 {
        let place = self.places.entry(entry);
        let Some(position) = place.position else { return NOWHERE };
        let matters = |asn: &u32| self.set.model().knows_as(*asn) || self.set.rules().name_as(*asn);
        let class = PlaceClass {
            position: position.unit().map(|x| (x + 0.0).to_bits()),
            country: place.country,
            asn: place.asn.filter(matters),
        };
        let next = self.class_numbers.len() as u32;
        *self.class_numbers.entry(class).or_insert(next)
    }

    /// The number of the ranking of a place in a locality.
    fn entry(&mut self, place: u32, locality: &Locality, addr: IpAddr) -> u32 {
        if locality.carried {
            return CARRIED;
        }
        let class = self.class(place);
        // A measured network's own word counts where its place is not known, too.
        if class == NOWHERE && locality.network.is_none() || self.set.shares_all() {
            return SHARED;
        }
        let plain = *locality == Locality::default();
        let known = if plain { self.plain.get(&class) } else { self.special.get(&(class, *locality)) };
        if let Some(known) = known {
            return *known;
        }
        let number = self.rank(place, locality, addr);
        match plain {
            true => self.plain.insert(class, number),
            false => self.special.insert((class, *locality), number),
        };
        number
    }

    fn rank(&mut self, entry: u32, locality: &Locality, addr: IpAddr) -> u32 {
        let place: Place = self.places.entry(entry);
        let client = self.set.model().client(&place, Some(addr));
        let matching = self.set.rules().matching(&place, Some(addr));
        let mut podium = self.set.podium(&client, &matching);
        // A place that was corrected is no noise of measurements: what follows from it counts at once.
        if let Some(before) = self.before.filter(|b| b.places.locate(addr).place == place) {
            let key = (place.position.map(|p| p.unit().map(f32::to_bits)), place.country, *locality);
            self.steady.settle((before, self.set.model()), &key, addr, &mut podium);
        }
        let ranking = self.set.ranking(&client, &podium);
        let next = self.rankings.len() as u32;
        *self.numbers.entry(ranking).or_insert_with(|| {
            self.rankings.push(ranking);
            next
        })
    }
}
