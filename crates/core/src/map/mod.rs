//! Client address → cell and ranking.
//!
//! ```text
//!             places (one table for all domains)         sets of mirrors (one for domains that share it)
//!  address ──▶ range: place ─────────────┐                 │ strategy, rules, index
//!          ──▶ measured networks, covers ├─ cut, rank, merge ▶ cells of the set ─▶ ranking: first mirrors
//!          ──▶ prefixes of rules ────────┘                 │ (built for sets that are asked for)
//! ```
//!
//! A **cell** is a prefix inside which every address gets the same ranking: it is what an ECS scope
//! returns. Ranges of the geo table are cut where measured networks, their covering prefixes and rules
//! tell addresses apart, and neighbours that rank alike are merged; the cell of an address is the widest
//! aligned prefix inside its range, so two cells of one set are equal or disjoint. Which mirrors are
//! up is read when answering, so a mirror that goes down rebuilds nothing here.
//!
//! A ranking holds the first [`RANKED`] mirrors. While the cells of a set are not built (it was not
//! asked for yet, it changed just now, or there is no memory for it), a query ranks by itself, and
//! its cell is where it would be cut but not merged.
//!
//! Two kinds of addresses get cells of their own:
//!
//! * IPv6 addresses that carry the IPv4 address of their user (6to4, RFC 3056, and the well-known
//!   prefix of NAT64, RFC 6052) are where that IPv4 address is. Cells of other addresses do not reach
//!   into those prefixes.
//! * Addresses whose position is unknown share out among a domain's mirrors by cell, so their cells
//!   are not wider than a network is announced: /24 and /48.

mod bounds;
mod cells;
mod index;
mod plan;
mod ranked;
mod reach;
mod rules;
mod set;
mod shared;
mod steady;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use bounds::Bounds;
pub use cells::CellTable;
pub use plan::{Entry, Sets};
pub use ranked::{RANKED, Ranking};
pub use set::MirrorSet;
pub(crate) use shared::score;
pub use view::{Part, Step, View};

use crate::geo::table::{Located, PlaceTable};
use crate::rtt::Model;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Widest cell of IPv4 addresses of unknown position.
const UNKNOWN_V4: u8 = 24;
/// Likewise of IPv6.
const UNKNOWN_V6: u8 = 48;
/// Prefixes whose next 32 bits are an IPv4 address: first address and length.
const CARRIERS: [(u128, u8); 2] = [(0x2002 << 112, 16), (0x64_ff9b << 96, 96)];

/// Where clients are, and how near mirrors are to them.
#[derive(Clone, Default)]
pub struct Map {
    /// Grows with every change.
    pub version: u64,
    /// Address → place, shared by all domains.
    pub places: Arc<PlaceTable>,
    /// What was learned of round trips.
    pub model: Arc<Model>,
    /// The sets of mirrors of the registry's domains.
    pub sets: Sets,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map(version {}, {} sets)", self.version, self.sets.entries().len())
    }
}

/// What tells an address from others at the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Locality {
    /// It stands for an IPv4 address.
    carried: bool,
    /// Its covering prefix, if that is corrected as such.
    cover: Option<IpNet>,
    /// Its network, if that measured anything itself.
    network: Option<IpNet>,
    /// Which prefixes of rules hold it.
    rules: u64,
}

impl Locality {
    fn of(set: &MirrorSet, addr: IpAddr) -> Locality {
        let (cover, network) = set.model().told_apart(addr);
        let carried = matches!(addr, IpAddr::V6(v6) if carried(v6).is_some());
        Locality { carried, cover, network, rules: set.rules().prefixes_at(addr) }
    }
}

/// The IPv4 address that an IPv6 address carries, and the length of the prefix before it.
fn carried(addr: Ipv6Addr) -> Option<(Ipv4Addr, u8)> {
    let bits = addr.to_bits();
    let carrier =
        CARRIERS.iter().find(|(first, length)| (bits ^ first).leading_zeros() >= u32::from(*length));
    carrier.map(|(_, length)| (Ipv4Addr::from_bits((bits >> (96 - length)) as u32), *length))
}

/// The first address of the network that a user counts for: a /24 or a /48, and of addresses that carry
/// an IPv4 address the prefix that carries its /24. IPv4-mapped addresses count as IPv4.
pub(crate) fn network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4_cell(v4, UNKNOWN_V4).network(),
        IpAddr::V6(v6) => {
            let carrier = carried(v6).map(|(_, before)| before + UNKNOWN_V4);
            v6_cell(v6, carrier.unwrap_or(UNKNOWN_V6)).network()
        }
    }
}

impl Map {
    /// A map of places without any mirrors.
    pub fn of_places(version: u64, places: Arc<PlaceTable>) -> Map {
        Map { version, places, ..Map::default() }
    }

    /// Where a client is, and the widest prefix around it with the same place. IPv4-mapped IPv6
    /// addresses count as IPv4.
    pub fn locate(&self, addr: IpAddr) -> Located {
        match addr.to_canonical() {
            IpAddr::V4(v4) => self.locate_v4(v4),
            IpAddr::V6(v6) => self.locate_v6(v6),
        }
    }

    fn locate_v4(&self, addr: Ipv4Addr) -> Located {
        let mut located = self.places.locate(IpAddr::V4(addr));
        if located.place.position.is_none() && located.cell.prefix_len() < UNKNOWN_V4 {
            located.cell = v4_cell(addr, UNKNOWN_V4);
        }
        located
    }

    fn locate_v6(&self, addr: Ipv6Addr) -> Located {
        if let Some((v4, length)) = carried(addr) {
            let mut located = self.locate_v4(v4);
            located.cell = v6_cell(addr, length + located.cell.prefix_len());
            return located;
        }
        let mut located = self.places.locate(IpAddr::V6(addr));
        let mut length = located.cell.prefix_len().max(beside_carriers(addr));
        if located.place.position.is_none() {
            length = length.max(UNKNOWN_V6);
        }
        located.cell = v6_cell(addr, length);
        located
    }
}

/// The length of the widest prefix around an address that holds no address carrying another.
fn beside_carriers(addr: Ipv6Addr) -> u8 {
    let beside = |(first, _): &(u128, u8)| (addr.to_bits() ^ first).leading_zeros().min(127) as u8 + 1;
    let reaches = |(first, length): &&(u128, u8)| {
        // A prefix that is longer than the carrier's, or lies elsewhere, does not reach into it.
        let common = (addr.to_bits() ^ first).leading_zeros();
        common < u32::from(*length)
    };
    CARRIERS.iter().filter(reaches).map(beside).max().unwrap_or(0)
}

// Lengths never exceed the family's, so the fallbacks are never taken.
fn v4_cell(addr: Ipv4Addr, length: u8) -> IpNet {
    let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    let first = Ipv4Addr::from_bits(addr.to_bits() & !host);
    IpNet::V4(Ipv4Net::new(first, length).unwrap_or_else(|_| first.into()))
}

fn v6_cell(addr: Ipv6Addr, length: u8) -> IpNet {
    let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    let first = Ipv6Addr::from_bits(addr.to_bits() & !host);
    IpNet::V6(Ipv6Net::new(first, length).unwrap_or_else(|_| first.into()))
}
