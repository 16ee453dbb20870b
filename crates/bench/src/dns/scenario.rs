//! What everybody serves: six sites around the world, one name, and a city database.

use nearmost_core::geo::Position;
use std::net::Ipv4Addr;

/// The zone that peers serve.
pub const ZONE: &str = "example.com";
/// The name that is asked for.
pub const NAME: &str = "play.example.com";
/// TTL of its addresses, in seconds.
pub const TTL: u32 = 30;

/// One of the sites.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Three letters.
    pub name: &'static str,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Those who know continents only send these to it.
    pub continents: &'static [&'static str],
    /// Last byte of its address.
    number: u8,
}

impl Site {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, self.number)
    }

    /// Where it is.
    pub fn position(&self) -> Option<Position> {
        Position::from_degrees(self.latitude, self.longitude)
    }
}

/// All of them.
pub const SITES: [Site; 6] = [
    site("lon", 51.5, -0.12, &["EU", "AF"], 1),
    site("nyc", 40.7, -74.0, &["NA", "AN"], 2),
    site("sfo", 37.77, -122.4, &[], 3),
    site("gru", -23.5, -46.6, &["SA"], 4),
    site("sin", 1.35, 103.8, &["AS"], 5),
    site("syd", -33.87, 151.2, &["OC"], 6),
];

const fn site(
    name: &'static str,
    latitude: f64,
    longitude: f64,
    continents: &'static [&'static str],
    number: u8,
) -> Site {
    Site { name, latitude, longitude, continents, number }
}

/// The site of a continent.
pub fn of_continent(continent: &str) -> Option<&'static Site> {
    SITES.iter().find(|site| site.continents.contains(&continent))
}

/// Name of one of many domains.
pub fn domain(number: usize) -> String {
    format!("d{number:05}.example.net")
}

/// The registry of one domain with the six sites.
pub fn registry() -> String {
    let mut text = head(NAME);
    for site in SITES {
        text += &mirror(NAME, site.name, site.address(), site.latitude, site.longitude);
    }
    text
}

/// The head of a domain.
pub fn head(domain: &str) -> String {
    format!("[[domain]]\nname = {domain:?}\nanswers = 1\nttl_s = {TTL}\n")
}

/// A mirror that is up by order.
pub fn mirror(domain: &str, name: &str, address: Ipv4Addr, latitude: f64, longitude: f64) -> String {
    format!(
        "[[mirror]]\ndomain = {domain:?}\nname = {name:?}\naddresses = [\"{address}\"]\nport = 443\n\
         health = \"manual\"\nstate = \"up\"\n\
         place = {{ latitude = {latitude:?}, longitude = {longitude:?} }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_continent_has_one_site_and_each_site_an_address_of_its_own() {
        for continent in ["EU", "AF", "NA", "AN", "SA", "AS", "OC"] {
            let sites = SITES.iter().filter(|s| s.continents.contains(&continent)).count();
            assert_eq!(sites, 1, "{continent}");
            assert!(of_continent(continent).is_some());
        }
        assert_eq!(of_continent(""), None);
        let mut addresses: Vec<Ipv4Addr> = SITES.iter().map(Site::address).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), SITES.len());
        assert!(SITES.iter().all(|s| s.position().is_some()));
    }
}
