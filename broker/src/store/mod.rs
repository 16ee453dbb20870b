//! What a broker keeps on disk: the registry's records with their log, and a few tables of its own.
//!
//! ```text
//!   async code ──StoreHandle──▶ bounded queue ──▶ store thread ──▶ dyn Store ──▶ one redb file
//!                                                 (group commit)
//! ```
//!
//! One thread owns the store, so nothing async ever waits for a disk. Writes that are queued while
//! a transaction is being made durable go into the next one together. A batch is all or nothing:
//! its records, their log entries, the version and the authors' positions are written in one
//! transaction, and a batch that is refused leaves the others of its group untouched.
//!
//! Replicated: the records, one standing for each key, by the merge of `nearmost-replica`.
//! This broker's own: log, one-time tokens, last verdicts, and named blobs.
//!
//! Who hands in records has verified their signatures; the store does not check them again. Who
//! calls hands in the time, in milliseconds since the Unix epoch.

mod commit;
mod error;
mod local;
mod read;
mod redb_store;
mod tables;
mod thread;

pub use error::{StoreError, TokenError};
pub use redb_store::{FILE_NAME, RedbStore};
pub use thread::{StoreHandle, StoreStats, StoreThread};

use nearmost_replica::{Hlc, Kind, LogEntry, MergeOutcome, PublicKey, SignedRecord};

/// What is written together or not at all.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// In the order in which they are merged. Their signatures were verified by the caller.
    pub records: Vec<SignedRecord>,
    /// Who asks for it, as shown to people.
    pub actor: String,
    /// Why, or by which command.
    pub note: String,
    /// When it was received, in milliseconds since the Unix epoch.
    pub received_unix_ms: u64,
    /// Refuse the batch unless the registry has this version: what the writer looked at is still so.
    pub expect_version: Option<u64>,
    /// Redeem the one-time token with this hash in the same transaction, so that it is spent if and
    /// only if the records are kept.
    pub redeem: Option<[u8; 32]>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The registry's version after the batch; grew by one if anything was applied.
    pub version: u64,
    /// The batch's number in the history; the latest number when nothing was applied.
    pub batch: u64,
    /// What became of each record, in the batch's order.
    pub outcomes: Vec<MergeOutcome>,
}

impl Committed {
    /// Whether any record now stands that did not before.
    pub fn changed(&self) -> bool {
        self.outcomes.contains(&MergeOutcome::Applied)
    }
}

/// Everything replicated, at one version.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The registry's version.
    pub version: u64,
    /// The highest clock of any record seen: where the own clock continues after a restart.
    pub max_hlc: Hlc,
    /// The standing record of every key, tombstones too, sorted by kind, scope and id.
    pub records: Vec<SignedRecord>,
}

/// Where an author's own count stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthorPosition {
    /// The author's highest epoch seen; 0 when none was.
    pub epoch: u32,
    /// One more than the highest number seen in that epoch; 0 when none was.
    pub next_seq: u64,
}

/// Which entries of the history are wanted; all fields narrow it.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only in this scope.
    pub scope: Option<String>,
    /// Only with this id.
    pub id: Option<String>,
    /// Only before this log position: the next page.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// What a one-time token entitles to. The store knows its secret's hash only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// The domains the joining node may mirror.
    pub domains: Vec<String>,
    /// The name the node will have.
    pub node: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub expires_unix_ms: u64,
    /// Who made it, as shown to people.
    pub created_by: String,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Tombstones past their life.
    pub tombstones: u64,
    /// Tokens that expired long ago.
    pub tokens: u64,
}

/// What a broker keeps. Every call may block on a disk: only the store thread makes them.
///
/// Every method fails with the [`StoreError`]s of the disk (`DiskFull`, `NotWritable`, `Io`,
/// `Corrupted`, and `AlreadyOpen` when the file was taken by another while it was being reopened);
/// only further errors are named below. After a failure the next call tries the disk anew.
pub trait Store: Send + Sync {
    /// Everything replicated, at one version.
    fn contents(&self) -> Result<Contents, StoreError>;

    /// The registry's version; 0 when nothing was ever written.
    fn version(&self) -> Result<u64, StoreError>;

    /// Writes batches in one durable transaction and answers each, in their order. A batch that is
    /// refused (`VersionMismatch`, `AuthorForked`, `Token`) changes nothing and hinders no other;
    /// a failing disk refuses them all. A batch refused for the disk may be written again: records
    /// that did reach the disk are then duplicates.
    fn commit_group(&self, batches: &[WriteBatch]) -> Vec<Result<Committed, StoreError>>;

    /// What was applied, newest first.
    fn history(&self, filter: &HistoryFilter) -> Result<Vec<LogEntry>, StoreError>;

    /// What one batch applied, in its order; empty when there is no such batch.
    fn batch(&self, batch: u64) -> Result<Vec<LogEntry>, StoreError>;

    /// Where an author's own count stands.
    fn author_position(&self, author: &PublicKey) -> Result<AuthorPosition, StoreError>;

    /// Keeps a one-time token by its secret's hash.
    fn put_token(&self, hash: &[u8; 32], entry: &TokenEntry) -> Result<(), StoreError>;

    /// What a token entitles to, without redeeming it. `Token` when it is not good.
    fn check_token(&self, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError>;

    /// Redeems a token: it is good once. `Token` when it is not. See also [`WriteBatch::redeem`].
    fn redeem_token(&self, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, StoreError>;

    /// Keeps these as the last verdicts, in place of those kept before. Only differences are written.
    fn save_verdicts(&self, verdicts: &[(String, Vec<u8>)]) -> Result<(), StoreError>;

    /// The last verdicts, sorted by key.
    fn load_verdicts(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Keeps a named blob.
    fn put_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError>;

    /// A named blob.
    fn get_meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Forgets tombstones past [`nearmost_replica::TOMBSTONE_LIFE`], and tokens that expired as long
    /// ago. The version stays, as nothing that lives changed.
    fn collect(&self, now_unix_ms: u64) -> Result<Collected, StoreError>;
}

#[cfg(test)]
mod tests;
