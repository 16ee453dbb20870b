//! Keeps the table current: recompiles when a database file changes or when told to.
//!
//! The directories of the files are watched, not the files: a database is usually replaced by a
//! rename, which leaves a watched file behind. What an event says is not trusted; it only makes the
//! files' identities (device, inode, size, times) be compared with those last compiled. So noise in
//! the directory compiles nothing, replaced symbolic links are seen, and several changes in quick
//! succession are one.

use super::files::{FileWatcher, Fingerprints, fingerprints};
use super::load::{Compiled, DatabaseInfo, GeoError, GeoSettings, compile_telling};
use super::metrics::GeoMetrics;
use super::tables::{Corrections, Tables};
use ipnet::IpNet;
use nearmost_core::geo::table::{Located, PlaceTable};
use nearmost_core::geo::{Place, countries};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A change is acted on when the directory has been quiet for this long...
const QUIET: Duration = Duration::from_millis(250);
/// ... or after this long, if it never is.
const MAX_SETTLE: Duration = Duration::from_secs(5);

/// How long a start waits for the databases to be compiled.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often the log tells how far that is.
const TELL: Duration = Duration::from_secs(2);

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
    /// Whether the configured databases are in use, and not the embedded one in their stead.
    pub complete: bool,
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
        GeoService::start_within(PATIENCE, settings, metrics, cancel).await
    }

    /// The same with another patience than [`PATIENCE`].
    pub(super) async fn start_within(
        patience: Duration,
        settings: GeoSettings,
        metrics: GeoMetrics,
        cancel: CancellationToken,
    ) -> Result<(GeoService, watch::Receiver<Arc<PlaceTable>>), GeoError> {
        // Watched before it is read: a change in between is not lost.
        let (nudge, nudges) = mpsc::channel::<()>(1);
        let watcher = FileWatcher::new(&settings, &nudge, &metrics);
        let mut compiling = Compiling::begin(settings.clone(), metrics.clone());
        let (done, first) = match tokio::time::timeout(patience, compiling.done()).await {
            Ok(done) => (done, None),
            Err(_) => {
                tracing::info!(
                    "reading the geo databases takes a while; until then the embedded one answers"
                );
                let embedded = GeoSettings { databases: Vec::new(), ..settings.clone() };
                (Compiling::begin(embedded, metrics.clone()).done().await, Some(compiling))
            }
        };
        let (outcome, fingerprints) = done;
        let compiled = outcome.inspect_err(|e| metrics.on_refused(e.name()))?;
        metrics.on_compiled(&compiled);
        log_compiled(&compiled);

        let status = GeoStatus {
            compiled: 1,
            databases: compiled.databases.into(),
            complete: first.is_none(),
            ..GeoStatus::default()
        };
        let tables = Tables::new(compiled.table, settings.overrides.clone(), metrics.clone()).await?;
        let tables_out = tables.published.subscribe();
        let (status, status_out) = watch::channel(status);
        let (requests, requests_in) = mpsc::channel(MAX_REQUESTS);
        let keeper = Keeper { settings, metrics, watcher, fingerprints, nudge, tables, status };
        tokio::spawn(keeper.run(first, requests_in, nudges, cancel));
        Ok((GeoService { requests, tables: tables_out.clone(), status: status_out }, tables_out))
    }

    /// Reads every database again, whether it changed or not.
    ///
    /// # Errors
    /// [`ReloadError::Refused`] naming a broken database: the table in use stays.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.request(Change::Nothing).await
    }

    /// Compiles with other settings (other files, other overrides), and keeps those if it works.
    ///
    /// # Errors
    /// [`ReloadError::Refused`] naming a broken database: table and settings in use stay.
    pub async fn reload_with(&self, settings: GeoSettings) -> Result<(), ReloadError> {
        self.request(Change::Settings(settings)).await
    }

    /// Lays the corrections in the registry over the databases' table; those of the settings win over
    /// them where both are of one prefix. No database is read for that.
    ///
    /// # Errors
    /// [`ReloadError::Refused`] when they do not fit into a table, and the one in use stays.
    pub async fn correct(&self, registered: Vec<(IpNet, Place)>) -> Result<(), ReloadError> {
        self.request(Change::Corrections(registered)).await
    }

    async fn request(&self, change: Change) -> Result<(), ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { change, reply }).await.map_err(|_| ReloadError::Stopped)?;
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
    change: Change,
    reply: oneshot::Sender<Result<(), GeoError>>,
}

/// What is to be different.
#[derive(Debug)]
enum Change {
    /// Files may be, whatever they look like.
    Nothing,
    Settings(GeoSettings),
    Corrections(Corrections),
}

/// The task's state.
struct Keeper {
    settings: GeoSettings,
    metrics: GeoMetrics,
    watcher: FileWatcher,
    /// The files as they were when last compiled, whether they were refused or not.
    fingerprints: Fingerprints,
    nudge: mpsc::Sender<()>,
    tables: Tables,
    status: watch::Sender<GeoStatus>,
}

impl Keeper {
    async fn run(
        mut self,
        first: Option<Compiling>,
        mut requests: mpsc::Receiver<Request>,
        mut nudges: mpsc::Receiver<()>,
        cancel: CancellationToken,
    ) {
        if let Some(first) = first {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.finish(first) => {}
            }
        }
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    let done = match request.change {
                        Change::Nothing => self.recompile(self.settings.clone()).await,
                        Change::Settings(settings) => self.recompile(settings).await,
                        Change::Corrections(registered) => self.correct(registered).await,
                    };
                    // Who asked may have gone; the outcome is logged either way.
                    let _ = request.reply.send(done);
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

    /// Waits for the databases that the start did not wait for.
    async fn finish(&mut self, mut first: Compiling) {
        let mut tick = tokio::time::interval(TELL);
        let (outcome, fingerprints) = loop {
            tokio::select! {
                done = first.done() => break done,
                _ = tick.tick() => {
                    tracing::info!(networks = self.metrics.networks_read.get(), "reading the geo databases");
                }
            }
        };
        self.fingerprints = fingerprints;
        let done = match outcome {
            Ok(compiled) => self.publish(compiled).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.refuse(&error);
        }
    }

    async fn correct(&mut self, registered: Corrections) -> Result<(), GeoError> {
        if registered == self.tables.registered {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.tables.registered, registered);
        let done = self.tables.publish().await;
        if let Err(error) = &done {
            self.tables.registered = before;
            tracing::error!(%error, "corrected places not taken; the table in use stays");
        }
        done
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
        let (outcome, fingerprints) = Compiling::begin(settings.clone(), self.metrics.clone()).done().await;
        let configured = settings.overrides.clone();
        let done = match outcome {
            Ok(compiled) => {
                let before = std::mem::replace(&mut self.tables.configured, configured);
                let done = self.publish(compiled).await;
                if done.is_err() {
                    self.tables.configured = before;
                }
                done
            }
            Err(error) => Err(error),
        };
        match &done {
            Ok(()) => {
                self.settings = settings;
                self.fingerprints = fingerprints;
                if let Some(watcher) = watcher {
                    self.watcher = watcher;
                }
            }
            Err(error) => {
                if moved {
                    self.metrics.watching.set(i64::from(self.watcher.works()));
                } else {
                    // Not again until they change again.
                    self.fingerprints = fingerprints;
                }
                self.refuse(error);
            }
        }
        done
    }

    async fn publish(&mut self, compiled: Compiled) -> Result<(), GeoError> {
        self.metrics.on_compiled(&compiled);
        log_compiled(&compiled);
        let before = std::mem::replace(&mut self.tables.base, Arc::new(compiled.table));
        if let Err(error) = self.tables.publish().await {
            self.tables.base = before;
            return Err(error);
        }
        self.status.send_modify(|status| {
            status.compiled += 1;
            status.last_error = None;
            status.databases = compiled.databases.into();
            status.complete = true;
        });
        Ok(())
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

/// A compilation under way, where blocking is allowed.
struct Compiling {
    task: JoinHandle<(Result<Compiled, GeoError>, Fingerprints)>,
    metrics: GeoMetrics,
}

impl Compiling {
    fn begin(settings: GeoSettings, metrics: GeoMetrics) -> Compiling {
        // Corrections are laid over the table afterwards.
        let settings = GeoSettings { overrides: Vec::new(), ..settings };
        metrics.compiling.inc();
        metrics.networks_read.set(0);
        let read = metrics.networks_read.clone();
        let timer = metrics.compile_seconds.start_timer();
        let task = tokio::task::spawn_blocking(move || {
            let fingerprints = fingerprints(&settings.databases);
            let told = |networks| read.set(i64::try_from(networks).unwrap_or(i64::MAX));
            let outcome = compile_telling(&settings, &told);
            timer.observe_duration();
            (outcome, fingerprints)
        });
        Compiling { task, metrics }
    }

    /// What came of it, and what the files were just before; may be cancelled and asked for again.
    async fn done(&mut self) -> (Result<Compiled, GeoError>, Fingerprints) {
        let done = (&mut self.task).await;
        self.metrics.compiling.dec();
        done.unwrap_or_else(|e| (Err(GeoError::Interrupted { reason: e.to_string() }), Fingerprints::new()))
    }
}
