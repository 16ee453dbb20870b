//! Sets of records in canonical form (RFC 4034 §6).

use crate::dnssec::ALGORITHM;
use crate::name::{WireName, labels};

/// Class IN.
const IN: u16 = 1;

/// A set of records: what one signature is of.
#[derive(Debug)]
pub(crate) struct RrSet {
    pub(crate) owner: WireName,
    pub(crate) rtype: u16,
    pub(crate) ttl: u32,
    /// Record data in canonical form.
    pub(crate) data: Vec<Vec<u8>>,
}

/// What a signature says besides the set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'z> {
    /// The zone's name in lower case.
    pub(crate) zone: &'z [u8],
    pub(crate) tag: u16,
    /// Seconds since 1970, which wrap around in 2106 (RFC 4034 §3.1.5).
    pub(crate) inception: u32,
    pub(crate) expiration: u32,
}

impl RrSet {
    /// Brings the records into their order, each once (RFC 4034 §6.3).
    pub(crate) fn sort(&mut self) {
        self.data.sort_unstable();
        self.data.dedup();
    }

    /// Record data of RRSIG without the signature.
    pub(crate) fn rrsig(&self, signed: &Signed<'_>) -> Vec<u8> {
        let mut data = Vec::with_capacity(18 + signed.zone.len() + 64);
        data.extend_from_slice(&self.rtype.to_be_bytes());
        data.push(ALGORITHM);
        data.push(label_count(self.owner.wire()));
        for number in [self.ttl, signed.expiration, signed.inception] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        data.extend_from_slice(&signed.tag.to_be_bytes());
        data.extend_from_slice(signed.zone);
        data
    }

    /// Owner and records, as they follow the RRSIG's data in what is signed.
    pub(crate) fn records(&self) -> Vec<u8> {
        let owner = self.owner.wire().to_ascii_lowercase();
        let mut out = Vec::new();
        for data in &self.data {
            out.extend_from_slice(&owner);
            out.extend_from_slice(&self.rtype.to_be_bytes());
            out.extend_from_slice(&IN.to_be_bytes());
            out.extend_from_slice(&self.ttl.to_be_bytes());
            // What stood in a reply is no longer than 16 bits tell.
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }
}

/// Labels of an owner, a leading `*` not counted (RFC 4034 §3.1.3).
fn label_count(owner: &[u8]) -> u8 {
    let wildcard = owner.starts_with(b"\x01*");
    // At most 127.
    labels(owner).count() as u8 - u8::from(wildcard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_without_root_and_wildcard() {
        for (name, count) in [("", 0), ("com", 1), ("a.example.com", 3), ("*.example.com", 2), ("*", 0)] {
            assert_eq!(label_count(WireName::from_text(name).unwrap().wire()), count, "{name}");
        }
        assert_eq!(label_count(WireName::from_text("**.a").unwrap().wire()), 2);
    }

    #[test]
    fn order_and_case_of_a_set_make_no_difference() {
        let set = |owner: &str, data: &[&[u8]]| {
            let owner = WireName::from_text(owner).unwrap();
            let mut set = RrSet { owner, rtype: 1, ttl: 5, data: data.iter().map(|d| d.to_vec()).collect() };
            set.sort();
            set.records()
        };
        let one = set("A.Example", &[&[2, 1], &[1], &[1, 9]]);
        assert_eq!(one, set("a.example", &[&[1, 9], &[2, 1], &[1], &[1]]));
        let ordered: &[u8] = b"\x01a\x07example\0\0\x01\0\x01\0\0\0\x05\0\x01\x01";
        assert!(one.starts_with(ordered));
    }
}
