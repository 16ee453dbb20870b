//! DNS over TLS and over QUIC with a client that others wrote (kdig), certificates that change under a
//! running broker, and the query log with a collector that others wrote (fstrm_capture, read by
//! dnstap-read).

use nearmost_tests::eventually;
use nearmost_tests::process::{Broker, binary, directory};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

const DOMAIN: &str = "play.example.com";
/// Asked once, and only what was answered is said.
const KDIG: [&str; 3] = ["+timeout=5", "+retry=0", "+short"];

/// A new certificate for a name, and its key, at these places.
async fn certify(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let path = |p: &Path| p.to_str().expect("UTF-8").to_owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-keyout", &path(&key), "-out", &path(&cert)])
        .stderr(Stdio::null())
        .status()
        .await;
    assert!(made.expect("openssl; `cargo xtask test` installs it").success());
    (cert, key)
}

/// A broker with both transports, and one mirror that is up.
async fn world(dir: &Path, tls: &str, log: &str) -> Broker {
    let (cert, key) = certify(dir, "first.test").await;
    let extra = format!(
        "[dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         doq_listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n{tls}\n{log}"
    );
    let broker = Broker::start_with(dir, &extra).await;
    let registry = format!(
        "version = 1\n[[domain]]\nname = {DOMAIN:?}\n[[mirror]]\ndomain = {DOMAIN:?}\nname = \"one\"\n\
         addresses = [\"192.0.2.1\"]\nhealth = \"manual\"\nstate = \"up\"\n"
    );
    broker.apply(&registry, &[]).await;
    broker.until("one", "up").await;
    broker
}

async fn kdig(at: SocketAddr, args: &[&str]) -> Output {
    let server = format!("@{}", at.ip());
    let mut command = Command::new("kdig");
    command.arg(server).args(["-p", &at.port().to_string()]).args(KDIG).args(args).args([DOMAIN, "A"]);
    command.stdin(Stdio::null()).output().await.expect("kdig; `cargo xtask test` installs it")
}

/// What `kdig` says is the answer.
async fn answer(at: SocketAddr, args: &[&str]) -> String {
    String::from_utf8_lossy(&kdig(at, args).await.stdout).trim().to_owned()
}

/// The subject of the certificate that is shown to new connections.
async fn shown(at: SocketAddr) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &at.to_string(), "-alpn", "dot"]).stdin(Stdio::null());
    let output = client.output().await.expect("openssl; `cargo xtask test` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|l| l.starts_with("subject=")).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn kdig_gets_answers_over_tls_and_quic_of_both_families() {
    let dir = directory();
    let broker = world(dir.path(), "", "").await;
    assert_eq!((broker.at.dot.len(), broker.at.doq.len()), (2, 2));
    for at in &broker.at.dot {
        assert_eq!(answer(*at, &["+tls"]).await, "192.0.2.1", "{at}");
    }
    for at in &broker.at.doq {
        assert_eq!(answer(*at, &["+quic"]).await, "192.0.2.1", "{at}");
    }
    for transport in ["tls", "quic"] {
        let counted =
            format!("nearmost_dns_queries_total{{qtype=\"a\",rcode=\"noerror\",transport=\"{transport}\"}}");
        assert_eq!(broker.metric(&counted).await, 2.0, "{transport}");
    }
    // Verified, with the certificate as the only one trusted.
    let ca = format!("+tls-ca={}", dir.path().join("cert.pem").display());
    for (transport, at) in [("+tls", broker.at.dot[0]), ("+quic", broker.at.doq[0])] {
        // In this order: to kdig, what concerns TLS asks for TLS.
        assert_eq!(answer(at, &[&ca, "+tls-hostname=first.test", transport]).await, "192.0.2.1");
        assert_eq!(answer(at, &[&ca, "+tls-hostname=other.test", transport]).await, "", "{transport}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_a_source_has_its_share() {
    let dir = directory();
    let broker = world(dir.path(), "max_per_source = 1\nidle_timeout_ms = 1500", "").await;
    let at = broker.at.dot[0];
    let mut held = tokio::net::TcpStream::connect(at).await.expect("connect");
    let refused = "nearmost_dns_connections_refused_total{limit=\"source\",transport=\"tls\"}";
    eventually("the place is taken", || kdig(at, &["+tls"]), |o| o.stdout.is_empty()).await;
    assert!(broker.metric(refused).await >= 1.0);
    // It never shook hands; that has a limit of its own.
    drop(held);
    eventually("the place is free again", || answer(at, &["+tls"]), |a| a == "192.0.2.1").await;
    let mut idle = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &at.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl");
    let ended = tokio::time::timeout(nearmost_tests::PATIENCE, idle.wait()).await;
    ended.expect("the broker closes it").expect("wait");
    let timeouts = "nearmost_dns_connection_timeouts_total{transport=\"tls\"}";
    assert_eq!(broker.metric(timeouts).await, 1.0);
    held = tokio::net::TcpStream::connect(at).await.expect("connect");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(nearmost_tests::PATIENCE, held.read_to_end(&mut rest)).await;
    closed.expect("a handshake has its time").expect("read");
}

#[tokio::test]
async fn certificates_change_under_a_running_broker() {
    let dir = directory();
    let broker = world(dir.path(), "", "").await;
    let at = broker.at.dot[0];
    assert!(shown(at).await.contains("first.test"));
    std::fs::write(dir.path().join("cert.pem"), "broken").expect("write");
    let failed = "nearmost_dns_certificate_reloads_total{result=\"failed\"}";
    eventually("the broken file is seen", || broker.metric(failed), |n| *n == 1.0).await;
    assert!(shown(at).await.contains("first.test"), "the old one stays");
    assert_eq!(answer(broker.at.doq[0], &["+quic"]).await, "192.0.2.1");
    let log = std::fs::read_to_string(dir.path().join("broker.log")).expect("the log");
    assert!(log.contains("the old one stays") && log.contains("cert.pem"), "{log}");
    let before = broker.metric("nearmost_dns_certificate_expiry_seconds").await;
    certify(dir.path(), "second.test").await;
    eventually("the new certificate is shown", || shown(at), |s| s.contains("second.test")).await;
    let ca = format!("+tls-ca={}", dir.path().join("cert.pem").display());
    let quic = answer(broker.at.doq[0], &[&ca, "+tls-hostname=second.test", "+quic"]).await;
    assert_eq!(quic, "192.0.2.1");
    assert!(broker.metric("nearmost_dns_certificate_expiry_seconds").await >= before && before > 0.0);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_said_before_anything_starts() {
    let dir = directory();
    let extra =
        "[dns.tls]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\ndot_listen = [\"127.0.0.1:0\"]";
    let config = dir.path().join("broker.toml");
    std::fs::write(&config, nearmost_tests::process::broker_config(dir.path(), extra)).expect("write");
    let check =
        Command::new(binary("nearmost-broker")).arg("check-config").arg("--config").arg(&config).output();
    let check = check.await.expect("run");
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!check.status.success() && said.contains("/nowhere/cert.pem"), "{said}");
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains("/nowhere/cert.pem"), "{said}");
}

/// A dnstap collector that ends with the test.
struct Collector {
    child: Child,
    file: PathBuf,
}

impl Collector {
    async fn start(dir: &Path) -> Collector {
        let (socket, file) = (dir.join("dnstap.sock"), dir.join("dnstap.fstrm"));
        let child = Command::new("fstrm_capture")
            .args(["-t", "protobuf:dnstap.Dnstap"])
            .arg("-u")
            .arg(&socket)
            .arg("-w")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("fstrm_capture; `cargo xtask test` installs it");
        Collector { child, file }
    }

    /// Ends it, and reads what it took.
    async fn taken(mut self) -> String {
        let pid = self.child.id().expect("runs").to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(told.expect("kill").success());
        self.child.wait().await.expect("wait");
        let read = Command::new("dnstap-read").arg("-y").arg(&self.file).output().await;
        let read = read.expect("dnstap-read, of dnsutils");
        String::from_utf8_lossy(&read.stdout).into_owned()
    }
}

#[tokio::test]
async fn queries_are_written_as_json_and_to_a_dnstap_collector() {
    let dir = directory();
    let (json, socket) = (dir.path().join("queries.json"), dir.path().join("dnstap.sock"));
    let collector = Collector::start(dir.path()).await;
    let log = format!("[dns.log]\nsample = 1\njson = {json:?}\ndnstap = {socket:?}");
    let broker = world(dir.path(), "", &log).await;
    assert_eq!(answer(broker.at.dns[0], &["+subnet=198.51.100.77/32"]).await, "192.0.2.1");
    assert_eq!(answer(broker.at.dot[0], &["+tls"]).await, "192.0.2.1");
    assert_eq!(answer(broker.at.doq[0], &["+quic"]).await, "192.0.2.1");
    let written = "nearmost_dns_log_written_total{sink=\"dnstap\"}";
    eventually("the collector has them", || broker.metric(written), |n| *n == 3.0).await;
    let lines = || async { std::fs::read_to_string(&json).unwrap_or_default() };
    let lines = eventually("the file has them", lines, |text| text.lines().count() == 3).await;
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let transports: Vec<_> = lines.iter().map(|l| l["transport"].as_str().expect("text")).collect();
    assert_eq!(transports, ["udp", "tls", "quic"]);
    for line in &lines {
        assert_eq!((&line["name"], &line["client"]), (&"play.example.com.".into(), &"127.0.0.0/24".into()));
        assert_eq!((&line["rcode"], &line["mirrors"][0]), (&"noerror".into(), &"one".into()));
    }
    assert_eq!(lines[0]["ecs"], "198.51.100.0/24");
    broker.stop().await;
    let taken = collector.taken().await;
    assert_eq!(taken.matches("type: AUTH_QUERY").count(), 3, "{taken}");
    assert_eq!(taken.matches("type: AUTH_RESPONSE").count(), 3, "{taken}");
    assert!(taken.contains("CLIENT-SUBNET: 198.51.100.0/32"), "no more of it than may be told: {taken}");
    assert!(taken.contains("192.0.2.1") && !taken.contains("127.0.0.1"), "{taken}");
}
