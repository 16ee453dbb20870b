//! A store's own account of what it applied.
//!
//! The log orders what one store did; its positions are that store's own and stand outside every
//! signature. It answers who changed what and when, and holds what is needed to undo a change.

use crate::signed::SignedRecord;

/// One applied record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in this store's log; grows by one for each applied record, from 1.
    pub position: u64,
    /// The batch it was written with; grows by one for each batch that applied anything, from 1.
    pub batch: u64,
    /// The registry's version after the batch.
    pub version: u64,
    /// When this store received it, in milliseconds since the Unix epoch.
    pub received_unix_ms: u64,
    /// Who asked for it, as shown to people.
    pub actor: String,
    /// Why, or by which command.
    pub note: String,
    /// What was applied.
    pub record: SignedRecord,
    /// What stood before under the same key.
    pub previous: Option<SignedRecord>,
}
