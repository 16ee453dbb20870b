//! What one client gets to see of one domain.

use super::bounds::Bounds;
use super::cells::SHARED;
use super::plan::Entry;
use super::ranked::Ranking;
use super::set::MirrorSet;
use super::{Map, UNKNOWN_V4, UNKNOWN_V6, beside_carriers, carried, v4_cell, v6_cell};
use crate::geo::Place;
use crate::hash::{hash_of_cell, mix};
use crate::registry::DomainIndex;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Widest cell inside which users are shared out, in IPv4 …
const SPREAD_V4: u8 = 20;
/// … and in IPv6.
const SPREAD_V6: u8 = 44;
/// Makes the order of shedding independent of who has the part by rendezvous.
const TURNS: u64 = 0x7368_6564_5f6c_6f77;

/// A prefix around the client in which everyone is treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    inner: IpNet,
    /// What is hashed: stays the same when cells become narrower or wider.
    network: IpNet,
    /// In the family of the client's address.
    pub cell: IpNet,
}

impl Part {
    /// What users are shared out by: equal for the same IPv4 network, however it is written.
    pub fn hash(&self) -> u64 {
        hash_of_cell(self.network)
    }

    /// Where it stands in the order in which loaded mirrors send parts on, lowest first: a mirror that
    /// sheds `n` 65 535ths sends on the parts before `n`. The order is the same for all mirrors:
    /// with one for each, two loaded neighbours would send each other's users to and fro.
    pub fn turn(&self) -> u16 {
        // Never the last: a mirror that sheds all of them keeps none.
        ((mix(self.hash() ^ TURNS) >> 48) as u16).min(u16::MAX - 1)
    }

    /// Whether it is small enough to try things out on: at most a /16, or a /40.
    pub(crate) fn is_small(&self) -> bool {
        match self.inner {
            IpNet::V4(n) => n.prefix_len() >= 16,
            IpNet::V6(n) => n.prefix_len() >= 40,
        }
    }
}

/// The ranking for one client, and the cell around it.
#[derive(Clone, Copy)]
pub struct View<'m> {
    map: &'m Map,
    set: &'m MirrorSet,
    /// The address that is looked up: for a carrier, the one it carries.
    addr: IpAddr,
    /// The carrier, and the length before the carried address.
    carrier: Option<(Ipv6Addr, u8)>,
    ranking: Ranking,
    cell: IpNet,
    shared: bool,
}

/// How far a lookup is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The index.
    First,
    /// What the index points to.
    Second,
}

impl Map {
    /// What a client gets to see of a domain; `None` for a domain that the map does not know.
    #[inline]
    pub fn view(&self, domain: DomainIndex, addr: IpAddr) -> Option<View<'_>> {
        let entry = self.sets.of(domain)?;
        entry.set.touch();
        let canonical = addr.to_canonical();
        let (addr, carrier) = match canonical {
            IpAddr::V6(v6) => match carried(v6) {
                Some((v4, length)) => (IpAddr::V4(v4), Some((v6, length))),
                None => (canonical, None),
            },
            IpAddr::V4(_) => (canonical, None),
        };
        let (ranking, cell, shared) =
            self.built(entry, addr).unwrap_or_else(|| self.direct(&entry.set, addr));
        Some(View { map: self, set: &entry.set, addr, carrier, ranking, cell, shared })
    }

    /// Has what [`Map::view`] will read for a client brought to the cache; to be told of many clients before the
    /// first is looked up. The second step needs what the first brought.
    #[inline]
    pub fn expect(&self, domain: DomainIndex, addr: IpAddr, step: Step) {
        let Some(cells) = self.sets.of(domain).and_then(|entry| entry.cells.as_deref()) else { return };
        match (addr, step) {
            (IpAddr::V4(a), Step::First) => cells.v4.expect(a.to_bits()),
            (IpAddr::V4(a), Step::Second) => cells.v4.expect_more(a.to_bits()),
            (IpAddr::V6(a), Step::First) => cells.v6.expect(a.to_bits()),
            (IpAddr::V6(a), Step::Second) => cells.v6.expect_more(a.to_bits()),
        }
    }

    /// The predicted round trip of a client to a domain's mirror, in milliseconds, without any ranking; `None`
    /// where nothing tells, or there is no such mirror.
    pub fn predict(&self, domain: DomainIndex, slot: usize, addr: IpAddr) -> Option<f32> {
        let set = &self.sets.of(domain)?.set;
        let client = set.model().client(&self.locate(addr).place, Some(addr.to_canonical()));
        let told = client.predict(set.site(slot)?);
        (told.route_km.is_some() || told.own_ms.is_some()).then_some(told.ms)
    }

    /// From the cells of the set.
    fn built(&self, entry: &Entry, addr: IpAddr) -> Option<(Ranking, IpNet, bool)> {
        let cells = entry.cells.as_deref()?;
        let (number, cell) = match addr {
            IpAddr::V4(a) => {
                let found = cells.v4.find(a.to_bits());
                (found.entry, v4_cell(a, found.prefix_len(a.to_bits())))
            }
            IpAddr::V6(a) => {
                let found = cells.v6.find(a.to_bits());
                (found.entry, v6_cell(a, found.prefix_len(a.to_bits())))
            }
        };
        (number != SHARED).then(|| Some((*cells.ranking(number)?, cell, false)))?
    }

    /// By ranking now.
    fn direct(&self, set: &MirrorSet, addr: IpAddr) -> (Ranking, IpNet, bool) {
        let (place, mut cell) = self.narrow(set, addr);
        let client = set.model().client(&place, Some(addr));
        let unknown = client.position().is_none() && !client.speaks_for_itself();
        if set.is_failover() || !unknown && !set.shares_all() {
            return (set.rank(&client, &place, Some(addr)), cell, false);
        }
        let (v4, v6) = if unknown { (UNKNOWN_V4, UNKNOWN_V6) } else { (SPREAD_V4, SPREAD_V6) };
        cell = at_least(addr, cell, v4, v6);
        (set.share(hash_of_cell(at_most(cell, v4, v6)), &place, Some(addr)), cell, true)
    }

    /// The place of an address, and the widest prefix around it inside which nothing tells addresses
    /// apart.
    fn narrow(&self, set: &MirrorSet, addr: IpAddr) -> (Place, IpNet) {
        let (rules_v4, rules_v6) = set.rules().cuts();
        let (v4, v6) = self.places.families();
        match addr {
            IpAddr::V4(a) => {
                let bits = a.to_bits();
                let found = v4.find(bits);
                let mut bounds = Bounds::from(found);
                set.model().bound_v4(&mut bounds, bits);
                bounds.within_cuts(rules_v4, bits);
                (self.places.entry(found.entry), v4_cell(a, bounds.prefix_len(bits)))
            }
            IpAddr::V6(a) => {
                let bits = a.to_bits();
                let found = v6.find(bits);
                let mut bounds = Bounds::from(found);
                set.model().bound_v6(&mut bounds, bits);
                bounds.within_cuts(rules_v6, bits);
                let length = bounds.prefix_len(bits).max(beside_carriers(a));
                (self.places.entry(found.entry), v6_cell(a, length))
            }
        }
    }
}

/// The cell around an address, but not wider than these lengths.
fn at_least(addr: IpAddr, cell: IpNet, v4: u8, v6: u8) -> IpNet {
    match addr {
        IpAddr::V4(a) => v4_cell(a, cell.prefix_len().max(v4)),
        IpAddr::V6(a) => v6_cell(a, cell.prefix_len().max(v6)),
    }
}

/// A prefix, but not longer than these lengths.
fn at_most(net: IpNet, v4: u8, v6: u8) -> IpNet {
    match net.addr() {
        IpAddr::V4(a) => v4_cell(a, net.prefix_len().min(v4)),
        IpAddr::V6(a) => v6_cell(a, net.prefix_len().min(v6)),
    }
}

impl<'m> View<'m> {
    /// The first mirrors.
    pub fn ranking(&self) -> &Ranking {
        &self.ranking
    }

    /// The set of mirrors.
    pub fn set(&self) -> &'m MirrorSet {
        self.set
    }

    /// Whether users are shared out among all mirrors here, wherever those are.
    pub fn shared(&self) -> bool {
        self.shared
    }

    /// Whether everyone, wherever, is given a mirror that is the first which can be used here.
    pub fn is_for_everyone(&self, slot: usize) -> bool {
        self.set.is_for_everyone(slot)
    }

    /// The address that is looked up: the client's, or the IPv4 address that it carries.
    pub fn looked_up(&self) -> IpAddr {
        self.addr
    }

    /// The place of the client.
    pub fn place(&self) -> Place {
        self.map.locate(self.addr).place
    }

    /// The client as the model sees it.
    pub fn client(&self) -> crate::rtt::Client<'m> {
        self.set.model().client(&self.place(), Some(self.addr))
    }

    /// A cell of the address that was looked up as one of the address that was asked for.
    fn outer(&self, cell: IpNet) -> IpNet {
        match self.carrier {
            Some((addr, before)) => v6_cell(addr, before + cell.prefix_len()),
            None => cell,
        }
    }

    fn part(&self, inner: IpNet) -> Part {
        let (v4, v6) = if self.shared { (UNKNOWN_V4, UNKNOWN_V6) } else { (SPREAD_V4, SPREAD_V6) };
        Part { inner, network: at_most(inner, v4, v6), cell: self.outer(inner) }
    }

    /// The cell: everyone in it has this ranking.
    pub fn whole(&self) -> Part {
        self.part(self.cell)
    }

    /// The part of the cell inside which users are shared out alike.
    pub fn spread(&self) -> Part {
        self.part(at_least(self.addr, self.cell, SPREAD_V4, SPREAD_V6))
    }

    /// The part of that inside which nothing at all tells addresses apart: everyone in it is predicted
    /// the same round trips to all mirrors, not only the first.
    pub fn alike(&self) -> Part {
        let (_, narrow) = self.map.narrow(self.set, self.addr);
        let spread = self.spread().inner.prefix_len();
        self.part(at_least(self.addr, narrow, spread, spread))
    }

    /// The best of the mirrors that `wanted` admits, whether the ranking holds it or not.
    pub(crate) fn beyond(&self, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let place = self.place();
        let client = self.set.model().client(&place, Some(self.addr));
        self.set.best(&client, &place, Some(self.addr), wanted)
    }

    /// Whether rules keep a mirror from this client.
    pub fn excludes(&self, slot: usize) -> bool {
        if self.set.rules().is_empty() {
            return false;
        }
        let matching = self.set.rules().matching(&self.place(), Some(self.addr));
        u16::try_from(slot).is_ok_and(|slot| matching.excludes(slot))
    }

    /// The same for pins.
    pub fn pins(&self, slot: usize) -> bool {
        if self.set.rules().is_empty() {
            return false;
        }
        let matching = self.set.rules().matching(&self.place(), Some(self.addr));
        u16::try_from(slot).is_ok_and(|slot| matching.pins(slot))
    }
}
