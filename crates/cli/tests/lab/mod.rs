//! A broker as far as its API goes, and the command as people run it against that.

#![allow(dead_code, reason = "each test binary uses its own part")]

#[path = "../../../client/tests/support/mod.rs"]
pub mod support;

use std::path::PathBuf;
use std::process::Output;
use support::FakeBroker;
use tempfile::TempDir;

/// A folder of its own with a broker that listens there.
pub struct Lab {
    pub dir: TempDir,
    pub broker: FakeBroker,
    pub socket: PathBuf,
}

impl Lab {
    pub async fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let (broker, socket) = FakeBroker::unix(dir.path()).await;
        Lab { dir, broker, socket }
    }

    pub async fn run(&self, line: &str) -> Output {
        self.run_args(&line.split_whitespace().collect::<Vec<_>>()).await
    }

    pub async fn run_args(&self, args: &[&str]) -> Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_nearmost"))
            .args(args)
            .env("NEARMOST_BROKER", format!("unix:{}", self.socket.display()))
            .env("NEARMOST_PERSON_KEY", self.dir.path().join("person.key"))
            .env("USER", "ada")
            .env_remove("NEARMOST_TOKEN")
            .output()
            .await
            .unwrap()
    }

    /// Runs it, and gives exit code, standard output and standard error.
    pub async fn all(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.run_args(args).await;
        let (out, err) = texts(&output);
        (output.status.code(), out, err)
    }

    /// Runs it, expects success, and gives standard output.
    pub async fn ok(&self, line: &str) -> String {
        let output = self.run(line).await;
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{line}\n{out}\n{err}");
        out
    }

    /// Runs it, expects it to fail in a way that is told apart (`nearmost exit-codes`), though not for its command
    /// line, and gives standard error.
    pub async fn fails(&self, line: &str) -> String {
        let output = self.run(line).await;
        let (out, err) = texts(&output);
        let failed = output.status.code().is_some_and(|code| [1, 3, 4, 5, 6, 7, 8, 9, 124].contains(&code));
        assert!(failed, "{line}: {:?}\n{out}\n{err}", output.status);
        err
    }

    pub fn file(&self, text: &str) -> String {
        let path = self.dir.path().join("reg.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }
}

/// Standard output and standard error.
pub fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into())
}
