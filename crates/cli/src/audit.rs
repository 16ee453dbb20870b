//! Who did what with the broker: the audit log, shown, exported and checked.

use crate::broker::Context;
use crate::outages::Past;
use crate::output::{emit, escaped};
use anyhow::{Context as _, bail};
use clap::Args;
use nearmost_client::api::{AuditEntry, AuditResponse, AuditView, ChainCheck};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::audited;
use nearmost_client::text::printable;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Entries asked for at once: pages are bounded on either side, however long the log is.
const PAGE: &str = "1000";

/// `nearmost audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// From when on: 24h ago, say, or 2026-11-29T22:00 (UTC). Default: 24h, or everything for --export and
    /// --verify
    #[arg(long, value_name = "TIME", value_parser = Past::parse)]
    pub since: Option<Past>,
    /// Until when; default: now
    #[arg(long, value_name = "TIME", value_parser = Past::parse)]
    pub until: Option<Past>,
    /// Only of this actor: np1…, "token NAME", "uid N", SIGHUP
    #[arg(long)]
    pub actor: Option<String>,
    /// Only this act: backup, mirror.change; mirror is all that happened to mirrors
    #[arg(long)]
    pub act: Option<String>,
    /// Only about this: a domain with all in it, DOMAIN/MIRROR, a node, or a kind such as drain
    #[arg(long)]
    pub target: Option<String>,
    /// Write the entries to a file, a line of JSON each
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Check that nothing was changed or left out, in the broker's log, or in an exported file
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub verify: Option<Option<PathBuf>>,
}

impl AuditArgs {
    /// Whether entries may be left out, so that there is no chain to check.
    fn narrows(&self) -> bool {
        self.since.is_some()
            || self.until.is_some()
            || self.actor.is_some()
            || self.act.is_some()
            || self.target.is_some()
    }

    fn query(&self, since: Option<Past>) -> Vec<(&'static str, String)> {
        let now = now_unix_ms();
        let mut query = vec![("limit", PAGE.to_owned())];
        query.extend(since.map(|since| ("since_unix_ms", since.unix_ms(now).to_string())));
        query.extend(self.until.map(|until| ("until_unix_ms", until.unix_ms(now).to_string())));
        query.extend(self.actor.clone().map(|actor| ("actor", actor)));
        query.extend(self.act.clone().map(|act| ("act", act)));
        query.extend(self.target.clone().map(|target| ("target", target)));
        query
    }
}

/// Shows, exports or checks.
pub async fn audit(context: &Context, wanted: &AuditArgs) -> anyhow::Result<()> {
    match (&wanted.verify, &wanted.export) {
        (Some(Some(file)), None) => verify_file(file),
        (Some(None), None) if wanted.narrows() => {
            bail!("--verify checks the whole log, from which nothing may be left out")
        }
        (Some(None), export) => whole(context, export.as_deref()).await,
        (Some(Some(_)), Some(_)) => bail!("--verify FILE reads a file that --export wrote; use one of them"),
        (None, Some(file)) if !wanted.narrows() => whole(context, Some(file)).await,
        (None, Some(file)) => {
            let mut out = create(file)?;
            let mut written = 0_u64;
            pages(context, &wanted.query(wanted.since), |page| {
                written += page.entries.len() as u64;
                page.entries.iter().try_for_each(|view| write(&mut out, file, view))
            })
            .await?;
            finish(out, file)?;
            emit(&format!(
                "{written} entries written to {}; what was left out keeps it from being checked\n",
                file.display()
            ))
        }
        (None, None) => show(context, wanted).await,
    }
}

/// Asks page after page.
async fn pages(
    context: &Context,
    query: &[(&'static str, String)],
    mut take: impl FnMut(&AuditResponse) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after = String::from("0");
    loop {
        let mut asked: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
        asked.push(("after", &after));
        let page = context.client.audit(&asked).await?;
        take(&page)?;
        let next = page.next_after.to_string();
        if !page.more || next == after {
            return Ok(());
        }
        after = next;
    }
}

async fn show(context: &Context, wanted: &AuditArgs) -> anyhow::Result<()> {
    let since = wanted.since.or_else(|| Past::parse("24h").ok());
    let mut any = false;
    pages(context, &wanted.query(since), |page| {
        any |= !page.entries.is_empty();
        page.entries.iter().try_for_each(|view| match context.json {
            // A line each, as they may be many.
            true => emit(&escaped(&format!("{}\n", serde_json::to_string(view)?))),
            false => {
                let entry = view.read().with_context(|| format!("entry {} cannot be read", view.number))?;
                emit(&lines(view.number, &entry))
            }
        })
    })
    .await?;
    if any || context.json { Ok(()) } else { emit("no entries\n") }
}

/// An entry for people.
fn lines(number: u64, entry: &AuditEntry) -> String {
    let source = entry.source.as_ref().map_or_else(String::new, |source| format!(" from {source}"));
    let mut head = format!(
        "{number}  {}  {} ({}{source})  {}",
        moment::show(entry.at_unix_ms),
        printable(&entry.actor),
        entry.via,
        entry.act
    );
    let parts = [
        (!entry.target.is_empty()).then(|| printable(&entry.target)),
        (entry.outcome != "done").then(|| match &entry.code {
            Some(code) => format!("{}: {code}", entry.outcome),
            None => entry.outcome.clone(),
        }),
        (entry.count > 1).then(|| format!("{} times", entry.count)),
        entry.batch.map(|batch| format!("change {batch}")),
        entry.part.as_ref().map(|part| format!("part {part}")),
        (!entry.note.is_empty()).then(|| printable(&entry.note)),
    ];
    for part in parts.into_iter().flatten() {
        head.push_str(&format!("  {part}"));
    }
    let mut text = format!("{head}\n");
    for change in &entry.changes {
        let author = change.author.as_ref().filter(|author| **author != entry.actor);
        let author = author.map_or_else(String::new, |author| format!("  (signed by {author})"));
        text.push_str(&format!("  {}{author}\n", printable(&audited::told(change))));
    }
    text
}

/// Checks the whole log, and writes it to a file where one is given.
async fn whole(context: &Context, export: Option<&Path>) -> anyhow::Result<()> {
    let mut out = export.map(|file| Ok::<_, anyhow::Error>((create(file)?, file))).transpose()?;
    let mut check: Option<ChainCheck> = None;
    let mut pruned = 0;
    pages(context, &[("limit", PAGE.to_owned())], |page| {
        if check.is_none() {
            pruned = page.anchor;
        }
        // Pruning while it is read takes the beginning away, which is read by then.
        let check = check.get_or_insert_with(|| ChainCheck::after(page.anchor, page.anchor_hash.clone()));
        for view in &page.entries {
            check.next(view)?;
            if let Some((out, file)) = &mut out {
                write(out, file, view)?;
            }
        }
        Ok(())
    })
    .await?;
    let check = check.unwrap_or_default();
    if let Some((out, file)) = out {
        finish(out, file)?;
        emit(&format!("{} entries written to {}\n", check.checked, file.display()))?;
    }
    emit(&verdict(&check, pruned))
}

/// Checks a file that was exported.
fn verify_file(file: &Path) -> anyhow::Result<()> {
    let name = || file.display().to_string();
    let lines = BufReader::new(File::open(file).with_context(name)?).lines();
    let mut check = ChainCheck::default();
    let mut first = None;
    for (at, line) in lines.enumerate() {
        let place = || format!("{}, line {}", file.display(), at + 1);
        let view: AuditView = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        check.next(&view).with_context(place)?;
        first.get_or_insert(view.number);
    }
    emit(&verdict(&check, first.map_or(0, |first| first - 1)))
}

fn verdict(check: &ChainCheck, pruned: u64) -> String {
    let Some((number, hash)) = check.head().filter(|_| check.checked > 0) else {
        return "good: no entries\n".into();
    };
    let before = match pruned {
        0 => String::new(),
        pruned => format!(", of those before only the hash of {pruned} is known"),
    };
    format!(
        "good: {} entries{before}; up to {number} with hash {hash}\nnote the last number and its hash elsewhere: \
         they show later that nothing up to it was changed or cut off\n",
        check.checked
    )
}

fn create(file: &Path) -> anyhow::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(file).with_context(|| file.display().to_string())?))
}

/// One line, byte by byte as it came: the hash is over these.
fn write(out: &mut BufWriter<File>, file: &Path, view: &AuditView) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, view).with_context(|| file.display().to_string())?;
    out.write_all(b"\n").with_context(|| file.display().to_string())
}

fn finish(mut out: BufWriter<File>, file: &Path) -> anyhow::Result<()> {
    out.flush().and_then(|()| out.get_ref().sync_all()).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_with_what_it_changed_and_who_signed() {
        let json = serde_json::json!({
            "at_unix_ms": 0, "actor": "uid 0", "via": "socket", "act": "mirror.change", "outcome": "done",
            "version": 3, "batch": 2, "note": "nearmost \u{1b}[31m",
            "changes": [{
                "kind": "mirror", "name": "play.test/lon", "author": "np1ada",
                "before": { "port": 80 }, "after": { "port": 443 },
            }],
        });
        let entry: AuditEntry = serde_json::from_value(json).unwrap();
        assert_eq!(
            lines(7, &entry),
            "7  1970-01-01 00:00:00 UTC  uid 0 (socket)  mirror.change  change 2  nearmost \\u{1b}[31m\n  \
             ~ mirror play.test/lon  port: 80 → 443  (signed by np1ada)\n"
        );
        let refused = AuditEntry {
            outcome: "refused".into(),
            code: Some("invalid".into()),
            count: 9,
            batch: None,
            note: String::new(),
            source: Some("192.0.2.1".into()),
            changes: Vec::new(),
            ..entry
        };
        let told = lines(8, &refused);
        assert!(
            told.ends_with("(socket from 192.0.2.1)  mirror.change  refused: invalid  9 times\n"),
            "{told}"
        );
    }
}
