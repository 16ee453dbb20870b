//! Which mirrors this broker recorded for which node, kept beside the records so that a declaration
//! does not read them all.

use crate::declare::live_body;
use nearmost_replica::{Kind, PublicKey, RecordKey, SignedRecord};
use nearmost_wire::registry::MirrorBody;
use std::collections::{BTreeMap, BTreeSet};

/// Live mirror records of one author, by the node they name.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredIndex {
    author: PublicKey,
    by_node: BTreeMap<String, BTreeSet<RecordKey>>,
    node_of: BTreeMap<RecordKey, String>,
}

impl DeclaredIndex {
    /// Of the mirrors that `author` recorded.
    pub fn new(author: PublicKey, records: &BTreeMap<RecordKey, SignedRecord>) -> DeclaredIndex {
        let mut index = DeclaredIndex { author, by_node: BTreeMap::new(), node_of: BTreeMap::new() };
        for key in records.keys() {
            index.update(records, key);
        }
        index
    }

    /// Follows a change of the record of `key`.
    pub fn update(&mut self, records: &BTreeMap<RecordKey, SignedRecord>, key: &RecordKey) {
        if key.kind != Kind::MIRROR {
            return;
        }
        if let Some(node) = self.node_of.remove(key)
            && let Some(keys) = self.by_node.get_mut(&node)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(&node);
            }
        }
        let own = records.get(key).is_some_and(|r| r.record().author == self.author);
        let body = own.then(|| live_body::<MirrorBody>(records, key)).flatten();
        if let Some(node) = body.and_then(|b| b.node) {
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
            self.node_of.insert(key.clone(), node);
        }
    }

    /// Those of one node.
    pub fn of(&self, node: &str) -> impl Iterator<Item = &RecordKey> {
        self.by_node.get(node).into_iter().flatten()
    }
}
