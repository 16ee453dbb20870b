//! A city database that does not exist, of any size: networks that cover the address space in the
//! lengths that city databases have, each in one of many places.

use crate::random::Random;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nearmost_core::geo::{CountryCode, Place, Position};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Places that people live around: latitude and longitude in degrees, country.
const CENTRES: [(f64, f64, &str); 32] = [
    (51.5, -0.1, "GB"),
    (48.9, 2.4, "FR"),
    (52.5, 13.4, "DE"),
    (40.4, -3.7, "ES"),
    (41.9, 12.5, "IT"),
    (52.2, 21.0, "PL"),
    (59.3, 18.1, "SE"),
    (55.8, 37.6, "RU"),
    (55.0, 82.9, "RU"),
    (50.5, 30.5, "UA"),
    (41.0, 29.0, "TR"),
    (40.7, -74.0, "US"),
    (41.9, -87.6, "US"),
    (32.8, -96.8, "US"),
    (37.8, -122.4, "US"),
    (43.7, -79.4, "CA"),
    (19.4, -99.1, "MX"),
    (4.7, -74.1, "CO"),
    (-23.5, -46.6, "BR"),
    (-34.6, -58.4, "AR"),
    (35.7, 139.7, "JP"),
    (37.6, 127.0, "KR"),
    (39.9, 116.4, "CN"),
    (23.1, 113.3, "CN"),
    (28.6, 77.2, "IN"),
    (12.9, 77.6, "IN"),
    (1.4, 103.8, "SG"),
    (-6.2, 106.8, "ID"),
    (-33.9, 151.2, "AU"),
    (30.0, 31.2, "EG"),
    (6.5, 3.4, "NG"),
    (-26.2, 28.0, "ZA"),
];
/// IPv4 blocks that are divided further, and the lengths of networks in them.
const V4_BLOCK: u8 = 16;
const V4_LONGEST: u8 = 28;
/// The length that most IPv4 networks are announced with: longer ones are rare.
const V4_USUAL: u8 = 24;
/// The same of IPv6.
const V6_BLOCK: u8 = 29;
const V6_LONGEST: u8 = 48;
const V6_USUAL: u8 = 40;
/// Blocks of IPv6: every so many of them in 2000::/3 is in use.
const V6_BLOCKS: usize = 40_000;
/// The first block of 2000::/3.
const V6_FIRST: u128 = 0x2000 << 112;

/// A database in the making: the same networks each time they are asked for.
pub struct Database {
    seed: u64,
    v4: usize,
    v6: usize,
    /// All places, those around one centre side by side.
    places: Vec<Place>,
}

/// A network, and its place by number.
pub type Network = (IpNet, u32);

impl Database {
    /// About so many networks of each family, in so many distinct places.
    pub fn new(seed: u64, v4: usize, v6: usize, places: usize) -> Database {
        let mut random = Random::new(seed);
        let place = |at: usize| place(CENTRES[at * CENTRES.len() / places.max(1)], &mut random);
        Database { seed, v4, v6, places: (0..places).map(place).collect() }
    }

    /// The places that networks number.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Hands out all networks in ascending order, IPv4 first.
    pub fn networks(&self, mut take: impl FnMut(Network)) {
        let mut random = Random::new(self.seed ^ 1);
        let shape = Shape::of(V4_BLOCK, V4_USUAL, V4_LONGEST, self.v4 as f64 / f64::from(1 << V4_BLOCK));
        for block in 0..1_u32 << V4_BLOCK {
            let first = u128::from(block) << (32 - V4_BLOCK);
            let centre = random.below(CENTRES.len());
            shape.divide(first, V4_BLOCK, 32, &mut random, &mut |first, length, random| {
                take((v4(first as u32, length), self.around(centre, random)));
            });
        }
        let shape = Shape::of(V6_BLOCK, V6_USUAL, V6_LONGEST, self.v6 as f64 / V6_BLOCKS as f64);
        let stride = (1_u128 << (V6_BLOCK - 3)) / V6_BLOCKS as u128;
        for block in 0..V6_BLOCKS as u128 {
            let first = V6_FIRST + ((block * stride) << (128 - V6_BLOCK));
            let centre = random.below(CENTRES.len());
            shape.divide(first, V6_BLOCK, 128, &mut random, &mut |first, length, random| {
                take((v6(first, length), self.around(centre, random)));
            });
        }
    }

    /// A random place around a centre.
    fn around(&self, centre: usize, random: &mut Random) -> u32 {
        let (first, end) = (self.first_around(centre), self.first_around(centre + 1));
        (first + random.below((end - first).max(1))).min(self.places.len() - 1) as u32
    }

    fn first_around(&self, centre: usize) -> usize {
        (centre * self.places.len()).div_ceil(CENTRES.len())
    }

    /// An address that somebody may ask from: three of four in IPv4, the others in blocks in use.
    pub fn client(&self, random: &mut Random) -> IpAddr {
        if random.below(4) > 0 {
            return IpAddr::V4(Ipv4Addr::from_bits(random.next() as u32));
        }
        let stride = (1_u128 << (V6_BLOCK - 3)) / V6_BLOCKS as u128;
        let block = V6_FIRST + ((random.below(V6_BLOCKS) as u128 * stride) << (128 - V6_BLOCK));
        let inside = (u128::from(random.next()) << 64 | u128::from(random.next())) >> V6_BLOCK;
        IpAddr::V6(Ipv6Addr::from_bits(block | inside))
    }
}

fn v4(first: u32, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(first.into(), length))
}

fn v6(first: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(first.into(), length))
}

/// A place within some hundred kilometres of a centre, in one of 60 000 autonomous systems.
fn place((lat, lon, country): (f64, f64, &str), random: &mut Random) -> Place {
    // Two draws added up: more of them near the centre than far from it.
    let mut off = || (random.unit() + random.unit() - 1.0) * 8.0;
    let (lat, lon) = ((lat + off()).clamp(-89.0, 89.0), (lon + off()).clamp(-179.0, 179.0));
    Place {
        position: Position::from_degrees(lat, lon),
        country: CountryCode::new(country),
        asn: Some(1 + random.below(60_000) as u32),
    }
}

/// How blocks are divided: in two with some chance, each half again, and so on.
struct Shape {
    chance: f64,
    usual: u8,
    longest: u8,
}

impl Shape {
    /// The shape that divides a block of a length into so many networks in the mean.
    fn of(block: u8, usual: u8, longest: u8, networks: f64) -> Shape {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = Shape { chance: (low + high) / 2.0, usual, longest };
            match middle.mean(block) < networks {
                true => low = middle.chance,
                false => high = middle.chance,
            }
        }
        Shape { chance: low, usual, longest }
    }

    /// The chance that a network of a length is divided.
    fn at(&self, length: u8) -> f64 {
        match length {
            l if l >= self.longest => 0.0,
            l if l >= self.usual => self.chance / 4.0,
            _ => self.chance,
        }
    }

    /// The mean number of networks that one of a length becomes.
    fn mean(&self, length: u8) -> f64 {
        let chance = self.at(length);
        if chance == 0.0 { 1.0 } else { (1.0 - chance) + chance * 2.0 * self.mean(length + 1) }
    }

    fn divide(
        &self,
        first: u128,
        length: u8,
        width: u8,
        random: &mut Random,
        take: &mut impl FnMut(u128, u8, &mut Random),
    ) {
        if random.unit() >= self.at(length) {
            return take(first, length, random);
        }
        let half = 1_u128 << (width - length - 1);
        self.divide(first, length + 1, width, random, take);
        self.divide(first + half, length + 1, width, random, take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_ascend_in_the_number_asked_for_and_are_the_same_each_time() {
        let database = Database::new(7, 200_000, 90_000, 3_000);
        let mut all: Vec<Network> = Vec::new();
        database.networks(|network| all.push(network));
        let v4 = all.iter().filter(|(net, _)| net.addr().is_ipv4()).count();
        assert!((195_000..205_000).contains(&v4), "{v4}");
        assert!((87_000..93_000).contains(&(all.len() - v4)), "{}", all.len() - v4);
        assert!(all.windows(2).all(|w| match (w[0].0, w[1].0) {
            (IpNet::V4(a), IpNet::V4(b)) => a.broadcast() < b.network(),
            (IpNet::V6(a), IpNet::V6(b)) => a.broadcast() < b.network(),
            (a, _) => a.addr().is_ipv4(),
        }));
        let mut again = Vec::new();
        database.networks(|network| again.push(network));
        assert!(all == again && all.iter().all(|(_, place)| (*place as usize) < 3_000));
        assert!(all.iter().all(|(net, _)| match net {
            IpNet::V4(n) => (V4_BLOCK..=V4_LONGEST).contains(&n.prefix_len()),
            IpNet::V6(n) => (V6_BLOCK..=V6_LONGEST).contains(&n.prefix_len()),
        }));
    }
}
