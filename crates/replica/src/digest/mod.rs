//! A digest tree over a set of statements, and what two stores tell each other of theirs.
//!
//! The set is cut by the nibbles of the slots' ids, which are hashes, so the tree is even whatever the
//! statements are about:
//!
//! ```text
//!                 []                     one hash says that two stores are equal
//!        ┌────┬───┴────┬────┐
//!       [0]  [1]  …   [e]  [f]           else sixteen hashes say in which parts they differ
//!        │         ┌───┴───┐
//!      leaf      [e0]  …  [ef]           … down to leaves, which list what they hold
//! ```
//!
//! A part with at most [`LEAF`] statements is a leaf, a larger one has sixteen parts. The shape and every
//! hash follow from the set alone, so two stores with equal sets have equal trees whatever happened before.
//! Hashes are SHA-256 cut to 128 bits: a member that could make two sets collide could hide a difference
//! from its own victims only for as long as no third store compares.

mod tree;
mod walk;

pub use tree::{DigestTree, LEAF, View};
pub use walk::{Difference, differences};

use sha2::{Digest as _, Sha256};
use std::fmt;

/// Half of a SHA-256.
pub type Hash = [u8; 16];

/// The hash of an empty part.
pub const EMPTY: Hash = [0; 16];

/// Where a statement stands in the tree: the hash of its key and author.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Slot(pub Hash);

/// Which statement stands there: the hash of its bytes.
pub type Version = Hash;

/// A part of the tree: the slots that begin with these nibbles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Prefix {
    /// The nibbles, packed from the front; those beyond `nibbles` are zero.
    bits: Hash,
    nibbles: u8,
}

/// Half of the hash of several pieces, each with its length before it.
pub(crate) fn hash_of(tag: &[u8], pieces: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(tag);
    for piece in pieces {
        hasher.update((piece.len() as u64).to_be_bytes());
        hasher.update(piece);
    }
    half(&hasher.finalize().into())
}

/// The first half of a hash.
pub(crate) fn half(hash: &[u8; 32]) -> Hash {
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

impl Slot {
    /// The nibble at `depth`, below 32.
    fn nibble(self, depth: usize) -> usize {
        let byte = self.0[depth / 2];
        usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Prefix {
    /// The whole tree.
    pub const ROOT: Prefix = Prefix { bits: EMPTY, nibbles: 0 };
    /// Most nibbles: a slot's.
    pub const MAX_NIBBLES: usize = 32;

    /// How many nibbles.
    pub fn len(&self) -> usize {
        usize::from(self.nibbles).min(Self::MAX_NIBBLES)
    }

    /// Whether it is the whole tree.
    pub fn is_empty(&self) -> bool {
        self.nibbles == 0
    }

    /// Whether it could have been made here: what others send may say anything.
    pub fn is_valid(&self) -> bool {
        usize::from(self.nibbles) <= Self::MAX_NIBBLES
            && (self.len()..Self::MAX_NIBBLES).all(|depth| Slot(self.bits).nibble(depth) == 0)
    }

    /// One of its sixteen parts; `None` at a slot's full length.
    pub fn child(self, nibble: u8) -> Option<Prefix> {
        let depth = self.len();
        if depth >= Self::MAX_NIBBLES {
            return None;
        }
        let mut bits = self.bits;
        bits[depth / 2] |= (nibble & 15) << if depth.is_multiple_of(2) { 4 } else { 0 };
        Some(Prefix { bits, nibbles: self.nibbles + 1 })
    }

    /// Whether a slot is in it.
    pub fn contains(&self, slot: Slot) -> bool {
        (0..self.len()).all(|depth| slot.nibble(depth) == Slot(self.bits).nibble(depth))
    }

    /// The first slot that could be in it.
    pub fn first(&self) -> Slot {
        Slot(self.bits)
    }

    fn nibble(&self, depth: usize) -> usize {
        Slot(self.bits).nibble(depth)
    }
}

#[cfg(test)]
mod tests;
