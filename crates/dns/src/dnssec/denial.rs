//! Compact denial of existence (RFC 9824): an NSEC that covers one name and nothing else.

use crate::dnssec::{TYPE_NSEC, TYPE_NXNAME, TYPE_RRSIG};
use crate::name::{MAX_WIRE, WireName, labels};

/// Most bytes of a label.
const MAX_LABEL: usize = 63;

/// Record data of the NSEC of a name with these types; RRSIG and NSEC itself are added.
pub(crate) fn nsec(owner: &WireName, types: &[u16]) -> Option<Vec<u8>> {
    let mut data = next(owner)?.wire().to_vec();
    let mut all = vec![TYPE_RRSIG, TYPE_NSEC];
    all.extend_from_slice(types);
    bitmap(all, &mut data);
    Some(data)
}

/// Record data of the NSEC of a name that does not exist.
pub(crate) fn nxname(owner: &WireName) -> Option<Vec<u8>> {
    nsec(owner, &[TYPE_NXNAME])
}

/// The name right after another in canonical order (RFC 4034 §6.1): the first one below it, where a name may
/// be that long (RFC 4471 §3.1.2). In lower case.
fn next(owner: &WireName) -> Option<WireName> {
    let lower = owner.wire().to_ascii_lowercase();
    if lower.len() + 2 <= MAX_WIRE {
        return WireName::from_labels(std::iter::once(&[0][..]).chain(labels(&lower)));
    }
    let mut labels: Vec<Vec<u8>> = labels(&lower).map(<[u8]>::to_vec).collect();
    if lower.len() < MAX_WIRE && labels.first().is_some_and(|l| l.len() < MAX_LABEL) {
        labels.first_mut()?.push(0);
        return WireName::from_labels(labels.iter().map(Vec::as_slice));
    }
    // The last byte that can grow does, and what is behind it goes; then the same one label higher.
    while let Some(first) = labels.first_mut() {
        while let Some(byte) = first.pop() {
            if byte < u8::MAX {
                // Capitals are lower case in canonical order.
                first.push(if byte == b'@' { b'[' } else { byte + 1 });
                return WireName::from_labels(labels.iter().map(Vec::as_slice));
            }
        }
        labels.remove(0);
    }
    None
}

/// Appends a bitmap of types (RFC 4034 §4.1.2).
fn bitmap(mut types: Vec<u16>, out: &mut Vec<u8>) {
    types.sort_unstable();
    types.dedup();
    for block in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        let mut length = 0;
        for t in block {
            let at = usize::from(t & 0xff) / 8;
            bits[at] |= 0x80 >> (t & 7);
            length = at + 1;
        }
        // A block is never empty, and has 32 bytes at most.
        out.extend_from_slice(&[(block[0] >> 8) as u8, length as u8]);
        out.extend_from_slice(&bits[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{LowerName, Name};
    use proptest::prelude::*;

    fn order(a: &WireName, b: &WireName) -> std::cmp::Ordering {
        let lower = |n: &WireName| LowerName::new(&Name::from_labels(labels(n.wire())).unwrap());
        lower(a).cmp(&lower(b))
    }

    #[test]
    fn the_first_name_below() {
        let name = next(&WireName::from_text("A.example").unwrap()).unwrap();
        assert_eq!(name.wire(), b"\x01\0\x01a\x07example\0");
    }

    #[test]
    fn types_as_in_rfc_4034() {
        // §4.3: A MX RRSIG NSEC TYPE1234.
        let mut out = vec![];
        bitmap(vec![1234, 1, 15, 46, 47, 1], &mut out);
        let mut expected = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27];
        expected.resize(expected.len() + 26, 0);
        expected.push(0x20);
        assert_eq!(out, expected);
        let data = nxname(&WireName::from_text("a").unwrap()).unwrap();
        // RRSIG, NSEC, NXNAME.
        assert_eq!(data, b"\x01\0\x01a\0\0\x11\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\x80");
    }

    fn long(first: &[u8], total: usize) -> WireName {
        let mut all = vec![first.to_vec()];
        let mut left = total - 2 - first.len();
        while left > 0 {
            let take = if left > 64 && left < 66 { 62 } else { left.min(64) };
            all.push(vec![b'x'; take - 1]);
            left -= take;
        }
        WireName::from_labels(all.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn names_without_room_for_another_label() {
        let name = long(b"ab", 254);
        assert_eq!((name.wire().len(), next(&name).unwrap().wire().len()), (254, 255));
        for (first, after) in [(&b"ab"[..], &b"ac"[..]), (b"a@", b"a["), (b"a\xff", b"b")] {
            let name = long(first, 255);
            let next = next(&name).unwrap();
            assert_eq!(labels(next.wire()).next(), Some(after));
            assert!(order(&name, &next).is_lt());
        }
        // Nothing of the first label can grow: the next one.
        let next = next(&long(b"\xff", 255)).unwrap();
        assert_eq!(labels(next.wire()).next().and_then(|l| l.last()), Some(&b'y'));
    }

    proptest! {
        #[test]
        fn the_next_name_comes_after(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 1..9)) {
            let Some(name) = WireName::from_labels(labels.iter().map(Vec::as_slice)) else { return Ok(()) };
            if let Some(next) = next(&name) {
                prop_assert!(order(&name, &next).is_lt());
            }
        }
    }
}
