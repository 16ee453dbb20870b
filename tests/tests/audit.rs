//! Who did what is written down, with what was before, and cannot be changed unseen; levels of the logs.

use nearmost_tests::eventually;
use nearmost_tests::process::{Broker, broker_config, directory};
use std::path::Path;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";
const CHALLENGE: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

async fn curl(args: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"]).args(args).kill_on_drop(true);
    let output = command.output().await.expect("curl; `cargo xtask test` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("a code");
    (code.parse().expect("a number"), body.to_owned())
}

fn hang_up(broker: &Broker) {
    let pid = broker.child.id().expect("it runs").to_string();
    let status = std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill");
    assert!(status.success());
}

#[tokio::test]
async fn every_act_is_written_down_and_no_secret_is() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.ok(&["domain", "add", DOMAIN]).await;
    let mirror = format!("{DOMAIN}/lon");
    broker
        .ok(&["mirror", "add", &mirror, "--address", "192.0.2.1", "--port", "80", "--health", "manual-up"])
        .await;
    broker.ok(&["mirror", "set", &mirror, "--port", "443"]).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "n1"]).await;
    let put = format!(r#"{{"value":"{CHALLENGE}"}}"#);
    let admin = broker.at.admin.display().to_string();
    let url = format!("http://localhost/v1/domains/{DOMAIN}/acme-challenge");
    let json = "Content-Type: application/json";
    let put = ["--unix-socket", &admin, "-X", "PUT", "-H", json, "-d", &put, &url];
    assert_eq!(curl(&put).await.0, 200);
    let copy = dir.path().join("copy");
    broker.ok(&["backup", copy.to_str().expect("UTF-8")]).await;
    // Refused, and again: one entry tells of it.
    let said = broker.fails(&["backup", copy.to_str().expect("UTF-8")]).await;
    assert!(said.contains("is there already"), "{said}");
    for _ in 0..3 {
        broker.fails(&["backup", copy.to_str().expect("UTF-8")]).await;
    }

    let log = || async { broker.ok(&["audit"]).await };
    let text = eventually("the refusal is written", log, |log| log.contains("refused: already_there")).await;
    for part in [
        "(socket)  registry.commit",
        "+ domain play.example.com",
        "(socket)  mirror.add",
        "~ mirror play.example.com/lon  port: 80 → 443  (signed by np1",
        "invite.create  n1",
        "acme.set",
        "backup",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    // A window may have ended in between.
    assert!(text.matches("refused: already_there").count() < 4, "{text}");
    let only = broker.ok(&["audit", "--act", "mirror", "--target", &mirror]).await;
    assert_eq!(only.lines().filter(|l| !l.starts_with(' ')).count(), 2, "{only}");
    assert_eq!(broker.ok(&["audit", "--actor", "token nobody"]).await, "no entries\n");

    let export = dir.path().join("audit.ndjson");
    let file = export.to_str().expect("UTF-8");
    let said = broker.ok(&["audit", "--export", file]).await;
    assert!(said.contains("good: "), "{said}");
    let lines = std::fs::read_to_string(&export).expect("the export");
    for secret in [token.trim(), CHALLENGE] {
        assert!(!lines.contains(secret) && !text.contains(secret), "a secret is in the audit log");
    }
    assert!(broker.ok(&["audit", "--verify"]).await.starts_with("good: "));
    assert!(broker.ok(&["audit", "--verify", file]).await.starts_with("good: "));
    let other = format!("1:{}", "0".repeat(64));
    let said = broker.fails(&["audit", "--verify", file, "--expect", &other]).await;
    assert!(said.contains("written anew"), "{said}");
    // Cut off at its end.
    let closing = lines.trim_end().rfind('\n').expect("several lines") + 1;
    std::fs::write(&export, &lines[..closing]).expect("write");
    assert!(broker.fails(&["audit", "--verify", file]).await.contains("was cut off"));
    // Whoever changes a line is found out.
    std::fs::write(&export, lines.replacen("192.0.2.1", "192.0.2.9", 1)).expect("write");
    let said = broker.fails(&["audit", "--verify", file]).await;
    assert!(said.contains("is not what was written"), "{said}");
    let fewer: String =
        lines.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 1).map(|(_, l)| l).collect();
    std::fs::write(&export, fewer).expect("write");
    assert!(broker.fails(&["audit", "--verify", file]).await.contains("entry 2 is missing"));

    // On this machine too it is told to those only who prove who they are.
    let (code, body) = curl(&[&format!("{}/v1/audit", broker.url())]).await;
    assert_eq!(code, 401, "{body}");
    assert!(broker.metric("nearmost_audit_entries_total").await >= 6.0);
    assert!(broker.metric("nearmost_audit_refused_coalesced_total").await >= 1.0);

    // The chain goes on over a restart.
    broker.stop().await;
    let broker = Broker::restart(dir.path()).await;
    broker.ok(&["domain", "add", "second.example.com"]).await;
    let text = broker.ok(&["audit"]).await;
    assert!(text.contains("domain.add") && text.contains("+ domain second.example.com"), "{text}");
    assert!(text.contains("refused: already_there"), "{text}");
    assert!(broker.ok(&["audit", "--verify"]).await.starts_with("good: "));
    broker.stop().await;
}

fn configured(dir: &Path, log: &str) {
    let config = format!("{}\n[log]\n{log}\n", broker_config(dir, ""));
    std::fs::write(dir.join("broker.toml"), config).expect("write");
}

fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(dir.join("broker.log")).expect("the log");
    assert!(!log.contains('\u{1b}'), "colours in a file:\n{log}");
    log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[tokio::test]
async fn levels_are_set_while_running_go_back_by_themselves_and_are_reloaded() {
    let dir = directory();
    configured(dir.path(), "format = \"json\"\nlevels = [\"nearmost_broker::store=warn\"]");
    let broker = Broker::restart(dir.path()).await;
    let shown = broker.ok(&["log-level"]).await;
    assert_eq!(shown, "info\nnearmost_broker::store=warn\n");
    let set = broker.ok(&["log-level", "nearmost_broker::api=trace", "--for", "1s"]).await;
    assert!(set.contains("nearmost_broker::api=trace  set until"), "{set}");
    let levels = || async { broker.ok(&["log-level"]).await };
    eventually("the level is back", levels, |levels| *levels == shown).await;
    let said = broker.fails(&["log-level", "nearmost_broker::api=debgu"]).await;
    assert!(said.contains("did you mean \"debug\"?"), "{said}");
    assert!(broker.ok(&["log-level", "warn"]).await.starts_with("warn  set until it is reset"));
    assert_eq!(broker.ok(&["log-level", "--reset"]).await, shown);
    configured(dir.path(), "format = \"json\"\nlevel = \"debug\"");
    hang_up(&broker);
    eventually("the file is read again", levels, |levels| levels == "debug\n").await;
    let told = || async { broker.ok(&["audit"]).await };
    let told =
        eventually("the reload is written down", told, |told| told.contains("SIGHUP (signal)  reload")).await;
    assert!(told.contains("~ settings log  level: info → debug"), "{told}");
    assert!(told.contains("log.level"), "{told}");
    broker.stop().await;
    for line in lines(dir.path()) {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} is missing in {line}");
        }
    }
}

#[tokio::test]
async fn a_wrong_level_in_the_file_is_named_with_the_right_one() {
    let dir = directory();
    configured(dir.path(), "levels = [\"nearmost_broker::peers=debgu\"]");
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains("log.levels[0]") && said.contains("did you mean \"debug\"?"), "{said}");
}

#[tokio::test]
async fn a_start_with_another_configuration_is_written_down() {
    let dir = directory();
    configured(dir.path(), "level = \"info\"");
    Broker::restart(dir.path()).await.stop().await;
    let broker = Broker::restart(dir.path()).await;
    assert_eq!(broker.ok(&["audit", "--act", "start"]).await, "no entries\n", "nothing has changed");
    broker.stop().await;
    let token =
        format!("level = \"debug\"\n[[http.tokens]]\nname = \"ci\"\nsha256 = \"{}\"", "ab".repeat(32));
    configured(dir.path(), &token);
    let broker = Broker::restart(dir.path()).await;
    let told = broker.ok(&["audit", "--act", "start"]).await;
    assert!(told.contains("this machine (command)  start  configured otherwise"), "{told}");
    assert!(told.contains("~ settings log.level  value: \"info\" → \"debug\""), "{told}");
    assert!(told.contains("+ settings http.tokens"), "{told}");
    assert!(told.contains("name = \"ci\"") && !told.contains("abab"), "{told}");
    assert!(broker.ok(&["audit", "--verify"]).await.starts_with("good: "));
    broker.stop().await;
}

#[tokio::test]
async fn a_token_made_to_read_reads_and_changes_nothing() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let token = broker.ok(&["token", "create", "prometheus", "--scope", "metrics", "--for", "90d"]).await;
    let said = broker.fails(&["token", "create", "prometheus"]).await;
    assert!(said.contains("already"), "{said}");
    let url = broker.url();
    // As from elsewhere, through a proxy on this machine.
    let (bearer, from) = (format!("Authorization: Bearer {}", token.trim()), "X-Forwarded-For: 203.0.113.5");
    let ask = async |path: &str, more: &[&str]| {
        let url = format!("{url}{path}");
        curl(&[&["-H", &bearer, "-H", from, &url][..], more].concat()).await
    };
    let (code, text) = ask("/metrics", &[]).await;
    assert!(code == 200 && text.contains("nearmost_"), "{code} {text}");
    let (code, text) = ask("/v1/fleet", &[]).await;
    assert!(code == 403 && text.contains("scope_insufficient"), "{code} {text}");
    assert_eq!(ask("/v1/registry", &["-X", "POST", "-d", "{}"]).await.0, 403);
    let list = broker.ok(&["token", "list"]).await;
    assert!(list.contains("prometheus  metrics  until "), "{list}");
    // It outlives a restart, until it is taken back.
    broker.stop().await;
    let broker = Broker::restart(dir.path()).await;
    let url = format!("{}/metrics", broker.url());
    let metrics = ["-H", &bearer, "-H", from, &url];
    assert_eq!(curl(&metrics).await.0, 200);
    broker.ok(&["token", "revoke", "prometheus"]).await;
    assert_eq!(curl(&metrics).await.0, 401);
    assert_eq!(broker.ok(&["token", "list"]).await, "no tokens\n");
    let told = broker.ok(&["audit", "--act", "token"]).await;
    for part in [
        "token.create  prometheus  scope metrics; good until",
        "token.revoke  prometheus",
        "token.beyond  GET /v1/fleet  refused: scope_insufficient",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    assert!(!told.contains(token.trim()), "{told}");
    broker.stop().await;
}
