//! Peers, rights and applications' records, by the command as people run it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod lab;

use lab::{Lab, texts};
use nearmost_client::api::{PeerQueueView, PeerView, PeersResponse, RefusedRecordView, SplitView};
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::token::{JoinToken, PeerToken};

fn broker(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[seed; 32])
}

fn peer(name: &str, seed: u8) -> PeerView {
    PeerView {
        id: broker(seed).id().to_string(),
        name: name.into(),
        admin: false,
        domains: vec!["*.b.example".into()],
        via: None,
        addresses: vec!["b.example:7843".into()],
        state: "up".into(),
        last_contact_unix_ms: 1_760_000_000_000,
        up_since_unix_ms: Some(1_760_000_000_000),
        attempts: 0,
        last_error: None,
        next_try_ms: None,
        rtt_ms: Some(8.25),
        queue: PeerQueueView {
            records: 0,
            paused: 0,
            in_flight_bytes: 0,
            oldest_ms: None,
            expired: 0,
            refused: 0,
        },
        behind: None,
        last_compared_unix_ms: 1_760_000_000_000,
        comparing: None,
        sees: vec![broker(202).id().to_string()],
        refusals: Vec::new(),
    }
}

fn federation() -> PeersResponse {
    let queue =
        PeerQueueView { records: 12, oldest_ms: Some(170_000_000), expired: 30, ..peer("x", 1).queue };
    let refusal = RefusedRecordView {
        record: "mirror a.test/lon".into(),
        answer: "unauthorised".into(),
        why: "the domain has another owner".into(),
        at_unix_ms: 1_760_000_000_000,
    };
    let carol = PeerView {
        state: "down".into(),
        last_error: Some("connection refused".into()),
        attempts: 7,
        next_try_ms: Some(40_000),
        behind: Some("expired".into()),
        queue,
        refusals: vec![refusal],
        via: Some(broker(201).id().to_string()),
        ..peer("carol", 202)
    };
    PeersResponse {
        broker: broker(200).id().to_string(),
        log_epoch: 1,
        log_position: 9,
        statements: 9,
        rights_digest: "00".into(),
        digest: "00".into(),
        peers: vec![peer("bob", 201), carol],
        splits: vec![SplitView {
            a: broker(201).id().to_string(),
            b: broker(202).id().to_string(),
            since_unix_ms: 1_760_000_000_000,
        }],
        alarms: vec!["the author np1x forked".into()],
    }
}

#[tokio::test]
async fn who_is_behind_is_told_first() {
    let lab = Lab::new().await;
    assert_eq!(lab.ok("peer list").await, "no peers: this broker is alone\n");
    lab.broker.store.lock().unwrap().peers = Some(federation());
    let shown = lab.ok("peer list").await;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("NAME   STATE") && lines[0].ends_with("LAST COMPARED  RTT     NOTE"),
        "{shown}"
    );
    assert!(lines[1].starts_with("carol  down ") && lines[2].starts_with("bob    up "), "{shown}");
    for part in
        ["12, oldest 1d", "expired: 30 dropped", "next try in 40s, 7 attempts", ": connection refused"]
    {
        assert!(lines[1].contains(part), "{shown}\nexpected: {part}");
    }
    assert!(lines[3].starts_with("split: bob and carol do not see each other, for "), "{shown}");
    assert_eq!(lines[4], "alarm: the author np1x forked");
    let json: serde_json::Value = serde_json::from_str(&lab.ok("--json peer list").await).unwrap();
    assert_eq!(json["peers"][1]["queue"]["expired"], 30);

    let shown = lab.ok("peer show carol").await;
    for line in [
        "rights        no admin; domains: *.b.example\n",
        "member        on the word of bob\n",
        "next try      in 40.0 s, after 7 failed attempts\n",
        "2025-10-09 08:53:20 UTC  mirror a.test/lon  unauthorised  the domain has another owner\n",
    ] {
        assert!(shown.contains(line), "{shown}\nexpected: {line}");
    }
    assert!(lab.ok("peer show bob").await.contains("sees          carol\n"));
    assert!(lab.fails("peer show dave").await.contains("no peer \"dave\"; there are bob, carol"));
}

#[tokio::test]
async fn brokers_are_let_in() {
    let lab = Lab::new().await;
    let (code, out, err) =
        lab.all(&["peer", "invite", "Bob", "--domain", "*.B.example", "--ttl", "2h"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "nmp1token\n"), "{err}");
    assert!(err.contains("nearmost peer join TOKEN"), "{err}");
    let asked = lab.broker.store.lock().unwrap().peer_invites.remove(0);
    assert_eq!((asked.name.as_str(), asked.admin, asked.ttl_s), ("bob", false, 7200));
    assert_eq!(asked.domains, ["*.b.example"]);

    let token = JoinToken { broker: [7; 32], secret: [8; 16], addresses: vec!["b.example:7843".into()] };
    let node = lab.fails(&format!("peer join {}", token.encode())).await;
    assert!(node.contains("nmp1"), "{node}");
    let token = PeerToken(token).encode();
    assert!(
        lab.ok(&format!("peer join {token}")).await.contains("asks nb1bob at b.example:7843 to be let in")
    );
    assert_eq!(lab.broker.store.lock().unwrap().joins, [token]);
}

#[tokio::test]
async fn members_are_changed_banned_and_removed() {
    let lab = Lab::new().await;
    lab.broker.admit_peer(&broker(201), r#"{"name":"bob","domains":["b.example"]}"#);
    let dry = lab.ok("peer set bob --admin --dry-run").await;
    assert!(dry.contains("admin: false → true\nnothing was written\n"), "{dry}");
    assert_eq!(lab.broker.store.lock().unwrap().commits, 0);
    let set = lab.run("peer set bob --admin --domain *").await;
    let (out, err) = texts(&set);
    assert!(out.contains("admin: false → true, domains: [b.example] → [*]"), "{out}{err}");
    assert!(err.contains("this broker now knows your key np1"), "{err}");
    assert_eq!(lab.ok("peer set bob --admin").await, "nothing to do\n");
    assert!(lab.ok("peer set bob --no-admin").await.contains("admin: true → false"));
    let (code, _, err) = lab.all(&["peer", "set", "bob"]).await;
    assert!(code == Some(2) && err.contains("--admin"), "{err}");

    let banned = lab.run_args(&["peer", "ban", "bob", "--for", "7d", "--reason", "loud\u{1b}"]).await;
    let (out, err) = texts(&banned);
    assert!(out.contains("+ ban bob (nb1") && out.contains("reason: loud\\u{1b}, until: 2"), "{out}{err}");
    assert!(lab.ok("peer unban bob").await.contains("- ban bob (nb1"));
    let removed: serde_json::Value = serde_json::from_str(&lab.ok("--json peer remove bob").await).unwrap();
    assert_eq!(removed["changes"][0]["action"], "remove");
    assert!(lab.fails("peer remove bob").await.contains("no peer \"bob\""));
    assert!(lab.ok("export").await.contains("version = 1"), "these are no part of files");
    let history = lab.ok("history").await;
    assert!(history.contains("  remove peer bob\n  - peer nb1"), "{history}");
    assert!(history.contains("reason: loud\\u{1b}, until: 2"), "{history}");
    assert!(lab.fails("undo 1").await.contains("change 1 holds nothing that can be undone"));
}

#[tokio::test]
async fn a_domain_is_claimed_granted_revoked_and_given_on() {
    let lab = Lab::new().await;
    lab.ok("domain add play.example.com").await;
    let shown = lab.ok("domain rights play.example.com").await;
    assert!(
        shown.contains("owner    nobody: whoever may create it") && shown.contains("no grants\n"),
        "{shown}"
    );
    assert!(lab.ok("domain claim Play.Example.com").await.contains("+ claim play.example.com\n"));
    assert_eq!(lab.ok("domain claim play.example.com").await, "nothing to do\n");
    let eve = KeyPair::from_seed(Role::Person, &[5; 32]).id();
    let grant = format!("domain grant play.example.com --to {eve} --role");
    let writer = lab.ok(&format!("{grant} writer --kind 5 --kind restrictive:6 --until 2100-01-01")).await;
    assert!(
        writer.contains("kinds: [5 restrictive:6], role: writer, until: 2100-01-01 00:00:00 UTC"),
        "{writer}"
    );
    assert!(lab.fails(&format!("{grant} writer")).await.contains("a writer needs at least one"));
    let (code, _, err) = lab.all(&format!("{grant} king").split(' ').collect::<Vec<_>>()).await;
    assert!(code == Some(2) && err.contains("expected admin, operator, auditor, writer"), "{err}");
    let shown = lab.ok("domain rights play.example.com").await;
    assert!(shown.contains("owner    ada (np1"), "{shown}");
    assert!(
        shown.contains("writer  in force  -     2100-01-01 00:00:00 UTC  5 restrictive:6  np1"),
        "{shown}"
    );
    assert!(
        lab.ok(&format!("domain revoke play.example.com --from {eve} --keep"))
            .await
            .contains("- grant play.example.com to np1")
    );
    let missing = lab.fails(&format!("domain revoke play.example.com --from {eve}")).await;
    assert!(missing.contains("there is no grant"), "{missing}");

    let file = lab.dir.path().join("new.key");
    let roll = format!("domain roll play.example.com --to-key {} --keep", file.display());
    assert!(lab.fails(&format!("{roll} --dry-run")).await.contains("there is no key in"));
    let rolled = lab.run(&roll).await;
    let (out, err) = texts(&rolled);
    assert!(
        out.contains("+ roll play.example.com from np1") && out.contains("= domain play.example.com  kept"),
        "{out}{err}"
    );
    assert!(err.contains("made the new key np1") && err.contains("NEARMOST_PERSON_KEY="), "{err}");
    let new = KeyPair::load(&file, Role::Person).unwrap().id().to_string();
    assert!(lab.ok("domain rights play.example.com").await.contains(&format!("owner    ada ({new})")));
    assert!(lab.fails("domain claim play.example.com").await.contains("is owned by ada"));
}

#[tokio::test]
async fn records_of_applications_are_put_read_and_removed() {
    let lab = Lab::new().await;
    assert_eq!(lab.ok("record get a.example").await, "no records\n");
    let put = lab.ok("record put a.example motd --text hello").await;
    assert!(put.contains("+ record a.example/motd of kind 0  bytes: 5\n"), "{put}");
    let path = lab.file("\u{0}two\n");
    lab.ok(&format!("record put a.example motd {path} --kind 7 --merge restrictive --until 2100-01-01"))
        .await;
    let list = lab.ok("record get A.Example").await;
    assert!(list.contains("restrictive:7  motd  5      2100-01-01 00:00:00 UTC"), "{list}");
    let several = lab.fails("record get a.example motd").await;
    assert!(several.contains("choose one with --kind: 0, restrictive:7"), "{several}");
    assert_eq!(lab.ok("record get a.example motd --kind restrictive:7 --raw").await, "\u{0}two\n");
    let one = lab.ok("record get a.example motd --kind 0").await;
    assert!(one.contains("bytes    5\n\nhello\n"), "{one}");
    let (_, out, _) = lab.all(&["--json", "record", "get", "a.example", "motd", "--kind", "0"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["records"][0]["body"], "aGVsbG8=");

    let large = lab.file(&"x".repeat(4096));
    let refused = lab.fails(&format!("record put a.example big {large}")).await;
    assert!(refused.contains("has 4096 bytes; the largest that fits has 39"), "{refused}");
    let wrong = lab.fails("record remove a.example motd --kind 3").await;
    assert!(wrong.contains("there is one of kind 0 and of kind restrictive:7"), "{wrong}");
    assert!(lab.ok("record remove a.example motd").await.contains("- record a.example/motd of kind 0\n"));
    let gone = lab.fails("record get a.example motd --kind 0").await;
    assert!(gone.contains("it was removed at 2"), "{gone}");
    let (code, _, err) = lab.all(&["record", "put", "a.example", "x"]).await;
    assert!(code == Some(2) && err.contains("--text"), "{err}");
}

#[tokio::test]
async fn records_are_followed() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};
    let lab = Lab::new().await;
    lab.ok("record put a.example motd --text hello").await;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_nearmost"))
        .args(["record", "watch", "a.example"])
        .env("NEARMOST_BROKER", format!("unix:{}", lab.socket.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains("  + motd of kind 0, 5 bytes, by np1"), "{first}");
    let second = lines.next_line().await.unwrap().unwrap();
    assert!(second.contains("  - motd of kind 0, by np1"), "{second}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn copies_are_made_where_none_is_yet() {
    let lab = Lab::new().await;
    let file = lab.dir.path().join("copy.db");
    let done = lab.ok(&format!("backup {}", file.display())).await;
    assert!(done.contains("0 statements are in /") && done.contains("copy.db"), "{done}");
    let refused = lab.fails(&format!("backup {}", file.display())).await;
    assert!(refused.contains("is there already (file_exists)"), "{refused}");
    lab.ok(&format!("backup {} --overwrite", file.display())).await;
    let relative = lab.ok("--json backup b.db").await;
    assert!(relative.contains("statements"), "{relative}");
    assert!(lab.broker.store.lock().unwrap().backups[2].path.starts_with('/'));
}
