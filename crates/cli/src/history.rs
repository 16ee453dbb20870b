//! Who changed what, and taking it back.

use crate::broker::Context;
use crate::change;
use crate::output::{emit, emit_json};
use nearmost_client::moment;
use nearmost_client::registry::history::batches;
use nearmost_client::registry::undo;
use nearmost_client::text::printable;

/// Prints the newest changes, newest first.
pub async fn history(context: &Context, key: Option<&str>, limit: u32) -> anyhow::Result<()> {
    let key = key.map(str::to_ascii_lowercase);
    let history = context.client.history(key.as_deref(), limit).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&history)?);
    }
    let mut text = String::new();
    for batch in batches(&history)? {
        let note =
            if batch.note.is_empty() { String::new() } else { format!("  {}", printable(&batch.note)) };
        text.push_str(&format!(
            "change {}  {}  {}{note}\n",
            batch.number,
            moment::show(batch.at_unix_ms),
            printable(&batch.actor)
        ));
        batch.changes.iter().for_each(|c| text.push_str(&format!("  {c}\n")));
        batch.statements.iter().for_each(|said| text.push_str(&format!("  {said}\n")));
    }
    emit(if text.is_empty() { "no changes\n" } else { &text })
}

/// Takes a change back.
pub async fn undo(context: &Context, number: Option<u64>) -> anyhow::Result<()> {
    let (key, client) = context.signer()?;
    let me = key.id();
    let history = client.history(None, undo::HISTORY_LIMIT).await?;
    let number = match number {
        Some(number) => number,
        None => undo::last_own(&history, &me)?,
    };
    // A change that comes between is found by the records themselves when the plan is made anew.
    let note = format!("undo {number}");
    change::make(context, &note, |view| undo::plan(&history, number, view, &me)).await
}
