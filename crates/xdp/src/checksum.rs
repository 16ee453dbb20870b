//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// A sum under way: words of 16 bits, not folded yet. Frames are far too short for it to overflow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes, as words in network order; an odd last one is the high half of a word.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Sum {
        // Words of any width add up alike once folded (RFC 1071 §2(B), (C)): four bytes at a time.
        let (fours, rest) = bytes.as_chunks::<4>();
        let mut sum = fours.iter().fold(self.0, |sum, four| sum + u64::from(u32::from_be_bytes(*four)));
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_be_bytes(last));
        Sum(sum)
    }

    /// Adds a number of at most 16 bits.
    pub(crate) fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// Adds what UDP's checksum covers of the IP header (RFC 768; RFC 8200 §8.1); `length` is UDP's.
    pub(crate) fn pseudo(self, source: IpAddr, destination: IpAddr, length: u16) -> Sum {
        [source, destination].into_iter().fold(self, Sum::address).word(u16::from(UDP)).word(length)
    }

    fn address(self, address: IpAddr) -> Sum {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// The sum in 16 bits.
    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What stands in a header.
    pub(crate) fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// UDP's number among protocols.
pub(crate) const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_standard_comes_out() {
        // RFC 1071 §3.
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_words(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut words = 0_u64;
            for pair in bytes.chunks(2) {
                words += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            }
            while words > 0xffff {
                words = (words & 0xffff) + (words >> 16);
            }
            prop_assert_eq!(Sum::default().bytes(&bytes).folded(), words as u16);
        }
    }
}
