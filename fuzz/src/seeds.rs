//! Inputs that real encoders make, the same in every run: where fuzzing begins. `cargo run -p nearmost-fuzz --bin
//! seeds` writes them into the corpus, and a test finds those that are no longer what is made.

mod database;
mod frames;
mod messages;
mod queries;
mod texts;

use nearmost_broker::store::WriteBatch;
use nearmost_replica::digest::Version;
use nearmost_replica::{Body, Hlc, Kind, Record, SignedRecord, SigningKey};
use nearmost_wire::identity::{KeyPair, Role};
use sha2::{Digest, Sha256};

/// The id of queries whose answers are seeds.
pub const ID: u16 = 0x1234;
/// The id of [`person`].
pub const PERSON: &str = "np1rii4hjjphl36q3muptyrxo2c3lbgauxi52yepq5m2ujwp7m7cbaa";

/// One input of a target.
pub struct Seed {
    /// Of which target.
    pub target: &'static str,
    /// What it is.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut add = |target, seeds: Vec<(String, Vec<u8>)>| {
        all.extend(seeds.into_iter().map(|(name, bytes)| Seed { target, name, bytes }));
    };
    add("dns_query", queries::queries());
    add("answer", queries::answers());
    add("record", named(records().iter().map(|record| record.bytes().to_vec())));
    add("body", texts::bodies());
    add("registry_file", texts::registry_files());
    add("agent", messages::agent());
    add("client", messages::client());
    add("list", messages::list());
    add("ingress", messages::ingress());
    add("peer", messages::peer());
    add("frame", messages::frames());
    add("beacon", messages::beacons());
    add("text", texts::texts());
    add("dns_text", texts::dns_texts());
    add("http_request", texts::requests());
    add("api", texts::api());
    add("events", texts::events());
    add("config", texts::configurations());
    add("geo", database::databases());
    add("learned", named([Vec::new(), vec![0; 16], learned()]));
    add("store", named([Vec::new(), vec![0, 0, 9, 1, 1], vec![0, 0x40, 0, 0, 0], vec![0, 0x12, 0, 7, 0xff]]));
    add("kernel", texts::kernel());
    add("xdp", frames::all());
    all
}

/// Numbered ones.
fn named(inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    inputs.into_iter().enumerate().map(|(n, bytes)| (n.to_string(), bytes)).collect()
}

/// A broker's key.
pub fn broker() -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[1; 32])
}

/// A person's key.
pub fn person() -> KeyPair {
    KeyPair::from_seed(Role::Person, &[2; 32])
}

/// A version of a statement.
pub fn version(n: u8) -> Version {
    [n; 16]
}

/// Records of several kinds, live ones and one that was removed.
pub fn records() -> Vec<SignedRecord> {
    let key = SigningKey::from_seed(&[2; 32]);
    let live = |json: &str| Body::Live { version: 1, bytes: json.as_bytes().to_vec() };
    let all = [
        (Kind::DOMAIN, "a.b", "", live("{}")),
        (Kind::MIRROR, "a.b", "c", live(r#"{"addresses":["192.0.2.1"],"port":443}"#)),
        (Kind::MIRROR, "a.b", "d", Body::Tombstone),
        (Kind::NODE, "", "n", live(r#"{"domains":["a.b"]}"#)),
        (Kind::DRAIN, "a.b", "c", live("{}")),
    ];
    let signed = all.into_iter().zip(1..).map(|((kind, scope, id, body), author_seq)| {
        let record = Record {
            kind,
            scope: scope.into(),
            id: id.into(),
            body,
            hlc: Hlc { millis: 1_700_000_000_000 + author_seq, counter: 0 },
            author: key.public(),
            author_epoch: 1,
            author_seq,
            grants: if author_seq == 2 { vec![[9; 32]] } else { Vec::new() },
        };
        SignedRecord::sign(record, &key).expect("within its bounds")
    });
    signed.collect()
}

/// They in one batch.
pub fn batch() -> WriteBatch {
    WriteBatch {
        records: records(),
        actor: "somebody".into(),
        note: "a note".into(),
        received_unix_ms: 1_700_000_000_000,
        ..WriteBatch::default()
    }
}

/// What was learned, with a header and a checksum that are right.
pub fn summed(body: &[u8]) -> Vec<u8> {
    [&b"nearmost-rtt 1\n"[..], &Sha256::digest(body), body].concat()
}

/// What was learned, from nothing.
fn learned() -> Vec<u8> {
    postcard::to_allocvec(&nearmost_core::rtt::Memory::default()).expect("it encodes")
}
