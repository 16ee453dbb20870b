//! Child processes that never outlive the demo.
//!
//! Each child is in a process group of its own, so that Ctrl-C reaches only the demo, which then
//! ends them in order. Should the demo itself be killed, the children see the end of their standard
//! input and stop by themselves.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Longest that an ordered end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts this program again in another part; its log goes to a file.
pub fn start(part: &str, args: &[&OsStr], log: &Path) -> Result<Child> {
    let program = std::env::current_exe().context("where is this program?")?;
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.arg(part).args(args).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    command.spawn().with_context(|| format!("cannot start {part}"))
}

/// Asks a child to end (SIGTERM), and ends it when it does not.
pub async fn stop(child: &mut Child) {
    terminate(child);
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        // Whatever the outcome, nothing more can be done for it.
        let _ = child.kill().await;
    }
}

/// Asks a child to end.
pub fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// In a child: ends this process in order when the demo is gone.
pub fn end_with_parent() {
    let watch = || {
        // Nothing is ever written; the read returns when the demo's end of the pipe closes.
        let _ = std::io::stdin().read(&mut [0; 1]);
        let _ = kill_process(rustix::process::getpid(), Signal::TERM);
    };
    let thread = std::thread::Builder::new().name("parent".into()).spawn(watch);
    if let Err(error) = thread {
        eprintln!("this process will outlive a killed demo: {error}");
    }
}
