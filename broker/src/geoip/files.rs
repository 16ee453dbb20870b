//! Whether database files changed: their identities, and who tells when to look at them.

use super::load::GeoSettings;
use super::metrics::GeoMetrics;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// A file's identity: device, inode, size, and modification and change times in nanoseconds.
type Fingerprint = (u64, u64, u64, [i64; 4]);
/// Of each file, in order; `None` for one that is not there.
pub(super) type Fingerprints = Vec<Option<Fingerprint>>;

pub(super) fn fingerprints(files: &[PathBuf]) -> Fingerprints {
    let of = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Some((meta.dev(), meta.ino(), meta.len(), times))
    };
    files.iter().map(of).collect()
}

/// Nudges the keeper when something happens in a directory of a database.
pub(super) struct FileWatcher {
    watcher: Option<RecommendedWatcher>,
}

impl FileWatcher {
    /// Watches the files' directories, unless that is not wanted. Where it cannot be done, it is said in the
    /// log and in `nearmost_geo_watching`, and an explicit reload still works.
    pub(super) fn new(settings: &GeoSettings, nudge: &mpsc::Sender<()>, metrics: &GeoMetrics) -> Self {
        let files = &settings.databases;
        let wanted = settings.watch && !files.is_empty();
        let watcher = if wanted { watch_directories(files, nudge.clone()) } else { None };
        let watcher = FileWatcher { watcher };
        metrics.watching.set(i64::from(watcher.works()));
        watcher
    }

    pub(super) fn works(&self) -> bool {
        self.watcher.is_some()
    }
}

fn watch_directories(files: &[PathBuf], nudge: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.as_ref().map_or(true, |event| may_change_a_file(event.kind)) {
            // Full means that the keeper is about to look anyway.
            let _ = nudge.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(on_event)
        .inspect_err(|error| tracing::warn!(%error, "geo databases cannot be watched; reload by hand"))
        .ok()?;
    for directory in directories(files) {
        if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, directory = %directory.display(), "geo databases cannot be watched; reload by hand");
            return None;
        }
    }
    Some(watcher)
}

/// Our own reading must not wake us.
fn may_change_a_file(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directories that name the files, and those that hold them where names are symbolic links.
fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    };
    files
        .iter()
        .flat_map(|file| [parent(file), file.canonicalize().ok().as_deref().and_then(parent)])
        .flatten()
        .collect()
}
