//! The tables of the file, and errors inside a transaction.

use super::StoreError;
use super::error::from_redb;
use nearmost_replica::{Hlc, PublicKey, Record, SignedRecord};
use redb::{ReadableTable, TableDefinition};
use std::path::Path;

/// Version of what follows; grows when a program could misread an older or newer file.
pub(super) const SCHEMA: u64 = 4;

/// Numbers by name: see the constants below.
pub(super) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
pub(super) const SCHEMA_NAME: &str = "schema";
pub(super) const VERSION: &str = "version";
pub(super) const LAST_BATCH: &str = "batch";
pub(super) const LAST_POSITION: &str = "position";
pub(super) const HLC_MILLIS: &str = "hlc-millis";
pub(super) const HLC_COUNTER: &str = "hlc-counter";
pub(super) const LOG_EPOCH: &str = "log-epoch";

/// (kind, scope, id, author) → exact bytes of the author's statement.
pub(super) const STATEMENTS: TableDefinition<StatementPlace, &[u8]> = TableDefinition::new("statements");
pub(super) type StatementPlace = (u16, &'static str, &'static str, &'static [u8; 32]);
/// (kind, scope, id) → exact bytes of the collected tombstone that buried all below it.
pub(super) const GRAVES: TableDefinition<KeyPlace, &[u8]> = TableDefinition::new("graves");
pub(super) type KeyPlace = (u16, &'static str, &'static str);
/// Position → (batch, applied bytes, bytes that stood before).
pub(super) const LOG: TableDefinition<u64, LogRow> = TableDefinition::new("log");
pub(super) type LogRow = (u64, &'static [u8], Option<&'static [u8]>);
/// Batch → (version after it, received, actor, note, its first position, number of positions).
pub(super) const BATCHES: TableDefinition<u64, BatchRow> = TableDefinition::new("batches");
pub(super) type BatchRow = (u64, u64, &'static str, &'static str, u64, u64);
/// Batch → the peer that delivered it; batches that are not here are this broker's own.
pub(super) const RELAYED: TableDefinition<u64, &[u8; 32]> = TableDefinition::new("relayed");
/// (author, epoch, number) → hash of the one record that has it, and the log position at which it was
/// applied, 0 if it never was.
pub(super) const NUMBERS: TableDefinition<NumberPlace, NumberRow> = TableDefinition::new("numbers");
pub(super) type NumberPlace = (&'static [u8; 32], u32, u64);
pub(super) type NumberRow = (&'static [u8; 32], u64);
/// Author → (highest epoch, next number in it).
pub(super) const AUTHORS: TableDefinition<&[u8; 32], (u32, u64)> = TableDefinition::new("authors");
/// Peer → what is known of it.
pub(super) const PEERS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("peers");
/// Author → exact bytes of two records that it stated under one number.
pub(super) const FORKS: TableDefinition<&[u8; 32], (&[u8], &[u8])> = TableDefinition::new("forks");
/// Hash of a token's secret → (expiry, when used, node, created by, domains).
pub(super) const TOKENS: TableDefinition<&[u8; 32], TokenRow> = TableDefinition::new("tokens");
pub(super) type TokenRow = (u64, Option<u64>, &'static str, &'static str, Vec<&'static str>);
/// Key → last verdict.
pub(super) const VERDICTS: TableDefinition<&str, &[u8]> = TableDefinition::new("verdicts");
/// Name → blob.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Number → (when, exact JSON, hash) of an entry of the audit log.
pub(super) const AUDIT: TableDefinition<u64, AuditRow> = TableDefinition::new("audit");
pub(super) type AuditRow = (u64, &'static [u8], &'static [u8; 32]);
/// [`ANCHOR`] → number and hash of the entry that was pruned last.
pub(super) const AUDIT_ANCHOR: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("audit-anchor");
pub(super) const ANCHOR: &str = "anchor";
/// Numbers of the entries that count as those of agents and peers.
pub(super) const AUDIT_AGENTS: TableDefinition<u64, ()> = TableDefinition::new("audit-agents");
/// Numbers of the entries that tell which of these were forgotten.
pub(super) const AUDIT_PRUNINGS: TableDefinition<u64, ()> = TableDefinition::new("audit-prunings");
/// Last number of a run of such entries that was forgotten → (its first number, when and hash of the last).
pub(super) const AUDIT_GAPS: TableDefinition<u64, GapRow> = TableDefinition::new("audit-gaps");
pub(super) type GapRow = (u64, u64, &'static [u8; 32]);
/// Name of an API token → (SHA-256 of its text, scope, who made it, when, until when or 0).
pub(super) const API_TOKENS: TableDefinition<&str, ApiTokenRow> = TableDefinition::new("api-tokens");
pub(super) type ApiTokenRow = (&'static [u8; 32], &'static str, &'static str, u64, u64);
/// Number → (when, JSON) of a transition.
pub(super) const EVENTS: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("events");
/// When the broker started → when it was last known to run before.
pub(super) const GAPS: TableDefinition<u64, u64> = TableDefinition::new("gaps");

/// Why a transaction ended without being committed.
#[derive(Debug)]
pub(super) enum Abort {
    /// The file failed.
    File(redb::Error),
    /// The file holds what this program did not write.
    Damaged(String),
    /// The caller's wish is refused; the file is as it was.
    Refused(StoreError),
}

impl Abort {
    /// Why the store refuses, about its file.
    pub(super) fn name(self, path: &Path) -> StoreError {
        match self {
            Abort::File(error) => from_redb(path, error),
            Abort::Damaged(cause) => StoreError::Corrupted { path: path.to_owned(), cause },
            Abort::Refused(refusal) => refusal,
        }
    }
}

macro_rules! abort_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Abort {
            fn from(error: $error) -> Self {
                Abort::File(error.into())
            }
        }
    )*};
}
abort_from!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

/// A counter's value; 0 when it was never set.
pub(super) fn counter(counters: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Abort> {
    Ok(counters.get(name)?.map_or(0, |value| value.value()))
}

/// The highest clock seen.
pub(super) fn max_hlc(counters: &impl ReadableTable<&'static str, u64>) -> Result<Hlc, Abort> {
    let millis = counter(counters, HLC_MILLIS)?;
    let count = counter(counters, HLC_COUNTER)?;
    let counter = u16::try_from(count).map_err(|_| Abort::Damaged(format!("{HLC_COUNTER} is {count}")))?;
    Ok(Hlc { millis, counter })
}

/// The place of a record's key in [`GRAVES`].
pub(super) fn key_place(record: &Record) -> (u16, &str, &str) {
    (record.kind.0, &record.scope, &record.id)
}

/// A record's place in [`STATEMENTS`].
pub(super) fn place(record: &Record) -> (u16, &str, &str, &[u8; 32]) {
    (record.kind.0, &record.scope, &record.id, &record.author.0)
}

/// The author of a record and the number that it used for it: (author, epoch, number).
pub(super) fn author_number(signed: &SignedRecord) -> (PublicKey, u32, u64) {
    let record = signed.record();
    (record.author, record.author_epoch, record.author_seq)
}

/// Reads back what was verified before it was written.
pub(super) fn stored(bytes: &[u8]) -> Result<SignedRecord, Abort> {
    SignedRecord::decode(bytes).map_err(|e| Abort::Damaged(format!("a stored record is unreadable: {e}")))
}
