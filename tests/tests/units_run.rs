//! The units under a real systemd: it boots in namespaces of its own (`tests/systemd/boot.sh`), installs what
//! docs/running.md says, and is asked for what the units promise. That takes root; without, nothing is shown here.

use nearmost_tests::eventually;
use nearmost_tests::process::{binary, directory};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

const BROKER: &str = "[dns]\nlisten = [\"127.0.0.1:53\"]\n[agents]\nadvertise = [\"127.0.0.1:7841\"]\n";

/// A machine with systemd and nothing else.
struct Machine {
    boot: Child,
    pid: String,
    _dir: tempfile::TempDir,
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
        let boot = Command::new(script).args([&folder, &programs, &config]).stdin(Stdio::null()).spawn();
        let boot = boot.expect("boot.sh");
        let pid = || async { std::fs::read_to_string(folder.join("pid")).unwrap_or_default() };
        let pid = eventually("it is furnished", pid, |pid| !pid.is_empty()).await.trim().to_owned();
        let machine = Machine { boot, pid, _dir: dir };
        let state = || machine.said(&["systemctl", "is-system-running"]);
        eventually("systemd is up", state, |state| state.trim() == "running").await;
        machine
    }

    async fn run(&self, command: &[&str]) -> std::process::Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.pid, "--all", "--root", "--wd", "--", "env", "-i", "HOME=/root"]);
        enter.arg("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").args(command);
        let output = enter.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(2 * nearmost_tests::PATIENCE, output).await;
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

    /// Waits until a unit was started again so often, and is ready.
    async fn until_restarted(&self, unit: &str, times: &str) {
        let state = || async { (self.of(unit, "NRestarts").await, self.of(unit, "ActiveState").await) };
        let back = |(n, state): &(String, String)| n == times && state == "active";
        eventually("it is started again", state, back).await;
    }

    /// Ends it, and waits until nothing of it is left.
    async fn stop(mut self) {
        self.run(&["systemctl", "exit"]).await;
        tokio::time::timeout(nearmost_tests::PATIENCE, self.boot.wait())
            .await
            .expect("it ends")
            .expect("wait");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Everything in it goes with its first process. It has gone where the test went well.
        if let Some(boot) = self.boot.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", &self.pid]).status();
            // The script removes the control group then; its folder must be there until it has.
            let mut wait = std::process::Command::new("timeout");
            let _ = wait.args(["10", "tail", "-f", "/dev/null", "--pid", &boot.to_string()]).status();
        }
    }
}

fn root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output();
    output.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

#[tokio::test]
async fn systemd_starts_reloads_restarts_and_stops_them() {
    if !root() {
        eprintln!("not root: systemd cannot be booted, and nothing is shown");
        return;
    }
    let machine = Machine::start().await;
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
    machine.kill("nearmost-broker", "-KILL").await;
    machine.until_restarted("nearmost-broker", "1").await;
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
    let status = || machine.said(&["nearmost-agent", "status"]);
    let told = |s: &String| s.contains("attached (enrolled") && s.contains("  says play.example.com/");
    eventually("the agent has a session, and is told of its mirror", status, told).await;
    let pid = machine.of("nearmost-agent", "MainPID").await;
    let status = machine.ok(&["cat", &format!("/proc/{pid}/status")]).await;
    assert!(status.contains("CapEff:\t0000000000000000\n") && status.contains("Seccomp:\t2\n"), "{status}");
    machine.ok(&["systemctl", "reload", "nearmost-agent"]).await;
    assert_eq!(machine.of("nearmost-agent", "MainPID").await, pid, "reloading starts nothing anew");
}

/// Whoever says nothing is killed and started again.
async fn hang(machine: &Machine) {
    machine.kill("nearmost-broker", "-STOP").await;
    machine.kill("nearmost-agent", "-STOP").await;
    machine.until_restarted("nearmost-broker", "2").await;
    machine.until_restarted("nearmost-agent", "1").await;
    let journal = machine.journal().await;
    for unit in ["nearmost-broker", "nearmost-agent"] {
        let said = format!("{unit}.service: Watchdog timeout (limit 6s)!");
        assert!(journal.contains(&said), "{said}: {journal}");
    }
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
