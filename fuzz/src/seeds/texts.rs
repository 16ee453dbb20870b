//! What people, browsers and the kernel write.

use super::{broker, person};
use data_encoding::BASE64;
use nearmost_agent::paths::message::{Family, request};
use nearmost_core::registry::{KeyLife, KeyStage, ZoneKey};
use nearmost_core::time::UnixMillis;
use nearmost_wire::auth::{Signable, sign};
use nearmost_wire::grant::Delegation;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::registry::{BanBody, EntryKind, RollBody, ZoneKeyBody};
use nearmost_wire::tls;
use nearmost_wire::token::{ClientToken, JoinToken, PeerToken};
use serde_json::{Value, json};
use std::time::Duration;

type Seeds = Vec<(String, Vec<u8>)>;

fn texts_of<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(super) fn texts() -> Seeds {
    let join = || JoinToken { broker: [1; 32], secret: [2; 16], addresses: vec!["b.example:7841".into()] };
    let client = ClientToken {
        domain: "a.b".into(),
        owner: Some([3; 32]),
        brokers: vec![([1; 32], "b.example:7840".into())],
    };
    let delegation = Delegation::sign(&person(), "a.b", &broker().id(), 0, 9).expect("a domain");
    let about = Signable { broker: &broker().id(), method: "GET", path_and_query: "/v1/fleet", body: b"" };
    let made = [
        join().encode(),
        PeerToken(join()).encode(),
        client.encode(),
        delegation.encode(),
        sign(&person(), &about, 1_700_000_000_000, "abc"),
        person().id().to_string(),
        broker().id().to_string(),
    ];
    let written = texts_of([
        "play.example.com.",
        "play.example.com/lon",
        "*.play.example.com",
        "192.0.2.0/24",
        "2001:db8::/48",
        "::ffff:192.0.2.0/120",
        "unix:/run/nearmost/admin.sock",
        "https://[2001:db8::1]:8053/",
        "http://b.example",
        "2026-12-01T02:00Z",
        "2028-02-29T23:59:59Z",
        "nearmost_broker::peers=debug",
        "dns.workers=4",
        "counter:7",
        "abcdefghij234567",
        "NXDOMAIN",
        "warn",
        "a\u{1b}[2J\u{202e}b",
    ]);
    let spki = tls::spki(&broker().id().key);
    super::named(made.into_iter().map(String::into_bytes).chain(written).chain([spki]))
}

pub(super) fn dns_texts() -> Seeds {
    let (id, owner) = (broker().id(), person().id());
    super::named(texts_of([
        &format!("id={id} endpoint=b.example:7843 more=later"),
        &format!(
            "v=nearmost1 broker={id} at=b.example owner={owner}\nv=nearmost1 broker={id} at=2001:db8::1"
        ),
        &format!("v=spf1 -all\nv=nearmost1 owner={owner}\nv=nearmost1 owner={id}"),
        &format!("{id}@[2001:db8::1]:7840"),
    ]))
}

fn zone_key() -> ZoneKeyBody {
    let hold = Duration::from_secs(3600);
    let life =
        KeyLife { stage: KeyStage::Ready, since: UnixMillis(1), publish_hold: hold, retire_hold: hold };
    ZoneKeyBody::of(&ZoneKey { site: "a2b3c4d5".into(), generation: 1, public: [7; 64], life })
}

/// The kind's number, then the body.
pub(super) fn bodies() -> Seeds {
    let kinds = EntryKind::ALL.len() as u8;
    let bodies: [(u8, Value); 13] = [
        (0, json!({})),
        (0, domain()),
        (
            1,
            json!({ "domains": ["a.b"], "id": KeyPair::from_seed(nearmost_wire::identity::Role::Node, &[4; 32]).id().to_string() }),
        ),
        (2, mirror()),
        (3, json!({ "on": true })),
        (4, json!({ "to": "down", "until_unix_ms": 9 })),
        (5, json!({ "name": "ann" })),
        (6, json!({ "country": "GB", "latitude": 51.5, "longitude": -0.1, "asn": 64500 })),
        (7, serde_json::to_value(zone_key()).expect("it encodes")),
        (kinds + 1, json!({ "role": "operator", "until_unix_ms": 9 })),
        (kinds + 2, json!({ "addresses": ["b.example:7843"], "name": "b" })),
        (kinds + 4, json!({ "addresses": ["b.example:7843"] })),
        (kinds + 6, json!({ "until_unix_ms": 9 })),
    ];
    let mut all: Vec<Vec<u8>> =
        bodies.iter().map(|(kind, body)| [&[*kind][..], body.to_string().as_bytes()].concat()).collect();
    let ban = BanBody { until_unix_ms: 9, reason: "spam".into() };
    all.push([&[kinds][..], &ban.encode()].concat());
    let roll = RollBody::sign("a.b", &person().id().key, &broker());
    all.push([&[kinds + 3][..], &serde_json::to_vec(&roll).expect("it encodes")].concat());
    super::named(all)
}

fn domain() -> Value {
    json!({
        "ttl_s": 20, "negative_ttl_s": 5, "strategy": "nearest", "alpn": ["h2"],
        "records": [
            { "name": "@", "type": "MX", "ttl_s": 60, "value": "10 mail.example.net" },
            { "name": "www", "type": "CNAME", "ttl_s": 60, "value": "a.b" },
        ],
        "rules": [{ "country": "GB", "effect": "pin", "mirrors": ["c"] }],
    })
}

fn mirror() -> Value {
    json!({
        "addresses": ["192.0.2.1", "2001:db8::1"], "port": 443, "weight": 100, "health": "manual", "state": "up",
        "probe": { "kind": "http", "path": "/healthz" }, "url": "https://c.a.b/x",
    })
}

const REGISTRY: &str = r#"version = 1
[[domain]]
name = "play.example.com"
ttl_s = 20
strategy = "nearest"
alpn = ["h2"]
records = [
  { name = "@", type = "MX", ttl_s = 60, value = "10 mail.example.net" },
  { name = "@", type = "TXT", ttl_s = 60, value = "v=spf1 -all" },
  { name = "@", type = "CAA", ttl_s = 60, value = "0 issue \"ca.example\"" },
  { name = "*.wild", type = "A", ttl_s = 60, value = "192.0.2.9" },
  { name = "sub", type = "NS", ttl_s = 60, value = "ns.sub.play.example.com" },
]
[[node]]
name = "lon1"
domains = ["play.example.com"]
[[mirror]]
domain = "play.example.com"
name = "lon"
node = "lon1"
addresses = ["192.0.2.1", "2001:db8::1"]
place = { latitude = 51.5, longitude = -0.1, country = "GB" }
health = "manual"
state = "up"
[[override]]
prefix = "192.0.2.0/24"
country = "GB"
"#;

pub(super) fn registry_files() -> Seeds {
    super::named(texts_of([
        REGISTRY,
        "version = 1\n[[domain]]\nname = \"a.b\"\n[[mirror]]\ndomain = \"a.b\"\nname = \"c\"\nport = 70000\n",
        "version = 1\n[[mirror]]\ndomain = \"ply.example\"\nname = \"c\"\n",
        "version = 2\n[[domian]]\n",
        "version = 1\n[[domain]]\nname = \"a.b\"\nname = \"c.d\"\n",
    ]))
}

pub(super) fn configurations() -> Seeds {
    super::named(texts_of([
        "version = 1\n[dns]\nlisten = [\"127.0.0.1:5300\"]\nworkers = 2\n#env\nDNS__WORKERS=4\n#set\ndns.workers=8",
        "version = 1\n[dns]\nworkrs = 2\n",
        "version = 1\ndata_dir = \"/x\"\n[geo]\nembedded = false\n[[geo.overrides]]\nprefix = \"127.0.0.0/8\"\n\
         latitude = 51.5\nlongitude = -0.1\n",
        "version = 1\n[node]\nname = \"n\"\n[[brokers]]\nid = \"nb1\"\naddresses = [\"b:7841\"]\n[[services]]\n\
         domain = \"a.b\"\nmirror = \"c\"\nport = 443\nchecks = [{ kind = \"http\", path = \"/\" }]\n",
        "version = 2\n",
        "version = 1\nx = {a={a={a={a={a={a=[[[[[[[]]]]]]]}}}}}}\n#env\nX={a={a=[[[[",
    ]))
}

pub(super) fn requests() -> Seeds {
    let mut session = vec![1];
    session.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 4, 192, 0, 2]);
    session.extend(b"a.b");
    let body = br#"{"nearmost_broker::peers":"debug","":"info"}"#;
    let good = [
        &b"domain=a.b&client=192.0.2.1&n=3\n203.0.113.9, 10.0.0.2\nfor=\"[2001:db8::1]:4711\";proto=https\n"
            [..],
        &session,
        b"\n",
        body,
    ];
    let mut all = texts_of([
        "domain=a&domain=b\n\n\n\n{}",
        "who=1%ff\n127.0.0.1\nfor=unknown, for=127.0.0.1\n\n{\"a\":1}",
        "\n,,,\n;=;\n\n{\"quinn\":\"debgu\"",
    ]);
    all.push(good.concat());
    super::named(all)
}

pub(super) fn api() -> Seeds {
    let records: Vec<Value> = super::records()
        .iter()
        .map(|record| json!({ "record": BASE64.encode(record.bytes()), "accepted": true }))
        .collect();
    let entry = r#"{"at_unix_ms":1,"actor":"uid 0","via":"socket","act":"mirror.change","outcome":"done"}"#;
    let hash = nearmost_wire::api::audit_hash(&[0; 32], 1, entry.as_bytes());
    let hex = |hash: &[u8]| data_encoding::HEXLOWER.encode(hash);
    let audit =
        format!(r#"{{"number":1,"previous":"{}","hash":"{}","entry":{entry}}}"#, hex(&[0; 32]), hex(&hash));
    let registry = json!({
        "broker": broker().id().to_string(), "version": 3, "hlc_millis": 1_700_000_000_009_u64, "hlc_counter": 0,
        "records": records,
    });
    let rtt = json!({
        "session": "x", "domain": "a.b", "rtts": [{ "mirror": "c", "rtt_ms": 1.5 }], "nonce": "abcdefghij234567",
    });
    let peer =
        serde_json::to_value(nearmost_replica::peer::PeerState::default()).expect("it has a JSON form");
    super::named(texts_of([
        &registry.to_string(),
        &format!("{audit}\n{audit}"),
        &rtt.to_string(),
        r#"{"error":"unknown_domain","message":"there is no such domain"}"#,
        r#"{"levels":{"quinn":"debug"},"for_s":60}"#,
        r#"{"name":"bob","admin":true,"domains":[],"ttl_s":60}"#,
        r#"{"domains":["a.b"],"name":null,"ttl_s":60}"#,
        r#"{"path":"/var/backups/x","overwrite":true}"#,
        r#"{"token":"x","about":{"name":"grafana","scope":"metrics","created_unix_ms":1}}"#,
        r#"{"level":"info","levels":{"quinn":"debug"},"set":[]}"#,
        r#"{"domain":"a.b","name":"_acme-challenge.a.b","expires_unix_ms":1}"#,
        &peer.to_string(),
        r#"{"dns.workers":{"shown":"2","sha256":"00"}}"#,
    ]))
}

pub(super) fn events() -> Seeds {
    let mut all = texts_of([
        "\u{3}: hello\nid: 7\r\ndata: {\"a\":1}\n\n\n:\n\ndata:x\ndata: y\nevent: z\n\ndata: unfinished\n",
        "\u{1}data\n\nid:\n\nretry: 3\n\n",
    ]);
    all.push(b"\x02data: \xff\xfe\n\n".to_vec());
    super::named(all)
}

/// A connection's message as the kernel gives it (`inet_diag(7)`): of 192.0.2.1:443 with 198.51.100.7, whose round
/// trip is 20 ms.
fn diag() -> Vec<u8> {
    const DUMP: u16 = 20;
    let mut info = vec![0; 104];
    info[68..72].copy_from_slice(&20_000_u32.to_ne_bytes());
    let mut body = vec![2, 1, 0, 0];
    body.extend(443_u16.to_be_bytes());
    body.extend(50_000_u16.to_be_bytes());
    for address in [[192, 0, 2, 1], [198, 51, 100, 7]] {
        body.extend(address);
        body.extend([0; 12]);
    }
    body.resize(72, 0);
    body.extend((info.len() as u16 + 4).to_ne_bytes());
    body.extend(2_u16.to_ne_bytes());
    body.extend(info);
    let mut message = (body.len() as u32 + 16).to_ne_bytes().to_vec();
    message.extend(DUMP.to_ne_bytes());
    message.extend([2, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}

pub(super) fn kernel() -> Seeds {
    let done =
        [&20_u32.to_ne_bytes()[..], &3_u16.to_ne_bytes(), &[2, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[0; 4]].concat();
    let mut all = texts_of([
        "cpu  10 0 5 100 3 0 1 0 0 0\ncpu0 1 2 3 4\n",
        "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    4000 kB\n",
        "  0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0\n",
        "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 0 0\n",
        "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
        "HTTP/1.0 503 x\r\n\r\n{\"node\":\"n\\u001b[2J\",\"draining\":true,\"brokers\":[],\"processes\":[],\
         \"checks\":[],\"ingress\":null}",
    ]);
    all.extend([diag(), [diag(), done].concat(), request(Family::V4, 443, 1)]);
    super::named(all)
}
