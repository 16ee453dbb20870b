//! What one client network measured itself.
//!
//! A network that measures a mirror faster than light could be is not where it is said to be: it is
//! taken to be where the mirror is that it measured the least to, and it does not speak for the
//! place where it is not.

use super::model::{Client, Site};
use super::scale::{millis, stretch};
use crate::geo::Position;

/// How fast the number of measurements gives weight to a network's offset.
const OFFSET_SHRINK: f32 = 0.5;
/// Kilometres of great circle that light in fibre goes there and back in a millisecond.
const LIGHT_KM_PER_MS: f32 = 100.0;

/// How far below light a measurement must be to speak against a place: clocks and rounding.
pub(super) const SLACK_MS: f32 = 1.0;

/// The least that a round trip between two places can be, in milliseconds.
pub(super) fn light_ms(a: Position, b: Position) -> f32 {
    a.distance_km(b) as f32 / LIGHT_KM_PER_MS
}

/// A measurement, but never below light in fibre.
pub(super) fn raised(client: Option<Position>, site: &Site, ms: f32) -> f32 {
    match (client, site.position()) {
        (Some(a), Some(b)) => ms.max(light_ms(a, b)),
        _ => ms,
    }
}

/// Where a network is that measured something faster than light: at the mirror it measured the least to.
pub(super) fn elsewhere<'s>(
    position: Option<Position>,
    measured: impl Iterator<Item = (&'s Site, f32)> + Clone,
) -> Option<Position> {
    let position = position?;
    let impossible =
        |(site, ms): (&Site, f32)| site.position().is_some_and(|p| ms < light_ms(position, p) - SLACK_MS);
    if !measured.clone().any(impossible) {
        return None;
    }
    measured.min_by(|a, b| a.1.total_cmp(&b.1))?.0.position()
}

/// A network's own measurement of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) target: u32,
    /// On the scale.
    pub(super) point: f32,
    /// Number of votes, aged.
    pub(super) weight: f32,
    /// Bits by [`super::Source`].
    pub(super) sources: u8,
}

/// All that one network measured.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Where the network is, if that is not where it is said to be.
    moved: Option<Position>,
    offset: f32,
    /// Sorted by target.
    own: Box<[Own]>,
    /// Targets that its clients do not reach, sorted.
    missed: Box<[u32]>,
}

impl Row {
    /// From what a client measured of sites, in milliseconds; `None` when that is nothing.
    pub(super) fn new(client: &Client<'_>, measured: &[(&Site, Own)]) -> Option<Row> {
        let moved =
            elsewhere(client.position(), measured.iter().map(|(site, own)| (*site, millis(own.point))));
        let client = client.at(moved);
        let raised = |(site, own): &(&Site, Own)| {
            let point = stretch(raised(client.position(), site, millis(own.point)));
            (point - client.others(site), Own { point, ..*own })
        };
        let (mut differences, mut own): (Vec<f32>, Vec<Own>) = measured.iter().map(raised).unzip();
        own.sort_by_key(|o| o.target);
        Some(Row {
            moved,
            offset: offset(&mut differences)?,
            own: own.into_boxed_slice(),
            missed: Box::default(),
        })
    }

    /// What a client measured just now, in milliseconds, by site; `None` when that is nothing. Put it
    /// to use by [`Client::with`].
    pub fn fresh<'s>(
        client: &Client<'_>,
        measured: impl IntoIterator<Item = (&'s Site, f32)>,
    ) -> Option<Row> {
        let own = |(site, ms): (&'s Site, f32)| {
            Some((site, Own { target: site.target()?, point: stretch(ms), weight: 1.0, sources: 1 }))
        };
        let measured: Vec<_> = measured.into_iter().filter_map(own).collect();
        Row::new(client, &measured)
    }

    /// The same beside what its network measured of these sites before. Of sites that are not given,
    /// what the network measured is left out.
    pub fn extended<'s>(
        client: &Client<'_>,
        sites: impl IntoIterator<Item = (&'s Site, Option<f32>)>,
    ) -> Option<Row> {
        let own = |(site, fresh): (&'s Site, Option<f32>)| {
            let own = match fresh {
                Some(ms) => Own { target: site.target()?, point: stretch(ms), weight: 1.0, sources: 1 },
                None => *client.own(site.target())?,
            };
            Some((site, own))
        };
        let mut reached = Vec::new();
        let measured: Vec<_> = sites
            .into_iter()
            .inspect(|(site, fresh)| reached.extend(site.target().filter(|_| fresh.is_some())))
            .filter_map(own)
            .collect();
        let mut row = Row::new(client, &measured)?;
        row.missed = client.missed().filter(|t| !reached.contains(t)).collect();
        Some(row)
    }

    /// These targets, sorted, are out of the network's reach.
    pub(super) fn missed(&mut self, targets: Box<[u32]>) {
        self.missed = targets;
    }

    /// Those targets.
    pub(super) fn all_missed(&self) -> &[u32] {
        &self.missed
    }

    /// Whether a target is out of the network's reach.
    pub(super) fn misses(&self, target: u32) -> bool {
        self.missed.binary_search(&target).is_ok()
    }

    /// Where the network is, if that is not where it is said to be.
    pub(super) fn moved(&self) -> Option<Position> {
        self.moved
    }

    /// By how much the network is slower or faster than predicted on the whole, on the scale.
    pub(super) fn offset(&self) -> f32 {
        self.offset
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = u32> + '_ {
        self.own.iter().map(|o| o.target)
    }

    pub(super) fn of(&self, target: u32) -> Option<&Own> {
        self.own.get(self.own.binary_search_by_key(&target, |o| o.target).ok()?)
    }
}

/// The median, shrunk by the number.
fn offset(differences: &mut [f32]) -> Option<f32> {
    differences.sort_by(f32::total_cmp);
    let n = differences.len();
    let (low, high) = (differences.get(n.checked_sub(1)? / 2)?, differences.get(n / 2)?);
    Some((low + high) / 2.0 * n as f32 / (n as f32 + OFFSET_SHRINK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_medians_that_few_measurements_shrink() {
        assert_eq!(offset(&mut []), None);
        assert!((offset(&mut [0.3]).unwrap() - 0.2).abs() < 1e-6);
        assert!((offset(&mut [9.0, 0.1, 0.2]).unwrap() - 0.2 * 3.0 / 3.5).abs() < 1e-6);
    }
}
