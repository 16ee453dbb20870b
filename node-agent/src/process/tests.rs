use super::*;
use crate::process::state::Phase;
use nearmost_config::{LocalService, ServiceProbe, Share};
use nearmost_core::registry::MirrorAddress;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::{Child, Command};

/// Longest that a test waits for something that should happen.
const LONG: Duration = Duration::from_secs(30);

fn service(process: ProcessSource) -> Service {
    Service {
        domain: "play.example".into(),
        mirror: "lon".into(),
        address: MirrorAddress::Observed,
        port: 80,
        share: Share::default(),
        url: None,
        checks: Vec::new(),
        ready: None,
        probe: ServiceProbe::Default,
        local: LocalService { process: Some(process), ..LocalService::default() },
    }
}

/// A process with a pid file, watched.
struct Fixture {
    processes: Processes,
    changes: Receiver<u64>,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn start(pidfd: bool) -> Fixture {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x.pid");
        let mut processes = Processes::with(resolve::Roots::default(), pidfd);
        let changes = processes.changes();
        processes.set(&[service(ProcessSource::PidFile(file.clone()))]);
        Fixture { processes, changes, file, _dir: dir }
    }

    fn machine(&self) -> Machine {
        self.processes.machines().into_values().next().expect("one")
    }

    async fn until(&mut self, wanted: impl Fn(&Machine) -> bool) -> Machine {
        let seen = async {
            while !wanted(&self.machine()) {
                self.changes.changed().await.expect("watched");
            }
        };
        let in_time = tokio::time::timeout(LONG, seen).await;
        assert!(in_time.is_ok(), "not seen; it is {:?}", self.machine());
        self.machine()
    }
}

fn begin(file: &Path) -> Child {
    let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().expect("sleep");
    std::fs::write(file, format!("{}\n", child.id().expect("its number"))).expect("written");
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32)).expect("its number");
    kill_process(pid, signal).expect("signalled");
}

async fn the_whole_life(pidfd: bool) {
    let mut watched = Fixture::start(pidfd);
    let missing = watched.until(|m| m.problem().is_some()).await;
    assert!(!missing.stopped() && missing.problem().is_some_and(|p| p.contains("x.pid: ")));
    let first = begin(&watched.file);
    let pid = first.id();
    watched.until(|m| m.phase() == Phase::Running && m.pid() == pid).await;
    // Stopped, and going on.
    signal(&first, Signal::STOP);
    watched.until(|m| m.phase() == Phase::Halted).await;
    signal(&first, Signal::CONT);
    let epoch = watched.until(|m| m.phase() == Phase::Proving).await.proving().expect("to be proven");
    let key = ("play.example".to_string(), "lon".to_string());
    watched.processes.proven(&key, epoch);
    assert_eq!(watched.machine().phase(), Phase::Running);
    // Killed: nobody reaps it, and its number stands in the file still.
    signal(&first, Signal::KILL);
    watched.until(|m| m.phase() == Phase::Ended && m.pid() == pid).await;
    // A new one, which is proven by nothing yet.
    let second = begin(&watched.file);
    let renewed = watched.until(|m| m.phase() == Phase::Proving).await;
    assert!(renewed.stopped() && renewed.pid() == second.id());
    // A proof of an earlier time does not count.
    watched.processes.proven(&key, epoch);
    assert!(watched.machine().stopped());
    watched.processes.proven(&key, renewed.proving().expect("to be proven"));
    // One that takes over while the other lives stops nothing.
    let third = begin(&watched.file);
    let over = watched.until(|m| m.pid() == third.id()).await;
    assert_eq!(over.phase(), Phase::Running);
    drop((first, second));
    // The settings stay: what is known stays too.
    watched.processes.set(&[service(ProcessSource::PidFile(watched.file.clone()))]);
    assert_eq!(watched.machine(), over);
    watched.processes.set(&[]);
    assert!(watched.processes.machines().is_empty());
}

#[tokio::test]
async fn a_life_seen_by_pidfd() {
    the_whole_life(true).await;
}

#[tokio::test]
async fn a_life_seen_by_looking() {
    the_whole_life(false).await;
}

#[tokio::test]
async fn the_end_is_known_in_milliseconds() {
    let mut watched = Fixture::start(true);
    let child = begin(&watched.file);
    watched.until(|m| m.phase() == Phase::Running).await;
    let clock = crate::clock::Clock::start();
    signal(&child, Signal::KILL);
    watched.until(Machine::stopped).await;
    let took = clock.now().since(Default::default());
    // Looking alone would take up to half a second; a busy machine may take its time.
    assert!(took < Duration::from_millis(150), "{took:?}");
}
