//! What agents and brokers say of round trips: samples of clients' networks, orders to measure, and
//! what was measured.
//!
//! A sample is small, because a busy node has thousands of them a minute:
//!
//! ```text
//! | prefix length; +64 for IPv6  | so many bytes of the network as the length needs | RTT | connections |
//! |            u8                |           count, bytes                           |    varints        |
//! ```
//!
//! A network has one encoding: bits beyond the prefix are zero, and what has others is refused. So is
//! a list that is longer than its bound, before its entries are read.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Most samples in one message: at most 28 bytes each, far from the largest frame.
pub const MAX_SAMPLES: usize = 256;
/// Most orders, and most results, in one message.
pub const MAX_ORDERS: usize = 64;
/// How coarse IPv4 networks of clients may be told, as prefix lengths.
pub const V4_LENGTHS: RangeInclusive<u8> = 8..=24;
/// How coarse IPv6 networks of clients may be told, as prefix lengths.
pub const V6_LENGTHS: RangeInclusive<u8> = 16..=48;

/// Added to the first byte of an IPv6 network; IPv4 lengths end well below.
const V6: u8 = 64;

/// The round trip between a mirror and the clients of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSample {
    /// Whose: an address with nothing beyond the prefix.
    #[serde(serialize_with = "write_network", deserialize_with = "read_network")]
    pub network: IpNet,
    /// Median over the connections, in microseconds.
    pub rtt_us: u32,
    /// Connections that it was read off.
    pub connections: u32,
}

/// A round trip that a broker wants measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasureOrder {
    /// Comes back with the result; means nothing to the agent.
    pub id: u64,
    /// Whom to connect to …
    pub address: IpAddr,
    /// … and on which TCP port.
    pub port: u16,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// [`MeasureOrder::id`].
    pub id: u64,
    /// The least time that a connection took, in microseconds; `None` when it was not measured.
    pub rtt_us: Option<u32>,
}

fn write_network<S: Serializer>(network: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    let length = network.prefix_len();
    let bytes = usize::from(length.div_ceil(8));
    match network.trunc() {
        IpNet::V4(n) => (length, Bytes(&n.network().octets()[..bytes])).serialize(serializer),
        IpNet::V6(n) => (V6 + length, Bytes(&n.network().octets()[..bytes])).serialize(serializer),
    }
}

/// As bytes, not as a sequence of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn read_network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let (first, bytes): (u8, &[u8]) = Deserialize::deserialize(deserializer)?;
    network(first, bytes).ok_or_else(|| de::Error::custom("not a network"))
}

fn network(first: u8, bytes: &[u8]) -> Option<IpNet> {
    let (v6, length) = match first.checked_sub(V6) {
        Some(length) => (true, length),
        None => (false, first),
    };
    if bytes.len() != usize::from(length.div_ceil(8)) {
        return None;
    }
    let network = if v6 {
        let mut octets = [0; 16];
        octets.get_mut(..bytes.len())?.copy_from_slice(bytes);
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), length).ok()?)
    } else {
        let mut octets = [0; 4];
        octets.get_mut(..bytes.len())?.copy_from_slice(bytes);
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from(octets), length).ok()?)
    };
    (network.addr() == network.network()).then_some(network)
}

/// Reads a list that has at most `MAX` entries.
struct Bounded<T, const MAX: usize>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let announced = list.size_hint().unwrap_or(0);
        if announced > MAX {
            return Err(de::Error::invalid_length(announced, &self));
        }
        let mut entries = Vec::with_capacity(announced);
        while let Some(entry) = list.next_element()? {
            if entries.len() == MAX {
                return Err(de::Error::invalid_length(MAX + 1, &self));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// A list of at most `MAX` entries; a longer one is refused before its entries are read.
pub(crate) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Bounded::<T, MAX>(std::marker::PhantomData))
}

/// For the fields of messages that hold samples.
pub(crate) fn samples<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathSample>, D::Error> {
    bounded::<_, _, MAX_SAMPLES>(deserializer)
}

/// For the fields of messages that hold orders or results.
pub(crate) fn orders<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    bounded::<_, _, MAX_ORDERS>(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{ToAgent, ToBroker};
    use crate::frame::{self, MAX_FRAME};
    use proptest::prelude::*;

    fn sample(network: &str) -> PathSample {
        PathSample { network: network.parse().unwrap(), rtt_us: 20_000, connections: 3 }
    }

    fn paths(samples: Vec<PathSample>) -> ToBroker {
        ToBroker::Paths { domain: "play.example".into(), mirror: "lon".into(), samples }
    }

    fn sample_from(bytes: &[u8]) -> Option<PathSample> {
        match postcard::take_from_bytes(bytes) {
            Ok((sample, [])) => Some(sample),
            _ => None,
        }
    }

    #[test]
    fn samples_are_small() {
        for (network, size) in
            [("192.0.2.0/24", 9), ("10.0.0.0/8", 7), ("2001:db8:1::/48", 12), ("0.0.0.0/0", 6)]
        {
            let bytes = postcard::to_stdvec(&sample(network)).unwrap();
            assert_eq!(bytes.len(), size, "{network}");
            assert_eq!(sample_from(&bytes), Some(sample(network)));
        }
    }

    #[test]
    fn a_full_message_fits_a_frame() {
        let widest = PathSample {
            network: "2001:db8::ffff/128".parse().unwrap(),
            rtt_us: u32::MAX,
            connections: u32::MAX,
        };
        let (domain, mirror) = ("d".repeat(253), "m".repeat(253));
        let message = ToBroker::Paths { domain, mirror, samples: vec![widest; MAX_SAMPLES] };
        let bytes = frame::encode(&message).unwrap();
        assert!(bytes.len() < MAX_FRAME / 4, "{}", bytes.len());
        assert_eq!(frame::decode::<ToBroker>(&bytes[4..]).unwrap(), message);
    }

    #[test]
    fn longer_lists_are_refused() {
        let id = 7;
        let order = MeasureOrder { id, address: Ipv4Addr::LOCALHOST.into(), port: 443 };
        let result = Measurement { id, rtt_us: None };
        for (more, good) in [(0, true), (1, false)] {
            let samples = frame::encode(&paths(vec![sample("192.0.2.0/24"); MAX_SAMPLES + more])).unwrap();
            assert_eq!(frame::decode::<ToBroker>(&samples[4..]).is_ok(), good);
            let results = frame::encode(&ToBroker::Measured { results: vec![result; MAX_ORDERS + more] });
            assert_eq!(frame::decode::<ToBroker>(&results.unwrap()[4..]).is_ok(), good);
            let orders = frame::encode(&ToAgent::Measure { orders: vec![order; MAX_ORDERS + more] });
            assert_eq!(frame::decode::<ToAgent>(&orders.unwrap()[4..]).is_ok(), good);
        }
    }

    #[test]
    fn a_network_has_one_encoding() {
        let tail = [1, 1];
        let with = |head: &[u8]| sample_from(&[head, &tail].concat()).map(|s| s.network.to_string());
        assert_eq!(with(&[24, 3, 192, 0, 2]).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(with(&[23, 3, 192, 0, 2]).as_deref(), Some("192.0.2.0/23"));
        assert_eq!(with(&[V6 + 16, 2, 0x20, 1]).as_deref(), Some("2001::/16"));
        for bad in [
            &[23, 3, 192, 0, 3][..],   // bits beyond the prefix
            &[24, 2, 192, 0],          // too few bytes
            &[24, 4, 192, 0, 2, 0],    // too many
            &[33, 5, 192, 0, 2, 0, 0], // no IPv4 network is as long
            &[V6 + 16, 3, 0x20, 1, 0],
            &[0xff, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        ] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
    }

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<Ipv4Addr>(), 0..=32u8).prop_map(|(a, n)| IpNet::V4(Ipv4Net::new(a, n).unwrap()));
        let v6 = (any::<Ipv6Addr>(), 0..=128u8).prop_map(|(a, n)| IpNet::V6(Ipv6Net::new(a, n).unwrap()));
        prop_oneof![v4, v6].prop_map(|n| n.trunc())
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            samples in prop::collection::vec((network(), any::<u32>(), any::<u32>()), 0..20),
            results in prop::collection::vec((any::<u64>(), any::<Option<u32>>()), 0..20),
            orders in prop::collection::vec((any::<u64>(), any::<IpAddr>(), any::<u16>()), 0..20),
        ) {
            let sample = |(network, rtt_us, connections)| PathSample { network, rtt_us, connections };
            let result = |(id, rtt_us)| Measurement { id, rtt_us };
            let order = |(id, address, port)| MeasureOrder { id, address, port };
            let to_broker = [
                paths(samples.into_iter().map(sample).collect()),
                ToBroker::Measured { results: results.into_iter().map(result).collect() },
            ];
            for message in to_broker {
                let bytes = frame::encode(&message).unwrap();
                prop_assert_eq!(frame::decode::<ToBroker>(&bytes[4..]).unwrap(), message);
            }
            let message = ToAgent::Measure { orders: orders.into_iter().map(order).collect() };
            let bytes = frame::encode(&message).unwrap();
            prop_assert_eq!(frame::decode::<ToAgent>(&bytes[4..]).unwrap(), message);
        }

        /// Nothing panics, and what decodes encodes to the same bytes.
        #[test]
        fn the_encoding_of_a_network_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let (Some(first), Some(rest)) = (bytes.first(), bytes.get(1..)) else { return Ok(()) };
            if let Some(network) = super::network(*first, rest) {
                let sample = PathSample { network, rtt_us: 0, connections: 0 };
                let again = postcard::to_stdvec(&sample).unwrap();
                prop_assert_eq!(&again[..1], &bytes[..1]);
                prop_assert_eq!(&again[2..again.len() - 2], rest);
            }
        }
    }
}
