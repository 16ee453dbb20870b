//! A table of queries and what each is answered with, `dns_table.txt`, asked of a real broker over UDP, TCP
//! and TLS. What is expected follows from the standards and from the registry below, not from the broker.
//!
//! Held of every reply, so not written in the table: id, opcode, RD and the question come back as sent; RA,
//! AD, CD and the reserved bit are clear; there is an OPT record exactly when the query had one, of version 0,
//! offering 1232 bytes, with DO as sent; and no option is there that the row does not name.

use nearmost_tests::message::{Record, Reply, type_number};
use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_tests::tools::certify;
use nearmost_tests::{PATIENCE, eventually};
use nearmost_wire::api::DnssecResponse;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;

const TABLE: &str = include_str!("dns_table.txt");
const REGISTRY: &str = include_str!("dns_table.toml");
/// Fewest rows: a table that was cut tests little.
const LEAST: usize = 150;

const DNS: &str = "nameservers = [\"ns1.plain.example\", \"ns2.other.test\"]\n\
    nameserver_addresses = [\"192.0.2.53\", \"2001:db8::53\"]\n\
    hostmaster = \"dns@plain.example\"\nzones = [\"zone.test\"]\n";
const REST: &str = "[dns.identity]\nid = \"lon-1\"\nversion = \"of ours\"\n\
    [dns.limits]\nerrors_per_second = 0\n\
    [dns.dnssec]\npublish_hold_s = 1\nretire_hold_s = 1\n[geo]\nembedded = false\n";
/// Where clients are; whoever sends no subnet is near London.
const PLACES: [(&str, f64, f64); 6] = [
    ("127.0.0.0/8", 51.5, -0.1),
    ("81.0.0.0/8", 51.5, -0.1),
    ("3.0.0.0/9", 40.7, -74.0),
    ("1.128.0.0/11", -33.9, 151.2),
    ("2a00::/12", 51.5, -0.1),
    ("2600::/16", 40.7, -74.0),
];

/// A client cookie (RFC 7873 §4.1).
const CLIENT_COOKIE: &[u8; 8] = b"a client";
const ECS: u16 = 8;
const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
const EDE: u16 = 15;

async fn world(dir: &Path) -> Broker {
    let (cert, key) = certify(dir, "broker.test").await;
    let tls = format!("[dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\"]\n");
    let places: String = PLACES
        .iter()
        .map(|(net, lat, lon)| {
            format!("[[geo.overrides]]\nprefix = {net:?}\nlatitude = {lat:?}\nlongitude = {lon:?}\n")
        })
        .collect();
    let config = broker_config(dir, &format!("{REST}{places}{tls}"));
    let config = config.replace("workers = 1\n", &format!("workers = 1\n{DNS}"));
    std::fs::write(dir.join("broker.toml"), config).expect("write broker.toml");
    let broker = Broker::restart(dir).await;
    broker.apply(REGISTRY, &[]).await;
    for mirror in ["lon", "nyc", "syd", "one", "two", "own"] {
        broker.until(mirror, "up").await;
    }
    broker.until("closed", "down").await;
    broker.ok(&["domain", "dnssec", "safe.example", "--enable"]).await;
    let stages = || async {
        let told = broker.ok(&["domain", "dnssec", "safe.example", "--json"]).await;
        let told: DnssecResponse = serde_json::from_str(&told).expect("keys as JSON");
        told.keys.into_iter().map(|k| k.stage).collect::<Vec<_>>()
    };
    eventually("the key is ready", stages, |s| s == &["ready"]).await;
    broker.ok(&["domain", "dnssec", "safe.example", "--ds-seen"]).await;
    // What is chosen is so by the map of these mirrors and places.
    let settled = || async {
        Row::parse(
            1,
            "udp edns ecs=3.1.2.0/24 | plain.example A | NOERROR aa ttl=5..60 scope=9 | A 192.0.2.2",
        )
        .fault(&broker)
        .await
    };
    eventually("the map is built", settled, Option::is_none).await;
    broker
}

/// A row of the table.
struct Row {
    line: usize,
    transport: String,
    options: Vec<(String, String)>,
    name: String,
    qtype: u16,
    qclass: u16,
    rcode: String,
    expected: Vec<(String, String)>,
    /// Answers, authority, additional; as written.
    sections: [Vec<String>; 3],
}

/// Words with what stands behind a `=`.
fn words(text: &str) -> Vec<(String, String)> {
    let word = |w: &str| {
        let (key, value) = w.split_once('=').unwrap_or((w, ""));
        (key.to_owned(), value.to_owned())
    };
    text.split_whitespace().map(word).collect()
}

fn get<'w>(words: &'w [(String, String)], key: &str) -> Option<&'w str> {
    words.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).expect("hexadecimal digits")
}

impl Row {
    fn parse(line: usize, text: &str) -> Row {
        let mut columns = text.split(" | ").map(str::trim);
        let mut column = || columns.next().unwrap_or_default();
        let (sent, question, expected) = (column(), column(), column());
        let mut options = words(sent);
        let mut expected = words(expected);
        assert!(!options.is_empty() && !expected.is_empty(), "line {line}: {text}");
        let mut question = question.split_whitespace();
        let mut next = |otherwise: &str| question.next().unwrap_or(otherwise).to_owned();
        let (name, qtype, qclass) = (next("."), next("TYPE0"), next("IN"));
        let qclass = match qclass.as_str() {
            "IN" => 1,
            "CH" => 3,
            "HS" => 4,
            "NONE" => 254,
            "ANY" => 255,
            other => panic!("line {line}: class {other}"),
        };
        let section = |text: &str| -> Vec<String> {
            let mut all: Vec<String> = text
                .split(" ; ")
                .map(|r| r.trim().to_owned())
                .filter(|r| !r.is_empty() && r != "-")
                .collect();
            all.sort();
            all
        };
        let sections = [section(column()), section(column()), section(column())];
        let (transport, rcode) = (options.remove(0).0, expected.remove(0).0);
        let qtype = type_number(&qtype);
        Row { line, transport, options, name, qtype, qclass, rcode, expected, sections }
    }

    fn has(&self, option: &str) -> bool {
        get(&self.options, option).is_some()
    }

    fn expects(&self, word: &str) -> bool {
        get(&self.expected, word).is_some()
    }

    fn question(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for label in self.name.split('.').filter(|l| !l.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&self.qtype.to_be_bytes());
        out.extend_from_slice(&self.qclass.to_be_bytes());
        out
    }

    /// Whether the query has an OPT record.
    fn edns(&self) -> bool {
        self.has("edns")
    }

    fn edns_options(&self, known: Option<&[u8]>) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        for (key, value) in &self.options {
            let option = match (key.as_str(), value.as_str()) {
                ("ecs", net) => (ECS, subnet(net)),
                ("ecshex", hex) => (ECS, unhex(hex)),
                ("nsid", hex) => (NSID, unhex(hex)),
                ("cookie", "") => (COOKIE, CLIENT_COOKIE.to_vec()),
                ("cookie", "known") => (COOKIE, known.expect("learned before").to_vec()),
                ("cookie", hex) => (COOKIE, unhex(hex)),
                ("keepalive", hex) => (KEEPALIVE, unhex(hex)),
                ("padding", hex) => (PADDING, unhex(hex)),
                ("opt", text) => {
                    let (code, hex) = text.split_once(':').expect("code:data");
                    (code.parse().expect("a code"), unhex(hex))
                }
                _ => continue,
            };
            all.push(option);
        }
        all
    }

    /// The query's flags and opcode.
    fn flags(&self) -> u16 {
        let bits = [("qr", 15), ("aa", 10), ("tc", 9), ("rd", 8), ("ra", 7), ("z", 6), ("ad", 5), ("cd", 4)];
        let set = bits.iter().filter(|(name, _)| self.has(name)).map(|(_, bit)| 1u16 << bit);
        let opcode = get(&self.options, "opcode").map_or(0, |v| v.parse::<u16>().expect("an opcode"));
        set.sum::<u16>()
            | opcode << 11
            | get(&self.options, "rcode").map_or(0, |v| v.parse().expect("a code"))
    }

    fn query(&self, known: Option<&[u8]>) -> Vec<u8> {
        if let Some(raw) = get(&self.options, "raw") {
            return unhex(raw);
        }
        let id = self.id();
        let count = |what: &str, otherwise: u16| {
            get(&self.options, what).map_or(otherwise, |v| v.parse().expect("a count"))
        };
        let opts = u16::from(self.edns()) + u16::from(self.has("twice"));
        let mut out = Vec::new();
        for word in [id, self.flags(), count("qd", 1), count("an", 0), count("ns", 0), count("ar", opts)] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        match get(&self.options, "qhex") {
            Some(hex) => out.extend(unhex(hex)),
            None => (0..count("qd", 1)).for_each(|_| out.extend(self.question())),
        }
        for _ in 0..opts {
            let size: u16 = match get(&self.options, "edns") {
                None | Some("") => 1232,
                Some(size) => size.parse().expect("a size"),
            };
            let version = get(&self.options, "v").map_or(0, |v| v.parse::<u8>().expect("a version"));
            let flags = u16::from(self.has("do")) << 15 | u16::from(self.has("co")) << 14;
            let flags = flags | if self.has("reserved") { 0x3fff } else { 0 };
            let mut data = Vec::new();
            for (code, value) in self.edns_options(known) {
                data.extend_from_slice(&code.to_be_bytes());
                data.extend_from_slice(&(value.len() as u16).to_be_bytes());
                data.extend(value);
            }
            data.extend(get(&self.options, "rdata").map(unhex).unwrap_or_default());
            out.extend(get(&self.options, "optowner").map_or(vec![0], unhex));
            out.extend_from_slice(&[0, 41]);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&[0, version]);
            out.extend_from_slice(&flags.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend(data);
        }
        out.extend(get(&self.options, "trailing").map(unhex).unwrap_or_default());
        out
    }

    fn id(&self) -> u16 {
        0x4000 | self.line as u16
    }

    /// A cookie that the broker gave (RFC 7873 §5.3).
    async fn learned(&self, broker: &Broker) -> Option<Vec<u8>> {
        if get(&self.options, "cookie") != Some("known") {
            return None;
        }
        let ask = Row::parse(self.line, "udp edns cookie | plain.example SOA | NOERROR");
        let reply = udp(broker.at.dns[0], &ask.query(None)).await.expect("a reply");
        Some(Reply::read(&reply).option(COOKIE).expect("a cookie").to_vec())
    }

    /// What is wrong with the answer to this row, if anything is.
    async fn fault(&self, broker: &Broker) -> Option<String> {
        let query = self.query(self.learned(broker).await.as_deref());
        let reply = match self.transport.as_str() {
            "udp" => udp(broker.at.dns[0], &query).await,
            "tcp" => Some(tcp(broker.at.dns[0], &query).await),
            "tls" => Some(tls(broker.at.dot[0], &query).await),
            other => panic!("line {}: transport {other}", self.line),
        };
        let reply = match (reply, self.rcode == "SILENT") {
            (None, true) => return None,
            (Some(_), true) => return Some("answered".into()),
            (None, false) => return Some("no answer".into()),
            (Some(reply), false) => Reply::read(&reply),
        };
        let faults: Vec<String> =
            [self.header(&reply), self.records(&reply), self.opt(&reply)].into_iter().flatten().collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    fn header(&self, reply: &Reply) -> Vec<String> {
        let mut faults = Vec::new();
        let mut same = |what: &str, is: String, should: String| {
            if is != should {
                faults.push(format!("{what} is {is}, not {should}"));
            }
        };
        same("rcode", reply.rcode(), self.rcode.clone());
        let (sent, bit) = (self.flags(), |on: bool, bit: u16| u16::from(on) << bit);
        let flags = 0x8000
            | sent & 0x7800
            | bit(self.expects("aa"), 10)
            | bit(self.expects("tc"), 9)
            | bit(self.has("rd"), 8);
        same("flags", format!("{:04x}", reply.flags & 0xfff0), format!("{flags:04x}"));
        if self.has("raw") {
            return faults;
        }
        same("id", reply.id.to_string(), self.id().to_string());
        let question = if self.expects("noq") { Vec::new() } else { self.question() };
        same("question", format!("{:?}", reply.question), format!("{question:?}"));
        faults
    }

    /// A record as the table has it: the owner only if it is not the question's.
    fn written(&self, record: &Record) -> String {
        let owner = match record.owner == self.name {
            true => String::new(),
            false => format!("{} ", record.owner),
        };
        let class = if record.class == 1 { "" } else { "CH " };
        format!("{owner}{class}{} {}", record.kind, record.data).trim().to_owned()
    }

    fn records(&self, reply: &Reply) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, what) in ["answer", "authority", "additional"].into_iter().enumerate() {
            let records = &reply.sections[at];
            let full = |r: &Record| self.written(r);
            // Where SOA and NSEC are beside the point of a row, their types will do.
            let brief = |r: &Record| match (at, r.kind.as_str()) {
                (1, "SOA" | "RRSIG" | "NSEC") if !self.expects("full") => r.kind.clone(),
                _ => self.written(r),
            };
            let mut is: Vec<String> = match at {
                0 => records.iter().map(full).collect(),
                _ => records.iter().map(brief).collect(),
            };
            is.sort();
            if is != self.sections[at] {
                faults.push(format!(
                    "{what} is [{}], not [{}]",
                    is.join(" ; "),
                    self.sections[at].join(" ; ")
                ));
            }
        }
        for (word, section) in [("ttl", 0), ("nttl", 1), ("attl", 2)] {
            let Some(range) = get(&self.expected, word) else {
                // Every row says how long its answer holds.
                if word == "ttl" && !reply.sections[0].is_empty() {
                    faults.push("no ttl= in this row".into());
                }
                continue;
            };
            let (low, high) = range.split_once("..").unwrap_or((range, range));
            let range = low.parse::<u32>().expect("seconds")..=high.parse::<u32>().expect("seconds");
            for record in &reply.sections[section] {
                if !range.contains(&record.ttl) {
                    faults.push(format!("TTL of {} is {}", self.written(record), record.ttl));
                }
            }
        }
        faults
    }

    fn opt(&self, reply: &Reply) -> Vec<String> {
        let mut faults = Vec::new();
        let opt = match (&reply.opt, self.edns() && !self.expects("noopt")) {
            (None, false) => return faults,
            (Some(opt), true) => opt,
            (is, _) => return vec![format!("OPT is {is:?}")],
        };
        let well_formed = !["FORMERR", "BADVERS"].contains(&self.rcode.as_str());
        let flags = u16::from(self.has("do") && well_formed) << 15 | u16::from(self.expects("co")) << 14;
        if (opt.payload, opt.version, opt.flags) != (1232, 0, flags) {
            faults.push(format!("OPT is {opt:?}"));
        }
        let mut same = |what: &str, is: Option<String>, should: Option<String>| {
            if is != should {
                faults.push(format!("{what} is {is:?}, not {should:?}"));
            }
        };
        let expected = |word: &str| get(&self.expected, word).map(str::to_owned);
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        let number = |data: &[u8]| u16::from_be_bytes([data[0], data[1]]).to_string();
        same("NSID", reply.option(NSID).map(text), expected("nsid"));
        same("extended error", reply.option(EDE).map(number), expected("ede"));
        same("keepalive", reply.option(KEEPALIVE).map(number), expected("keepalive"));
        // The subnet comes back as sent, but for the scope (RFC 7871 §7.2.1).
        let scope = expected("scope").map(|scope| {
            let sent = self.edns_options(None).into_iter().find(|(code, _)| *code == ECS);
            let mut data = sent.expect("a client subnet in the query").1;
            data[3] = scope.parse().expect("a scope");
            format!("{data:?}")
        });
        same("client subnet", reply.option(ECS).map(|d| format!("{d:?}")), scope);
        // The client's half comes back, and 16 bytes of the server's (RFC 9018 §4).
        let cookie = reply.option(COOKIE).map(|d| format!("{} {}", d.len(), d.starts_with(CLIENT_COOKIE)));
        same("cookie", cookie, expected("cookie").map(|_| "24 true".into()));
        let padded = reply.option(PADDING).map(|_| reply.length.is_multiple_of(468).to_string());
        same("padding", padded, expected("padded").map(|_| "true".into()));
        let known = [NSID, EDE, KEEPALIVE, ECS, COOKIE, PADDING];
        let unknown = opt.options.iter().find(|(code, _)| !known.contains(code));
        same("another option", unknown.map(|o| format!("{o:?}")), None);
        faults
    }
}

/// A client subnet's data (RFC 7871 §6).
fn subnet(net: &str) -> Vec<u8> {
    let net: ipnet::IpNet = net.parse().expect("a prefix");
    let (family, octets) = match net.addr() {
        std::net::IpAddr::V4(a) => (1, a.octets().to_vec()),
        std::net::IpAddr::V6(a) => (2, a.octets().to_vec()),
    };
    let source = net.prefix_len();
    [&[0, family, source, 0], &octets[..usize::from(source.div_ceil(8))]].concat()
}

/// Sends a query, and one after it that is surely answered: what has no answer by then gets none.
async fn udp(at: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    socket.connect(at).await.expect("connect");
    let after = Row::parse(0x3fff, "udp | plain.example SOA | NOERROR").query(None);
    socket.send(query).await.expect("send");
    socket.send(&after).await.expect("send");
    let mut buffer = vec![0; 65_535];
    let mut receive = async || {
        let n = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let n = n.expect("a reply in time").expect("receive");
        buffer[..n].to_vec()
    };
    let first = receive().await;
    if first[..2] == after[..2] {
        return None;
    }
    let last = receive().await;
    assert_eq!(last[..2], after[..2], "two answers to one query");
    Some(first)
}

async fn stream(io: &mut (impl AsyncRead + AsyncWrite + Unpin), query: &[u8]) -> Vec<u8> {
    let exchange = async {
        io.write_all(&[&(query.len() as u16).to_be_bytes(), query].concat()).await.expect("write");
        io.flush().await.expect("write");
        let n = io.read_u16().await.expect("a reply");
        let mut reply = vec![0; n.into()];
        io.read_exact(&mut reply).await.expect("all of it");
        reply
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("a reply in time")
}

async fn tcp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    stream(&mut TcpStream::connect(at).await.expect("connect"), query).await
}

/// Through `openssl s_client`, a TLS that others wrote.
async fn tls(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-alpn", "dot", "-connect", &at.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl; `cargo xtask test` installs it");
    let (read, write) = (client.stdout.take().expect("piped"), client.stdin.take().expect("piped"));
    stream(&mut tokio::io::join(read, write), query).await
}

#[tokio::test]
async fn every_query_is_answered_as_the_table_says() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let lines = TABLE.lines().enumerate().map(|(at, text)| (at + 1, text.trim()));
    let rows: Vec<Row> = lines
        .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
        .map(|(line, text)| Row::parse(line, text))
        .collect();
    assert!(rows.len() >= LEAST, "{} rows", rows.len());
    let mut faults = Vec::new();
    for row in &rows {
        if let Some(fault) = row.fault(&broker).await {
            faults.push(format!("dns_table.txt:{}: {}", row.line, fault));
        }
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
    broker.stop().await;
}
