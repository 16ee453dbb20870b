//! Tests of [`super`]: what is visible, and the digests, follow from the set alone.

use super::*;
use crate::key::SigningKey;
use crate::record::Body;
use proptest::prelude::*;

const KEYS: usize = 4;
const NOW_MS: u64 = 5;

fn key(n: usize) -> SigningKey {
    SigningKey::from_seed(&[n as u8; 32])
}

/// Grants name an author by number and hold from a moment on; they are the first author's. Whoever holds one
/// may state everything, below the number under which it forked.
#[derive(Default)]
struct Granted {
    from: BTreeMap<PublicKey, u64>,
    forked: BTreeMap<PublicKey, (u32, u64)>,
}

impl Authority for Granted {
    fn decides(&self, kind: Kind) -> bool {
        kind == Kind::GRANT
    }

    fn learn(&mut self, deciding: &[SignedRecord], forked: &[(PublicKey, (u32, u64))]) {
        self.forked = forked.iter().copied().collect();
        let counts = |s: &&SignedRecord| self.admits(s.record()).is_admitted();
        let granted = deciding.iter().filter(counts).filter_map(|s| match &s.record().body {
            Body::Live { bytes, .. } => {
                Some((key(s.record().id.parse().ok()?).public(), u64::from(bytes[0])))
            }
            Body::Tombstone => None,
        });
        self.from = granted.collect();
    }

    fn admits(&self, record: &Record) -> Judgement {
        let number = (record.author_epoch, record.author_seq);
        if self.forked.get(&record.author).is_some_and(|first| number >= *first) {
            return Judgement::Unauthorised("forked");
        }
        let root = record.author == key(0).public();
        let may = root || (record.kind != Kind::GRANT && self.from.contains_key(&record.author));
        if may { Judgement::Admitted } else { Judgement::MissingGrant }
    }

    fn banned(&self, _: &PublicKey, scope: &str, _: u64) -> Option<u64> {
        (scope == "banned").then_some(99)
    }

    fn in_force(&self, record: &Record, now_unix_ms: u64) -> bool {
        self.from.get(&record.author).is_none_or(|from| *from <= now_unix_ms)
    }

    fn next_change(&self, now_unix_ms: u64) -> Option<u64> {
        self.from.values().copied().filter(|at| *at > now_unix_ms).min()
    }
}

/// A statement of one author: about one of a few things, at a moment, live with a byte or not.
#[derive(Clone, Copy, Debug)]
struct Said {
    by: usize,
    kind: Kind,
    about: usize,
    at: u64,
    byte: Option<u8>,
}

fn sign(said: Said, seq: u64) -> SignedRecord {
    let Said { by, kind, about, at, byte } = said;
    let body = byte.map_or(Body::Tombstone, |b| Body::Live { version: 1, bytes: vec![b] });
    let record = Record {
        kind,
        scope: "play.example".into(),
        id: about.to_string(),
        body,
        hlc: Hlc { millis: at, counter: 0 },
        author: key(by).public(),
        author_epoch: 1,
        author_seq: seq,
        grants: vec![],
    };
    SignedRecord::sign(record, &key(by)).unwrap()
}

fn said() -> impl Strategy<Value = Said> {
    let kinds = prop::sample::select(vec![Kind::GRANT, Kind::MIRROR, Kind::DRAIN, Kind(0x3001)]);
    (0..KEYS, kinds, 0..KEYS, 0..9u64, prop::option::weighted(0.7, 0..9u8))
        .prop_map(|(by, kind, about, at, byte)| Said { by, kind, about, at, byte })
}

fn empty() -> StatementSet<Granted> {
    StatementSet::new(Granted::default(), [], [], Duration::from_secs(300))
}

type Shown = (Digest, Digest, Vec<SignedRecord>);
type Digest = crate::digest::Hash;

fn shown(set: &StatementSet<Granted>) -> Shown {
    let visible = set.all_visible(NOW_MS).map(|(_, s)| s.clone()).collect();
    (set.tree(Tree::Rights).root(), set.tree(Tree::Rest).root(), visible)
}

/// What is visible, by the words of the module's documentation.
fn naive(set: &StatementSet<Granted>, statements: &[SignedRecord]) -> Vec<SignedRecord> {
    let mut own: BTreeMap<(RecordKey, PublicKey), &SignedRecord> = BTreeMap::new();
    for signed in statements {
        let greatest = own.entry((signed.record().key(), signed.record().author)).or_insert(signed);
        if merge::order(signed, greatest).is_gt() {
            *greatest = signed;
        }
    }
    let mut visible: BTreeMap<RecordKey, &SignedRecord> = BTreeMap::new();
    for ((key, _), signed) in own {
        let authority = set.authority();
        if authority.admits(signed.record()).is_admitted() && authority.in_force(signed.record(), NOW_MS) {
            let greatest = visible.entry(key).or_insert(signed);
            if merge::order(signed, greatest).is_gt() {
                *greatest = signed;
            }
        }
    }
    visible.into_values().cloned().collect()
}

#[derive(Clone, Debug)]
enum Op {
    Apply(Vec<SignedRecord>),
    Fork(usize, u64),
    /// Comes and goes again.
    Passing(SignedRecord),
}

fn run(ops: &[Op]) -> StatementSet<Granted> {
    let mut set = empty();
    for op in ops {
        match op {
            Op::Apply(records) => drop(set.apply(records)),
            Op::Fork(by, seq) => drop(set.fork(key(*by).public(), (1, *seq))),
            Op::Passing(signed) => {
                set.apply([signed]);
                set.remove([(&signed.record().key(), signed.record().author)]);
            }
        }
    }
    set
}

/// Statements, forks and what passes, in an order and batches of their own, twice.
fn orders() -> impl Strategy<Value = (Vec<SignedRecord>, Vec<Op>, Vec<Op>)> {
    let forks = prop::collection::vec((1..KEYS, 0..30u64), 0..3);
    let passing = prop::collection::vec(said(), 0..3);
    (prop::collection::vec(said(), 0..30), forks, passing).prop_flat_map(|(said, forks, passing)| {
        let all: Vec<SignedRecord> = (0u64..).zip(said).map(|(seq, said)| sign(said, seq)).collect();
        let mut ops: Vec<Op> = all.iter().map(|s| Op::Apply(vec![s.clone()])).collect();
        ops.extend(forks.into_iter().map(|(by, seq)| Op::Fork(by, seq)));
        // About things of their own.
        let passing = passing.into_iter().map(|s| Said { about: s.about + KEYS, ..s });
        ops.extend(passing.map(|s| Op::Passing(sign(s, 1000))));
        let shuffled = || Just(ops.clone()).prop_shuffle();
        (Just(all), shuffled(), shuffled())
    })
}

proptest! {
    #[test]
    fn any_order_of_statements_removals_and_rights_ends_alike((all, a, b) in orders(), batch in 1..9usize) {
        let (one, mut other) = (run(&a), run(&b));
        prop_assert_eq!(shown(&one), shown(&other));
        prop_assert_eq!(shown(&one).2, naive(&one, &all));
        // All at once, as from a disk; and again, which changes nothing.
        let forked: Vec<_> = one.forked.clone().into_iter().collect();
        let fresh = StatementSet::new(Granted::default(), all.clone(), forked, Duration::ZERO);
        prop_assert_eq!(shown(&one), shown(&fresh));
        all.chunks(batch).for_each(|records| assert_eq!(other.apply(records), Changes::default()));
        prop_assert_eq!(shown(&one), shown(&other));
    }

    #[test]
    fn trees_hold_what_is_admitted_and_nothing_else((all, a, _) in orders()) {
        let set = run(&a);
        for signed in set.statements() {
            let slot = slot_of_record(signed.record());
            let admitted = set.authority().admits(signed.record()).is_admitted();
            let tree = if signed.record().kind == Kind::GRANT { Tree::Rights } else { Tree::Rest };
            prop_assert_eq!(set.tree(tree).get(slot), admitted.then(|| version_of(signed)));
            prop_assert_eq!(set.get(slot).is_some(), admitted);
        }
        let hidden = set.hidden().count();
        prop_assert_eq!(set.tree(Tree::Rights).len() + set.tree(Tree::Rest).len() + hidden, set.len());
        prop_assert!(set.len() <= all.len());
    }

    #[test]
    fn whatever_changed_visibly_is_named((all, ops, _) in orders()) {
        let mut set = empty();
        for op in ops {
            let before = shown(&set).2;
            let changes = match op {
                Op::Apply(records) => set.apply(&records),
                Op::Fork(by, seq) => set.fork(key(by).public(), (1, seq)),
                Op::Passing(_) => continue,
            };
            let after = shown(&set).2;
            let differ = before.iter().filter(|s| !after.contains(s)).chain(after.iter().filter(|s| !before.contains(s)));
            for signed in differ {
                prop_assert!(changes.all || changes.keys.contains(&signed.record().key()));
            }
        }
        prop_assert!(set.len() <= all.len());
    }
}

fn grant(to: usize, at: u64, from: u8) -> Said {
    Said { by: 0, kind: Kind::GRANT, about: to, at, byte: Some(from) }
}

fn mirror(by: usize, at: u64, byte: u8) -> Said {
    Said { by, kind: Kind::MIRROR, about: 0, at, byte: Some(byte) }
}

#[test]
fn what_was_overwritten_is_there_again_when_the_right_ends() {
    let mut set = empty();
    let (owned, over) = (sign(mirror(0, 1, 1), 1), sign(mirror(1, 2, 2), 1));
    let about = owned.record().key();
    set.apply([&owned, &over]);
    assert_eq!(set.visible(&about, NOW_MS), Some(&owned), "who overwrites holds no grant");
    assert!(set.apply([&sign(grant(1, 1, 0), 2)]).all);
    assert_eq!(set.visible(&about, NOW_MS), Some(&over));
    set.apply([&sign(Said { byte: None, ..grant(1, 3, 0) }, 3)]);
    assert_eq!(set.visible(&about, NOW_MS), Some(&owned));
}

#[test]
fn a_right_that_begins_later_is_offered_and_hidden() {
    let mut set = empty();
    let early = sign(mirror(1, 2, 2), 1);
    set.apply([&sign(grant(1, 1, 9), 1), &early]);
    let slot = slot_of_record(early.record());
    assert_eq!((set.get(slot), set.next_change(NOW_MS)), (Some(&early), Some(9)));
    assert_eq!(set.visible(&early.record().key(), 8), None);
    assert_eq!(set.visible(&early.record().key(), 9), Some(&early));
}

#[test]
fn each_reason_for_not_taking_a_statement_has_its_answer() {
    let mut set = empty();
    let held = sign(mirror(0, 4, 4), 1);
    set.apply([&held]);
    set.fork(key(2).public(), (1, 3));
    let judge = |signed: &SignedRecord, now| set.judge(signed, now);
    assert_eq!(judge(&sign(mirror(0, 5, 1), 2), 5), Ok(()));
    assert_eq!(judge(&held, 5), Err(Answer::Duplicate));
    assert_eq!(judge(&sign(mirror(0, 3, 4), 2), 5), Err(Answer::Superseded));
    assert_eq!(set.judge_right(&sign(mirror(0, 3, 4), 2), 5), Ok(()), "it counts all the same");
    assert_eq!(judge(&sign(mirror(1, 5, 1), 1), 5), Err(Answer::MissingGrant));
    assert_eq!(judge(&sign(mirror(2, 5, 1), 3), 5), Err(Answer::Unauthorised { why: "forked".into() }));
    assert_eq!(judge(&sign(mirror(0, 300_006, 1), 2), 5), Err(Answer::TooNew { ahead_ms: 300_001 }));
    assert_eq!(judge(&sign(mirror(0, 300_005, 1), 2), 5), Ok(()));
    let mut record = sign(mirror(0, 5, 1), 2).record().clone();
    record.scope = "banned".into();
    let banned = SignedRecord::sign(record, &key(0)).unwrap();
    assert_eq!(judge(&banned, 5), Err(Answer::Banned { until_unix_ms: 99 }));
}

#[test]
fn of_several_forks_the_earliest_counts() {
    let mut set = empty();
    let said: Vec<_> = (0..4).map(|seq| sign(Said { about: seq as usize, ..mirror(0, 1, 1) }, seq)).collect();
    set.apply(&said);
    assert!(set.fork(key(0).public(), (1, 2)).all);
    assert_eq!(set.fork(key(0).public(), (1, 3)), Changes::default());
    assert_eq!(set.hidden().count(), 2);
    assert!(set.fork(key(0).public(), (1, 1)).all);
    assert_eq!((set.hidden().count(), set.len(), set.tree(Tree::Rest).len()), (3, 4, 1));
}
