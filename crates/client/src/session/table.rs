//! The mirrors that a session knows, by the numbers that the machine has for them.

use super::known::Known;
use nearmost_core::session::MirrorKey;
use nearmost_wire::identity::Id;
use std::collections::HashMap;

/// Mirrors by number. A mirror of the same name at another node is another mirror.
#[derive(Default)]
pub(super) struct Mirrors {
    known: HashMap<MirrorKey, Known>,
    numbers: HashMap<(Option<String>, Id), MirrorKey>,
    /// Of several nodes that had a name, the one that was told of last.
    named: HashMap<String, MirrorKey>,
    last: u64,
}

impl Mirrors {
    /// Mirrors that the caller gave.
    pub fn of(given: Vec<Known>) -> Mirrors {
        let mut mirrors = Mirrors::default();
        for known in given {
            mirrors.put(known);
        }
        mirrors
    }

    /// Takes a mirror in, or what is new of it; its number.
    pub fn put(&mut self, known: Known) -> MirrorKey {
        let last = &mut self.last;
        let number = *self.numbers.entry((known.name.clone(), known.node)).or_insert_with(|| {
            *last += 1;
            MirrorKey(*last)
        });
        if let Some(name) = &known.name {
            self.named.insert(name.clone(), number);
        }
        self.known.insert(number, known);
        number
    }

    /// One of them.
    pub fn get(&self, number: MirrorKey) -> Option<&Known> {
        self.known.get(&number)
    }

    /// The number of the mirror of a name.
    pub fn named(&self, name: &str) -> Option<MirrorKey> {
        self.named.get(name).copied()
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<(MirrorKey, &Known)> {
        let mut all: Vec<_> = self.known.iter().map(|(number, known)| (*number, known)).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    /// Forgets those that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(MirrorKey) -> bool) {
        self.known.retain(|number, _| keep(*number));
        let known = &self.known;
        self.numbers.retain(|_, number| known.contains_key(number));
        self.named.retain(|_, number| known.contains_key(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::{KeyPair, Role};

    fn known(seed: u8, name: &str) -> Known {
        let node = KeyPair::from_seed(Role::Node, &[seed; 32]).id().to_string();
        Known { name: Some(name.into()), ..Known::new(&node, Vec::new()).unwrap() }
    }

    #[test]
    fn numbers_stay_with_name_and_node() {
        let mut mirrors = Mirrors::of(vec![known(1, "a"), known(2, "b")]);
        let (a, b) = (mirrors.named("a").unwrap(), mirrors.named("b").unwrap());
        assert_eq!(mirrors.put(Known { port: 9, ..known(1, "a") }), a);
        assert_eq!(mirrors.get(a).unwrap().port, 9);
        let moved = mirrors.put(known(3, "a"));
        assert!(moved != a && mirrors.named("a") == Some(moved));
        assert_eq!((mirrors.put(known(1, "a")), mirrors.named("a")), (a, Some(a)), "and back");
        mirrors.retain(|number| number == b);
        assert_eq!(mirrors.all().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [b]);
        assert_ne!(mirrors.put(known(1, "a")), a, "numbers do not come again");
    }
}
