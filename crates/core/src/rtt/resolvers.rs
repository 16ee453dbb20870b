//! Where the users of resolvers are that do not say it.
//!
//! A resolver without client subnets asks from its own address, which may be far from its users. A
//! report of a one-time name ties the network of whoever reported to the resolver that asked for the
//! name. A resolver is known by its /24 or /48; its users' place is the network among those tied to
//! it from which the others are nearest (the medoid), so that a few strange ones move little. Fewer
//! than two networks say nothing: whoever reports from one network alone decides for no other.

use super::observation::Coarseness;
use super::routes::{Access, Tolls, route_km};
use crate::time::UnixMillis;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;

/// Most resolvers' networks.
const MAX_RESOLVERS: usize = 20_000;
/// Most users' networks of one.
const MAX_TIES: usize = 16;
/// Most reporters of one network that count.
const MAX_REPORTERS: usize = 5;
/// Networks that must be tied before a resolver is moved.
const MIN_TIES: usize = 2;

/// Users of one network behind one resolver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tie {
    network: IpNet,
    heard: UnixMillis,
    reporters: Vec<u64>,
}

/// Users' networks by resolver.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Resolvers {
    by_network: HashMap<IpNet, Vec<Tie>>,
}

impl Resolvers {
    /// Notes that a reporter in a network is behind a resolver.
    pub(super) fn tie(&mut self, resolver: IpAddr, network: IpNet, reporter: u64, now: UnixMillis) {
        let key = Coarseness::default().network(resolver);
        if !self.by_network.contains_key(&key) && self.by_network.len() >= MAX_RESOLVERS {
            let heard = |ties: &Vec<Tie>| ties.iter().map(|t| t.heard).max();
            let oldest = self.by_network.iter().min_by_key(|(_, ties)| heard(ties)).map(|(k, _)| *k);
            oldest.map(|k| self.by_network.remove(&k));
        }
        let ties = self.by_network.entry(key).or_default();
        let known = ties.iter().position(|t| t.network == network);
        let at = known.unwrap_or_else(|| {
            if ties.len() >= MAX_TIES
                && let Some((oldest, _)) = ties.iter().enumerate().min_by_key(|(_, t)| t.heard)
            {
                ties.swap_remove(oldest);
            }
            ties.push(Tie { network, heard: now, reporters: Vec::new() });
            ties.len() - 1
        });
        let tie = &mut ties[at];
        tie.heard = tie.heard.max(now);
        if !tie.reporters.contains(&reporter) && tie.reporters.len() < MAX_REPORTERS {
            tie.reporters.push(reporter);
        }
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }

    /// Forgets ties to networks that are finer than they may be.
    pub(super) fn coarsen(&mut self, coarseness: Coarseness) {
        self.by_network.retain(|_, ties| {
            ties.retain(|t| coarseness.network(t.network.addr()) == t.network);
            !ties.is_empty()
        });
    }

    /// Forgets ties that were not renewed since.
    pub(super) fn prune(&mut self, since: UnixMillis) {
        self.by_network.retain(|_, ties| {
            ties.retain(|t| t.heard >= since);
            !ties.is_empty()
        });
    }

    /// Each resolver's network with an address in the middle of its users. `reach` tells how a network
    /// reaches the trunk network and how far it is from everywhere.
    pub(super) fn middles(&self, reach: impl Fn(IpNet) -> Option<(Access, Tolls)>) -> Vec<(IpNet, IpAddr)> {
        let middle = |(resolver, ties): (&IpNet, &Vec<Tie>)| {
            let reached: Vec<_> = ties.iter().filter_map(|t| Some((t, reach(t.network)?))).collect();
            if reached.len() < MIN_TIES {
                return None;
            }
            let cost = |from: &Access| {
                let way = |(tie, (_, to)): &(&Tie, (Access, Tolls))| {
                    tie.reporters.len() as f32 * route_km(from, to)
                };
                reached.iter().map(way).sum::<f32>()
            };
            let best = reached.iter().min_by(|(_, (a, _)), (_, (b, _))| cost(a).total_cmp(&cost(b)))?;
            Some((*resolver, best.0.network.addr()))
        };
        self.by_network.iter().filter_map(middle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Position;
    use crate::rtt::routes::Routes;

    fn net(i: u8) -> IpNet {
        IpNet::V4(ipnet::Ipv4Net::new([10, 0, i, 0].into(), 24).unwrap())
    }

    /// Networks 0..8 are in Lagos, others in Tokyo.
    fn middle(resolvers: &Resolvers) -> Option<IpAddr> {
        let routes = Routes::new();
        let reach = |network: IpNet| {
            let lagos = network < net(8);
            let at = if lagos { (6.5, 3.4) } else { (35.7, 139.7) };
            let at = Position::from_degrees(at.0, at.1)?;
            Some((routes.access(at), routes.tolls(at)))
        };
        resolvers.middles(reach).first().map(|m| m.1)
    }

    #[test]
    fn the_middle_of_the_users_counts_and_one_network_alone_does_not() {
        let mut resolvers = Resolvers::default();
        let resolver = [192, 0, 2, 53].into();
        for reporter in 0..9 {
            resolvers.tie(resolver, net(9), reporter, UnixMillis(0));
        }
        assert_eq!(middle(&resolvers), None);
        for i in 0..6 {
            resolvers.tie(resolver, net(i), 1, UnixMillis(10));
        }
        let at = middle(&resolvers).unwrap();
        assert!(IpNet::from(at) < net(8), "six networks outweigh the five reporters of one: {at}");
        resolvers.prune(UnixMillis(5));
        assert!(middle(&resolvers).is_some());
        resolvers.prune(UnixMillis(11));
        assert_eq!(middle(&resolvers), None);
    }

    #[test]
    fn ties_are_bounded() {
        let mut resolvers = Resolvers::default();
        for i in 0..200 {
            resolvers.tie([192, 0, 2, 53].into(), net(i), 1, UnixMillis(i.into()));
        }
        assert_eq!(resolvers.by_network.values().map(Vec::len).collect::<Vec<_>>(), [MAX_TIES]);
    }
}
