//! What the registrar holds: every statement, which of them are visible, and the registry made of those.

use super::index::DeclaredIndex;
use super::serial::serial;
use nearmost_replica::set::Changes;
use nearmost_replica::{MergeOutcome, PublicKey, RecordKey, SignedRecord, StatementSet, merge};
use nearmost_wire::authority::Rights;
use nearmost_wire::registry::{BuildDefaults, Built, Problem, build, entry_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All statements. The registrar alone changes them; whoever talks with peers looks things up in between.
#[derive(Clone)]
pub struct SharedSet(Arc<Mutex<StatementSet<Rights>>>);

impl SharedSet {
    /// Shares a set.
    pub fn new(set: StatementSet<Rights>) -> SharedSet {
        SharedSet(Arc::new(Mutex::new(set)))
    }

    /// The set, for as long as the guard is held: never across an await.
    pub fn lock(&self) -> MutexGuard<'_, StatementSet<Rights>> {
        // Every change of the set leaves it whole, so one that a panic cut short is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Statements, visible records and the registry of one moment.
pub struct Held {
    /// All statements.
    pub set: SharedSet,
    /// The visible record of every key, but for the kinds of applications.
    pub records: BTreeMap<RecordKey, SignedRecord>,
    /// Of those mirrors that agents declared here.
    pub declared: DeclaredIndex,
    /// The registry's version.
    pub version: u64,
    /// The registry.
    pub built: Built,
    /// When the first of its challenges ends, Unix milliseconds.
    pub next_end: Option<u64>,
    author: PublicKey,
    defaults: BuildDefaults,
}

impl Held {
    /// Of all statements of a store, for the broker with this key.
    pub fn new(
        set: StatementSet<Rights>,
        version: u64,
        author: PublicKey,
        defaults: BuildDefaults,
        now_unix_ms: u64,
    ) -> Held {
        let mut held = Held {
            set: SharedSet::new(set),
            records: BTreeMap::new(),
            declared: DeclaredIndex::new(author, &BTreeMap::new()),
            version,
            built: Built::default(),
            next_end: None,
            author,
            defaults,
        };
        held.look_again(&Changes { all: true, ..Changes::default() }, now_unix_ms);
        held.rebuild(now_unix_ms);
        held
    }

    /// Brings the visible records in line after a change of the statements. Returns whether a record changed
    /// that the registry is made of.
    pub fn look_again(&mut self, changes: &Changes, now_unix_ms: u64) -> bool {
        let set = self.set.lock();
        if changes.all {
            let plain = |(key, _): &(&RecordKey, &SignedRecord)| !key.kind.is_application();
            let visible = set.all_visible(now_unix_ms).filter(plain);
            let visible: BTreeMap<_, _> =
                visible.map(|(key, signed)| (key.clone(), signed.clone())).collect();
            drop(set);
            let changed = visible != self.records;
            self.records = visible;
            self.declared = DeclaredIndex::new(self.author, &self.records);
            return changed;
        }
        let mut changed = false;
        for key in changes.keys.iter().filter(|key| !key.kind.is_application()) {
            match set.visible(key, now_unix_ms) {
                Some(signed) if self.records.get(key) == Some(signed) => continue,
                Some(signed) => drop(self.records.insert(key.clone(), signed.clone())),
                None if self.records.remove(key).is_none() => continue,
                None => {}
            }
            changed = true;
            self.declared.update(&self.records, key);
        }
        changed
    }

    /// Makes the registry anew from the visible records.
    pub fn rebuild(&mut self, now_unix_ms: u64) {
        self.built = self.build(self.version, &self.records);
        let records = || self.records.values().map(SignedRecord::record);
        self.next_end = self.built.add_challenges(records(), now_unix_ms);
        self.built.registry.serial = serial(records());
    }

    /// Whether the registry has a challenge that has ended.
    pub fn has_ended(&self, now_unix_ms: u64) -> bool {
        self.next_end.is_some_and(|end| end <= now_unix_ms)
    }

    fn build(&self, version: u64, records: &BTreeMap<RecordKey, SignedRecord>) -> Built {
        build(version, records.values().filter_map(|r| entry_of(r.record())), &self.defaults)
    }

    /// The problems that the registry would have after these records and has not now.
    pub fn new_problems(&self, records: &[SignedRecord]) -> Vec<Problem> {
        let plain: Vec<&SignedRecord> =
            records.iter().filter(|r| entry_of_kind(r) && !r.record().kind.is_application()).collect();
        if plain.is_empty() {
            return Vec::new();
        }
        let mut merged = self.records.clone();
        for signed in plain {
            let key = signed.record().key();
            if merge(merged.get(&key), signed) == MergeOutcome::Applied {
                merged.insert(key, signed.clone());
            }
        }
        let built = self.build(self.version + 1, &merged);
        let known: BTreeSet<&Problem> = self.built.problems.iter().collect();
        built.problems.iter().filter(|p| !known.contains(p)).cloned().collect()
    }
}

/// Whether the registry is made of records of this kind, or was.
fn entry_of_kind(signed: &SignedRecord) -> bool {
    use nearmost_replica::Kind;
    let kinds = [
        Kind::DOMAIN,
        Kind::NODE,
        Kind::MIRROR,
        Kind::FORCE,
        Kind::PERSON,
        Kind::OVERRIDE,
        Kind::DRAIN,
        Kind::ZONE_KEY,
    ];
    kinds.contains(&signed.record().kind)
}
