//! What predictions need of the mirrors of a set, side by side.
//!
//! A prediction reads the way from three hubs to the mirror. Kept by mirror, that is a few scattered
//! cache lines for each; kept by hub, the mirrors of a small set share them, and of a large set the
//! three columns that a region's clients read stay in the cache.

use super::set::Member;
use crate::rtt::Client;
use crate::rtt::routes::{HUBS, route_over};

/// The mirrors of one set as predictions read them.
#[derive(Debug, Default)]
pub(super) struct Reach {
    spots: Box<[Spot]>,
    /// Kilometres from each hub to each mirror: as many as there are mirrors for the first hub, then for
    /// the next. What stands there for mirrors of unknown place is not read.
    from_hub: Box<[f32]>,
}

/// One mirror.
#[derive(Clone, Copy, Debug)]
struct Spot {
    /// Where it is, if that is known.
    unit: Option<[f32; 3]>,
    /// Its number among the model's targets.
    target: Option<u32>,
}

impl Reach {
    pub(super) fn new(members: &[Member]) -> Reach {
        let spot = |m: &Member| Spot { unit: m.site.tolls().map(|t| t.unit()), target: m.site.target() };
        let from = |hub: usize| {
            members.iter().map(move |m| m.site.tolls().map_or(f32::INFINITY, |t| t.from_hub(hub)))
        };
        Reach { spots: members.iter().map(spot).collect(), from_hub: (0..HUBS).flat_map(from).collect() }
    }

    /// A mirror's number among the model's targets.
    pub(super) fn target(&self, slot: u16) -> Option<u32> {
        self.spots.get(usize::from(slot))?.target
    }

    /// The predicted round trip from a client to a mirror, on the scale; as [`Client::point`] has it.
    pub(super) fn point(&self, client: &Client<'_>, slot: u16) -> f32 {
        let Some(spot) = self.spots.get(usize::from(slot)) else { return f32::INFINITY };
        let route = client.access().zip(spot.unit).map(|(access, unit)| {
            let from_hub = |hub: usize| self.from_hub.get(hub * self.spots.len() + usize::from(slot));
            route_over(access, &unit, |hub| from_hub(hub).copied().unwrap_or(f32::INFINITY))
        });
        client.point_over(route, spot.target)
    }
}
