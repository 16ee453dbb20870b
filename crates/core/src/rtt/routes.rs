//! How far two places are along the cables that exist.
//!
//! Great-circle distance is a poor guide to round trips between continents: India and Siberia are
//! 3 600 km apart, and their packets meet in Europe. So a distance here goes from a place to one of
//! the [`Hub`]s nearest to it, along the links between hubs, and from a hub near the other place to
//! it; places close to each other are also linked directly.
//!
//! ```text
//!  client ──access──▶ hub ══trunk══▶ hub ══trunk══▶ hub ──access──▶ mirror
//!     └────────────────── directly, up to 600 km ─────────────────────┘
//! ```
//!
//! * access: 1.3 × the great circle (roads and railways wind), from each of the three nearest hubs;
//! * trunk: the shortest path over `LINKS`, great circles plus 100 km a link for equipment
//!   and detours;
//! * the route is the shortest of all of these, so it is the same in both directions.
//!
//! Before any measurement this chooses a mirror whose round trip is 2 to 4 ms less in the mean than
//! that of the nearest by great circle (BENCHMARKS.md); with measurements it makes what is learned
//! in one place worth more in another, because what is left to learn is smaller.

mod hubs;

pub use hubs::Hub;

use crate::geo::{EARTH_RADIUS_KM, Position};

/// Number of hubs.
pub const HUBS: usize = Hub::ALL.len();
/// From how many of the nearest hubs a place is reached.
const NEAREST: usize = 3;
/// How much longer a path on land is than the great circle.
const DETOUR: f32 = 1.3;
/// What each link between hubs adds, in kilometres.
const LINK_KM: f32 = 100.0;
/// Places this near are also linked directly, in kilometres.
const DIRECT_KM: f32 = 600.0;

/// Great-circle distance of two unit vectors in kilometres, in single precision: for comparing, at
/// a tenth of the cost of [`Position::distance_km`] and to within a few kilometres.
fn great_circle_km(a: &[f32; 3], b: &[f32; 3]) -> f32 {
    let (x, y, z) = (a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    let half_chord = 0.5 * (x * x + y * y + z * z).sqrt();
    2.0 * EARTH_RADIUS_KM as f32 * half_chord.min(1.0).asin()
}

/// The trunk network: distances between all hubs.
#[derive(Clone, Debug)]
pub struct Routes {
    at: Vec<[f32; 3]>,
    /// Shortest paths in kilometres, row by row.
    trunk: Vec<f32>,
}

/// How a place reaches the trunk network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Access {
    unit: [f32; 3],
    /// The nearest hubs, nearest first, and the way to each in kilometres.
    hubs: [(u8, f32); NEAREST],
}

impl Access {
    /// The hubs that routes go through, nearest first.
    pub fn hubs(&self) -> impl Iterator<Item = usize> + '_ {
        self.hubs.iter().map(|(hub, _)| usize::from(*hub))
    }

    /// The nearest hub: the region that a place belongs to.
    pub fn region(&self) -> usize {
        usize::from(self.hubs[0].0)
    }
}

/// How far a place is from every hub along the trunk network: what a mirror keeps, so that a route to
/// it is three additions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolls {
    unit: [f32; 3],
    km: [f32; HUBS],
}

impl Tolls {
    /// From a hub to the place, in kilometres.
    pub fn from_hub(&self, hub: usize) -> f32 {
        self.km.get(hub).copied().unwrap_or(f32::INFINITY)
    }

    /// The place's unit vector.
    pub fn unit(&self) -> [f32; 3] {
        self.unit
    }
}

impl Default for Routes {
    fn default() -> Self {
        Routes::new()
    }
}

impl Routes {
    /// Computes the distances; takes about a millisecond.
    pub fn new() -> Routes {
        let unit = |hub: &Hub| {
            let (lat, lon) = hub.degrees();
            // Degrees of hubs are within range, which a test shows.
            Position::from_degrees(lat, lon).map_or([0.0, 0.0, 1.0], Position::unit)
        };
        let at: Vec<[f32; 3]> = Hub::ALL.iter().map(unit).collect();
        let mut trunk = vec![f32::INFINITY; HUBS * HUBS];
        for hub in 0..HUBS {
            trunk[hub * HUBS + hub] = 0.0;
        }
        for (a, b) in hubs::LINKS {
            let (a, b) = (*a as usize, *b as usize);
            let km = great_circle_km(&at[a], &at[b]) + LINK_KM;
            trunk[a * HUBS + b] = km;
            trunk[b * HUBS + a] = km;
        }
        // Floyd and Warshall's all shortest paths.
        for via in 0..HUBS {
            for from in 0..HUBS {
                let first = trunk[from * HUBS + via];
                for to in 0..HUBS {
                    let through = first + trunk[via * HUBS + to];
                    if through < trunk[from * HUBS + to] {
                        trunk[from * HUBS + to] = through;
                    }
                }
            }
        }
        Routes { at, trunk }
    }

    /// Between two hubs along the trunk network, in kilometres.
    pub fn trunk_km(&self, from: usize, to: usize) -> f32 {
        self.trunk.get(from * HUBS + to).copied().unwrap_or(f32::INFINITY)
    }

    /// Between two hubs by great circle, in kilometres.
    pub fn apart_km(&self, a: usize, b: usize) -> f32 {
        match (self.at.get(a), self.at.get(b)) {
            (Some(a), Some(b)) => great_circle_km(a, b),
            _ => f32::INFINITY,
        }
    }

    /// How a place reaches the network.
    pub fn access(&self, position: Position) -> Access {
        let unit = position.unit();
        let mut nearest = [(0_u8, f32::NEG_INFINITY); NEAREST];
        for (hub, at) in (0_u8..).zip(&self.at) {
            // The greatest dot product is the nearest.
            let dot = unit[0] * at[0] + unit[1] * at[1] + unit[2] * at[2];
            let mut here = (hub, dot);
            for slot in &mut nearest {
                if here.1 > slot.1 {
                    std::mem::swap(slot, &mut here);
                }
            }
        }
        let km =
            |hub: u8| self.at.get(usize::from(hub)).map_or(f32::INFINITY, |at| great_circle_km(&unit, at));
        Access { unit, hubs: nearest.map(|(hub, _)| (hub, DETOUR * km(hub))) }
    }

    /// How far a place is from every hub.
    pub fn tolls(&self, position: Position) -> Tolls {
        let access = self.access(position);
        let mut km = [f32::INFINITY; HUBS];
        for (hub, toll) in km.iter_mut().enumerate() {
            for (last, way) in access.hubs {
                *toll = toll.min(self.trunk_km(hub, usize::from(last)) + way);
            }
        }
        Tolls { unit: access.unit, km }
    }
}

/// The route between two places, in kilometres.
pub fn route_km(from: &Access, to: &Tolls) -> f32 {
    route_over(from, &to.unit, |hub| to.from_hub(hub))
}

/// The route to a place that is known by its unit vector and its way from each hub, in kilometres.
pub(crate) fn route_over(from: &Access, unit: &[f32; 3], from_hub: impl Fn(usize) -> f32) -> f32 {
    let through = |(hub, way): (u8, f32)| way + from_hub(usize::from(hub));
    let trunk = from.hubs.into_iter().map(through).fold(f32::INFINITY, f32::min);
    let direct = great_circle_km(&from.unit, unit);
    if direct <= DIRECT_KM { trunk.min(DETOUR * direct) } else { trunk }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(lat: f64, lon: f64) -> Position {
        Position::from_degrees(lat, lon).unwrap()
    }

    fn between(a: Position, b: Position) -> f32 {
        let routes = Routes::new();
        route_km(&routes.access(a), &routes.tolls(b))
    }

    #[test]
    fn hubs_are_on_the_sphere_and_all_linked() {
        let routes = Routes::new();
        assert!(HUBS <= usize::from(u8::MAX));
        for hub in Hub::ALL {
            let (lat, lon) = hub.degrees();
            assert!(Position::from_degrees(lat, lon).is_some(), "{}", hub.name());
            let (i, longest) = (*hub as usize, 45_000.0);
            assert!((0..HUBS).all(|to| routes.trunk_km(i, to) < longest), "{} is cut off", hub.name());
            assert_eq!(routes.access(at(lat, lon)).region(), i, "{}", hub.name());
        }
    }

    #[test]
    fn routes_follow_cables_not_great_circles() {
        let (indore, novosibirsk, vienna) = (at(22.7, 75.9), at(55.0, 82.9), at(48.2, 16.4));
        assert!(indore.distance_km(novosibirsk) < indore.distance_km(vienna));
        assert!(between(indore, novosibirsk) > between(indore, vienna));
        let (lagos, accra, lisbon) = (at(6.5, 3.4), at(5.6, -0.2), at(38.7, -9.1));
        assert!(between(lagos, accra) < between(lagos, lisbon));
    }

    #[test]
    fn near_places_are_linked_directly() {
        let (leeds, york) = (at(53.8, -1.55), at(53.96, -1.08));
        assert!(between(leeds, york) < 60.0);
        assert_eq!(between(leeds, leeds), 0.0);
    }

    #[test]
    fn the_date_line_poles_and_greenwich_are_nothing_special() {
        for (a, b) in
            [((65.0, 179.9), (65.0, -179.9)), ((89.9, 0.0), (89.9, 180.0)), ((51.5, -0.05), (51.5, 0.05))]
        {
            let km = between(at(a.0, a.1), at(b.0, b.1));
            assert!(km < 40.0, "{a:?} {b:?}: {km} km");
        }
    }

    proptest! {
        #[test]
        fn a_route_is_the_same_both_ways_and_no_shorter_than_the_great_circle(
            a in (-90.0..90.0, -180.0..180.0), b in (-90.0..90.0, -180.0..180.0),
        ) {
            let (a, b) = (at(a.0, a.1), at(b.0, b.1));
            let (there, back) = (between(a, b), between(b, a));
            prop_assert!((there - back).abs() <= 1.0 + there * 1e-3, "{} {}", there, back);
            prop_assert!(f64::from(there) >= a.distance_km(b) * 0.999 - 5.0);
            prop_assert!(there.is_finite());
        }
    }
}
