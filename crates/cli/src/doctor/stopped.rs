//! A broker that does not run: what its own program finds by its configuration.

use super::Findings;
use nearmost_client::api::FindingView;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// The program that knows.
const PROGRAM: &str = "nearmost-broker";
/// Large geo databases take some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has the broker's program look at a configuration.
pub async fn look(config: &Path, findings: &mut Findings) {
    let shown = config.display();
    if let Err(e) = std::fs::File::open(config) {
        let (what, fix) = match e.kind() {
            ErrorKind::NotFound => ("is not there", "name the broker's configuration with --config"),
            ErrorKind::PermissionDenied => {
                ("cannot be read by you", "ask with sudo, or as a member of its group")
            }
            _ => ("cannot be read", "name the broker's configuration with --config"),
        };
        let message = format!("{shown} {what}, so nothing is said of ports, certificates and databases");
        findings.warn("configuration", message, fix);
        return;
    }
    let asked = tokio::time::timeout(PATIENCE, ask(config)).await;
    let wrong = match asked {
        Ok(Ok(output)) => match read(&output) {
            Ok(found) => {
                findings.ok("configuration", format!("{shown} is good"));
                findings.0.extend(beside(found, super::way::running_by(config)));
                return;
            }
            Err(why) => why,
        },
        Ok(Err(e)) => {
            let fix = format!("install {PROGRAM} beside this command, or look on the broker's machine");
            findings.warn("configuration", format!("{PROGRAM} cannot be run: {e}"), fix);
            return;
        }
        Err(_) => format!("{PROGRAM} said nothing within {} s", PATIENCE.as_secs()),
    };
    findings.fail(
        "configuration",
        format!("{shown}: {wrong}"),
        "correct it; nothing starts with it as it is",
    );
}

/// What is left of it beside a broker that runs, but does not answer or not to this user: the ports are its own.
fn beside(mut found: Vec<FindingView>, running: Option<u32>) -> Vec<FindingView> {
    if running.is_some() {
        found.retain(|finding| finding.subject != "ports");
    }
    found
}

async fn ask(config: &Path) -> std::io::Result<Output> {
    let mut command = Command::new(program());
    command.args(["check-config", "--examine", "--config"]).arg(config);
    command.stdin(Stdio::null()).kill_on_drop(true).output().await
}

/// The broker's program beside this one, else as the shell finds it.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}

/// What the program found; else what it says is wrong.
fn read(output: &Output) -> Result<Vec<FindingView>, String> {
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let told = told.trim().strip_prefix("error: ").unwrap_or(told.trim()).to_owned();
        return Err(told);
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{PROGRAM} is of another version: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn findings_are_taken_over_and_what_is_wrong_is_told() {
        let output = |code: i32, out: &str, err: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: out.into(),
            stderr: err.into(),
        };
        let found = r#"[{"subject":"ports","level":"ok","message":"free","fix":""}]"#;
        assert_eq!(read(&output(0, found, "")).unwrap()[0].subject, "ports");
        assert_eq!(read(&output(1, "", "error: no such key\n")).unwrap_err(), "no such key");
        assert!(read(&output(0, "good\n", "")).unwrap_err().contains("another version"));
    }

    #[test]
    fn ports_that_a_running_broker_has_are_nobody_elses() {
        let found = |subject: &str| FindingView {
            subject: subject.into(),
            level: "fail".into(),
            message: String::new(),
            fix: String::new(),
        };
        let left = |running| beside(vec![found("ports"), found("geo")], running).len();
        assert_eq!((left(None), left(Some(7))), (2, 1));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_told() {
        let mut findings = Findings::default();
        look(Path::new("/nonexistent/broker.toml"), &mut findings).await;
        assert_eq!(findings.0[0].level, "warn");
    }
}
