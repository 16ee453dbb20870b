//! The commands as an SRE and a node operator run them, against real brokers and agents.

use nearmost_tests::process::{Agent, Broker, binary, directory, service_config};
use nearmost_tests::service::Service;
use nearmost_tests::{eventually, process};
use serde_json::Value;
use std::process::Stdio;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

async fn code(broker: &Broker, args: &[&str]) -> Option<i32> {
    broker.cli(args).await.status.code()
}

fn registry() -> String {
    let mirror = |name: &str, ip: &str| {
        format!(
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [{ip:?}]\nhealth = \"manual\"\nstate = \"up\"\n"
        )
    };
    format!(
        "version = 1\n[[domain]]\nname = {DOMAIN:?}\n{}{}",
        mirror("lon", "192.0.2.1"),
        mirror("nyc", "192.0.2.2")
    )
}

/// How `status --check` ends when all is well but what this machine lacks: files, or room on its disk.
async fn well(broker: &Broker) -> Option<i32> {
    let json: Value = serde_json::from_str(&broker.ok(&["--json", "status"]).await).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    Some(if findings.iter().any(|f| f["level"] == "fail") { 8 } else { 0 })
}

#[tokio::test]
async fn an_sre_sees_what_is_wrong_and_what_was_done() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&registry(), &[]).await;
    broker.until("lon", "up").await;
    broker.until("nyc", "up").await;
    let well = well(&broker).await;
    assert_eq!(code(&broker, &["status", "--check"]).await, well);
    let shown = broker.ok(&["status"]).await;
    assert!(shown.ends_with("2 of 2 mirrors are well\n"), "{shown}");

    // A service that fails, and one that people took out.
    broker.apply(&registry().replacen("state = \"up\"", "state = \"down\"", 1), &[]).await;
    broker.until("lon", "down").await;
    let shown = broker.ok(&["status"]).await;
    assert!(
        shown.contains("play.example.com/lon v4    down       no") && shown.contains("last changes\n"),
        "{shown}"
    );
    assert!(
        shown.contains("up → down  set by hand") && shown.ends_with("1 of 2 mirrors are well\n"),
        "{shown}"
    );
    assert!(shown.lines().count() < 24 && shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
    assert_eq!(code(&broker, &["status", "--check"]).await, well, "a person wants it so");
    let json: Value = serde_json::from_str(&broker.ok(&["--json", "status"]).await).expect("JSON");
    assert_eq!((&json["well"], &json["wrong"][0]), (&1.into(), &"play.example.com/lon".into()), "{json}");

    // What is retained is told, and that is the end of it.
    let events = broker.ok(&["events", "--mirror", "lon"]).await;
    let last = events.lines().last().expect("an event");
    assert!(last.contains("play.example.com/lon v4  up → down  set by hand (operator)"), "{events}");
    assert_eq!(broker.ok(&["events", "--mirror", "sao"]).await, "");
    let json = broker.ok(&["--json", "events"]).await;
    assert!(
        json.lines().all(|l| serde_json::from_str::<Value>(l).is_ok_and(|e| e["number"].is_u64())),
        "{json}"
    );
    broker.stop().await;
}

#[tokio::test]
async fn events_are_followed_over_a_restart_of_the_broker() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&registry(), &[]).await;
    broker.until("lon", "up").await;
    let mut following = Command::new(binary("nearmost"))
        .args(["--json", "events", "--follow", "--mirror", "lon", "--broker"])
        .arg(format!("unix:{}", broker.at.admin.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nearmost runs");
    let mut out = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut err = BufReader::new(following.stderr.take().expect("piped")).lines();
    let next = async |lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>, to: &str| loop {
        let line = tokio::time::timeout(nearmost_tests::PATIENCE, lines.next_line()).await;
        let line = line.expect("in time").expect("read").expect("it goes on");
        if serde_json::from_str::<Value>(&line).expect("JSON")["to"] == to {
            return;
        }
    };
    next(&mut out, "up").await;
    broker.stop().await;
    let told = tokio::time::timeout(nearmost_tests::PATIENCE, err.next_line()).await.expect("in time");
    let told = told.expect("read").expect("it says so");
    assert!(told.contains("trying again in") && told.contains("from event"), "{told}");
    let broker = Broker::restart(dir.path()).await;
    broker.apply(&registry().replacen("state = \"up\"", "state = \"down\"", 1), &[]).await;
    next(&mut out, "down").await;
    broker.stop().await;
}

#[tokio::test]
async fn a_node_operator_sees_whether_the_node_is_used_and_trusted() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let service = Service::start("127.0.0.1:0", "one").await;
    let node = dir.path().join("node");
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "one"]).await;
    assert!(Agent::join(&node, token.trim()).await.status.success());
    let port = free_port().await;
    let mut settings = service_config(&node, DOMAIN, service.addr);
    settings[0] = format!("metrics.listen=127.0.0.1:{port}");
    let agent = Agent::run(&node, &settings).await;
    let page = format!("metrics.listen=127.0.0.1:{port}");
    let status = async |json: bool| {
        let mut command = Command::new(binary("nearmost-agent"));
        command.arg("status").arg("--config").arg(node.join("node-agent.toml")).arg("--set").arg(&page);
        if json {
            command.arg("--json");
        }
        let output = command.output().await.expect("nearmost-agent runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = eventually(
        "the broker took it",
        || status(false),
        |s| s.contains("attached (enrolled; ") && s.contains("healthy, ready; "),
    );
    let told = told.await;
    assert!(told.contains("service play.example.com/one: healthy, ready; "), "{told}");
    assert!(told.contains("machine load: "), "{told}");
    let json: Value = serde_json::from_str(&status(true).await).expect("JSON");
    assert_eq!(json["brokers"][0]["session"], "attached", "{json}");
    assert!(json["services"][0]["connections"].is_u64() && json["beacons_sent"].is_u64(), "{json}");
    eventually(
        "the broker tells what it concludes",
        || status(false),
        |s| {
            let said = s.lines().find(|l| l.starts_with("  says play.example.com/one v4: up for "));
            said.is_some_and(|l| l.contains("gets new users: proven"))
        },
    )
    .await;

    broker.ok(&["node", "revoke", "one"]).await;
    eventually(
        "it is told of the revocation",
        || status(false),
        |s| {
            s.contains("this node was revoked")
                && s.contains("; its operator revoked this node: ask why")
                && s.contains("trust no broker")
        },
    )
    .await;
    agent.kill().await;
    broker.stop().await;
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn programs_print_completions() {
    for program in ["nearmost-broker", "nearmost-agent"] {
        let output = Command::new(process::binary(program))
            .args(["completions", "bash"])
            .output()
            .await
            .expect("runs");
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && script.contains("check-config"), "{program}: {script}");
        let check = Command::new("bash").arg("-n").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut check = check.expect("bash");
        tokio::io::AsyncWriteExt::write_all(&mut check.stdin.take().expect("piped"), script.as_bytes())
            .await
            .expect("written");
        assert!(check.wait().await.expect("bash ends").success(), "{program}");
    }
}
