//! How far a cell may reach: the nearest borders on both sides of an address.

use crate::geo::table::{Found, Key};

/// The open space around an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<K> {
    before: Option<K>,
    after: Option<K>,
}

impl<K: Key> From<Found<K>> for Bounds<K> {
    fn from(found: Found<K>) -> Self {
        Bounds { before: found.before, after: found.after }
    }
}

impl<K: Key> Bounds<K> {
    /// Not past these: the last address before, the first after.
    pub(crate) fn within(&mut self, before: Option<K>, after: Option<K>) {
        self.before = self.before.max(before);
        self.after = match (self.after, after) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Not past the cuts around an address: ascending first addresses of what is told apart.
    pub(crate) fn within_cuts(&mut self, cuts: &[K], addr: K) {
        let next = cuts.partition_point(|c| *c <= addr);
        let before = next.checked_sub(1).and_then(|at| cuts[at].previous());
        self.within(before, cuts.get(next).copied());
    }

    /// Length of the widest prefix around the address.
    pub(crate) fn prefix_len(&self, addr: K) -> u8 {
        Found { before: self.before, after: self.after, entry: 0 }.prefix_len(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_border_counts() {
        let mut bounds = Bounds::<u32> { before: None, after: None };
        assert_eq!(bounds.prefix_len(77), 0);
        bounds.within(None, Some(1 << 16));
        assert_eq!(bounds.prefix_len(77), 16);
        bounds.within_cuts(&[0, 64, 128], 77);
        assert_eq!(bounds.prefix_len(77), 26);
        bounds.within_cuts(&[1 << 20], 77);
        assert_eq!(bounds.prefix_len(77), 26);
    }
}
