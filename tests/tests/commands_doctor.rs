//! `nearmost doctor` finds each fault that is seeded here, and says how to fix it.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nearmost_tests::process::{Broker, binary, broker_config, directory};
use nearmost_tests::{eventually, process};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use tokio::net::UdpSocket;

const DOMAIN: &str = "play.corp.example";

/// What `doctor` says, as JSON, and its exit code.
async fn doctor(broker: &Broker, args: &[&str]) -> (Option<i32>, Value) {
    let output: Output = broker.cli(&[&["--json", "doctor"], args].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{output:?}"));
    (output.status.code(), json)
}

/// The finding of a subject whose message holds a part, as `level: message; fix`.
fn found(told: &Value, subject: &str, part: &str) -> String {
    let all = told["findings"].as_array().expect("findings");
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_owned();
    let one = all.iter().find(|f| f["subject"] == subject && text(f, "message").contains(part));
    let one = one.unwrap_or_else(|| panic!("nothing of {subject} with {part:?} in {told:#}"));
    format!("{}: {}; {}", text(one, "level"), text(one, "message"), text(one, "fix"))
}

/// A broker with a domain, started with settings over its configuration.
async fn with_domain(dir: &Path, settings: &[&str]) -> Broker {
    std::fs::write(dir.join("broker.toml"), broker_config(dir, "")).expect("written");
    let (program, config) = (binary("nearmost-broker"), dir.join("broker.toml"));
    let mut line =
        vec![program.display().to_string(), "run".into(), "--config".into(), config.display().to_string()];
    line.extend(settings.iter().flat_map(|s| ["--set".to_owned(), (*s).to_owned()]));
    let broker = Broker::start_by(dir, &line).await;
    let mirror = format!(
        "[[mirror]]\ndomain = {DOMAIN:?}\nname = \"lon\"\naddresses = [\"192.0.2.1\"]\nhealth = \"manual\"\nstate = \"up\"\n"
    );
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n{mirror}"), &[]).await;
    broker.until("lon", "up").await;
    broker
}

const NAMESERVERS: &str = "dns.nameservers=[\"ns1.corp.example\"]";

#[tokio::test]
async fn a_broker_that_is_well_is_found_well() {
    let dir = directory();
    let broker = with_domain(dir.path(), &[NAMESERVERS, "caution.references=[\"127.0.0.1:9\"]"]).await;
    // On a busy machine some parts need a moment after the start.
    let settled = |told: &(Option<i32>, Value)| {
        let text = told.1.to_string();
        ["embedded (", "the task that keeps it answers", "answers over UDP and TCP", "answers other brokers"]
            .iter()
            .all(|part| text.contains(part))
    };
    let (code, told) = eventually("it is well", || doctor(&broker, &["--offline"]), settled).await;
    // How much room and how many files this machine has is not ours to say.
    let machine = ["file limit", "disk", "memory", "receive buffers", "geo", "clock"];
    for finding in told["findings"].as_array().expect("findings") {
        let subject = finding["subject"].as_str().expect("a subject");
        assert!(finding["level"] != "fail" || machine.contains(&subject), "{finding:#}");
    }
    let expected = match (told["fail"].as_u64(), told["warn"].as_u64()) {
        (Some(0), Some(0)) => 0,
        (Some(0), _) => 9,
        _ => 8,
    };
    assert_eq!(code, Some(expected), "{told:#}");
    for (subject, part) in
        [("file limit", "files may be open"), ("disk", "free of"), ("geo", "embedded ("), ("memory", "")]
    {
        found(&told, subject, part);
    }
    for (subject, part) in [
        ("broker", "answers at unix:"),
        ("clock", "the broker's clock is 0."),
        ("peers", "this broker is alone"),
        ("ports", "bound: dns 127.0.0.1:"),
        ("snapshot", "the task that keeps it answers"),
        ("store", "no call has failed"),
        ("admin socket", "mode "),
        ("access", "0 tokens and 0 persons"),
        ("dns", "answers over UDP and TCP for 1 domain"),
        ("quic", "answers clients"),
        ("quic", "answers node agents"),
        ("quic", "answers other brokers"),
    ] {
        let said = found(&told, subject, part);
        assert!(said.starts_with("ok: "), "{said}");
    }
    // For people: the worst first, with remedies, and a last line that counts.
    let shown = String::from_utf8_lossy(&broker.cli(&["doctor", "--offline"]).await.stdout).into_owned();
    assert!(
        shown.contains("\nok    clock: ") && shown.lines().last().expect("a line").contains(" wrong, "),
        "{shown}"
    );
    broker.stop().await;
}

/// A certificate of the year 2020, and its key.
fn expired_certificate(dir: &Path) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 2, 1));
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(dir.join("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).expect("written");
}

/// An old database, made from the embedded one: its build time is a number in its metadata.
fn old_database(to: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/geo-whois-asn-country.mmdb");
    let mut bytes = std::fs::read(data).expect("the database");
    let key = b"build_epoch";
    let at = bytes.windows(key.len()).rposition(|w| w == key).expect("metadata") + key.len();
    // Control byte of an extended type (0 and the length), then uint64 (type 9 is 2 beyond 7).
    let length = usize::from(bytes[at] & 0x1f);
    assert_eq!(bytes[at + 1], 2, "a uint64");
    let value = 1_600_000_000_u64.to_be_bytes();
    bytes[at + 2..at + 2 + length].copy_from_slice(&value[8 - length..]);
    std::fs::write(to, bytes).expect("written");
}

#[tokio::test]
async fn faults_of_the_machine_are_found() {
    let dir = directory();
    let path = dir.path();
    expired_certificate(path);
    let (cert, key) = (path.join("cert.pem"), path.join("key.pem"));
    let tls = format!("[dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\"]\n");
    let database = path.join("old.mmdb");
    old_database(&database);
    let extra = format!("{tls}[geo]\ndatabases = [{database:?}]\nembedded = false\n");
    std::fs::write(path.join("broker.toml"), broker_config(path, &extra)).expect("written");
    // Few files.
    let line = [
        "prlimit",
        "--nofile=256:256",
        binary("nearmost-broker").to_str().expect("UTF-8"),
        "run",
        "--config",
        path.join("broker.toml").to_str().expect("UTF-8"),
    ]
    .map(String::from);
    let broker = Broker::start_by(path, &line).await;
    // On a busy machine the database is compiled after the start.
    let compiled = |told: &(Option<i32>, Value)| told.1.to_string().contains("old.mmdb (");
    let (code, told) = eventually("it is compiled", || doctor(&broker, &["--offline"]), compiled).await;
    assert_eq!(code, Some(8), "{told:#}");
    let said = found(&told, "file limit", "256 files may be open");
    assert!(said.starts_with("fail: ") && said.contains("LimitNOFILE="), "{said}");
    let said = found(&told, "certificate", "cert.pem expired");
    assert!(said.starts_with("fail: ") && said.contains("renew it"), "{said}");
    let said = found(&told, "geo", "old.mmdb");
    assert!(
        said.starts_with("warn: ") && said.contains("days old") && said.contains("write a newer one"),
        "{said}"
    );
    // It answers on this machine only, where nobody is told of name servers.
    assert!(!told.to_string().contains("nameservers is empty"), "{told:#}");

    // A database that is refused, a key that does not fit, a socket for everyone.
    std::fs::write(&database, b"broken").expect("written");
    std::fs::write(path.join("key.pem"), b"broken").expect("written");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&broker.at.admin, open).expect("chmod");
    let refused = eventually(
        "the database is refused",
        || doctor(&broker, &["--offline"]),
        |(_, told)| {
            told["findings"]
                .as_array()
                .expect("findings")
                .iter()
                .any(|f| f["message"].as_str().is_some_and(|m| m.contains("reload was refused")))
        },
    );
    let (_, told) = refused.await;
    assert!(found(&told, "geo", "reload was refused").starts_with("fail: "));
    assert!(found(&told, "certificate", "key.pem").starts_with("fail: "));
    let said = found(&told, "admin socket", "mode 666");
    assert!(said.starts_with("fail: ") && said.contains("`chmod o= "), "{said}");
    broker.stop().await;
}

#[tokio::test]
async fn a_data_directory_that_is_gone_and_a_peer_that_is_down_are_found() {
    let (a_dir, b_dir) = (directory(), directory());
    let (a, b) = (Broker::start(a_dir.path()).await, Broker::start(b_dir.path()).await);
    let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
    b.ok(&["peer", "join", token.trim()]).await;
    let up = |told: &(Option<i32>, Value)| told.1.to_string().contains("all 1 are up");
    eventually("they are peers", || doctor(&a, &["--offline"]), up).await;
    b.kill().await;
    let down = |told: &(Option<i32>, Value)| {
        let all = told.1["findings"].as_array().expect("findings");
        all.iter().any(|f| f["level"] != "ok" && f.to_string().contains("bob is down for"))
    };
    let (code, told) = eventually("it is seen down", || doctor(&a, &["--offline"]), down).await;
    let said = found(&told, "peers", "bob is down for");
    assert!(matches!(code, Some(8 | 9)) && said.contains("nearmost peer show bob"), "{said}");

    let data = a_dir.path().join("data");
    std::fs::rename(&data, a_dir.path().join("elsewhere")).expect("renamed");
    // Its socket went with it.
    let moved = format!("unix:{}", a_dir.path().join("elsewhere/admin.sock").display());
    let ask = async || {
        let output = tokio::process::Command::new(process::binary("nearmost"))
            .args(["--json", "--broker", &moved, "doctor", "--offline"])
            .output()
            .await
            .expect("nearmost runs");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    // What it found just before stands for some seconds.
    let gone = |told: &Value| told.to_string().contains("cannot be written");
    let told = eventually("it is found gone", ask, gone).await;
    let said = found(&told, "disk", "cannot be written");
    assert!(said.starts_with("fail: ") && said.contains("make room"), "{said}");
    std::fs::rename(a_dir.path().join("elsewhere"), &data).expect("renamed back");
    a.stop().await;
}

/// What the parent says of the domain, and its other name servers.
struct World {
    /// Names and addresses of name servers in the parent.
    servers: Vec<(&'static str, Ipv4Addr)>,
    /// DS record data.
    ds: Option<Vec<u8>>,
}

/// A resolver that is the parent's name server too, on one address; it answers what `world` says.
async fn parent(at: SocketAddr, world: World) -> tokio::task::JoinHandle<()> {
    let socket = UdpSocket::bind(at).await.expect("bind");
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Message::from_vec(&buffer[..n]) else { continue };
            let reply = answer(&query, &world, at).to_vec().expect("encodes");
            let _ = socket.send_to(&reply, from).await;
        }
    })
}

fn answer(query: &Message, world: &World, at: SocketAddr) -> Message {
    let SocketAddr::V4(at) = at else { panic!("IPv4") };
    let asked = &query.queries[0];
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let record = |owner: &str, data: RData| Record::from_rdata(name(owner), 60, data);
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.add_query(asked.clone());
    let domain = format!("{DOMAIN}.");
    match (asked.name.to_ascii().as_str(), asked.query_type) {
        ("corp.example.", RecordType::NS) => {
            reply.add_answer(record("corp.example.", RData::NS(NS(name("ns.corp.example.")))));
        }
        ("ns.corp.example.", RecordType::A) => {
            reply.add_answer(record("ns.corp.example.", RData::A(A(*at.ip()))));
        }
        (asked, RecordType::NS) if asked == domain => {
            for (server, ip) in &world.servers {
                reply.add_authority(record(&domain, RData::NS(NS(name(server)))));
                reply.add_additional(record(server, RData::A(A(*ip))));
            }
            if world.servers.is_empty() {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        (asked, RecordType::DS) if asked == domain => {
            if let Some(ds) = &world.ds {
                let data = RData::Unknown {
                    code: RecordType::DS,
                    rdata: hickory_proto::rr::rdata::NULL::with(ds.clone()),
                };
                reply.add_answer(record(&domain, data));
            }
        }
        // As a name server of the zone it has another serial than the broker.
        (asked, RecordType::SOA) if asked == domain => {
            reply.metadata.authoritative = true;
            let soa = SOA::new(name("ns.corp.example."), name("h.corp.example."), 5, 1, 1, 1, 1);
            reply.add_answer(record(&domain, RData::SOA(soa)));
        }
        _ => {}
    }
    reply
}

#[tokio::test]
async fn faults_of_the_delegation_are_found() {
    let dir = directory();
    let broker = with_domain(dir.path(), &[NAMESERVERS]).await;
    let dns = broker.at.dns[0];
    // All name servers are on one port here.
    let port = dns.port();
    let here = Ipv4Addr::LOCALHOST;
    let ask = async |last: u8, world: World| {
        let at = SocketAddr::new(Ipv4Addr::new(127, 0, 53, last).into(), port);
        let parent = parent(at, world).await;
        let (resolver, port) = (at.to_string(), port.to_string());
        let (_, told) = doctor(&broker, &["--resolver", &resolver, "--dns-port", &port]).await;
        parent.abort();
        told
    };
    let world = |servers: &[(&'static str, Ipv4Addr)]| World { servers: servers.to_vec(), ds: None };

    let told = ask(1, world(&[("ns1.corp.example.", here)])).await;
    let said = found(&told, "delegation", "is delegated to 1 name server addresses");
    assert!(said.starts_with("ok: "), "{said}");
    assert!(!told.to_string().contains("not among its name servers"), "{told:#}");

    let told = ask(2, world(&[])).await;
    let said = found(&told, "delegation", "is not delegated");
    assert!(said.starts_with("fail: ") && said.contains("NS ns1.corp.example."), "{said}");

    // One that nobody answers at, and one with another serial; this broker is none of them.
    let lame = Ipv4Addr::new(127, 0, 54, 1);
    let told =
        ask(3, world(&[("ns1.corp.example.", lame), ("ns2.corp.example.", Ipv4Addr::new(127, 0, 53, 3))]))
            .await;
    let said = found(&told, "delegation", "is lame");
    assert!(said.starts_with("fail: ") && said.contains("ns1.corp.example."), "{said}");
    let said = found(&told, "delegation", "is not among its name servers");
    assert!(said.starts_with("warn: ") && said.contains("--address"), "{said}");

    let told =
        ask(4, world(&[("ns1.corp.example.", here), ("ns2.corp.example.", Ipv4Addr::new(127, 0, 53, 4))]))
            .await;
    let said = found(&told, "delegation", "different serials");
    assert!(said.starts_with("warn: ") && said.contains("5 at ns2.corp.example."), "{said}");

    // The parent has a DS, and the zone no key.
    let ds = Some([&[0x12, 0x34, 13, 2][..], &[7; 32]].concat());
    let told = ask(5, World { ds, ..world(&[("ns1.corp.example.", here)]) }).await;
    let said = found(&told, "dnssec", "is not signed");
    assert!(said.starts_with("fail: ") && said.contains("--enable"), "{said}");

    // Nobody answers where users are said to ask.
    let closed = format!("127.0.54.2:{port}");
    let (code, told) = doctor(&broker, &["--offline", "--address", &closed]).await;
    let said = found(&told, "dns", "does not answer for");
    assert!(code == Some(8) && said.contains(&format!("udp/{port}")), "{said}");
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_stopped_is_looked_at_by_its_configuration() {
    let dir = directory();
    let path = dir.path();
    expired_certificate(path);
    let (cert, key) = (path.join("cert.pem"), path.join("key.pem"));
    let tls = format!("[dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\"]\n");
    let taken = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let at = taken.local_addr().expect("bound");
    let config = broker_config(path, &tls).replacen("127.0.0.1:0", &at.to_string(), 1);
    let file = path.join("broker.toml");
    std::fs::write(&file, &config).expect("written");
    let socket = format!("unix:{}", path.join("none.sock").display());
    let look = || async {
        let mut command = tokio::process::Command::new(binary("nearmost"));
        command.args(["--json", "--broker", &socket, "doctor", "--config"]).arg(&file);
        let output = command.env("HOME", path).kill_on_drop(true).output().await.expect("run");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), told)
    };
    let (code, told) = look().await;
    assert_eq!(code, Some(8), "{told:#}");
    let said = found(&told, "ports", &at.to_string());
    assert!(said.starts_with("fail: ") && said.contains("ss -lunp"), "{said}");
    assert!(found(&told, "certificate", "cert.pem expired").starts_with("fail: "));
    assert!(found(&told, "geo", "days old").contains("embedded"), "{told:#}");
    assert!(found(&told, "configuration", "is good").starts_with("ok: "));
    std::fs::write(&file, format!("{config}\nno_such_key = 1\n")).expect("written");
    let (code, told) = look().await;
    assert_eq!(code, Some(8), "{told:#}");
    assert!(found(&told, "configuration", "no_such_key").starts_with("fail: "));
}
