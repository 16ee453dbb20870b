//! Bad input gets a clear error and loses nothing.

use nearmost_tests::process::{Agent, Broker, broker_config, directory};
use std::net::TcpListener;

const DOMAIN: &str = "[[domain]]\nname = \"play.example.com\"\n";

fn write(dir: &std::path::Path, config: &str) {
    std::fs::write(dir.join("broker.toml"), config).expect("write");
}

#[tokio::test]
async fn a_wrong_configuration_names_key_and_place() {
    let dir = directory();
    for (from, to, says) in [
        ("workers", "wrokers", vec!["broker.toml", "dns.wrokers", "dns.workers"]),
        ("workers = 1", "workers = \"many\"", vec!["broker.toml", "dns.workers", "many"]),
        ("version = 1", "version = 9", vec!["version", "9"]),
        (
            "listen = [\"127.0.0.1:0\"]\nworkers",
            "listen = [\"nowhere\"]\nworkers",
            vec!["dns.listen", "nowhere"],
        ),
        (
            "listen = [\"127.0.0.1:0\"]\nworkers",
            "listen = []\nworkers",
            vec!["broker.toml: dns.listen: must hold at least one address"],
        ),
    ] {
        write(dir.path(), &broker_config(dir.path(), "").replacen(from, to, 1));
        let said = Broker::refused(dir.path()).await;
        for part in says {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_who_asked_for_it() {
    let dir = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let config = broker_config(dir.path(), "");
    for (section, who) in [("[dns]\n", "DNS"), ("[http]\n", "HTTP")] {
        let from = format!("{section}listen = [\"127.0.0.1:0\"]");
        write(dir.path(), &config.replace(&from, &from.replace("127.0.0.1:0", &address)));
        let said = Broker::refused(dir.path()).await;
        assert!(said.contains(&address) && said.contains(who), "{said}");
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    for (key, who) in [
        ("[agents]\nlisten", "agents' sessions"),
        ("beacon_listen", "beacons"),
        ("[clients]\nlisten", "clients' sessions"),
    ] {
        let from = format!("{key} = [\"127.0.0.1:0\"]");
        write(dir.path(), &config.replace(&from, &from.replace("127.0.0.1:0", &address)));
        let said = Broker::refused(dir.path()).await;
        assert!(said.contains(&address) && said.contains(who), "{said}");
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named() {
    let dir = directory();
    // A file stands where the directory should be: not even root can write there.
    std::fs::write(dir.path().join("data"), "a file").expect("write");
    write(dir.path(), &broker_config(dir.path(), ""));
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains(dir.path().join("data").to_str().expect("UTF-8")), "{said}");
}

#[tokio::test]
async fn a_second_broker_on_the_same_directory_is_refused() {
    let dir = directory();
    let first = Broker::start(dir.path()).await;
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains("another") && said.contains("data"), "{said}");
    first.ok(&["status"]).await;
    first.stop().await;
}

#[tokio::test]
async fn an_empty_geo_database_is_refused_by_name_and_never_replaces_a_good_one() {
    let dir = directory();
    let path = dir.path().join("empty.mmdb");
    std::fs::write(&path, "").expect("write");
    write(dir.path(), &broker_config(dir.path(), &format!("[geo]\ndatabases = [{path:?}]")));
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains("empty.mmdb"), "{said}");

    // A running broker keeps what it has.
    let good = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/geo-whois-asn-country.mmdb");
    std::fs::copy(good, &path).expect("copy");
    let broker = Broker::start_with(dir.path(), &format!("[geo]\ndatabases = [{path:?}]")).await;
    assert!(broker.ok(&["geo", "lookup", "212.58.224.1"]).await.contains("GB"));
    let staged = dir.path().join("staged");
    std::fs::write(&staged, "").expect("write");
    std::fs::rename(&staged, &path).expect("replace");
    let log = || async { std::fs::read_to_string(dir.path().join("broker.log")).unwrap_or_default() };
    nearmost_tests::eventually("the refusal is logged", log, |l| {
        l.contains("empty.mmdb") && l.contains("WARN") || l.contains("ERROR")
    })
    .await;
    assert!(broker.ok(&["geo", "lookup", "212.58.224.1"]).await.contains("GB"));
}

#[tokio::test]
async fn a_wrong_registry_file_names_what_is_wrong_and_changes_nothing() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n{DOMAIN}"), &[]).await;
    let before = broker.ok(&["export"]).await;
    let mirror = |domain: &str, address: &str| {
        format!(
            "[[mirror]]\ndomain = \"{domain}\"\nname = \"a\"\naddresses = [\"{address}\"]\nport = 80\nhealth = \"probe\"\n"
        )
    };
    let good = mirror("play.example.com", "192.0.2.1");
    for (registry, says) in [
        (format!("{DOMAIN}{good}{good}"), vec!["play.example.com/a"]),
        (format!("{DOMAIN}{}", mirror("nowhere.example.com", "192.0.2.1")), vec!["nowhere.example.com"]),
        (format!("{DOMAIN}{}", mirror("play.example.com", "192.0.2.999")), vec!["192.0.2.999"]),
        ("[[domain]]\nname = \"bad name.example.com\"\n".into(), vec!["bad name"]),
        ("[[domain]]\nname = \"nul\\u0000.example.com\"\n".into(), vec!["nul"]),
        (format!("{DOMAIN}anwsers = 3\n"), vec!["anwsers", "answers"]),
    ] {
        let path = dir.path().join("bad.toml");
        std::fs::write(&path, format!("version = 1\n{registry}")).expect("write");
        let said = broker.fails(&["apply", path.to_str().expect("UTF-8")]).await;
        assert!(said.contains("bad.toml"), "{said}");
        for part in says {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
    }
    assert_eq!(broker.ok(&["export"]).await, before);
}

#[tokio::test]
async fn a_token_cut_short_is_called_that_and_is_not_spent() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n{DOMAIN}"), &[]).await;
    let token = broker.ok(&["node", "invite", "--domain", "play.example.com", "--name", "one"]).await;
    let token = token.trim();
    let own = dir.path().join("one");
    for cut in [1, 5, token.len() / 2] {
        let output = Agent::join(&own, &token[..token.len() - cut]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains("cut short"), "{cut}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // Nothing was left behind by those, and the whole token is still good.
    let output = Agent::join(&own, token).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn bytes_that_no_label_may_have_are_refused_by_the_command_too() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let before = broker.ok(&["export"]).await;
    for name in
        ["bad name.example.com", "bell\u{7}.example.com", "m\u{fc}nchen.example.com", "a..example.com"]
    {
        let said = broker.fails(&["domain", "add", name]).await;
        let label = name.split('.').next().expect("a label");
        let shown = label.escape_debug().to_string();
        assert!(said.contains(label) || said.contains(&shown), "{name:?} is not named: {said}");
        assert!(said.starts_with("error: "), "{said}");
    }
    assert_eq!(broker.ok(&["export"]).await, before);
}

#[tokio::test]
async fn the_file_that_is_read_is_logged_and_one_that_is_missing_is_told_of_once() {
    let dir = directory();
    // Without a version it is version 1.
    write(dir.path(), &broker_config(dir.path(), "").replacen("version = 1\n", "", 1));
    let broker = Broker::restart(dir.path()).await;
    let log = std::fs::read_to_string(dir.path().join("broker.log")).expect("a log");
    assert!(log.contains("broker.toml"), "the file that was read is not logged: {log}");
    broker.stop().await;
    std::fs::remove_file(dir.path().join("broker.toml")).expect("remove");
    let said = Broker::refused(dir.path()).await;
    assert!(said.starts_with("error: ") && said.contains("broker.toml: cannot be read"), "{said}");
    assert_eq!((said.matches("os error").count(), said.lines().count()), (1, 1), "{said}");
}
