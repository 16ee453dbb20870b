//! The demo does what it says.

use nearmost_tests::process::binary;
use nearmost_tests::{PATIENCE, Stopwatch, dns, eventually};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

const DOMAIN: &str = "play.nearmost.test";

#[tokio::test]
async fn the_demo_shows_a_failover_and_leaves_nothing_behind() {
    let mut demo = Command::new(binary("nearmost-demo"))
        .args(["--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--service-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start nearmost-demo");
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines();
    let mut text = Vec::new();
    let said = async {
        while let Some(line) = lines.next_line().await.expect("read") {
            let last = line.contains("Ctrl-C");
            text.push(line);
            if last {
                return;
            }
        }
        panic!("the demo ended: {text:#?}");
    };
    tokio::time::timeout(PATIENCE, said).await.expect("the demo is ready in time");

    // Every dig line printed says which mirror it is sent to; ask the same and compare.
    let digs: Vec<&String> = text.iter().filter(|l| l.contains("dig ") && l.contains('#')).collect();
    assert_eq!(digs.len(), 6, "{text:#?}");
    let dns_at = dns_address(digs[0]);
    for line in &digs {
        let prefix =
            line.split("+subnet=").nth(1).and_then(|r| r.split_whitespace().next()).expect("a subnet");
        let promised: std::net::IpAddr =
            line.rsplit(' ').next().expect("an address").parse().expect("an address");
        assert_eq!(dns::ask(dns_at, DOMAIN, prefix).await, [promised], "{line}");
    }

    // The kill line: what it kills is gone from the answers within a second and a half.
    let kill = text.iter().find(|l| l.contains("kill -9")).expect("a kill line");
    let pid = kill.split_whitespace().last().expect("a pid");
    let before = dns::ask(dns_at, DOMAIN, "139.130.0.0/16").await;
    assert!(std::process::Command::new("kill").args(["-9", pid]).status().expect("kill").success());
    let dead = Stopwatch::start();
    let moved = || dns::ask(dns_at, DOMAIN, "139.130.0.0/16");
    eventually("users move", moved, |now| !now.is_empty() && *now != before).await;
    assert!(dead.elapsed() < Duration::from_millis(1500), "took {:?}", dead.elapsed());

    // The user whose mirror is killed plays on, and says for how long it felt that.
    let line = next(&mut lines, "user: plays").await;
    let pid = line.split_whitespace().last().expect("a pid").to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
    let line = next(&mut lines, "user: plays on").await;
    let pause = line.split(" ms without").next().and_then(|l| l.rsplit(' ').next()).expect("a pause");
    let pause: u64 = pause.parse().expect("milliseconds");
    println!("{line}");
    assert!(pause < 500, "{line}");

    // Ctrl-C ends everything: no process of the demo is left.
    let pids: Vec<String> =
        text.iter().filter_map(|l| l.split(" pid ").nth(1).map(|p| p.trim().to_owned())).collect();
    assert_eq!(pids.len(), 5);
    let id = demo.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let status = tokio::time::timeout(PATIENCE, demo.wait()).await.expect("it ends").expect("wait");
    assert!(status.success(), "{status}");
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}

#[tokio::test]
async fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let demo = Command::new(binary("nearmost-demo"))
        .args(["--dns", "127.0.0.1:0", "--http", &address, "--service-port", "0"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, demo).await.expect("it ends").expect("run");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&address) && said.contains("HTTP"), "{said}");
}

/// The next line that says something.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    let found = async {
        loop {
            let line = lines.next_line().await.expect("read").expect("the demo goes on");
            if line.contains(what) {
                return line;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("nothing says {what:?}"))
}

/// `dig … @127.0.0.1 -p 5300 …`
fn dns_address(line: &str) -> SocketAddr {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ip = words.iter().find_map(|w| w.strip_prefix('@')).expect("@address");
    let port = words.iter().position(|w| *w == "-p").map(|i| words[i + 1]).expect("a port");
    format!("{ip}:{port}").parse().expect("an address")
}

#[tokio::test]
async fn a_killed_demo_takes_its_children_with_it() {
    let mut demo = Command::new(binary("nearmost-demo"))
        .args(["--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--service-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start nearmost-demo");
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines();
    let mut pids = Vec::new();
    while pids.len() < 5 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("read");
        let line = line.expect("the demo goes on");
        pids.extend(line.split(" pid ").nth(1).map(|p| p.trim().to_owned()));
    }
    demo.kill().await.expect("kill");
    let alive = || async {
        // A child that nobody waits for stays as a zombie where no init reaps it: that is gone too.
        let state = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        pids.iter().filter(|p| state(p).split(')').nth(1).is_some_and(|s| !s.starts_with(" Z"))).count()
    };
    eventually("the children end", alive, |n| *n == 0).await;
}
