//! What is wrong, and what people order of mirrors and nodes, by the command as they run it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod lab;

use lab::{Lab, support, texts};
use nearmost_client::api::FleetMirror;

#[tokio::test]
async fn what_is_wrong_is_told_first() {
    use nearmost_client::api::{EvidenceView, SaidView, VerdictView, WitnessView};
    let lab = Lab::new().await;
    let mut fleet = support::fleet_of("nb1test");
    let mirror = fleet.mirrors.remove(0);
    let verdict = |state: &str, reason: &str| VerdictView {
        state: state.into(),
        eligible: state == "up" || state == "suspect",
        reason: reason.into(),
        ..mirror.verdicts[0].clone()
    };
    let evidence = EvidenceView {
        agent_heard_ms_ago: Some(3000),
        broker: Some(SaidView { reached: false, ms_ago: 1000 }),
        witnesses: ["failed", "passed", "failed"]
            .map(|said| WitnessView { node: "w".into(), said: said.into(), ms_ago: 9 })
            .into(),
        peers: Vec::new(),
        complaints: 2,
        penalty: 1.25,
    };
    for (domain, name, verdicts) in [
        ("a.test", "calm", vec![verdict("up", "proven")]),
        ("a.test", "doubt", vec![verdict("suspect", "missed_beacons"), verdict("up", "proven")]),
        ("a.test", "frozen", vec![verdict("down", "frozen")]),
        ("a.test", "panic", vec![verdict("suspect", "panic")]),
        ("b.test", "new", vec![verdict("down", "of_a_newer_broker")]),
        (
            "b.test",
            "out",
            vec![VerdictView { evidence: Some(evidence), ..verdict("down", "silent_and_unreachable") }],
        ),
        ("b.test", "unproven", vec![]),
    ] {
        let (domain, mirror) =
            (domain.into(), FleetMirror { mirror: name.into(), verdicts, ..mirror.clone() });
        fleet.mirrors.push(FleetMirror { domain, ..mirror });
    }
    fleet.doubts_itself = true;
    lab.broker.store.lock().unwrap().fleet = Some(fleet.clone());
    let shown = lab.ok("status").await;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].starts_with("this broker doubts itself"), "{shown}");
    assert_eq!(lines[2], "b.test: none of its 3 mirrors takes new users");
    let rows: Vec<&str> = lines[4..].iter().filter(|l| l.contains(".test/")).copied().collect();
    let names: Vec<&str> = rows.iter().filter_map(|l| l.split(' ').next()).collect();
    let worst_first =
        ["b.test/new", "b.test/out", "b.test/unproven", "a.test/panic", "a.test/doubt", "a.test/frozen"];
    assert_eq!(names, worst_first, "{shown}");
    assert!(rows[0].contains("of a newer broker"), "{shown}");
    for part in [
        "b.test/out      v4    down       no    2m   its agent is silent, and probes fail\n",
        "    seen by agent: agent heard 3s ago, broker failed 1s ago, 2 of 3 witnesses",
        "a.test/panic    v4    suspect    yes   2m   would be down, but too little is le…\n",
        "\n1 of 7 mirrors are well\n",
    ] {
        assert!(shown.contains(part), "{shown}\nexpected: {part}");
    }
    assert_eq!(lab.run("status --check").await.status.code(), Some(8));

    fleet.doubts_itself = false;
    fleet.mirrors.truncate(1);
    let calm = fleet.mirrors[0].clone();
    lab.broker.store.lock().unwrap().fleet = Some(fleet.clone());
    let shown = lab.ok("status --check").await;
    assert!(shown.contains("1 mirrors\n") && shown.ends_with("1 of 1 mirrors are well\n"), "{shown}");
    let failed = vec![verdict("down", "probe_failed")];
    let many =
        (0..100).map(|i| FleetMirror { mirror: format!("m{i}"), verdicts: failed.clone(), ..calm.clone() });
    fleet.mirrors = many.collect();
    lab.broker.store.lock().unwrap().fleet = Some(fleet);
    let shown = lab.ok("status").await;
    assert!(shown.lines().count() < 24 && shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
    assert!(shown.contains(" more; --all shows all\n"), "{shown}");
}

#[tokio::test]
async fn maintenance_is_planned_listed_and_lifted() {
    let lab = Lab::new().await;
    lab.ok("domain add play.example.com").await;
    lab.ok("node add lon1 --domain play.example.com").await;
    lab.ok("mirror add play.example.com/lon --node lon1").await;
    assert_eq!(lab.ok("orders").await, "no orders\n");
    let planned =
        lab.ok("mirror drain play.example.com/lon --from 2126-12-01T02:00Z --until 2126-12-01T04:00Z --note disks").await;
    assert!(
        planned.contains(
            "+ drain play.example.com/lon  note: disks, window 2126-12-01 02:00:00 UTC: until 2126-12-01 04:00:00 UTC\n"
        ),
        "{planned}"
    );
    let more = lab.ok("mirror drain play.example.com/lon --from 2126-11-01T02:00Z --for 30m").await;
    assert!(
        more.contains("~ drain play.example.com/lon  window 2126-11-01 02:00:00 UTC: none → until 2126-11-01 02:30:00 UTC\n"),
        "{more}"
    );
    assert!(
        lab.ok("mirror drain play.example.com/lon --from 2126-11-01T02:00Z --for 30m")
            .await
            .contains("nothing to do")
    );
    let now = lab.ok("node drain lon1 --until +2h").await;
    assert!(now.contains("+ drain lon1  window 20"), "{now}");
    let orders = lab.ok("orders").await;
    let lines: Vec<&str> = orders.lines().collect();
    assert!(
        lines[1].starts_with("mirror play.example.com/lon  maintenance  planned   2126-11-01 02:00:00 UTC  2126-11-01 02:30:00 UTC  disks"),
        "{orders}"
    );
    assert!(lines[3].starts_with("node lon1                    maintenance  in force  20"), "{orders}");
    assert_eq!(lab.ok("orders LON1").await.lines().count(), 2);
    assert_eq!(lab.ok("orders play.example.com.").await.lines().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&lab.ok("--json orders lon1").await).unwrap();
    assert_eq!((&json[0]["of"], &json[0]["state"]), (&"node lon1".into(), &"in force".into()));

    let (code, out, err) = lab.all(&["mirror", "drain", "play.example.com/lon"]).await;
    assert!(
        code == Some(0) && err.contains("warning: mirror play.example.com/lon had 2 maintenance windows"),
        "{err}"
    );
    assert!(out.contains("window 2126-11-01 02:00:00 UTC: until 2126-11-01 02:30:00 UTC → none"), "{out}");
    let err = lab.fails("mirror drain play.example.com/lon --for 1h").await;
    assert!(err.contains("mirror play.example.com/lon is drained already until `undrain` lifts it"), "{err}");
    assert!(lab.fails("domain drain play.example.com --for 1h").await.contains("is drained already"));
    assert!(lab.ok("domain undrain play.example.com").await.contains("- drain play.example.com/lon"));
    assert!(lab.ok("node undrain lon1").await.contains("- drain lon1"));
    assert!(
        lab.ok("domain drain play.example.com --from +1d --for 1h")
            .await
            .contains("+ drain play.example.com/lon  window")
    );
}

#[tokio::test]
async fn maintenance_that_makes_no_sense_is_refused() {
    let lab = Lab::new().await;
    lab.ok("domain add play.example.com").await;
    lab.ok("node add lon1 --domain play.example.com").await;
    let commits = lab.broker.store.lock().unwrap().commits;
    let err = lab.fails("node drain lon1 --until 2020-01-01T00:00Z").await;
    assert!(err.contains("the maintenance would end at 2020-01-01 00:00:00 UTC, and it is 20"), "{err}");
    let err = lab.fails("node drain lon1 --from +2h --until +1h").await;
    assert!(err.contains("which is not after its beginning at 20"), "{err}");
    for (line, says) in [
        ("node drain lon1 --from +2h", "--until <TIME>|--for <DURATION>"),
        ("node drain lon1 --until +2h --for 2h", "cannot be used with"),
        (
            "node drain lon1 --until tomorrow",
            "\"tomorrow\" is no moment in UTC; write it as in 2026-12-01T02:00Z, or +2h",
        ),
        ("node drain lon1 --until -2h", "\"-2h\" is no moment"),
        ("node drain lon1 --until 2126-02-30T02:00Z", "there is no such day"),
        ("node drain lon1 --for -2h", "lies in the past"),
    ] {
        let (_, err) = texts(&lab.run(line).await);
        assert!(err.contains(says), "{line}: {err}");
    }
    for hour in 1..=32 {
        lab.ok(&format!("node drain lon1 --from +{hour}h --for 1m")).await;
    }
    let err = lab.fails("node drain lon1 --from +40h --for 1m").await;
    assert!(err.contains("drain lon1: windows: there are 33, expected at most 32"), "{err}");
    assert_eq!(lab.broker.store.lock().unwrap().commits, commits + 32);
}

#[tokio::test]
async fn verdicts_are_forced_frozen_and_released() {
    let lab = Lab::new().await;
    lab.ok("domain add play.example.com").await;
    assert!(lab.fails("domain freeze play.example.com --for 1h").await.contains("has no mirrors to freeze"));
    for name in ["lon", "nyc"] {
        lab.ok(&format!("mirror add play.example.com/{name} --address 203.0.113.1 --health probe")).await;
    }
    let frozen = lab.ok("mirror force play.example.com/lon freeze --for 10m").await;
    assert!(frozen.contains("+ force play.example.com/lon  to: freeze, until: 20"), "{frozen}");
    let err = lab.fails("mirror release play.example.com/lon").await;
    assert!(err.contains("mirror play.example.com/lon is forced (freeze) until 20"), "{err}");
    assert!(lab.ok("mirror force play.example.com/lon clear").await.contains("- force play.example.com/lon"));
    let released = lab.ok("mirror release play.example.com/lon").await;
    assert!(released.contains("+ force play.example.com/lon  before: 20"), "{released}");
    assert!(released.contains("to: release"), "{released}");
    assert!(
        lab.ok("mirror force play.example.com/lon clear").await.contains("nothing to do"),
        "a release is no force"
    );
    assert!(
        lab.ok("orders").await.contains("mirror play.example.com/lon  released  over"),
        "{}",
        lab.ok("orders").await
    );

    lab.ok("mirror force play.example.com/nyc down --for 2h").await;
    let (code, out, err) = lab.all(&["domain", "freeze", "play.example.com", "--for", "1h"]).await;
    assert!(code == Some(0) && out.contains("~ force play.example.com/lon  before: 20"), "{out}{err}");
    assert!(!out.contains("play.example.com/nyc"), "{out}");
    assert!(
        err.contains("warning: mirror play.example.com/nyc is not frozen: it is forced down until 20"),
        "{err}"
    );
    let thawed = lab.ok("domain unfreeze play.example.com").await;
    assert!(thawed.contains("- force play.example.com/lon\n") && !thawed.contains("nyc"), "{thawed}");
    assert!(lab.ok("domain unfreeze play.example.com").await.contains("nothing to do"));
    lab.ok("mirror force play.example.com/nyc clear").await;
    let both = lab.ok("domain freeze play.example.com --for 1h").await;
    assert!(
        both.contains("+ force play.example.com/lon") && both.contains("+ force play.example.com/nyc"),
        "{both}"
    );
    assert_eq!(both.matches("change ").count(), 1, "in one change: {both}");
    assert_eq!(lab.run("domain freeze play.example.com").await.status.code(), Some(2), "--for is missing");
    assert_eq!(lab.run("mirror force play.example.com/lon freeze").await.status.code(), Some(2));
}

#[tokio::test]
async fn failover_is_set_and_cleared() {
    let lab = Lab::new().await;
    let added =
        lab.ok("domain add play.example.com --ttl 30 --ttl-min 10 --ttl-max 120 --failback manual").await;
    assert!(
        added.contains(
            "+ domain play.example.com  failback: manual, ttl_max_s: 120, ttl_min_s: 10, ttl_s: 30\n"
        ),
        "{added}"
    );
    let file = lab.ok("export").await;
    assert!(file.contains("ttl_min_s = 10\nttl_max_s = 120\nfailback = \"manual\"\n"), "{file}");
    let err = lab.fails("domain set play.example.com --ttl 5").await;
    assert!(err.contains("ttl_min_s = 10: expected at most ttl_s, which is 5"), "{err}");
    let err = lab.fails("domain set play.example.com --ttl 300").await;
    assert!(err.contains("ttl_max_s = 120: expected at least ttl_s, which is 300"), "{err}");
    let args = ["domain", "set", "play.example.com", "--ttl-min", "", "--ttl-max", "", "--failback", "auto"];
    let (_, out, err) = lab.all(&args).await;
    assert!(
        out.contains("~ domain play.example.com  failback: manual → auto, ttl_max_s: 120 → none, ttl_min_s: 10 → none\n"),
        "{out}{err}"
    );
    for (line, says) in [
        ("domain set play.example.com --ttl-min soon", "\"soon\" is not a TTL in seconds"),
        ("domain set play.example.com --failback never", "expected auto or manual"),
    ] {
        let output = lab.run(line).await;
        let (_, err) = texts(&output);
        assert!(output.status.code() == Some(2) && err.contains(says), "{line}: {err}");
    }
}
