//! Corrected places as people write them → plain data.

use super::bodies::OverrideBody;
use super::build;
use crate::prefix;
use ipnet::IpNet;
use nearmost_core::geo::Place;

/// Most overrides of a registry: each is a record of its own, and every change of the registry builds
/// all of them.
pub const MAX_OVERRIDES: usize = 100_000;

/// What is said of an override beyond [`MAX_OVERRIDES`]. It names no count, so that removing some of
/// too many adds no problem.
pub(super) fn too_many() -> String {
    format!("a registry holds at most {MAX_OVERRIDES} overrides, and this one is beyond them")
}

/// The prefix that a record's scope and id name.
pub(super) fn prefix(scope: &str, id: &str) -> Result<IpNet, String> {
    if !scope.is_empty() {
        return Err(format!("scope {scope:?}: expected none"));
    }
    let net = prefix::parse(id).map_err(|e| e.to_string())?;
    match net.to_string() {
        text if text == id => Ok(net),
        text => Err(format!("the prefix must be written {text:?}")),
    }
}

/// The plain place, of which at least one part is known.
pub(super) fn place(body: &OverrideBody) -> Result<Place, String> {
    if body.asn == Some(0) {
        return Err(format!("asn = 0: expected 1 to {}", u32::MAX));
    }
    match build::place(&body.place())? {
        place if place == Place::default() => {
            Err("says no place; give latitude and longitude, country or asn".into())
        }
        place => Ok(place),
    }
}
