//! Copies of a running store, and stores made of them.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A store with something in every table that counts, and its contents.
fn filled(dir: &Path) -> (RedbStore, Vec<SignedRecord>) {
    let store = RedbStore::open(dir).unwrap();
    let (mut ada, mut bob) = (Author::new(1), Author::new(2));
    let records = [ada.write("lon", 5, Some(b"a")), ada.write("nyc", 6, None)];
    commit(&store, batch(records)).unwrap();
    commit(&store, relayed([bob.write("lon", 7, Some(b"b"))], 9)).unwrap();
    store.put_token(&[7; 32], &token(NOW)).unwrap();
    store.save_verdicts(&[("lon/4".into(), b"up".to_vec())]).unwrap();
    store.put_meta("soa", b"mark").unwrap();
    store.add_gap(5, 7).unwrap();
    store.save_peers(&[(PublicKey([3; 32]), Some(vec![1]))]).unwrap();
    let (a, b) = (bob.sign(5, "x", 5, None), bob.sign(5, "y", 5, None));
    store.put_evidence(&bob.key.public(), &a, &b).unwrap();
    let records = store.contents().unwrap().records;
    (store, records)
}

fn backup(store: &dyn Store, path: &Path, overwrite: bool) -> Result<u64, StoreError> {
    store.backup(path, overwrite)?()
}

/// Everything that a copy must hold, but for the log's epoch.
fn everything(store: &dyn Store) -> impl PartialEq + std::fmt::Debug {
    let contents = store.contents().unwrap();
    let bob = Author::new(2).key.public();
    (
        (contents.version, contents.max_hlc, contents.records),
        store.history(&HistoryFilter { limit: 100, ..Default::default() }).unwrap(),
        (store.log_after(0, 100, true).unwrap(), store.find_numbered(&bob, 1, 1).unwrap()),
        (store.check_token(&[7; 32], 5).unwrap(), store.load_verdicts().unwrap(), store.get_meta("soa")),
        (store.load_peers().unwrap(), store.load_evidence().unwrap(), store.author_position(&bob).unwrap()),
        store.audit_page(AuditFilter { limit: 9, ..AuditFilter::default() }).unwrap()().unwrap(),
        store.events_page(EventFilter { limit: 9, ..EventFilter::default() }).unwrap()().unwrap(),
    )
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_becomes_a_store_that_knows_it_is_one() {
    let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, records) = filled(dir.path());
    let path = new.path().join("copy");
    assert_eq!(backup(&store, &path, false), Ok(3));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(restore(&path, new.path(), false, 77), Ok(Restored { statements: 3, moved_aside: None }));
    assert_eq!(names(new.path()), ["copy", FILE_NAME]);

    let restored = RedbStore::open(new.path()).unwrap();
    assert_eq!(restored.contents().unwrap().records, records);
    assert_eq!(everything(&restored), everything(&store));
    assert_ne!(restored.log_epoch(), store.log_epoch());
    assert_eq!(restored.get_meta(RESTORED), Ok(Some(b"77".to_vec())));
    assert_eq!(store.get_meta(RESTORED), Ok(None));
    let mode = std::fs::metadata(new.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_copy_is_of_the_moment_at_which_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (store, records) = filled(dir.path());
    let copies = tempfile::tempdir().unwrap();
    let job = store.backup(&copies.path().join("copy"), false).unwrap();
    commit(&store, batch([Author::new(3).write("par", 9, Some(b"c"))])).unwrap();
    assert_eq!(job(), Ok(3));
    restore(&copies.path().join("copy"), copies.path(), false, 1).unwrap();
    assert_eq!(RedbStore::open(copies.path()).unwrap().contents().unwrap().records, records);
}

#[test]
fn a_file_is_only_overwritten_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(dir.path());
    let copies = tempfile::tempdir().unwrap();
    let path = copies.path().join("copy.redb");
    // It comes into being while the copy is made.
    let job = store.backup(&path, false).unwrap();
    std::fs::write(&path, b"mine").unwrap();
    let there = StoreError::AlreadyThere { path: path.clone() };
    assert_eq!(job(), Err(there.clone()));
    assert_eq!(backup(&store, &path, false), Err(there));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    assert_eq!(backup(&store, &path, true), Ok(3));
    assert_eq!(names(copies.path()), ["copy.redb"], "nothing half-made stays");
    assert_eq!(restore(&path, copies.path(), false, 1).unwrap().statements, 3);
}

#[test]
fn the_store_itself_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (store, records) = filled(dir.path());
    for path in [dir.path().join(FILE_NAME), dir.path().join(".").join(FILE_NAME)] {
        assert_eq!(backup(&store, &path, true), Err(StoreError::AlreadyThere { path }));
    }
    drop(store);
    assert_eq!(RedbStore::open(dir.path()).unwrap().contents().unwrap().records, records);
}

#[test]
fn where_a_copy_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, records) = filled(dir.path());
    let path = dir.path().join("none").join("copy");
    let told = backup(&store, &path, false).unwrap_err().to_string();
    assert!(told.contains(path.to_str().unwrap()), "{told}");
    assert_eq!(store.contents().unwrap().records, records);
}

#[test]
fn a_store_that_is_there_is_kept_or_moved_aside_and_never_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (store, records) = filled(dir.path());
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    backup(&store, &copy, false).unwrap();
    let path = dir.path().join(FILE_NAME);
    assert_eq!(restore(&copy, dir.path(), true, 5), Err(StoreError::AlreadyOpen { path: path.clone() }));
    let later = Author::new(3).write("par", 9, Some(b"c"));
    commit(&store, batch([later])).unwrap();
    drop(store);
    assert_eq!(restore(&copy, dir.path(), false, 5), Err(StoreError::AlreadyThere { path }));
    assert_eq!(RedbStore::open(dir.path()).unwrap().contents().unwrap().records.len(), 4);

    let aside = dir.path().join("registry.redb.5");
    let restored = Restored { statements: 3, moved_aside: Some(aside.clone()) };
    assert_eq!(restore(&copy, dir.path(), true, 5), Ok(restored));
    assert_eq!(names(dir.path()), [FILE_NAME, "registry.redb.5"]);
    assert_eq!(RedbStore::open(dir.path()).unwrap().contents().unwrap().records, records);
    // The one that was moved aside is good still, and is not overwritten.
    assert_eq!(restore(&copy, dir.path(), true, 5), Err(StoreError::AlreadyThere { path: aside.clone() }));
    assert_eq!(restore(&aside, dir.path(), true, 6).unwrap().statements, 4);
    // A damaged store is in nobody's way.
    std::fs::write(dir.path().join(FILE_NAME), b"damaged").unwrap();
    assert_eq!(restore(&copy, dir.path(), true, 7).unwrap().statements, 3);
    assert_eq!(RedbStore::open(dir.path()).unwrap().contents().unwrap().records, records);
}

#[test]
fn what_is_no_copy_is_named_and_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy: PathBuf = copies.path().join("copy");
    assert!(restore(&copy, dir.path(), false, 1).unwrap_err().to_string().contains(copy.to_str().unwrap()));
    for garbage in [b"not a database".to_vec(), vec![0; 100_000], vec![]] {
        std::fs::write(&copy, &garbage).unwrap();
        let error = restore(&copy, dir.path(), false, 1).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupted { path, .. } if *path == copy), "{error:?}");
        assert_eq!(names(dir.path()), [""; 0]);
    }
    // One record of it is unreadable.
    let (store, _) = filled(copies.path());
    std::fs::remove_file(&copy).unwrap();
    backup(&store, &copy, false).unwrap();
    let db = super::super::files::builder().open(&copy).unwrap();
    let txn = db.begin_write().unwrap();
    let place = (3, "play.example", "zrh", &[1; 32]);
    txn.open_table(super::super::tables::STATEMENTS).unwrap().insert(place, &[1, 0, 3][..]).unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = restore(&copy, dir.path(), false, 1).unwrap_err();
    assert!(error.to_string().contains("a stored record is unreadable"), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
    let missing = dir.path().join("none");
    assert_eq!(restore(&copy, &missing, false, 1), Err(StoreError::DirMissing { path: missing }));
}

#[tokio::test]
async fn the_store_thread_goes_on_while_a_copy_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let (store, _) = filled(dir.path());
    let (handle, thread) = StoreThread::spawn(Box::new(store)).unwrap();
    let path = copies.path().join("copy");
    let write = handle.write(batch([Author::new(3).write("par", 9, Some(b"c"))]));
    let (copied, written) = tokio::join!(biased; handle.backup(path.clone(), false), write);
    assert_eq!(copied, Ok(3));
    assert!(written.unwrap().changed());
    assert_eq!(
        handle.backup(path.clone(), false).await,
        Err(StoreError::AlreadyThere { path: path.clone() })
    );
    assert_eq!(handle.stats().errors, 0);
    assert_eq!(handle.backup(path, true).await, Ok(4));
    thread.stop().await.unwrap();
}
