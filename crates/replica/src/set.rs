//! The statements a store holds, which of them is visible, and their digests.
//!
//! Of each key (kind, scope, id) every author has at most one statement here, the greatest by
//! [`crate::merge::order`]. Which of a key's statements is visible is not stored but follows: the greatest of
//! those that are admitted and in force. So when somebody's right ends, what they had overwritten is there
//! again, whatever order things came in.
//!
//! ```text
//!  key ──▶ statement of author a   admitted, in force  ──▶ visible, if greatest
//!      ├─▶ statement of author b   admitted, its grant not in force: offered to peers, hidden
//!      ├─▶ statement of author c   not admitted: kept, neither offered nor shown
//!      └─▶ statement of author d   admitted here and nowhere else: shown, and not offered
//! ```
//!
//! Two digest trees cover what is offered: one of the kinds that decide about others, which stores bring in
//! line first, and one of the rest.

use crate::authority::{Authority, Judgement};
use crate::digest::{DigestTree, Prefix, Slot, Version, half, hash_of};
use crate::hlc::Hlc;
use crate::key::PublicKey;
use crate::merge::{self, MergeOutcome, merge};
use crate::message::Answer;
use crate::record::{Kind, Record, RecordKey};
use crate::signed::SignedRecord;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Which of the two digest trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Tree {
    /// Of the statements that decide who may state what.
    Rights,
    /// Of all others.
    Rest,
}

/// Where a statement of this author about this stands in a digest tree.
pub fn slot_of(kind: Kind, scope: &str, id: &str, author: &PublicKey) -> Slot {
    let pieces = [&kind.0.to_be_bytes()[..], scope.as_bytes(), id.as_bytes(), &author.0];
    Slot(hash_of(b"nearmost slot v1\0", &pieces))
}

/// Where this statement stands.
pub fn slot_of_record(record: &Record) -> Slot {
    slot_of(record.kind, &record.scope, &record.id, &record.author)
}

fn version_of(signed: &SignedRecord) -> Version {
    half(&signed.hash())
}

struct Held {
    signed: SignedRecord,
    admitted: bool,
    shared: bool,
}

/// What followed from applying statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys of which another statement may be visible now, where not all are.
    pub keys: BTreeSet<RecordKey>,
    /// Rights changed: anything may be visible now.
    pub all: bool,
}

/// All statements of a store.
pub struct StatementSet<A> {
    authority: A,
    by_slot: HashMap<Slot, Held>,
    by_key: BTreeMap<RecordKey, Vec<Slot>>,
    forked: BTreeMap<PublicKey, (u32, u64)>,
    /// How many statements each author has here.
    authors: HashMap<PublicKey, usize>,
    rights: DigestTree,
    rest: DigestTree,
    max_ahead: Duration,
}

impl<A: Authority> StatementSet<A> {
    /// The set of what a store held, and whom it knows to have forked. Statements more than `max_ahead`
    /// after our clock will be refused.
    pub fn new(
        authority: A,
        statements: impl IntoIterator<Item = SignedRecord>,
        forked: impl IntoIterator<Item = (PublicKey, (u32, u64))>,
        max_ahead: Duration,
    ) -> Self {
        let mut set = StatementSet {
            authority,
            by_slot: HashMap::new(),
            by_key: BTreeMap::new(),
            forked: forked.into_iter().collect(),
            authors: HashMap::new(),
            rights: DigestTree::default(),
            rest: DigestTree::default(),
            max_ahead,
        };
        for signed in statements {
            set.put(signed);
        }
        set.relearn();
        set
    }

    /// Who may state what.
    pub fn authority(&self) -> &A {
        &self.authority
    }

    /// Authors that are proven to have forked.
    pub fn forked(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.forked.keys().copied()
    }

    /// Whether an author has a statement here.
    pub fn has_author(&self, author: &PublicKey) -> bool {
        self.authors.contains_key(author)
    }

    /// How many statements, hidden ones too.
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// A digest tree. Its hashes are made.
    pub fn tree(&self, tree: Tree) -> &DigestTree {
        match tree {
            Tree::Rights => &self.rights,
            Tree::Rest => &self.rest,
        }
    }

    /// A statement that others admit too.
    pub fn get(&self, slot: Slot) -> Option<&SignedRecord> {
        self.by_slot.get(&slot).filter(|held| held.shared).map(|held| &held.signed)
    }

    /// A statement that counts here.
    pub fn admitted(&self, slot: Slot) -> Option<&SignedRecord> {
        self.by_slot.get(&slot).filter(|held| held.admitted).map(|held| &held.signed)
    }

    /// A statement that is held, counts no longer, and stands where this one would: it is to be dropped first.
    pub fn displaced(&self, signed: &SignedRecord) -> Option<(RecordKey, PublicKey)> {
        let record = signed.record();
        let held = self.by_slot.get(&slot_of_record(record)).filter(|held| !held.admitted)?;
        let stands = merge(Some(&held.signed), signed) == MergeOutcome::Superseded;
        stands.then(|| (record.key(), record.author))
    }

    /// Every statement, in no order.
    pub fn statements(&self) -> impl Iterator<Item = &SignedRecord> {
        self.by_slot.values().map(|held| &held.signed)
    }

    /// Statements that are not admitted.
    pub fn hidden(&self) -> impl Iterator<Item = (RecordKey, PublicKey)> + '_ {
        let hidden = self.by_slot.values().filter(|held| !held.admitted);
        hidden.map(|held| (held.signed.record().key(), held.signed.record().author))
    }

    /// Up to `most` statements of a part of a tree, from the slot `from` on.
    pub fn range(&self, tree: Tree, part: Prefix, from: Slot, most: usize) -> Vec<Slot> {
        self.tree(tree).range(part, from, most).into_iter().map(|item| item.0).collect()
    }

    /// Whether a statement from elsewhere is to be stored; its signature was checked.
    ///
    /// # Errors
    /// The answer for whoever sent it.
    pub fn judge(&self, signed: &SignedRecord, now_unix_ms: u64) -> Result<(), Answer> {
        self.judge_right(signed, now_unix_ms)?;
        // What is held and does not count is no reason to refuse what does.
        match merge(self.admitted(slot_of_record(signed.record())), signed) {
            MergeOutcome::Applied => Ok(()),
            MergeOutcome::Duplicate => Err(Answer::Duplicate),
            MergeOutcome::Superseded => Err(Answer::Superseded),
        }
    }

    /// Whether a statement from elsewhere counts, whatever its author has said since; its signature was
    /// checked.
    ///
    /// # Errors
    /// The answer for whoever sent it.
    pub fn judge_right(&self, signed: &SignedRecord, now_unix_ms: u64) -> Result<(), Answer> {
        let record = signed.record();
        let max_ahead_ms = u64::try_from(self.max_ahead.as_millis()).unwrap_or(u64::MAX);
        let ahead_ms = record.hlc.millis.saturating_sub(now_unix_ms);
        if ahead_ms > max_ahead_ms {
            return Err(Answer::TooNew { ahead_ms });
        }
        if let Some(until) = self.authority.banned(&record.author, &record.scope, now_unix_ms) {
            return Err(Answer::Banned { until_unix_ms: until });
        }
        match self.authority.admits(record) {
            Judgement::Admitted => Ok(()),
            Judgement::MissingGrant => Err(Answer::MissingGrant),
            Judgement::Unauthorised(why) => Err(Answer::Unauthorised { why: why.to_owned() }),
        }
    }

    /// Takes in what the store has applied. What is not greater than what stands changes nothing.
    pub fn apply<'a>(&mut self, applied: impl IntoIterator<Item = &'a SignedRecord>) -> Changes {
        let mut changes = Changes::default();
        for signed in applied {
            if !self.put(signed.clone()) {
                continue;
            }
            let record = signed.record();
            changes.all |= self.authority.decides(record.kind);
            changes.keys.insert(record.key());
            self.admit(slot_of_record(record));
        }
        self.settle(changes)
    }

    /// Forgets statements that the store has forgotten.
    pub fn remove<'a>(&mut self, gone: impl IntoIterator<Item = (&'a RecordKey, PublicKey)>) -> Changes {
        let mut changes = Changes::default();
        for (key, author) in gone {
            let slot = slot_of(key.kind, &key.scope, &key.id, &author);
            if self.by_slot.remove(&slot).is_none() {
                continue;
            }
            if let Some(count) = self.authors.get_mut(&author) {
                *count -= 1;
                if *count == 0 {
                    self.authors.remove(&author);
                }
            }
            if let Some(slots) = self.by_key.get_mut(key) {
                slots.retain(|s| *s != slot);
                if slots.is_empty() {
                    self.by_key.remove(key);
                }
            }
            let decides = self.authority.decides(key.kind);
            self.tree_of(decides).remove(slot);
            changes.all |= decides;
            changes.keys.insert(key.clone());
        }
        self.settle(changes)
    }

    /// An author is proven to have stated two things under this number.
    pub fn fork(&mut self, author: PublicKey, number: (u32, u64)) -> Changes {
        let known = self.forked.get(&author);
        if known.is_some_and(|known| *known <= number) {
            return Changes::default();
        }
        self.forked.insert(author, number);
        self.relearn();
        Changes { keys: BTreeSet::new(), all: true }
    }

    /// The visible statement of a key.
    pub fn visible(&self, key: &RecordKey, now_unix_ms: u64) -> Option<&SignedRecord> {
        self.greatest(self.by_key.get(key)?, now_unix_ms)
    }

    /// The visible statement of every key that has one, sorted by key.
    pub fn all_visible(&self, now_unix_ms: u64) -> impl Iterator<Item = (&RecordKey, &SignedRecord)> {
        let visible = move |(key, slots)| Some((key, self.greatest(slots, now_unix_ms)?));
        self.by_key.iter().filter_map(move |(key, slots): (&RecordKey, &Vec<Slot>)| visible((key, slots)))
    }

    /// When something may become visible, or stop to be, by the passing of time alone.
    pub fn next_change(&self, now_unix_ms: u64) -> Option<u64> {
        self.authority.next_change(now_unix_ms)
    }

    /// The greatest clock of any statement.
    pub fn max_hlc(&self) -> Hlc {
        self.statements().map(|s| s.record().hlc).max().unwrap_or_default()
    }

    fn greatest(&self, slots: &[Slot], now_unix_ms: u64) -> Option<&SignedRecord> {
        let held = slots.iter().filter_map(|slot| self.admitted(*slot));
        let counting = held.filter(|s| self.authority.in_force(s.record(), now_unix_ms));
        counting.max_by(|a, b| merge::order(a, b))
    }

    /// Holds a statement if it is greater than what stands. It is not admitted yet.
    fn put(&mut self, signed: SignedRecord) -> bool {
        let record = signed.record();
        let slot = slot_of_record(record);
        let standing = self.by_slot.get(&slot).map(|held| &held.signed);
        if merge(standing, &signed) != MergeOutcome::Applied {
            return false;
        }
        if standing.is_none() {
            *self.authors.entry(record.author).or_default() += 1;
            self.by_key.entry(record.key()).or_default().push(slot);
        }
        self.by_slot.insert(slot, Held { signed, admitted: false, shared: false });
        true
    }

    fn tree_of(&mut self, decides: bool) -> &mut DigestTree {
        if decides { &mut self.rights } else { &mut self.rest }
    }

    /// Judges a statement that is held, and has the digest say so.
    fn admit(&mut self, slot: Slot) {
        let Some(held) = self.by_slot.get_mut(&slot) else { return };
        let record = held.signed.record();
        held.admitted = self.authority.admits(record).is_admitted();
        held.shared = held.admitted && self.authority.is_shared(record);
        let (shared, version) = (held.shared, version_of(&held.signed));
        let decides = self.authority.decides(record.kind);
        let tree = self.tree_of(decides);
        match shared {
            true => tree.insert(slot, version),
            false => tree.remove(slot),
        }
    }

    fn settle(&mut self, changes: Changes) -> Changes {
        match changes.all {
            true => self.relearn(),
            false => {
                self.rights.refresh();
                self.rest.refresh();
            }
        }
        changes
    }

    /// Forms the opinion of who may state what anew, and judges everything by it.
    fn relearn(&mut self) {
        let decides = |held: &&Held| self.authority.decides(held.signed.record().kind);
        let deciding: Vec<SignedRecord> =
            self.by_slot.values().filter(decides).map(|held| held.signed.clone()).collect();
        let forked: Vec<_> = self.forked.iter().map(|(author, number)| (*author, *number)).collect();
        self.authority.learn(&deciding, &forked);
        let slots: Vec<Slot> = self.by_slot.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.admit(slot));
        self.rights.refresh();
        self.rest.refresh();
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
