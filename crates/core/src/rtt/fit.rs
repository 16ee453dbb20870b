//! From what was measured to a model.
//!
//! 1. Targets whose place cannot be right are moved: see [`misplaced`]. Networks whose place cannot be
//!    right speak for none.
//! 2. The line is fitted to what nodes measured of each other.
//! 3. Each target gets its field from all votes: nodes' and networks'.
//! 4. Countries, then ASes, then covering prefixes correct what is left over.
//! 5. Each network keeps what it measured itself, by how much it differs on the whole, and what it does
//!    not reach.
//!
//! Nothing is ever taken to be faster than light in fibre over the great circle: a lower value is
//! raised to that.

use super::field::Vote;
use super::groups::{COVERS, Group, covering};
use super::learner::{Learner, World};
use super::line::Line;
use super::lookup::NetworkTable;
use super::model::{Client, Learned, Model, Site};
use super::networks::Measured;
use super::observation::Target;
use super::own::{Own, Row, SLACK_MS, elsewhere, light_ms, raised};
use super::scale::{millis, stretch};
use crate::geo::{Place, Position};
use crate::time::UnixMillis;
use ipnet::IpNet;
use std::collections::HashMap;

/// Nodes that must speak against a place.
const ACCUSERS: usize = 2;

/// A client network on its way into the model.
struct Network {
    prefix: IpNet,
    place: Place,
    measured: Vec<Measured>,
    /// It is not where it is said to be, and speaks for no place.
    misplaced: bool,
}

/// What one node measured of another.
#[derive(Clone, Copy)]
struct Pair {
    from: u32,
    to: u32,
    ms: f32,
    weight: f32,
}

/// A model in the making.
struct Fit<'l> {
    learner: &'l Learner,
    model: Model,
    /// By target: its place and the site it makes.
    sites: Vec<Option<(Place, Site)>>,
    pairs: Vec<Pair>,
    networks: Vec<Network>,
}

pub(super) fn fit(learner: &Learner, world: &World<'_>, now: UnixMillis) -> Model {
    let mut fit = Fit::new(learner, world, now);
    fit.place();
    fit.misplaced_networks();
    fit.line();
    fit.fields();
    fit.level(|n| n.place.country.map(Group::Country));
    fit.level(|n| n.place.asn.map(Group::As));
    fit.level(|n| Some(Group::Prefix(covering(n.prefix))));
    let covers = fit.model.corrections.prefixes().into_iter().map(|p| (p, ())).collect();
    fit.model.covers = NetworkTable::new(COVERS, covers);
    fit.rows(now);
    fit.resolvers(world);
    fit.model
}

impl<'l> Fit<'l> {
    fn new(learner: &'l Learner, world: &World<'_>, now: UnixMillis) -> Fit<'l> {
        let targets: HashMap<Target, u32> =
            learner.targets().iter().zip(0..).map(|(t, i)| (t.clone(), i)).collect();
        let model = Model {
            version: learner.fits(),
            routes: learner.routes().clone(),
            learned: vec![Learned::default(); targets.len()],
            targets,
            ..Model::default()
        };
        let places = learner.targets().iter().map(|t| world.sites.get(t).copied());
        let sites = learner.targets().iter().zip(places).map(|(target, place)| {
            let place = place?;
            Some((place, model.site(target, &place, None)))
        });
        let sites = sites.collect();
        let pair = |(from, to, ms, weight)| Pair { from, to, ms, weight };
        let network = |(prefix, _, measured): (IpNet, u32, Vec<Measured>)| Network {
            prefix,
            place: (world.locate)(prefix.addr()),
            measured,
            misplaced: false,
        };
        Fit {
            learner,
            sites,
            pairs: learner.between(now).map(pair).collect(),
            networks: learner.measured(now).map(network).collect(),
            model,
        }
    }

    fn position(&self, target: u32) -> Option<Position> {
        self.sites.get(target as usize)?.as_ref()?.1.position()
    }

    /// Moves targets whose place cannot be right to the node that measured the least to them.
    fn place(&mut self) {
        let positions: Vec<Option<Position>> =
            (0..self.sites.len() as u32).map(|t| self.position(t)).collect();
        for (target, nearest) in misplaced(&positions, &self.pairs) {
            let (Some(learned), Some(known)) =
                (self.model.learned.get_mut(target as usize), self.learner.targets().get(target as usize))
            else {
                continue;
            };
            learned.moved = positions.get(nearest as usize).copied().flatten();
            let place = self.sites[target as usize].as_ref().map(|(place, _)| *place);
            self.sites[target as usize] = place.map(|p| (p, self.model.site(known, &p, None)));
        }
    }

    /// Finds the networks that measured something faster than light.
    fn misplaced_networks(&mut self) {
        for network in &mut self.networks {
            let site =
                |m: &Measured| Some((&self.sites.get(m.target as usize)?.as_ref()?.1, millis(m.point)));
            let measured = network.measured.iter().filter_map(site);
            network.misplaced = elsewhere(network.place.position, measured).is_some();
        }
    }

    fn client(&self, place: &Place) -> Client<'_> {
        self.model.client(place, None)
    }

    /// A node as an observer of others: its place, after it was moved.
    fn observer(&self, target: u32) -> Option<Place> {
        let (place, site) = self.sites.get(target as usize)?.as_ref()?;
        Some(Place { position: site.position(), ..*place })
    }

    fn line(&mut self) {
        let route = |p: &Pair| {
            let client = self.observer(p.from)?;
            let (_, site) = self.sites.get(p.to as usize)?.as_ref()?;
            Some((self.client(&client).predict(site).route_km?, p.ms))
        };
        let pairs: Vec<(f32, f32)> = self.pairs.iter().filter_map(route).collect();
        self.model.line = Line::fit(&pairs);
    }

    /// What is left over of a measurement between a place and a target, on the scale.
    fn left_over(&self, place: &Place, target: u32, ms: f32) -> Option<f32> {
        let (_, site) = self.sites.get(target as usize)?.as_ref()?;
        Some(stretch(raised(place.position, site, ms)) - self.client(place).point(site))
    }

    fn fields(&mut self) {
        let mut votes: Vec<Vec<Vote>> = vec![Vec::new(); self.model.learned.len()];
        let mut vote = |place: &Place, target: u32, ms: f32, weight: f32| {
            let Some(region) = self.client(place).region() else { return };
            let Some(residual) = self.left_over(place, target, ms) else { return };
            if let Some(votes) = votes.get_mut(target as usize) {
                // Hubs are fewer than a byte holds.
                votes.push(Vote { region: region as u8, residual, weight: weight.min(1.0) });
            }
        };
        for pair in &self.pairs {
            if let Some(place) = self.observer(pair.from) {
                vote(&place, pair.to, pair.ms, pair.weight);
            }
        }
        for network in self.networks.iter().filter(|n| !n.misplaced) {
            for m in &network.measured {
                vote(&network.place, m.target, millis(m.point), m.weight);
            }
        }
        let kernel = self.learner.kernel();
        for (learned, mut votes) in self.model.learned.iter_mut().zip(votes) {
            learned.field = kernel.field(&mut votes).map(Box::new);
        }
    }

    fn level(&mut self, group: impl Fn(&Network) -> Option<Group>) {
        let mut left_over: HashMap<(Group, u32), Vec<(f32, f32)>> = HashMap::new();
        for network in self.networks.iter().filter(|n| !n.misplaced) {
            let Some(group) = group(network) else { continue };
            let client = self.model.client(&network.place, Some(network.prefix.addr()));
            for m in &network.measured {
                let Some((_, site)) = self.sites.get(m.target as usize).and_then(Option::as_ref) else {
                    continue;
                };
                let ms = raised(network.place.position, site, millis(m.point));
                let residual = stretch(ms) - client.point(site);
                left_over.entry((group, m.target)).or_default().push((residual, m.weight.min(1.0)));
            }
        }
        self.model.corrections.add(left_over);
    }

    fn rows(&mut self, now: UnixMillis) {
        let measured = self.networks.iter().filter_map(|n| Some((n.prefix, self.row(n)?)));
        let mut rows: HashMap<IpNet, Row> = measured.collect();
        for (network, targets) in self.learner.out_of_reach(now) {
            rows.entry(network).or_default().missed(targets);
        }
        self.model.rows = NetworkTable::new(self.learner.coarseness(), rows.into_iter().collect());
    }

    fn row(&self, network: &Network) -> Option<Row> {
        let client = self.model.client(&network.place, Some(network.prefix.addr()));
        let own = |m: &Measured| {
            let (_, site) = self.sites.get(m.target as usize)?.as_ref()?;
            Some((site, Own { target: m.target, point: m.point, weight: m.weight, sources: m.sources }))
        };
        let measured: Vec<_> = network.measured.iter().filter_map(own).collect();
        Row::new(&client, &measured)
    }

    fn resolvers(&mut self, world: &World<'_>) {
        let routes = &self.model.routes;
        let reach = |network: IpNet| {
            let position = (world.locate)(network.addr()).position?;
            Some((routes.access(position), routes.tolls(position)))
        };
        let middles = self.learner.middles(reach);
        self.model.resolvers = NetworkTable::new(Default::default(), middles);
    }
}

/// Targets whose place cannot be right, each with the node that measured the least to it. A probe
/// that is faster than light accuses both its ends; who is accused most often, and by at least two, is
/// moved, and its probes then accuse nobody any more.
fn misplaced(positions: &[Option<Position>], pairs: &[Pair]) -> Vec<(u32, u32)> {
    let ends =
        |p: &Pair| Some((positions.get(p.from as usize)?.as_ref()?, positions.get(p.to as usize)?.as_ref()?));
    let impossible = |p: &Pair| ends(p).is_some_and(|(a, b)| p.ms < light_ms(*a, *b) - SLACK_MS);
    let mut accusations: Vec<(u32, u32)> =
        pairs.iter().filter(|p| impossible(p)).map(|p| (p.from.min(p.to), p.from.max(p.to))).collect();
    accusations.sort_unstable();
    accusations.dedup();
    let mut moved: Vec<(u32, u32)> = Vec::new();
    loop {
        let mut accused: HashMap<u32, usize> = HashMap::new();
        for (a, b) in &accusations {
            *accused.entry(*a).or_default() += 1;
            *accused.entry(*b).or_default() += 1;
        }
        // The lowest number among equals, so that every broker moves the same.
        let worst = accused
            .into_iter()
            .filter(|(_, n)| *n >= ACCUSERS)
            .max_by_key(|(t, n)| (*n, std::cmp::Reverse(*t)));
        let Some((target, _)) = worst else { return moved };
        accusations.retain(|(a, b)| *a != target && *b != target);
        let standing = |t: u32| {
            positions.get(t as usize).is_some_and(Option::is_some) && moved.iter().all(|(m, _)| *m != t)
        };
        let other = |p: &Pair| match (p.from == target, p.to == target) {
            (true, false) => Some((p.to, p.ms)),
            (false, true) => Some((p.from, p.ms)),
            _ => None,
        };
        let nearest = pairs.iter().filter_map(other).filter(|(t, _)| standing(*t));
        if let Some((nearest, _)) = nearest.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))) {
            moved.push((target, nearest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lat: f64, lon: f64) -> Option<Position> {
        Position::from_degrees(lat, lon)
    }

    fn pair(from: u32, to: u32, ms: f32) -> Pair {
        Pair { from, to, ms, weight: 1.0 }
    }

    #[test]
    fn who_cannot_be_where_it_is_said_to_be_is_moved_and_nobody_else() {
        // Target 3 says Honduras and is in New York.
        let positions = [at(40.7, -74.0), at(51.5, -0.1), at(42.4, -71.1), at(15.8, -86.8)];
        let pairs = [
            pair(0, 1, 75.0),
            pair(0, 2, 8.0),
            pair(0, 3, 2.0),
            pair(2, 3, 7.0),
            pair(3, 1, 74.0),
            pair(1, 3, 74.5),
        ];
        assert_eq!(misplaced(&positions, &pairs), [(3, 0)]);
        assert_eq!(misplaced(&positions, &pairs[..3]), [], "one accuser is not enough");
    }
}
