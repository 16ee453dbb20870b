//! Word to the service manager: ready when it answers, alive while it does, reloading and stopping in between.

use nearmost_tests::process::{Agent, Broker, binary, broker_config, directory, service_config, terminate};
use nearmost_tests::service::Service;
use nearmost_tests::{PATIENCE, dns};
use std::path::Path;
use std::process::Stdio;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

const DOMAIN: &str = "play.example.com";

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        Manager(UnixDatagram::bind(path).expect("a socket"))
    }

    /// The next message for which this is so; what comes before it is passed over.
    async fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let waiting = async {
            loop {
                let mut text = [0; 1024];
                let length = self.0.recv(&mut text).await.expect("a message");
                let said = String::from_utf8_lossy(&text[..length]).into_owned();
                if wanted(&said) {
                    return said;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} was not said"))
    }
}

fn hang_up(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let status = std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill");
    assert!(status.success());
}

#[tokio::test]
async fn a_broker_is_ready_when_it_answers_and_alive_while_it_does() {
    let dir = directory();
    let socket = dir.path().join("notify");
    let manager = Manager::at(&socket);
    std::fs::write(dir.path().join("broker.toml"), broker_config(dir.path(), "")).expect("write");
    let command = [
        "env".to_owned(),
        format!("NOTIFY_SOCKET={}", socket.display()),
        "WATCHDOG_USEC=600000".to_owned(),
        binary("nearmost-broker").display().to_string(),
        "run".to_owned(),
        "--config".to_owned(),
        dir.path().join("broker.toml").display().to_string(),
    ];
    let mut broker = Broker::start_by(dir.path(), &command).await;
    let ready = manager.until("ready", |said| said.starts_with("READY=1")).await;
    assert!(ready.contains("STATUS=answering for 0 domains with 0 mirrors"), "{ready}");
    // It does answer: a name that it does not serve is refused.
    dns::ask(broker.at.dns[0], DOMAIN, "212.58.224.0/19").await;
    for _ in 0..3 {
        manager.until("alive", |said| said == "WATCHDOG=1").await;
    }
    hang_up(&broker.child);
    let reloading = manager.until("reloading", |said| said.starts_with("RELOADING=1")).await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let again = manager.until("ready again", |said| said.starts_with("READY=1")).await;
    assert!(again.contains("reloaded"), "{again}");
    // A configuration that is wrong leaves it as it was, and ready.
    std::fs::write(dir.path().join("broker.toml"), "wrong = 1").expect("write");
    hang_up(&broker.child);
    let again = manager.until("ready again", |said| said.starts_with("READY=1")).await;
    assert!(again.contains("not reloaded"), "{again}");
    manager.until("alive", |said| said == "WATCHDOG=1").await;
    terminate(&broker.child);
    manager.until("stopping", |said| said.starts_with("STOPPING=1")).await;
    // A second signal would end it at once.
    let ended = tokio::time::timeout(nearmost_tests::PATIENCE, broker.child.wait()).await;
    let ended = ended.expect("it ends in time").expect("its end is told");
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn an_agent_says_that_its_loop_turns() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.ok(&["domain", "add", DOMAIN]).await;
    let service = Service::start("127.0.61.1:0", "one").await;
    let own = dir.path().join("one");
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "one"]).await;
    assert!(Agent::join(&own, token.trim()).await.status.success());
    let socket = dir.path().join("notify");
    let manager = Manager::at(&socket);
    let log = std::fs::File::create(own.join("agent.log")).expect("log file");
    let mut command = Command::new(binary("nearmost-agent"));
    command.arg("run").arg("--config").arg(own.join("node-agent.toml"));
    for setting in service_config(&own, DOMAIN, service.addr) {
        command.arg("--set").arg(setting);
    }
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    let mut agent = command.spawn().expect("start nearmost-agent");
    let ready = manager.until("ready", |said| said.starts_with("READY=1")).await;
    assert!(ready.contains("of 1 brokers attached"), "{ready}");
    manager.until("attached", |said| said.contains("STATUS=1 of 1 brokers attached")).await;
    manager.until("alive", |said| said == "WATCHDOG=1").await;
    hang_up(&agent);
    manager.until("reloading", |said| said.starts_with("RELOADING=1")).await;
    manager.until("ready again", |said| said.starts_with("READY=1")).await;
    terminate(&agent);
    manager.until("stopping", |said| said.starts_with("STOPPING=1")).await;
    let ended = tokio::time::timeout(PATIENCE, agent.wait()).await.expect("it ends").expect("wait");
    assert!(ended.success());
    let log = std::fs::read_to_string(own.join("agent.log")).expect("the log");
    assert!(!log.contains('\u{1b}'), "colours in a file:\n{log}");
}
