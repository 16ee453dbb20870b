//! What a failing disk, a wrong directory or a wrong file does.

use super::super::files::builder;
use super::super::tables;
use super::*;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let first = RedbStore::open(dir.path()).unwrap();
    let second = RedbStore::open(dir.path()).unwrap_err();
    assert_eq!(second, StoreError::AlreadyOpen { path: path.clone() });
    let told = second.to_string();
    assert!(told.contains("another broker uses this data directory"), "{told}");
    assert!(told.contains(path.to_str().unwrap()), "{told}");
    commit(&first, batch([Author::new(1).write("lon", 5, Some(b"a"))])).unwrap();
    drop(first);
    RedbStore::open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_is_missing_or_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none");
    assert_eq!(RedbStore::open(&path).unwrap_err(), StoreError::DirMissing { path: path.clone() });
    File::create(&path).unwrap();
    assert_eq!(RedbStore::open(&path).unwrap_err(), StoreError::NotADirectory { path });
}

/// A directory nobody may write to. Permissions do not hold back the superuser, sysfs does.
fn read_only_dir(parent: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/sys/kernel");
    }
    std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o500)).unwrap();
    parent.to_owned()
}

#[test]
fn a_directory_that_is_not_writable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let read_only = read_only_dir(dir.path());
    let error = RedbStore::open(&read_only).unwrap_err();
    let StoreError::NotWritable { path, cause } = &error else { panic!("{error:?}") };
    assert_eq!(*path, read_only.join(FILE_NAME));
    assert!(!cause.is_empty());
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _store = RedbStore::open(dir.path()).unwrap();
    let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    for garbage in [b"not a database".to_vec(), vec![0; 100_000], vec![0xff; 5], vec![]] {
        std::fs::write(&path, &garbage).unwrap();
        let error = RedbStore::open(dir.path()).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupted { path: named, .. } if *named == path), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }
}

#[test]
fn a_store_cut_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let store = RedbStore::open(dir.path()).unwrap();
    commit(&store, batch([Author::new(1).write("lon", 5, Some(&[7; 3000]))])).unwrap();
    drop(store);
    let whole = std::fs::metadata(&path).unwrap().len();
    for len in [1, 300, 5000, whole / 2] {
        let cut = tempfile::tempdir().unwrap();
        let copy = cut.path().join(FILE_NAME);
        std::fs::copy(&path, &copy).unwrap();
        OpenOptions::new().write(true).open(&copy).unwrap().set_len(len).unwrap();
        let error = RedbStore::open(cut.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupted { .. }), "cut to {len} of {whole}: {error:?}");
    }
}

#[test]
fn a_record_that_is_unreadable_is_damage_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    drop(RedbStore::open(dir.path()).unwrap());
    let db = builder().open(dir.path().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(tables::STATEMENTS)
        .unwrap()
        .insert((3, "play.example", "lon", &[1; 32]), &[1, 0, 3][..])
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = RedbStore::open(dir.path()).unwrap();
    for error in [store.contents().unwrap_err(), store.collect(NOW, &HashSet::new()).unwrap_err()] {
        let told = error.to_string();
        assert!(
            told.contains("damaged: a stored record is unreadable: the record ends inside its scope"),
            "{told}"
        );
    }
}

#[test]
fn a_store_that_vanishes_is_not_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Mutex::new(Disk { capacity: 400, ..Disk::default() }));
    let store = store_on_small_disk(dir.path(), &disk).unwrap();
    let (kept, ..) = fill(&store, &mut Author::new(1));
    let (path, away) = (dir.path().join(FILE_NAME), dir.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    assert!(matches!(store.contents().unwrap_err(), StoreError::Io { .. }));
    assert!(!path.exists());
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(store.contents().unwrap().records, kept);
}

#[test]
fn files_of_interrupted_starts_are_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        std::fs::write(dir.path().join(format!("registry.new-{n}")), b"half").unwrap();
    }
    drop(RedbStore::open(dir.path()).unwrap());
    RedbStore::open(dir.path()).unwrap();
    assert!(!dir.path().join("registry.new-3").exists());
}

#[test]
fn a_file_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    drop(RedbStore::open(dir.path()).unwrap());
    let db = builder().open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(tables::COUNTERS).unwrap().insert(tables::SCHEMA_NAME, 99).unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = RedbStore::open(dir.path()).unwrap_err();
    assert_eq!(error, StoreError::NewerSchema { path, found: 99, known: tables::SCHEMA });
}

/// What a small disk has given out, kept over reopening: the blocks ever written to. As on a real
/// disk, a file may be longer than what was written, and overwriting takes no further space.
#[derive(Debug, Default)]
struct Disk {
    blocks: HashSet<u64>,
    capacity: usize,
}

#[derive(Debug)]
struct SmallDisk {
    file: FileBackend,
    disk: Arc<Mutex<Disk>>,
}

const BLOCK: u64 = 4096;

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        for block in offset / BLOCK..=(offset + data.len() as u64).saturating_sub(1) / BLOCK {
            if !disk.blocks.contains(&block) && disk.blocks.len() >= disk.capacity {
                // Part of the write may be on the disk by now, as with a real one.
                let fits = (block * BLOCK).saturating_sub(offset) as usize;
                self.file.write(offset, &data[..fits])?;
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            disk.blocks.insert(block);
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

fn store_on_small_disk(dir: &Path, disk: &Arc<Mutex<Disk>>) -> Result<RedbStore, StoreError> {
    let disk = disk.clone();
    let opener = move |file: File| {
        builder().create_with_backend(SmallDisk { file: FileBackend::new(file)?, disk: disk.clone() })
    };
    RedbStore::open_with(dir.join(FILE_NAME), Box::new(opener))
}

/// Writes mirrors until the disk is full; returns what was kept and the batch that was refused.
fn fill(store: &dyn Store, author: &mut Author) -> (Vec<SignedRecord>, WriteBatch, StoreError) {
    let mut kept = Vec::new();
    for n in 0..1000 {
        // Several records a batch, so that half a batch would show.
        let records: Vec<_> =
            (0..3).map(|i| author.write(&format!("{n:03}-{i}"), 5, Some(&[9; 3000]))).collect();
        match commit(store, batch(records.clone())) {
            Ok(_) => kept.extend(records),
            Err(error) => return (kept, batch(records), error),
        }
    }
    panic!("the disk never filled up");
}

#[test]
fn a_full_disk_refuses_the_write_loses_nothing_and_works_again_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let disk = Arc::new(Mutex::new(Disk { capacity: 400, ..Disk::default() }));
    let store = store_on_small_disk(dir.path(), &disk).unwrap();
    let mut ada = Author::new(1);
    let (mut kept, refused, error) = fill(&store, &mut ada);
    assert!(matches!(&error, StoreError::DiskFull { path: named, .. } if *named == path), "{error:?}");
    assert!(error.is_disk());
    assert!(kept.len() > 10, "only {} records before the disk was full", kept.len());

    // Still full: what is there is read, the write is refused again, by the same name.
    assert_eq!(store.contents().unwrap().records, kept);
    let again = commit(&store, refused.clone()).unwrap_err();
    assert!(matches!(again, StoreError::DiskFull { .. }), "{again:?}");
    assert_eq!(store.contents().unwrap().records, kept);
    assert_eq!(store.version(), Ok(kept.len() as u64 / 3));

    // Space is freed: the same handle writes, and a reopened store has it all.
    disk.lock().unwrap().capacity = 100_000;
    assert_eq!(commit(&store, refused.clone()).unwrap().version, kept.len() as u64 / 3 + 1);
    kept.extend(refused.records);
    drop(store);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.contents().unwrap().records, kept);
    let history = store.history(&HistoryFilter { limit: 10_000, ..Default::default() }).unwrap();
    assert_eq!(history.len(), kept.len());
}

/// Numbers of the changes that entries of the audit log tell of.
fn acts(store: &dyn Store) -> Vec<u64> {
    let page = store.audit_page(AuditFilter { limit: 10_000, ..AuditFilter::default() }).unwrap()().unwrap();
    let batch = |row: &AuditRow| {
        serde_json::from_str::<nearmost_wire::api::AuditEntry>(&row.json).unwrap().batch.unwrap()
    };
    page.rows.iter().map(batch).collect()
}

/// Numbers of the changes that were made.
fn changes(store: &dyn Store) -> Vec<u64> {
    let history = store.history(&HistoryFilter { limit: 10_000, ..Default::default() }).unwrap();
    let mut numbers: Vec<u64> = history.iter().map(|entry| entry.batch).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The disk fills up at every possible write in turn: never is more or less kept than was answered.
#[test]
fn wherever_the_disk_fills_up_a_batch_is_whole_or_absent() {
    let mut filled_at_start = 0;
    for capacity in (0..260).step_by(7) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Mutex::new(Disk { capacity, ..Disk::default() }));
        let store = match store_on_small_disk(dir.path(), &disk) {
            Ok(store) => store,
            Err(StoreError::DiskFull { .. }) => {
                filled_at_start += 1;
                assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half-made stays");
                disk.lock().unwrap().capacity = 100_000;
                store_on_small_disk(dir.path(), &disk).unwrap()
            }
            Err(error) => panic!("capacity {capacity}: {error:?}"),
        };
        {
            let mut disk = disk.lock().unwrap();
            disk.capacity = capacity.max(disk.blocks.len());
        }
        let mut ada = Author::new(1);
        let (kept, refused, error) = fill(&store, &mut ada);
        assert!(matches!(error, StoreError::DiskFull { .. }), "capacity {capacity}: {error:?}");
        disk.lock().unwrap().capacity = 100_000;
        let found = store.contents().unwrap().records;
        let with_refused: Vec<_> = kept.iter().chain(&refused.records).cloned().collect();
        assert!(
            found == kept || found == with_refused,
            "capacity {capacity}: {} of {}",
            found.len(),
            kept.len()
        );
        assert_eq!(
            acts(&store),
            changes(&store),
            "capacity {capacity}: a change has its entry, an entry its change"
        );
        commit(&store, refused).unwrap();
        assert_eq!(store.contents().unwrap().records, with_refused, "capacity {capacity}");
        assert_eq!(acts(&store), changes(&store), "capacity {capacity}");
    }
    assert!(filled_at_start > 0, "no capacity was too small to make the file");
}

#[tokio::test]
async fn the_store_thread_survives_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Mutex::new(Disk { capacity: 400, ..Disk::default() }));
    let store = store_on_small_disk(dir.path(), &disk).unwrap();
    let mut ada = Author::new(1);
    let (kept, refused, _) = fill(&store, &mut ada);
    let (handle, thread) = StoreThread::spawn(Box::new(store)).unwrap();
    let (one, two) = tokio::join!(handle.write(refused.clone()), handle.write(refused.clone()));
    for answer in [one, two] {
        assert!(matches!(answer, Err(StoreError::DiskFull { .. })), "{answer:?}");
    }
    assert_eq!(handle.stats().refused, 2);
    disk.lock().unwrap().capacity = 100_000;
    assert!(handle.write(refused).await.unwrap().changed());
    assert_eq!(handle.read_all().await.unwrap().records.len(), kept.len() + 3);
    thread.stop().await.unwrap();
}

#[test]
fn a_store_that_failed_during_a_copy_works_again_and_the_copy_is_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Mutex::new(Disk { capacity: 400, ..Disk::default() }));
    let store = store_on_small_disk(dir.path(), &disk).unwrap();
    let copy = dir.path().join("copy");
    let job = store.backup(&copy, false).unwrap();
    let (kept, ..) = fill(&store, &mut Author::new(1));
    assert_eq!(store.contents().unwrap().records, kept, "the copy's hold on the file hinders nobody");
    match job() {
        Ok(count) => assert_eq!(count, 0, "as it was when the copy was asked for"),
        Err(_) => assert!(!copy.exists()),
    }
    assert_eq!(store.contents().unwrap().records, kept);
}
