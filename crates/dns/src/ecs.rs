//! EDNS Client Subnet (RFC 7871): strict decoding, the address it stands for, and the scope that
//! an answer gives back.
//!
//! A scope is the length of the map cell around the address. Cells never overlap, so scopes do
//! not either, except at one seam: IPv4 clients can show up inside family 2 as `::ffff:a.b.c.d`,
//! and those are located as IPv4. A family 2 scope therefore never covers `::ffff:0:0/96` from
//! outside.

use crate::error::{ErrorKind, QueryError};
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The option's code.
pub const OPTION_CODE: u16 = 8;
/// Bytes of the option before the address.
const FIXED: usize = 4;
/// `::ffff:0:0`, the start of the IPv4-mapped addresses (RFC 4291 §2.5.5.2).
const MAPPED: u128 = 0xffff_0000_0000;

/// A client subnet option that was well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecs {
    /// 1 for IPv4, 2 for IPv6; 0 only with a source prefix of 0.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH: how much of the address the resolver discloses; 0 is a client that
    /// asked for privacy.
    pub source: u8,
    /// The address, zero beyond the prefix.
    pub address: IpAddr,
}

impl Ecs {
    /// Decodes an option's data that stands at offset `at` of its message.
    ///
    /// # Errors
    /// Everything for which RFC 7871 §6 and §7.1.2 demand FORMERR.
    pub fn parse(data: &[u8], at: usize) -> Result<Ecs, QueryError> {
        let Some((&[f0, f1, source, scope], octets)) = data.split_first_chunk::<FIXED>() else {
            return Err(ErrorKind::EcsShort.at(at));
        };
        let family = u16::from_be_bytes([f0, f1]);
        let widest = match family {
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return Err(ErrorKind::EcsFamily.at(at)),
        };
        if source > widest {
            return Err(ErrorKind::EcsSource.at(at + 2));
        }
        if scope != 0 {
            return Err(ErrorKind::EcsScope.at(at + 3));
        }
        if octets.len() != usize::from(source.div_ceil(8)) {
            return Err(ErrorKind::EcsAddress.at(at + FIXED));
        }
        let spare = u32::from(source.div_ceil(8)) * 8 - u32::from(source);
        if octets.last().is_some_and(|last| last.trailing_zeros() < spare) {
            return Err(ErrorKind::EcsBits.at(at + FIXED + octets.len() - 1));
        }
        let mut padded = [0u8; 16];
        padded[..octets.len()].copy_from_slice(octets);
        let address = if family == 2 {
            IpAddr::V6(Ipv6Addr::from(padded))
        } else {
            let [a, b, c, d, ..] = padded;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        };
        Ok(Ecs { family, source, address })
    }

    /// Bytes of the whole option in a reply, code and length included.
    pub fn encoded_len(&self) -> usize {
        4 + FIXED + usize::from(self.source.div_ceil(8))
    }

    /// Appends the option as a reply echoes it, with a scope.
    pub fn encode(&self, scope: u8, out: &mut Vec<u8>) {
        let octets = usize::from(self.source.div_ceil(8));
        out.extend_from_slice(&OPTION_CODE.to_be_bytes());
        // At most 4 + 16.
        out.extend_from_slice(&((FIXED + octets) as u16).to_be_bytes());
        out.extend_from_slice(&self.family.to_be_bytes());
        out.extend_from_slice(&[self.source, scope]);
        match self.address {
            IpAddr::V4(a) => out.extend_from_slice(&a.octets()[..octets]),
            IpAddr::V6(a) => out.extend_from_slice(&a.octets()[..octets]),
        }
    }

    /// The scope that says "everyone in this cell gets this answer" in the option's own family.
    pub fn scope(&self, cell: IpNet) -> u8 {
        match (self.address, cell) {
            (IpAddr::V4(_), IpNet::V4(cell)) => cell.prefix_len(),
            (IpAddr::V6(a), IpNet::V4(cell)) if a.to_ipv4_mapped().is_some() => 96 + cell.prefix_len(),
            (IpAddr::V6(a), IpNet::V6(cell)) => beside_mapped(a, cell),
            // The map answered for another family than it was asked: claim nothing but the address.
            (IpAddr::V4(_), IpNet::V6(_)) => 32,
            (IpAddr::V6(_), IpNet::V4(_)) => 128,
        }
    }
}

/// The length of the widest prefix around `address` within `cell` that holds no IPv4-mapped address.
fn beside_mapped(address: Ipv6Addr, cell: Ipv6Net) -> u8 {
    if cell.prefix_len() > 96 || !cell.contains(&Ipv6Addr::from(MAPPED)) {
        return cell.prefix_len();
    }
    let common = (u128::from(address) ^ MAPPED).leading_zeros().min(127);
    // At most 128.
    (common + 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_options_are_named() {
        let table: &[(&[u8], ErrorKind, usize)] = &[
            (&[], ErrorKind::EcsShort, 100),
            (&[0, 1, 24], ErrorKind::EcsShort, 100),
            (&[0, 3, 0, 0], ErrorKind::EcsFamily, 100),
            (&[1, 1, 24, 0, 1, 2, 3], ErrorKind::EcsFamily, 100),
            (&[0, 0, 1, 0, 0x80], ErrorKind::EcsSource, 102),
            (&[0, 1, 33, 0, 1, 2, 3, 4, 0], ErrorKind::EcsSource, 102),
            (&[0, 2, 129, 0], ErrorKind::EcsSource, 102),
            (&[0, 1, 24, 24, 1, 2, 3], ErrorKind::EcsScope, 103),
            (&[0, 1, 0, 1], ErrorKind::EcsScope, 103),
            (&[0, 1, 24, 0, 1, 2], ErrorKind::EcsAddress, 104),
            (&[0, 1, 24, 0, 1, 2, 3, 0], ErrorKind::EcsAddress, 104),
            (&[0, 1, 0, 0, 0], ErrorKind::EcsAddress, 104),
            (&[0, 0, 0, 0, 0], ErrorKind::EcsAddress, 104),
            (&[0, 2, 56, 0, 1, 2, 3, 4, 5, 6], ErrorKind::EcsAddress, 104),
            (&[0, 1, 23, 0, 1, 2, 3], ErrorKind::EcsBits, 106),
            (&[0, 1, 1, 0, 0x40], ErrorKind::EcsBits, 104),
            (&[0, 2, 33, 0, 0x20, 1, 0xd, 0xb8, 0x40], ErrorKind::EcsBits, 108),
        ];
        for (data, kind, at) in table {
            assert_eq!(Ecs::parse(data, 100), Err(kind.at(*at)), "{data:?}");
        }
    }

    #[test]
    fn well_formed_options() {
        let parse = |d: &[u8]| Ecs::parse(d, 0).unwrap();
        assert_eq!(parse(&[0, 0, 0, 0]).family, 0);
        assert_eq!(parse(&[0, 1, 0, 0]).source, 0);
        assert_eq!(parse(&[0, 1, 23, 0, 1, 2, 2]).address, IpAddr::from([1, 2, 2, 0]));
        assert_eq!(parse(&[0, 1, 32, 0, 1, 2, 3, 4]).address, IpAddr::from([1, 2, 3, 4]));
        assert_eq!(parse(&[0, 2, 33, 0, 0x20, 1, 0xd, 0xb8, 0x80]).address.to_string(), "2001:db8:8000::");
    }

    #[test]
    fn scopes_at_the_seam_of_the_families() {
        let v6 = |address: &str, source| Ecs { family: 2, source, address: address.parse().unwrap() };
        let net = |n: &str| n.parse::<IpNet>().unwrap();
        let v4 = Ecs { family: 1, source: 24, address: IpAddr::from([192, 0, 2, 0]) };
        assert_eq!(v4.scope(net("192.0.0.0/16")), 16);
        assert_eq!(v4.scope(net("192.0.2.0/28")), 28);
        assert_eq!(v6("::ffff:192.0.2.0", 120).scope(net("192.0.0.0/16")), 112);
        assert_eq!(v6("2001:db8::", 48).scope(net("2001:db8::/32")), 32);
        // An empty table's one cell would cover the mapped addresses.
        assert_eq!(v6("2001:db8::", 48).scope(net("::/0")), 3);
        assert_eq!(v6("::", 64).scope(net("::/0")), 81);
        assert_eq!(v6("8000::", 1).scope(net("::/0")), 1);
        assert_eq!(v4.scope(net("::/0")), 32);
        assert_eq!(v6("2001:db8::", 48).scope(net("0.0.0.0/0")), 128);
    }

    proptest! {
        #[test]
        fn echo_is_what_was_sent(v6: bool, bits: u128, source in 0u8..=128) {
            let (family, source, widest) = if v6 { (2, source, 128) } else { (1, source.min(32), 32) };
            let mask = if source == 0 { 0 } else { u128::MAX << (128 - source) };
            let octets = (bits & mask).to_be_bytes();
            let mut sent = vec![0, family, source, 0];
            sent.extend_from_slice(&octets[..usize::from(source.div_ceil(8))]);
            let ecs = Ecs::parse(&sent, 0).unwrap();
            prop_assert!(source <= widest);
            let mut echo = Vec::new();
            ecs.encode(0, &mut echo);
            prop_assert_eq!(&echo[4..], &sent[..]);
            prop_assert_eq!(echo.len(), ecs.encoded_len());
        }

        #[test]
        fn arbitrary_options_never_panic(data: Vec<u8>) {
            if let Ok(ecs) = Ecs::parse(&data, 0) {
                let mut echo = Vec::new();
                ecs.encode(0, &mut echo);
                prop_assert_eq!(&echo[4..], &data[..]);
            }
        }
    }
}
