//! What is written of who asked.
//!
//! An operator that wants networks only must not find whole addresses in the messages either: resolvers
//! pass on up to a whole address as the client subnet, cookies tell clients apart, and options that are not
//! known here may say who asks, as some proxies' do. So whatever a message has besides its question and our
//! records is zero unless it is known to say nothing of that. Messages keep their length, so they can still
//! be decoded. Of one that is not understood to its end nothing is told but its header: an address might
//! stand anywhere in it.

use crate::dns::options::{self, CLIENT_SUBNET, Part, TCP_KEEPALIVE};
use ipnet::IpNet;
use nearmost_config::ClientDetail;
use std::net::IpAddr;

/// Bytes of the client subnet option before its address (RFC 7871 §6).
const SUBNET_FIXED: usize = 4;
/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// Name of the server (RFC 5001).
const NSID: u16 = 3;
/// Extended error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

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

/// A message of a client, whatever it is, in which no more is told than may be.
pub(super) fn query(detail: ClientDetail, message: &[u8]) -> Vec<u8> {
    cut(detail, message, false)
}

/// A message of ours in which no more is told than may be.
pub(super) fn reply(detail: ClientDetail, message: &[u8]) -> Vec<u8> {
    cut(detail, message, true)
}

fn cut(detail: ClientDetail, message: &[u8], reply: bool) -> Vec<u8> {
    let mut copy = message.to_vec();
    if detail == ClientDetail::Full {
        return copy;
    }
    let whole = options::whole(message, |part, at| {
        let from = match part {
            Part::Option(CLIENT_SUBNET) => {
                (at.start + SUBNET_FIXED + subnet_kept(detail, &message[at.clone()])).min(at.end)
            }
            // Our own.
            Part::Option(NSID | TCP_KEEPALIVE | EXTENDED_ERROR) if reply => at.end,
            Part::Record if reply => at.end,
            Part::Option(_) | Part::Record => at.start,
        };
        copy[from..at.end].fill(0);
    });
    // Several questions are malformed, too, and are not told apart from what follows them.
    if !whole || !matches!(message.get(4..6), Some([0, 0 | 1])) {
        copy.truncate(HEADER);
    }
    copy
}

/// How many bytes of the address of a client subnet are kept.
fn subnet_kept(detail: ClientDetail, option: &[u8]) -> usize {
    match (detail, option) {
        (ClientDetail::Network, [0, 1, ..]) => 3,
        (ClientDetail::Network, [0, 2, ..]) => 6,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::options::COOKIE;
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    fn asking(subnet: &str) -> Vec<u8> {
        let net: IpNet = subnet.parse().unwrap();
        let mut message = Message::query();
        message.queries.push(Query::query(Name::from_ascii("play.example.com").unwrap(), RecordType::A));
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(net.addr(), net.prefix_len(), 0)));
        edns.options_mut().insert(EdnsOption::Unknown(COOKIE, vec![7; 8]));
        message.edns = Some(edns);
        let mut wire = message.to_vec().unwrap();
        // The identifier is random, and must not happen to be what a test looks for.
        wire[..2].fill(0);
        wire
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
            let wire = asking(subnet);
            assert!(holds(&wire, whole) && holds(&wire, &[7; 8]));
            assert_eq!(query(ClientDetail::Full, &wire), wire);
            let cut = query(ClientDetail::Network, &wire);
            assert!(holds(&cut, net) && !holds(&cut, whole) && !holds(&cut, &[7; 8]), "{subnet}");
            let none = query(ClientDetail::None, &wire);
            assert!(!holds(&none, &net[..2]) && !holds(&none, &[7; 8]), "{subnet}");
            for copy in [cut, none] {
                assert_eq!(copy.len(), wire.len());
                assert!(Message::from_vec(&copy).is_ok());
            }
        }
    }

    #[test]
    fn of_a_message_that_is_not_understood_only_the_header_is_told() {
        let wire = asking("198.51.100.77/32");
        let changed = |at: usize, to: u8| {
            let mut wire = wire.clone();
            wire[at] = to;
            wire
        };
        let end = wire.len();
        let broken = [
            [&wire[..], &[0]].concat(),
            wire[..end - 1].to_vec(),
            // No question, two, a record more and a record less.
            changed(5, 0),
            changed(5, 2),
            changed(11, 2),
            changed(11, 0),
            changed(12, 64),
        ];
        for wire in broken {
            for detail in [ClientDetail::Network, ClientDetail::None] {
                assert_eq!(query(detail, &wire), wire[..12], "{wire:?}");
            }
            assert_eq!(query(ClientDetail::Full, &wire), wire);
        }
        assert_eq!(query(ClientDetail::None, &wire[..5]), wire[..5]);
    }

    #[test]
    fn replies_keep_their_records_and_what_the_server_says_of_itself() {
        let mut message = Message::from_vec(&asking("198.51.100.77/32")).unwrap();
        let a = RData::A(A::new(203, 0, 113, 9));
        message.answers.push(Record::from_rdata(Name::from_ascii("play.example.com").unwrap(), 30, a));
        let edns = message.edns.as_mut().unwrap();
        edns.options_mut().insert(EdnsOption::Unknown(NSID, b"lon-1".to_vec()));
        let wire = message.to_vec().unwrap();
        let told = reply(ClientDetail::Network, &wire);
        assert!(
            holds(&told, &[203, 0, 113, 9]) && holds(&told, b"lon-1") && holds(&told, &[198, 51, 100, 0])
        );
        assert!(!holds(&told, &[198, 51, 100, 77]) && !holds(&told, &[7; 8]));
        let told = query(ClientDetail::Network, &wire);
        assert!(!holds(&told, &[203, 0, 113]) && !holds(&told, b"lon-1"), "a client may write what it likes");
    }

    #[test]
    fn options_that_are_not_known_and_records_of_queries_are_zero() {
        let mut wire = asking("198.51.100.77/32");
        let opt = wire.len() - (11 + 12 + 12);
        assert_eq!(wire[opt..opt + 3], [0, 0, 41]);
        wire[opt + 2] = 42;
        assert!(!holds(&query(ClientDetail::Network, &wire), &[198, 51]));
        wire[opt + 2] = 41;
        let subnet = wire.windows(4).position(|w| w == [0, 8, 0, 8]).unwrap();
        wire[subnet] = 0xfd;
        assert!(!holds(&query(ClientDetail::Network, &wire), &[198, 51]));
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_a_message_no_more_of_an_address_is_told(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            // A family of 2 would make the first 48 bits of the one the network of the other.
            for (subnet, beyond) in [
                ("198.51.100.77/32", &[100, 77][..]),
                ("2001:db8:aabb:ccdd:eeff:a1a2:b1b2:c1c2/128", &[0xcc, 0xdd]),
                ("2001:db8:aabb:ccdd:eeff:a1a2:b1b2:c1c2/128", &[0xb1, 0xb2]),
            ] {
                let mut wire = asking(subnet);
                let family = 1 + wire.windows(6).position(|w| w[..2] == [0, 8] && w[4] == 0).unwrap() + 4;
                for (at, to) in &changes {
                    let at = at.index(wire.len());
                    if at != family {
                        wire[at] = *to;
                    }
                }
                wire.truncate(cut.map_or(wire.len(), |cut| cut.index(wire.len())));
                let asked = wire.len().min(12 + 18 + 4);
                for detail in [ClientDetail::Network, ClientDetail::None] {
                    let told = query(detail, &wire);
                    prop_assert!(told.len() == wire.len() || told.len() <= 12);
                    let rest = told.get(asked..).unwrap_or_default();
                    prop_assert!(!holds(rest, beyond), "{subnet} {detail:?} {wire:?} {told:?}");
                }
            }
        }
    }
}
