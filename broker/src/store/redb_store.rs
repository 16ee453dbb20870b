//! The store in one redb file.
//!
//! redb refuses everything after a failed read or write until the file is opened anew, since it no
//! longer knows what reached the disk. So a failure closes the file here, and the next call opens
//! it: redb then falls back to the last transaction that is whole. A full disk thus refuses writes
//! for as long as it is full, and no longer.
//!
//! A new file is made under another name and linked to its own once it is whole: what is found under
//! the file's own name is a store, or damaged, and never silently replaced by an empty one.

use super::error::{from_io, from_redb};
use super::tables::{self, Abort};
use super::{
    AuthorPosition, Collected, Committed, Contents, HistoryFilter, Store, StoreError, TokenEntry, WriteBatch,
    commit, local, read,
};
use nearmost_replica::{LogEntry, PublicKey};
use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "registry.redb";

/// Files that crashed while being made and were left behind, at most.
const MAX_UNFINISHED: u32 = 100;

/// Memory for pages; redb's default of 1 GiB is for larger stores than a registry.
const CACHE_BYTES: usize = 64 << 20;

/// Makes a store of an open file, which is empty or holds one.
type Opener = Box<dyn Fn(File) -> Result<Database, DatabaseError> + Send + Sync>;

/// The store in one redb file of a data directory.
pub struct RedbStore {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failure, until the next call opens it anew.
    db: Mutex<Option<Database>>,
}

impl RedbStore {
    /// Opens the store of a data directory, or makes an empty one in it. The file is readable by
    /// its owner only, and locked until the store is dropped.
    ///
    /// # Errors
    /// [`StoreError::DirMissing`], [`StoreError::NotADirectory`], [`StoreError::NotWritable`],
    /// [`StoreError::AlreadyOpen`], [`StoreError::DiskFull`], [`StoreError::Corrupted`],
    /// [`StoreError::NewerSchema`], [`StoreError::Io`].
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        match std::fs::metadata(data_dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(StoreError::NotADirectory { path: data_dir.to_owned() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::DirMissing { path: data_dir.to_owned() });
            }
            Err(e) => return Err(from_io(data_dir, &e)),
        }
        Self::open_with(data_dir.join(FILE_NAME), Box::new(|file| builder().create_file(file)))
    }

    /// Opens a store whose file is reached in another way than redb's own.
    pub(super) fn open_with(path: PathBuf, opener: Opener) -> Result<Self, StoreError> {
        let store = RedbStore { path, opener, db: Mutex::new(None) };
        if !store.path.try_exists().map_err(|e| from_io(&store.path, &e))? {
            store.create()?;
        }
        store.with_db(|_| Ok(()))?;
        Ok(store)
    }

    /// Makes an empty store. If another does so at the same time, one of the two files stays.
    fn create(&self) -> Result<(), StoreError> {
        let (unfinished, file) = self.new_file().map_err(|e| from_io(&self.path, &e))?;
        let made = (self.opener)(file)
            .map_err(|e| from_redb(&self.path, e.into()))
            .and_then(|db| make_tables(&db).map_err(|abort| self.name(abort)))
            .and_then(|()| link_and_sync(&unfinished, &self.path).map_err(|e| from_io(&self.path, &e)));
        if let Err(error) = std::fs::remove_file(&unfinished) {
            tracing::warn!(path = %unfinished.display(), %error, "a file that is no longer needed stays behind");
        }
        made
    }

    /// A new file beside the store's, under a name that nobody uses.
    fn new_file(&self) -> std::io::Result<(PathBuf, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut n = 0;
        loop {
            let path = self.path.with_extension(format!("new-{n}"));
            match options.open(&path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists && n < MAX_UNFINISHED => n += 1,
                opened => return opened.map(|file| (path, file)),
            }
        }
    }

    /// Runs one transaction on the file, opening it first if an earlier failure closed it.
    fn with_db<T>(&self, run: impl FnOnce(&Database) -> Result<T, Abort>) -> Result<T, StoreError> {
        // A panic elsewhere leaves at worst an open file with no transaction: still good.
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let db = match slot.take() {
            Some(db) => db,
            None => self.open_existing()?,
        };
        match run(&db) {
            Ok(value) => {
                *slot = Some(db);
                Ok(value)
            }
            Err(Abort::Refused(refusal)) => {
                *slot = Some(db);
                Err(refusal)
            }
            Err(abort) => {
                drop(db);
                let error = self.name(abort);
                tracing::warn!(path = %self.path.display(), %error, "the store failed; the next call opens it anew");
                Err(error)
            }
        }
    }

    /// Opens the file that is there. Writes nothing of ours, so that a store on a full disk is read.
    fn open_existing(&self) -> Result<Database, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.map_err(|e| from_io(&self.path, &e))?;
        if file.metadata().map_err(|e| from_io(&self.path, &e))?.len() == 0 {
            let cause = "the file is empty".to_owned();
            return Err(StoreError::Corrupted { path: self.path.clone(), cause });
        }
        let db = (self.opener)(file).map_err(|e| from_redb(&self.path, e.into()))?;
        match schema_of(&db).map_err(|abort| self.name(abort))? {
            tables::SCHEMA => Ok(db),
            found => {
                let known = tables::SCHEMA;
                Err(StoreError::NewerSchema { path: self.path.clone(), found, known })
            }
        }
    }

    fn name(&self, abort: Abort) -> StoreError {
        match abort {
            Abort::File(error) => from_redb(&self.path, error),
            Abort::Damaged(cause) => StoreError::Corrupted { path: self.path.clone(), cause },
            Abort::Refused(refusal) => refusal,
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Gives a finished file its own name, durably, unless there is a file of that name.
fn link_and_sync(unfinished: &Path, path: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(unfinished, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(()) => match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        },
    }
}

/// redb's settings, alike for every way to the file.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The file's schema.
fn schema_of(db: &Database) -> Result<u64, Abort> {
    match tables::counter(&db.begin_read()?.open_table(tables::COUNTERS)?, tables::SCHEMA_NAME)? {
        0 => Err(Abort::Damaged("it says no schema".to_owned())),
        schema => Ok(schema),
    }
}

/// Makes the tables of an empty file.
fn make_tables(db: &Database) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    txn.open_table(tables::RECORDS)?;
    txn.open_table(tables::LOG)?;
    txn.open_table(tables::BATCHES)?;
    txn.open_table(tables::SEQUENCES)?;
    txn.open_table(tables::AUTHORS)?;
    txn.open_table(tables::TOKENS)?;
    txn.open_table(tables::VERDICTS)?;
    txn.open_table(tables::META)?;
    txn.open_table(tables::COUNTERS)?.insert(tables::SCHEMA_NAME, tables::SCHEMA)?;
    Ok(txn.commit()?)
}

impl Store for RedbStore {
    fn contents(&self) -> Result<Contents, StoreError> {
        self.with_db(read::contents)
    }

    fn version(&self) -> Result<u64, StoreError> {
        self.with_db(read::version)
    }

    fn commit_group(&self, batches: &[WriteBatch]) -> Vec<Result<Committed, StoreError>> {
        match self.with_db(|db| commit::commit_group(db, batches)) {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); batches.len()],
        }
    }

    fn history(&self, filter: &HistoryFilter) -> Result<Vec<LogEntry>, StoreError> {
        self.with_db(|db| read::history(db, filter))
    }

    fn batch(&self, batch: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.with_db(|db| read::batch(db, batch))
    }

    fn author_position(&self, author: &PublicKey) -> Result<AuthorPosition, StoreError> {
        self.with_db(|db| read::author_position(db, author))
    }

    fn put_token(&self, hash: &[u8; 32], entry: &TokenEntry) -> Result<(), StoreError> {
        self.with_db(|db| local::put_token(db, hash, entry))
    }

    fn check_token(&self, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError> {
        self.with_db(|db| local::check_token(db, hash, now_unix_ms))
    }

    fn redeem_token(&self, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError> {
        self.with_db(|db| local::redeem_token(db, hash, now_unix_ms))
    }

    fn save_verdicts(&self, verdicts: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        self.with_db(|db| local::save_verdicts(db, verdicts))
    }

    fn load_verdicts(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.with_db(local::load_verdicts)
    }

    fn put_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.with_db(|db| local::put_meta(db, name, value))
    }

    fn get_meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with_db(|db| local::get_meta(db, name))
    }

    fn collect(&self, now_unix_ms: u64) -> Result<Collected, StoreError> {
        self.with_db(|db| local::collect(db, now_unix_ms))
    }
}
