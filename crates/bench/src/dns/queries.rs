//! Queries: as dnsperf reads them in binary (`-B`: each with two bytes of length before it, as over
//! TCP), and as kxdpgun reads them in text.

use super::scenario;
use crate::random::Random;
use anyhow::{Context, Result};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// EDNS option code of cookies (RFC 7873 §8).
pub const COOKIE: u16 = 10;
/// Bits of a client's network that are told.
const PREFIX: u8 = 24;
/// Offered size of replies (RFC 9715).
const PAYLOAD: u16 = 1232;

/// What queries carry beside the client's network, and which names they ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// DNSSEC OK (RFC 3225).
    pub dnssec: bool,
    /// This cookie, which is 8 bytes of the client's and those that the server gave.
    pub cookie: Option<Vec<u8>>,
    /// One of so many domains each; one name when 0.
    pub domains: usize,
}

impl Kind {
    /// The name of the next query.
    pub fn name(&self, random: &mut Random) -> String {
        match self.domains {
            0 => scenario::NAME.to_owned(),
            domains => scenario::domain(random.below(domains)),
        }
    }

    /// One query for the address of a name, from a client network.
    ///
    /// # Errors
    /// When the name is none.
    pub fn query(&self, id: u16, name: &str, client: Ipv4Addr) -> Result<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(self.dnssec);
        let subnet = ClientSubnet::new(IpAddr::V4(client), PREFIX, 0);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
        if let Some(cookie) = &self.cookie {
            edns.options_mut().insert(EdnsOption::Unknown(COOKIE, cookie.clone()));
        }
        message.edns = Some(edns);
        Ok(message.to_vec()?)
    }
}

/// A random public /24, without the networks of the IANA special-purpose registry (RFC 6890).
pub fn network(random: &mut Random) -> Ipv4Addr {
    loop {
        let address = Ipv4Addr::from_bits(random.next() as u32 & 0xffff_ff00);
        let [a, b, c, _] = address.octets();
        let special = match (a, b, c) {
            (0 | 10 | 127 | 224.., ..)
            | (169, 254, _)
            | (192, 168, _)
            | (192, 88, 99)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113) => true,
            (100, b, _) => b & 0xc0 == 64,
            (172, b, _) => b & 0xf0 == 16,
            _ => false,
        };
        if !special {
            return address;
        }
    }
}

/// Files with queries of one kind.
#[derive(Clone, Debug)]
pub struct Files {
    /// Binary, for dnsperf.
    pub binary: PathBuf,
    /// Text, for kxdpgun, which knows no client subnets: its clients ask from addresses of their own.
    pub text: PathBuf,
}

/// Writes so many queries of a kind.
///
/// # Errors
/// When a file cannot be written.
pub fn write(kind: &Kind, count: usize, dir: &Path, label: &str) -> Result<Files> {
    // The same clients for all kinds.
    let (mut random, mut names) = (Random::new(7), Random::new(8));
    let (mut binary, mut text) = (Vec::new(), String::new());
    for i in 0..count {
        let name = kind.name(&mut names);
        // dnsperf numbers queries itself.
        let query = kind.query(0, &name, network(&mut random))?;
        binary.extend(u16::try_from(query.len())?.to_be_bytes());
        binary.extend(query);
        if i < kind.domains.max(1) {
            text += &format!("{name}. A {}\n", if kind.dnssec { "D" } else { "E" });
        }
    }
    let files = Files { binary: dir.join(format!("{label}.bin")), text: dir.join(format!("{label}.txt")) };
    std::fs::write(&files.binary, binary).with_context(|| format!("{}", files.binary.display()))?;
    std::fs::write(&files.text, text).with_context(|| format!("{}", files.text.display()))?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::opt::EdnsCode;

    #[test]
    fn queries_carry_what_their_kind_says() {
        let kind = Kind { dnssec: true, cookie: Some(vec![1; 24]), domains: 3 };
        let mut random = Random::new(1);
        let name = kind.name(&mut random);
        let wire = kind.query(7, &name, Ipv4Addr::new(81, 2, 69, 0)).unwrap();
        let message = Message::from_vec(&wire).unwrap();
        assert_eq!(message.metadata.id, 7);
        assert_eq!(message.queries[0].name().to_ascii(), format!("{name}."));
        let edns = message.edns.unwrap();
        assert!(edns.flags().dnssec_ok);
        let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) else { panic!("no subnet") };
        assert_eq!((subnet.addr(), subnet.source_prefix()), (Ipv4Addr::new(81, 2, 69, 0).into(), 24));
        assert_eq!(edns.option(EdnsCode::Cookie), Some(&EdnsOption::Unknown(COOKIE, vec![1; 24])));
    }

    #[test]
    fn files_hold_every_query_with_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(&Kind { domains: 5, ..Kind::default() }, 40, dir.path(), "five").unwrap();
        let binary = std::fs::read(files.binary).unwrap();
        let (mut rest, mut queries) = (&binary[..], 0);
        while let [high, low, after @ ..] = rest {
            let (query, after) = after.split_at(u16::from_be_bytes([*high, *low]).into());
            assert_eq!(Message::from_vec(query).unwrap().queries.len(), 1);
            (rest, queries) = (after, queries + 1);
        }
        assert_eq!(queries, 40);
        let text = std::fs::read_to_string(files.text).unwrap();
        assert!(
            text.lines().count() == 5 && text.lines().all(|l| l.ends_with(".example.net. A E")),
            "{text}"
        );
    }

    #[test]
    fn networks_are_public_and_differ() {
        let mut random = Random::new(3);
        let all: Vec<Ipv4Addr> = (0..5000).map(|_| network(&mut random)).collect();
        assert!(all.iter().all(|a| !a.is_private()
            && !a.is_loopback()
            && !a.is_multicast()
            && !a.is_link_local()
            && !a.is_documentation()
            && a.octets()[3] == 0));
        assert!(all.iter().collect::<std::collections::HashSet<_>>().len() > 4900);
    }
}
