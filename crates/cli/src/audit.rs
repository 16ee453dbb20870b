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
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    /// With --verify: that this entry still has the hash that was noted
    #[arg(long, value_name = "NUMBER:HASH", value_parser = Noted::parse, requires = "verify")]
    pub expect: Option<Noted>,
}

/// An entry's number and hash, noted earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    number: u64,
    hash: String,
}

impl Noted {
    /// As `--verify` prints them, with a colon between.
    fn parse(text: &str) -> Result<Noted, String> {
        let read = text.split_once(':').and_then(|(number, hash)| {
            let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            Some(Noted { number: number.parse().ok()?, hash: hash.to_owned() }).filter(|_| hex)
        });
        read.ok_or_else(|| {
            format!("{text:?}: expected a number, a colon and a hash of 64 hexadecimal digits")
        })
    }

    /// Compares with an entry that is there.
    fn is_at(&self, number: u64, hash: &str) -> anyhow::Result<()> {
        if number == self.number && !hash.eq_ignore_ascii_case(&self.hash) {
            bail!("entry {number} has the hash {hash}, not the one expected: the log was written anew");
        }
        Ok(())
    }

    /// Whether it was among those from `pruned` up to `last`.
    fn is_within(&self, pruned: u64, last: u64) -> anyhow::Result<()> {
        if self.number > last {
            bail!("entry {} is expected and the log ends with {last}: it was cut off", self.number);
        }
        if self.number < pruned {
            bail!(
                "entry {} cannot be compared: entries up to {pruned} are no longer kept, as keep_days and \
                 max_entries have it; expect a later one",
                self.number
            );
        }
        Ok(())
    }
}

/// The last line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    count: u64,
    /// Entries that are missing between the others.
    #[serde(default, skip_serializing_if = "is_none")]
    pruned: u64,
    head: u64,
    head_hash: String,
}

fn is_none(pruned: &u64) -> bool {
    *pruned == 0
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
        (Some(Some(file)), None) => verify_file(file, wanted.expect.as_ref()),
        (Some(None), None) if wanted.narrows() => {
            bail!("--verify checks the whole log, from which nothing may be left out")
        }
        (Some(None), export) => whole(context, export.as_deref(), wanted.expect.as_ref()).await,
        (Some(Some(_)), Some(_)) => bail!("--verify FILE reads a file that --export wrote; use one of them"),
        (None, Some(file)) if !wanted.narrows() => whole(context, Some(file), None).await,
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
                if let Some(from) = view.pruned_from {
                    return emit(&gap(from, view.number));
                }
                let entry = view.read().with_context(|| format!("entry {} cannot be read", view.number))?;
                emit(&lines(view.number, &entry))
            }
        })
    })
    .await?;
    if any || context.json { Ok(()) } else { emit("no entries\n") }
}

/// Entries that are missing within the log, for people.
fn gap(from: u64, to: u64) -> String {
    let numbers = if from == to { format!("entry {from}") } else { format!("entries {from} to {to}") };
    format!("{numbers} of agents: forgotten, since there were more than audit.max_agent_entries\n")
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
async fn whole(context: &Context, export: Option<&Path>, expect: Option<&Noted>) -> anyhow::Result<()> {
    let mut out = export.map(|file| Ok::<_, anyhow::Error>((create(file)?, file))).transpose()?;
    let mut check: Option<ChainCheck> = None;
    let (mut pruned, mut head) = (0, (0, String::new()));
    pages(context, &[("limit", PAGE.to_owned())], |page| {
        if check.is_none() {
            pruned = page.anchor;
            expect.map_or(Ok(()), |noted| noted.is_at(page.anchor, &page.anchor_hash))?;
        }
        let check = check.get_or_insert_with(|| ChainCheck::after(page.anchor, page.anchor_hash.clone()));
        let read = check.head().map_or(0, |(number, _)| number);
        if page.anchor > read {
            bail!(
                "entries {} to {} were pruned while the log was read, and nobody changed them; ask again",
                read + 1,
                page.anchor
            );
        }
        for view in &page.entries {
            if let Some((from, to)) = pruned_meanwhile(check.head().map_or(0, |(number, _)| number), view) {
                bail!(
                    "entries {from} to {to} were pruned while the log was read, of which some had been read; ask again"
                );
            }
            check.next(view)?;
            expect.map_or(Ok(()), |noted| noted.is_at(view.number, &view.hash))?;
            if let Some((out, file)) = &mut out {
                write(out, file, view)?;
            }
        }
        head = (page.head, page.head_hash.clone());
        Ok(())
    })
    .await?;
    let check = check.unwrap_or_default();
    let (number, hash) = check.head().unwrap_or((0, ""));
    if (number, hash) != (head.0, head.1.as_str()) {
        bail!(
            "the chain ends with {number} and hash {hash}, and the broker says that it ends with {} and {}",
            head.0,
            head.1
        );
    }
    check.all_told()?;
    expect.map_or(Ok(()), |noted| noted.is_within(pruned, number))?;
    if let Some((mut out, file)) = out {
        let closing =
            Closing { count: check.checked, pruned: check.pruned, head: number, head_hash: hash.to_owned() };
        write(&mut out, file, &closing)?;
        finish(out, file)?;
        emit(&format!("{} entries written to {}\n", check.checked, file.display()))?;
    }
    emit(&verdict(&check, pruned))
}

/// First and last of a gap that begins with what was read as entries before, up to number `read`: it was made since the
/// page before, and does not follow what that ended with.
fn pruned_meanwhile(read: u64, view: &AuditView) -> Option<(u64, u64)> {
    let from = view.pruned_from.filter(|from| *from <= read && read < view.number)?;
    Some((from, view.number))
}

/// Checks a file that was exported.
fn verify_file(file: &Path, expect: Option<&Noted>) -> anyhow::Result<()> {
    let name = || file.display().to_string();
    let lines = BufReader::new(File::open(file).with_context(name)?).lines();
    let mut check = ChainCheck::default();
    let (mut first, mut closing) = (None, None);
    for (at, line) in lines.enumerate() {
        let place = || format!("{}, line {}", file.display(), at + 1);
        let line = line.with_context(place)?;
        if closing.is_some() {
            bail!("{}: there is more after the closing line", place());
        }
        if let Ok(last) = serde_json::from_str::<Closing>(&line) {
            closing = Some(last);
            continue;
        }
        let view: AuditView = serde_json::from_str(&line).with_context(place)?;
        check.next(&view).with_context(place)?;
        expect.map_or(Ok(()), |noted| noted.is_at(view.number, &view.hash)).with_context(place)?;
        first.get_or_insert(view.pruned_from.unwrap_or(view.number));
    }
    let Some(closing) = closing else {
        bail!("{}: its closing line, with the number of entries, is missing: the file was cut off", name());
    };
    let last = check.head().unwrap_or((closing.head, &closing.head_hash));
    let found = (check.checked, check.pruned, last);
    check.all_told().with_context(name)?;
    if found != (closing.count, closing.pruned, (closing.head, &closing.head_hash)) {
        bail!("{}: it has {} entries, its closing line tells of {}", name(), check.checked, closing.count);
    }
    // Of what came before only the number is known.
    let before = first.map_or(closing.head, |first| first - 1);
    expect.map_or(Ok(()), |noted| noted.is_within(first.unwrap_or(closing.head), closing.head))?;
    emit(&verdict(&check, before))
}

fn verdict(check: &ChainCheck, pruned: u64) -> String {
    let Some((number, hash)) = check.head().filter(|_| check.checked > 0) else {
        return "good: no entries\n".into();
    };
    let before = match pruned {
        0 => String::new(),
        pruned => format!(", of those before only the hash of {pruned} is known"),
    };
    let within = match check.pruned {
        0 => String::new(),
        pruned => format!(", {pruned} of agents between them were forgotten as later entries tell"),
    };
    format!(
        "good: {} entries{before}{within}; up to {number} with hash {hash}\nnote the last number and its hash elsewhere: \
         they show later that nothing up to it was changed or cut off\n",
        check.checked
    )
}

/// Where a file is written until it is whole.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A file for its owner alone, which has its name only once it is whole.
fn create(file: &Path) -> anyhow::Result<BufWriter<File>> {
    let part = beside(file);
    let place = || part.display().to_string();
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).with_context(place),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    Ok(BufWriter::new(made.with_context(place)?))
}

/// One line, an entry byte by byte as it came: the hash is over these.
fn write(out: &mut BufWriter<File>, file: &Path, line: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, line).with_context(|| file.display().to_string())?;
    out.write_all(b"\n").with_context(|| file.display().to_string())
}

fn finish(mut out: BufWriter<File>, file: &Path) -> anyhow::Result<()> {
    let written = out.flush().and_then(|()| out.get_ref().sync_all());
    written.and_then(|()| std::fs::rename(beside(file), file)).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_compared_and_what_is_not_kept_is_not_called_a_fault() {
        let noted = Noted::parse(&format!("7:{}", "aB".repeat(32))).unwrap();
        noted.is_at(7, &"ab".repeat(32)).unwrap();
        noted.is_at(8, "other").unwrap();
        assert!(noted.is_at(7, &"ac".repeat(32)).unwrap_err().to_string().contains("written anew"));
        noted.is_within(7, 7).unwrap();
        assert!(noted.is_within(0, 6).unwrap_err().to_string().contains("cut off"));
        assert!(noted.is_within(8, 9).unwrap_err().to_string().contains("no longer kept"));
        for wrong in ["7", "7:", "7:ab", "x:0"] {
            assert!(Noted::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_pruned_between_two_pages_is_told_from_what_was_tampered_with() {
        let gap = |from: Option<u64>, number| -> AuditView {
            let json = serde_json::json!({
                "number": number, "previous": "", "hash": "", "entry": null, "pruned_from": from,
            });
            serde_json::from_str(&json.to_string()).unwrap()
        };
        // Up to 12 were read, then 9 to 14 went.
        assert_eq!(pruned_meanwhile(12, &gap(Some(9), 14)), Some((9, 14)));
        // One that follows, one that is over, and an entry, are for the check of the chain.
        for (from, number) in [(Some(13), 14), (Some(9), 12), (Some(15), 16), (None, 13)] {
            assert_eq!(pruned_meanwhile(12, &gap(from, number)), None, "{from:?} {number}");
        }
    }

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
