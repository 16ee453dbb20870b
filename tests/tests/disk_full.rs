//! A disk that fills up: writes are refused by name, nothing is lost, and when there is room again
//! writing goes on without a restart.
//!
//! The broker runs in a mount namespace of its own with a small file system at its data directory,
//! so the test needs no privileges where user namespaces are allowed.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nearmost_tests::dns;
use nearmost_tests::process::{Broker, binary, broker_config, directory};
use nearmost_tests::service::Service;
use std::fmt::Write;
use std::path::PathBuf;

/// Runs the broker with 4 MiB at its data directory.
fn wrapper(dir: &std::path::Path) -> Vec<String> {
    let script = format!(
        "mkdir -p {0} && mount -t tmpfs -o size=4m tmpfs {0} && exec {1} run --config {2}",
        dir.join("data").display(),
        binary("nearmost-broker").display(),
        dir.join("broker.toml").display()
    );
    ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        .map(String::from)
        .into_iter()
        .chain([script])
        .collect()
}

fn registry(domains: std::ops::Range<usize>) -> String {
    let mut text = String::from("version = 1\n");
    for i in domains {
        let filler = "x".repeat(200);
        let _ = write!(
            text,
            "[[domain]]\nname = \"d{i}.example.com\"\n\
             [[domain.records]]\nname = \"@\"\ntype = \"TXT\"\nvalue = \"{filler}\"\n\
             [[domain.records]]\nname = \"a\"\ntype = \"TXT\"\nvalue = \"{filler}\"\n"
        );
    }
    text
}

/// Leaves no room in the data directory; the file that takes it.
fn fill(broker: &Broker, dir: &std::path::Path) -> PathBuf {
    // The broker's own view of its file system, from outside.
    let pid = broker.child.id().expect("it runs");
    let filler = PathBuf::from(format!("/proc/{pid}/root{}", dir.join("data/filler").display()));
    let mut chunk = 1 << 20;
    let mut data = Vec::new();
    while chunk >= 4096 {
        data.extend(std::iter::repeat_n(0u8, chunk));
        if std::fs::write(&filler, &data).is_err() {
            data.truncate(data.len() - chunk);
            chunk /= 2;
        }
    }
    filler
}

/// Starts a broker on its small disk; its socket is elsewhere.
async fn start(dir: &std::path::Path) -> Broker {
    let socket = dir.join("admin.sock");
    let more =
        format!("[admin]\nsocket = {socket:?}\n[spread]\nslow_start_ms = 0\n[probe]\ninterval_ms = 200");
    std::fs::write(dir.join("broker.toml"), broker_config(dir, &more)).expect("write");
    Broker::start_by(dir, &wrapper(dir)).await
}

/// Verdicts are kept on the disk over a restart; that they cannot be keeps nobody from seeing them.
#[tokio::test]
async fn health_is_judged_while_the_disk_is_full() {
    let dir = directory();
    let broker = start(dir.path()).await;
    let service = Service::start("127.0.31.1:0", "one").await;
    let mirror = format!(
        "version = 1\n[[domain]]\nname = \"play.example.com\"\n[[mirror]]\ndomain = \"play.example.com\"\n\
         name = \"m\"\naddresses = [\"127.0.31.1\"]\nport = {}\nhealth = \"probe\"\n\
         probe = {{ kind = \"http\", path = \"/\", interval_ms = 200 }}\n",
        service.addr.port()
    );
    broker.apply(&mirror, &[]).await;
    broker.until("m", "up").await;
    fill(&broker, dir.path());
    service.answer_with(503);
    broker.until("m", "down").await;
    service.answer_with(200);
    broker.until("m", "up").await;
    assert_eq!(dns::code(broker.at.dns[0], "play.example.com", RecordType::A).await, ResponseCode::NoError);
    broker.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let dir = directory();
    let broker = start(dir.path()).await;
    broker.apply(&registry(0..20), &[]).await;
    let before = broker.ok(&["export"]).await;

    let filler = fill(&broker, dir.path());
    let path = dir.path().join("more.toml");
    std::fs::write(&path, registry(0..2000)).expect("write");
    let said = broker.fails(&["apply", path.to_str().expect("UTF-8")]).await;
    assert!(said.contains("disk") && said.contains("full"), "{said}");

    // It still answers, from what it had.
    assert_eq!(broker.ok(&["export"]).await, before);
    assert_eq!(dns::code(broker.at.dns[0], "d7.example.com", RecordType::TXT).await, ResponseCode::NoError);

    // Room again: the same broker writes again, and everything is there.
    std::fs::remove_file(&filler).expect("remove");
    broker.apply(&registry(0..40), &[]).await;
    let after = broker.ok(&["export"]).await;
    assert!(after.contains("d7.example.com") && after.contains("d39.example.com"));
    broker.stop().await;
}
