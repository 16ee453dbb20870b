//! One JSON object a line, at the end of a file or on standard error.
//!
//! A file that was moved away (as logrotate does) is opened anew, so nobody has to be told. When the disk
//! is full, what cannot be written is dropped and counted; a line that was cut off is ended first when
//! writing goes on.

use super::{BATCH, ClientDetail, Entry, JsonTarget, QueryLogError, SinkMetrics, next, privacy};
use crate::clock::{mono_now, utc};
use crate::dns::options::{self, COOKIE};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use nearmost_dns::query;
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

/// How often is looked whether the file was moved away.
const LOOK: Duration = Duration::from_secs(1);

/// Writes lines.
pub(super) struct Writer {
    target: Target,
    detail: ClientDetail,
    metrics: SinkMetrics,
    /// Whether the last write failed: said once.
    failing: bool,
}

enum Target {
    Stderr,
    File(LogFile),
}

impl Writer {
    /// Opens the target.
    pub(super) fn open(
        target: &JsonTarget,
        detail: ClientDetail,
        metrics: SinkMetrics,
    ) -> Result<Writer, QueryLogError> {
        let target = match target {
            JsonTarget::Stderr => Target::Stderr,
            JsonTarget::File(path) => {
                let named = |source| QueryLogError { path: path.clone(), source };
                Target::File(LogFile::open(path).map_err(named)?)
            }
        };
        Ok(Writer { target, detail, metrics, failing: false })
    }

    /// Writes what comes until told to stop and nothing is left.
    pub(super) async fn run(mut self, mut queue: Receiver<Arc<Entry>>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut text = Vec::new();
        loop {
            next(&mut queue, &mut batch, &stop).await;
            if batch.is_empty() {
                return;
            }
            text.clear();
            for entry in &batch {
                // Nothing in a line can fail to be written to memory.
                if serde_json::to_writer(&mut text, &line(entry, self.detail)).is_ok() {
                    text.push(b'\n');
                }
            }
            self.write(&text, batch.len() as u64).await;
        }
    }

    async fn write(&mut self, text: &[u8], lines: u64) {
        let written = match &mut self.target {
            Target::Stderr => stderr(text.to_vec()).await,
            Target::File(file) => file.append(text).await,
        };
        match written {
            Ok(()) => {
                self.metrics.written.inc_by(lines);
                self.failing = false;
            }
            Err(error) => {
                self.metrics.dropped.inc_by(lines);
                self.metrics.errors.inc();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the query log cannot be written");
                }
            }
        }
    }
}

/// Writes whole lines between those of the program's log.
async fn stderr(text: Vec<u8>) -> io::Result<()> {
    use std::io::Write;
    let written = tokio::task::spawn_blocking(move || io::stderr().lock().write_all(&text));
    written.await.map_err(io::Error::other)?
}

/// A file that is only ever appended to.
struct LogFile {
    path: PathBuf,
    file: tokio::fs::File,
    /// Which file is open: device and inode.
    id: (u64, u64),
    looked: Instant,
    /// The last write may have ended inside a line.
    torn: bool,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        use std::os::unix::fs::OpenOptionsExt;
        // Who asked what is nobody's business but the operator's.
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let meta = file.metadata()?;
        Ok(LogFile {
            path: path.into(),
            file: file.into(),
            id: (meta.dev(), meta.ino()),
            looked: mono_now(),
            torn: false,
        })
    }

    async fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let now = mono_now();
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            let there = tokio::fs::metadata(&self.path).await.ok();
            if there.is_none_or(|meta| (meta.dev(), meta.ino()) != self.id) {
                let path = self.path.clone();
                let opened = tokio::task::spawn_blocking(move || LogFile::open(&path)).await;
                *self = opened.map_err(io::Error::other)??;
            }
        }
        if self.torn {
            self.file.write_all(b"\n").await?;
        }
        self.torn = true;
        self.file.write_all(text).await?;
        self.file.flush().await?;
        self.torn = false;
        Ok(())
    }
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339 in UTC, to the millisecond.
    time: String,
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(flatten)]
    asked: Asked,
    #[serde(flatten)]
    answered: Answered<'a>,
    latency_us: u64,
    /// Why the message was not accepted as a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// What the query says.
#[derive(Serialize)]
struct Asked {
    /// In lower case, with the final dot.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecs: Option<String>,
    /// `client`, or `server` where one of ours came back with it (RFC 7873 §4).
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<&'static str>,
}

/// What the reply says.
#[derive(Serialize)]
struct Answered<'a> {
    /// Absent when there was no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<&'static str>,
    /// Of the reply, and `do` of the query.
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    /// Best first.
    mirrors: Vec<&'a str>,
    bytes: usize,
}

fn line(entry: &Entry, detail: ClientDetail) -> Line<'_> {
    let whole = utc(entry.at.0);
    let seconds = whole.trim_end_matches('Z');
    Line {
        time: format!("{seconds}.{:03}Z", entry.at.0 % 1000),
        transport: entry.transport.as_str(),
        client: client(entry, detail),
        asked: asked(entry, detail),
        answered: answered(entry),
        latency_us: u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
        error: entry.outcome.error.map(|e| e.kind.as_str()),
    }
}

fn client(entry: &Entry, detail: ClientDetail) -> Option<String> {
    let source = entry.source.to_canonical();
    match detail {
        ClientDetail::Full => Some(source.to_string()),
        _ => privacy::network(detail, source, u8::MAX).map(|net| net.to_string()),
    }
}

fn asked(entry: &Entry, detail: ClientDetail) -> Asked {
    let (name, kind, ecs) = match query::parse(&entry.query) {
        Ok(query) => (name(query.name.wire()), Some(query.qtype), query.edns.and_then(|e| e.options.ecs)),
        Err(rejection) => {
            let name = rejection.question.and_then(name);
            let kind = rejection.question.and_then(|q| q.split_last_chunk::<4>());
            (name, kind.map(|(_, end)| u16::from_be_bytes([end[0], end[1]])), None)
        }
    };
    let mut cookie = None;
    options::each(&entry.query, |code, at| {
        if code == COOKIE {
            cookie = Some(if at.len() > 8 { "server" } else { "client" });
        }
    });
    Asked {
        name,
        kind: kind.map(type_name),
        ecs: ecs.and_then(|e| privacy::network(detail, e.address, e.source)).map(|net| net.to_string()),
        cookie,
    }
}

/// An uncompressed name at the front of these bytes.
fn name(wire: &[u8]) -> Option<String> {
    Name::from_bytes(wire).ok().map(|name| name.to_lowercase().to_ascii())
}

/// A type's mnemonic, or `TYPE` and its number (RFC 3597 §5).
fn type_name(code: u16) -> String {
    match RecordType::from(code) {
        RecordType::Unknown(code) => format!("TYPE{code}"),
        known => known.to_string(),
    }
}

fn answered(entry: &Entry) -> Answered<'_> {
    const FLAGS: [(usize, u8, &str); 6] =
        [(2, 4, "aa"), (2, 2, "tc"), (2, 1, "rd"), (3, 0x80, "ra"), (3, 0x20, "ad"), (3, 0x10, "cd")];
    let set = |&(at, bit, _): &(usize, u8, &str)| entry.reply.get(at).is_some_and(|byte| byte & bit != 0);
    let mut flags: Vec<&'static str> =
        FLAGS.iter().filter(|flag| set(flag)).map(|(.., name)| *name).collect();
    if query::parse(&entry.query).is_ok_and(|q| q.edns.is_some_and(|e| e.dnssec_ok)) {
        flags.push("do");
    }
    let registry = &entry.registry;
    let domain = entry.outcome.domain.and_then(|d| registry.domains.get(d.0 as usize));
    let mirror = |m: &nearmost_core::registry::MirrorIndex| registry.mirrors.get(m.0 as usize);
    Answered {
        rcode: (!entry.reply.is_empty()).then(|| entry.outcome.rcode.as_str()),
        flags,
        scope: entry.outcome.scope,
        domain: domain.map(|d| &*d.name),
        mirrors: entry.outcome.mirrors.iter().filter_map(mirror).map(|m| &*m.name).collect(),
        bytes: entry.reply.len(),
    }
}

#[cfg(test)]
pub(super) fn written(entry: &super::Seen<'_>, detail: ClientDetail) -> serde_json::Value {
    serde_json::to_value(line(&entry.kept(), detail)).unwrap()
}
