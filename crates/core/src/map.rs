//! Client address → where the client is, and the cell around it.
//!
//! A cell is a prefix inside which every address gets the same ranking: it is what an ECS scope
//! returns. Here a cell is the widest prefix that shares one place in the table, so a ranking
//! depends on nothing narrower than its cell.

use crate::geo::table::{Located, PlaceTable};
use std::net::IpAddr;
use std::sync::Arc;

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
        self.places.locate(addr.to_canonical())
    }
}
