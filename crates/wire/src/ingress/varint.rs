//! Numbers of 1, 2, 4 or 8 bytes (RFC 9000 §16), in the shortest form only: each number has one encoding.

use super::datagram::DatagramError;

/// Largest number that can be said.
pub(super) const MAX: u64 = (1 << 62) - 1;

/// Appends a number; `field` names it in the error.
pub(super) fn put(out: &mut Vec<u8>, field: &'static str, value: u64) -> Result<(), DatagramError> {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend((0x4000 | value as u16).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend((0x8000_0000 | value as u32).to_be_bytes()),
        0x4000_0000..=MAX => out.extend((0xc000_0000_0000_0000 | value).to_be_bytes()),
        _ => return Err(DatagramError::Range { field, value, most: MAX }),
    }
    Ok(())
}

/// Takes a number off the front of `bytes`; `field` names it in the error.
pub(super) fn take(bytes: &mut &[u8], field: &'static str) -> Result<u64, DatagramError> {
    let first = *bytes.first().ok_or(DatagramError::Truncated(field))?;
    let length = 1usize << (first >> 6);
    let (number, rest) = bytes.split_at_checked(length).ok_or(DatagramError::Truncated(field))?;
    let value = number[1..].iter().fold(u64::from(first & 0x3f), |value, b| value << 8 | u64::from(*b));
    let shortest = match length {
        1 => true,
        2 => value > 0x3f,
        4 => value > 0x3fff,
        _ => value > 0x3fff_ffff,
    };
    if !shortest {
        return Err(DatagramError::Overlong(field));
    }
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9000 appendix A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let mut out = Vec::new();
            put(&mut out, "x", value).unwrap();
            assert_eq!(out, bytes);
            assert_eq!(take(&mut &bytes[..], "x"), Ok(value));
        }
        // 37 in two bytes.
        assert_eq!(take(&mut &[0x40, 0x25][..], "x"), Err(DatagramError::Overlong("x")));
        assert_eq!(take(&mut &[0x7b][..], "x"), Err(DatagramError::Truncated("x")));
        assert!(put(&mut Vec::new(), "x", MAX + 1).is_err());
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = &bytes[..];
            if let Ok(value) = take(&mut rest, "x") {
                let mut out = Vec::new();
                put(&mut out, "x", value).unwrap();
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
