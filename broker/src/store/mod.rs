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
//! Replicated: the statements, one record for each key and author, by the merge of `nearmost-replica`.
//! Which of a key's statements is visible is decided above the store, by those who know who may state
//! what. This broker's own: log, what it knows of its peers, proofs against authors that forked, one-time
//! tokens, last verdicts, named blobs, the audit log, and transitions of mirrors.
//!
//! Who hands in records has verified their signatures; the store does not check them again. Who
//! calls hands in the time, in milliseconds since the Unix epoch.

mod apitokens;
mod audit;
mod audit_prune;
mod backup;
mod collect;
mod commit;
mod error;
mod events;
mod files;
mod local;
mod peers;
mod read;
mod redb_store;
mod schema;
mod tables;
mod thread;

pub use apitokens::ApiTokenEntry;
pub use audit::{AuditFilter, AuditPage, AuditRow, Keep, Link};
pub(crate) use audit_prune::MAX_PRUNED;
pub use backup::{RESTORED, Restored, restore};
pub use error::{StoreError, TokenError};
pub use events::{EventFilter, EventsPage};
pub use redb_store::{FILE_NAME, RedbStore};
pub use thread::{StoreHandle, StoreStats, StoreThread};

use crate::audit::{Act, Origin};
use nearmost_replica::{Hlc, Kind, LogEntry, MergeOutcome, PublicKey, RecordKey, SignedRecord};
use nearmost_wire::api::EventView;
use std::collections::HashSet;
use std::path::Path;

/// Names a statement: what it is about, and whose it is.
pub type StatementKey = (RecordKey, PublicKey);

/// A log position, when its record was received in milliseconds since the Unix epoch, and the record.
pub type Logged = (u64, u64, SignedRecord);

/// An author with two records that it stated under one number.
pub type Evidence = (PublicKey, SignedRecord, SignedRecord);

/// The long part of a backup, which hinders nobody; answers how many statements the backup holds.
pub type BackupJob = Box<dyn FnOnce() -> Result<u64, StoreError> + Send>;

/// Reading at one moment that takes a while, which hinders nobody.
pub type ReadJob<T> = Box<dyn FnOnce() -> Result<T, StoreError> + Send>;

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
    /// A named blob that is kept in the same transaction, whether or not a record is new.
    pub blob: Option<(&'static str, Vec<u8>)>,
    /// The peer that delivered it, if one did. Its records are judged one by one: what must not come in
    /// ([`Outcome::Gone`], [`Outcome::Forked`]) does not hinder the rest of the batch.
    pub from_peer: Option<PublicKey>,
    /// For the audit log: who did it, and what it is called. Of what a peer delivered there is no entry.
    pub origin: Origin,
}

/// What became of a record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is its author's statement now.
    Applied,
    /// It was already.
    Duplicate,
    /// Its author has another statement, which is greater.
    Superseded,
    /// It was forgotten here, or is past its life, and does not come back. Only from peers.
    Gone,
    /// Its author used its number for another record. Only from peers; a local batch is refused.
    Forked,
}

impl From<MergeOutcome> for Outcome {
    fn from(outcome: MergeOutcome) -> Self {
        match outcome {
            MergeOutcome::Applied => Outcome::Applied,
            MergeOutcome::Duplicate => Outcome::Duplicate,
            MergeOutcome::Superseded => Outcome::Superseded,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The registry's version after the batch; grew by one if anything was applied.
    pub version: u64,
    /// The batch's number in the history; the latest number when nothing was applied.
    pub batch: u64,
    /// What became of each record, in the batch's order.
    pub outcomes: Vec<Outcome>,
    /// For records that are [`Outcome::Gone`], by their index, the collected tombstone that shows it, if one
    /// is kept.
    pub graves: Vec<(usize, SignedRecord)>,
    /// Statements that are no longer held: tombstones past their life showed that they were removed.
    pub buried: Vec<SignedRecord>,
    /// Entries of the audit log that tell of it, written with it.
    pub entries: u64,
}

impl Committed {
    /// Whether any statement was applied.
    pub fn changed(&self) -> bool {
        self.outcomes.contains(&Outcome::Applied)
    }
}

/// Everything replicated, at one version.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The registry's version.
    pub version: u64,
    /// The highest clock of any record seen: where the own clock continues after a restart.
    pub max_hlc: Hlc,
    /// All statements, tombstones too, sorted by kind, scope, id and author.
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

/// What is kept together with an entry of the audit log that is no change of the registry: both or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// The entry alone.
    #[default]
    Nothing,
    /// A one-time token, by its secret's hash.
    Token([u8; 32], TokenEntry),
    /// A named blob.
    Blob(&'static str, Vec<u8>),
    /// A token of the API.
    ApiToken(ApiTokenEntry),
    /// The token of the API of this name is gone.
    Revoked(String),
}

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Statements that are no longer held: tombstones past their life, and what they stood above.
    pub removed: Vec<SignedRecord>,
    /// Of these the tombstones past their life.
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
    /// a failing disk refuses them all. Batches of peers are not refused for forks. A batch refused for the disk may be written again: records
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

    /// Removes a named blob.
    fn remove_meta(&self, name: &str) -> Result<(), StoreError>;

    /// Forgets tombstones past [`nearmost_replica::TOMBSTONE_LIFE`], and tokens that expired as long
    /// ago. With such a tombstone goes what it stands above, and none of that comes in again from a peer. The
    /// `hidden` statements, which nobody may take for true, do not decide for others: a hidden tombstone goes
    /// alone. The version stays, as nothing that
    /// lives changed.
    fn collect(&self, now_unix_ms: u64, hidden: &HashSet<StatementKey>) -> Result<Collected, StoreError>;

    /// Removes statements as if they had never come, to start over from a peer's copy; those that are
    /// not there are passed over. Nothing is logged. Answers the version, which grows by one if anything
    /// was removed.
    fn drop_statements(&self, statements: &[StatementKey]) -> Result<u64, StoreError>;

    /// Forgets that these records were seen before, and if asked the graves of what they are about, so that
    /// they come in when they are written again.
    fn exhume(&self, records: &[SignedRecord], with_graves: bool) -> Result<(), StoreError>;

    /// Which life of the log its positions belong to: random, and another after a restore.
    fn log_epoch(&self) -> Result<u64, StoreError>;

    /// The log's last position; 0 when nothing was ever applied.
    fn log_head(&self) -> Result<u64, StoreError>;

    /// What was applied after a log position, in order, at most `limit`; with `local_only` without what
    /// peers delivered. Who gets fewer than `limit` has seen everything up to the [`Store::log_head`] that
    /// it asked for before, and goes on from there.
    fn log_after(&self, position: u64, limit: usize, local_only: bool) -> Result<Vec<Logged>, StoreError>;

    /// The record for which an author used a number, as far as it was ever applied here.
    fn find_numbered(
        &self,
        author: &PublicKey,
        epoch: u32,
        seq: u64,
    ) -> Result<Option<SignedRecord>, StoreError>;

    /// Keeps what is known of peers, `None` removes; those not named stay as they are.
    fn save_peers(&self, peers: &[(PublicKey, Option<Vec<u8>>)]) -> Result<(), StoreError>;

    /// What is known of peers, sorted by their keys.
    fn load_peers(&self) -> Result<Vec<(PublicKey, Vec<u8>)>, StoreError>;

    /// Keeps two records that `author` stated under one number. Of each author those with the lowest
    /// (epoch, number) are kept, and at the same number those that came first. Answers whether these are
    /// kept now that were not before. `NoFork` when the two prove nothing.
    fn put_evidence(
        &self,
        author: &PublicKey,
        a: &SignedRecord,
        b: &SignedRecord,
    ) -> Result<bool, StoreError>;

    /// The proofs against authors that forked, sorted by their keys.
    fn load_evidence(&self) -> Result<Vec<Evidence>, StoreError>;

    /// Starts a copy of everything as it is now; the job writes it to a file. `AlreadyThere` when there
    /// is a file and it is not to be overwritten, and always when that is the store's own.
    fn backup(&self, path: &Path, overwrite: bool) -> Result<BackupJob, StoreError>;

    /// Writes an act to the audit log, with what it is about if that is to be kept; answers how many entries it
    /// has. See also [`WriteBatch::origin`].
    fn write_act(&self, act: Act, beside: &Beside) -> Result<u64, StoreError>;

    /// Writes acts that change nothing, in one transaction; answers how many entries they have.
    fn write_acts(&self, acts: Vec<Act>) -> Result<u64, StoreError>;

    /// The tokens of the API, sorted by name.
    fn api_tokens(&self) -> Result<Vec<ApiTokenEntry>, StoreError>;

    /// Starts reading the audit log as it is now.
    fn audit_page(&self, filter: AuditFilter) -> Result<ReadJob<AuditPage>, StoreError>;

    /// Forgets the oldest entries of the audit log, some thousands at most; answers how many. Of what agents
    /// and peers did only those go that are too old, or stand before what else goes.
    fn prune_audit(&self, keep: Keep) -> Result<u64, StoreError>;

    /// Forgets the oldest entries of what agents and peers did of their own accord, once there are
    /// more than `most`, down to nine tenths of that: some thousands at most, and writes down which; answers how many.
    fn prune_agents(&self, most: u64, now_unix_ms: u64) -> Result<u64, StoreError>;

    /// Keeps transitions by their numbers.
    fn append_events(&self, events: &[EventView]) -> Result<(), StoreError>;

    /// Number of the newest transition; 0 when there is none.
    fn newest_event(&self) -> Result<u64, StoreError>;

    /// Notes a time in which the broker did not run.
    fn add_gap(&self, from_unix_ms: u64, until_unix_ms: u64) -> Result<(), StoreError>;

    /// Starts reading transitions as they are now.
    fn events_page(&self, filter: EventFilter) -> Result<ReadJob<EventsPage>, StoreError>;

    /// Forgets the oldest transitions, some thousands at most, and gaps as old; answers how many.
    fn prune_events(&self, keep: Keep) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests;
