//! What predictions need of the mirrors of a set, side by side.
//!
//! A prediction reads the way from three hubs to the mirror. Kept by mirror, that is a few scattered
//! cache lines for each; kept by hub, the mirrors of a small set share them, and of a large set the
//! three columns that a region's clients read stay in the cache.

use super::set::Member;
use crate::rtt::Client;
use crate::rtt::routes::{HUBS, route_over};

/// The columns of one set. All are as long as the set is large, `from_hub` for each hub in turn.
#[derive(Debug, Default)]
pub(super) struct Reach {
    units: Box<[[f32; 3]]>,
    targets: Box<[Option<u32>]>,
    from_hub: Box<[f32]>,
    /// Of mirrors whose place is not known nothing else counts.
    placed: Box<[bool]>,
}

impl Reach {
    pub(super) fn new(members: &[Member]) -> Reach {
        let tolls = |m: &Member| m.site.tolls().cloned();
        let from_hub = (0..HUBS)
            .flat_map(|hub| members.iter().map(move |m| m.site.tolls().map_or(0.0, |t| t.from_hub(hub))))
            .collect();
        Reach {
            units: members.iter().map(|m| tolls(m).map_or([0.0; 3], |t| t.unit())).collect(),
            targets: members.iter().map(|m| m.site.target()).collect(),
            from_hub,
            placed: members.iter().map(|m| m.site.tolls().is_some()).collect(),
        }
    }

    /// A mirror's number among the model's targets.
    pub(super) fn target(&self, slot: u16) -> Option<u32> {
        self.targets.get(usize::from(slot)).copied().flatten()
    }

    /// The predicted round trip from a client to a mirror, on the scale; as [`Client::point`] has it.
    pub(super) fn point(&self, client: &Client<'_>, slot: u16) -> f32 {
        client.point_over(self.route_km(client, usize::from(slot)), self.target(slot))
    }

    fn route_km(&self, client: &Client<'_>, slot: usize) -> Option<f32> {
        let (access, unit) = (client.access()?, self.units.get(slot)?);
        let column = |hub: usize| self.from_hub.get(hub * self.units.len() + slot);
        let placed = self.placed.get(slot).is_some_and(|placed| *placed);
        placed.then(|| route_over(access, unit, |hub| column(hub).copied().unwrap_or(f32::INFINITY)))
    }
}
