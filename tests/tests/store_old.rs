//! A store that a program of an older schema left behind: the broker takes it over with all that is in it.

use nearmost_tests::eventually;
use nearmost_tests::process::{Broker, broker_config, directory};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What `tests/fixtures/store-2/README.md` tells of.
const STORE: &[u8] = include_bytes!("../fixtures/store-2/registry.redb.gz");
const KEYS: [(&str, &str); 2] = [
    ("broker.key", include_str!("../fixtures/store-2/broker.key")),
    ("site.key", include_str!("../fixtures/store-2/site.key")),
];
/// The broker whose store it was.
const ID: &str = "nb1nmorexui2cemyz6mfeoh2xjziy2mda5azp4u32wrm7zftwbghuwa";

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path);
    file.expect("a new file").write_all(bytes).expect("write");
}

/// What is there, whatever the program: the registry file, the mirrors' lines, the record and the history.
async fn everything_is_there(broker: &Broker) {
    let file = broker.ok(&["export"]).await;
    for part in [
        "name = \"img.example.com\"",
        "name = \"play.example.com\"",
        "name = \"n1\"\ndomains = [\"play.example.com\"]",
        "addresses = [\"192.0.2.1\"]\nport = 8443\nhealth = \"manual\"\nstate = \"up\"",
        "latitude = 51.5, longitude = -0.1, country = \"GB\"",
        "prefix = \"192.0.2.0/24\"\ncountry = \"GB\"",
        "np1szathdyzisd3bhee4drl3yvqz3mxwohro4oaekcqb6mmecszl3cq",
    ] {
        assert!(file.contains(part), "{part:?} is not in:\n{file}");
    }
    assert!(!file.contains("192.0.2.3"), "it was removed:\n{file}");
    let orders = broker.ok(&["orders"]).await;
    assert!(orders.contains("play.example.com/nyc"), "{orders}");
    let records = broker.ok(&["record", "get", "play.example.com"]).await;
    assert!(records.contains("one  5 "), "{records}");
    let history = broker.ok(&["history"]).await;
    assert!(history.contains("change 6  2026-11-30 19:24:08 UTC  uid 0 on the admin socket"), "{history}");
    assert!(history.contains("~ mirror play.example.com/lon  port: 443 → 8443"), "{history}");
    assert!(history.contains("- mirror img.example.com/lon"), "{history}");
    let states = || async { broker.ok(&["status", "--all"]).await };
    let good = |text: &String| text.contains("192.0.2.1  up") && text.contains("192.0.2.2  draining");
    eventually("the mirrors are as they were", states, good).await;
}

#[tokio::test]
async fn a_store_of_schema_2_that_an_older_program_made_is_taken_over_with_all_that_is_in_it() {
    let dir = directory();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("its mode");
    let mut store = Vec::new();
    flate2::read::GzDecoder::new(STORE).read_to_end(&mut store).expect("it was compressed so");
    write(&data.join("registry.redb"), &store);
    KEYS.iter().for_each(|(name, text)| write(&data.join(name), text.as_bytes()));

    std::fs::write(dir.path().join("broker.toml"), broker_config(dir.path(), "")).expect("write");
    let broker = Broker::restart(dir.path()).await;
    assert_eq!(broker.at.broker, ID);
    everything_is_there(&broker).await;
    let log = std::fs::read_to_string(dir.path().join("broker.log")).expect("the log");
    assert!(log.contains("the store was brought up to this version"), "{log}");
    // It is written to, and what is written has its entry.
    broker
        .ok(&["mirror", "add", "play.example.com/syd", "--address", "192.0.2.9", "--health", "manual-up"])
        .await;
    broker.ok(&["mirror", "undrain", "play.example.com/nyc"]).await;
    let audit = broker.ok(&["audit"]).await;
    assert!(audit.contains("+ mirror play.example.com/syd"), "{audit}");
    broker.ok(&["mirror", "drain", "play.example.com/nyc"]).await;
    broker.stop().await;

    let broker = Broker::restart(dir.path()).await;
    everything_is_there(&broker).await;
    assert!(broker.ok(&["export"]).await.contains("192.0.2.9"));
    assert!(broker.ok(&["audit", "--verify"]).await.starts_with("good: "));
    broker.stop().await;
}
