//! A broker's disk: what its store keeps and how it judges, in memory. A clone is a backup.

use nearmost_replica::merge::{self, MergeOutcome, merge};
use nearmost_replica::message::Answer;
use nearmost_replica::peer::PeerState;
use nearmost_replica::set::slot_of_record;
use nearmost_replica::{PublicKey, RecordKey, SignedRecord, digest::Slot};
use std::collections::{BTreeMap, HashMap};

/// How long what was collected is remembered, in milliseconds.
const GRAVE_MS: u64 = 90 * 24 * 3600 * 1000;

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What was applied.
    pub signed: SignedRecord,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Whether it was written here.
    pub local: bool,
}

/// What a broker keeps.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// One statement for each slot.
    pub statements: BTreeMap<Slot, SignedRecord>,
    /// Position p is at index p - 1.
    pub log: Vec<Logged>,
    /// Which log.
    pub log_epoch: u64,
    /// Of every author's number the hash of the record that has it.
    pub numbers: HashMap<(PublicKey, u32, u64), [u8; 32]>,
    /// Tombstones that were collected.
    pub graves: BTreeMap<RecordKey, SignedRecord>,
    /// Peers.
    pub peers: BTreeMap<PublicKey, PeerState>,
    /// The highest epoch of this broker's own key.
    pub epoch: u32,
    /// Of each author that forked the two records of the earliest fork that is known.
    pub forks: BTreeMap<PublicKey, (SignedRecord, SignedRecord)>,
}

/// What became of a record, and why it is gone.
pub type Outcome = (Answer, Option<SignedRecord>);

/// Statements that went.
pub type Removed = Vec<SignedRecord>;

impl Disk {
    /// An empty disk.
    pub fn new(log_epoch: u64) -> Disk {
        Disk { log_epoch, ..Disk::default() }
    }

    /// The last position.
    pub fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// Writes a record, as the store's transaction does.
    pub fn commit(
        &mut self,
        signed: &SignedRecord,
        at_unix_ms: u64,
        local: bool,
        removed: &mut Removed,
    ) -> Outcome {
        let record = signed.record();
        let number = (record.author, record.author_epoch, record.author_seq);
        if self.numbers.get(&number).is_some_and(|hash| *hash != signed.hash()) {
            return (Answer::Forked, None);
        }
        let slot = slot_of_record(record);
        let standing = self.statements.get(&slot);
        if !local && let Some(gone) = self.gone(signed, standing, at_unix_ms) {
            if gone.1.is_none() && merge::is_collectable(record, at_unix_ms) {
                removed.extend(self.bury(&BTreeMap::from([(record.key(), signed.clone())])));
            }
            return gone;
        }
        let outcome = merge(standing, signed);
        self.numbers.insert(number, signed.hash());
        let answer = match outcome {
            MergeOutcome::Applied => Answer::Applied,
            MergeOutcome::Duplicate => Answer::Duplicate,
            MergeOutcome::Superseded => Answer::Superseded,
        };
        if answer == Answer::Applied {
            self.statements.insert(slot, signed.clone());
            self.log.push(Logged { signed: signed.clone(), at_unix_ms, local });
        }
        (answer, None)
    }

    /// The record with another's number, and that one: proof that their author forked.
    pub fn evidence(&self, signed: &SignedRecord) -> Option<(SignedRecord, SignedRecord)> {
        let number = |s: &SignedRecord| (s.record().author, s.record().author_epoch, s.record().author_seq);
        let logged = self.log.iter().map(|logged| &logged.signed);
        let other = logged.rev().find(|other| number(other) == number(signed) && *other != signed)?;
        Some((other.clone(), signed.clone()))
    }

    /// Keeps the proof of a fork; whether it is an earlier one than is known.
    pub fn keep_fork(&mut self, a: &SignedRecord, b: &SignedRecord) -> bool {
        let number = |s: &SignedRecord| (s.record().author_epoch, s.record().author_seq);
        let author = a.record().author;
        let earlier = self.forks.get(&author).is_none_or(|known| number(a) < number(&known.0));
        if earlier {
            self.forks.insert(author, (a.clone(), b.clone()));
        }
        earlier
    }

    /// Drops a statement as if it had never come.
    pub fn drop_statement(&mut self, key: &RecordKey, author: PublicKey) {
        let slot = nearmost_replica::set::slot_of(key.kind, &key.scope, &key.id, &author);
        if let Some(signed) = self.statements.remove(&slot) {
            let record = signed.record();
            self.numbers.remove(&(record.author, record.author_epoch, record.author_seq));
        }
    }

    /// Forgets that a record was seen before, and the grave of what it is about.
    pub fn exhume(&mut self, signed: &SignedRecord, grave: bool) {
        let record = signed.record();
        if grave {
            self.graves.remove(&record.key());
        }
        self.numbers.remove(&(record.author, record.author_epoch, record.author_seq));
    }

    fn gone(&self, signed: &SignedRecord, standing: Option<&SignedRecord>, now: u64) -> Option<Outcome> {
        let key = signed.record().key();
        if let Some(grave) = self.graves.get(&key).filter(|grave| merge::is_buried(signed, grave)) {
            return Some((Answer::Gone, Some(grave.clone())));
        }
        // One that is past its life is no statement any more, but buries what it stands above.
        if merge::is_collectable(signed.record(), now) {
            return Some((Answer::Gone, None));
        }
        let record = signed.record();
        let number = (record.author, record.author_epoch, record.author_seq);
        let seen = self.numbers.contains_key(&number);
        (seen && standing.is_none()).then_some((Answer::Gone, None))
    }

    /// Forgets tombstones past their life, with what they stand above.
    pub fn collect(&mut self, now: u64) -> Vec<SignedRecord> {
        let mut buried: BTreeMap<RecordKey, SignedRecord> = BTreeMap::new();
        for signed in self.statements.values().filter(|s| merge::is_collectable(s.record(), now)) {
            let known = buried.entry(signed.record().key()).or_insert_with(|| signed.clone());
            if merge::order(signed, known).is_gt() {
                *known = signed.clone();
            }
        }
        let removed = self.bury(&buried);
        let life = u64::try_from(merge::TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
        self.graves.retain(|_, grave| grave.record().hlc.millis + life + GRAVE_MS > now);
        removed
    }

    /// Removes what tombstones stand above, and keeps them to show.
    fn bury(&mut self, buried: &BTreeMap<RecordKey, SignedRecord>) -> Removed {
        let mut removed = Vec::new();
        self.statements.retain(|_, signed| {
            let grave = buried.get(&signed.record().key());
            let gone = grave.is_some_and(|grave| merge::is_buried(signed, grave));
            if gone {
                removed.push(signed.clone());
            }
            !gone
        });
        for (key, grave) in buried.clone() {
            match self.graves.get(&key) {
                Some(known) if !merge::order(&grave, known).is_gt() => {}
                _ => drop(self.graves.insert(key, grave)),
            }
        }
        removed
    }

    /// Own writes after a position: position, slot, when.
    pub fn backlog(&self, acked: u64) -> Vec<(u64, Slot, u64)> {
        let after = usize::try_from(acked).unwrap_or(usize::MAX).min(self.log.len());
        (acked + 1..)
            .zip(&self.log[after..])
            .filter(|(_, logged)| logged.local)
            .map(|(position, logged)| (position, slot_of_record(logged.signed.record()), logged.at_unix_ms))
            .collect()
    }
}
