//! Where it all runs: a network namespace of its own, with a link to another one for clients.
//!
//! The benchmark starts itself again in new namespaces, so that what it starts is in them, nothing
//! else talks there, and everything is gone with the last process. As root the namespaces are root's,
//! which XDP needs; others get a user namespace, where kxdpgun cannot run and is left out.

use anyhow::{Context, Result, bail, ensure};
use std::net::Ipv4Addr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Where servers listen.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 2);
/// The servers' end of the link.
pub const INTERFACE: &str = "srv0";
/// The other end of the link.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 1);
/// Whence kxdpgun asks. That these are others' addresses concerns nobody: they stay in the namespaces.
pub const SOURCES: &str = "81.0.0.0/8";

/// Starts this program again, with the same arguments and `--inside`, in namespaces of its own.
///
/// # Errors
/// When the kernel refuses, or what was started fails.
pub async fn enter() -> Result<()> {
    let program = std::env::current_exe()?;
    let mut said = Vec::new();
    for flags in [&[][..], &["--user", "--map-root-user"]] {
        let mut probe = Command::new("unshare");
        probe.args(flags).args(["--net", "--mount", "true"]).stdin(Stdio::null());
        let done = probe.output().await.context("cannot start unshare (Debian package util-linux)")?;
        if !done.status.success() {
            said.push(String::from_utf8_lossy(&done.stderr).trim().to_owned());
            continue;
        }
        let mut inside = Command::new("unshare");
        inside.args(flags).args(["--net", "--mount", "--"]).arg(&program);
        inside.args(std::env::args_os().skip(1)).arg("--inside").kill_on_drop(true);
        let status = inside.status().await?;
        ensure!(status.success(), "the benchmark failed");
        return Ok(());
    }
    bail!("network namespaces are needed: run this as root, or allow user namespaces ({})", said.join("; "))
}

/// The namespace of clients.
pub struct Client {
    /// Holds it: it ends when its standard input does.
    holder: Child,
    /// Its process id.
    pid: u32,
    /// Whether programs may attach XDP there.
    pub xdp: bool,
}

impl Client {
    /// Brings up loopback and the link. To be called inside.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn start() -> Result<Client> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "echo ready && exec cat"]);
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut holder = holder.spawn().context("cannot start unshare")?;
        let pid = holder.id().context("the namespace of clients ended")?;
        let out = holder.stdout.take().context("its output")?;
        let line = BufReader::new(out).lines().next_line().await?;
        ensure!(line.as_deref() == Some("ready"), "no namespace for clients");
        let xdp = privileged()?;
        let client = Client { holder, pid, xdp };
        client.link().await?;
        Ok(client)
    }

    async fn link(&self) -> Result<()> {
        // Replies to any of the sources go back through the link without asking who has the address.
        let servers = format!(
            "link set lo up\n\
             link add {INTERFACE} type veth peer name cli0 netns {}\n\
             addr add {SERVER}/24 dev {INTERFACE}\n\
             link set {INTERFACE} up\n\
             route add {SOURCES} via {CLIENT}\n",
            self.pid
        );
        batch(Command::new("ip"), &servers).await?;
        let clients = format!("link set lo up\naddr add {CLIENT}/24 dev cli0\nlink set cli0 up\n");
        batch(self.command("ip"), &clients).await
    }

    /// A program in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", program]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Whether it is still there.
    pub fn lives(&mut self) -> bool {
        matches!(self.holder.try_wait(), Ok(None))
    }
}

/// Runs `ip` on several commands.
async fn batch(mut ip: Command, commands: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), commands)?;
    let done = ip.arg("-batch").arg(file.path()).stdin(Stdio::null()).output().await;
    let done = done.context("cannot start ip (Debian package iproute2)")?;
    ensure!(done.status.success(), "ip: {}: {}", commands, String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Whether this user namespace is the first one, where root may attach XDP.
fn privileged() -> Result<bool> {
    // In the first one all users are mapped to themselves (user_namespaces(7)).
    let map = std::fs::read_to_string("/proc/self/uid_map").context("/proc/self/uid_map")?;
    let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(first && rustix::process::geteuid().is_root())
}
