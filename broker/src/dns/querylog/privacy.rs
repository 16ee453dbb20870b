//! What is written of who asked.
//!
//! An operator that wants networks only must not find whole addresses in the messages either: resolvers
//! pass on up to a whole address as the client subnet. Messages keep their length, so they can still be
//! decoded; what must not be known is zero in them.

use crate::dns::options::{self, CLIENT_SUBNET, COOKIE};
use ipnet::IpNet;
use nearmost_config::ClientDetail;
use std::net::IpAddr;

/// Bytes of the client subnet option before its address (RFC 7871 §6).
const SUBNET_FIXED: usize = 4;

/// How many bits of an address are kept: a /24 or a /48 is a network of many people.
fn kept(detail: ClientDetail, address: IpAddr) -> u8 {
    match (detail, address) {
        (ClientDetail::Full, IpAddr::V4(_)) => 32,
        (ClientDetail::Full, IpAddr::V6(_)) => 128,
        (ClientDetail::Network, IpAddr::V4(_)) => 24,
        (ClientDetail::Network, IpAddr::V6(_)) => 48,
        (ClientDetail::None, _) => 0,
    }
}

/// A network of which no more is told than may be; `None` for nothing.
pub(super) fn network(detail: ClientDetail, address: IpAddr, length: u8) -> Option<IpNet> {
    if detail == ClientDetail::None {
        return None;
    }
    let net = IpNet::new(address, length.min(kept(detail, address))).ok()?;
    Some(net.trunc())
}

/// An address of which no more is told than may be; `None` for nothing.
pub(super) fn address(detail: ClientDetail, address: IpAddr) -> Option<IpAddr> {
    network(detail, address.to_canonical(), u8::MAX).map(|net| net.addr())
}

/// A message in which no more is told than may be.
pub(super) fn message(detail: ClientDetail, message: &[u8]) -> Vec<u8> {
    let mut copy = message.to_vec();
    if detail == ClientDetail::Full {
        return copy;
    }
    options::each(message, |code, at| match code {
        CLIENT_SUBNET => {
            let keep = match (detail, message.get(at.start..at.start + 2)) {
                (ClientDetail::Network, Some([0, 1])) => 3,
                (ClientDetail::Network, Some([0, 2])) => 6,
                _ => 0,
            };
            if let Some(rest) = copy.get_mut((at.start + SUBNET_FIXED + keep).min(at.end)..at.end) {
                rest.fill(0);
            }
        }
        // It is made from the address, and tells one client from others.
        COOKIE if detail == ClientDetail::None => copy[at].fill(0),
        _ => {}
    });
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
    use hickory_proto::rr::{Name, RecordType};

    fn query(subnet: &str) -> Vec<u8> {
        let net: IpNet = subnet.parse().unwrap();
        let mut message = Message::query();
        message.queries.push(Query::query(Name::from_ascii("play.example.com").unwrap(), RecordType::A));
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(net.addr(), net.prefix_len(), 0)));
        edns.options_mut().insert(EdnsOption::Unknown(COOKIE, vec![7; 8]));
        message.edns = Some(edns);
        message.to_vec().unwrap()
    }

    fn holds(message: &[u8], part: &[u8]) -> bool {
        message.windows(part.len()).any(|w| w == part)
    }

    #[test]
    fn addresses_are_cut_to_what_may_be_told() {
        let told = |detail, a: &str| address(detail, a.parse().unwrap()).map(|a| a.to_string());
        for (whole, net) in [("192.0.2.7", "192.0.2.0"), ("2001:db8:1:2::3", "2001:db8:1::")] {
            assert_eq!(told(ClientDetail::Full, whole).as_deref(), Some(whole));
            assert_eq!(told(ClientDetail::Network, whole).as_deref(), Some(net));
            assert_eq!(told(ClientDetail::None, whole), None);
        }
        assert_eq!(told(ClientDetail::Network, "::ffff:192.0.2.7").as_deref(), Some("192.0.2.0"));
    }

    #[test]
    fn messages_hold_no_more_of_a_subnet_than_may_be_told() {
        for (subnet, whole, net) in [
            ("198.51.100.77/32", &[198, 51, 100, 77][..], &[198, 51, 100, 0][..]),
            ("2001:db8:aabb:ccdd::/64", &[0xaa, 0xbb, 0xcc, 0xdd], &[0xaa, 0xbb, 0, 0]),
        ] {
            let wire = query(subnet);
            assert!(holds(&wire, whole) && holds(&wire, &[7; 8]));
            assert_eq!(message(ClientDetail::Full, &wire), wire);
            let cut = message(ClientDetail::Network, &wire);
            assert!(holds(&cut, net) && !holds(&cut, whole) && holds(&cut, &[7; 8]), "{subnet}");
            let none = message(ClientDetail::None, &wire);
            assert!(!holds(&none, &net[..2]) && !holds(&none, &[7; 8]), "{subnet}");
            for copy in [cut, none] {
                assert_eq!(copy.len(), wire.len());
                assert!(Message::from_vec(&copy).is_ok());
            }
        }
    }
}
