//! Which agents are asked about a mirror.
//!
//! A witness must be well placed to say anything: heard within the last beacon period, of another
//! network than the mirror and than the other witnesses. Where both autonomous systems are known
//! they must differ, else the /16 or /32. Candidates are looked at from a random place on, so that no
//! agent is asked always, and no more than [`LOOK_AT`] of them: the choice costs the same in a fleet of
//! ten and of a hundred thousand. Of the first [`CANDIDATES`] that fit, those are asked who can tell
//! soonest that nothing answers, by their way to the broker and theirs to the mirror.

use super::config::FleetConfig;
use super::events::family_of;
use super::links::Neighbourhood;
use super::mirror::MirrorTable;
use super::node::{Node, NodeTable, Stage};
use super::panel::{WITNESSES, WITNESSES_LOSSY};
use super::timing;
use crate::geo::table::PlaceTable;
use crate::geo::{Place, Position};
use crate::health::Family;
use crate::id::NodeId;
use crate::registry::Registry;
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

/// An agent that is asked: how far it is from the broker, and at most from the mirror, there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub id: NodeId,
    pub trip: Duration,
    pub look: Duration,
}

/// What witnesses are to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub addr: IpAddr,
    /// Who runs it.
    pub own: Option<NodeId>,
    /// Where it is, if that is known better than by its address.
    pub position: Option<Position>,
    /// How long its answers to the broker usually take.
    pub usual: Duration,
}

/// Whom to choose from.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub nodes: &'a NodeTable,
    pub mirrors: &'a MirrorTable,
    pub registry: &'a Registry,
    pub places: &'a PlaceTable,
    pub config: &'a FleetConfig,
}

/// Where something is in the net, as far as failing together goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whereabouts {
    net: Neighbourhood,
    v4: bool,
    asn: Option<u32>,
    position: Option<Position>,
}

impl Whereabouts {
    pub fn of(addr: IpAddr, places: &PlaceTable) -> Whereabouts {
        let addr = addr.to_canonical();
        let Place { asn, position, .. } = places.locate(addr).place;
        Whereabouts { net: Neighbourhood::of(addr), v4: addr.is_ipv4(), asn, position }
    }

    /// The same, where its place is known better than by its address.
    fn at(self, position: Option<Position>) -> Whereabouts {
        Whereabouts { position: position.or(self.position), ..self }
    }

    fn km(&self, other: &Whereabouts) -> Option<f64> {
        Some(self.position?.distance_km(other.position?))
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

impl Choice<'_> {
    /// Whom to ask.
    pub fn choose(&self, subject: &Subject, random: u64, now: MonoTime) -> ArrayVec<Chosen, WITNESSES_LOSSY> {
        let family = family_of(subject.addr).0;
        let about = Whereabouts::of(subject.addr, self.places).at(subject.position);
        let mut candidates: ArrayVec<(Whereabouts, Chosen), CANDIDATES> = ArrayVec::new();
        for node in self.nodes.slots.from(random as usize).take(LOOK_AT) {
            if Some(node.id) == subject.own || !well_placed(node, self.config, now) {
                continue;
            }
            let Some(place) = self.place(node, family).filter(|place| place.independent(&about)) else {
                continue;
            };
            let trip = self.trip(node).unwrap_or(UNKNOWN);
            let look = timing::between(place.km(&about), (trip, subject.usual));
            candidates.push((place, Chosen { id: node.id, trip, look }));
            if candidates.is_full() {
                break;
            }
        }
        candidates.sort_by_key(|(_, chosen)| (chosen.trip + chosen.look).as_millis() / ABOUT);
        let many = if self.nodes.loss.is_lossy() { WITNESSES_LOSSY } else { WITNESSES };
        let mut taken: ArrayVec<(Whereabouts, Chosen), WITNESSES_LOSSY> = ArrayVec::new();
        for candidate in candidates {
            if taken.len() < many && taken.iter().all(|(place, _)| place.independent(&candidate.0)) {
                taken.push(candidate);
            }
        }
        taken.into_iter().map(|(_, chosen)| chosen).collect()
    }

    /// Where a node would ask from in a family: where its sessions come from, else where it serves.
    fn place(&self, node: &Node, family: Family) -> Option<Whereabouts> {
        let mut states = node.mirrors.iter().filter_map(|m| self.mirrors.slots.get(*m));
        let position = states.clone().find_map(|m| self.registry.mirror(m.index).place.position);
        let served = states.find_map(|m| m.sides[family.index()].addr);
        let from = node.sessions.remote[family.index()].or(served)?;
        Some(Whereabouts::of(from, self.places).at(position))
    }

    /// How far a node is, by what its mirrors' answers to the broker take.
    fn trip(&self, node: &Node) -> Option<Duration> {
        let states = node.mirrors.iter().filter_map(|m| self.mirrors.slots.get(*m));
        states.flat_map(|state| &state.sides).filter_map(|side| side.probing.took.usual()).min()
    }
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
