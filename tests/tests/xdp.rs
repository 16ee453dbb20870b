//! DNS from the queues of an interface (AF_XDP): a real broker at one end of a link, its askers at the other.
//!
//! The program is loaded into the kernel, which takes CAP_BPF in the machine's first user namespace: so these
//! need root. As anybody else they fail and say so; only what the kernel refuses can be tested then, and is.

use hickory_proto::rr::RecordType;
use nearmost_tests::dns;
use nearmost_tests::eventually;
use nearmost_tests::netns::Network;
use nearmost_tests::process::{Broker, binary, broker_config, directory};
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::process::Command;

const HOST: u8 = 1;
const V4: &str = "10.1.0.2";
const V6: &str = "fd53::2";
const NAME: &str = "play.example.com";
const QUERIES: &str = "nearmost_dns_xdp_queries_total";
const ACTIVE: &str = "nearmost_dns_xdp_active{interface=\"eth0\"}";

/// A domain with a mirror of both families, and more text than a datagram takes.
fn registry() -> String {
    let text = "x".repeat(200);
    let record = format!("{{ name = \"long\", type = \"TXT\", ttl_s = 300, value = \"{text}\" }}");
    // They differ, or they would be one.
    let records: Vec<_> = (0..10).map(|i| record.replacen('x', &i.to_string(), 1)).collect();
    format!(
        "version = 1\n[[domain]]\nname = {NAME:?}\nrecords = [{}]\n[[mirror]]\ndomain = {NAME:?}\nname = \"one\"\n\
         addresses = [\"192.0.2.1\", \"2001:db8::1\"]\nhealth = \"manual\"\nstate = \"up\"\n",
        records.join(", ")
    )
}

/// A host with a broker whose only interface is `eth0`; the askers are in the router.
struct Lab {
    broker: Broker,
    network: Network,
    dir: TempDir,
}

fn config(dir: &Path, xdp: &str) -> String {
    let listen = "[dns]\nlisten = [\"127.0.0.1:0\"]";
    let own = format!("[dns]\nlisten = [\"0.0.0.0:53\", \"[{V6}]:53\"]");
    let config = broker_config(dir, &format!("[dns.xdp]\ninterfaces = [\"eth0\"]\nring = 256\n{xdp}"));
    config.replace(listen, &own)
}

fn command_line(network: &Network, dir: &Path) -> Vec<String> {
    let mut line = network.command_line(HOST);
    line.push(binary("nearmost-broker").display().to_string());
    line.extend(["run".into(), "--config".into(), dir.join("broker.toml").display().to_string()]);
    line
}

async fn host(network: &Network) {
    network.add(HOST).await;
    network.run(&["ip", "addr", "add", "fd53::1/64", "dev", "r1", "nodad"]).await;
    on_host(network, "ip", &["addr", "add", "fd53::2/64", "dev", "eth0", "nodad"]).await;
}

async fn on_host(network: &Network, program: &str, args: &[&str]) -> String {
    let output = network.command(HOST, program).args(args).output().await.expect("run");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Lab {
    async fn start(network: Network, dir: TempDir, xdp: &str) -> Lab {
        host(&network).await;
        std::fs::write(dir.path().join("broker.toml"), config(dir.path(), xdp)).expect("write");
        let broker = Broker::start_by(dir.path(), &command_line(&network, dir.path())).await;
        broker.apply(&registry(), &[]).await;
        Lab { broker, network, dir }
    }

    /// Where the program is loaded.
    async fn as_root(xdp: &str) -> Lab {
        let dir = directory();
        let network = Network::start_as_root(dir.path()).await;
        let lab = Lab::start(network, dir, xdp).await;
        eventually("the program is attached", || lab.broker.metric(ACTIVE), |v| *v == 1.0).await;
        lab
    }

    /// Runs a program at the other end of the link.
    async fn asker(&self, program: &str, args: &[&str]) -> Output {
        run(self.network.router_command_line(), program, args).await
    }

    async fn kdig(&self, args: &[&str]) -> String {
        let output = self.asker("kdig", &[args, &["+timeout=5", "+retry=1"]].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "kdig {args:?}: {said}");
        said
    }

    /// Sends a datagram's bytes and takes those of the reply.
    async fn bytes(&self, from: Vec<String>, server: &str, query: &[u8]) -> Vec<u8> {
        let query: String = query.iter().map(|b| format!("\\x{b:02x}")).collect();
        let script = format!(
            "exec 3<>/dev/udp/{server}/53 && printf '{query}' >&3 && timeout 5 dd bs=4096 count=1 <&3 2>/dev/null"
        );
        let output = run(from, "bash", &["-c", &script]).await;
        assert!(!output.stdout.is_empty(), "no reply: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    async fn queries(&self) -> f64 {
        self.broker.metric(QUERIES).await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("broker.log")).expect("its log")
    }
}

async fn run(line: Vec<String>, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).arg(program).args(args).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("nsenter; `cargo xtask test` installs it")
}

#[tokio::test]
async fn queries_of_both_families_are_answered_past_the_sockets() {
    let lab = Lab::as_root("").await;
    assert!(lab.log().contains("DNS over UDP by AF_XDP"), "{}", lab.log());
    let before = lab.queries().await;
    for server in [V4, V6] {
        let at = format!("@{server}");
        assert_eq!(lab.kdig(&[&at, NAME, "A", "+short"]).await.trim(), "192.0.2.1");
        assert_eq!(lab.kdig(&[&at, NAME, "AAAA", "+short"]).await.trim(), "2001:db8::1");
        let refused = lab.kdig(&[&at, "other.example", "A"]).await;
        assert!(refused.contains("status: REFUSED"), "{refused}");
    }
    lab.broker.until_metric(QUERIES, before + 6.0).await;
    // They count as what they are, too.
    let counted = "nearmost_dns_queries_total{qtype=\"aaaa\",rcode=\"noerror\",transport=\"udp\"}";
    assert!(lab.broker.metric(counted).await >= 2.0, "{}", lab.broker.metrics().await);
    for reason in ["strange", "length", "checksum", "source"] {
        let refused = format!("nearmost_dns_xdp_refused_total{{reason={reason:?}}}");
        assert_eq!(lab.broker.metric(&refused).await, 0.0, "{reason}");
    }
}

#[tokio::test]
async fn what_is_not_plain_goes_by_sockets() {
    let lab = Lab::as_root("").await;
    let at = format!("@{V4}");
    let before = lab.queries().await;
    // TCP, and the host itself over loopback.
    assert_eq!(lab.kdig(&[&at, "+tcp", NAME, "A", "+short"]).await.trim(), "192.0.2.1");
    let own = on_host(&lab.network, "kdig", &[&at, NAME, "A", "+short"]).await;
    assert_eq!(own.trim(), "192.0.2.1");
    // A query in fragments: the link of the askers takes 600 bytes, the padding is more.
    lab.network.run(&["ip", "link", "set", "r1", "mtu", "600"]).await;
    let fragmented = lab.kdig(&[&at, "+padding=1000", NAME, "A", "+short"]).await;
    assert_eq!(fragmented.trim(), "192.0.2.1");
    lab.network.run(&["ip", "link", "set", "r1", "mtu", "1500"]).await;
    // What does not fit is cut, and asked again over TCP. What came by XDP before would count, too, by then.
    let long = lab.kdig(&[&at, "+ignore", &format!("long.{NAME}"), "TXT"]).await;
    assert!(long.contains(" tc"), "{long}");
    lab.broker.until_metric(QUERIES, before + 1.0).await;
    let whole = lab.kdig(&[&at, &format!("long.{NAME}"), "TXT", "+short"]).await;
    assert_eq!(whole.lines().filter(|line| line.len() > 200).count(), 10, "{whole}");
}

#[tokio::test]
async fn replies_are_byte_by_byte_those_of_sockets() {
    let lab = Lab::as_root("").await;
    let subnet = "81.2.69.0/24".parse().ok();
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::NS, RecordType::SOA, RecordType::HTTPS];
    for (n, kind) in kinds.into_iter().enumerate() {
        let query = dns::query(NAME, kind, subnet);
        let before = lab.queries().await;
        let by_xdp = lab.bytes(lab.network.router_command_line(), V4, &query).await;
        lab.broker.until_metric(QUERIES, before + 1.0).await;
        let by_socket = lab.bytes(lab.network.command_line(HOST), V4, &query).await;
        assert_eq!(by_xdp, by_socket, "{kind}, number {n}");
        assert_eq!(lab.queries().await, before + 1.0);
    }
}

#[tokio::test]
async fn a_broker_that_is_killed_leaves_the_interface_as_it_was() {
    let Lab { broker, network, dir } = Lab::as_root("").await;
    let link = || on_host(&network, "ip", &["link", "show", "dev", "eth0"]);
    assert!(link().await.contains("xdp"), "{}", link().await);
    broker.kill().await;
    eventually("the program is gone", link, |said| !said.contains("xdp")).await;
    // Its successor takes the interface again.
    let broker = Broker::start_by(dir.path(), &command_line(&network, dir.path())).await;
    let lab = Lab { broker, network, dir };
    eventually("the program is attached", || lab.broker.metric(ACTIVE), |v| *v == 1.0).await;
    let before = lab.queries().await;
    assert_eq!(lab.kdig(&[&format!("@{V4}"), NAME, "A", "+short"]).await.trim(), "192.0.2.1");
    lab.broker.until_metric(QUERIES, before + 1.0).await;
}

#[tokio::test]
async fn an_interface_that_goes_away_is_told_and_taken_again_when_it_is_back() {
    let lab = Lab::as_root("mode = \"generic\"\n").await;
    lab.network.run(&["ip", "link", "del", "r1"]).await;
    lab.broker.until_metric(ACTIVE, 0.0).await;
    assert!(lab.log().contains("goes on by sockets alone"), "{}", lab.log());
    // It still answers: over loopback there is another way to it.
    let own = on_host(&lab.network, "kdig", &["@127.0.0.1", NAME, "A", "+short"]).await;
    assert_eq!(own.trim(), "192.0.2.1");
    let again = "ip link add r1 type veth peer name eth0 netns $0 && ip addr add 10.1.0.1/16 dev r1 && ip link set r1 up";
    let file = lab.dir.path().join("host1.net").display().to_string();
    lab.network.run(&["sh", "-c", again, &file]).await;
    on_host(&lab.network, "sh", &["-c", "ip addr add 10.1.0.2/16 dev eth0 && ip link set eth0 up"]).await;
    eventually("it is attached again", || lab.broker.metric(ACTIVE), |v| *v == 1.0).await;
    // The wildcard's new address is served once it is seen.
    let asked = || async {
        lab.kdig(&[&format!("@{V4}"), NAME, "A", "+short"]).await;
        lab.queries().await
    };
    eventually("it answers past the sockets", asked, |count| *count > 0.0).await;
}

#[tokio::test]
async fn an_interface_that_is_down_is_told_and_taken_again_when_it_is_up() {
    let lab = Lab::as_root("").await;
    on_host(&lab.network, "ip", &["link", "set", "eth0", "down"]).await;
    lab.broker.until_metric(ACTIVE, 0.0).await;
    assert!(lab.log().contains("goes on by sockets alone"), "{}", lab.log());
    on_host(&lab.network, "ip", &["link", "set", "eth0", "up"]).await;
    lab.broker.until_metric(ACTIVE, 1.0).await;
    let before = lab.queries().await;
    assert_eq!(lab.kdig(&[&format!("@{V4}"), NAME, "A", "+short"]).await.trim(), "192.0.2.1");
    lab.broker.until_metric(QUERIES, before + 1.0).await;
}

/// In a user namespace nobody has the capabilities that count.
#[tokio::test]
async fn without_capabilities_sockets_serve_or_it_is_refused() {
    let dir = directory();
    let network = Network::start(dir.path()).await;
    let lab = Lab::start(network, dir, "").await;
    assert_eq!(lab.kdig(&[&format!("@{V4}"), NAME, "A", "+short"]).await.trim(), "192.0.2.1");
    assert_eq!((lab.broker.metric(ACTIVE).await, lab.queries().await), (0.0, 0.0));
    let log = lab.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("no AF_XDP here")).collect();
    assert_eq!(said.len(), 1, "{log}");
    for part in ["eth0", "CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(said[0].contains(part), "{said:?}");
    }
    // Another broker that insists, beside it on the same host.
    let other = directory();
    let text = config(other.path(), "required = true\n").replace(":53\"", ":5353\"");
    std::fs::write(other.path().join("broker.toml"), text).expect("write");
    let line = command_line(&lab.network, other.path());
    let (entering, program) = line.split_at(line.len() - 4);
    let args: Vec<&str> = program[1..].iter().map(String::as_str).collect();
    let output = run(entering.to_vec(), &program[0], &args);
    let output = tokio::time::timeout(nearmost_tests::PATIENCE, output).await.expect("it stops");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("dns.xdp: eth0: ") && said.contains("CAP_BPF"),
        "{said}"
    );
}
