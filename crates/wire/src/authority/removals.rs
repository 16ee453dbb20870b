//! Removals of members that outweigh what nearer ones said before.

use super::members::Walk;
use super::statements::Statements;
use nearmost_replica::merge::order;
use nearmost_replica::{PublicKey, SignedRecord};
use std::collections::HashSet;

/// The way through the members once every removal that counts is taken into account.
pub(super) fn walk(root: PublicKey, statements: &Statements<'_>) -> Walk {
    let mut outweighed = HashSet::new();
    loop {
        let walk = Walk::of(root, outweighed.clone(), statements);
        let Some(next) = next(root, &walk, &outweighed, statements) else { return walk };
        outweighed.insert(next);
    }
}

/// The member whose removal counts and is the earliest of those.
fn next(
    root: PublicKey,
    walk: &Walk,
    outweighed: &HashSet<PublicKey>,
    statements: &Statements<'_>,
) -> Option<PublicKey> {
    let said = walk.voices().iter().filter_map(|voice| statements.peers.get(voice)).flatten();
    let mut removals: Vec<(&SignedRecord, PublicKey)> = said
        .filter(|(target, signed)| signed.record().is_tombstone() && *target != root && walk.has(target))
        .map(|(target, signed)| (*signed, *target))
        .collect();
    removals.sort_by(|a, b| order(a.0, b.0));
    removals.into_iter().map(|(_, target)| target).find(|target| {
        let without = outweighed.iter().copied().chain([*target]).collect();
        let voices = Walk::of(root, without, statements);
        let about = voices.voices().iter().filter_map(|voice| statements.peers.get(voice)).flatten();
        let about = about.filter(|(other, _)| other == target).map(|(_, signed)| *signed);
        about.max_by(|a, b| order(a, b)).is_some_and(|last| last.record().is_tombstone())
    })
}
