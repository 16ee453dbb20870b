//! What is kept, what is refused, and what is told of it.

use super::Outcome::*;
use super::*;
use nearmost_replica::merge;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn store() -> (tempfile::TempDir, RedbStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_new_store_is_empty() {
    let (_dir, store) = store();
    let contents = store.contents().unwrap();
    assert_eq!((contents.version, contents.max_hlc, contents.records), (0, Hlc::default(), vec![]));
    assert_eq!(store.history(&HistoryFilter { limit: 10, ..Default::default() }), Ok(vec![]));
    assert_eq!(store.author_position(&Author::new(1).key.public()), Ok(AuthorPosition::default()));
    assert_eq!(store.batch(1), Ok(vec![]));
}

#[test]
fn reopening_keeps_everything() {
    let (dir, store) = store();
    let mut ada = Author::new(1);
    let (lon, nyc) = (ada.write("lon", 5, Some(b"a")), ada.write("nyc", 9, None));
    commit(&store, batch([lon.clone(), nyc.clone()])).unwrap();
    store.put_token(&[7; 32], &token(NOW + 1000)).unwrap();
    store.save_verdicts(&[("lon/4".into(), b"up".to_vec())]).unwrap();
    store.put_meta("soa", b"mark").unwrap();
    drop(store);

    let store = RedbStore::open(dir.path()).unwrap();
    let contents = store.contents().unwrap();
    assert_eq!(contents.records, [lon, nyc]);
    assert_eq!((contents.version, contents.max_hlc), (1, Hlc { millis: 9, counter: 0 }));
    assert_eq!(store.version(), Ok(1));
    assert_eq!(store.author_position(&ada.key.public()), Ok(AuthorPosition { epoch: 1, next_seq: 3 }));
    assert_eq!(store.check_token(&[7; 32], NOW), Ok(token(NOW + 1000)));
    assert_eq!(store.load_verdicts(), Ok(vec![("lon/4".into(), b"up".to_vec())]));
    assert_eq!(store.get_meta("soa"), Ok(Some(b"mark".to_vec())));
    assert_eq!(store.get_meta("other"), Ok(None));
    assert_eq!(store.history(&HistoryFilter { limit: 10, ..Default::default() }).unwrap().len(), 2);
}

#[test]
fn the_version_grows_once_a_batch_that_changes_something() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let old = ada.write("lon", 5, Some(b"a"));
    let new = ada.write("lon", 6, Some(b"b"));
    let first = commit(&store, batch([new.clone()])).unwrap();
    assert_eq!(
        first,
        Committed {
            version: 1,
            batch: 1,
            outcomes: vec![Applied],
            graves: vec![],
            buried: vec![],
            entries: 1
        }
    );
    assert!(first.changed());
    let again = commit(&store, batch([new.clone(), old])).unwrap();
    assert_eq!(
        again,
        Committed {
            version: 1,
            batch: 1,
            outcomes: vec![Duplicate, Superseded],
            graves: vec![],
            buried: vec![],
            entries: 0
        }
    );
    assert!(!again.changed());
    let both = commit(&store, batch([ada.write("lon", 7, None), ada.write("nyc", 7, Some(b"c"))])).unwrap();
    assert_eq!(
        both,
        Committed {
            version: 2,
            batch: 2,
            outcomes: vec![Applied, Applied],
            graves: vec![],
            buried: vec![],
            entries: 1
        }
    );
    assert_eq!(store.contents().unwrap().records.len(), 2, "one statement of an author a key");
}

#[test]
fn history_tells_who_what_and_what_was_before() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let (a, b, other) =
        (ada.write("lon", 5, Some(b"a")), ada.write("lon", 6, None), ada.write("nyc", 6, Some(b"n")));
    commit(&store, batch([a.clone()])).unwrap();
    let second =
        WriteBatch { actor: "np1bob".into(), note: "drain".into(), received_unix_ms: 77, ..batch([]) };
    commit(&store, WriteBatch { records: vec![b.clone(), other.clone()], ..second }).unwrap();

    let all = store.history(&HistoryFilter { limit: 10, ..Default::default() }).unwrap();
    assert_eq!(all.iter().map(|e| e.position).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((all[0].batch, all[0].version, all[2].batch, all[2].version), (2, 2, 1, 1));
    assert_eq!((&*all[1].actor, &*all[1].note, all[1].received_unix_ms), ("np1bob", "drain", 77));
    assert_eq!((&all[1].record, &all[1].previous), (&b, &Some(a.clone())));
    assert_eq!((&all[2].record, &all[2].previous), (&a, &None));

    let page = store.history(&HistoryFilter { limit: 1, before: Some(3), ..Default::default() }).unwrap();
    assert_eq!(page, all[1..2]);
    let of_nyc = HistoryFilter { id: Some("nyc".into()), limit: 10, ..Default::default() };
    assert_eq!(store.history(&of_nyc).unwrap(), all[..1]);
    let elsewhere = HistoryFilter { scope: Some("img.example".into()), limit: 10, ..Default::default() };
    assert_eq!(store.history(&elsewhere).unwrap(), []);
    let domains = HistoryFilter { kind: Some(Kind::DOMAIN), limit: 10, ..Default::default() };
    assert_eq!(store.history(&domains).unwrap(), []);
    let oldest_first: Vec<_> = all[..2].iter().rev().cloned().collect();
    assert_eq!(store.batch(2).unwrap(), oldest_first);
}

#[test]
fn a_batch_for_another_version_is_refused() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let expecting = |version, record| WriteBatch { expect_version: Some(version), ..batch([record]) };
    commit(&store, expecting(0, ada.write("lon", 5, Some(b"a")))).unwrap();
    let late = commit(&store, expecting(0, ada.write("lon", 6, None)));
    assert_eq!(late, Err(StoreError::VersionMismatch { expected: 0, found: 1 }));
    assert_eq!(store.version(), Ok(1));
}

#[test]
fn an_author_that_uses_a_number_twice_is_refused_whole_and_alone() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let first = ada.write("lon", 5, Some(b"a"));
    commit(&store, batch([first.clone()])).unwrap();
    let forked = ada.sign(1, "lon", 6, Some(b"b"));
    let error = StoreError::AuthorForked { author: ada.key.public(), epoch: 1, seq: 1 };
    let innocent = ada.write("nyc", 6, Some(b"c"));
    let other = Author::new(2).write("syd", 6, Some(b"d"));
    let answers = store.commit_group(&[batch([innocent, forked]), batch([other.clone()])]);
    assert_eq!(answers[0], Err(error.clone()));
    assert_eq!(answers[1].as_ref().unwrap().outcomes, [Applied]);
    assert_eq!(store.contents().unwrap().records, [first, other], "nothing of the refused batch is kept");

    let twice = [ada.sign(9, "a", 7, None), ada.sign(9, "b", 7, None)];
    let within = StoreError::AuthorForked { author: ada.key.public(), epoch: 1, seq: 9 };
    assert_eq!(commit(&store, batch(twice)), Err(within));
}

#[test]
fn a_token_is_good_once_and_says_why_it_is_not() {
    let (_dir, store) = store();
    let refused = |e| Err(StoreError::Token(e));
    assert_eq!(store.redeem_token(&[1; 32], NOW), refused(TokenError::Unknown));
    store.put_token(&[1; 32], &token(NOW)).unwrap();
    assert_eq!(store.redeem_token(&[1; 32], NOW), refused(TokenError::Expired { expired_unix_ms: NOW }));
    assert_eq!(store.check_token(&[1; 32], NOW - 1), Ok(token(NOW)));
    assert_eq!(store.redeem_token(&[1; 32], NOW - 1), Ok(token(NOW)));
    let used = TokenError::Used { used_unix_ms: NOW - 1 };
    assert_eq!(store.redeem_token(&[1; 32], NOW - 1), refused(used));
    assert_eq!(store.check_token(&[1; 32], NOW + 1), refused(used));
}

#[test]
fn a_token_is_spent_if_and_only_if_the_batch_is_kept() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    store.put_token(&[1; 32], &token(NOW + 10)).unwrap();
    let joining = |record| WriteBatch { redeem: Some([1; 32]), ..batch([record]) };
    let record = ada.write("lon", 5, Some(b"a"));
    let refused = commit(&store, WriteBatch { expect_version: Some(9), ..joining(record.clone()) });
    assert!(matches!(refused, Err(StoreError::VersionMismatch { .. })));
    assert_eq!(store.check_token(&[1; 32], NOW), Ok(token(NOW + 10)));

    let other = ada.write("nyc", 5, Some(b"b"));
    let answers = store.commit_group(&[joining(record.clone()), joining(other)]);
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(StoreError::Token(TokenError::Used { used_unix_ms: NOW })));
    assert_eq!(store.contents().unwrap().records, [record]);
}

#[test]
fn verdicts_are_replaced_as_a_whole() {
    let (_dir, store) = store();
    let verdict = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    store.save_verdicts(&[verdict("b", "up"), verdict("a", "up"), verdict("c", "up")]).unwrap();
    store.save_verdicts(&[verdict("c", "down"), verdict("a", "up"), verdict("d", "up")]).unwrap();
    assert_eq!(store.load_verdicts(), Ok(vec![verdict("a", "up"), verdict("c", "down"), verdict("d", "up")]));
    store.save_verdicts(&[]).unwrap();
    assert_eq!(store.load_verdicts(), Ok(vec![]));
}

#[test]
fn collection_forgets_what_is_past_its_life_only() {
    const LIFE: u64 = 30 * 24 * 3600 * 1000;
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let old = ada.write("old", NOW - LIFE, None);
    let young = ada.write("young", NOW - LIFE + 1, None);
    let alive = ada.write("alive", 5, Some(b"a"));
    commit(&store, batch([old.clone(), young.clone(), alive.clone()])).unwrap();
    store.put_token(&[1; 32], &token(NOW - LIFE)).unwrap();
    store.put_token(&[2; 32], &token(NOW - LIFE + 1)).unwrap();

    let collected = Collected { removed: vec![old], tombstones: 1, tokens: 1 };
    assert_eq!(store.collect(NOW, &HashSet::new()), Ok(collected));
    assert_eq!(store.collect(NOW, &HashSet::new()), Ok(Collected::default()));
    let contents = store.contents().unwrap();
    assert_eq!(contents.records, [alive, young]);
    assert_eq!(contents.version, 1);
    assert_eq!(store.check_token(&[1; 32], NOW), Err(StoreError::Token(TokenError::Unknown)));
    let expired = TokenError::Expired { expired_unix_ms: NOW - LIFE + 1 };
    assert_eq!(store.check_token(&[2; 32], NOW), Err(StoreError::Token(expired)));
}

/// Few keys, moments and authors, so that every outcome is common.
fn arbitrary_batches() -> impl Strategy<Value = Vec<Vec<SignedRecord>>> {
    let one = (1u8..4, 0usize..3, 0u64..4, prop::option::of(0u8..3));
    let batches = prop::collection::vec(prop::collection::vec(one, 0..5), 1..8);
    batches.prop_map(|batches| {
        let mut authors: BTreeMap<u8, Author> = (1..4).map(|seed| (seed, Author::new(seed))).collect();
        let mut sign = |(author, id, millis, body): (u8, usize, u64, Option<u8>)| {
            let body = body.map(|b| [b]);
            authors.get_mut(&author).unwrap().write(
                ["x", "y", "z"][id],
                millis,
                body.as_ref().map(|b| &b[..]),
            )
        };
        batches.into_iter().map(|batch| batch.into_iter().map(&mut sign).collect()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_state_is_the_fold_of_the_merge(
        batches in arbitrary_batches(), repeat in any::<prop::sample::Index>(), grouped in any::<bool>()
    ) {
        let (dir, store) = store();
        let mut batches = batches;
        batches.push(batches[repeat.index(batches.len())].clone());
        let (mut expected, mut version) = (BTreeMap::new(), 0);
        let mut outcomes = Vec::new();
        for records in &batches {
            let mut of_batch = Vec::new();
            for signed in records {
                let key = (signed.record().key(), signed.record().author);
                let outcome = Outcome::from(merge(expected.get(&key), signed));
                if outcome == Applied {
                    expected.insert(key, signed.clone());
                }
                of_batch.push(outcome);
            }
            version += u64::from(of_batch.contains(&Applied));
            outcomes.push(of_batch);
        }

        let writes: Vec<_> = batches.iter().cloned().map(batch).collect();
        let answers = if grouped {
            store.commit_group(&writes)
        } else {
            writes.into_iter().map(|write| commit(&store, write)).collect()
        };
        let told: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().outcomes).collect();
        prop_assert_eq!(told, outcomes);
        drop(store);
        let contents = RedbStore::open(dir.path()).unwrap().contents().unwrap();
        prop_assert_eq!(contents.version, version);
        prop_assert_eq!(contents.records, expected.into_values().collect::<Vec<_>>());
        let highest = batches.iter().flatten().map(|r| r.record().hlc).max().unwrap_or_default();
        prop_assert_eq!(contents.max_hlc, highest);
    }

    /// What peers deliver in whatever order, grouping and number ends in the same statements.
    #[test]
    fn deliveries_in_any_order_end_alike(
        batches in arbitrary_batches(),
        shuffled in any::<u64>(),
        size in 1usize..5,
    ) {
        let ((_one, ordered), (_two, other)) = (store(), store());
        for records in &batches {
            prop_assert!(commit(&ordered, relayed(records.clone(), 9)).is_ok());
        }
        let mut records: Vec<_> = batches.into_iter().flatten().collect();
        records.extend(records.clone());
        records.sort_by_cached_key(|record| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (shuffled, record.hash()).hash(&mut hasher);
            hasher.finish()
        });
        for chunk in records.chunks(size) {
            let told = commit(&other, relayed(chunk, 9)).unwrap();
            prop_assert!(!told.outcomes.iter().any(|o| matches!(o, Gone | Forked)));
        }
        prop_assert_eq!(ordered.contents().unwrap().records, other.contents().unwrap().records);
    }
}
