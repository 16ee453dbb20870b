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
use super::tables::Abort;
use super::{
    ApiTokenEntry, AuditFilter, AuditPage, AuthorPosition, BackupJob, Beside, Collected, Committed, Contents,
    EventFilter, EventsPage, Evidence, HistoryFilter, Keep, Logged, ReadJob, StatementKey, Store, StoreError,
    TokenEntry, WriteBatch, apitokens, audit, audit_prune, backup, collect, commit, events, files, local,
    peers, read, schema,
};
use crate::audit::Act;
use nearmost_replica::{LogEntry, PublicKey, SignedRecord};
use nearmost_wire::api::EventView;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase};
use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "registry.redb";

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
        files::check_dir(data_dir)?;
        Self::open_with(data_dir.join(FILE_NAME), Box::new(|file| files::builder().create_file(file)))
    }

    /// Opens the store of a data directory, and makes none.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], and those of [`RedbStore::open`].
    pub fn open_made(data_dir: &Path) -> Result<Self, StoreError> {
        files::check_dir(data_dir)?;
        let path = data_dir.join(FILE_NAME);
        if !path.try_exists().map_err(|e| from_io(&path, &e))? {
            return Err(StoreError::NoStore { path });
        }
        Self::open(data_dir)
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
        let (unfinished, file) = files::new_file(&self.path).map_err(|e| from_io(&self.path, &e))?;
        let made = files::guarded(&self.path, || {
            let db = (self.opener)(file).map_err(|e| from_redb(&self.path, e.into()))?;
            schema::make_tables(&db).map_err(|abort| abort.name(&self.path))
        })
        .and_then(|()| match files::link_and_sync(&unfinished, &self.path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(from_io(&self.path, &e)),
            _ => Ok(()),
        });
        files::remove(&unfinished);
        made
    }

    /// Runs one transaction on the file, opening it first if an earlier failure closed it.
    fn with_db<T>(&self, run: impl FnOnce(&Database) -> Result<T, Abort>) -> Result<T, StoreError> {
        // A panic elsewhere leaves at worst an open file with no transaction: still good.
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let db = match slot.take() {
            Some(db) => db,
            None => files::guarded(&self.path, || self.open_existing())?,
        };
        let done = files::guarded(&self.path, || match run(&db) {
            Ok(value) => Ok(Ok(value)),
            // Nothing is wrong with the file.
            Err(Abort::Refused(refusal)) => Ok(Err(refusal)),
            Err(abort) => Err(abort.name(&self.path)),
        });
        match done {
            Ok(answer) => {
                *slot = Some(db);
                answer
            }
            Err(error) => {
                files::close(&self.path, db);
                tracing::warn!(path = %self.path.display(), %error, "the store failed; the next call opens it anew");
                Err(error)
            }
        }
    }

    /// What reads the file as it is now, later and on another thread.
    fn beside<T: 'static>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Result<T, Abort> + Send + 'static,
    ) -> Result<ReadJob<T>, StoreError> {
        let snapshot = self.with_db(|db| Ok(db.begin_read()?))?;
        let path = self.path.clone();
        Ok(Box::new(move || {
            // It ends in there as well: with the last of them redb may close the file.
            files::guarded(&path, || {
                let snapshot = snapshot;
                run(&snapshot).map_err(|abort| abort.name(&path))
            })
        }))
    }

    /// Opens the file that is there. Writes nothing of ours unless the file is of an older schema, so that
    /// a store on a full disk is read.
    fn open_existing(&self) -> Result<Database, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.map_err(|e| from_io(&self.path, &e))?;
        if file.metadata().map_err(|e| from_io(&self.path, &e))?.len() == 0 {
            let cause = "the file is empty".to_owned();
            return Err(StoreError::Corrupted { path: self.path.clone(), cause });
        }
        let db = (self.opener)(file).map_err(|e| from_redb(&self.path, e.into()))?;
        schema::bring_up(&db, &self.path)?;
        Ok(db)
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        if let Some(db) = self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            files::close(&self.path, db);
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
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

    fn remove_meta(&self, name: &str) -> Result<(), StoreError> {
        self.with_db(|db| local::remove_meta(db, name))
    }

    fn collect(&self, now_unix_ms: u64, hidden: &HashSet<StatementKey>) -> Result<Collected, StoreError> {
        self.with_db(|db| collect::collect(db, now_unix_ms, hidden))
    }

    fn drop_statements(&self, statements: &[StatementKey]) -> Result<u64, StoreError> {
        self.with_db(|db| collect::drop_statements(db, statements))
    }

    fn exhume(&self, records: &[SignedRecord], with_graves: bool) -> Result<(), StoreError> {
        self.with_db(|db| collect::exhume(db, records, with_graves))
    }

    fn log_epoch(&self) -> Result<u64, StoreError> {
        self.with_db(read::log_epoch)
    }

    fn log_head(&self) -> Result<u64, StoreError> {
        self.with_db(read::log_head)
    }

    fn log_after(&self, position: u64, limit: usize, local_only: bool) -> Result<Vec<Logged>, StoreError> {
        self.with_db(|db| read::log_after(db, position, limit, local_only))
    }

    fn find_numbered(
        &self,
        author: &PublicKey,
        epoch: u32,
        seq: u64,
    ) -> Result<Option<SignedRecord>, StoreError> {
        self.with_db(|db| read::find_numbered(db, author, epoch, seq))
    }

    fn save_peers(&self, peers: &[(PublicKey, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.with_db(|db| peers::save_peers(db, peers))
    }

    fn load_peers(&self) -> Result<Vec<(PublicKey, Vec<u8>)>, StoreError> {
        self.with_db(peers::load_peers)
    }

    fn put_evidence(
        &self,
        author: &PublicKey,
        a: &SignedRecord,
        b: &SignedRecord,
    ) -> Result<bool, StoreError> {
        self.with_db(|db| peers::put_evidence(db, author, a, b))
    }

    fn load_evidence(&self) -> Result<Vec<Evidence>, StoreError> {
        self.with_db(peers::load_evidence)
    }

    fn backup(&self, path: &Path, overwrite: bool) -> Result<BackupJob, StoreError> {
        let snapshot = self.with_db(|db| Ok(db.begin_read()?))?;
        backup::job(self.path.clone(), snapshot, path, overwrite)
    }

    fn write_act(&self, act: Act, beside: &Beside) -> Result<u64, StoreError> {
        self.with_db(|db| audit::write_act(db, act, beside))
    }

    fn write_acts(&self, acts: Vec<Act>) -> Result<u64, StoreError> {
        self.with_db(|db| audit::write_acts(db, acts))
    }

    fn api_tokens(&self) -> Result<Vec<ApiTokenEntry>, StoreError> {
        self.with_db(apitokens::all)
    }

    fn audit_page(&self, filter: AuditFilter) -> Result<ReadJob<AuditPage>, StoreError> {
        self.beside(move |snapshot| audit::read_page(snapshot, &filter))
    }

    fn prune_audit(&self, keep: Keep) -> Result<u64, StoreError> {
        self.with_db(|db| audit_prune::prune(db, keep))
    }

    fn prune_agents(&self, most: u64, now_unix_ms: u64) -> Result<u64, StoreError> {
        self.with_db(|db| audit_prune::prune_agents(db, most, now_unix_ms))
    }

    fn append_events(&self, events: &[EventView]) -> Result<(), StoreError> {
        self.with_db(|db| events::append(db, events))
    }

    fn newest_event(&self) -> Result<u64, StoreError> {
        self.with_db(events::newest)
    }

    fn add_gap(&self, from_unix_ms: u64, until_unix_ms: u64) -> Result<(), StoreError> {
        self.with_db(|db| events::add_gap(db, from_unix_ms, until_unix_ms))
    }

    fn events_page(&self, filter: EventFilter) -> Result<ReadJob<EventsPage>, StoreError> {
        self.beside(move |snapshot| events::read_page(snapshot, &filter))
    }

    fn prune_events(&self, keep: Keep) -> Result<u64, StoreError> {
        self.with_db(|db| events::prune(db, keep))
    }
}
