//! Redeeming tokens, and the agent's own binary.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::join::{JoinError, JoinOptions, join};
use nearmost_config::AgentConfig;
use nearmost_wire::agent::Refusal;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::token::JoinToken;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::process::Command;

fn token(broker: &FakeBroker) -> String {
    let addresses = vec![broker.addr.to_string()];
    JoinToken { broker: broker.id.key, secret: [5; 16], addresses }.encode()
}

fn options(dir: &Path, token: String) -> JoinOptions {
    JoinOptions {
        token,
        config: dir.join("etc/node-agent.toml"),
        data_dir: dir.join("data"),
        name: Some("wanted".into()),
        port: 8443,
    }
}

#[tokio::test]
async fn a_token_becomes_a_key_and_a_configuration() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = FakeBroker::start(1, Manner::Invite("lon-1")).await;
    let options = options(dir.path(), token(&broker));
    let joined = join(&options).await.expect("joined");
    assert_eq!(
        (joined.name.as_str(), joined.domains.as_slice()),
        ("lon-1", &["play.example".to_string()][..])
    );
    assert!(
        matches!(broker.next().await, Seen::Join(secret, Some(name)) if secret == [5; 16] && name == "wanted")
    );
    let key_file = options.data_dir.join("node.key");
    let mode = std::fs::metadata(&key_file).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(KeyPair::load(&key_file, Role::Node).expect("a key").id(), joined.id);
    let config = AgentConfig::load(Some(&options.config), [], &[]).expect("a configuration");
    assert_eq!((config.node.name.as_str(), &config.data_dir), ("lon-1", &options.data_dir));
    assert_eq!(config.brokers, [broker.config()]);
    assert_eq!((config.services[0].domain.as_str(), config.services[0].port), ("play.example", 8443));
    assert_eq!(std::fs::read_dir(dir.path().join("etc")).expect("a folder").count(), 1);
    // Once there is a configuration, no token is spent.
    let again = join(&options).await.expect_err("refused");
    assert!(matches!(&again, JoinError::Exists(path) if *path == options.config), "{again}");
}

#[tokio::test]
async fn refused_tokens_are_named_and_leave_no_configuration() {
    for (refusal, words) in [
        (Refusal::UsedToken, "used already"),
        (Refusal::ExpiredToken, "expired"),
        (Refusal::UnknownToken, "not made there"),
        (Refusal::BadName, "name is taken"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let broker = FakeBroker::start(1, Manner::Refuse(refusal)).await;
        let options = options(dir.path(), token(&broker));
        let error = join(&options).await.expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).expect("a folder").count(), 0);
    }
}

#[tokio::test]
async fn foreign_brokers_damaged_tokens_and_bad_folders_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = FakeBroker::start(1, Manner::Invite("lon-1")).await;
    let other = KeyPair::from_seed(Role::Broker, &[2; 32]).id();
    let addresses = vec![broker.addr.to_string()];
    let foreign = JoinToken { broker: other.key, secret: [5; 16], addresses }.encode();
    let error = join(&options(dir.path(), foreign)).await.expect_err("refused").to_string();
    assert!(error.contains("wrong broker key") && error.contains(&other.to_string()), "{error}");
    let whole = token(&broker);
    let error = join(&options(dir.path(), whole[..40].into())).await.expect_err("refused").to_string();
    assert!(error.contains("cut short"), "{error}");
    let empty = JoinToken { broker: broker.id.key, secret: [5; 16], addresses: vec![] }.encode();
    let error = join(&options(dir.path(), empty)).await.expect_err("refused");
    assert!(matches!(error, JoinError::NoAddress), "{error}");
    // A file where the data folder should be.
    let mut bad = options(dir.path(), whole);
    bad.data_dir = dir.path().join("file");
    std::fs::write(&bad.data_dir, "").expect("written");
    let error = join(&bad).await.expect_err("refused").to_string();
    let says = format!("cannot create the data directory {}: ", bad.data_dir.display());
    assert!(error.starts_with(&says), "{error}");
    // The same where the configuration's folder should be.
    let mut bad = bad.clone();
    bad.config = bad.data_dir.join("node-agent.toml");
    bad.data_dir = dir.path().join("data");
    let error = join(&bad).await.expect_err("refused").to_string();
    assert!(error.starts_with("cannot create the directory ") && error.contains("/file: "), "{error}");
}

async fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(LONG, command.output()).await.expect("in time").expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_binary_joins_checks_runs_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().expect("a folder");
    let inviting = FakeBroker::start(1, Manner::Invite("lon-1")).await;
    let config = dir.path().join("node-agent.toml");
    let data = dir.path().join("data");
    let (code, out, err) = output(
        agent().arg("join").arg(token(&inviting)).arg("--config").arg(&config).arg("--data-dir").arg(&data),
    )
    .await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("joined as lon-1 (nn1"), "{out}");
    let (code, out, err) = output(agent().arg("check-config").arg("--config").arg(&config)).await;
    assert_eq!((code, out.contains("good (1 brokers, 1 services)")), (Some(0), true), "{out}{err}");

    let mut serving = FakeBroker::start(1, Manner::Serve).await;
    let brokers = format!("brokers=[{{id=\"{}\", addresses=[\"{}\"]}}]", serving.id, serving.addr);
    let child = agent()
        .arg("run")
        .arg("--config")
        .arg(&config)
        .args(["--set", &brokers, "--set", "metrics.listen=", "--set", "drain.grace_ms=0"])
        .spawn()
        .expect("runs");
    let (_, hello) = serving.hello().await;
    assert_eq!(hello.services[0].domain, "play.example");
    serving.report(|_| true).await;
    let pid = child.id().expect("it runs").to_string();
    let killed = Command::new("kill").arg(&pid).status().await.expect("kill");
    assert!(killed.success());
    serving.report(|r| r.draining).await;
    while !matches!(serving.next().await, Seen::Goodbye) {}
    let ended = tokio::time::timeout(LONG, child.wait_with_output()).await.expect("in time").expect("ended");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn a_joined_agent_can_be_started_from_any_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let inviting = FakeBroker::start(1, Manner::Invite("lon-1")).await;
    let mut command = agent();
    command.current_dir(dir.path()).arg("join").arg(token(&inviting));
    let (code, _, err) = output(command.args(["--config", "here.toml", "--data-dir", "data"])).await;
    assert_eq!(code, Some(0), "{err}");
    let config = AgentConfig::load(Some(&dir.path().join("here.toml")), [], &[]).expect("a configuration");
    assert!(config.data_dir.is_absolute(), "{}", config.data_dir.display());
    assert!(config.data_dir.join("node.key").is_file(), "{}", config.data_dir.display());
}

#[tokio::test]
async fn an_empty_configuration_is_good_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("node-agent.toml");
    std::fs::write(&config, "").expect("written");
    let with = |command: &str| {
        let mut agent = agent();
        agent.arg(command).arg("--config").arg(&config);
        agent
    };
    let (code, _, err) = output(with("check-config").args(["--set", "a.b=1"])).await;
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: --set: a: unknown key"), "{err}");
    let (code, out, err) = output(&mut with("check-config")).await;
    assert_eq!((code, out.contains("0 brokers")), (Some(0), true), "{out}{err}");
    let (code, _, err) = output(&mut with("run")).await;
    assert_eq!((code, err.contains("join first")), (Some(1), true), "{err}");
    let (code, _, err) = output(agent().args(["check-config", "--config", "/no/such.toml"])).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("/no/such.toml: cannot be read"), "{err}");
    assert_eq!(err.matches("os error").count(), 1, "{err}");
}

#[tokio::test]
async fn the_binary_names_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("node-agent.toml");
    std::fs::write(&config, "version = 1\n[drain]\ngrace = 5\n").expect("written");
    let (code, _, err) = output(agent().arg("check-config").arg("--config").arg(&config)).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("grace_ms"), "{err}");
    // Once, on one line, and without a backtrace even where those are on.
    let key = format!("nb1{}", "a".repeat(52));
    let brokers = format!("[[brokers]]\nid = {key:?}\naddresses = [\"192.0.2.1:1\"]\n");
    std::fs::write(&config, format!("data_dir = {:?}\n{brokers}", dir.path())).expect("written");
    let mut command = agent();
    command.env("RUST_BACKTRACE", "1").arg("run").arg("--config").arg(&config);
    let (code, _, err) = output(&mut command).await;
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: cannot read the node's key: key file "), "{err}");
    assert!(err.contains("node.key"), "{err}");
    assert_eq!((err.matches("os error").count(), err.lines().count()), (1, 1), "{err}");
    let (code, _, err) = output(agent().arg("walk")).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("walk"), "{err}");
}
