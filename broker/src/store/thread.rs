//! The one thread that owns the store, and the handle by which async code reaches it.
//!
//! Calls run in the order in which they were queued. Writes that follow each other in the queue are
//! committed as one group: under load the cost of making a transaction durable is shared. The queue
//! is bounded; who finds it full waits, so that nothing that was asked for is dropped.

use super::{
    AuthorPosition, Collected, Committed, Contents, Evidence, HistoryFilter, Logged, ReadJob, StatementKey,
    Store, StoreError, TokenEntry, WriteBatch,
};
use nearmost_replica::{LogEntry, PublicKey, SignedRecord};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Calls that wait at most before callers wait in turn.
const QUEUE: usize = 1024;
/// Batches in one transaction at most …
const GROUP_BATCHES: usize = 256;
/// … unless their records are this many sooner: bounds how long one transaction takes.
const GROUP_RECORDS: usize = 4096;

type Answer = oneshot::Sender<Result<Committed, StoreError>>;

type Call = Box<dyn FnOnce(&dyn Store) + Send>;

enum Job {
    Write(Box<WriteBatch>, Answer),
    Call(Call),
    Stop(oneshot::Sender<()>),
}

/// What the store thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Groups handed to the store, one transaction each.
    pub groups: u64,
    /// Batches in them.
    pub batches: u64,
    /// Batches refused, for whatever reason.
    pub refused: u64,
    /// Calls, batches included, that failed because of the disk, the file or the thread.
    pub errors: u64,
    /// Entries written to the audit log.
    pub acts: u64,
    /// Calls waiting in the queue now.
    pub queued: u64,
}

#[derive(Debug, Default)]
struct Counts {
    groups: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    acts: AtomicU64,
}

/// Reaches the store from async code; clones share it. A call that is cancelled may still be carried
/// out.
///
/// Every method fails as the [`Store`]'s of the same name, and with [`StoreError::Stopped`] once the
/// thread is gone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    jobs: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// The thread that owns a store. It ends when it is stopped, or when every handle is dropped.
#[derive(Debug)]
pub struct StoreThread {
    jobs: mpsc::WeakSender<Job>,
    thread: std::thread::JoinHandle<()>,
}

impl StoreThread {
    /// Hands the store to a thread of its own.
    ///
    /// # Errors
    /// The system's, when it allows no further thread.
    pub fn spawn(store: Box<dyn Store>) -> std::io::Result<(StoreHandle, StoreThread)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let weak = jobs.downgrade();
        let handle = StoreHandle { jobs, counts: counts.clone() };
        let run = move || run(store, queue, &counts);
        let thread = std::thread::Builder::new().name("store".into()).spawn(run)?;
        Ok((handle, StoreThread { jobs: weak, thread }))
    }

    /// Finishes what is queued, refuses what comes later, and closes the store's file: once this
    /// returns, another may open it.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when the thread had died before.
    pub async fn stop(self) -> Result<(), StoreError> {
        if let Some(jobs) = self.jobs.upgrade() {
            let (done, stopped) = oneshot::channel();
            jobs.send(Job::Stop(done)).await.map_err(|_| StoreError::Stopped)?;
            drop(jobs);
            stopped.await.map_err(|_| StoreError::Stopped)?;
        }
        // The store is closed, or the last handle is gone and it is being closed.
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if matches!(joined, Ok(Ok(()))) { Ok(()) } else { Err(StoreError::Stopped) }
    }
}

/// Whether the store failed, rather than refused what was asked of it.
fn is_failure(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::VersionMismatch { .. }
            | StoreError::AuthorForked { .. }
            | StoreError::NoFork { .. }
            | StoreError::AlreadyThere { .. }
            | StoreError::Token(_)
    )
}

/// The thread's life: until it is stopped and the queue is empty, or until nobody can call.
fn run(store: Box<dyn Store>, mut queue: mpsc::Receiver<Job>, counts: &Counts) {
    let mut stopped = Vec::new();
    let mut held = None;
    while let Some(job) = held.take().or_else(|| queue.blocking_recv()) {
        match job {
            Job::Write(batch, answer) => held = write_group(&*store, &mut queue, counts, *batch, answer),
            Job::Call(call) => call(&*store),
            Job::Stop(done) => {
                queue.close();
                stopped.push(done);
            }
        }
    }
    drop(store);
    for done in stopped {
        // Who asked may have gone.
        let _ = done.send(());
    }
}

/// Commits a batch with those queued right behind it; returns the first job that is not a write.
fn write_group(
    store: &dyn Store,
    queue: &mut mpsc::Receiver<Job>,
    counts: &Counts,
    batch: WriteBatch,
    answer: Answer,
) -> Option<Job> {
    let mut records = batch.records.len();
    let (mut batches, mut answers) = (vec![batch], vec![answer]);
    let mut held = None;
    while batches.len() < GROUP_BATCHES && records < GROUP_RECORDS {
        match queue.try_recv() {
            Ok(Job::Write(batch, answer)) => {
                records += batch.records.len();
                batches.push(*batch);
                answers.push(answer);
            }
            Ok(other) => {
                held = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    let results = store.commit_group(&batches);
    let refused = results.iter().filter(|r| r.is_err()).count();
    let acts: u64 = results.iter().flatten().map(|committed| committed.entries).sum();
    counts.groups.fetch_add(1, Ordering::Relaxed);
    counts.batches.fetch_add(batches.len() as u64, Ordering::Relaxed);
    counts.refused.fetch_add(refused as u64, Ordering::Relaxed);
    counts.acts.fetch_add(acts, Ordering::Relaxed);
    for (answer, result) in answers.into_iter().zip(results) {
        // A writer that no longer waits has its batch written all the same.
        let _ = answer.send(result);
    }
    held
}

impl StoreHandle {
    /// Writes a batch; returns once it is durable.
    pub async fn write(&self, batch: WriteBatch) -> Result<Committed, StoreError> {
        let (answer, result) = oneshot::channel();
        self.jobs.send(Job::Write(Box::new(batch), answer)).await.map_err(|_| StoreError::Stopped)?;
        self.counted(result.await.unwrap_or(Err(StoreError::Stopped)))
    }

    /// Everything replicated, at one version.
    pub async fn read_all(&self) -> Result<Contents, StoreError> {
        self.call(|store| store.contents()).await
    }

    /// The registry's version.
    pub async fn version(&self) -> Result<u64, StoreError> {
        self.call(|store| store.version()).await
    }

    /// What was applied, newest first.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<LogEntry>, StoreError> {
        self.call(move |store| store.history(&filter)).await
    }

    /// What one batch applied, in its order; empty when there is no such batch.
    pub async fn batch(&self, batch: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.call(move |store| store.batch(batch)).await
    }

    /// Where an author's own count stands.
    pub async fn author_position(&self, author: PublicKey) -> Result<AuthorPosition, StoreError> {
        self.call(move |store| store.author_position(&author)).await
    }

    /// Keeps a one-time token by its secret's hash.
    pub async fn put_token(&self, hash: [u8; 32], entry: TokenEntry) -> Result<(), StoreError> {
        self.call(move |store| store.put_token(&hash, &entry)).await
    }

    /// What a token entitles to, without redeeming it.
    pub async fn check_token(&self, hash: [u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError> {
        self.call(move |store| store.check_token(&hash, now_unix_ms)).await
    }

    /// Redeems a token: it is good once.
    pub async fn redeem_token(&self, hash: [u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError> {
        self.call(move |store| store.redeem_token(&hash, now_unix_ms)).await
    }

    /// Keeps these as the last verdicts, in place of those kept before.
    pub async fn save_verdicts(&self, verdicts: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        self.call(move |store| store.save_verdicts(&verdicts)).await
    }

    /// The last verdicts, sorted by key.
    pub async fn load_verdicts(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.call(|store| store.load_verdicts()).await
    }

    /// Keeps a named blob.
    pub async fn put_meta(&self, name: impl Into<String>, value: Vec<u8>) -> Result<(), StoreError> {
        let name = name.into();
        self.call(move |store| store.put_meta(&name, &value)).await
    }

    /// A named blob.
    pub async fn get_meta(&self, name: impl Into<String>) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.into();
        self.call(move |store| store.get_meta(&name)).await
    }

    /// Removes a named blob.
    pub async fn remove_meta(&self, name: impl Into<String>) -> Result<(), StoreError> {
        let name = name.into();
        self.call(move |store| store.remove_meta(&name)).await
    }

    /// Forgets tombstones and tokens past their life; hidden statements do not decide for others.
    pub async fn collect(
        &self,
        now_unix_ms: u64,
        hidden: HashSet<StatementKey>,
    ) -> Result<Collected, StoreError> {
        self.call(move |store| store.collect(now_unix_ms, &hidden)).await
    }

    /// Removes statements as if they had never come; answers the version.
    pub async fn drop_statements(&self, statements: Vec<StatementKey>) -> Result<u64, StoreError> {
        self.call(move |store| store.drop_statements(&statements)).await
    }

    /// See [`Store::exhume`].
    pub async fn exhume(&self, records: Vec<SignedRecord>, with_graves: bool) -> Result<(), StoreError> {
        self.call(move |store| store.exhume(&records, with_graves)).await
    }

    /// Which life of the log its positions belong to.
    pub async fn log_epoch(&self) -> Result<u64, StoreError> {
        self.call(|store| store.log_epoch()).await
    }

    /// The log's last position.
    pub async fn log_head(&self) -> Result<u64, StoreError> {
        self.call(|store| store.log_head()).await
    }

    /// What was applied after a log position, in order.
    pub async fn log_after(
        &self,
        position: u64,
        limit: usize,
        local_only: bool,
    ) -> Result<Vec<Logged>, StoreError> {
        self.call(move |store| store.log_after(position, limit, local_only)).await
    }

    /// The record for which an author used a number.
    pub async fn find_numbered(
        &self,
        author: PublicKey,
        epoch: u32,
        seq: u64,
    ) -> Result<Option<SignedRecord>, StoreError> {
        self.call(move |store| store.find_numbered(&author, epoch, seq)).await
    }

    /// Keeps what is known of peers; `None` removes.
    pub async fn save_peers(&self, peers: Vec<(PublicKey, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        self.call(move |store| store.save_peers(&peers)).await
    }

    /// What is known of peers, sorted by their keys.
    pub async fn load_peers(&self) -> Result<Vec<(PublicKey, Vec<u8>)>, StoreError> {
        self.call(|store| store.load_peers()).await
    }

    /// Keeps two records that an author stated under one number.
    pub async fn put_evidence(
        &self,
        author: PublicKey,
        a: SignedRecord,
        b: SignedRecord,
    ) -> Result<bool, StoreError> {
        self.call(move |store| store.put_evidence(&author, &a, &b)).await
    }

    /// The proofs against authors that forked.
    pub async fn load_evidence(&self) -> Result<Vec<Evidence>, StoreError> {
        self.call(|store| store.load_evidence()).await
    }

    /// Copies everything as it is when the call's turn comes to a file; answers how many statements the
    /// copy holds. Only the start is the store thread's: meanwhile the store goes on.
    pub async fn backup(&self, path: impl Into<PathBuf>, overwrite: bool) -> Result<u64, StoreError> {
        let path = path.into();
        let job = self.call(move |store| store.backup(&path, overwrite)).await?;
        self.read(job).await
    }

    /// Runs the long part of something beside the store's thread.
    pub(super) async fn read<T: Send + 'static>(&self, job: ReadJob<T>) -> Result<T, StoreError> {
        let done = tokio::task::spawn_blocking(job).await;
        self.counted(done.unwrap_or(Err(StoreError::Stopped)))
    }

    /// Counts entries of the audit log that were written with no batch.
    pub(super) fn count_acts(&self, entries: u64) {
        self.counts.acts.fetch_add(entries, Ordering::Relaxed);
    }

    /// Returns once the store thread has ended, for whatever reason.
    pub async fn stopped(&self) {
        self.jobs.closed().await;
    }

    /// What the store thread has done so far.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            groups: self.counts.groups.load(Ordering::Relaxed),
            batches: self.counts.batches.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            errors: self.counts.errors.load(Ordering::Relaxed),
            acts: self.counts.acts.load(Ordering::Relaxed),
            queued: (self.jobs.max_capacity() - self.jobs.capacity()) as u64,
        }
    }

    fn counted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().err().is_some_and(is_failure) {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Runs `call` on the store thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        let job = Job::Call(Box::new(move |store| {
            // Who asked may have gone.
            let _ = answer.send(call(store));
        }));
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        self.counted(result.await.unwrap_or(Err(StoreError::Stopped)))
    }
}
