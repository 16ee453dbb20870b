//! A flood of packets, random ones and queries that were damaged at random, leaves the broker serving, all
//! of them counted, and its memory flat. 200 000 of them; `NEARMOST_FLOOD=long` sends a million.
//!
//! After each batch comes a query whose answer is known: the broker takes packets of one source in their
//! order, so its answer says that all before it were dealt with, and none is lost in a full buffer.

use nearmost_tests::eventually;
use nearmost_tests::message::{Reply, type_number};
use nearmost_tests::process::{Broker, directory};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::UdpSocket;
use tokio::process::Command;

/// Packets between two queries that are checked: few enough for any socket buffer, both ways.
const BATCH: usize = 32;
/// Bytes that the broker may grow by after the first tenth: what an allocator keeps, no more.
const GROWTH: u64 = 4 << 20;

const REGISTRY: &str = r#"
version = 1
[[domain]]
name = "plain.example"
strategy = "nearest"
explore_percent = 0
alpn = ["h2"]
records = [
  { name = "www", type = "CNAME", ttl_s = 60, value = "plain.example" },
  { name = "marker", type = "A", ttl_s = 60, value = "192.0.2.99" },
  { name = "*.wild", type = "TXT", ttl_s = 60, value = "any of them" },
  { name = "sub", type = "NS", ttl_s = 60, value = "ns.sub.plain.example" },
  { name = "ns.sub", type = "A", ttl_s = 60, value = "192.0.2.98" },
]
[[mirror]]
domain = "plain.example"
name = "lon"
addresses = ["192.0.2.1", "2001:db8::1"]
health = "manual"
state = "up"
[[mirror]]
domain = "plain.example"
name = "syd"
addresses = ["192.0.2.3"]
health = "manual"
state = "up"
[[domain]]
name = "safe.example"
[[mirror]]
domain = "safe.example"
name = "own"
addresses = ["192.0.2.5", "2001:db8::5"]
health = "manual"
state = "up"
"#;

fn is_long() -> bool {
    std::env::var("NEARMOST_FLOOD").is_ok_and(|form| form == "long")
}

/// The same numbers in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        // The upper bits are the better ones.
        (self.next() >> 32) as usize % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// A query; `options` are those of its OPT record, whole.
fn query(id: u16, name: &str, rtype: &str, class: u8, dnssec_ok: bool, options: Option<&[u8]>) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&type_number(rtype).to_be_bytes());
    out.extend_from_slice(&[0, class]);
    if let Some(options) = options {
        out.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, u8::from(dnssec_ok) << 7, 0]);
        out.extend_from_slice(&(options.len() as u16).to_be_bytes());
        out.extend_from_slice(options);
    }
    out
}

/// Good queries of every kind, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 81, 2, 69];
    let subnet6 = [0, 8, 0, 11, 0, 2, 56, 0, 0x2a, 0, 1, 2, 3, 4, 5];
    let cookie = [&[0, 10, 0, 8][..], b"a client"].concat();
    let server = [&[0, 10, 0, 24][..], b"a client", &[1; 16]].concat();
    let all = [&subnet[..], &cookie, &[0, 3, 0, 0], &[0, 11, 0, 0], &[0, 12, 0, 2, 0, 0]].concat();
    let (plain, safe) = ("plain.example", "safe.example");
    vec![
        query(1, plain, "A", 1, false, None),
        query(2, plain, "A", 1, false, Some(&subnet)),
        query(3, plain, "AAAA", 1, true, Some(&subnet6)),
        query(4, plain, "HTTPS", 1, false, Some(&cookie)),
        query(5, "_https._tcp.plain.example", "SRV", 1, false, Some(&server)),
        query(6, "www.plain.example", "A", 1, false, Some(&all)),
        query(7, "a.b.wild.plain.example", "TXT", 1, false, Some(&[])),
        query(8, "x.sub.plain.example", "A", 1, false, Some(&[])),
        query(9, "nothing.plain.example", "ANY", 1, false, None),
        query(10, "abcdefghij234567.probe.plain.example", "A", 1, false, Some(&subnet)),
        query(11, safe, "A", 1, true, Some(&[])),
        query(12, safe, "DNSKEY", 1, true, Some(&all)),
        query(13, "nothing.safe.example", "A", 1, true, Some(&[])),
        query(14, safe, "SOA", 1, true, Some(&cookie)),
        query(15, "version.bind", "TXT", 3, false, None),
        query(16, "elsewhere.test", "A", 1, false, Some(&all)),
        query(17, plain, "AXFR", 1, false, None),
    ]
}

/// A packet: noise, or a good query that was damaged.
fn packet(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.below(5) == 0 {
        let most = [12, 40, 120, 512, 1400][random.below(5)];
        let length = 1 + random.below(most);
        return random.bytes(length);
    }
    let mut packet = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        damage(&mut packet, random, seeds);
        packet.truncate(1400);
    }
    packet
}

/// One change; it leaves a byte at least.
fn damage(packet: &mut Vec<u8>, random: &mut Random, seeds: &[Vec<u8>]) {
    let at = random.below(packet.len());
    match random.below(9) {
        // One bit, one byte, or a byte that means something: lengths, pointers, the root.
        0 => packet[at] ^= 1 << random.below(8),
        1 => packet[at] = random.next() as u8,
        2 => packet[at] = [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff, 41][random.below(8)],
        // Cut, or longer by noise.
        3 => packet.truncate(at.max(1)),
        4 => {
            let more = 1 + random.below(60);
            packet.extend(random.bytes(more));
        }
        // Bytes of its own again, or of another query.
        5 => packet.extend_from_within(at..),
        6 => {
            let other = &seeds[random.below(seeds.len())];
            packet.truncate(at.max(1));
            packet.extend_from_slice(&other[at.min(other.len())..]);
        }
        // The header's counts.
        7 => packet.iter_mut().skip(4 + random.below(8)).take(1).for_each(|b| *b = 1),
        // A name that nobody asked for before.
        _ => packet.iter_mut().skip(13).take(5).for_each(|b| *b = b'a' + random.below(26) as u8),
    }
}

/// Queries with known answers: the record that the answer has, if it has one.
const MARKERS: [(&str, &str, bool, &str, &str); 6] = [
    ("marker.plain.example", "A", false, "NOERROR", "A 192.0.2.99"),
    ("marker.plain.example", "AAAA", false, "NOERROR", ""),
    ("marker.marker.plain.example", "A", false, "NXDOMAIN", ""),
    ("own.safe.example", "AAAA", false, "NOERROR", "AAAA 2001:db8::5"),
    ("own.safe.example", "A", true, "NOERROR", "A 192.0.2.5"),
    ("syd.plain.example", "A", false, "NOERROR", "A 192.0.2.3"),
];

/// One source of packets.
struct Source {
    socket: UdpSocket,
    random: Random,
    seeds: Vec<Vec<u8>>,
    sent: u64,
}

impl Source {
    async fn new(at: SocketAddr, seed: u64) -> Source {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        socket.connect(at).await.expect("connect");
        Source { socket, random: Random(seed), seeds: seeds(), sent: 0 }
    }

    /// So many packets, in batches.
    async fn flood(&mut self, packets: usize) {
        for batch in 0..packets / BATCH {
            for _ in 0..BATCH {
                let packet = packet(&mut self.random, &self.seeds);
                self.socket.send(&packet).await.expect("the port is open");
            }
            self.sent += BATCH as u64;
            self.mark(batch).await;
        }
    }

    /// Asks what has a known answer, and passes over what comes before it.
    async fn mark(&mut self, number: usize) {
        let (name, rtype, signed, rcode, record) = MARKERS[number % MARKERS.len()];
        let query = query(number as u16, name, rtype, 1, signed, Some(&[]));
        self.socket.send(&query).await.expect("the port is open");
        self.sent += 1;
        let question = 12..12 + name.len() + 2 + 4;
        let mut buffer = vec![0; 4096];
        let asked = async {
            loop {
                let n = self.socket.recv(&mut buffer).await.expect("the port is open");
                let same =
                    buffer[..2] == query[..2] && buffer.get(question.clone()) == query.get(question.clone());
                if n > question.end && same {
                    return n;
                }
            }
        };
        let n = tokio::time::timeout(nearmost_tests::PATIENCE, asked).await;
        let reply = Reply::read(&buffer[..n.unwrap_or_else(|_| panic!("{name} {rtype} was not answered"))]);
        let first = reply.sections[0].first().map(|r| format!("{} {}", r.kind, r.data)).unwrap_or_default();
        assert_eq!((reply.rcode().as_str(), first.as_str()), (rcode, record), "{name} {rtype}");
        assert_eq!(
            reply.sections[0].len(),
            usize::from(!record.is_empty()) + usize::from(signed),
            "{reply:?}"
        );
    }
}

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Sum of a counter over all its labels.
async fn counted(broker: &Broker, name: &str) -> u64 {
    let mut curl = Command::new("curl");
    curl.args(["-sSf", "--unix-socket"]).arg(&broker.at.admin).arg("http://localhost/metrics");
    let output = curl.output().await;
    let output = output.expect("curl; `cargo xtask test` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_it =
        text.lines().filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    of_it.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Packets that were answered or deliberately not.
async fn dealt_with(broker: &Broker) -> u64 {
    counted(broker, "nearmost_dns_queries_total").await + counted(broker, "nearmost_dns_dropped_total").await
}

async fn world(dir: &Path) -> Broker {
    let place = "[[geo.overrides]]\nprefix = \"127.0.0.0/8\"\nlatitude = 51.5\nlongitude = -0.1\n";
    let extra = format!("[dns.dnssec]\npublish_hold_s = 1\n[geo]\nembedded = false\n{place}");
    let broker = Broker::start_with(dir, &extra).await;
    broker.apply(REGISTRY, &[]).await;
    for mirror in ["lon", "syd", "own"] {
        broker.until(mirror, "up").await;
    }
    broker.ok(&["domain", "dnssec", "safe.example", "--enable"]).await;
    broker
}

#[tokio::test]
async fn a_flood_leaves_it_serving_and_its_memory_flat() {
    let dir = directory();
    let mut broker = world(dir.path()).await;
    let packets = if is_long() { 1_000_000 } else { 200_000 };
    let pid = broker.child.id().expect("it runs");
    let before = dealt_with(&broker).await;
    let mut source = Source::new(broker.at.dns[0], 0x2545_f491_4f6c_dd1d).await;
    source.flood(packets / 10).await;
    let early = resident(pid);
    source.flood(packets - packets / 10).await;
    let late = resident(pid);
    eprintln!("{} packets; resident {} KiB, then {} KiB", source.sent, early / 1024, late / 1024);
    // At once, each of them.
    for number in 0..MARKERS.len() {
        source.mark(number).await;
    }
    assert!(late.saturating_sub(early) < GROWTH, "grew from {early} to {late} bytes");
    assert!(broker.child.try_wait().expect("wait").is_none() && broker.child.id() == Some(pid));
    let sent = source.sent;
    let counted_all = || async { dealt_with(&broker).await - before };
    eventually("every packet is counted", counted_all, |n| *n == sent).await;
    // Noise and damage of that kind are mostly malformed, and nothing else was.
    let malformed = counted(&broker, "nearmost_dns_malformed_total").await;
    assert!(malformed > packets as u64 / 2 && malformed < sent, "{malformed} of {sent}");
    broker.stop().await;
}
