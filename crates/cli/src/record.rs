//! `nearmost record …`: what applications share through the federation.

use crate::broker::Context;
use crate::output::{emit, emit_json, escaped, notice};
use crate::state::{Saying, say};
use crate::table::Table;
use crate::time::{When, parse_duration};
use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};
use nearmost_client::api::AppRecordView;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::federation::RecordNotice;
use nearmost_client::moment;
use nearmost_client::registry::app::{self, AppKey, AppKind, AppRecord, AppRule};
use nearmost_client::text::printable;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest file read, in bytes; a record's body is much shorter.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What applications share through the federation.
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Write a record; a record as a whole has 4096 bytes at most
    Put(PutArgs),
    /// Print a domain's records, or one of them with its body
    Get {
        /// The domain
        domain: String,
        /// Which one
        id: Option<String>,
        /// Of which kind
        #[command(flatten)]
        kind: KindArgs,
        /// Print the body of one record as it is, and nothing else
        #[arg(long, requires = "id", conflicts_with = "json")]
        raw: bool,
    },
    /// Remove a record
    Remove {
        /// The domain
        domain: String,
        /// Which one
        id: String,
        /// Of which kind
        #[command(flatten)]
        kind: KindArgs,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow a domain's records: first what stands, then changes as they come
    Watch {
        /// The domain
        domain: String,
        /// Of which kind
        #[command(flatten)]
        kind: KindArgs,
    },
}

/// Of which kind.
#[derive(Debug, Default, Args)]
pub struct KindArgs {
    /// The application's kind: a number up to 4095, or removal-wins:N or restrictive:N. Where records are
    /// asked for: of this kind only; where one is written or removed: 0 if nothing is said
    #[arg(long)]
    kind: Option<AppKind>,
    /// How records of the kind merge, in the place of what stands before its number. last-writer: the later
    /// write stands. removal-wins: what was removed stays removed. restrictive: of two at one moment the one
    /// that lasts longer stands; it ends by itself
    #[arg(long, value_parser = rule, value_name = "RULE")]
    merge: Option<AppRule>,
}

impl KindArgs {
    fn given(&self) -> Option<AppKind> {
        match (self.kind, self.merge) {
            (None, None) => None,
            (kind, None) => kind,
            (kind, Some(rule)) => Some(kind.unwrap_or_default().with_rule(rule)),
        }
    }

    fn number(&self) -> Option<u16> {
        self.given().map(AppKind::whole_number)
    }
}

/// Which record, and what it says.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("content").required(true).args(["file", "text"])),
    override_usage = "nearmost record put [OPTIONS] <DOMAIN> <ID> <FILE|--text <TEXT>>"
)]
pub struct PutArgs {
    /// The domain
    domain: String,
    /// Which one
    id: String,
    /// The file with its body; - reads standard input
    file: Option<PathBuf>,
    /// Its body
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,
    /// Of which kind
    #[command(flatten)]
    kind: KindArgs,
    /// Of a restrictive kind: until then, e.g. 2027-01-01 or +90d; else for ever
    #[arg(long, value_name = "TIME", value_parser = When::parse_day, conflicts_with = "duration", allow_hyphen_values = true)]
    until: Option<When>,
    /// Of a restrictive kind: for so long, e.g. 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

fn rule(text: &str) -> Result<AppRule, String> {
    let found = AppRule::ALL.into_iter().find(|rule| rule.as_str() == text);
    found.ok_or_else(|| format!("expected {}", AppRule::ALL.map(AppRule::as_str).join(", ")))
}

/// Carries out a command.
pub async fn run(context: &Context, command: RecordCommand) -> anyhow::Result<()> {
    match command {
        RecordCommand::Put(args) => put(context, &args).await,
        RecordCommand::Get { domain, id: Some(id), kind, raw } => {
            one(context, &domain, &id, &kind, raw).await
        }
        RecordCommand::Get { domain, id: None, kind, .. } => list(context, &domain, &kind).await,
        RecordCommand::Remove { domain, id, kind, dry_run } => {
            let key = AppKey::new(&domain, kind.given().unwrap_or_default(), &id)?;
            let note = format!("remove {key}");
            say(context, Saying::new(&note, dry_run), |held, _| app::remove(held, &key)).await?;
            Ok(())
        }
        RecordCommand::Watch { domain, kind } => watch(context, &domain, &kind).await,
    }
}

async fn put(context: &Context, args: &PutArgs) -> anyhow::Result<()> {
    let key = AppKey::new(&args.domain, args.kind.given().unwrap_or_default(), &args.id)?;
    let body = match (&args.text, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        // The command line has one of the two.
        (None, None) => Vec::new(),
    };
    let until = args.until.or(args.duration.map(When::In)).map(|when| when.unix_ms(now_unix_ms()));
    let note = format!("put {key}");
    say(context, Saying::new(&note, args.dry_run), |held, _| app::put(held, &key, &body, until)).await?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (name, source): (String, Box<dyn Read>) = match path.to_str() {
        Some("-") => ("standard input".into(), Box::new(std::io::stdin())),
        _ => {
            let name = format!("file {}", path.display());
            let file = std::fs::File::open(path).with_context(|| name.clone())?;
            (name, Box::new(file))
        }
    };
    let mut bytes = Vec::new();
    let read = source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    if read as u64 > MAX_FILE_BYTES {
        bail!("{name}: longer than {MAX_FILE_BYTES} bytes, and a record has 4096 at most");
    }
    Ok(bytes)
}

async fn list(context: &Context, domain: &str, kind: &KindArgs) -> anyhow::Result<()> {
    let found = context.client.app_records(domain, kind.number(), None).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&found)?);
    }
    let mut table = Table::new(&["KIND", "ID", "BYTES", "UNTIL", "WRITTEN", "AUTHOR"]);
    for view in &found.records {
        let record = AppRecord::of(view)?;
        table.row(vec![
            record.kind.clone(),
            view.id.clone(),
            record.body.as_ref().map_or("-".into(), |body| body.len().to_string()),
            record.until_unix_ms.map_or("-".into(), end),
            moment::show(view.hlc_millis),
            view.author.clone(),
        ]);
    }
    table.print("no records")
}

async fn one(context: &Context, domain: &str, id: &str, kind: &KindArgs, raw: bool) -> anyhow::Result<()> {
    let found = context.client.app_records(domain, kind.number(), Some(id)).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&found)?);
    }
    // Among several kinds a removed one is of no interest where another is there.
    let live: Vec<&AppRecordView> = found.records.iter().filter(|view| view.body.is_some()).collect();
    let view = match (live[..].as_ref(), found.records.as_slice()) {
        ([one], _) => one,
        ([], [removed, ..]) => {
            bail!("it was removed at {} by {}", moment::show(removed.hlc_millis), removed.author)
        }
        ([], []) => bail!("there is no record {id:?} in {domain}"),
        (several, _) => {
            let kinds: Vec<String> =
                several.iter().map(|v| AppRecord::of(v).map(|r| r.kind)).collect::<Result<_, _>>()?;
            bail!("several kinds have a record {id:?}, choose one with --kind: {}", kinds.join(", "))
        }
    };
    let record = AppRecord::of(view)?;
    let body = record.body.unwrap_or_default();
    if raw {
        let mut out = std::io::stdout().lock();
        return out.write_all(&body).and_then(|()| out.flush()).context("standard output");
    }
    let until = record.until_unix_ms.map(|at| format!("until    {}\n", end(at))).unwrap_or_default();
    emit(&format!(
        "kind     {}\nauthor   {}\nwritten  {}\n{until}bytes    {}\n\n{}\n",
        record.kind,
        view.author,
        moment::show(view.hlc_millis),
        body.len(),
        text(&body)
    ))
}

/// A body for a terminal.
fn text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.trim_end_matches('\n').to_owned(),
        Err(_) => "not text; --raw prints it".into(),
    }
}

fn end(unix_ms: u64) -> String {
    if unix_ms == u64::MAX { "for ever".into() } else { moment::show(unix_ms) }
}

async fn watch(context: &Context, domain: &str, kind: &KindArgs) -> anyhow::Result<()> {
    let mut records = context.client.watch_app_records(domain, kind.number())?;
    loop {
        match records.next().await? {
            RecordNotice::Record(view) if context.json => {
                emit(&escaped(&format!("{}\n", serde_json::to_string(&view)?)))?;
            }
            RecordNotice::Record(view) => emit(&line(&view)?)?,
            RecordNotice::Lost { why, retry_in } => {
                let why = why.map_or("the broker ended the stream".into(), |e| e.to_string());
                let message = format!(
                    "{}; trying again in {:.1} s. What was removed meanwhile is not told",
                    printable(&why),
                    retry_in.as_secs_f64()
                );
                notice(context.json, &message);
            }
        }
    }
}

/// `+ ID of kind 5, 12 bytes, by np1… at 2026-…`, or `-` where it was removed.
fn line(view: &AppRecordView) -> anyhow::Result<String> {
    let record = AppRecord::of(view)?;
    let (sign, what) = match &record.body {
        Some(body) => ('+', format!(", {} bytes", body.len())),
        None => ('-', String::new()),
    };
    let until = record.until_unix_ms.map(|at| format!(", until {}", end(at))).unwrap_or_default();
    Ok(format!(
        "{}  {sign} {} of kind {}{what}{until}, by {}\n",
        moment::show(view.hlc_millis),
        printable(&view.id),
        record.kind,
        view.author
    ))
}
