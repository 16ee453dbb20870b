//! The broker as DNS software that others wrote sees it: dig, kdig, drill and delv ask it for names of every
//! kind, and Unbound, BIND and the PowerDNS Recursor resolve them through it, validate what is signed, and
//! pass client subnets on. What is registered is that of `dns_table.toml`.

use nearmost_tests::eventually;
use nearmost_tests::message::{Reply, type_number};
use nearmost_tests::process::{Broker, directory};
use nearmost_tests::tools::{Resolver, Upstream, bind_anchors, certify, copied, said};
use nearmost_wire::api::DnssecResponse;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::UdpSocket;
use tokio::process::Command;

const REGISTRY: &str = include_str!("dns_table.toml");
const ZONES: [&str; 3] = ["plain.example", "safe.example", "zone.test"];
const SAFE: &str = "safe.example";

/// A name, a type, and its answer: response code, and records as `type data`, sorted.
type Lookup = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Names of every kind, as a resolver answers them; whoever tells no network is near London.
const LOOKUPS: [Lookup; 42] = [
    ("plain.example", "A", "NOERROR", &["A 192.0.2.1"]),
    ("plain.example", "AAAA", "NOERROR", &["AAAA 2001:db8::1"]),
    (
        "plain.example",
        "HTTPS",
        "NOERROR",
        &["HTTPS 1 . alpn=h2 port=443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"],
    ),
    (
        "plain.example",
        "SVCB",
        "NOERROR",
        &["SVCB 1 . alpn=h2 port=443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"],
    ),
    ("plain.example", "MX", "NOERROR", &["MX 10 mail.plain.example", "MX 20 mx.other.test"]),
    ("plain.example", "TXT", "NOERROR", &["TXT \"v=spf1 -all\""]),
    ("strings.plain.example", "TXT", "NOERROR", &["TXT \"one\" \"two words\""]),
    ("plain.example", "CAA", "NOERROR", &["CAA 0 issue \"ca.example.net\""]),
    ("plain.example", "NS", "NOERROR", &["NS ns1.plain.example", "NS ns2.other.test"]),
    ("plain.example", "SOA", "NOERROR", &["SOA ns1.plain.example dns.plain.example 3600 600 604800 7"]),
    ("_https._tcp.plain.example", "SRV", "NOERROR", &["SRV 0 100 443 lon.plain.example"]),
    ("_sip._udp.plain.example", "SRV", "NOERROR", &["SRV 5 10 5060 sip.other.test"]),
    ("lon.plain.example", "A", "NOERROR", &["A 192.0.2.1"]),
    ("mail.plain.example", "A", "NOERROR", &["A 192.0.2.25", "A 192.0.2.26"]),
    ("www.plain.example", "A", "NOERROR", &["A 192.0.2.1", "CNAME plain.example"]),
    (
        "chain.plain.example",
        "AAAA",
        "NOERROR",
        &["AAAA 2001:db8::25", "CNAME alias.plain.example", "CNAME mail.plain.example"],
    ),
    ("cross.plain.example", "A", "NOERROR", &["A 192.0.2.5", "CNAME safe.example"]),
    ("any.wild.plain.example", "A", "NOERROR", &["A 192.0.2.200"]),
    ("deep.er.down.plain.example", "A", "NOERROR", &["A 192.0.2.77"]),
    ("one.zone.test", "A", "NOERROR", &["A 192.0.2.11", "A 192.0.2.12"]),
    ("across.two.zone.test", "A", "NOERROR", &["A 192.0.2.40", "CNAME two.zone.test"]),
    // Larger than a datagram.
    (
        "long.plain.example",
        "TXT",
        "NOERROR",
        &[
            "TXT \"xxxxxxxxxxxxxxxxxxxxxxxx...255\" \"xxxxxxxxxxxxxxxxxxxxxxxx...255\" \"xxxxxxxxxxxxxxxxxxxxxxxx...90\"",
        ],
    ),
    ("nothing.plain.example", "A", "NXDOMAIN", &[]),
    ("a.b.c.plain.example", "MX", "NXDOMAIN", &[]),
    ("nothing.zone.test", "A", "NXDOMAIN", &[]),
    ("dangling.plain.example", "A", "NXDOMAIN", &["CNAME nothing.plain.example"]),
    ("er.down.plain.example", "A", "NOERROR", &[]),
    ("plain.example", "NAPTR", "NOERROR", &[]),
    ("alias.plain.example", "TXT", "NOERROR", &["CNAME mail.plain.example"]),
    ("syd.plain.example", "AAAA", "NOERROR", &[]),
    ("safe.example", "A", "NOERROR", &["A 192.0.2.5"]),
    ("safe.example", "AAAA", "NOERROR", &["AAAA 2001:db8::5"]),
    ("safe.example", "MX", "NOERROR", &["MX 10 mail.other.test"]),
    ("safe.example", "TXT", "NOERROR", &["TXT \"signed\""]),
    ("safe.example", "DNSKEY", "NOERROR", &["DNSKEY 257 3 13"]),
    ("www.safe.example", "A", "NOERROR", &["A 192.0.2.5", "CNAME own.safe.example"]),
    ("any.wild.safe.example", "A", "NOERROR", &["A 192.0.2.200"]),
    ("_https._tcp.safe.example", "SRV", "NOERROR", &["SRV 0 100 443 own.safe.example"]),
    ("deep.down.safe.example", "A", "NOERROR", &["A 192.0.2.77"]),
    ("down.safe.example", "A", "NOERROR", &[]),
    ("deep.down.safe.example", "TXT", "NOERROR", &[]),
    ("safe.example", "SRV", "NOERROR", &[]),
];

/// A name that does not exist and would be signed. Compact denial makes it NOERROR to whoever asks for
/// proof, and a validating resolver may tell its clients either (RFC 9824 §5).
const DENIED: &str = "nothing.safe.example";

/// The broker, and the DS of its signed zone.
async fn world(dir: &Path) -> (Broker, Vec<String>) {
    let (cert, key) = certify(dir, "broker.test").await;
    let place = |net: &str, lat: f64, lon: f64| {
        format!("[[geo.overrides]]\nprefix = {net:?}\nlatitude = {lat:?}\nlongitude = {lon:?}\n")
    };
    let extra = format!(
        "[dns.identity]\nid = \"lon-1\"\nversion = \"of ours\"\n[dns.limits]\nerrors_per_second = 0\n\
         [dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\"]\n\
         [dns.dnssec]\npublish_hold_s = 1\nretire_hold_s = 1\n[geo]\nembedded = false\n{}{}{}",
        place("127.0.0.0/8", 51.5, -0.1),
        place("3.0.0.0/9", 40.7, -74.0),
        place("1.128.0.0/11", -33.9, 151.2),
    );
    let config = nearmost_tests::process::broker_config(dir, &extra);
    let zone = "workers = 1\nnameservers = [\"ns1.plain.example\", \"ns2.other.test\"]\n\
                nameserver_addresses = [\"192.0.2.53\"]\nhostmaster = \"dns@plain.example\"\nzones = [\"zone.test\"]\n";
    std::fs::write(dir.join("broker.toml"), config.replace("workers = 1\n", zone))
        .expect("write broker.toml");
    let broker = Broker::restart(dir).await;
    broker.apply(REGISTRY, &[]).await;
    for mirror in ["lon", "nyc", "syd", "one", "two", "own"] {
        broker.until(mirror, "up").await;
    }
    broker.ok(&["domain", "dnssec", SAFE, "--enable"]).await;
    let ready = || async {
        let keys = keys(&broker).await.keys;
        !keys.is_empty() && keys.iter().all(|k| k.stage == "ready")
    };
    eventually("the key is ready", ready, |ready| *ready).await;
    broker.ok(&["domain", "dnssec", SAFE, "--ds-seen"]).await;
    let near = || nearmost_tests::dns::ask(broker.at.dns[0], "plain.example", "1.128.7.0/24");
    eventually("the map is built", near, |a| format!("{a:?}") == "[192.0.2.3]").await;
    let anchors = keys(&broker).await.keys.into_iter().map(|k| k.ds).collect();
    (broker, anchors)
}

async fn keys(broker: &Broker) -> DnssecResponse {
    let told = broker.ok(&["domain", "dnssec", SAFE, "--json"]).await;
    serde_json::from_str(&told).expect("keys as JSON")
}

/// Asks a resolver: recursion desired, authentic data understood, and large datagrams taken.
async fn resolved(at: SocketAddr, name: &str, rtype: &str, subnet: Option<&str>) -> Reply {
    let mut query = vec![0x47, 0x11, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&type_number(rtype).to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 41, 16, 0, 0, 0, 0, 0]);
    let option = subnet.map_or(Vec::new(), |net| {
        let net: ipnet::Ipv4Net = net.parse().expect("a prefix");
        [&[0, 8, 0, 7, 0, 1, net.prefix_len(), 0][..], &net.addr().octets()[..3]].concat()
    });
    query.extend_from_slice(&(option.len() as u16).to_be_bytes());
    query.extend(option);
    let exchange = || async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        socket.connect(at).await.expect("connect");
        socket.send(&query).await.expect("send");
        let mut buffer = vec![0; 65_535];
        let second = std::time::Duration::from_secs(5);
        let n = tokio::time::timeout(second, socket.recv(&mut buffer)).await.ok()?.ok()?;
        Some(Reply::read(&buffer[..n]))
    };
    eventually("a reply of the resolver", exchange, Option::is_some).await.expect("a reply")
}

/// Answer records, sorted.
fn records(reply: &Reply) -> Vec<String> {
    let mut all: Vec<String> = reply.sections[0].iter().map(|r| format!("{} {}", r.kind, r.data)).collect();
    all.sort();
    all
}

/// Everything resolves; what is signed is authentic.
async fn resolves(resolver: &Resolver) {
    let mut faults = Vec::new();
    for (name, rtype, rcode, expected) in LOOKUPS {
        let reply = resolved(resolver.at, name, rtype, None).await;
        let authentic = reply.flags & 0x20 != 0;
        let right = reply.rcode() == rcode && records(&reply) == expected;
        if !right || authentic != name.ends_with(SAFE) {
            faults.push(format!(
                "{name} {rtype}: {}, authentic {authentic}, {:?}",
                reply.rcode(),
                records(&reply)
            ));
        }
    }
    let reply = resolved(resolver.at, DENIED, "A", None).await;
    if reply.rcode() == "SERVFAIL" || !records(&reply).is_empty() || reply.flags & 0x20 == 0 {
        faults.push(format!("{DENIED}: {reply:?}"));
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), LOOKUPS.len(), faults.join("\n"));
}

/// Clients of two places, whose resolver passes on where they are.
async fn is_near(resolver: &Resolver) {
    for (subnet, mirror) in [("3.1.2.0/24", "A 192.0.2.2"), ("1.128.7.0/24", "A 192.0.2.3")] {
        let reply = resolved(resolver.at, "plain.example", "A", Some(subnet)).await;
        assert_eq!(records(&reply), [mirror], "{subnet}");
    }
}

fn upstream<'a>(broker: &Broker, anchors: &'a [String], more: &'a str) -> Upstream<'a> {
    let anchors = Some((SAFE, anchors));
    Upstream { server: broker.at.dns[0], zones: &ZONES, elsewhere: &[], anchors, subnets: true, more }
}

/// Unbound at its strictest: names in mixed case, names asked for label by label, denials reused.
#[tokio::test]
async fn unbound_resolves_everything() {
    let (dir, own) = (directory(), directory());
    let (broker, anchors) = world(dir.path()).await;
    let more = "use-caps-for-id: yes\nqname-minimisation: yes\nqname-minimisation-strict: yes\n\
                aggressive-nsec: yes\nharden-below-nxdomain: yes\nharden-algo-downgrade: yes\n\
                harden-large-queries: yes\nharden-short-bufsize: yes\n\
                local-zone: \"test.\" nodefault\n";
    let resolver = Resolver::unbound(own.path(), &upstream(&broker, &anchors, more)).await;
    resolves(&resolver).await;
    is_near(&resolver).await;
    broker.stop().await;
}

#[tokio::test]
async fn bind_resolves_everything() {
    let (dir, own) = (directory(), directory());
    let (broker, anchors) = world(dir.path()).await;
    let more = "send-cookie yes;\nrequest-nsid yes;\nsynth-from-dnssec yes;";
    let resolver = Resolver::bind(own.path(), &upstream(&broker, &anchors, more)).await;
    resolves(&resolver).await;
    broker.stop().await;
}

#[tokio::test]
async fn the_powerdns_recursor_resolves_everything() {
    let (dir, own) = (directory(), directory());
    let (broker, anchors) = world(dir.path()).await;
    let resolver = Resolver::recursor(own.path(), &upstream(&broker, &anchors, "")).await;
    resolves(&resolver).await;
    is_near(&resolver).await;
    broker.stop().await;
}

/// A program's words for a question to the broker.
async fn client(program: &str, at: SocketAddr, args: &[&str], name: &str, rtype: &str) -> String {
    let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
    said(Command::new(program).args(["-p", &port]).arg(server).args(args).args([name, rtype])).await
}

/// What a program's words for these records must hold, as far as all programs write it alike.
fn told(expected: &[&str]) -> Vec<String> {
    let words = expected.iter().flat_map(|record| record.split(' ').skip(1));
    let values =
        words.filter(|w| *w != "." && !w.contains("...")).flat_map(|word| match word.split_once('=') {
            Some((_, values)) => values.split(',').collect::<Vec<_>>(),
            None => vec![word],
        });
    let written = |value: &str| match value.contains('.') && value.parse::<std::net::IpAddr>().is_err() {
        // Names end with a dot, and texts are in quotes.
        true if !value.contains('"') => format!("{value}."),
        _ => value.to_owned(),
    };
    values.map(written).collect()
}

/// Asks for everything with the same arguments.
async fn asks_for_everything(program: &str, at: SocketAddr, args: &[&str]) {
    for (name, rtype, rcode, expected) in LOOKUPS {
        // Aliases into another zone are the resolver's to follow.
        let foreign = name == "cross.plain.example";
        let words = client(program, at, args, name, rtype).await;
        let status = [format!("status: {rcode}"), format!("rcode: {rcode}")];
        assert!(status.iter().any(|s| words.contains(s)), "{program} {args:?} {name} {rtype}:\n{words}");
        let lower = words.to_ascii_lowercase();
        assert!(
            !lower.contains("warning") && !lower.contains("malformed"),
            "{program} {name} {rtype}:\n{words}"
        );
        for data in told(expected).iter().filter(|_| !foreign) {
            assert!(words.contains(data.as_str()), "{program} {args:?} {name} {rtype}: no {data}:\n{words}");
        }
    }
}

#[tokio::test]
async fn dig_asks_for_everything() {
    let dir = directory();
    let (broker, _) = world(dir.path()).await;
    let at = broker.at.dns[0];
    let once = ["+tries=1", "+time=5", "+norecurse"];
    asks_for_everything("dig", at, &once).await;
    asks_for_everything("dig", at, &[&once[..], &["+tcp", "+keepopen"]].concat()).await;
    let dig = async |args: &[&str], name: &str, rtype: &str| {
        client("dig", at, &[&once[..], args].concat(), name, rtype).await
    };
    let near = dig(&["+subnet=3.1.2.0/24", "+nsid"], "plain.example", "A").await;
    for words in ["CLIENT-SUBNET: 3.1.2.0/24/9", "192.0.2.2", "(\"lon-1\")", "(good)", "flags: qr aa;"] {
        assert!(near.contains(words), "{words}:\n{near}");
    }
    let signed = dig(&["+dnssec", "+multiline"], SAFE, "A").await;
    assert!(signed.contains("RRSIG") && signed.contains("flags: do"), "{signed}");
    let denied = dig(&["+dnssec"], DENIED, "A").await;
    assert!(denied.contains("NXNAME") || denied.contains("TYPE128"), "{denied}");
    let version = dig(&["CH"], "version.bind", "TXT").await;
    assert!(version.contains("of ours"), "{version}");
    let future = dig(&["+edns=1", "+noednsnegotiation"], "plain.example", "A").await;
    assert!(future.contains("status: BADVERS"), "{future}");
    let foreign = dig(&[], "elsewhere.test", "A").await;
    assert!(foreign.contains("status: REFUSED") && foreign.contains("EDE: 20"), "{foreign}");
    let referral = dig(&[], "x.sub.plain.example", "A").await;
    assert!(referral.contains("flags: qr;") && referral.contains("192.0.2.99"), "{referral}");
    let large = dig(&["+ignore", "+bufsize=512"], "long.plain.example", "TXT").await;
    assert!(large.contains("flags: qr aa tc;"), "{large}");
    broker.stop().await;
}

#[tokio::test]
async fn kdig_asks_for_everything() {
    let dir = directory();
    let (broker, _) = world(dir.path()).await;
    let at = broker.at.dns[0];
    let once = ["+retry=0", "+timeout=5", "+norecurse"];
    asks_for_everything("kdig", at, &[&once[..], &["+edns"]].concat()).await;
    asks_for_everything("kdig", at, &[&once[..], &["+tcp"]].concat()).await;
    let ca = format!("+tls-ca={}", dir.path().join("cert.pem").display());
    let tls = [&once[..], &[&ca, "+tls-hostname=broker.test", "+tls", "+padding"]].concat();
    asks_for_everything("kdig", broker.at.dot[0], &tls).await;
    let kdig = async |at: SocketAddr, args: &[&str], name: &str, rtype: &str| {
        client("kdig", at, &[&once[..], args].concat(), name, rtype).await
    };
    let args = ["+subnet=1.128.7.0/24", "+nsid", "+cookie"];
    for (at, tls) in [(at, None), (broker.at.dot[0], Some(&tls[..]))] {
        let near = kdig(at, &[&args[..], tls.unwrap_or_default()].concat(), "plain.example", "A").await;
        for words in ["CLIENT-SUBNET: 1.128.7.0/24/11", "192.0.2.3", "\"lon-1\"", "COOKIE:"] {
            assert!(near.contains(words), "{words}:\n{near}");
        }
        assert_eq!(near.contains("PADDING"), tls.is_some(), "{near}");
    }
    let denied = kdig(at, &["+dnssec"], DENIED, "A").await;
    assert!(denied.contains("TYPE128") || denied.contains("NXNAME"), "{denied}");
    broker.stop().await;
}

#[tokio::test]
async fn drill_asks_for_everything() {
    let dir = directory();
    let (broker, _) = world(dir.path()).await;
    let at = broker.at.dns[0];
    asks_for_everything("drill", at, &["-o", "rd", "-b", "1232"]).await;
    asks_for_everything("drill", at, &["-t", "-o", "rd"]).await;
    let signed = client("drill", at, &["-D"], SAFE, "A").await;
    assert!(signed.contains("RRSIG"), "{signed}");
    broker.stop().await;
}

/// `delv` validates with the broker's key as its anchor; `dnssec.rs` asks it for more.
#[tokio::test]
async fn delv_believes_what_is_signed() {
    let dir = directory();
    let (broker, anchors) = world(dir.path()).await;
    let file = dir.path().join("anchors.conf");
    std::fs::write(&file, bind_anchors(SAFE, &anchors)).expect("write anchors");
    let (program, at) = (copied("delv", dir.path()), broker.at.dns[0]);
    let lookups = LOOKUPS.iter().filter(|(name, ..)| name.ends_with(SAFE));
    let lookups = lookups.map(|(name, rtype, _, expected)| (*name, *rtype, *expected));
    for (name, rtype, expected) in lookups.chain([(DENIED, "A", &[][..])]) {
        let mut command = Command::new(&program);
        command.arg(format!("@{}", at.ip())).args(["-p", &at.port().to_string()]).arg("-a").arg(&file);
        let words = said(command.arg(format!("+root={SAFE}")).args([name, rtype])).await;
        assert!(words.contains("fully validated") && !words.contains("unsigned"), "{name} {rtype}:\n{words}");
        for data in told(expected) {
            assert!(words.contains(&data), "{name} {rtype}: no {data}:\n{words}");
        }
    }
    broker.stop().await;
}
