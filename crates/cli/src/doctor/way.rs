//! The way to the broker: which one is asked, whether it answers, and whose clock is wrong.

use super::Findings;
use crate::args::Global;
use crate::broker::{Context, SOCKETS};
use crate::failure::{hint, socket_hint, told};
use nearmost_client::Endpoint;
use nearmost_client::clock::{mono_now, now_unix_ms};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long the system may take to say whether its clock is kept.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clocks further apart are looked at.
const APART_WARN_MS: u64 = 1000;
/// Clocks further apart break signatures of requests before long.
const APART_FAIL_MS: u64 = 30_000;

/// Why no broker can be asked at all.
pub fn none(global: &Global, error: &anyhow::Error, findings: &mut Findings) {
    let fix = match &global.broker {
        Some(_) => "write unix:/path, http://HOST:PORT or https://HOST".into(),
        None => hint(error).unwrap_or_else(|| socket_hint(Path::new(SOCKETS[0]), ErrorKind::NotFound)),
    };
    findings.fail("broker", told(error), fix);
    if global.broker.is_none() {
        process(findings);
    }
}

/// Whether the broker answers; says how far its clock is from ours.
pub async fn reach(context: &Context, findings: &mut Findings) -> bool {
    let at = context.client.endpoint().to_string();
    let (before, started) = (now_unix_ms(), mono_now());
    match context.client.health().await {
        Ok(health) => {
            let took = started.elapsed();
            findings
                .ok("broker", format!("{} answers at {at} within {} ms", health.broker, took.as_millis()));
            let half = u64::try_from(took.as_millis() / 2).unwrap_or(0);
            if health.at_unix_ms > 0 {
                clocks(before + half, health.at_unix_ms, findings);
            }
            if context.client.endpoint().is_unix() {
                synchronised(findings).await;
            }
            ready(context, findings).await;
            true
        }
        Err(e) => {
            let e = anyhow::Error::from(e);
            findings.fail("broker", told(&e), hint(&e).unwrap_or_default());
            if let Endpoint::Unix(path) = context.client.endpoint() {
                socket(path, findings);
                process(findings);
            }
            false
        }
    }
}

async fn ready(context: &Context, findings: &mut Findings) {
    let missing = match context.client.not_ready().await {
        Ok(None) => return,
        Ok(Some(missing)) => format!("not ready: {missing}"),
        Err(e) => format!("whether it is ready is not known: {e}"),
    };
    findings.fail("broker", missing, "wait a little; if it stays so, its log says why");
}

fn clocks(here: u64, there: u64, findings: &mut Findings) {
    let apart = here.abs_diff(there);
    let which = if there > here { "ahead of" } else { "behind" };
    let message = format!("the broker's clock is {:.3} s {which} this machine's", apart as f64 / 1000.0);
    let fix =
        "run `timedatectl` on both machines and switch on NTP (`timedatectl set-ntp true`) where it is off";
    match apart {
        APART_FAIL_MS.. => findings.fail("clock", format!("{message}: signed requests will be refused"), fix),
        APART_WARN_MS.. => findings.warn("clock", message, fix),
        _ => findings.ok("clock", message),
    }
}

/// Whether the kernel's clock is kept by NTP, where systemd tells.
async fn synchronised(findings: &mut Findings) {
    let asked = tokio::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(Ok(output)) = tokio::time::timeout(PATIENCE, asked).await else { return };
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => findings.ok("clock", "this machine's clock is kept by NTP"),
        "no" => findings.warn(
            "clock",
            "this machine's clock is not kept by NTP",
            "`timedatectl set-ntp true`, or run chrony; records more than 5 minutes ahead are refused by others",
        ),
        _ => {}
    }
}

/// What the file system says of a socket that did not answer.
fn socket(path: &Path, findings: &mut Findings) {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(meta) => {
            let (mode, uid, gid) = (meta.mode() & 0o777, meta.uid(), meta.gid());
            let message = format!("{shown} is there: mode {mode:03o}, user {uid}, group {gid}");
            findings.ok("socket", message);
        }
        Err(e) => {
            let fix = socket_hint(path, e.kind());
            findings.fail("socket", format!("{shown}: {e}"), fix);
        }
    }
}

/// Whether a broker runs here that was not found.
fn process(findings: &mut Findings) {
    match running() {
        Some(pid) => findings.warn(
            "process",
            format!("a nearmost-broker runs on this machine, process {pid}, but was not reached"),
            format!(
                "its socket is where admin.socket of its configuration says (`tr '\\0' ' ' \
                 </proc/{pid}/cmdline` shows which file): name it with --broker unix:PATH"
            ),
        ),
        None => findings.fail(
            "process",
            "no nearmost-broker runs on this machine",
            "start it: `systemctl enable --now nearmost-broker`; if it stops again, `journalctl -u \
             nearmost-broker -n 50` says why, and `nearmost-broker check-config` what is wrong with its \
             configuration",
        ),
    }
}

/// The lowest process id of a broker, as far as the kernel tells.
fn running() -> Option<u32> {
    brokers().into_iter().min()
}

/// A broker that may run by this configuration: what its command line names is this file, or it names none.
pub fn running_by(config: &Path) -> Option<u32> {
    let own = std::fs::canonicalize(config).ok()?;
    let by_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        configuration(&String::from_utf8_lossy(&line)).is_none_or(|named| {
            // Of others' processes the working directory is not told; a path by itself is.
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            std::fs::canonicalize(folder.join(named)).is_ok_and(|named| named == own)
        })
    };
    brokers().into_iter().filter(by_it).min()
}

fn brokers() -> Vec<u32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.trim() == "nearmost-broker")
    };
    pids.filter(named).collect()
}

/// The file that `--config` names in a command line as the kernel tells it, its words ended by zeros.
fn configuration(line: &str) -> Option<&str> {
    let mut words = line.split('\0');
    let word = words.find(|word| *word == "--config" || word.starts_with("--config="))?;
    word.strip_prefix("--config=").or_else(|| words.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_its_configuration() {
        assert_eq!(configuration("nearmost-broker\0run\0--config\0/etc/a.toml\0"), Some("/etc/a.toml"));
        assert_eq!(configuration("nearmost-broker\0run\0--config=b.toml\0--set\0x=1\0"), Some("b.toml"));
        assert_eq!(configuration("nearmost-broker\0run\0--configuration\0x\0"), None);
        assert_eq!(configuration("nearmost-broker\0run\0"), None);
    }

    #[test]
    fn clocks_are_compared() {
        let level = |here, there| {
            let mut findings = Findings::default();
            clocks(here, there, &mut findings);
            (findings.0[0].level.clone(), findings.0[0].message.clone())
        };
        assert_eq!(
            level(100_000, 100_200),
            ("ok".into(), "the broker's clock is 0.200 s ahead of this machine's".into())
        );
        assert_eq!(level(100_000, 98_000).0, "warn");
        assert!(level(100_000, 200_000).1.contains("signed requests will be refused"));
    }
}
