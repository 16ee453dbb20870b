//! Files of older programs.

use super::super::files::builder;
use super::super::schema::{RECORDS_1, SEQUENCES_1, known_to};
use super::super::tables;
use super::*;
use redb::ReadableDatabase;
use std::path::Path;

/// Writes a file as a program of schema 1 did: `ada` wrote lon twice, `bob` over it, and one record that
/// was superseded when it came.
fn write_schema_1(path: &Path, ada: &mut Author, bob: &mut Author) -> [SignedRecord; 4] {
    let (first, second) = (ada.write("lon", 5, Some(b"a")), ada.write("lon", 6, Some(b"b")));
    let (third, late) = (bob.write("lon", 7, None), ada.write("lon", 4, Some(b"late")));
    let db = builder().create(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut records = txn.open_table(RECORDS_1).unwrap();
        records.insert((3, "play.example", "lon"), third.bytes()).unwrap();
        let mut log = txn.open_table(tables::LOG).unwrap();
        log.insert(1, (1, first.bytes(), None)).unwrap();
        log.insert(2, (2, second.bytes(), Some(first.bytes()))).unwrap();
        log.insert(3, (2, third.bytes(), Some(second.bytes()))).unwrap();
        let mut batches = txn.open_table(tables::BATCHES).unwrap();
        batches.insert(1, (1, 50, "np1ada", "apply", 1, 1)).unwrap();
        batches.insert(2, (2, 60, "np1bob", "drain", 2, 2)).unwrap();
        let mut sequences = txn.open_table(SEQUENCES_1).unwrap();
        let mut authors = txn.open_table(tables::AUTHORS).unwrap();
        for signed in [&first, &second, &third, &late] {
            let (author, epoch, seq) = tables::author_number(signed);
            sequences.insert((&author.0, epoch, seq), &signed.hash()).unwrap();
            authors.insert(&author.0, (epoch, seq + 1)).unwrap();
        }
        txn.open_table(tables::TOKENS).unwrap();
        txn.open_table(tables::VERDICTS).unwrap();
        txn.open_table(tables::META).unwrap().insert("soa", &b"mark"[..]).unwrap();
        let mut counters = txn.open_table(tables::COUNTERS).unwrap();
        for (name, value) in [
            (tables::SCHEMA_NAME, 1),
            (tables::VERSION, 2),
            (tables::LAST_BATCH, 2),
            (tables::LAST_POSITION, 3),
            (tables::HLC_MILLIS, 7),
        ] {
            counters.insert(name, value).unwrap();
        }
    }
    txn.commit().unwrap();
    [first, second, third, late]
}

#[test]
fn a_file_of_schema_1_is_brought_up_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ada, mut bob) = (Author::new(1), Author::new(2));
    let [first, second, third, late] = write_schema_1(&dir.path().join(FILE_NAME), &mut ada, &mut bob);
    let epoch = RedbStore::open(dir.path()).unwrap().log_epoch().unwrap();
    assert_ne!(epoch, 0);

    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.log_epoch(), Ok(epoch));
    let contents = store.contents().unwrap();
    assert_eq!((contents.version, contents.max_hlc.millis), (2, 7));
    assert_eq!(contents.records, std::slice::from_ref(&third));
    let logged = [(1, 50, first.clone()), (2, 60, second.clone()), (3, 60, third.clone())];
    assert_eq!(store.log_after(0, 9, true).unwrap(), logged, "all of it is local");
    assert_eq!(store.batch(2).unwrap()[1].previous, Some(second.clone()));
    assert_eq!(store.get_meta("soa"), Ok(Some(b"mark".to_vec())));
    let author = ada.key.public();
    assert_eq!(store.author_position(&author), Ok(AuthorPosition { epoch: 1, next_seq: 4 }));
    assert_eq!(store.find_numbered(&author, 1, 1), Ok(Some(first.clone())));
    assert_eq!(store.find_numbered(&bob.key.public(), 1, 1), Ok(Some(third.clone())));
    assert_eq!(store.find_numbered(&author, 1, 3), Ok(None));
    // What was overwritten under schema 1 does not come back; numbers are still known.
    let told = commit(&store, relayed([first, late, third, ada.sign(2, "nyc", 9, None)], 9)).unwrap();
    assert_eq!(told.outcomes, [Outcome::Gone, Outcome::Gone, Outcome::Duplicate, Outcome::Forked]);
    let next = commit(&store, batch([ada.write("nyc", 9, None)])).unwrap();
    assert_eq!((next.version, next.batch), (3, 3));
}

#[test]
fn an_unreadable_file_of_schema_1_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    write_schema_1(&path, &mut Author::new(1), &mut Author::new(2));
    let db = builder().open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(RECORDS_1).unwrap().insert((3, "play.example", "nyc"), &[1, 0, 3][..]).unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = RedbStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error:?}");
    let txn = builder().open(&path).unwrap().begin_read().unwrap();
    assert_eq!(tables::counter(&txn.open_table(tables::COUNTERS).unwrap(), tables::SCHEMA_NAME).unwrap(), 1);
}

#[test]
fn a_file_of_schema_2_gets_its_tables_and_a_program_of_schema_2_is_not_to_open_it_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let store = RedbStore::open(dir.path()).unwrap();
    let mut ada = Author::new(1);
    let first = ada.write("lon", 5, Some(b"{}"));
    commit(&store, batch([first.clone()])).unwrap();
    drop(store);
    let db = builder().open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.delete_table(tables::AUDIT).unwrap();
    txn.delete_table(tables::AUDIT_ANCHOR).unwrap();
    txn.delete_table(tables::EVENTS).unwrap();
    txn.delete_table(tables::GAPS).unwrap();
    txn.delete_table(tables::AUDIT_AGENTS).unwrap();
    txn.delete_table(tables::AUDIT_GAPS).unwrap();
    txn.delete_table(tables::AUDIT_PRUNINGS).unwrap();
    txn.delete_table(tables::API_TOKENS).unwrap();
    txn.open_table(tables::COUNTERS).unwrap().insert(tables::SCHEMA_NAME, 2).unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.contents().unwrap().records, [first]);
    assert_eq!(commit(&store, batch([ada.write("nyc", 6, Some(b"{}"))])).unwrap().entries, 1);
    drop(store);
    let db = builder().open(&path).unwrap();
    assert_eq!(known_to(tables::SCHEMA, &db, &path), Ok(tables::SCHEMA));
    let refused = known_to(2, &db, &path).unwrap_err();
    assert_eq!(refused, StoreError::NewerSchema { path, found: tables::SCHEMA, known: 2 });
}

/// The file of `tests/fixtures/store-2`, which a program of schema 2 made.
const SCHEMA_2: &[u8] = include_bytes!("../../../../tests/fixtures/store-2/registry.redb.gz");

#[test]
fn a_file_that_a_program_of_schema_2_made_is_brought_up_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join(FILE_NAME)).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(SCHEMA_2), &mut file).unwrap();
    drop(file);
    let path = dir.path().join(FILE_NAME);
    assert_eq!(known_to(2, &builder().open(&path).unwrap(), &path), Ok(2), "it is what it is said to be");
    let look = |store: &RedbStore| {
        let contents = store.contents().unwrap();
        let names: Vec<String> = contents
            .records
            .iter()
            .map(|signed| signed.record())
            .filter(|record| !record.is_tombstone() && !record.kind.is_application())
            .map(|record| format!("{} {}/{}", record.kind.name().unwrap_or("?"), record.scope, record.id))
            .collect();
        for wanted in [
            "domain img.example.com/",
            "domain play.example.com/",
            "mirror play.example.com/lon",
            "mirror play.example.com/nyc",
            "node /n1",
            "drain play.example.com/nyc",
            "override /192.0.2.0/24",
        ] {
            assert!(names.iter().any(|name| name == wanted), "{wanted:?} is not among {names:?}");
        }
        assert!(!names.iter().any(|name| name == "mirror img.example.com/lon"), "it was removed");
        let history = store.history(&HistoryFilter { limit: 100, ..HistoryFilter::default() }).unwrap();
        (contents.version, history.len(), store.log_epoch().unwrap(), store.log_head().unwrap())
    };
    let store = RedbStore::open(dir.path()).unwrap();
    let before = look(&store);
    assert_eq!(before.0, 11);
    let mut ada = Author::new(1);
    let done = commit(&store, batch([ada.write("syd", 5, Some(b"{}"))])).unwrap();
    assert_eq!((done.version, done.entries), (12, 1));
    drop(store);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(look(&store), (12, before.1 + 1, before.2, before.3 + 1));
    let db = builder().open(dir.path().join(FILE_NAME));
    assert!(db.is_err(), "it is open");
}

#[test]
fn a_file_of_schema_3_learns_which_entries_are_of_agents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let store = RedbStore::open(dir.path()).unwrap();
    let act = |via, code: &str| crate::audit::Act {
        by: crate::audit::By { actor: "x".into(), via, source: None },
        code: code.into(),
        ..crate::audit::Act::default()
    };
    use crate::audit::{Via, acts};
    for via in [Via::Socket, Via::Agents, Via::Socket, Via::Peers, Via::Socket] {
        store.write_act(act(via, "some.act"), &Beside::Nothing).unwrap();
    }
    // Somebody was let in.
    store.write_act(act(Via::Agents, acts::NODE_JOIN), &Beside::Nothing).unwrap();
    drop(store);
    let db = builder().open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.delete_table(tables::AUDIT_AGENTS).unwrap();
    txn.delete_table(tables::AUDIT_GAPS).unwrap();
    txn.delete_table(tables::AUDIT_PRUNINGS).unwrap();
    txn.delete_table(tables::API_TOKENS).unwrap();
    txn.open_table(tables::COUNTERS).unwrap().insert(tables::SCHEMA_NAME, 3).unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.prune_agents(0, NOW), Ok(2));
    let page = store.audit_page(AuditFilter { limit: 9, ..AuditFilter::default() }).unwrap()().unwrap();
    let gaps: Vec<_> = page.rows.iter().filter_map(|r| Some((r.pruned_from?, r.number))).collect();
    assert_eq!(gaps, [(2, 2), (4, 4)]);
    assert!(store.api_tokens().unwrap().is_empty());
}
