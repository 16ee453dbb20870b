//! Command checks with real programs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::*;
use nearmost_core::check::{CheckKind, CheckOutcome};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// More than the tests' programs write unless they mean to.
const MAX_OUTPUT: u64 = 4 << 20;

/// Commands have no target.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn sh(script: &str) -> CheckKind {
    CheckKind::Command { argv: vec!["sh".into(), "-c".into(), script.into()], max_output: MAX_OUTPUT }
}

async fn check(script: &str, timeout: Duration) -> CheckOutcome {
    run(nowhere(), sh(script), timeout).await
}

#[tokio::test]
async fn the_exit_status_decides_and_the_last_line_explains() {
    assert_pass(&check("echo fine; exit 0", LONG).await);
    let outcome = check("echo first; echo disk 97 % full; exit 1", LONG).await;
    assert_fail(&outcome, &["expected \"sh\" to exit with 0", "exit status 1", "\"disk 97 % full\""]);
    let outcome = check("echo out; echo oh no >&2; exit 2", LONG).await;
    assert_fail(&outcome, &["exit status 2", "\"oh no\""]);
    assert_fail(&check("kill -9 $$", LONG).await, &["death by signal 9"]);
}

#[tokio::test]
async fn there_is_no_shell_and_no_input() {
    let kind = CheckKind::Command { argv: vec!["echo hello; true".into()], max_output: 0 };
    assert_fail(&run(nowhere(), kind, LONG).await, &["expected to run \"echo hello; true\"", "no such file"]);
    let kind = CheckKind::Command { argv: vec![], max_output: 0 };
    assert_fail(&run(nowhere(), kind, LONG).await, &["expected a program"]);
    // Ends at once, because there is nothing to read.
    assert_pass(&check("cat", LONG).await);
}

#[tokio::test]
async fn a_program_has_the_usual_limit_of_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    assert!(most.is_none_or(|most| most > 1024), "nothing is shown where no more than {most:?} are allowed");
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("raised to the hard limit");
    assert_pass(&check("while [ $(ulimit -Sn) != 1024 ]; do sleep 0.01; done", LONG).await);
}

#[tokio::test]
async fn a_huge_output_neither_blocks_nor_fills_the_reason() {
    let script =
        "i=0; while [ $i -lt 200 ]; do printf '%08192d' 0; i=$((i+1)); done; echo; echo done; exit 3";
    assert_fail(&check(script, LONG).await, &["exit status 3", "\"done\""]);
    let line = check("printf '%0100000d' 0; exit 1", LONG).await;
    assert_fail(&line, &["exit status 1", "0000…"]);
}

#[tokio::test]
async fn a_program_that_writes_without_end_is_killed() {
    let outcome = check("yes", LONG).await;
    assert_fail(&outcome, &["expected \"sh\" to write at most 4194304 bytes, found more", "\"y\""]);
    let limited = |script: &str, max_output| {
        let argv = vec!["sh".into(), "-c".into(), script.into()];
        run(nowhere(), CheckKind::Command { argv, max_output }, LONG)
    };
    // Both outputs count; the last byte that is allowed is.
    assert_pass(&limited("printf 12; printf 34 >&2", 4).await);
    assert_fail(&limited("printf 12; printf 34 >&2", 3).await, &["at most 3 bytes"]);
    assert_pass(&limited("true", 0).await);
}

#[tokio::test]
async fn a_killed_program_leaves_no_zombie() {
    let dir = tempfile::tempdir().expect("a folder");
    let note = dir.path().join("pid");
    for end in ["sleep 1000", "yes"] {
        let outcome = check(&format!("echo $$ > {}; {end}", note.display()), Duration::from_secs(1)).await;
        assert!(!outcome.passed());
        let pid = std::fs::read_to_string(&note).expect("written");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        assert!(stat.is_err(), "{stat:?}");
    }
}

#[tokio::test]
async fn output_held_open_in_the_background_does_not_hold_up_the_check() {
    // The background child ends by itself soon; the check does not wait for it.
    let outcome = check("sleep 5 & exit 0", Duration::from_secs(4)).await;
    assert_pass(&outcome);
}

/// A named pipe: whoever reads it sees its end when every process that held it is gone.
struct Fifo(PathBuf);

impl Fifo {
    fn new(dir: &Path) -> Self {
        let path = dir.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        Fifo(path)
    }

    /// Says "up" on the pipe, then sleeps for ever with a child that does so too.
    fn script(&self) -> String {
        format!("exec 3>{}; sleep 1000 & sleep 1000 & echo up >&3; wait", self.0.display())
    }

    async fn read_up(reader: &mut pipe::Receiver) {
        let mut up = [0; 3];
        tokio::time::timeout(LONG, reader.read_exact(&mut up)).await.expect("in time").expect("up");
        assert_eq!(&up, b"up\n");
    }

    async fn read_end(reader: &mut pipe::Receiver) {
        let mut rest = Vec::new();
        tokio::time::timeout(LONG, reader.read_to_end(&mut rest))
            .await
            .expect("all are gone")
            .expect("the end");
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn a_timeout_kills_the_program_and_its_children() {
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = Fifo::new(dir.path());
    let mut reader = pipe::OpenOptions::new().open_receiver(&fifo.0).expect("reader");
    let outcome = check(&fifo.script(), Duration::from_secs(1)).await;
    assert_fail(&outcome, &["expected an exit of \"sh\"", "within 1000 ms"]);
    Fifo::read_up(&mut reader).await;
    Fifo::read_end(&mut reader).await;
}

#[tokio::test]
async fn a_dropped_check_kills_the_program_and_its_children() {
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = Fifo::new(dir.path());
    let mut reader = pipe::OpenOptions::new().open_receiver(&fifo.0).expect("reader");
    // Keeps the end away until the program has opened its side.
    let writer = pipe::OpenOptions::new().open_sender(&fifo.0).expect("writer");
    let script = fifo.script();
    tokio::select! {
        outcome = check(&script, LONG) => panic!("ended: {outcome:?}"),
        () = Fifo::read_up(&mut reader) => {}
    }
    drop(writer);
    Fifo::read_end(&mut reader).await;
}
