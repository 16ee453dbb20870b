//! Hosts, the router between them, and what cuts them off.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Said when the kernel refuses.
const REFUSED: &str = "the tests of health need network namespaces of their own: run them as root, or allow \
                       user namespaces (sysctl kernel.unprivileged_userns_clone=1, or \
                       kernel.apparmor_restrict_unprivileged_userns=0)";

/// No user namespace of its own.
const AS_ROOT: (bool, &[&str]) = (false, &[]);

/// The router's namespace, and through it all others.
pub struct Network {
    /// Lives while the lab does: it ends when its standard input does.
    router: Child,
    /// Whether it is in a user namespace of its own.
    own_user: bool,
    /// Holds a file for each host's namespace.
    dir: PathBuf,
}

/// Packets that the router drops silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All from this host.
    From(u8),
    /// All to this host.
    To(u8),
    /// Those from the first host to the second.
    Between(u8, u8),
}

impl Cut {
    fn selector(self) -> Vec<String> {
        let net = |host: u8| format!("10.{host}.0.0/16");
        let words = match self {
            Cut::From(host) => vec!["from".into(), net(host)],
            Cut::To(host) => vec!["from".into(), "all".into(), "to".into(), net(host)],
            Cut::Between(from, to) => vec!["from".into(), net(from), "to".into(), net(to)],
        };
        words.into_iter().chain(["blackhole".into()]).collect()
    }
}

impl Network {
    /// A router without hosts; `dir` is where files for namespaces may be made.
    pub async fn start(dir: &Path) -> Network {
        Network::start_by(dir, "echo 1 > /proc/sys/net/ipv4/ip_forward").await
    }

    /// The same, but the kernel passes nothing on: a program of the caller's does, with packet sockets on
    /// the router's ends.
    pub async fn start_unrouted(dir: &Path) -> Network {
        Network::start_by(dir, "echo 0 > /proc/sys/net/ipv4/ip_forward").await
    }

    /// The same in the user namespace of the test itself, where root can load programs of BPF.
    ///
    /// # Panics
    /// Without root's privileges.
    pub async fn start_as_root(dir: &Path) -> Network {
        Network::start_in(dir, "true", &[AS_ROOT]).await
    }

    /// In a user namespace, which needs no privileges; where there are none, as root.
    async fn start_by(dir: &Path, forwarding: &str) -> Network {
        Network::start_in(dir, forwarding, &[(true, &["--user", "--map-root-user"]), AS_ROOT]).await
    }

    /// In the first of these ways that works: whether in a user namespace of its own, and what makes it.
    async fn start_in(dir: &Path, forwarding: &str, ways: &[(bool, &[&str])]) -> Network {
        let script = format!("{forwarding} && ip link set lo up && echo ready && exec cat");
        let mut said = Vec::new();
        for (own_user, flags) in ways.iter().copied() {
            match router(flags, &script).await {
                Ok(router) => return Network { router, own_user, dir: dir.into() },
                Err(why) => said.push(why),
            }
        }
        panic!("{REFUSED}: {}", said.join("; "));
    }

    /// Adds host `n` at 10.n.0.2, with the hardware address 02:00:00:00:00:n. Segments are cut in the host
    /// and not by its link, so that whoever watches the link sees packets of at most its MTU.
    pub async fn add(&self, n: u8) {
        let file = self.namespace(n);
        std::fs::write(&file, "").expect("file for a namespace");
        let file = file.display();
        let script = format!(
            "set -e\n\
             unshare --net={file} true\n\
             ip link add r{n} type veth peer name eth0 address 02:00:00:00:00:{n:02x} netns {file}\n\
             ip link set r{n} gso_max_segs 1\n\
             ip addr add 10.{n}.0.1/16 dev r{n}\n\
             ip link set r{n} up\n\
             nsenter --net={file} ip -batch - <<END\n\
             addr add 10.{n}.0.2/16 dev eth0\n\
             link set lo up\n\
             link set eth0 gso_max_segs 1\n\
             link set eth0 up\n\
             route add default via 10.{n}.0.1\n\
             END\n"
        );
        self.run(&["sh", "-c", &script]).await;
    }

    /// A program on a host. The process started is the program itself, once it runs.
    pub fn command(&self, host: u8, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let line = self.command_line(host);
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg(program).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What runs a program in the router, to be put before its command line.
    pub fn router_command_line(&self) -> Vec<String> {
        self.entered()
    }

    /// Gives a host another address of 10.n.0.0/16 in place of the one that it has, as if it had moved to another
    /// network: what is bound to the old address is cut off.
    pub async fn readdress(&self, n: u8, to: std::net::Ipv4Addr) {
        let file = self.namespace(n);
        let script = format!(
            "ip -batch - <<END\n\
             addr flush dev eth0\n\
             addr add {to}/16 dev eth0\n\
             route add default via 10.{n}.0.1\n\
             END\n"
        );
        self.run(&["nsenter", &format!("--net={}", file.display()), "sh", "-c", &script]).await;
    }

    /// What runs a program on a host, to be put before its command line.
    pub fn command_line(&self, host: u8) -> Vec<String> {
        let mut line = self.entered();
        line.extend(["nsenter".into(), format!("--net={}", self.namespace(host).display())]);
        line
    }

    /// Drops these packets from now on, without a word to whoever sent them.
    pub async fn cut(&self, cut: Cut) {
        self.rule("add", cut).await;
    }

    /// Lets them through again.
    pub async fn heal(&self, cut: Cut) {
        self.rule("del", cut).await;
    }

    /// Takes the router's end of a host's link down: the host has no carrier, and others are told at once
    /// that there is no way to it.
    pub async fn unplug(&self, host: u8) {
        self.run(&["ip", "link", "set", &format!("r{host}"), "down"]).await;
    }

    /// Takes it up again.
    pub async fn plug(&self, host: u8) {
        self.run(&["ip", "link", "set", &format!("r{host}"), "up"]).await;
    }

    async fn rule(&self, verb: &str, cut: Cut) {
        let selector = cut.selector();
        let mut args = vec!["ip", "rule", verb];
        args.extend(selector.iter().map(String::as_str));
        self.run(&args).await;
    }

    /// Runs a program in the router, which must succeed.
    pub async fn run(&self, args: &[&str]) -> Output {
        let line = self.entered();
        let output = Command::new(&line[0])
            .args(&line[1..])
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("nsenter; `cargo xtask test` installs it");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn namespace(&self, host: u8) -> PathBuf {
        self.dir.join(format!("host{host}.net"))
    }

    fn entered(&self) -> Vec<String> {
        let pid = self.router.id().expect("the router runs").to_string();
        let mut line = vec!["nsenter", "--target", &pid, "--net", "--mount"];
        if self.own_user {
            line.extend(["--user", "--preserve-credentials"]);
        }
        line.into_iter().map(String::from).collect()
    }
}

/// A process with namespaces of its own that runs a script, once that says `ready`; or what was wrong.
async fn router(flags: &[&str], script: &str) -> Result<Child, String> {
    let mut router = Command::new("unshare")
        .args(flags)
        .args(["--net", "--mount", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("unshare; `cargo xtask test` installs it");
    let mut lines = BufReader::new(router.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(crate::PATIENCE, lines.next_line()).await.expect("ready in time");
    if line.expect("read").as_deref() == Some("ready") {
        return Ok(router);
    }
    let mut said = String::new();
    let _ = router.stderr.take().expect("piped").read_to_string(&mut said).await;
    Err(said.trim().into())
}
