//! Copying the store while it runs, and making a store of such a copy.
//!
//! A copy is taken from one read transaction, table by table, so it is of one moment whatever is written
//! meanwhile. A store that was made of a copy has forgotten what came after it, its own author's numbers
//! too: it has another log epoch, so that peers know that its positions are others, and a marker by which
//! the broker knows that it must learn from its peers how far it was before it writes anything.

use super::error::{from_io, from_redb};
use super::tables::{self, Abort};
use super::{BackupJob, FILE_NAME, StoreError, files, schema};
use redb::{
    Database, DatabaseError, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError, Value, WriteTransaction,
};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The blob that says that the store was made of a copy: when, in decimal milliseconds since the Unix
/// epoch. Removed by the broker once it knows how far it was.
pub const RESTORED: &str = "restored";

/// Why copying ended, by whose fault.
enum Failed {
    Reading(redb::Error),
    Writing(redb::Error),
}

fn reading(error: impl Into<redb::Error>) -> Failed {
    Failed::Reading(error.into())
}

fn writing(error: impl Into<redb::Error>) -> Failed {
    Failed::Writing(error.into())
}

/// The work of copying `snapshot`, of the store at `store`, to a file.
pub(super) fn job(
    store: PathBuf,
    snapshot: ReadTransaction,
    path: &Path,
    overwrite: bool,
) -> Result<BackupJob, StoreError> {
    let path = path.to_owned();
    let there = path.try_exists().map_err(|e| from_io(&path, &e))?;
    let own = there && is_same(&path, &store).map_err(|e| from_io(&path, &e))?;
    // Asked once more at the end; who is refused should not have to wait for that. The store itself is
    // never written over: what it writes from then on would be in a file without a name.
    if own || there && !overwrite {
        return Err(StoreError::AlreadyThere { path });
    }
    Ok(Box::new(move || {
        let (unfinished, file) = files::new_file(&path).map_err(|e| from_io(&path, &e))?;
        // What panics of redb is of the file that is read: nobody else wrote the other one.
        let made = files::guarded(&store, || {
            let snapshot = snapshot;
            copy_all(&snapshot, file).map_err(|failed| match failed {
                Failed::Reading(error) => from_redb(&store, error),
                Failed::Writing(error) => from_redb(&path, error),
            })
        });
        let named = made.and_then(|count| give_name(&unfinished, &path, overwrite).map(|()| count));
        if unfinished.exists() {
            files::remove(&unfinished);
        }
        named
    }))
}

/// Whether two names of files are of one place.
fn is_same(a: &Path, b: &Path) -> std::io::Result<bool> {
    Ok(a.canonicalize()? == b.canonicalize()?)
}

/// Gives a finished file its name.
fn give_name(unfinished: &Path, path: &Path, overwrite: bool) -> Result<(), StoreError> {
    let named = if overwrite {
        std::fs::rename(unfinished, path).and_then(|()| files::sync_parent(path))
    } else {
        files::link_and_sync(unfinished, path)
    };
    named.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => StoreError::AlreadyThere { path: path.to_owned() },
        _ => from_io(path, &e),
    })
}

/// Writes all tables into an empty file, which is closed then; answers how many statements there are.
fn copy_all(from: &ReadTransaction, file: File) -> Result<u64, Failed> {
    let db = files::builder().create_file(file).map_err(writing)?;
    let to = db.begin_write().map_err(writing)?;
    copy(from, &to, tables::COUNTERS)?;
    let statements = copy(from, &to, tables::STATEMENTS)?;
    copy(from, &to, tables::GRAVES)?;
    copy(from, &to, tables::LOG)?;
    copy(from, &to, tables::BATCHES)?;
    copy(from, &to, tables::RELAYED)?;
    copy(from, &to, tables::NUMBERS)?;
    copy(from, &to, tables::AUTHORS)?;
    copy(from, &to, tables::PEERS)?;
    copy(from, &to, tables::FORKS)?;
    copy(from, &to, tables::TOKENS)?;
    copy(from, &to, tables::VERDICTS)?;
    copy(from, &to, tables::META)?;
    copy(from, &to, tables::AUDIT)?;
    copy(from, &to, tables::AUDIT_ANCHOR)?;
    copy(from, &to, tables::AUDIT_AGENTS)?;
    copy(from, &to, tables::AUDIT_GAPS)?;
    copy_if_there(from, &to, tables::AUDIT_PRUNINGS)?;
    copy(from, &to, tables::API_TOKENS)?;
    copy(from, &to, tables::EVENTS)?;
    copy(from, &to, tables::GAPS)?;
    to.commit().map_err(writing)?;
    Ok(statements)
}

/// Writes one table; answers how many rows it has.
fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<u64, Failed> {
    let rows = from.open_table(table).map_err(reading)?;
    let mut copied = to.open_table(table).map_err(writing)?;
    let mut count = 0;
    for row in rows.iter().map_err(reading)? {
        let (key, value) = row.map_err(reading)?;
        copied.insert(key.value(), value.value()).map_err(writing)?;
        count += 1;
    }
    Ok(count)
}

/// The same for a table that stores of this schema only have once something was written to their audit log.
fn copy_if_there<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<u64, Failed> {
    match from.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => to.open_table(table).map(|_| 0).map_err(writing),
        _ => copy(from, to, table),
    }
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Statements in it, all of them readable.
    pub statements: u64,
    /// Where the store is now that was there before, if one was.
    pub moved_aside: Option<PathBuf>,
}

/// Makes a store in `data_dir` of a copy, which stays as it is. A store that is there already is only
/// replaced with `force`; it is moved aside then. No broker may run on it.
///
/// # Errors
/// [`StoreError::AlreadyThere`] when a store is there and `force` is not given,
/// [`StoreError::AlreadyOpen`] when a broker runs on it, [`StoreError::Corrupted`] and
/// [`StoreError::NewerSchema`] about the copy, and those of [`super::RedbStore::open`] about the directory
/// and the disk.
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    force: bool,
    now_unix_ms: u64,
) -> Result<Restored, StoreError> {
    files::check_dir(data_dir)?;
    let path = data_dir.join(FILE_NAME);
    let there = path.try_exists().map_err(|e| from_io(&path, &e))?;
    if there && !force {
        return Err(StoreError::AlreadyThere { path });
    }
    // Held until the file has another name, so that no broker starts on it meanwhile.
    let _held = if there { Some(Held::of(&path)?) } else { None };
    let (unfinished, file) = files::new_file(&path).map_err(|e| from_io(&path, &e))?;
    let restored = files::guarded(backup, || copy_in(backup, &unfinished, file, now_unix_ms))
        .and_then(|statements| take_place(&unfinished, &path, there, now_unix_ms).map(|a| (statements, a)));
    files::remove(&unfinished);
    let (statements, moved_aside) = restored?;
    Ok(Restored { statements, moved_aside })
}

/// The store that is there, locked as far as it is one.
struct Held {
    path: PathBuf,
    db: Option<Database>,
}

impl Held {
    fn of(path: &Path) -> Result<Held, StoreError> {
        let opened = files::guarded(path, || match files::builder().open(path) {
            Ok(db) => Ok(Some(db)),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::AlreadyOpen { path: path.to_owned() }),
            Err(_) => Ok(None),
        });
        let db = match opened {
            // A damaged store is what copies are for.
            Err(StoreError::Corrupted { .. }) => None,
            opened => opened?,
        };
        Ok(Held { path: path.to_owned(), db })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            files::close(&self.path, db);
        }
    }
}

/// Copies a copy, checks it, and marks it; answers how many statements it has.
fn copy_in(backup: &Path, unfinished: &Path, mut file: File, now_unix_ms: u64) -> Result<u64, StoreError> {
    let mut source = File::open(backup).map_err(|e| from_io(backup, &e))?;
    if source.metadata().map_err(|e| from_io(backup, &e))?.len() == 0 {
        let cause = "the file is empty".to_owned();
        return Err(StoreError::Corrupted { path: backup.to_owned(), cause });
    }
    std::io::copy(&mut source, &mut file).map_err(|e| from_io(unfinished, &e))?;
    // What is wrong with the content is told of the file that it came from.
    let db = files::builder().create_file(file).map_err(|e| from_redb(backup, e.into()))?;
    schema::bring_up(&db, backup)?;
    let statements = check(&db).map_err(|abort| abort.name(backup))?;
    mark(&db, now_unix_ms).map_err(|abort| abort.name(unfinished))?;
    Ok(statements)
}

/// Whether every record is readable; answers how many statements there are.
fn check(db: &Database) -> Result<u64, Abort> {
    let txn = db.begin_read()?;
    let mut statements = 0;
    for row in txn.open_table(tables::STATEMENTS)?.iter()? {
        tables::stored(row?.1.value())?;
        statements += 1;
    }
    for row in txn.open_table(tables::LOG)?.iter()? {
        let row = row?.1;
        let (_, bytes, before) = row.value();
        tables::stored(bytes)?;
        before.map(tables::stored).transpose()?;
    }
    Ok(statements)
}

/// Begins another life of the log.
fn mark(db: &Database, now_unix_ms: u64) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    txn.open_table(tables::COUNTERS)?.insert(tables::LOG_EPOCH, schema::new_log_epoch())?;
    txn.open_table(tables::META)?.insert(RESTORED, now_unix_ms.to_string().as_bytes())?;
    Ok(txn.commit()?)
}

/// Gives the new store its name; answers where the one is that had it.
fn take_place(
    unfinished: &Path,
    path: &Path,
    there: bool,
    now_unix_ms: u64,
) -> Result<Option<PathBuf>, StoreError> {
    let aside = there.then(|| path.with_extension(format!("redb.{now_unix_ms}")));
    if let Some(aside) = &aside {
        if aside.try_exists().map_err(|e| from_io(aside, &e))? {
            return Err(StoreError::AlreadyThere { path: aside.clone() });
        }
        std::fs::rename(path, aside).map_err(|e| from_io(aside, &e))?;
    }
    let named = give_name(unfinished, path, false);
    if let (Err(_), Some(aside)) = (&named, &aside)
        && let Err(error) = std::fs::rename(aside, path)
    {
        tracing::error!(path = %aside.display(), %error, "the store that was moved aside cannot be moved back");
    }
    named.map(|()| aside)
}
