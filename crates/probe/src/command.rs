//! Command checks: a program that must exit with status 0.
//!
//! The program leads a process group of its own. When the deadline passes, or the check is dropped,
//! the whole group is killed, so that what the program started dies with it. Both outputs are read
//! all the time, so that a talkative program never blocks, but only the last [`KEPT_BYTES`] of each
//! are kept. A program that writes more than its check allows is killed like one that takes too long:
//! reading without end would cost more than the check is worth. What a program leaves running in the background after it exited is its own affair;
//! that it still holds the output open does not hold up the check.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::reason;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How much of each output is kept for the reason.
const KEPT_BYTES: usize = 8 * 1024;
/// How long to read on after the program exited; its output ends at once unless something that it
/// left behind holds it open.
const AFTER_EXIT: Duration = Duration::from_millis(50);

/// The usual soft limit of open files: programs that use `select`, or close all that there could be, rely on it.
const FILES: u64 = 1024;

/// Runs the program and judges its exit. Both its outputs together may be of `max_output` bytes.
pub async fn run(deadline: &Deadline, argv: &[String], max_output: u64) -> Result<(), Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Failure::silence("expected a program to run, found none"));
    };
    let shown = reason::quote(program.as_bytes(), 60);
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let failed = |wanted: String| {
        move |e: std::io::Error| Failure::silence(format!("{wanted}, found: {}", reason::plain(&e)))
    };
    let child = command.spawn().map_err(failed(format!("expected to run {shown}")))?;
    let mut group = Group::of(child);
    group.limit_files();
    let (mut out, mut err) = (Tail::default(), Tail::default());
    let allowed = AtomicU64::new(max_output);
    let waiting = tokio::time::timeout_at(deadline.at(), group.wait(&mut out, &mut err, &allowed)).await;
    match waiting {
        Ok(Ok(None)) => {
            group.kill().await;
            let limit = format!("expected {shown} to write at most {max_output} bytes, found more");
            Err(Failure::answer(format!("{limit}{}", said(&out, &err))))
        }
        Ok(Ok(Some(status))) if status.success() => Ok(()),
        Ok(Ok(Some(status))) => {
            let found = format!("found {}{}", ending(status), said(&out, &err));
            Err(Failure::answer(format!("expected {shown} to exit with 0, {found}")))
        }
        Ok(Err(e)) => Err(failed(format!("expected {shown} to exit with 0"))(e)),
        Err(_) => {
            group.kill().await;
            let missed = deadline.missed(&format!("expected an exit of {shown}"));
            Err(Failure::silence(format!("{missed}{}", said(&out, &err))))
        }
    }
}

/// How a program ended, in words.
fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("death by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The last line of standard error, else of standard output.
fn said(out: &Tail, err: &Tail) -> String {
    match err.last_line().or_else(|| out.last_line()) {
        Some(line) => format!(": {}", reason::quote(line, 100)),
        None => String::new(),
    }
}

/// A program and the process group that it leads; dropped before the program ended, it kills both.
struct Group {
    child: Child,
    /// `None` once the program was waited for: from then on the number may belong to others.
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Group { child, id }
    }

    /// Takes the soft limit of open files back to the usual one, as this process may have raised its own. The program may
    /// do likewise.
    fn limit_files(&self) {
        let own = getrlimit(Resource::Nofile);
        if own.current.is_some_and(|most| most <= FILES) {
            return;
        }
        let usual = Rlimit { current: Some(FILES), maximum: own.maximum };
        if let Some(id) = self.id
            && let Err(e) = prlimit(Some(id), Resource::Nofile, usual)
        {
            tracing::debug!(error = %e, "a check command keeps the limit of open files of this process");
        }
    }

    /// Reads both outputs until the program ended; `None` when it wrote more than is `allowed`.
    async fn wait(
        &mut self,
        out: &mut Tail,
        err: &mut Tail,
        allowed: &AtomicU64,
    ) -> std::io::Result<Option<ExitStatus>> {
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let reading = async { tokio::try_join!(out.read(stdout, allowed), err.read(stderr, allowed)) };
        tokio::pin!(reading);
        let mut read_all = false;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                read = &mut reading, if !read_all => match read {
                    Ok(_) => read_all = true,
                    Err(TooMuch) => return Ok(None),
                },
            }
        };
        self.id = None;
        if !read_all {
            // Running out of this time is no failure: the program itself has ended.
            if let Ok(Err(TooMuch)) = tokio::time::timeout(AFTER_EXIT, reading).await {
                return Ok(None);
            }
        }
        Ok(Some(status))
    }

    /// Kills the group and waits for its leader to be gone.
    async fn kill(&mut self) {
        self.signal();
        if let Err(e) = self.child.wait().await {
            tracing::warn!(error = %e, "a killed check command could not be waited for");
        }
        self.id = None;
    }

    fn signal(&self) {
        if let Some(id) = self.id
            && let Err(e) = kill_process_group(id, Signal::KILL)
        {
            tracing::warn!(error = %e, group = %id, "a check command could not be killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal();
    }
}

/// A program wrote more than it may.
struct TooMuch;

/// The last [`KEPT_BYTES`] of an output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads to the end, keeping what was last, unless it is more than is allowed.
    async fn read(
        &mut self,
        from: Option<impl AsyncRead + Unpin>,
        allowed: &AtomicU64,
    ) -> Result<(), TooMuch> {
        let Some(mut from) = from else { return Ok(()) };
        let mut buffer = vec![0; KEPT_BYTES];
        // An output that cannot be read says nothing; the exit status still judges.
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            self.push(&buffer[..n]);
            let n = u64::try_from(n).unwrap_or(u64::MAX);
            let taken =
                allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n));
            taken.map_err(|_| TooMuch)?;
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let surplus = (self.0.len() + bytes.len()).saturating_sub(KEPT_BYTES);
        self.0.drain(..surplus);
        self.0.extend_from_slice(bytes);
    }

    /// The last line that is not blank.
    fn last_line(&self) -> Option<&[u8]> {
        let mut lines = self.0.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        lines.rfind(|line| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tail_of_an_output_is_kept() {
        let mut tail = Tail::default();
        for i in 0..10_000 {
            tail.push(format!("line {i}\n").as_bytes());
            assert!(tail.0.len() <= KEPT_BYTES);
        }
        assert_eq!(tail.last_line(), Some(b"line 9999".as_slice()));
        tail.push(&vec![b'x'; 3 * KEPT_BYTES]);
        assert_eq!(tail.0, vec![b'x'; KEPT_BYTES]);
    }

    #[test]
    fn blank_lines_say_nothing() {
        let mut tail = Tail::default();
        assert_eq!(tail.last_line(), None);
        tail.push(b"disk full\r\n\n  \n");
        assert_eq!(tail.last_line(), Some(b"disk full".as_slice()));
    }
}
