//! System packages that tests and benchmarks need.

use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that is run, and the Debian package that brings it.
type Needed = (&'static str, &'static str);

/// Of the tests.
pub const TESTS: &[Needed] = &[
    ("dig", "dnsutils"),
    ("unshare", "util-linux"),
    ("prlimit", "util-linux"),
    ("script", "bsdutils"),
    ("ip", "iproute2"),
    ("node", "nodejs"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("promtool", "prometheus"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("amtool", "prometheus-alertmanager"),
    ("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    ("systemctl", "systemd"),
    ("nsenter", "util-linux"),
    ("unbound", "unbound"),
    ("delv", "bind9-dnsutils"),
    ("named", "bind9"),
    ("pdns_recursor", "pdns-recursor"),
    ("faketime", "faketime"),
    ("kdig", "knot-dnsutils"),
    ("fstrm_capture", "fstrm-bin"),
    ("drill", "ldnsutils"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("systemd-analyze", "systemd"),
    ("", "python3-yaml"),
];

/// Of fuzzing.
pub const FUZZ: &[Needed] = &[("c++", "g++")];

/// Of the benchmark of DNS. What is no program but a part of one is asked for by its package alone.
pub const BENCH_DNS: &[Needed] = &[
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("gdnsd", "gdnsd"),
    ("knotd", "knot"),
    ("", "knot-module-geoip"),
    ("pdns_server", "pdns-server"),
    ("", "pdns-backend-geoip"),
    ("dnsperf", "dnsperf"),
    ("kxdpgun", "knot-dnsutils"),
];

/// Of those packages the ones that bring a service, and its name where that differs. Tests start the
/// programs themselves; as services they would take ports of this machine.
const SERVICES: [(&str, &str); 9] = [
    ("bind9", "named"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    ("unbound", "unbound"),
    ("pdns-recursor", "pdns-recursor"),
    ("gdnsd", "gdnsd"),
    ("knot", "knot"),
    ("pdns-server", "pdns"),
];

/// Debian asks this script whether a service may be started; 101 says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Ours.
const NO_SERVICES: &str = "#!/bin/sh\n# Of cargo xtask, while it installs packages.\nexit 101\n";

/// Installs what is missing; without the right to, says exactly what to run.
pub fn install(needed: &[Needed]) -> Result<()> {
    let missing = needed.iter().filter(|(program, package)| match *program {
        "" => !installed(package),
        program => !present(program),
    });
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    sweep(Path::new(POLICY));
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !present("apt-get") || !root() {
        bail!("programs are needed that are not here; install them and run this again:\n    sudo {line}");
    }
    eprintln!("+ {line}");
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    let no_services = NoServices::begin()?;
    apt(&args)?;
    drop(no_services);
    for (_, service) in SERVICES.iter().filter(|(package, _)| missing.contains(package)) {
        // Else the next boot starts it. Where there is no systemd, nothing does.
        let _ = Command::new("systemctl").args(["disable", service]).stderr(Stdio::null()).status();
    }
    Ok(())
}

/// While it lives, installed packages start no services. A policy that the machine has already stays,
/// and is its owner's.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<NoServices> {
        match OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                let ours = NoServices { ours: true };
                file.write_all(NO_SERVICES.as_bytes()).with_context(|| format!("cannot write {POLICY}"))?;
                Ok(ours)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(NoServices { ours: false }),
            Err(e) => Err(e).with_context(|| format!("cannot write {POLICY}")),
        }
    }
}

/// Removes a policy of ours that a run left behind which was interrupted; what others wrote stays.
fn sweep(policy: &Path) {
    if std::fs::read(policy).is_ok_and(|text| text == NO_SERVICES.as_bytes())
        && let Err(e) = std::fs::remove_file(policy)
    {
        eprintln!("{} was left behind and keeps services from starting; remove it: {e}", policy.display());
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = std::fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} stays and keeps services from starting; remove it: {e}");
        }
    }
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    let status = command.status().context("cannot start apt-get")?;
    if !status.success() {
        bail!("apt-get {args:?} ended with {status}");
    }
    Ok(())
}

fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where only root's path leads.
    let servers = PathBuf::from("/usr/sbin");
    std::env::split_paths(&path).chain([servers]).any(|dir| dir.join(program).is_file())
}

/// Whether a package is installed, as dpkg knows it.
fn installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    output.is_ok_and(|o| o.stdout.trim_ascii() == b"installed")
}

fn root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_of_ours_is_swept_away() {
        let dir = std::env::temp_dir().join(format!("nearmost-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let policy = dir.join("policy-rc.d");
        for (text, stays) in [(NO_SERVICES, false), ("#!/bin/sh\nexit 101\n", true)] {
            std::fs::write(&policy, text).unwrap();
            sweep(&policy);
            assert_eq!(policy.exists(), stays, "{text:?}");
        }
        sweep(&dir.join("none"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
