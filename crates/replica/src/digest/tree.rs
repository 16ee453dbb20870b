//! The tree itself.
//!
//! Hashes are made when somebody asks for them: [`DigestTree::refresh`] after a batch of changes hashes each
//! changed part once, however many of its statements changed.

use super::{EMPTY, Hash, Prefix, Slot, Version, half};
use sha2::{Digest as _, Sha256};

/// Most statements in a leaf.
pub const LEAF: usize = 16;

/// A set of slots with versions and its hashes.
#[derive(Clone, Debug)]
pub struct DigestTree {
    root: Node,
}

#[derive(Clone, Debug)]
struct Node {
    part: Part,
    /// `None` after a change below.
    hash: Option<Hash>,
}

#[derive(Clone, Debug)]
enum Part {
    /// Sorted by slot.
    Leaf(Vec<(Slot, Version)>),
    /// More than [`LEAF`] statements.
    Inner { parts: Box<[Node; 16]>, count: usize },
}

/// What a store tells of one part.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum View {
    /// The hashes of its parts. Boxed: most messages are not this one.
    Inner(Box<[Hash; 16]>),
    /// All it holds, sorted by slot.
    Leaf(Vec<(Slot, Version)>),
}

impl Default for DigestTree {
    fn default() -> Self {
        DigestTree { root: Node::empty() }
    }
}

impl DigestTree {
    /// How many statements.
    pub fn len(&self) -> usize {
        self.root.count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a version in a slot, in the place of another.
    pub fn insert(&mut self, slot: Slot, version: Version) {
        self.root.insert(slot, version, 0);
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: Slot) {
        self.root.remove(slot, 0);
    }

    /// The version in a slot.
    pub fn get(&self, slot: Slot) -> Option<Version> {
        let mut node = &self.root;
        for depth in 0.. {
            match &node.part {
                Part::Leaf(items) => {
                    return items.binary_search_by_key(&slot, |item| item.0).ok().map(|i| items[i].1);
                }
                Part::Inner { parts, .. } => node = &parts[slot.nibble(depth)],
            }
        }
        None
    }

    /// Makes the hashes that changes left open.
    pub fn refresh(&mut self) {
        self.root.refresh();
    }

    /// The hash of everything.
    pub fn root(&self) -> Hash {
        self.root.hash()
    }

    /// The hash of a part.
    pub fn hash(&self, prefix: Prefix) -> Hash {
        match self.find(prefix) {
            Found::Node(node) => node.hash(),
            Found::Within(items) => leaf_hash(&items),
        }
    }

    /// One part as another store is told of it.
    pub fn view(&self, prefix: Prefix) -> View {
        match self.find(prefix) {
            Found::Within(items) => View::Leaf(items),
            Found::Node(node) => match &node.part {
                Part::Leaf(items) => View::Leaf(items.clone()),
                Part::Inner { parts, .. } => View::Inner(Box::new(std::array::from_fn(|i| parts[i].hash()))),
            },
        }
    }

    /// How many statements a part has.
    pub fn count(&self, prefix: Prefix) -> usize {
        match self.find(prefix) {
            Found::Node(node) => node.count(),
            Found::Within(items) => items.len(),
        }
    }

    /// Up to `most` statements of a part from the slot `from` on, in the order of slots.
    pub fn range(&self, prefix: Prefix, from: Slot, most: usize) -> Vec<(Slot, Version)> {
        let mut out = Vec::new();
        match self.find(prefix) {
            Found::Within(items) => out.extend(items.into_iter().filter(|i| i.0 >= from).take(most)),
            Found::Node(node) => node.collect(from, most, &mut out),
        }
        out
    }

    fn find(&self, prefix: Prefix) -> Found<'_> {
        let mut node = &self.root;
        for depth in 0..prefix.len() {
            match &node.part {
                Part::Inner { parts, .. } => node = &parts[prefix.nibble(depth)],
                Part::Leaf(items) => {
                    return Found::Within(items.iter().filter(|i| prefix.contains(i.0)).copied().collect());
                }
            }
        }
        Found::Node(node)
    }
}

enum Found<'a> {
    Node(&'a Node),
    /// The prefix is below a leaf: what of the leaf is in it.
    Within(Vec<(Slot, Version)>),
}

fn leaf_hash(items: &[(Slot, Version)]) -> Hash {
    if items.is_empty() {
        return EMPTY;
    }
    let mut hasher = Sha256::new_with_prefix(b"nearmost digest leaf v1\0");
    for (slot, version) in items {
        hasher.update(slot.0);
        hasher.update(version);
    }
    half(&hasher.finalize().into())
}

impl Node {
    fn empty() -> Node {
        Node { part: Part::Leaf(Vec::new()), hash: Some(EMPTY) }
    }

    fn count(&self) -> usize {
        match &self.part {
            Part::Leaf(items) => items.len(),
            Part::Inner { count, .. } => *count,
        }
    }

    fn hash(&self) -> Hash {
        self.hash.unwrap_or_else(|| match &self.part {
            Part::Leaf(items) => leaf_hash(items),
            Part::Inner { parts, .. } => inner_hash(parts.iter().map(Node::hash)),
        })
    }

    fn refresh(&mut self) {
        if self.hash.is_some() {
            return;
        }
        if let Part::Inner { parts, .. } = &mut self.part {
            parts.iter_mut().for_each(Node::refresh);
        }
        self.hash = Some(self.hash());
    }

    /// Returns whether there is one more now.
    fn insert(&mut self, slot: Slot, version: Version, depth: usize) -> bool {
        let added = match &mut self.part {
            Part::Inner { parts, count } => {
                let added = parts[slot.nibble(depth)].insert(slot, version, depth + 1);
                *count += usize::from(added);
                added
            }
            Part::Leaf(items) => match items.binary_search_by_key(&slot, |item| item.0) {
                Ok(i) => {
                    items[i].1 = version;
                    false
                }
                Err(i) => {
                    items.insert(i, (slot, version));
                    true
                }
            },
        };
        self.hash = None;
        if let Part::Leaf(items) = &mut self.part
            && items.len() > LEAF
        {
            let items = std::mem::take(items);
            let count = items.len();
            let mut parts = Box::new(std::array::from_fn(|_| Node::empty()));
            for (slot, version) in items {
                let part: &mut Node = &mut parts[slot.nibble(depth)];
                part.insert(slot, version, depth + 1);
            }
            self.part = Part::Inner { parts, count };
        }
        added
    }

    /// Returns whether there is one less now.
    fn remove(&mut self, slot: Slot, depth: usize) -> bool {
        let removed = match &mut self.part {
            Part::Inner { parts, count } => {
                let removed = parts[slot.nibble(depth)].remove(slot, depth + 1);
                *count -= usize::from(removed);
                removed
            }
            Part::Leaf(items) => match items.binary_search_by_key(&slot, |item| item.0) {
                Ok(i) => {
                    items.remove(i);
                    true
                }
                Err(_) => false,
            },
        };
        if removed {
            self.hash = None;
            if let Part::Inner { count, .. } = &self.part
                && *count <= LEAF
            {
                let mut items = Vec::with_capacity(LEAF);
                self.collect(Slot(EMPTY), LEAF, &mut items);
                self.part = Part::Leaf(items);
            }
        }
        removed
    }

    /// Statements from `from` on, until `out` has `most`.
    fn collect(&self, from: Slot, most: usize, out: &mut Vec<(Slot, Version)>) {
        match &self.part {
            Part::Leaf(items) => {
                let start = items.partition_point(|item| item.0 < from);
                let room = most.saturating_sub(out.len());
                out.extend(items[start..].iter().take(room));
            }
            Part::Inner { parts, .. } => {
                // Parts before the one that `from` is in hold smaller slots only, if `from` is in this node
                // at all; those are searched in vain at worst.
                for part in parts.iter() {
                    if out.len() >= most {
                        return;
                    }
                    if part.last().is_some_and(|last| last >= from) {
                        part.collect(from, most, out);
                    }
                }
            }
        }
    }

    fn last(&self) -> Option<Slot> {
        match &self.part {
            Part::Leaf(items) => items.last().map(|item| item.0),
            Part::Inner { parts, .. } => parts.iter().rev().find_map(Node::last),
        }
    }
}

fn inner_hash(parts: impl Iterator<Item = Hash>) -> Hash {
    let mut hasher = Sha256::new_with_prefix(b"nearmost digest inner v1\0");
    for part in parts {
        hasher.update(part);
    }
    half(&hasher.finalize().into())
}
