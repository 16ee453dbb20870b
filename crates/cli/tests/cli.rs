//! The command as people run it, against a broker on a Unix socket.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod lab;

use lab::{Lab, support, texts};

#[tokio::test]
async fn what_was_measured_and_taken_is_shown() {
    let lab = Lab::new().await;
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = service.local_addr().unwrap();
    let mirror = |name: &str, address: &str| nearmost_client::api::RankedMirror {
        mirror: name.into(),
        addresses: vec![address.into()],
        port: at.port(),
        ..support::ranked()
    };
    // Nobody listens on the other address.
    let mirrors = vec![mirror("near", "127.0.0.1"), mirror("gone", "127.0.0.99")];
    lab.broker.store.lock().unwrap().ranked = Some(mirrors);
    let shown = lab.ok("measure play.example.com --no-lookup").await;
    assert!(shown.contains("play.example.com from 127.0.0.1") && shown.contains(&at.to_string()), "{shown}");
    assert!(shown.contains("gone    -") && shown.contains("127.0.0.99"), "{shown}");
    assert!(shown.contains("the broker took 1 round trip, and knows the resolver"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&lab.ok("--json measure play.example.com --no-lookup").await).unwrap();
    assert!(json["rounds"][0]["rtt_ms"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!((&json["accepted"], &json["rounds"][1]["rtt_ms"]), (&1.into(), &serde_json::Value::Null));

    let said = lab.fails("measure play.example.com --quic 127.0.0.1:1").await;
    assert!(said.contains("--broker-id"), "{said}");
    let said = lab.fails("measure nope.example --no-lookup").await;
    assert!(said.contains("unknown_domain"), "{said}");
}

const FILE: &str = r#"
version = 1
[[domain]]
name = "play.example.com"
[[mirror]]
domain = "play.example.com"
name = "lon"
addresses = ["203.0.113.1"]
health = "probe"
"#;

async fn explanations_are_shown(lab: &Lab) {
    let shown = lab.ok("explain play.example.com --client 192.0.2.7").await;
    for line in [
        "play.example.com for 192.0.2.7, list 0123abcd\n",
        "place     United Kingdom 51.50,-0.12 AS64500, from test\n",
        "network   cell 192.0.2.0/24, in the geo table's 192.0.0.0/16, 192.0.2.0/24 measured round trips itself, \
         others in AS64500 count\n",
        "v4      203.0.113.1  eligible  first  3.0          192.0.2.0/24  20     scope: everyone in it has this list\n",
        "v6      -            empty     none   -            192.0.2.0/24  20     scope: ",
        "TTL: the domain's policy says so\n",
        "1*  lon     12.3    346  v4 up, v6 down  420       9.5          12.5    95 % network, 3 % AS, 2 % distance  \
         v4 75.0, v6 0.0  weight 100, 25 % shed, pinned\n",
        "lon     v4 eligible: up, reported (agent) for 2m\n        v6 not eligible: down, ",
        "        nearest by distance\n        v6 is down\n",
    ] {
        assert!(shown.contains(line), "{shown}\nexpected: {line}");
    }
    let shown = lab.ok("explain play.example.com --resolver 192.0.2.53").await;
    assert!(shown.contains("resolver  192.0.2.53: its users were found around 198.51.100.1"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&lab.ok("--json explain play.example.com --client 192.0.2.7").await).unwrap();
    assert_eq!(
        (&json["mirrors"][0]["mirror"], &json["mirrors"][0]["sharing"]["weight"]),
        (&"lon".into(), &100.into())
    );
}

#[tokio::test]
async fn questions_are_shown_as_tables_and_as_json() {
    let lab = Lab::new().await;
    let shown = lab.ok("resolve play.example.com --client 192.0.2.7").await;
    assert!(
        shown.contains("play.example.com for 192.0.2.7") && shown.contains("1*  lon     12.3"),
        "{shown}"
    );
    explanations_are_shown(&lab).await;
    let shown = lab.ok("status --all").await;
    assert!(shown.contains("play.example.com/lon  United Kingdom 51.50,-0.12 AS64500  v4"), "{shown}");
    assert!(shown.contains("2m"), "{shown}");
    let shown = lab.ok("geo lookup 192.0.2.7").await;
    assert!(shown.contains("United Kingdom (GB)") && shown.contains("192.0.2.0/24"), "{shown}");
    assert!(lab.ok("node list").await.contains("lon1  connected  drained"));
    assert!(lab.ok("domain list").await.contains("play.example.com  1        1"));
    assert!(lab.ok("mirror list").await.contains("play.example.com/lon"));
    let json = lab.ok("--json resolve play.example.com").await;
    assert!(json.contains("\"ttl_s\": 20"), "{json}");
}

#[tokio::test]
async fn a_file_is_applied_once_exported_and_undone() {
    let lab = Lab::new().await;
    let file = lab.file(FILE);
    let dry = lab.ok(&format!("apply {file} --dry-run")).await;
    assert!(dry.contains("+ domain play.example.com") && dry.contains("2 to add"), "{dry}");
    assert_eq!(lab.broker.store.lock().unwrap().commits, 0);
    let first = lab.run(&format!("apply {file}")).await;
    let (out, err) = texts(&first);
    assert!(out.contains("+ mirror play.example.com/lon  addresses: [203.0.113.1], health: probe"), "{out}");
    assert!(err.contains("this broker now knows your key np1"), "{err}");
    assert!(lab.ok(&format!("apply {file}")).await.contains("nothing to do"));
    assert!(lab.ok(&format!("apply {file} --dry-run --prune")).await.contains("nothing to do"));

    let exported = lab.dir.path().join("exported.toml");
    lab.ok(&format!("export {}", exported.display())).await;
    assert!(lab.ok(&format!("apply {} --prune", exported.display())).await.contains("nothing to do"));
    assert!(lab.ok("export").await.contains("name = \"play.example.com\""));

    let history = lab.ok("history").await;
    assert!(
        history.contains("change 1  2025-10-09 08:53:20 UTC") && history.contains("+ person"),
        "{history}"
    );
    assert!(lab.ok("history play.example.com/lon").await.contains("+ mirror"));
    let undone = lab.ok("undo").await;
    assert!(undone.contains("- domain play.example.com") && undone.contains("- mirror"), "{undone}");
    assert!(lab.ok("undo").await.contains("+ mirror play.example.com/lon"));
    let err = lab.fails("undo 1").await;
    assert!(err.contains("change 1 cannot be undone"), "{err}");
}

#[tokio::test]
async fn entries_are_added_set_drained_forced_and_removed() {
    let lab = Lab::new().await;
    lab.ok("domain add Play.Example.com --answers 3").await;
    lab.ok("node add lon1 --domain play.example.com --latitude 51.5 --longitude -0.12 --country gb").await;
    let added = lab.ok("mirror add play.example.com/lon --node lon1 --address 203.0.113.1 --probe http --probe-status 200").await;
    assert!(
        added.contains("+ mirror play.example.com/lon  ") && added.contains("probe.status: [200 200]"),
        "{added}"
    );
    let lists = ["--alpn", "h2", "--redirect-host", "www.example.com"];
    lab.run_args(&[&["domain", "set", "play.example.com"], &lists[..]].concat()).await;
    let cleared =
        lab.run_args(&["domain", "set", "play.example.com", "--alpn", "", "--redirect-host", ""]).await;
    let (out, err) = texts(&cleared);
    assert!(out.contains("alpn: [h2] → none, redirect_hosts: [www.example.com] → none"), "{out}{err}");
    let hostile = ["mirror", "set", "play.example.com/lon", "--url", "http://a/\u{202e}x"];
    let (out, err) = texts(&lab.run_args(&hostile).await);
    assert!(!format!("{out}{err}").contains('\u{202e}'), "{out}{err}");
    lab.run_args(&["mirror", "set", "play.example.com/lon", "--url", ""]).await;
    let (_, err) = texts(&lab.run("node invite --domain play.example.com --ttl -5m").await);
    assert!(err.contains("\"-5m\" lies in the past"), "{err}");
    let set = lab.ok("mirror set play.example.com/lon --port 8443 --weight 50").await;
    assert!(set.contains("~ mirror play.example.com/lon  port: 443 → 8443, weight: 100 → 50"), "{set}");
    assert!(lab.ok("mirror set play.example.com/lon --port 8443").await.contains("nothing to do"));
    assert!(lab.fails("mirror add play.example.com/lon --node lon1").await.contains("is there already"));
    assert!(
        lab.fails("mirror set play.example.com/nyc --port 1")
            .await
            .contains("there is no mirror play.example.com/nyc")
    );

    let preview = lab.ok("mirror drain play.example.com/lon --dry-run").await;
    assert!(
        preview.contains("play.example.com  lon     20.0   0.0     10.0        -\n")
            && preview.contains("nothing was written"),
        "{preview}"
    );
    assert!(
        lab.ok("domain drain play.example.com --note maintenance")
            .await
            .contains("+ drain play.example.com/lon")
    );
    assert!(lab.ok("mirror undrain play.example.com/lon").await.contains("- drain play.example.com/lon"));
    assert!(lab.ok("mirror undrain play.example.com/lon").await.contains("nothing to do"));
    assert!(lab.ok("node drain lon1").await.contains("+ drain lon1"));
    assert!(
        lab.ok("mirror force play.example.com/lon down --for 10m")
            .await
            .contains("+ force play.example.com/lon")
    );
    assert!(lab.ok("mirror force play.example.com/lon clear").await.contains("- force play.example.com/lon"));
    assert!(lab.ok("node revoke lon1").await.contains("revoked: none → true"));

    assert!(lab.fails("node remove lon1").await.contains("unknown node \"lon1\""));
    let err = lab.fails("domain remove play.example.com").await;
    assert!(err.contains("has mirrors (lon)") && err.contains("--with-mirrors"), "{err}");
    let gone = lab.fails("node remove lon2").await;
    assert!(gone.contains("there is no node lon2"), "{gone}");
    lab.ok("mirror remove play.example.com/lon").await;
    lab.ok("node remove lon1").await;
    lab.ok("domain remove play.example.com").await;
    let view = lab.broker.view();
    assert_eq!(view.entries.len(), 1, "only the person is left: {:?}", view.entries.keys());
}

#[tokio::test]
async fn policies_are_added_set_and_cleared() {
    let lab = Lab::new().await;
    let rules = ["--rule", "pin country=cn SHA,hkg", "--rule", "exclude prefix=192.0.2.0/24 lon"];
    let order = ["--strategy", "failover", "--order", "lon", "--order", "nyc"];
    let (code, out, err) = lab
        .all(
            &[&["domain", "add", "play.example.com", "--explore-percent", "2.5"], &rules[..], &order]
                .concat(),
        )
        .await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("+ domain play.example.com  explore_percent: 2.5, order: [lon nyc], rules.exclude prefix=192.0.2.0/24: [lon], rules.pin country=CN: [sha hkg], strategy: failover"),
        "{out}"
    );
    assert!(
        err.contains("warning: domain play.example.com: order names mirror \"nyc\", which is not there"),
        "{err}"
    );
    let set = lab.ok("domain set play.example.com --order nyc").await;
    assert!(set.contains("~ domain play.example.com  order: [lon nyc] → [nyc]\n"), "{set}");
    let err = lab.fails("domain set play.example.com --strategy nearest").await;
    assert!(err.contains("order stands only beside strategy = \"failover\""), "{err}");
    let (_, out, err) = lab
        .all(&["domain", "set", "play.example.com", "--strategy", "nearest", "--order", "", "--rule", ""])
        .await;
    assert!(
        out.contains("order: [nyc] → none, rules.exclude prefix=192.0.2.0/24: [lon] → none"),
        "{out}{err}"
    );
    assert!(out.contains("strategy: failover → nearest"), "{out}");
    let file = lab.ok("export").await;
    assert!(
        file.contains("explore_percent = 2.5\nstrategy = \"nearest\"\n") && !file.contains("rules"),
        "{file}"
    );

    assert!(lab.fails("domain set play.example.com --explore-percent 21").await.contains("expected 0 to 20"));
    for (rule, says) in [
        ("pin country=CN", "expected three as in \"pin country=CN sha,hkg\""),
        ("pin prefix=192.0.2.7/24 lon", "as in 192.0.2.0/24"),
    ] {
        let (code, _, err) = lab.all(&["domain", "set", "play.example.com", "--rule", rule]).await;
        assert!(code == Some(2) && err.contains(says), "{err}");
    }
    let (code, _, err) =
        lab.all(&["domain", "set", "play.example.com", "--rule", "pin country=QQ lon"]).await;
    assert!(code == Some(7) && err.contains("rule 1 (pin country=QQ): \"QQ\" is no country"), "{err}");
    let (code, _, err) = lab.all(&["domain", "add", "b.example", "--strategy", "best"]).await;
    assert!(code == Some(2) && err.contains("expected nearest, balanced, weighted, failover"), "{err}");
}

#[tokio::test]
async fn places_are_corrected_listed_undone_and_removed() {
    let lab = Lab::new().await;
    assert!(lab.ok("geo override list").await.contains("no overrides"));
    let added = lab.ok("geo override add 192.0.2.0/24 GB").await;
    assert!(added.contains("+ override 192.0.2.0/24  country: GB\n"), "{added}");
    let added = lab.ok("geo override add ::ffff:9.0.0.0/104 -33.9,151.2,AU").await;
    assert!(
        added.contains("+ override 9.0.0.0/8  country: AU, latitude: -33.9, longitude: 151.2\n"),
        "{added}"
    );
    lab.ok("geo override add 2001:db8::/32 --latitude -33.9 --longitude 151.2 --asn 64496").await;
    let added = lab.ok("geo override add 192.0.2.0/24 AS64500").await;
    assert!(added.contains("~ override 192.0.2.0/24  asn: none → 64500, country: GB → none\n"), "{added}");
    let list = lab.ok("geo override list").await;
    assert_eq!(
        list,
        "PREFIX         POSITION     COUNTRY  AS\n\
         9.0.0.0/8      -33.9,151.2  AU       -\n\
         192.0.2.0/24   -            -        64500\n\
         2001:db8::/32  -33.9,151.2  -        64496\n"
    );
    let json: serde_json::Value = serde_json::from_str(&lab.ok("--json geo override list").await).unwrap();
    assert_eq!(
        (&json[0]["prefix"], &json[0]["country"], &json[1]["asn"]),
        (&"9.0.0.0/8".into(), &"AU".into(), &64500.into())
    );

    let history = lab.ok("history 192.0.2.0/24").await;
    assert!(history.contains("add override 192.0.2.0/24") && history.contains("+ override"), "{history}");
    assert!(!history.contains("9.0.0.0"), "{history}");
    let undone = lab.ok("undo").await;
    assert!(undone.contains("~ override 192.0.2.0/24  asn: 64500 → none, country: none → GB\n"), "{undone}");
    let removed = lab.ok("geo override remove ::ffff:192.0.2.0/120").await;
    assert!(removed.contains("- override 192.0.2.0/24\n"), "{removed}");
    let file = lab.dir.path().join("exported.toml");
    lab.ok(&format!("export {}", file.display())).await;
    assert!(lab.ok(&format!("apply {} --prune", file.display())).await.contains("nothing to do"));
    assert!(
        lab.ok(&format!("apply {} --prune", lab.file("version = 1")))
            .await
            .contains("- override 9.0.0.0/8\n")
    );
    assert!(lab.ok("geo override list").await.contains("no overrides"));
}

#[tokio::test]
async fn a_place_that_makes_no_sense_is_refused() {
    let lab = Lab::new().await;
    for (line, says) in [
        ("geo override add 192.0.2.7/24 GB", "expected no bits beyond the prefix length, as in 192.0.2.0/24"),
        ("geo override add 192.0.2.7 GB", "192.0.2.7/32 is this address alone"),
        ("geo override remove 192.0.2.0/24", "there is no override 192.0.2.0/24"),
        ("geo override add 192.0.2.0/24 QQ", "override 192.0.2.0/24: place: \"QQ\" is no country"),
        ("geo override add 192.0.2.0/24 --asn 0", "override 192.0.2.0/24: asn = 0: expected 1"),
        ("geo override add 192.0.2.0/24 --latitude nan --longitude 0", "latitude and longitude go together"),
    ] {
        let err = lab.fails(line).await;
        assert!(err.contains(says), "{line}: {err}");
    }
    for (line, says) in [
        ("geo override add 192.0.2.0/24", "<PLACE>"),
        ("geo override add 192.0.2.0/24 London", "found \"London\", expected a place such as GB, 51.5,-0.1"),
        ("geo override add 192.0.2.0/24 GB --asn 7", "cannot be used with"),
        ("geo override add 192.0.2.0/24 --latitude 5", "--longitude"),
    ] {
        let output = lab.run(line).await;
        let (_, err) = texts(&output);
        assert!(output.status.code() == Some(2) && err.contains(says), "{line}: {err}");
    }
    assert_eq!(lab.broker.store.lock().unwrap().commits, 0);
}

#[tokio::test]
async fn an_invitation_prints_only_the_token() {
    let lab = Lab::new().await;
    let output = lab.run("node invite --domain Play.example.com. --name LON1 --ttl 90m").await;
    let (out, err) = texts(&output);
    assert_eq!(out, "nmt1token\n");
    assert!(err.contains("good for one node until 2025-10-09 08:53:20 UTC"), "{err}");
    let invite = lab.broker.store.lock().unwrap().invites[0].clone();
    assert_eq!(
        (invite.domains, invite.name, invite.ttl_s),
        (vec!["play.example.com".into()], Some("lon1".into()), 5400)
    );
}

#[tokio::test]
async fn mistakes_are_told_with_their_place_and_write_nothing() {
    let lab = Lab::new().await;
    for (text, says) in [
        (
            FILE.replace("203.0.113.1", "203.0.113.999"),
            "reg.toml:8:14: mirror play.example.com/lon: addresses: \"203.0.113.999\" is not an IP address",
        ),
        (FILE.replace("domain = \"play", "domain = \"pray"), "unknown domain \"pray.example.com\""),
        (
            format!("{FILE}{}", &FILE[FILE.find("[[mirror]]").unwrap()..]),
            "given twice; the first is at line 5",
        ),
        (FILE.replace("version = 1", ""), "version is missing"),
    ] {
        let err = lab.fails(&format!("apply {}", lab.file(&text))).await;
        assert!(err.contains(says), "{err}");
    }
    assert!(lab.fails("apply /nowhere/reg.toml").await.contains("registry file /nowhere/reg.toml"));
    assert!(lab.fails("domain add b_d!").await.contains("'!'"));
    let (code, _, err) = lab.all(&["--broker", "ftp://x", "status"]).await;
    assert!(code == Some(2) && err.contains("expected unix:/path"), "{err}");
    let err = lab.fails("--broker unix:/nowhere/admin.sock status").await;
    assert!(err.contains("no broker listens on /nowhere/admin.sock"), "{err}");
    assert_eq!(lab.run("mirror force a/b up").await.status.code(), Some(2), "--for is missing");
    assert_eq!(lab.run("node invite").await.status.code(), Some(2));
    assert_eq!(lab.broker.store.lock().unwrap().commits, 0);
}

#[tokio::test]
async fn a_sidecar_that_looks_for_its_mirror_ends_when_it_is_told_to() {
    use nearmost_client::identity::{KeyPair, Role};
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = free.local_addr().unwrap().to_string();
    drop(free);
    // Nobody is there.
    let mirror = format!("{}@127.0.0.99:1", KeyPair::from_seed(Role::Node, &[1; 32]).id());
    let mut sidecar = tokio::process::Command::new(env!("CARGO_BIN_EXE_nearmost"))
        .args(["connect", "play.example.com", "--listen", &at, "--mirror", &mirror])
        .env_remove("NEARMOST_BROKER")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // It listens once it hears signals.
    while tokio::net::TcpStream::connect(&at).await.is_err() {
        tokio::task::yield_now().await;
    }
    let pid = sidecar.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), sidecar.wait()).await;
    assert!(ended.expect("before it gives the mirror up").unwrap().success());
}
