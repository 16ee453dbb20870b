//! Client address → where the client is, and the cell around it.
//!
//! A cell is a prefix inside which every address gets the same ranking: it is what an ECS scope
//! returns. Here a cell is the widest prefix that shares one place in the table, so a ranking
//! depends on nothing narrower than its cell.
//!
//! Two kinds of addresses get cells of their own:
//!
//! * IPv6 addresses that carry the IPv4 address of their user (6to4, RFC 3056, and the well-known
//!   prefix of NAT64, RFC 6052) are where that IPv4 address is. Cells of other addresses do not reach
//!   into those prefixes.
//! * Addresses whose position is unknown share out among a domain's mirrors by cell, so their cells
//!   are not wider than a network is announced: /24 and /48.

use crate::geo::table::{Located, PlaceTable};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Widest cell of IPv4 addresses of unknown position.
const UNKNOWN_V4: u8 = 24;
/// Likewise of IPv6.
const UNKNOWN_V6: u8 = 48;
/// Prefixes whose next 32 bits are an IPv4 address: first address and length.
const CARRIERS: [(u128, u8); 2] = [(0x2002 << 112, 16), (0x64_ff9b << 96, 96)];

/// The map shared by all domains, built once per set of databases.
#[derive(Clone, Default)]
pub struct Map {
    /// Grows with every rebuild.
    pub version: u64,
    /// Address → place.
    pub places: Arc<PlaceTable>,
}

impl Map {
    /// Where a client is. IPv4-mapped IPv6 addresses count as IPv4.
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
        let bits = addr.to_bits();
        for (prefix, length) in CARRIERS {
            let common = (bits ^ prefix).leading_zeros();
            if common >= u32::from(length) {
                let carried = (bits >> (96 - length)) as u32;
                let mut located = self.locate_v4(Ipv4Addr::from_bits(carried));
                located.cell = v6_cell(addr, length + located.cell.prefix_len());
                return located;
            }
        }
        let mut located = self.places.locate(IpAddr::V6(addr));
        let mut length = located.cell.prefix_len();
        if located.place.position.is_none() {
            length = length.max(UNKNOWN_V6);
        }
        for (prefix, _) in CARRIERS {
            let common = (bits ^ prefix).leading_zeros() as u8;
            // A cell that holds the first address of a prefix that `addr` is outside of: narrow it.
            if length <= common {
                length = common + 1;
            }
        }
        if length != located.cell.prefix_len() {
            located.cell = v6_cell(addr, length);
        }
        located
    }
}

// Lengths never exceed the family's, so the fallbacks are never taken.
fn v4_cell(addr: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new(addr, length).unwrap_or_else(|_| addr.into()).trunc())
}

fn v6_cell(addr: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new(addr, length).unwrap_or_else(|_| addr.into()).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::table::PlaceTableBuilder;
    use crate::geo::{Place, Position};
    use proptest::prelude::*;

    fn map() -> Map {
        let place = |lat| Place { position: Position::from_degrees(lat, 0.0), ..Place::default() };
        let mut builder = PlaceTableBuilder::new();
        for (net, lat) in
            [("192.0.2.0/24", 1.0), ("10.0.0.0/8", 2.0), ("2000::/3", 3.0), ("2001:db8::/32", 4.0)]
        {
            builder.add_override(net.parse().unwrap(), place(lat));
        }
        Map { version: 1, places: Arc::new(builder.build().unwrap()) }
    }

    fn at(addr: &str) -> (Option<f64>, String) {
        let located = map().locate(addr.parse().unwrap());
        (located.place.position.map(|p| p.degrees().0.round()), located.cell.to_string())
    }

    #[test]
    fn addresses_that_carry_ipv4_are_where_it_is() {
        assert_eq!(at("2002:c000:0201::1"), (Some(1.0), "2002:c000:200::/40".into()));
        assert_eq!(at("64:ff9b::192.0.2.9"), (Some(1.0), "64:ff9b::c000:200/120".into()));
        assert_eq!(at("::ffff:10.1.2.3"), (Some(2.0), "10.0.0.0/8".into()));
        assert_eq!(at("2001:db8::1"), (Some(4.0), "2001:db8::/32".into()));
        // The cell of a neighbour ends where 6to4 begins.
        assert_eq!(at("2003::1"), (Some(3.0), "2003::/16".into()));
    }

    #[test]
    fn cells_of_nowhere_are_networks() {
        assert_eq!(at("203.0.113.9"), (None, "203.0.113.0/24".into()));
        assert_eq!(at("fd00:1:2:3::4"), (None, "fd00:1:2::/48".into()));
        assert_eq!(Map::default().locate([203, 0, 113, 9].into()).cell.to_string(), "203.0.113.0/24");
    }

    proptest! {
        /// Everyone in a cell has its place and its cell.
        #[test]
        fn cells_are_equal_or_disjoint(prefix in 0usize..5, low: u128, other: u128) {
            let (first, keep) = [(0, 0), (0x2002 << 112, 16), (0x64_ff9b << 96, 96), (0x2000 << 112, 12), (0x64_ff9b << 96, 80)][prefix];
            let bits = first | low.checked_shr(keep).unwrap_or(0);
            let located = map().locate(Ipv6Addr::from_bits(bits).into());
            if let IpNet::V6(cell) = located.cell {
                let host = u128::MAX.checked_shr(cell.prefix_len().into()).unwrap_or(0);
                let neighbour = Ipv6Addr::from_bits(bits & !host | other & host);
                if neighbour.to_ipv4_mapped().is_none() {
                    prop_assert_eq!(map().locate(neighbour.into()), located);
                }
            }
        }
    }
}
