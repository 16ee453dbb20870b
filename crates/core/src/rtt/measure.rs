//! Which mirror a client should measure next.

use super::model::{Client, Site};

/// Votes of the network itself from which on it knows a site.
const KNOWN: f32 = 0.5;

/// The site, of those that are `open`, whose round trip could well be the lowest: the likely best, with
/// an allowance for what nobody near measured. Sites that the network itself measured lately are not
/// asked for again. `None` when none is left.
pub fn next<'s>(client: &Client<'_>, sites: impl IntoIterator<Item = (usize, &'s Site)>) -> Option<usize> {
    let unknown = sites.into_iter().filter(|(_, site)| client.own_weight(site.target()) < KNOWN);
    unknown.map(|(at, site)| (at, client.hope(site))).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}
