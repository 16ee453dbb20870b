//! How commands end: exit codes by kind, JSON everywhere, hints, colours on a terminal only, completions.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod lab;
#[path = "lab/lines.rs"]
mod lines;

use lab::{Lab, support, texts};
use nearmost_client::identity::{KeyPair, Role};
use serde_json::Value;
use std::process::Stdio;

const NEARMOST: &str = env!("CARGO_BIN_EXE_nearmost");

/// Each text is JSON as a whole, or one value a line.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
        || (!text.is_empty() && text.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()))
}

#[tokio::test]
async fn every_command_speaks_json() {
    let lab = Lab::new().await;
    let dir = lab.dir.path().display().to_string();
    let id = |role, seed| KeyPair::from_seed(role, &[seed; 32]).id().to_string();
    for line in lines::LINES {
        if line.starts_with('~') {
            continue;
        }
        let refused = line.starts_with('!');
        let line = line.trim_start_matches('!').replace("{dir}", &dir);
        let line = line.replace("{np}", &id(Role::Person, 77)).replace("{nb}", &id(Role::Broker, 78));
        let output = lab.run(&format!("--json {line}")).await;
        let (out, err) = texts(&output);
        assert_eq!(output.status.success(), !refused, "{line}: {:?}\n{out}\n{err}", output.status);
        if !out.is_empty() {
            assert!(is_json(&out), "{line}: {out}");
            continue;
        }
        assert!(refused, "{line} said nothing");
        let last: Value = serde_json::from_str(err.lines().last().unwrap())
            .unwrap_or_else(|e| panic!("{line}: {e}: {err}"));
        let code = last["error"]["exit_code"].as_i64().map(|c| c as i32);
        assert_eq!(output.status.code(), code, "{line}: {err}");
        assert!(last["error"]["message"].is_string() && last["error"]["kind"].is_string(), "{err}");
    }
}

/// Runs a line, and gives exit code, standard output and standard error.
async fn ends(lab: &Lab, line: &str) -> (Option<i32>, String, String) {
    lab.all(&line.split(' ').collect::<Vec<_>>()).await
}

#[tokio::test]
async fn each_kind_of_end_has_its_exit_code() {
    let lab = Lab::new().await;
    lab.ok("domain add play.example.com").await;
    lab.ok("mirror add play.example.com/lon --address 203.0.113.1 --health probe").await;
    let gone = lab.dir.path().join("gone.sock").display().to_string();
    // A socket that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
    let broken = lab.file("version = 1\n[[domain]]\nnmae = 1\n");
    for (line, code, says, hint) in [
        ("domain list".to_owned(), 0, "", ""),
        ("peer join nonsense".to_owned(), 1, "", ""),
        ("domian list".to_owned(), 2, "unrecognized subcommand 'domian'", ""),
        (format!("--broker unix:{gone} status"), 3, "no broker listens", "systemctl status nearmost-broker"),
        (
            format!("--broker unix:{gone}.not status"),
            3,
            "no broker listens",
            "systemctl start nearmost-broker",
        ),
        ("--broker http://127.0.0.1:1 status".to_owned(), 3, "no broker answers", "nearmost doctor"),
        ("resolve paly.example.com".to_owned(), 5, "unknown_domain", "nearmost domain list"),
        (
            "mirror set play.exmple.com/lon --port 1".to_owned(),
            5,
            "there is no mirror",
            "did you mean play.example.com/lon?",
        ),
        ("domain add play.example.com".to_owned(), 6, "is there already", ""),
        (format!("apply {broken}"), 7, "nmae", ""),
        ("domain add b_d!".to_owned(), 7, "'!'", ""),
    ] {
        let (ended, out, err) = ends(&lab, &line).await;
        assert_eq!(ended, Some(code), "{line}\n{out}\n{err}");
        assert!(err.contains(says), "{line}: {err}");
        let hinted = err.lines().any(|l| l.starts_with("hint: ") && l.contains(hint));
        assert!(hint.is_empty() || hinted, "{line}: {err}");
    }
    let (code, _, err) = ends(&lab, "--json domian list").await;
    let told: Value = serde_json::from_str(&err).unwrap();
    assert_eq!((code, &told["error"]["kind"]), (Some(2), &"usage".into()), "{err}");
    assert!(told["error"]["hint"].as_str().unwrap().contains("domain"), "{err}");
}

#[tokio::test]
async fn who_is_not_known_is_told_what_to_do() {
    let (_, url) = support::FakeBroker::tcp().await;
    let dir = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(NEARMOST)
        .args(["--broker", &url, "domain", "add", "a.example"])
        .env("NEARMOST_PERSON_KEY", dir.path().join("person.key"))
        .output()
        .await
        .unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains("hint: have the broker's operator add your key to http.persons"), "{err}");
}

#[tokio::test]
async fn doctor_measures_the_clock_and_says_what_is_wrong_without_a_broker() {
    let lab = Lab::new().await;
    lab.broker.store.lock().unwrap().clock_ahead_ms = 120_000;
    let (code, out, _) = ends(&lab, "doctor --offline").await;
    assert_eq!(code, Some(8), "{out}");
    assert!(
        out.starts_with("FAIL  clock: the broker's clock is 1") && out.contains("fix: run `timedatectl`"),
        "{out}"
    );
    // This one has no examination to offer.
    assert!(out.contains("WARN  checkup: the broker is older"), "{out}");
    lab.broker.store.lock().unwrap().clock_ahead_ms = 0;
    let (code, out, _) = ends(&lab, "doctor --offline").await;
    assert_eq!(code, Some(9), "{out}");

    let gone = lab.dir.path().join("gone.sock").display().to_string();
    drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
    let (code, out, _) = ends(&lab, &format!("doctor --broker unix:{gone}")).await;
    assert_eq!(code, Some(8), "{out}");
    for part in [
        &format!("FAIL  broker: no broker listens on {gone}"),
        "fix: nobody listens on",
        "ok    socket: ",
        " process: ",
    ] {
        assert!(out.contains(part), "{out}\nexpected: {part}");
    }
    let (code, out, _) = ends(&lab, &format!("--json doctor --broker unix:{gone}")).await;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert!(
        code == Some(8) && told["fail"].as_u64().unwrap() >= 1 && told["findings"][0]["fix"].is_string(),
        "{out}"
    );
}

#[tokio::test]
async fn events_end_unless_they_are_followed() {
    let lab = Lab::new().await;
    let shown = lab.ok("events").await;
    assert!(shown.contains("play.example.com/lon v4  up → down  "), "{shown}");
    assert_eq!(lab.ok("events --mirror nyc --after 3").await, "some events were missed\n");
    let json = lab.ok("--json events --domain play.example.com").await;
    let events: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(events.iter().filter(|e| e["mirror"] == "lon").count() == 2, "{json}");
    let followed = tokio::process::Command::new(NEARMOST)
        .args(["events", "--follow"])
        .env("NEARMOST_BROKER", format!("unix:{}", lab.socket.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = {
        use tokio::io::{AsyncBufReadExt, BufReader};
        BufReader::new(followed.stderr.unwrap()).lines()
    };
    let line =
        tokio::time::timeout(std::time::Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap();
    let line = line.unwrap();
    assert!(
        line.contains("the broker ended the stream; trying again in") && line.contains("from event 2 on"),
        "{line}"
    );
}

/// What the command prints on a terminal, by `script` of util-linux.
async fn on_terminal(lab: &Lab, line: &str, env: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new("script");
    command.args(["-qec", &format!("{NEARMOST} {line}"), "/dev/null"]);
    command.env("NEARMOST_BROKER", format!("unix:{}", lab.socket.display())).env("TERM", "xterm");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(env.iter().copied()).stdin(Stdio::null());
    texts(&command.output().await.unwrap()).0
}

#[tokio::test]
async fn states_are_coloured_on_a_terminal_only() {
    let lab = Lab::new().await;
    let red = "\u{1b}[1;31mdown\u{1b}[0m";
    assert!(!lab.ok("status").await.contains('\u{1b}'), "it is piped");
    let shown = on_terminal(&lab, "status", &[]).await;
    assert!(shown.contains(red), "{shown:?}");
    for (line, env) in [
        ("status", ("NO_COLOR", "1")),
        ("status", ("TERM", "dumb")),
        ("status --color never", ("CLICOLOR_FORCE", "1")),
        ("--json status", ("CLICOLOR_FORCE", "1")),
    ] {
        let shown = on_terminal(&lab, line, &[env]).await;
        assert!(!shown.contains('\u{1b}') && shown.contains("down"), "{line} {env:?}: {shown:?}");
    }
    let forced = lab.ok("status --color always").await;
    assert!(forced.contains(red), "{forced:?}");
}

#[tokio::test]
async fn what_takes_long_says_so_on_a_terminal_only() {
    let lab = Lab::new().await;
    // Whoever connects here waits for ever.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", silent.local_addr().unwrap());
    let line = format!("timeout 4 {NEARMOST} --broker {at} status");
    let run = |program: &str, args: [&str; 3]| {
        let mut command = tokio::process::Command::new(program);
        command.args(args).env("TERM", "xterm").stdin(Stdio::null());
        command.env("NEARMOST_PERSON_KEY", lab.dir.path().join("person.key"));
        command.output()
    };
    let terminal = run("script", ["-qec", &line, "/dev/null"]);
    let piped = run("sh", ["-c", &line, "sh"]);
    let (terminal, piped) = tokio::join!(terminal, piped);
    let shown = texts(&terminal.unwrap()).0;
    assert!(shown.contains("asking the broker"), "{shown:?}");
    let (out, err) = texts(&piped.unwrap());
    assert_eq!(format!("{out}{err}"), "");
}

#[tokio::test]
async fn bash_completes_commands() {
    let dir = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(NEARMOST).args(["completions", "bash"]).output().await.unwrap();
    let file = dir.path().join("nearmost.bash");
    std::fs::write(&file, &output.stdout).unwrap();
    let complete = |words: &str| {
        format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _nearmost nearmost \
             \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\"",
            file.display()
        )
    };
    for (words, found) in
        [("nearmost st", "status"), ("nearmost domain dn", "dnssec"), ("nearmost status --ch", "--check")]
    {
        let output =
            tokio::process::Command::new("bash").args(["-c", &complete(words)]).output().await.unwrap();
        let (out, err) = texts(&output);
        assert_eq!(out.trim(), found, "{words}: {err}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output =
            tokio::process::Command::new(NEARMOST).args(["completions", shell]).output().await.unwrap();
        assert!(output.status.success() && texts(&output).0.contains("status"), "{shell}");
    }
}
