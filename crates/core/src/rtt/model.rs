//! The published model: one immutable value that predicts the round trip between a client and a
//! mirror. A [`super::Learner`] makes it; rankings and the people's `explain` read it.

use super::field::Field;
use super::groups::{self, Correction, Corrections, Group};
use super::line::Line;
use super::lookup::NetworkTable;
use super::missed::FARTHER_MS;
use super::observation::Target;
use super::own::{Own, Row};
use super::routes::{Access, Routes, Tolls, route_km};
use super::scale::{millis, stretch};
use crate::geo::{CountryCode, Place, Position};
use crate::map::Bounds;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Route assumed where a place is not known, in kilometres: to the other side of the world.
const UNKNOWN_KM: f32 = 24_000.0;
/// Weight of the prediction against a network's own votes.
const PRIOR_WEIGHT: f32 = 0.05;
/// How much less a mirror may turn out to be than predicted where nobody measured it, on the scale:
/// what makes unmeasured mirrors worth a probe.
const OPTIMISM: f32 = 0.03;

/// What is known of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    /// Where it is, if that is not where it is said to be.
    pub(super) moved: Option<Position>,
    /// What observers in all regions found.
    pub(super) field: Option<Box<Field>>,
}

/// Predicts round trips. See the module docs of [`crate::rtt`].
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub(super) version: u64,
    pub(super) routes: Arc<Routes>,
    pub(super) line: Line,
    pub(super) targets: HashMap<Target, u32>,
    pub(super) learned: Vec<Learned>,
    pub(super) corrections: Corrections,
    pub(super) rows: NetworkTable<Row>,
    /// Covering prefixes that are corrected as such.
    pub(super) covers: NetworkTable<()>,
    pub(super) resolvers: NetworkTable<IpAddr>,
}

/// A mirror as the model sees it: made once, asked for every client.
#[derive(Clone, Debug)]
pub struct Site {
    target: Option<u32>,
    tolls: Option<Arc<Tolls>>,
    position: Option<Position>,
    moved: bool,
}

impl Site {
    /// Its number among the model's targets.
    pub(crate) fn target(&self) -> Option<u32> {
        self.target
    }

    /// Where it is taken to be.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether measurements contradict the place that was given for it.
    pub fn misplaced(&self) -> bool {
        self.moved
    }

    /// Its tolls, for other sites at the same place.
    pub fn tolls(&self) -> Option<&Arc<Tolls>> {
        self.tolls.as_ref()
    }
}

/// A client as the model sees it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'m> {
    model: &'m Model,
    position: Option<Position>,
    access: Option<Access>,
    /// Of country, AS and covering prefix.
    corrections: [&'m [Correction]; 3],
    row: Option<&'m Row>,
}

/// How a prediction came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The round trip in milliseconds.
    pub ms: f32,
    /// What distance alone says, in milliseconds.
    pub distance_ms: f32,
    /// Along cables; `None` where a place is not known.
    pub route_km: Option<f32>,
    /// The network's own measurement in milliseconds, if it has one.
    pub own_ms: Option<f32>,
    /// Bits by [`super::Source`] of the network's own measurements.
    pub own_sources: u8,
    /// Shares of the sources in the prediction; they add up to 1.
    pub shares: Shares,
    /// Its clients say that they do not reach it, so it counts as half a second farther.
    pub missed: bool,
}

/// Shares of the sources in a prediction, each 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Measured by the client's own network.
    pub network: f32,
    /// By networks of the covering prefix (/16, /32).
    pub prefix: f32,
    /// By networks of the same autonomous system.
    pub asn: f32,
    /// By networks of the same country.
    pub country: f32,
    /// By nodes and networks of the region around.
    pub region: f32,
    /// The line over distance.
    pub distance: f32,
}

/// By what a client is told apart from others at its place, or taken together with some: who measured
/// something that counts for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its own network, if that measured anything itself.
    pub network: Option<IpNet>,
    /// The covering prefix whose networks correct its predictions.
    pub prefix: Option<IpNet>,
    /// Likewise its autonomous system.
    pub asn: Option<u32>,
    /// Likewise its country.
    pub country: Option<CountryCode>,
    /// Whether its network measured something faster than light could be from its place, and so is taken
    /// to be elsewhere.
    pub moved: bool,
}

impl Model {
    /// A model that has measured nothing, over a trunk network.
    pub fn new(routes: Arc<Routes>) -> Model {
        Model { routes, ..Model::default() }
    }

    /// Grows with every fit.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The trunk network.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// The line over distance.
    pub fn line(&self) -> Line {
        self.line
    }

    /// Networks with measurements of their own.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.rows.networks()
    }

    /// How many of them.
    pub fn network_count(&self) -> usize {
        self.rows.len()
    }

    /// Whether the network of an address measured anything itself.
    pub fn measured_at(&self, addr: IpAddr) -> bool {
        self.rows.find(addr).is_some()
    }

    /// Narrows bounds around an IPv4 address to where all addresses are predicted alike, as far as
    /// networks and their covering prefixes go.
    pub(crate) fn bound_v4(&self, bounds: &mut Bounds<u32>, addr: u32) {
        for (before, after) in [self.rows.borders_v4(addr), self.covers.borders_v4(addr)] {
            bounds.within(before, after);
        }
    }

    /// The same of an IPv6 address.
    pub(crate) fn bound_v6(&self, bounds: &mut Bounds<u128>, addr: u128) {
        for (before, after) in [self.rows.borders_v6(addr), self.covers.borders_v6(addr)] {
            bounds.within(before, after);
        }
    }

    /// First addresses of all that is told apart in IPv4, in no particular order.
    pub(crate) fn cuts_v4(&self) -> Vec<u32> {
        self.rows.cuts_v4().chain(self.covers.cuts_v4()).collect()
    }

    /// The same in IPv6.
    pub(crate) fn cuts_v6(&self) -> Vec<u128> {
        self.rows.cuts_v6().chain(self.covers.cuts_v6()).collect()
    }

    /// The covering prefix of an address, if it is corrected as such, and its network, if that measured
    /// anything itself.
    pub(crate) fn told_apart(&self, addr: IpAddr) -> (Option<IpNet>, Option<IpNet>) {
        let cover = self.covers.find(addr).map(|()| groups::covering_address(addr));
        (cover, self.rows.find(addr).map(|_| self.rows.network(addr)))
    }

    /// Whether networks of an AS are corrected as such, so that it makes a difference to know it.
    pub fn knows_as(&self, asn: u32) -> bool {
        self.corrections.has(Group::As(asn))
    }

    /// What is known of a client beyond its place; for people.
    pub fn known(&self, place: &Place, addr: IpAddr) -> Known {
        let (prefix, network) = self.told_apart(addr);
        let measured = self.rows.find(addr).is_some_and(|row| row.targets().next().is_some());
        Known {
            network: network.filter(|_| measured),
            prefix,
            asn: place.asn.filter(|a| self.knows_as(*a)),
            country: place.country.filter(|c| self.corrections.has(Group::Country(*c))),
            moved: self.rows.find(addr).is_some_and(|row| row.moved().is_some()),
        }
    }

    /// For a resolver whose users were found to be elsewhere: an address in the middle of them.
    pub fn users_behind(&self, resolver: IpAddr) -> Option<IpAddr> {
        self.resolvers.find(resolver).copied()
    }

    /// Resolvers whose users were found.
    pub fn resolver_count(&self) -> usize {
        self.resolvers.len()
    }

    /// A mirror at a place. Sites at one place can share their tolls through `same`.
    pub fn site(&self, target: &Target, place: &Place, same: Option<&Arc<Tolls>>) -> Site {
        let target = self.targets.get(target).copied();
        let moved = target.and_then(|t| self.learned.get(t as usize)?.moved);
        let position = moved.or(place.position);
        let tolls = position.map(|p| match same {
            Some(tolls) if tolls.unit() == p.unit() => tolls.clone(),
            _ => Arc::new(self.routes.tolls(p)),
        });
        Site { target, tolls, position, moved: moved.is_some() }
    }

    /// A client at a place; with its address, what its own network and prefix measured counts.
    pub fn client(&self, place: &Place, addr: Option<IpAddr>) -> Client<'_> {
        let country = place.country.map_or(&[][..], |c| self.corrections.of(Group::Country(c)));
        let asn = place.asn.map_or(&[][..], |a| self.corrections.of(Group::As(a)));
        let prefix =
            addr.map_or(&[][..], |a| self.corrections.of(Group::Prefix(groups::covering_address(a))));
        let row = addr.and_then(|a| self.rows.find(a));
        let position = row.and_then(Row::moved).or(place.position);
        Client {
            model: self,
            position,
            access: position.map(|p| self.routes.access(p)),
            corrections: [country, asn, prefix],
            row,
        }
    }

    /// The round trip that a client at a hub is predicted to a site, on the scale: what candidates are
    /// chosen by.
    pub(crate) fn seen_from_hub(&self, site: &Site, hub: usize) -> f32 {
        let route = site.tolls.as_ref().map_or(UNKNOWN_KM, |t| t.from_hub(hub));
        stretch(self.line.ms(route)) + self.field(site.target).map_or(0.0, |f| f.residual(hub))
    }

    fn field(&self, target: Option<u32>) -> Option<&Field> {
        self.learned.get(target? as usize)?.field.as_deref()
    }
}

impl<'m> Client<'m> {
    /// The same client with what it measured just now in place of what its network did before.
    pub fn with(self, row: &'m Row) -> Client<'m> {
        Client { row: Some(row), ..self.at(row.moved()) }
    }

    /// The same client at another place, if one is given.
    pub(super) fn at(self, moved: Option<Position>) -> Client<'m> {
        match moved {
            Some(position) => {
                let access = Some(self.model.routes.access(position));
                Client { position: Some(position), access, ..self }
            }
            None => self,
        }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// The hub region that the client is in, if its place is known.
    pub fn region(&self) -> Option<usize> {
        self.access.map(|a| a.region())
    }

    /// How the client reaches the trunk network, if its place is known.
    pub fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Targets that its country, AS and covering prefix correct.
    pub(crate) fn corrected(&self) -> impl Iterator<Item = u32> + '_ {
        self.corrections.into_iter().flatten().map(|c| c.target)
    }

    /// Targets that its own network measured.
    pub(crate) fn measured(&self) -> impl Iterator<Item = u32> + '_ {
        self.row.into_iter().flat_map(Row::targets)
    }

    /// Whether its own network measured anything, or says what it does not reach.
    pub fn speaks_for_itself(&self) -> bool {
        self.row.is_some()
    }

    /// The predicted round trip in milliseconds.
    pub fn ms(&self, site: &Site) -> f32 {
        millis(self.point(site))
    }

    fn route_km(&self, site: &Site) -> Option<f32> {
        Some(route_km(self.access.as_ref()?, site.tolls.as_deref()?))
    }

    /// What all but the network's own measurement say, on the scale.
    pub(super) fn others(&self, site: &Site) -> f32 {
        self.others_over(self.route_km(site), site.target)
    }

    fn others_over(&self, route_km: Option<f32>, target: Option<u32>) -> f32 {
        let model = self.model;
        let mut point = stretch(model.line.ms(route_km.unwrap_or(UNKNOWN_KM)));
        let Some(target) = target else { return point };
        if let (Some(access), Some(field)) = (&self.access, model.field(Some(target))) {
            point += field.residual(access.region());
        }
        for level in self.corrections {
            point += groups::find(level, target).map_or(0.0, |c| c.residual);
        }
        point
    }

    pub(super) fn own(&self, target: Option<u32>) -> Option<&Own> {
        self.row?.of(target?)
    }

    /// The predicted round trip on the scale: what rankings compare.
    pub(crate) fn point(&self, site: &Site) -> f32 {
        self.point_over(self.route_km(site), site.target)
    }

    /// The same of a site of which only the route and the number among targets are at hand.
    pub(crate) fn point_over(&self, route_km: Option<f32>, target: Option<u32>) -> f32 {
        let others = self.others_over(route_km, target) + self.row.map_or(0.0, Row::offset);
        let point = match self.own(target) {
            Some(own) => {
                let share = own.weight / (own.weight + PRIOR_WEIGHT);
                others + share * (own.point - others)
            }
            None => others,
        };
        if self.misses(target) { stretch(millis(point) + FARTHER_MS) } else { point }
    }

    /// What is left of a prediction without what is added for a target out of reach.
    fn if_reached(&self, point: f32, target: Option<u32>) -> f32 {
        if self.misses(target) { stretch(millis(point) - FARTHER_MS) } else { point }
    }

    /// Whether clients of its network say that they do not reach a target.
    pub fn misses(&self, target: Option<u32>) -> bool {
        target.is_some_and(|t| self.row.is_some_and(|row| row.misses(t)))
    }

    /// Targets that its network does not reach.
    pub(super) fn missed(&self) -> impl Iterator<Item = u32> + '_ {
        self.row.into_iter().flat_map(Row::all_missed).copied()
    }

    /// The round trip that a site could well turn out to have, on the scale: lower than the
    /// prediction where little was measured, or where it may be reached again.
    pub(crate) fn hope(&self, site: &Site) -> f32 {
        self.hope_from(self.point(site), site.target)
    }

    /// The same from a site's prediction and its number among targets.
    pub(crate) fn hope_from(&self, point: f32, target: Option<u32>) -> f32 {
        self.if_reached(point, target) - OPTIMISM * (1.0 - self.region_share(target))
    }

    /// Share of what was measured around in the prediction, against distance alone.
    fn region_share(&self, target: Option<u32>) -> f32 {
        match (&self.access, self.model.field(target)) {
            (Some(access), Some(field)) => field.share(access.region()),
            _ => 0.0,
        }
    }

    /// How often the network itself measured a target, aged; 0 when never.
    pub(crate) fn own_weight(&self, target: Option<u32>) -> f32 {
        self.own(target).map_or(0.0, |o| o.weight)
    }

    /// The prediction with all that went into it, for people.
    pub fn predict(&self, site: &Site) -> Prediction {
        let route = self.route_km(site);
        let own = self.own(site.target);
        let mut left = 1.0;
        let mut take = |share: f32| {
            let taken = left * share.clamp(0.0, 1.0);
            left -= taken;
            taken
        };
        let network = take(own.map_or(0.0, |o| o.weight / (o.weight + PRIOR_WEIGHT)));
        let level = |at: usize| {
            let found = site.target.and_then(|t| groups::find(self.corrections[at], t));
            found.map_or(0.0, |c| c.share)
        };
        let (prefix, asn, country) = (take(level(2)), take(level(1)), take(level(0)));
        let region = take(self.region_share(site.target));
        Prediction {
            ms: self.ms(site),
            distance_ms: self.model.line.ms(route.unwrap_or(UNKNOWN_KM)),
            route_km: route,
            own_ms: own.map(|o| millis(o.point)),
            own_sources: own.map_or(0, |o| o.sources),
            shares: Shares { network, prefix, asn, country, region, distance: left },
            missed: self.misses(site.target),
        }
    }
}
