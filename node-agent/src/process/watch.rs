//! Follows one service's process: finds it, waits for its end, finds the next.
//!
//! The end comes by pidfd, within milliseconds. Where the system has none for us, the process is looked
//! at again and again instead. Whether it is stopped, and whether it was replaced by another one that
//! lives, is looked at every half second.

use super::resolve::{Process, Roots};
use super::state::{Machine, Observed};
use nearmost_config::ProcessSource;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Between two looks at a process that is watched by pidfd.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks at one that is not.
const POLL: Duration = Duration::from_millis(200);
/// Between two attempts to find a process: doubles from the first to the last.
const FIND: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What all watchers share.
#[derive(Clone, Debug)]
pub struct Means {
    /// Where the system tells of processes.
    pub roots: Roots,
    /// Whether to try pidfds at all.
    pub pidfd: bool,
    /// It was logged that there are none.
    pub told: Arc<AtomicBool>,
    /// Grows with every change of any machine.
    pub changes: watch::Sender<u64>,
}

/// One service's process.
pub struct Watcher {
    /// How it is found.
    pub source: ProcessSource,
    /// For logs.
    pub service: String,
    /// What is known of it.
    pub machine: Arc<watch::Sender<Machine>>,
    /// What all share.
    pub means: Means,
}

/// How a process ends to be watched.
enum Over {
    Ended,
    /// Another one that lives took its place.
    Replaced(Process),
}

impl Watcher {
    /// Never ends by itself.
    pub async fn run(self) {
        let mut pause = FIND.0;
        let mut told = false;
        let mut next = None;
        loop {
            let process = match next.take() {
                Some(process) => process,
                None => match self.find().await {
                    Ok(process) => process,
                    Err(why) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(service = self.service, why, "the service's process is not found");
                        }
                        self.observe(Observed::Missing(why));
                        tokio::time::sleep(pause).await;
                        pause = (2 * pause).min(FIND.1);
                        continue;
                    }
                },
            };
            (pause, told) = (FIND.0, false);
            match self.follow(process).await {
                Over::Ended => {
                    tracing::warn!(service = self.service, pid = process.pid, "the service's process ended");
                    self.observe(Observed::Ended);
                }
                Over::Replaced(other) => next = Some(other),
            }
        }
    }

    fn observe(&self, observed: Observed) {
        if self.machine.send_if_modified(|machine| machine.on(observed)) {
            self.means.changes.send_modify(|version| *version += 1);
        }
    }

    async fn follow(&self, process: Process) -> Over {
        let pidfd = self.pidfd(process.pid);
        // Opened by number: was it still the same? Without one, this says whether it is there at all.
        if !self.is_there(process).await {
            return Over::Ended;
        }
        tracing::debug!(service = self.service, pid = process.pid, pidfd = pidfd.is_some(), "watching");
        self.observe(Observed::Found(process.pid));
        let mut tick = tokio::time::interval(if pidfd.is_some() { LOOK } else { POLL });
        loop {
            tokio::select! {
                biased;
                () = ended(pidfd.as_ref()) => return Over::Ended,
                _ = tick.tick() => if let Some(over) = self.look(process).await { return over },
            }
        }
    }

    /// The process as seen from outside; what else than its end by pidfd ends the watch.
    async fn look(&self, process: Process) -> Option<Over> {
        let roots = self.means.roots.clone();
        let source = self.source.clone();
        let seen = blocking(move || {
            // Looking for a program goes through all processes, which is too much to do all the time.
            let other = match source {
                ProcessSource::Exe(_) => None,
                _ => roots.resolve(&source).ok().filter(|other| *other != process),
            };
            (roots.stat(process.pid).filter(|s| s.process == process), other)
        });
        let (stat, other) = seen.await?;
        match (stat, other) {
            (_, Some(other)) => Some(Over::Replaced(other)),
            (None, None) => Some(Over::Ended),
            (Some(stat), None) => {
                self.observe(if stat.halted { Observed::Halted } else { Observed::Continued });
                None
            }
        }
    }

    async fn find(&self) -> Result<Process, String> {
        let (roots, source) = (self.means.roots.clone(), self.source.clone());
        let found = blocking(move || roots.resolve(&source)).await;
        found.unwrap_or_else(|| Err("it could not be looked for".into()))
    }

    async fn is_there(&self, process: Process) -> bool {
        let roots = self.means.roots.clone();
        let stat = blocking(move || roots.stat(process.pid)).await.flatten();
        stat.is_some_and(|s| s.process == process)
    }

    fn pidfd(&self, pid: u32) -> Option<AsyncFd<OwnedFd>> {
        let pid = self.means.pidfd.then(|| i32::try_from(pid).ok().and_then(Pid::from_raw))??;
        let opened = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(std::io::Error::from);
        match opened.and_then(readiness) {
            Ok(fd) => Some(fd),
            // It is gone, which is about to be seen.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => None,
            Err(e) => {
                if !self.means.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error = %e, every_ms = POLL.as_millis(),
                        "the system tells nothing of processes' ends (pidfd); they are looked at instead"
                    );
                }
                None
            }
        }
    }
}

/// Follows when a descriptor can be read.
#[expect(deprecated, reason = "an OwnedFd keeps its number for as long as it lives; the successor is unsafe")]
fn readiness(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Until the process ends; for ever without a descriptor.
async fn ended(pidfd: Option<&AsyncFd<OwnedFd>>) {
    match pidfd {
        // An error leaves it to the looks.
        Some(fd) => match fd.readable().await {
            Ok(_) => {}
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Runs what reads files; none when it failed to run.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}
