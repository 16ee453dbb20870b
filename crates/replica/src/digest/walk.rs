//! Comparing one part with what another store told of it.

use super::{DigestTree, EMPTY, Hash, Prefix, Slot, View};

/// What follows from comparing one part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Parts to ask about next.
    pub ask: Vec<Prefix>,
    /// Parts of which nothing is held here: all of theirs is wanted.
    pub take: Vec<Prefix>,
    /// Statements that the other has and we lack, or have in another version.
    pub fetch: Vec<Slot>,
    /// Statements that we have and the other lacks, or has in another version.
    pub offer: Vec<Slot>,
}

/// Compares `prefix` of `ours` with what the other told of it. `None` when what it told cannot be: slots
/// outside of the part, or out of order.
pub fn differences(ours: &DigestTree, prefix: Prefix, theirs: &View) -> Option<Difference> {
    let mut found = Difference::default();
    match theirs {
        View::Inner(hashes) => parts(ours, prefix, hashes, &mut found)?,
        View::Leaf(items) => {
            let sorted = items.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if !sorted || !items.iter().all(|item| prefix.contains(item.0)) {
                return None;
            }
            let own = ours.range(prefix, prefix.first(), usize::MAX);
            lists(&own, items, &mut found);
        }
    }
    Some(found)
}

fn parts(ours: &DigestTree, prefix: Prefix, theirs: &[Hash; 16], found: &mut Difference) -> Option<()> {
    for (nibble, hash) in (0u8..).zip(theirs) {
        let part = prefix.child(nibble)?;
        let own = ours.hash(part);
        if own == *hash {
            continue;
        }
        match (own == EMPTY, *hash == EMPTY) {
            (true, _) => found.take.push(part),
            (_, true) => found.offer.extend(ours.range(part, part.first(), usize::MAX).iter().map(|i| i.0)),
            _ => found.ask.push(part),
        }
    }
    Some(())
}

fn lists(ours: &[(Slot, Hash)], theirs: &[(Slot, Hash)], found: &mut Difference) {
    let (mut a, mut b) = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                if x.1 != y.1 {
                    found.fetch.push(x.0);
                    found.offer.push(x.0);
                }
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.0 < y.0 => {
                found.offer.push(x.0);
                a.next();
            }
            (Some(x), None) => {
                found.offer.push(x.0);
                a.next();
            }
            (_, Some(y)) => {
                found.fetch.push(y.0);
                b.next();
            }
            (None, None) => return,
        }
    }
}
