//! The statements that decide, sorted by what they are about.

use crate::identity::{Id, Role};
use nearmost_replica::merge::order;
use nearmost_replica::{Kind, PublicKey, Record, SignedRecord};
use std::cmp::Ordering;
use std::collections::HashMap;

/// The kinds whose statements decide about others.
pub(super) const DECIDING: [Kind; 6] =
    [Kind::PEER, Kind::PERSON, Kind::CLAIM, Kind::ROLL, Kind::GRANT, Kind::BAN];

/// From which number on the statements of authors count no longer, as they stated two things under it.
#[derive(Clone, Debug, Default)]
pub(super) struct Forks(HashMap<PublicKey, (u32, u64)>);

impl Forks {
    pub(super) fn new(forked: &[(PublicKey, (u32, u64))]) -> Forks {
        let mut first: HashMap<PublicKey, (u32, u64)> = HashMap::new();
        for (author, number) in forked {
            first.entry(*author).and_modify(|n| *n = (*n).min(*number)).or_insert(*number);
        }
        Forks(first)
    }

    /// Whether a statement counts no longer.
    pub(super) fn covers(&self, record: &Record) -> bool {
        self.0.get(&record.author).is_some_and(|first| (record.author_epoch, record.author_seq) >= *first)
    }
}

/// Statements about keys, by their authors.
pub(super) type AboutKeys<'a> = HashMap<PublicKey, Vec<(PublicKey, &'a SignedRecord)>>;
/// Statements in domains, by the domain.
pub(super) type InDomains<'a> = HashMap<&'a str, Vec<&'a SignedRecord>>;

/// One statement of each author about each thing.
#[derive(Debug, Default)]
pub(super) struct Statements<'a> {
    pub(super) peers: AboutKeys<'a>,
    pub(super) persons: AboutKeys<'a>,
    pub(super) claims: InDomains<'a>,
    pub(super) rolls: InDomains<'a>,
    pub(super) grants: InDomains<'a>,
    pub(super) bans: Vec<&'a SignedRecord>,
}

impl<'a> Statements<'a> {
    /// Sorts them; what counts no longer, and what is about nothing that could be, is left out.
    pub(super) fn new(deciding: &'a [SignedRecord], forks: &Forks) -> Statements<'a> {
        let mut all = Statements::default();
        for signed in of_each_author(deciding, forks) {
            all.sort(signed);
        }
        all
    }

    fn sort(&mut self, signed: &'a SignedRecord) {
        let record = signed.record();
        let federal = record.scope.is_empty();
        match record.kind {
            Kind::PEER if federal => about(&mut self.peers, Role::Broker, signed),
            Kind::PERSON if federal => about(&mut self.persons, Role::Person, signed),
            Kind::CLAIM if !federal && record.id.is_empty() => push(&mut self.claims, signed),
            Kind::ROLL if !federal => push(&mut self.rolls, signed),
            Kind::GRANT if !federal => push(&mut self.grants, signed),
            Kind::BAN => self.bans.push(signed),
            _ => {}
        }
    }
}

fn about<'a>(all: &mut AboutKeys<'a>, role: Role, signed: &'a SignedRecord) {
    let record = signed.record();
    if let Some(key) = key_of(&record.id, &[role]) {
        all.entry(record.author).or_default().push((key, signed));
    }
}

fn push<'a>(all: &mut InDomains<'a>, signed: &'a SignedRecord) {
    all.entry(&signed.record().scope).or_default().push(signed);
}

/// The greatest statement of each author about each thing; a store holds no other.
fn of_each_author<'a>(
    deciding: &'a [SignedRecord],
    forks: &Forks,
) -> impl Iterator<Item = &'a SignedRecord> + use<'a> {
    let mut latest: HashMap<(Kind, &str, &str, PublicKey), &SignedRecord> = HashMap::new();
    for signed in deciding.iter().filter(|s| !forks.covers(s.record())) {
        let Record { kind, scope, id, author, .. } = signed.record();
        keep_greatest(&mut latest, (*kind, scope, id, *author), signed);
    }
    latest.into_values()
}

/// Keeps the greater of what is there and `signed`.
pub(super) fn keep_greatest<'a, K: Eq + std::hash::Hash>(
    all: &mut HashMap<K, &'a SignedRecord>,
    key: K,
    signed: &'a SignedRecord,
) {
    let kept = all.entry(key).or_insert(signed);
    if order(signed, kept) == Ordering::Greater {
        *kept = signed;
    }
}

/// The key of an id in its canonical text and of one of these roles: each thing has one name.
pub(super) fn key_of(text: &str, roles: &[Role]) -> Option<PublicKey> {
    let id: Id = text.parse().ok()?;
    (roles.contains(&id.role) && id.to_string() == text).then_some(PublicKey(id.key))
}
