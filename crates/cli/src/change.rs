//! Changes of the registry: planned, shown, signed, committed; files in and out.

use crate::broker::Context;
use crate::output::{complain, emit, emit_json, notice};
use crate::progress::during;
use anyhow::{Context as _, bail};
use nearmost_client::identity::KeyPair;
use nearmost_client::registry::commit::{Author, Outcome, change};
use nearmost_client::registry::file::export as to_file;
use nearmost_client::registry::{Action, Change, Kept, Plan, PlanError, RegistryFile, RegistryView};
use nearmost_client::text::printable;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::Read;
use std::path::Path;

/// Longest registry file read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Makes the change that `make` plans, and tells what became of it.
pub async fn make<E>(
    context: &Context,
    note: &str,
    make: impl FnMut(&RegistryView) -> Result<Plan, E>,
) -> anyhow::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let (key, client) = context.signer()?;
    let name = std::env::var("USER").unwrap_or_default();
    let author = Author { key: &key, name: &name, note };
    let outcome =
        during(context.json, "asking the broker to write the change", change(&client, &author, make)).await?;
    tell(context, &outcome, &key)
}

fn tell(context: &Context, outcome: &Outcome, key: &KeyPair) -> anyhow::Result<()> {
    if outcome.enrolled {
        notice(context.json, &format!("this broker now knows your key {}", key.id()));
    }
    tell_warnings(context, &outcome.plan);
    if context.json {
        let changes: Vec<Value> = outcome.plan.changes.iter().map(as_json).collect();
        return emit_json(&json!({ "changes": changes, "response": outcome.response }));
    }
    tell_kept(&outcome.plan);
    let mut text = outcome.plan.to_string();
    match &outcome.response {
        Some(r) => text.push_str(&format!("change {}, registry version {}\n", r.batch, r.version)),
        None => text.push_str("nothing to do\n"),
    }
    emit(&text)
}

/// Says what is allowed and might be a slip.
fn tell_warnings(context: &Context, plan: &Plan) {
    for warning in &plan.warnings {
        notice(context.json, &format!("warning: {}", printable(warning)));
    }
}

/// Says that something is not in the file, which might be a slip.
fn tell_kept(plan: &Plan) {
    match plan.count(|a| a == Action::Kept(Kept::NotPruned)) {
        0 => {}
        n => {
            let stay = "entries that are not in the file stay; --prune removes those that your key made";
            complain(&format!("{n} {stay}\n"));
        }
    }
}

fn as_json(change: &Change) -> Value {
    let (action, why) = match change.action {
        Action::Add => ("add", None),
        Action::Change => ("change", None),
        Action::Remove => ("remove", None),
        Action::Unchanged => ("unchanged", None),
        Action::Kept(why) => ("kept", Some(why.to_string())),
    };
    let differences = if change.action == Action::Change { change.differences() } else { Vec::new() };
    json!({ "entry": change.key.to_string(), "action": action, "why": why, "differences": differences })
}

/// The registry as it is, for showing.
pub async fn view(context: &Context) -> anyhow::Result<RegistryView> {
    Ok(context.client.view::<Infallible>().await?)
}

/// Makes the registry say what a file says.
pub async fn apply(context: &Context, path: &Path, dry_run: bool, prune: bool) -> anyhow::Result<()> {
    let (name, text) = read(path)?;
    let file = RegistryFile::parse(&name, &text)?;
    let (key, client) = context.signer()?;
    let me = key.id();
    if !dry_run {
        let note = format!("apply {name}");
        return make(context, &note, |view| Plan::of_file(&file, view, &me, prune)).await;
    }
    let view: RegistryView = client.view::<PlanError>().await?;
    let plan = Plan::of_file(&file, &view, &me, prune)?;
    tell_warnings(context, &plan);
    if context.json {
        let changes: Vec<Value> = plan.changes.iter().map(as_json).collect();
        return emit_json(&json!({ "changes": changes, "response": null }));
    }
    tell_kept(&plan);
    let count = |action| plan.count(|a| a == action);
    let counts = (count(Action::Add), count(Action::Change), count(Action::Remove));
    let last = match counts {
        (0, 0, 0) => "nothing to do\n".into(),
        (add, change, remove) => {
            format!("{add} to add, {change} to change, {remove} to remove; nothing was written\n")
        }
    };
    emit(&format!("{plan}{last}"))
}

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let (name, mut source): (String, Box<dyn Read>) = match path.to_str() {
        Some("-") => ("standard input".into(), Box::new(std::io::stdin())),
        _ => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).with_context(|| format!("registry file {name}"))?;
            (name, Box::new(file))
        }
    };
    let mut bytes = Vec::new();
    let limited = source.by_ref().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let read = limited.with_context(|| format!("registry file {name}"))?;
    if read as u64 > MAX_FILE_BYTES {
        bail!("registry file {name}: longer than {MAX_FILE_BYTES} bytes");
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("registry file {name}: not UTF-8 at byte {at}")
    })?;
    Ok((name, text))
}

/// Writes the registry as a file.
pub async fn export(context: &Context, path: Option<&Path>) -> anyhow::Result<()> {
    let view = during(context.json, "reading the registry", view(context)).await?;
    let readable = view.entries.iter().filter_map(|(key, current)| Some((key, current.content.as_ref()?)));
    let text = to_file(readable);
    let unreadable: Vec<String> =
        view.entries.iter().filter(|(_, c)| c.content.is_none()).map(|(k, _)| k.to_string()).collect();
    if !unreadable.is_empty() {
        let message = format!("left out, because a newer version wrote them: {}", unreadable.join(", "));
        notice(context.json, &message);
    }
    match path {
        None if context.json => {
            emit_json(&json!({ "file": null, "text": text, "entries": view.entries.len() }))
        }
        None => emit(&text),
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("registry file {}", path.display()))?;
            match context.json {
                true => {
                    emit_json(&json!({ "file": path.display().to_string(), "entries": view.entries.len() }))
                }
                false => Ok(()),
            }
        }
    }
}
