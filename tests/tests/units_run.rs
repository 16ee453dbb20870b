//! The units under a real systemd: it boots in namespaces of its own (`tests/systemd/boot.sh`), installs what
//! docs/running.md says, and is asked for what the units promise. That takes root and the right to mount; where a
//! probe finds that they are not there, it says what is not shown and why.

use nearmost_tests::process::{binary, directory};
use nearmost_tests::{PATIENCE, eventually, eventually_within};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;

const BROKER: &str = "[dns]\nlisten = [\"127.0.0.1:53\"]\n[agents]\nadvertise = [\"127.0.0.1:7841\"]\n";
/// What systemd itself takes its time for: to boot; to notice a hang, to kill, and to start again.
const SYSTEMD: Duration = Duration::from_secs(90);
/// Settings of the machine's kernel that an ordinary boot changes.
const SETTINGS: [&str; 6] = [
    "fs/file-max",
    "fs/nr_open",
    "kernel/core_pattern",
    "kernel/pid_max",
    "kernel/printk",
    "net/ipv4/ip_local_port_range",
];

/// A machine with systemd and nothing else. What is in it goes with it, however the test ends.
struct Machine {
    boot: Child,
    /// The process id of its systemd; empty until there is one.
    pid: String,
    dir: tempfile::TempDir,
}

impl Machine {
    async fn start() -> Machine {
        let dir = directory();
        let folder = dir.path().join("machine");
        std::fs::create_dir(&folder).expect("a folder");
        let config = dir.path().join("broker.toml");
        std::fs::write(&config, format!("version = 1\n{BROKER}")).expect("write broker.toml");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/boot.sh");
        let programs = binary("nearmost-broker").parent().expect("a folder").to_owned();
        let told = std::fs::File::create(dir.path().join("stderr")).expect("a file");
        // It ends what it began when it is told to, and it is told when this test's thread is no more.
        let boot = std::process::Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(script)
            .args([&folder, &programs, &config])
            .stdin(Stdio::null())
            .stderr(told)
            .spawn()
            .expect("setpriv");
        let mut machine = Machine { boot, pid: String::new(), dir };
        let pid = || {
            let end = machine.boot.try_wait().expect("its state");
            std::future::ready((std::fs::read_to_string(folder.join("pid")).unwrap_or_default(), end))
        };
        let there = |(pid, end): &(String, Option<ExitStatus>)| !pid.is_empty() || end.is_some();
        let (pid, end) = eventually_within(SYSTEMD, "it is furnished", pid, there).await;
        assert!(end.is_none(), "boot.sh ended, {end:?}: {}", machine.told());
        machine.pid = pid.trim().to_owned();
        let state = || machine.said(&["systemctl", "is-system-running"]);
        eventually_within(SYSTEMD, "systemd is up", state, |state| state.trim() == "running").await;
        machine
    }

    /// What the script said is wrong.
    fn told(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    async fn run(&self, command: &[&str]) -> std::process::Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.pid, "--all", "--root", "--wd", "--", "env", "-i", "HOME=/root"]);
        enter.arg("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").args(command);
        let output = enter.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(2 * PATIENCE, output).await;
        output.unwrap_or_else(|_| panic!("{command:?} does not end")).expect("nsenter")
    }

    async fn said(&self, command: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(command).await.stdout).into_owned()
    }

    /// What a command says, which must succeed.
    async fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}\n{}", self.journal().await);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn journal(&self) -> String {
        self.said(&["journalctl", "--no-pager", "-n", "400", "-u", "nearmost-*"]).await
    }

    /// A property of a unit.
    async fn of(&self, unit: &str, property: &str) -> String {
        self.said(&["systemctl", "show", "--value", "-p", property, unit]).await.trim().to_owned()
    }

    /// Sends a signal to a unit's main process, and to nothing else.
    async fn kill(&self, unit: &str, signal: &str) {
        let pid = self.of(unit, "MainPID").await;
        assert_ne!(pid, "0", "{unit} has no process");
        self.ok(&["kill", signal, &pid]).await;
    }

    /// How often a unit was started again.
    async fn restarts(&self, unit: &str) -> u32 {
        self.of(unit, "NRestarts").await.parse().expect("a number")
    }

    /// Waits until a unit was started again more often than before, and is ready.
    async fn until_restarted(&self, unit: &str, before: u32) {
        let state = || async { (self.restarts(unit).await, self.of(unit, "ActiveState").await) };
        let back = |(n, state): &(u32, String)| *n > before && state == "active";
        eventually_within(SYSTEMD, "it is started again", state, back).await;
    }

    /// Waits until the agent has a session, and is told of its mirror.
    async fn until_attached(&self) {
        let status = || self.said(&["nearmost-agent", "status"]);
        let told = |s: &String| s.contains("attached (enrolled") && s.contains("  says play.example.com/");
        eventually_within(SYSTEMD, "the agent has a session, and is told of its mirror", status, told).await;
    }

    /// Ends it, and waits until nothing of it is left.
    async fn stop(mut self) {
        let script = self.boot.id();
        self.run(&["systemctl", "exit"]).await;
        let boot = &mut self.boot;
        let end = || std::future::ready(boot.try_wait().expect("its state"));
        let end = eventually_within(SYSTEMD, "it ends", end, Option::is_some).await;
        assert!(end.is_some_and(|end| end.success()), "{end:?}: {}", self.told());
        let look = format!("mount -t cgroup2 none {0} && ls {0}", empty(self.dir.path()).display());
        let groups = alone(&["--mount"], &look).await.expect("control groups");
        let own = format!("nearmost-try-{script}");
        assert!(!groups.lines().any(|group| group == own), "its control group is left: {groups}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has gone where the test went well. Its folder must be there until its mounts are not; the script sees to
        // it that this takes some seconds at most.
        if let Ok(None) = self.boot.try_wait() {
            let _ = std::process::Command::new("kill").arg(self.boot.id().to_string()).status();
            let _ = self.boot.wait();
        }
    }
}

/// A folder to mount to.
fn empty(within: &Path) -> PathBuf {
    let folder = within.join("groups");
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

/// What a shell says in namespaces of its own; else why it failed.
async fn alone(namespaces: &[&str], script: &str) -> Result<String, String> {
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).args(["sh", "-ec", script]).stdin(Stdio::null());
    let output = unshare.output().await.map_err(|e| format!("unshare: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned() + "\n";
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Why no systemd can be booted here; what boot.sh needs is tried.
async fn missing() -> Option<String> {
    let dir = directory();
    let groups = empty(dir.path()).display().to_string();
    let script = format!(
        "mount --make-rprivate /; mount -t proc proc /proc; mount -t cgroup2 none {groups}; mkdir {groups}/try-$$-probe; \
         rmdir {groups}/try-$$-probe; ls /lib/systemd/systemd"
    );
    let namespaces = ["--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net"];
    alone(&namespaces, &script).await.err()
}

/// As the machine has them.
fn settings() -> Vec<String> {
    SETTINGS.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default()).to_vec()
}

#[tokio::test]
async fn systemd_starts_reloads_restarts_and_stops_them() {
    if let Some(why) = missing().await {
        // Past what is only shown of tests that fail.
        let told = format!("NOT SHOWN: what the units do under systemd, which cannot be booted here: {why}");
        std::io::stderr().write_all(told.as_bytes()).expect("standard error");
        return;
    }
    let before = settings();
    let machine = Machine::start().await;
    // The same value again: should it succeed, nothing has changed.
    let write = machine.run(&["sh", "-c", "cat /proc/sys/fs/file-max > /proc/sys/fs/file-max"]).await;
    assert!(!write.status.success(), "the kernel's settings can be written");
    // A hang is to be noticed within the test's time; how often alive is said follows from what the unit says.
    for unit in ["nearmost-broker", "nearmost-agent"] {
        let drop_in = format!("/etc/systemd/system/{unit}.service.d");
        machine.ok(&["mkdir", &drop_in]).await;
        let write = format!("printf '[Service]\\nWatchdogSec=6\\n' > {drop_in}/test.conf");
        machine.ok(&["sh", "-c", &write]).await;
    }
    machine.ok(&["systemctl", "daemon-reload"]).await;
    broker(&machine).await;
    agent(&machine).await;
    hang(&machine).await;
    stop(&machine).await;
    machine.stop().await;
    assert_eq!(settings(), before, "{SETTINGS:?} are as they were");
}

/// It starts at port 53 with that power and no other, and reloads what is right.
async fn broker(machine: &Machine) {
    machine.ok(&["systemctl", "start", "nearmost-broker"]).await;
    // Ready is said once DNS answers: nothing is waited for here.
    machine.ok(&["nearmost", "domain", "add", "play.example.com"]).await;
    for transport in ["+notcp", "+tcp"] {
        let dig = ["dig", "+short", transport, "@127.0.0.1", "play.example.com", "SOA"];
        let soa = machine.ok(&dig).await;
        assert!(soa.contains("hostmaster.play.example.com."), "{soa}");
    }
    let pid = machine.of("nearmost-broker", "MainPID").await;
    let status = machine.ok(&["cat", &format!("/proc/{pid}/status")]).await;
    // CAP_NET_BIND_SERVICE.
    for line in ["CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|l| l == line), "{line}: {status}");
    }
    let user = machine.ok(&["stat", "-c", "%U %a", "/var/lib/nearmost", "/run/nearmost"]).await;
    assert_eq!(user, "nearmost 700\nnearmost 750\n");
    let status = || machine.of("nearmost-broker", "StatusText");
    let told = |text: &String| text.contains("answering for 1 domain");
    eventually("the status says for how many domains it answers", status, told).await;
    machine.ok(&["systemctl", "reload", "nearmost-broker"]).await;
    machine.ok(&["cp", "/etc/nearmost/broker.toml", "/root/good.toml"]).await;
    machine.ok(&["sh", "-c", "echo 'no such line' >> /etc/nearmost/broker.toml"]).await;
    let refused = machine.run(&["systemctl", "reload", "nearmost-broker"]).await;
    assert!(!refused.status.success(), "a configuration that is wrong is refused");
    machine.ok(&["cp", "/root/good.toml", "/etc/nearmost/broker.toml"]).await;
    machine.ok(&["systemctl", "reload", "nearmost-broker"]).await;
    assert_eq!(machine.of("nearmost-broker", "MainPID").await, pid, "reloading starts nothing anew");
    let before = machine.restarts("nearmost-broker").await;
    machine.kill("nearmost-broker", "-KILL").await;
    machine.until_restarted("nearmost-broker", before).await;
}

/// It joins and starts as docs/running.md says, and has a session.
async fn agent(machine: &Machine) {
    let state = "/var/lib/nearmost-agent";
    machine.ok(&["install", "-d", "-m", "0700", "-o", "nearmost-agent", "-g", "nearmost-agent", state]).await;
    let token = machine.ok(&["nearmost", "node", "invite", "--domain", "play.example.com"]).await;
    machine.ok(&["nearmost-agent", "join", token.trim(), "--port", "443"]).await;
    machine.ok(&["chown", "-R", "nearmost-agent:", state]).await;
    machine.ok(&["chgrp", "nearmost-agent", "/etc/nearmost/node-agent.toml"]).await;
    machine.ok(&["chmod", "0640", "/etc/nearmost/node-agent.toml"]).await;
    machine.ok(&["systemctl", "start", "nearmost-agent"]).await;
    machine.until_attached().await;
    let pid = machine.of("nearmost-agent", "MainPID").await;
    let status = machine.ok(&["cat", &format!("/proc/{pid}/status")]).await;
    assert!(status.contains("CapEff:\t0000000000000000\n") && status.contains("Seccomp:\t2\n"), "{status}");
    machine.ok(&["systemctl", "reload", "nearmost-agent"]).await;
    assert_eq!(machine.of("nearmost-agent", "MainPID").await, pid, "reloading starts nothing anew");
}

/// Whoever says nothing is killed and started again.
async fn hang(machine: &Machine) {
    let units = ["nearmost-broker", "nearmost-agent"];
    let before = [machine.restarts(units[0]).await, machine.restarts(units[1]).await];
    for unit in units {
        machine.kill(unit, "-STOP").await;
    }
    for (unit, before) in units.into_iter().zip(before) {
        machine.until_restarted(unit, before).await;
    }
    let journal = machine.journal().await;
    for unit in units {
        let said = format!("{unit}.service: Watchdog timeout (limit 6s)!");
        assert!(journal.contains(&said), "{said}: {journal}");
    }
    // Who has no session has nobody to say goodbye to.
    machine.until_attached().await;
}

/// What is stopped leaves in good order.
async fn stop(machine: &Machine) {
    for unit in ["nearmost-agent", "nearmost-broker"] {
        machine.ok(&["systemctl", "stop", unit]).await;
        let end = [machine.of(unit, "Result").await, machine.of(unit, "ExecMainStatus").await];
        assert_eq!(end, ["success", "0"], "{unit}: {}", machine.journal().await);
    }
    let journal = machine.journal().await;
    assert!(journal.contains("agent left"), "the agent says goodbye: {journal}");
}
