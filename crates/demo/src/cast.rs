//! Who plays: five places around the world, and networks of users.

use std::net::Ipv4Addr;

/// A mirror of the demo.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Name of node and mirror.
    pub name: &'static str,
    /// Where it would be.
    pub city: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Two letters.
    pub country: &'static str,
    /// Its own loopback address.
    pub address: &'static str,
}

/// The domain that the demo serves.
pub const DOMAIN: &str = "play.nearmost.test";

/// The five mirrors.
pub const MIRRORS: [Role; 5] = [
    role("london", "London", 51.51, -0.13, "GB", "127.0.10.1"),
    role("newyork", "New York", 40.71, -74.01, "US", "127.0.10.2"),
    role("saopaulo", "São Paulo", -23.55, -46.63, "BR", "127.0.10.3"),
    role("singapore", "Singapore", 1.35, 103.82, "SG", "127.0.10.4"),
    role("sydney", "Sydney", -33.87, 151.21, "AU", "127.0.10.5"),
];

const fn role(
    name: &'static str,
    city: &'static str,
    latitude: f64,
    longitude: f64,
    country: &'static str,
    address: &'static str,
) -> Role {
    Role { name, city, latitude, longitude, country, address }
}

/// Networks of users to ask as, one a continent: prefix, and where its users are.
pub const USERS: [(&str, &str); 6] = [
    ("212.58.224.0/19", "the United Kingdom"),
    ("17.0.0.0/16", "the United States"),
    ("200.160.0.0/20", "Brazil"),
    ("133.11.0.0/16", "Japan"),
    ("139.130.0.0/16", "Australia"),
    ("105.112.0.0/16", "Nigeria"),
];

/// Users who ask all the time: the first of their networks, their country, and how many ask each second. The
/// networks are large ones of carriers that serve this country alone.
pub const AUDIENCE: [(Ipv4Addr, &str, u32); 16] = [
    (Ipv4Addr::new(86, 128, 0, 0), "GB", 4),
    (Ipv4Addr::new(91, 0, 0, 0), "DE", 5),
    (Ipv4Addr::new(90, 0, 0, 0), "FR", 4),
    (Ipv4Addr::new(83, 32, 0, 0), "ES", 2),
    (Ipv4Addr::new(73, 0, 0, 0), "US", 8),
    (Ipv4Addr::new(24, 64, 0, 0), "CA", 2),
    (Ipv4Addr::new(187, 128, 0, 0), "MX", 2),
    (Ipv4Addr::new(177, 0, 0, 0), "BR", 4),
    (Ipv4Addr::new(190, 16, 0, 0), "AR", 2),
    (Ipv4Addr::new(126, 0, 0, 0), "JP", 4),
    (Ipv4Addr::new(175, 192, 0, 0), "KR", 3),
    (Ipv4Addr::new(117, 192, 0, 0), "IN", 5),
    (Ipv4Addr::new(36, 64, 0, 0), "ID", 3),
    (Ipv4Addr::new(1, 128, 0, 0), "AU", 3),
    (Ipv4Addr::new(41, 32, 0, 0), "EG", 1),
    (Ipv4Addr::new(105, 112, 0, 0), "NG", 2),
];
