//! What changes under a running broker loses no query: it is reloaded, its keys are rolled, domains come,
//! records change, networks move on the map, while 48 clients ask without pause. Each query is sent once and
//! must be answered, and each answer must be one of those that are right before or after the change.

use nearmost_tests::message::{Reply, type_number};
use nearmost_tests::process::{Broker, directory};
use nearmost_tests::{PATIENCE, Stopwatch, dns, eventually};
use nearmost_wire::api::DnssecResponse;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Queries under way at once: few enough for any socket buffer, so that what is lost, the broker lost.
const CLIENTS: usize = 48;
/// The network that moves.
const MOVING: &str = "198.51.0.0/16";
/// Rounds of each change.
const ROUNDS: usize = 8;

/// One of the answers that may be given: response code, and answer records without owners, sorted.
type Answer = (&'static str, &'static [&'static str]);

struct Question {
    name: &'static str,
    rtype: &'static str,
    signed: bool,
    subnet: Option<&'static str>,
    answers: &'static [Answer],
}

const fn asked(name: &'static str, rtype: &'static str, answers: &'static [Answer]) -> Question {
    Question { name, rtype, signed: false, subnet: None, answers }
}

const fn signed(name: &'static str, rtype: &'static str, answers: &'static [Answer]) -> Question {
    Question { name, rtype, signed: true, subnet: None, answers }
}

const fn from(subnet: &'static str, answers: &'static [Answer]) -> Question {
    Question { name: "plain.example", rtype: "A", signed: false, subnet: Some(subnet), answers }
}

const QUESTIONS: [Question; 18] = [
    from("81.2.69.0/24", &[("NOERROR", &["A 192.0.2.1"])]),
    from("1.128.7.0/24", &[("NOERROR", &["A 192.0.2.3"])]),
    // Near one, then near the other.
    from("198.51.100.0/24", &[("NOERROR", &["A 192.0.2.1"]), ("NOERROR", &["A 192.0.2.3"])]),
    asked("plain.example", "A", &[("NOERROR", &["A 192.0.2.1"])]),
    asked("lon.plain.example", "AAAA", &[("NOERROR", &["AAAA 2001:db8::1"])]),
    asked("www.plain.example", "CNAME", &[("NOERROR", &["CNAME plain.example"])]),
    asked("turn.plain.example", "TXT", &[("NOERROR", &["TXT \"even\""]), ("NOERROR", &["TXT \"odd\""])]),
    asked("any.wild.plain.example", "A", &[("NOERROR", &["A 192.0.2.200"])]),
    asked("nothing.plain.example", "A", &[("NXDOMAIN", &[])]),
    asked("plain.example", "NAPTR", &[("NOERROR", &[])]),
    asked("elsewhere.test", "A", &[("REFUSED", &[])]),
    asked("safe.example", "A", &[("NOERROR", &["A 192.0.2.5"])]),
    signed("safe.example", "A", &[("NOERROR", &["A 192.0.2.5", "RRSIG A safe.example"])]),
    signed("own.safe.example", "AAAA", &[("NOERROR", &["AAAA 2001:db8::5", "RRSIG AAAA safe.example"])]),
    signed("safe.example", "TXT", &[("NOERROR", &["RRSIG TXT safe.example", "TXT \"signed\""])]),
    signed("nothing.safe.example", "A", &[("NOERROR", &[])]),
    signed("www.plain.example", "CNAME", &[("NOERROR", &["CNAME plain.example"])]),
    // While a key is rolled there are two, each of which signs the set.
    signed(
        "safe.example",
        "DNSKEY",
        &[
            ("NOERROR", &["DNSKEY 257 3 13", "RRSIG DNSKEY safe.example"]),
            (
                "NOERROR",
                &[
                    "DNSKEY 257 3 13",
                    "DNSKEY 257 3 13",
                    "RRSIG DNSKEY safe.example",
                    "RRSIG DNSKEY safe.example",
                ],
            ),
        ],
    ),
];

impl Question {
    fn query(&self, id: u16) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in self.name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&type_number(self.rtype).to_be_bytes());
        // Class IN; an OPT record of 1232 bytes.
        out.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, u8::from(self.signed) << 7, 0]);
        match self.subnet {
            None => out.extend_from_slice(&[0, 0]),
            Some(net) => {
                let net: ipnet::Ipv4Net = net.parse().expect("a prefix");
                out.extend_from_slice(&[0, 11, 0, 8, 0, 7, 0, 1, net.prefix_len(), 0]);
                out.extend_from_slice(&net.addr().octets()[..3]);
            }
        }
        out
    }

    /// What is wrong with an answer.
    fn fault(&self, reply: &Reply) -> Option<String> {
        let mut records: Vec<String> =
            reply.sections[0].iter().map(|r| format!("{} {}", r.kind, r.data)).collect();
        records.sort();
        let rcode = reply.rcode();
        let right = self.answers.iter().any(|(code, all)| rcode == *code && records == *all);
        // What is not there is proven.
        let proofs =
            reply.sections[1].iter().filter(|r| ["NSEC", "RRSIG"].contains(&r.kind.as_str())).count();
        let proven = !self.signed || !self.answers[0].1.is_empty() || proofs == 3;
        let told = || format!("{} {} {:?}: {rcode} {records:?}", self.name, self.rtype, self.subnet);
        (!right || !proven).then(told)
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    stop: AtomicBool,
}

/// Asks one question after the other, each once.
async fn client(at: SocketAddr, number: usize, seen: Arc<Seen>) -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    socket.connect(at).await.expect("connect");
    let mut buffer = vec![0; 4096];
    let mut id = number as u16;
    for question in QUESTIONS.iter().cycle().skip(number) {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        id = id.wrapping_add(CLIENTS as u16);
        socket.send(&question.query(id)).await.expect("send");
        let reply = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let Ok(reply) = reply else { return Err(format!("{} {}: lost", question.name, question.rtype)) };
        let reply = Reply::read(&buffer[..reply.expect("receive")]);
        if reply.id != id {
            return Err(format!("{} {}: the answer of another", question.name, question.rtype));
        }
        if let Some(fault) = question.fault(&reply) {
            return Err(fault);
        }
        seen.answers.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn registry(turn: &str, more: usize) -> String {
    let mirror = |domain: &str, name: &str, addresses: &str, place: &str| {
        format!(
            "[[mirror]]\ndomain = {domain:?}\nname = {name:?}\naddresses = [{addresses}]\n\
             health = \"manual\"\nstate = \"up\"\nplace = {{ {place} }}\n"
        )
    };
    let plain =
        "[[domain]]\nname = \"plain.example\"\nstrategy = \"nearest\"\nexplore_percent = 0\nanswers = 1\n";
    let records = format!(
        "records = [\n{{ name = \"www\", type = \"CNAME\", ttl_s = 60, value = \"plain.example\" }},\n\
         {{ name = \"turn\", type = \"TXT\", ttl_s = 60, value = {turn:?} }},\n\
         {{ name = \"*.wild\", type = \"A\", ttl_s = 60, value = \"192.0.2.200\" }},\n]\n"
    );
    let safe = "[[domain]]\nname = \"safe.example\"\n\
                records = [{ name = \"@\", type = \"TXT\", ttl_s = 60, value = \"signed\" }]\n";
    let (london, sydney) = ("latitude = 51.5, longitude = -0.1", "latitude = -33.9, longitude = 151.2");
    let mirrors = [
        mirror("plain.example", "lon", "\"192.0.2.1\", \"2001:db8::1\"", london),
        mirror("plain.example", "syd", "\"192.0.2.3\"", sydney),
        mirror("safe.example", "own", "\"192.0.2.5\", \"2001:db8::5\"", london),
    ];
    let more: String = (0..more)
        .map(|n| {
            let name = format!("more{n}.example");
            let addresses = [format!("\"192.0.2.{}\"", 10 + n), format!("\"192.0.2.{}\"", 100 + n)];
            let [a, b] = addresses;
            format!("[[domain]]\nname = {name:?}\nstrategy = \"nearest\"\nexplore_percent = 0\n")
                + &mirror(&name, "a", &a, london)
                + &mirror(&name, "b", &b, sydney)
        })
        .collect();
    format!("version = 1\n{plain}{records}{safe}{}{more}", mirrors.concat())
}

async fn world(dir: &Path) -> Broker {
    let place = |net: &str, lat: f64, lon: f64| {
        format!("[[geo.overrides]]\nprefix = {net:?}\nlatitude = {lat:?}\nlongitude = {lon:?}\n")
    };
    let places = [
        place("127.0.0.0/8", 51.5, -0.1),
        place("81.0.0.0/8", 51.5, -0.1),
        place("1.128.0.0/11", -33.9, 151.2),
    ];
    let extra = format!(
        "[dns.limits]\nerrors_per_second = 0\n[dns.dnssec]\npublish_hold_s = 1\nretire_hold_s = 1\n\
         [geo]\nembedded = false\n{}",
        places.concat()
    );
    let broker = Broker::start_with(dir, &extra).await;
    broker.apply(&registry("even", 0), &[]).await;
    broker.ok(&["geo", "override", "add", MOVING, "51.5,-0.1"]).await;
    for mirror in ["lon", "syd", "own"] {
        broker.until(mirror, "up").await;
    }
    broker.ok(&["domain", "dnssec", "safe.example", "--enable"]).await;
    ready(&broker).await;
    broker.ok(&["domain", "dnssec", "safe.example", "--ds-seen"]).await;
    moved(&broker, "192.0.2.1").await;
    let near = || dns::ask(broker.at.dns[0], "plain.example", "1.128.7.0/24");
    eventually("the map is built", near, |a| told(a) == "[192.0.2.3]").await;
    broker
}

fn told(addresses: &[std::net::IpAddr]) -> String {
    format!("{addresses:?}")
}

/// Stages of the keys that are not removed.
async fn stages(broker: &Broker) -> Vec<String> {
    let told = broker.ok(&["domain", "dnssec", "safe.example", "--json"]).await;
    let told: DnssecResponse = serde_json::from_str(&told).expect("keys as JSON");
    told.keys.into_iter().map(|k| k.stage).filter(|s| s != "removed").collect()
}

async fn ready(broker: &Broker) {
    let stages = || stages(broker);
    eventually("a key is ready", stages, |s| s.iter().any(|s| s == "ready")).await;
}

/// Waits until the network that moves is answered with a mirror.
async fn moved(broker: &Broker, mirror: &str) {
    let ask = || dns::ask(broker.at.dns[0], "plain.example", "198.51.100.0/24");
    eventually("the network has moved", ask, |a| told(a) == format!("[{mirror}]")).await;
}

/// SIGHUP, and waits until the broker says that it is done.
async fn reload(broker: &Broker) {
    let said = || async {
        let log = std::fs::read_to_string(broker.dir.join("broker.log")).expect("the log");
        log.matches("geo databases reloaded").count()
    };
    let before = said().await;
    let pid = broker.child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    eventually("reloaded", said, |n| *n > before).await;
}

async fn roll(broker: &Broker) {
    broker.ok(&["domain", "dnssec", "safe.example", "--roll"]).await;
    ready(broker).await;
    broker.ok(&["domain", "dnssec", "safe.example", "--ds-seen"]).await;
    let stages = || stages(broker);
    eventually("the old key is removed", stages, |s| s == &["active"]).await;
}

/// All that changes, one after the other.
async fn changes(broker: &Broker) {
    for round in 0..ROUNDS {
        reload(broker).await;
        let turn = ["even", "odd"][(round + 1) % 2];
        broker.apply(&registry(turn, round), &[]).await;
        let text = || async {
            let query = dns::query("turn.plain.example", hickory_proto::rr::RecordType::TXT, None);
            let reply = dns::exchange(broker.at.dns[0], &query).await;
            reply.map(|m| m.answers.iter().map(|r| r.data.to_string()).collect::<String>())
        };
        eventually("the record has changed", text, |t| t.as_ref().is_some_and(|t| t.contains(turn))).await;
        if let Some(last) = round.checked_sub(1) {
            let name = format!("more{last}.example");
            let new = || dns::ask(broker.at.dns[0], &name, "81.2.69.0/24");
            let first = format!("192.0.2.{}", 10 + last);
            eventually("the new domain is answered", new, |a| a.iter().any(|a| a.to_string() == first)).await;
        }
        let (place, mirror) = [("-33.9,151.2", "192.0.2.3"), ("51.5,-0.1", "192.0.2.1")][round % 2];
        broker.ok(&["geo", "override", "add", MOVING, place]).await;
        moved(broker, mirror).await;
        if round % 4 == 3 {
            roll(broker).await;
        }
    }
    // And away again.
    broker.apply(&registry("even", 0), &["--prune"]).await;
    let gone = || dns::code(broker.at.dns[0], "more1.example", hickory_proto::rr::RecordType::A);
    eventually("the domains are gone", gone, |c| *c == hickory_proto::op::ResponseCode::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_is_lost_while_everything_changes() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(broker.at.dns[0], number, seen.clone()));
    }
    let took = Stopwatch::start();
    tokio::select! {
        () = changes(&broker) => {}
        // None ends by itself but by a fault.
        ended = clients.join_next() => panic!("{:?}", ended.expect("a client")),
    }
    let (answers, took) = (seen.answers.load(Ordering::Relaxed), took.elapsed());
    seen.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client").expect("every query is answered");
    }
    let rate = answers as f64 / took.as_secs_f64();
    eprintln!("{answers} queries in {took:?}, {rate:.0} a second");
    assert!(rate > 500.0, "{rate:.0} queries a second are no load");
    broker.stop().await;
}
