//! The history as changes: what each one did, as a diff.

use super::entry::{Content, EntryKey};
use super::plan::Change;
use super::statements;
use super::view::{ViewError, decode_record};
use nearmost_replica::{Body, SignedRecord};
use nearmost_wire::api::HistoryView;

/// One record of the history, decoded.
pub(super) struct Step {
    pub(super) key: EntryKey,
    pub(super) record: SignedRecord,
    pub(super) previous: Option<SignedRecord>,
}

/// Decodes one record of the history; `None` for kinds this build does not know.
pub(super) fn step(view: &HistoryView, index: usize) -> Result<Option<Step>, ViewError> {
    let record = decode_record(&view.record, index)?;
    let previous = view.previous.as_deref().map(|p| decode_record(p, index)).transpose()?;
    Ok(EntryKey::of_record(record.record().key()).map(|key| Step { key, record, previous }))
}

/// All that was written together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number.
    pub number: u64,
    /// Registry version after it.
    pub version: u64,
    /// When the broker wrote it, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Who did it.
    pub actor: String,
    /// Its note.
    pub note: String,
    /// What it did to entries.
    pub changes: Vec<Change>,
    /// What else it did, each as a diff has it.
    pub statements: Vec<String>,
}

/// The changes of a history, newest first.
///
/// # Errors
/// [`ViewError`].
pub fn batches(history: &[HistoryView]) -> Result<Vec<Batch>, ViewError> {
    let mut out: Vec<Batch> = Vec::new();
    for (index, view) in history.iter().enumerate() {
        let change = step(view, index)?.map(|s| {
            let before = s.previous.as_ref().map_or((false, None), |p| side(&s.key, p));
            let after = side(&s.key, &s.record);
            Change::new(s.key, before, after)
        });
        let statement = if change.is_none() { Some(told(view, index)?) } else { None };
        // What was written together stands together.
        match out.iter_mut().rev().find(|b| b.number == view.batch) {
            Some(batch) => {
                batch.changes.extend(change);
                batch.statements.extend(statement);
            }
            None => out.push(Batch {
                number: view.batch,
                version: view.version,
                at_unix_ms: view.at_unix_ms,
                actor: view.actor.clone(),
                note: view.note.clone(),
                changes: change.into_iter().collect(),
                statements: statement.into_iter().collect(),
            }),
        }
    }
    out.sort_by_key(|b| std::cmp::Reverse(b.number));
    for batch in &mut out {
        batch.changes.sort_by(|a, b| a.key.cmp(&b.key));
        // The history has the newest first.
        batch.statements.reverse();
    }
    Ok(out)
}

fn told(view: &HistoryView, index: usize) -> Result<String, ViewError> {
    let record = decode_record(&view.record, index)?;
    let previous = view.previous.as_deref().map(|p| decode_record(p, index)).transpose()?;
    Ok(statements::told(&record, previous.as_ref()))
}

fn side(key: &EntryKey, signed: &SignedRecord) -> (bool, Option<Content>) {
    match &signed.record().body {
        Body::Live { bytes, .. } => (true, Content::parse(key.kind, bytes).ok()),
        Body::Tombstone => (false, None),
    }
}
