//! Keeps the table current: recompiles when a database file changes or when told to.
//!
//! The directories of the files are watched, not the files: a database is usually replaced by a
//! rename, which leaves a watched file behind. What an event says is not trusted; it only makes the
//! files' identities (device, inode, size, times) be compared with those last compiled. So noise in
//! the directory compiles nothing, replaced symbolic links are seen, and several changes in quick
//! succession are one.

use super::load::{Compiled, DatabaseInfo, GeoError, GeoSettings, compile};
use super::metrics::GeoMetrics;
use nearmost_core::geo::countries;
use nearmost_core::geo::table::{Located, PlaceTable};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A change is acted on when the directory has been quiet for this long...
const QUIET: Duration = Duration::from_millis(250);
/// ... or after this long, if it never is.
const MAX_SETTLE: Duration = Duration::from_secs(5);

/// Explicit reloads waiting; more wait in their senders.
const MAX_REQUESTS: usize = 8;

/// What happened to the table since the start.
#[derive(Clone, Debug, Default)]
pub struct GeoStatus {
    /// Tables that came into use, the first included.
    pub compiled: u64,
    /// Compilations refused.
    pub refused: u64,
    /// Why the last compilation was refused; `None` when it was not.
    pub last_error: Option<String>,
    /// The databases in the table in use, strongest first.
    pub databases: Arc<[DatabaseInfo]>,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A database was refused; the table in use stays.
    #[error(transparent)]
    Refused(#[from] GeoError),
    /// The service was stopped.
    #[error("the geo service has stopped")]
    Stopped,
}

/// What is known of one address, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupReport {
    /// The address asked for; IPv4-mapped ones as IPv4.
    pub address: IpAddr,
    /// Place, source and cell.
    pub located: Located,
    /// The source's name: a database's path, `embedded`, `override` or `unknown`.
    pub source: String,
    /// The country's English name.
    pub country_name: Option<&'static str>,
    /// The continent's two letters.
    pub continent: Option<&'static str>,
}

/// A handle to the task that keeps the table current. The task ends when it is cancelled or when
/// every handle is gone.
#[derive(Clone, Debug)]
pub struct GeoService {
    requests: mpsc::Sender<Request>,
    tables: watch::Receiver<Arc<PlaceTable>>,
    status: watch::Receiver<GeoStatus>,
}

impl GeoService {
    /// Compiles the databases, and from then on keeps the table that the receiver gives current.
    ///
    /// # Errors
    /// The database that was refused, by name: a broker does not start with one.
    pub async fn start(
        settings: GeoSettings,
        metrics: GeoMetrics,
        cancel: CancellationToken,
    ) -> Result<(GeoService, watch::Receiver<Arc<PlaceTable>>), GeoError> {
        let (nudge, nudges) = mpsc::channel(1);
        // Watched before it is read: a change in between is not lost.
        let watcher = FileWatcher::new(&settings, &nudge, &metrics);
        let (outcome, fingerprints) = compile_blocking(settings.clone(), &metrics).await;
        let compiled = outcome.inspect_err(|e| metrics.on_refused(e.name()))?;
        metrics.on_compiled(&compiled);
        log_compiled(&compiled);

        let status = GeoStatus { compiled: 1, databases: compiled.databases.into(), ..GeoStatus::default() };
        let (tables, tables_out) = watch::channel(Arc::new(compiled.table));
        let (status, status_out) = watch::channel(status);
        let (requests, requests_in) = mpsc::channel(MAX_REQUESTS);
        let keeper = Keeper { settings, metrics, watcher, fingerprints, nudge, tables, status };
        tokio::spawn(keeper.run(requests_in, nudges, cancel));
        Ok((GeoService { requests, tables: tables_out.clone(), status: status_out }, tables_out))
    }

    /// Reads every database again, whether it changed or not.
    ///
    /// # Errors
    /// [`ReloadError::Refused`] naming a broken database: the table in use stays.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.request(None).await
    }

    /// Compiles with other settings (other files, other overrides), and keeps those if it works.
    ///
    /// # Errors
    /// [`ReloadError::Refused`] naming a broken database: table and settings in use stay.
    pub async fn reload_with(&self, settings: GeoSettings) -> Result<(), ReloadError> {
        self.request(Some(settings)).await
    }

    async fn request(&self, settings: Option<GeoSettings>) -> Result<(), ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { settings, reply }).await.map_err(|_| ReloadError::Stopped)?;
        answer.await.map_err(|_| ReloadError::Stopped)??;
        Ok(())
    }

    /// What is known of an address.
    pub fn lookup(&self, address: IpAddr) -> LookupReport {
        let table = Arc::clone(&self.tables.borrow());
        let address = address.to_canonical();
        let located = table.locate(address);
        let country = located.place.country.and_then(countries::find);
        LookupReport {
            address,
            located,
            source: table.source_name(located.source).to_owned(),
            country_name: country.map(|c| c.name),
            continent: country.map(|c| c.continent.code()),
        }
    }

    /// Follows what happens to the table: changes after every compilation, refused ones too.
    pub fn status(&self) -> watch::Receiver<GeoStatus> {
        self.status.clone()
    }
}

#[derive(Debug)]
struct Request {
    settings: Option<GeoSettings>,
    reply: oneshot::Sender<Result<(), GeoError>>,
}

/// The task's state.
struct Keeper {
    settings: GeoSettings,
    metrics: GeoMetrics,
    watcher: FileWatcher,
    /// The files as they were when last compiled, whether they were refused or not.
    fingerprints: Fingerprints,
    nudge: mpsc::Sender<()>,
    tables: watch::Sender<Arc<PlaceTable>>,
    status: watch::Sender<GeoStatus>,
}

impl Keeper {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut nudges: mpsc::Receiver<()>,
        cancel: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    let settings = request.settings.unwrap_or_else(|| self.settings.clone());
                    // Who asked may have gone; the outcome is logged either way.
                    let _ = request.reply.send(self.recompile(settings).await);
                }
                Some(()) = nudges.recv() => {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = settle(&mut nudges) => {}
                    }
                    self.on_files_changed().await;
                }
            }
        }
    }

    async fn on_files_changed(&mut self) {
        let files = self.settings.databases.clone();
        let seen = tokio::task::spawn_blocking(move || fingerprints(&files)).await;
        if seen.is_ok_and(|seen| seen != self.fingerprints) {
            // Refusals are logged and counted where they happen.
            let _ = self.recompile(self.settings.clone()).await;
        }
    }

    async fn recompile(&mut self, settings: GeoSettings) -> Result<(), GeoError> {
        let old = &self.settings;
        let moved = settings.databases != old.databases || settings.watch != old.watch;
        // As at the start: watched before it is read.
        let watcher = moved.then(|| FileWatcher::new(&settings, &self.nudge, &self.metrics));
        let (outcome, fingerprints) = compile_blocking(settings.clone(), &self.metrics).await;
        match outcome {
            Ok(compiled) => {
                self.settings = settings;
                self.fingerprints = fingerprints;
                if let Some(watcher) = watcher {
                    self.watcher = watcher;
                }
                self.publish(compiled);
                Ok(())
            }
            Err(error) => {
                if moved {
                    self.metrics.watching.set(i64::from(self.watcher.works()));
                } else {
                    // Not again until they change again.
                    self.fingerprints = fingerprints;
                }
                self.refuse(&error);
                Err(error)
            }
        }
    }

    fn publish(&self, compiled: Compiled) {
        self.metrics.on_compiled(&compiled);
        log_compiled(&compiled);
        self.tables.send_replace(Arc::new(compiled.table));
        self.status.send_modify(|status| {
            status.compiled += 1;
            status.last_error = None;
            status.databases = compiled.databases.into();
        });
    }

    fn refuse(&self, error: &GeoError) {
        self.metrics.on_refused(error.name());
        tracing::error!(database = error.name(), %error, "geo database refused; the table in use stays");
        self.status.send_modify(|status| {
            status.refused += 1;
            status.last_error = Some(error.to_string());
        });
    }
}

/// Waits until the directory is quiet.
async fn settle(nudges: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, nudges.recv()).await {} };
    // Never quiet is as good as quiet: a half-written file is refused and read again later.
    let _ = tokio::time::timeout(MAX_SETTLE, quiet).await;
}

fn log_compiled(compiled: &Compiled) {
    for info in &compiled.databases {
        tracing::info!(
            database = info.name,
            kind = info.database_type,
            networks = info.networks,
            built = info.build_epoch_s,
            "geo database compiled"
        );
    }
}

/// Compiles where blocking is allowed; also tells what the files were just before.
async fn compile_blocking(
    settings: GeoSettings,
    metrics: &GeoMetrics,
) -> (Result<Compiled, GeoError>, Fingerprints) {
    let timer = metrics.compile_seconds.start_timer();
    let task = tokio::task::spawn_blocking(move || {
        let fingerprints = fingerprints(&settings.databases);
        (compile(&settings), fingerprints)
    });
    let done = task.await;
    timer.observe_duration();
    match done {
        Ok((outcome, fingerprints)) => (outcome, fingerprints),
        Err(e) => (Err(GeoError::Interrupted { reason: e.to_string() }), Fingerprints::new()),
    }
}

/// A file's identity: device, inode, size, and modification and change times in nanoseconds.
type Fingerprint = (u64, u64, u64, [i64; 4]);
/// Of each file, in order; `None` for one that is not there.
type Fingerprints = Vec<Option<Fingerprint>>;

fn fingerprints(files: &[PathBuf]) -> Fingerprints {
    let of = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Some((meta.dev(), meta.ino(), meta.len(), times))
    };
    files.iter().map(of).collect()
}

/// Nudges the keeper when something happens in a directory of a database.
struct FileWatcher {
    watcher: Option<RecommendedWatcher>,
}

impl FileWatcher {
    /// Watches the files' directories, unless that is not wanted. Where it cannot be done, it is said in the log and in
    /// `nearmost_geo_watching`, and an explicit reload still works.
    fn new(settings: &GeoSettings, nudge: &mpsc::Sender<()>, metrics: &GeoMetrics) -> Self {
        let files = &settings.databases;
        let wanted = settings.watch && !files.is_empty();
        let watcher = if wanted { watch_directories(files, nudge.clone()) } else { None };
        let watcher = FileWatcher { watcher };
        metrics.watching.set(i64::from(watcher.works()));
        watcher
    }

    fn works(&self) -> bool {
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
