//! Users around the world, as their resolvers ask for them: plain DNS with a client subnet (RFC 7871), some each
//! second from every country. Where they are sent is for the broker to say.

use crate::cast::{AUDIENCE, DOMAIN};
use anyhow::{Context, Result};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Each country asks as often as it has users in this time.
const ROUND: Duration = Duration::from_secs(1);
/// Prefix length that resolvers tell of a client.
const TOLD: u8 = 24;

/// Asks for as long as it is let.
pub async fn ask(dns: SocketAddr) -> Result<()> {
    let any: SocketAddr = match dns {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.context("the audience's socket")?;
    socket.connect(dns).await.context("the audience's socket")?;
    let users: u32 = AUDIENCE.iter().map(|(.., users)| users).sum();
    let mut tick = tokio::time::interval(ROUND / users);
    let mut answer = [0; 1232];
    for number in 0_u32.. {
        tick.tick().await;
        // Answers are for users; here there is only one who wants the socket to have room.
        while socket.try_recv(&mut answer).is_ok() {}
        // What is lost is asked again by somebody else soon.
        let _ = socket.send(&query(client(number, users), number)?).await;
    }
    Ok(())
}

/// The network of the `number`th user: each country in its turn, each of its users in another network.
fn client(number: u32, users: u32) -> Ipv4Addr {
    let (round, mut at) = (number / users, number % users);
    for (first, _, count) in AUDIENCE {
        if at < count {
            return Ipv4Addr::from_bits(first.to_bits() + ((round % 4 * count + at) << 8));
        }
        at -= count;
    }
    Ipv4Addr::UNSPECIFIED
}

fn query(client: Ipv4Addr, number: u32) -> Result<Vec<u8>> {
    let [.., high, low] = number.to_be_bytes();
    let mut message = Message::new(u16::from_be_bytes([high, low]), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(DOMAIN)?, RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(IpAddr::V4(client), TOLD, 0)));
    message.edns = Some(edns);
    Ok(message.to_vec()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_country_asks_in_each_round_from_networks_of_its_own() {
        let users: u32 = AUDIENCE.iter().map(|(.., users)| users).sum();
        for round in 0..5 {
            let mut asked: HashMap<Ipv4Addr, u32> = HashMap::new();
            for number in round * users..(round + 1) * users {
                *asked.entry(client(number, users)).or_default() += 1;
            }
            assert_eq!(asked.len(), users as usize);
            for (first, country, count) in AUDIENCE {
                let own = |a: &&Ipv4Addr| a.octets()[..2] == first.octets()[..2];
                assert_eq!(asked.keys().filter(own).count(), count as usize, "{country}");
            }
        }
    }

    #[test]
    fn a_query_names_the_network() {
        let message = Message::from_vec(&query([90, 0, 3, 0].into(), 70_000).unwrap()).unwrap();
        assert_eq!(message.metadata.id, 4464);
        let edns = message.edns.unwrap();
        assert!(format!("{edns:?}").contains("90.0.3.0"), "{edns:?}");
    }
}
