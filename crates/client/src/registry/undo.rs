//! Taking a change back: from the history to the wishes that restore what stood before.
//!
//! The undoing is a change like any other, with its own records and its own place in the history;
//! undoing it does the change again. What was changed again since is not touched: the whole undo is
//! refused and names it.

use super::entry::{Content, EntryKey};
use super::history::{Step, step};
use super::plan::{Edit, Plan, PlanError};
use super::view::{RegistryView, ViewError};
use nearmost_replica::Body;
use nearmost_wire::api::HistoryView;
use nearmost_wire::identity::Id;

/// Why a change cannot be taken back.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// No such change.
    #[error("change {0} is not in the part of the history this broker gives")]
    NoBatch(u64),
    /// The person made none.
    #[error("{0} has made no change that this broker remembers")]
    NothingOwn(Id),
    /// Somebody changed it since.
    #[error("change {batch} cannot be undone: {key} was changed since, by {by}")]
    ChangedSince {
        /// The change to undo.
        batch: u64,
        /// The entry.
        key: EntryKey,
        /// Who changed it.
        by: Id,
    },
    /// It holds only what has no undoing.
    #[error("change {0} holds nothing that can be undone")]
    Nothing(u64),
    /// The history is not understood.
    #[error("history: {0}")]
    History(#[from] ViewError),
    /// What stood before cannot be read any more.
    #[error("what {0} said before cannot be read by this version")]
    Unreadable(EntryKey),
    /// What stood before makes no sense any more.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// How much of the history is asked for: the most a broker gives.
pub const HISTORY_LIMIT: u32 = 10_000;

/// The number of the newest change that `me` made. Changes that only made the key known do not
/// count.
///
/// # Errors
/// [`UndoError::NothingOwn`], [`UndoError::History`].
pub fn last_own(history: &[HistoryView], me: &Id) -> Result<u64, UndoError> {
    let mut newest = None;
    for (index, view) in history.iter().enumerate() {
        let Some(step) = step(view, index)? else { continue };
        if step.record.record().author.0 == me.key && step.key != EntryKey::person(me) {
            newest = newest.max(Some(view.batch));
        }
    }
    newest.ok_or(UndoError::NothingOwn(*me))
}

/// The plan that takes change `batch` back.
///
/// # Errors
/// [`UndoError`].
pub fn plan(history: &[HistoryView], batch: u64, view: &RegistryView, me: &Id) -> Result<Plan, UndoError> {
    let mut steps = Vec::new();
    for (index, entry) in history.iter().enumerate().filter(|(_, h)| h.batch == batch) {
        steps.extend(step(entry, index)?);
    }
    // Of the oldest change in a full answer a part may be missing.
    let oldest = history.iter().map(|h| h.batch).min();
    let cut = history.len() >= HISTORY_LIMIT as usize && oldest == Some(batch);
    if cut || !history.iter().any(|h| h.batch == batch) {
        return Err(UndoError::NoBatch(batch));
    }
    // The key that signs the undoing must stay known.
    steps.retain(|s| s.key != EntryKey::person(me));
    if steps.is_empty() {
        return Err(UndoError::Nothing(batch));
    }
    let mut edits = Vec::new();
    for step in &steps {
        unchanged_since(batch, step, &steps, view)?;
        edits.extend(inverse(step, view)?);
    }
    Ok(Plan::of_edits(view, edits)?)
}

fn unchanged_since(batch: u64, step: &Step, steps: &[Step], view: &RegistryView) -> Result<(), UndoError> {
    let Some(now) = view.records.get(&step.key) else {
        // A tombstone that was forgotten after its 30 days: nothing came after it.
        return Ok(());
    };
    match steps.iter().any(|s| s.key == step.key && s.record == *now) {
        true => Ok(()),
        false => {
            let by = view.author_id(now.record().author);
            Err(UndoError::ChangedSince { batch, key: step.key.clone(), by })
        }
    }
}

fn inverse(step: &Step, view: &RegistryView) -> Result<Option<Edit>, UndoError> {
    match step.previous.as_ref().map(|p| &p.record().body) {
        Some(Body::Live { bytes, .. }) => {
            let content = Content::parse(step.key.kind, bytes);
            let content = content.map_err(|_| UndoError::Unreadable(step.key.clone()))?;
            // Who made it stays so when it comes back by another hand.
            let maker = content.made_by().map(Into::into);
            let author = step.previous.as_ref().map(|p| view.author_id(p.record().author).to_string());
            Ok(Some(Edit::put(step.key.clone(), content.with_maker(maker.or(author)))))
        }
        Some(Body::Tombstone) | None if view.has(&step.key) => Ok(Some(Edit::remove(step.key.clone()))),
        Some(Body::Tombstone) | None => Ok(None),
    }
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
