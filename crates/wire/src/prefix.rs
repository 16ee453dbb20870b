//! Prefixes of addresses as people write them.

use ipnet::IpNet;
use nearmost_core::geo::table::unmapped;
use std::net::IpAddr;

/// Longest part of a wrong text that a message shows, in characters.
const SHOWN: usize = 80;

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither a prefix nor an address.
    #[error("found {0:?}, expected a prefix such as 192.0.2.0/24 or 2001:db8::/32")]
    NotAPrefix(String),
    /// An address without a length.
    #[error("found {found:?}, expected a prefix; {right} is this address alone")]
    Address {
        /// What was given.
        found: String,
        /// The prefix of that address.
        right: IpNet,
    },
    /// Bits are set beyond the length.
    #[error("found {found:?}, expected no bits beyond the prefix length, as in {right}")]
    HostBits {
        /// What was given.
        found: String,
        /// The prefix without them.
        right: IpNet,
    },
}

/// The prefix that a text names. One of IPv4-mapped addresses (`::ffff:0:0/96` or longer) is the IPv4
/// prefix that it stands for. The prefix's own text (`to_string`) is the canonical one.
///
/// # Errors
/// [`PrefixError`], naming the right prefix where there is one.
pub fn parse(text: &str) -> Result<IpNet, PrefixError> {
    let found = || text.chars().take(SHOWN).collect::<String>();
    let Ok(net) = text.parse::<IpNet>().map(unmapped) else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => PrefixError::Address { found: found(), right: ip.to_canonical().into() },
            Err(_) => PrefixError::NotAPrefix(found()),
        });
    };
    match net.trunc() {
        right if right == net => Ok(net),
        right => Err(PrefixError::HostBits { found: found(), right }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        parse(text).map_or_else(|e| e.to_string(), |net| net.to_string())
    }

    #[test]
    fn prefixes_are_made_canonical() {
        for (text, right) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:DB8:0:0::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical(text), right, "{text}");
        }
    }

    #[test]
    fn wrong_prefixes_name_the_right_one() {
        for (text, says) in [
            (
                "192.0.2.7/24",
                "found \"192.0.2.7/24\", expected no bits beyond the prefix length, as in 192.0.2.0/24",
            ),
            ("2001:db8::1/32", "as in 2001:db8::/32"),
            ("::ffff:192.0.2.7/120", "as in 192.0.2.0/24"),
            ("192.0.2.7", "found \"192.0.2.7\", expected a prefix; 192.0.2.7/32 is this address alone"),
            ("::ffff:192.0.2.7", "192.0.2.7/32 is this address alone"),
            ("10.0.0.0/33", "found \"10.0.0.0/33\", expected a prefix such as 192.0.2.0/24 or 2001:db8::/32"),
            ("", "found \"\", expected a prefix"),
            ("GB", "found \"GB\", expected a prefix"),
        ] {
            assert!(canonical(text).contains(says), "{text}: {}", canonical(text));
        }
        assert!(canonical(&"x".repeat(9_999)).len() < 200);
    }

    proptest! {
        #[test]
        fn never_panics_and_is_idempotent(ip: std::net::IpAddr, length in 0u8..=128, text: String) {
            let _ = parse(&text);
            if let Ok(net) = IpNet::new(ip, length) {
                let net = parse(&net.trunc().to_string()).unwrap();
                prop_assert_eq!(parse(&net.to_string()), Ok(net));
            }
        }
    }
}
