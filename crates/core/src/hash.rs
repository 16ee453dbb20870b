//! Hashes that every broker computes alike: what users are shared out by.

use ipnet::IpNet;

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923).
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): FNV alone leaves similar inputs similar.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash as a number in the open interval (0, 1).
pub fn unit(hash: u64) -> f64 {
    // 52 bits and the half make 53, as many as a float holds: with one more the top would round to 1.
    ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Of a mirror's name.
pub fn hash_of_name(name: &str) -> u64 {
    fnv1a(name.bytes())
}

/// Of a cell.
pub fn hash_of_cell(cell: IpNet) -> u64 {
    match cell {
        IpNet::V4(n) => fnv1a(n.network().octets().into_iter().chain([n.prefix_len()])),
        IpNet::V6(n) => fnv1a(n.network().octets().into_iter().chain([n.prefix_len()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_between_zero_and_one() {
        for hash in [0, 1, u64::MAX >> 1, u64::MAX - 1, u64::MAX] {
            assert!(unit(hash) > 0.0 && unit(hash) < 1.0, "{hash:x}");
        }
    }

    #[test]
    fn hashes_are_as_published() {
        assert_eq!(fnv1a(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
        let of = |net: &str| hash_of_cell(net.parse().unwrap());
        assert_ne!(of("10.0.0.0/8"), of("10.0.0.0/9"));
    }
}
