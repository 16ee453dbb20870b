//! Which agents are asked about a mirror.
//!
//! A witness must be well placed to say anything: heard within the last beacon period, of another
//! network than the mirror and than the other witnesses. Where both autonomous systems are known
//! they must differ, else the /16 or /32. Candidates are looked at from a random place on, so that no
//! agent is asked always, and no more than [`LOOK_AT`] of them: the choice costs the same in a fleet of
//! ten and of a hundred thousand. Of the first [`CANDIDATES`] that fit, the nearest to the broker are
//! asked: order and answer are soon there, and how long they must wait for the mirror is known.

use super::config::FleetConfig;
use super::links::Neighbourhood;
use super::mirror::MirrorTable;
use super::node::{Node, NodeTable, Stage};
use super::panel::WITNESSES;
use crate::geo::table::PlaceTable;
use crate::health::Family;
use crate::id::NodeId;
use crate::time::MonoTime;
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::time::Duration;

/// Most agents that are looked at, and most of them that are compared.
const LOOK_AT: usize = 256;
const CANDIDATES: usize = 32;
/// Candidates that are about as far are equals.
const ABOUT: u128 = 20;
/// How far an agent is whose mirrors the broker has not measured.
const UNKNOWN: Duration = Duration::from_millis(150);

/// An agent that is asked, and how far it is from the broker, there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub id: NodeId,
    pub trip: Duration,
}

/// Where something is in the net, as far as failing together goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whereabouts {
    net: Neighbourhood,
    v4: bool,
    asn: Option<u32>,
}

impl Whereabouts {
    pub fn of(addr: IpAddr, places: &PlaceTable) -> Whereabouts {
        let addr = addr.to_canonical();
        Whereabouts { net: Neighbourhood::of(addr), v4: addr.is_ipv4(), asn: places.locate(addr).place.asn }
    }

    /// Whether one may well be reached where the other is not.
    pub fn independent(&self, other: &Whereabouts) -> bool {
        match (self.asn, other.asn) {
            (Some(a), Some(b)) => a != b,
            // Across families prefixes say nothing, and one network may have both.
            _ => self.v4 == other.v4 && self.net != other.net,
        }
    }
}

/// Whom to ask about a mirror at `addr` that `own` runs.
pub(super) fn choose(
    (nodes, mirrors): (&NodeTable, &MirrorTable),
    places: &PlaceTable,
    (addr, own): (IpAddr, Option<NodeId>),
    config: &FleetConfig,
    (random, now): (u64, MonoTime),
) -> ArrayVec<Chosen, WITNESSES> {
    let family = if addr.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 };
    let about = Whereabouts::of(addr, places);
    let mut candidates: ArrayVec<(Whereabouts, Chosen), CANDIDATES> = ArrayVec::new();
    for node in nodes.slots.from(random as usize).take(LOOK_AT) {
        if Some(node.id) == own || !well_placed(node, config, now) {
            continue;
        }
        let Some(from) = source(node, mirrors, family) else { continue };
        let place = Whereabouts::of(from, places);
        if place.independent(&about) {
            let trip = trip(node, mirrors).unwrap_or(UNKNOWN);
            candidates.push((place, Chosen { id: node.id, trip }));
            if candidates.is_full() {
                break;
            }
        }
    }
    candidates.sort_by_key(|(_, chosen)| chosen.trip.as_millis() / ABOUT);
    let mut taken: ArrayVec<(Whereabouts, Chosen), WITNESSES> = ArrayVec::new();
    for candidate in candidates {
        if !taken.is_full() && taken.iter().all(|(place, _)| place.independent(&candidate.0)) {
            taken.push(candidate);
        }
    }
    taken.into_iter().map(|(_, chosen)| chosen).collect()
}

/// Where a node would ask from in a family: where its sessions come from, else where it serves.
fn source(node: &Node, mirrors: &MirrorTable, family: Family) -> Option<IpAddr> {
    let served = || node.mirrors.iter().find_map(|m| mirrors.slots.get(*m)?.sides[family.index()].addr);
    node.sessions.remote[family.index()].or_else(served)
}

/// How far a node is, by what its mirrors' answers to the broker take.
fn trip(node: &Node, mirrors: &MirrorTable) -> Option<Duration> {
    let states = node.mirrors.iter().filter_map(|m| mirrors.slots.get(*m));
    states.flat_map(|state| &state.sides).filter_map(|side| side.probing.took.usual()).min()
}

/// Whether it can be asked now, and would be heard.
fn well_placed(node: &Node, config: &FleetConfig, now: MonoTime) -> bool {
    let heard = node.hearing.last().is_some_and(|last| now.since(last) <= config.silence(1));
    node.hearing.stage == Stage::Present && heard && !node.sessions.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_independent_by_number_else_by_prefix() {
        let places = PlaceTable::default();
        let at = |text: &str, asn| Whereabouts { asn, ..Whereabouts::of(text.parse().unwrap(), &places) };
        let independent = |a: Whereabouts, b: Whereabouts| a.independent(&b) && b.independent(&a);
        assert!(independent(at("10.1.0.1", None), at("10.2.0.1", None)));
        assert!(!independent(at("10.1.0.1", None), at("10.1.9.1", None)));
        assert!(independent(at("10.1.0.1", Some(1)), at("10.1.9.1", Some(2))));
        assert!(!independent(at("10.1.0.1", Some(1)), at("10.2.0.1", Some(1))));
        assert!(independent(at("10.1.0.1", Some(1)), at("10.2.0.1", None)));
        assert!(!independent(at("10.1.0.1", None), at("2001:db8::1", None)), "nothing to compare by");
        assert!(independent(at("2001:db8::1", None), at("2001:db9::1", None)));
    }
}
