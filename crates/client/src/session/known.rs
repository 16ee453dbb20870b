//! Mirrors that the caller gives.

use super::table::Mirrors;
use nearmost_core::session::MirrorKey;
use nearmost_core::session::client::Input;
use nearmost_core::session::list::{self, Change, FailureDomain, ListVersion, Listed, MirrorList, Standing};
use nearmost_core::time::UnixMillis;
use nearmost_wire::identity::{Id, IdError, Role};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

/// Port of a mirror's ingress where none is given, UDP and TCP.
pub const INGRESS_PORT: u16 = 7850;
/// The most mirrors of one session.
pub const MOST_MIRRORS: usize = list::MOST_MIRRORS;
/// A longer round trip is none that anybody predicts.
const MOST_PREDICTED: Duration = Duration::from_secs(60);
/// What the caller gave never changes.
const VERSION: ListVersion = ListVersion { source: 0, number: 1 };

/// A mirror of the domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The node's id: whoever answers must hold this key.
    pub node: Id,
    /// Its name, by which other mirrors point to it when they are full or drain.
    pub name: Option<String>,
    /// Its addresses; the first of each family is used.
    pub addresses: Vec<IpAddr>,
    /// Port of its ingress, for QUIC over UDP and the tripwire over TCP.
    pub port: u16,
    /// Round trip that is expected until one is measured.
    pub predicted: Duration,
    /// Its share of standbys, relative to others.
    pub weight: f64,
    /// What it fails together with.
    pub domain: FailureDomain,
}

impl Known {
    /// The mirror of the node with this id (`nn1…`), at these addresses. The rest is set by field:
    /// port [`INGRESS_PORT`], 50 ms, weight 1, and a failure domain that is everybody's.
    ///
    /// # Errors
    /// The text is not a node's id.
    pub fn new(node: &str, addresses: Vec<IpAddr>) -> Result<Known, IdError> {
        Ok(Known {
            node: Id::parse(node, Role::Node)?,
            name: None,
            addresses,
            port: INGRESS_PORT,
            predicted: Duration::from_millis(50),
            weight: 1.0,
            domain: FailureDomain::default(),
        })
    }

    /// As the machine knows it.
    pub(super) fn listed(&self, key: MirrorKey) -> Listed {
        let port = self.port;
        let v4 = self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(*ip, port)),
            IpAddr::V6(_) => None,
        });
        let v6 = self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(SocketAddrV6::new(*ip, port, 0, 0)),
            IpAddr::V4(_) => None,
        });
        Listed {
            key,
            v4,
            v6,
            predicted: self.predicted.min(MOST_PREDICTED),
            weight: self.weight,
            tier: 0,
            domain: self.domain,
            standing: Standing::Eligible,
        }
    }
}

/// Answers the machine in place of a broker: with the whole list, or that what it has still holds.
pub(super) fn resolve(mirrors: &Mirrors, have: Option<ListVersion>, issued: UnixMillis) -> Input {
    if have == Some(VERSION) {
        let (put, removed) = (Vec::new(), Vec::new());
        return Input::Changed(Change {
            from: VERSION.number,
            to: VERSION,
            issued,
            ends: None,
            put,
            removed,
        });
    }
    let listed = mirrors.all().into_iter().map(|(key, known)| known.listed(key));
    Input::ListArrived(MirrorList { version: VERSION, issued, ends: None, mirrors: listed.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::session::list::{Held, Taken};
    use nearmost_core::time::{MonoTime, Now};
    use nearmost_wire::identity::KeyPair;

    #[test]
    fn the_first_address_of_each_family_is_used() {
        let node = KeyPair::from_seed(Role::Node, &[1; 32]).id().to_string();
        let addresses =
            ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"].map(|a| a.parse().unwrap()).to_vec();
        let mut known = Known::new(&node, addresses).unwrap();
        known.predicted = Duration::MAX;
        let listed = known.listed(MirrorKey(3));
        assert_eq!(listed.predicted, MOST_PREDICTED);
        assert_eq!(listed.v4, Some("192.0.2.1:7850".parse().unwrap()));
        assert_eq!(listed.v6, Some("[2001:db8::1]:7850".parse().unwrap()));
        let broker = KeyPair::from_seed(Role::Broker, &[1; 32]).id().to_string();
        assert!(matches!(Known::new(&broker, Vec::new()), Err(IdError::Role { .. })));
    }

    #[test]
    fn what_was_given_holds_for_as_long_as_it_is_asked_for() {
        let node = KeyPair::from_seed(Role::Node, &[1; 32]).id().to_string();
        let mirrors = Mirrors::of(vec![Known::new(&node, vec!["192.0.2.1".parse().unwrap()]).unwrap()]);
        let at = |s: u64| Now { mono: MonoTime::from_millis(s * 1000), unix: UnixMillis(s * 1000) };
        let mut held = None;
        let Input::ListArrived(list) = resolve(&mirrors, None, at(1).unix) else { panic!("no list") };
        assert_eq!(Held::take(&mut held, list, false, at(1)), Taken::Applied);
        let mut held = held.unwrap();
        let expires = held.expires_at();
        let again = resolve(&mirrors, Some(held.version()), at(3600).unix);
        let Input::Changed(change) = again else { panic!("no change") };
        assert_eq!(held.apply(change, at(3600)), Taken::Applied);
        assert!(held.expires_at() > expires && held.mirrors().len() == 1);
    }
}
