//! The script for web pages, run as it is: by node, with its own fetch and the system's resolver.
//!
//! Broker, services and node share a network namespace of their own, in which the broker's DNS has
//! port 53 and is the resolver. Like the test of a full disk it needs no privileges where user
//! namespaces are allowed.

use nearmost_tests::process::{Broker, binary, broker_config, directory};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const DOMAIN: &str = "play.example.com";

/// Two services; one lets pages read its times, the other does not.
const SERVICES: &str = r#"
const http = require("http");
let open = 0;
for (const [address, headers] of [["127.0.30.1", { "Timing-Allow-Origin": "*" }], ["127.0.30.2", {}]])
  http.createServer((_, answer) => { answer.writeHead(200, headers); answer.end("here"); })
    .listen(8080, address, () => { if (++open === 2) console.log("ready"); });
"#;

/// Loads the script into the global scope, as a page does, and runs it.
const RUN: &str = r#"
const [file, domain, broker] = process.argv.slice(1);
require("vm").runInThisContext(require("fs").readFileSync(file, "utf8"), { filename: file });
nearmostRtt(domain, broker).then((taken) => console.log(JSON.stringify(taken)));
"#;

/// Runs the script against a broker and mirrors that only pretend, and prints what each report said to have
/// failed. The broker wants two measured, then all.
const PRETENDED: &str = r#"
const [file, given, page] = process.argv.slice(1);
const urls = JSON.parse(given), names = Object.keys(urls), said = [];
if (page) globalThis.location = { protocol: page };
globalThis.fetch = async (url, options) => {
  if (url.includes("/v1/resolve/")) {
    const mirrors = names.map((mirror) => ({ mirror, url: urls[mirror].url }));
    return { json: async () => ({ session: "s", measure: names.slice(0, 2), mirrors }) };
  }
  if (url.endsWith("/v1/rtt")) {
    said.push(JSON.parse(options.body).failed);
    return { ok: true, json: async () => ({ accepted: 0, tied: false, measure: names }) };
  }
  if (!Object.values(urls).some((m) => m.url === url && m.up)) throw new TypeError("fetch failed");
};
require("vm").runInThisContext(require("fs").readFileSync(file, "utf8"), { filename: file });
nearmostRtt("play.example.com", "http://broker.example").then(() => console.log(JSON.stringify(said)));
"#;

/// Runs the broker in its own network, where its DNS is what resolves names.
fn wrapper(dir: &Path) -> Vec<String> {
    std::fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.1\n").expect("write");
    std::fs::write(dir.join("nsswitch.conf"), "hosts: files dns\n").expect("write");
    let script = format!(
        "ip link set lo up && mount --bind {0}/resolv.conf /etc/resolv.conf \
         && mount --bind {0}/nsswitch.conf /etc/nsswitch.conf && exec {1} run --config {0}/broker.toml",
        dir.display(),
        binary("nearmost-broker").display(),
    );
    ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
        .map(String::from)
        .into_iter()
        .chain([script])
        .collect()
}

/// A program in the broker's network.
fn inside(broker: &Broker, program: &str, args: &[&str]) -> Command {
    let pid = broker.child.id().expect("it runs").to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--user", "--net", "--mount", "--preserve-credentials", program]);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    let output = tokio::time::timeout(nearmost_tests::PATIENCE, command.output()).await;
    output.expect("it ends").expect("it runs; `cargo xtask test` installs it")
}

async fn services(broker: &Broker) -> Child {
    let mut child = inside(broker, "node", &["-e", SERVICES]).stdout(Stdio::piped()).spawn().expect("node");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = tokio::time::timeout(nearmost_tests::PATIENCE, lines.next_line()).await;
    assert_eq!(ready.expect("in time").expect("read").as_deref(), Some("ready"));
    child
}

/// Learns nothing, so that it wants to know the same again.
const FORGETFUL: &str = "[learning]\nenabled = false";

fn registry() -> String {
    let mirror = |name: &str, address: &str| {
        format!(
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [{address:?}]\nport = 8080\n\
             health = \"probe\"\nprobe = {{ kind = \"http\", path = \"/\" }}\nurl = \"http://{address}:8080/\"\n"
        )
    };
    let mirrors = mirror("open", "127.0.30.1") + &mirror("closed", "127.0.30.2");
    format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n{mirrors}")
}

#[tokio::test]
async fn a_failure_is_told_only_where_it_can_be_the_mirrors() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rtt.js");
    let script = script.to_str().expect("UTF-8");
    let (up, down) = (r#""a": {"url": "https://a.test/", "up": true}"#, r#""b": {"url": "https://b.test/"}"#);
    let by_address = r#""b": {"url": "http://192.0.2.1:80/"}, "c": {"url": "https://[2001:db8::1]/"}"#;
    let cases = [
        (format!("{{{up}, {down}}}"), "", r#"[["b"]]"#),
        // Perhaps nothing is reached from here at all.
        (format!("{{{down}}}"), "", "[[]]"),
        // That is known only later.
        (format!(r#"{{{down}, "c": {{"url": "https://c.test/"}}, {up}}}"#), "", r#"[[],["b","c"]]"#),
        // Nobody gave these URLs for pages.
        (format!("{{{up}, {by_address}}}"), "", "[[]]"),
        // Browsers block that themselves.
        (format!(r#"{{{up}, "b": {{"url": "http://b.test/"}}}}"#), "https:", "[[]]"),
    ];
    for (mirrors, page, expected) in cases {
        let mut node = Command::new("node");
        node.args(["-e", PRETENDED, script, &mirrors, page]).stdin(Stdio::null()).kill_on_drop(true);
        let said = output(node).await;
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(text.trim(), expected, "{mirrors}: {}", String::from_utf8_lossy(&said.stderr));
    }
}

#[tokio::test]
async fn a_page_measures_reports_and_tells_its_resolver() {
    let dir = directory();
    let socket = dir.path().join("admin.sock");
    let config = broker_config(dir.path(), &format!("[admin]\nsocket = {socket:?}\n{FORGETFUL}"))
        .replace("[dns]\nlisten = [\"127.0.0.1:0\"]", "[dns]\nlisten = [\"127.0.0.1:53\"]");
    std::fs::write(dir.path().join("broker.toml"), config).expect("write");
    let broker = Broker::start_by(dir.path(), &wrapper(dir.path())).await;
    let _services = services(&broker).await;
    broker.apply(&registry(), &[]).await;
    broker.until("open", "up").await;
    broker.until("closed", "up").await;

    let observed = "nearmost_rtt_observations_total{source=\"client\"}";
    let ties = "nearmost_rtt_resolver_ties_total";
    assert_eq!((broker.metric(observed).await, broker.metric(ties).await), (0.0, 0.0));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rtt.js");
    let script = script.to_str().expect("UTF-8");
    let said = output(inside(&broker, "node", &["-e", RUN, script, DOMAIN, &broker.url()])).await;
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(text.trim(), "{\"accepted\":2,\"tied\":true}", "{}", String::from_utf8_lossy(&said.stderr));
    broker.until_metric(observed, 2.0).await;
    broker.until_metric(ties, 1.0).await;

    // The command does the same from the same machine, over both ways.
    let nearmost = binary("nearmost");
    let nearmost = nearmost.to_str().expect("UTF-8");
    let (http, quic) = (broker.url(), broker.at.clients[0].to_string());
    for (at, way) in [(["--broker", &http], "http"), (["--quic", &quic], "quic")] {
        let [flag, value] = at;
        let args = ["measure", DOMAIN, "--broker-id", &broker.at.broker, flag, value];
        let mut command = inside(&broker, nearmost, &args);
        command.env("NEARMOST_PERSON_KEY", dir.path().join("person.key"));
        let said = output(command).await;
        let text = String::from_utf8_lossy(&said.stdout);
        let known = "the broker took 2 round trips, and knows the resolver";
        assert!(text.contains(known), "{way}: {text}{}", String::from_utf8_lossy(&said.stderr));
    }
    broker.until_metric(observed, 6.0).await;
    broker.until_metric(ties, 3.0).await;
    assert_eq!(broker.metric("nearmost_rtt_reports_total{way=\"http\"}").await, 2.0);
    assert_eq!(broker.metric("nearmost_rtt_reports_total{way=\"quic\"}").await, 1.0);
    broker.stop().await;
}
