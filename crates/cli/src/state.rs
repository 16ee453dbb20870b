//! Statements about members, rights and applications' records: planned, shown, signed, committed.

use crate::broker::Context;
use crate::output::{emit, emit_json, notice};
use crate::progress::during;
use nearmost_client::identity::KeyPair;
use nearmost_client::registry::commit::{Author, Stated, state};
use nearmost_client::registry::statements::Statement;
use nearmost_client::registry::{Held, StateError, StatementPlan, Step};
use nearmost_client::text::printable;
use serde_json::{Value, json};

/// What a command states, and how.
pub struct Saying<'a> {
    /// For the history.
    pub note: &'a str,
    /// Only show it.
    pub dry_run: bool,
    /// The key that takes the place of one's own.
    pub heir: Option<&'a KeyPair>,
}

impl<'a> Saying<'a> {
    /// By one's own key alone.
    pub fn new(note: &'a str, dry_run: bool) -> Saying<'a> {
        Saying { note, dry_run, heir: None }
    }
}

/// States what `make` plans, and tells what became of it; whether something was stated.
pub async fn say(
    context: &Context,
    saying: Saying<'_>,
    mut make: impl FnMut(&Held, &KeyPair) -> Result<StatementPlan, StateError>,
) -> anyhow::Result<bool> {
    let (key, client) = context.signer()?;
    if saying.dry_run {
        let plan = make(&client.held::<StateError>().await?, &key)?;
        let last = if plan.is_empty() { "nothing to do\n" } else { "nothing was written\n" };
        show(context, &plan, None, last)?;
        return Ok(false);
    }
    let name = std::env::var("USER").unwrap_or_default();
    let author = Author { key: &key, name: &name, note: saying.note };
    let stated: Stated = during(
        context.json,
        "asking the broker to write the change",
        state(&client, &author, saying.heir, |held| make(held, &key)),
    )
    .await?;
    for id in &stated.enrolled {
        notice(context.json, &format!("this broker now knows your key {id}"));
    }
    let last = match &stated.response {
        Some(r) => format!("change {}, registry version {}\n", r.batch, r.version),
        None => "nothing to do\n".into(),
    };
    show(context, &stated.plan, Some(serde_json::to_value(&stated.response)?), &last)?;
    Ok(stated.response.is_some())
}

fn show(context: &Context, plan: &StatementPlan, response: Option<Value>, last: &str) -> anyhow::Result<()> {
    for warning in &plan.warnings {
        notice(context.json, &format!("warning: {}", printable(warning)));
    }
    if context.json {
        let changes: Vec<Value> = plan.statements.iter().map(as_json).collect();
        return emit_json(&json!({ "changes": changes, "response": response }));
    }
    emit(&format!("{plan}{last}"))
}

fn as_json(said: &Statement) -> Value {
    let action = match said.step {
        Step::Add => "add",
        Step::Change => "change",
        Step::Remove => "remove",
        Step::Unchanged => "unchanged",
        Step::Keep => "keep",
    };
    json!({ "entry": said.what, "action": action, "differences": said.differences })
}
