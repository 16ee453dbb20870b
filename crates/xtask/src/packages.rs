//! System packages that tests need.

use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that tests run, and the Debian package that brings it.
const NEEDED: [(&str, &str); 12] = [
    ("dig", "dnsutils"),
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("node", "nodejs"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("promtool", "prometheus"),
    ("unbound", "unbound"),
    ("delv", "bind9-dnsutils"),
    ("named", "bind9"),
    ("pdns_recursor", "pdns-recursor"),
    ("faketime", "faketime"),
];

/// Of those packages the ones that bring a service of their name. Tests start the programs themselves;
/// as services they would take ports of this machine.
const SERVICES: [&str; 4] = ["prometheus", "unbound", "pdns-recursor", "bind9"];

/// Debian asks this script whether a service may be started; 101 says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing; without the right to, says exactly what to run.
pub fn install() -> Result<()> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !present(program)).map(|(_, p)| *p).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !present("apt-get") || !root() {
        bail!("the tests need programs that are not here; install them and run this again:\n    sudo {line}");
    }
    println!("+ {line}");
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    let no_services = NoServices::begin()?;
    apt(&args)?;
    drop(no_services);
    for service in SERVICES.iter().filter(|s| missing.contains(s)) {
        // Else the next boot starts it. Where there is no systemd, nothing does.
        let unit = if *service == "bind9" { "named" } else { service };
        let _ = Command::new("systemctl").args(["disable", unit]).stderr(Stdio::null()).status();
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
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
                Ok(ours)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(NoServices { ours: false }),
            Err(e) => Err(e).with_context(|| format!("cannot write {POLICY}")),
        }
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

fn root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}
