//! Tests of [`super`]: statements of keys that are numbers, at moments that are numbers.

mod attacks;
mod bans;
mod domains;
mod grants;
mod members;
mod properties;

use super::Rights;
use crate::identity::{Id, KeyPair, Role};
use crate::registry::{
    BODY_VERSION, BanBody, ClaimBody, GrantBody, GrantRole, PeerBody, PersonBody, RollBody,
};
use nearmost_replica::{Authority, Body, Hlc, Judgement, Kind, PublicKey, Record, SignedRecord, SigningKey};
use serde::Serialize;

const D: &str = "d.example";

fn key(n: u8) -> PublicKey {
    SigningKey::from_seed(&[n; 32]).public()
}

fn id(role: Role, n: u8) -> String {
    Id { role, key: key(n).0 }.to_string()
}

fn broker(n: u8) -> String {
    id(Role::Broker, n)
}

fn person(n: u8) -> String {
    id(Role::Person, n)
}

/// A statement that nobody signed yet.
fn unsigned(by: u8, at: u64, (kind, scope, about): (Kind, &str, &str), body: Body) -> Record {
    Record {
        kind,
        scope: scope.into(),
        id: about.into(),
        body,
        hlc: Hlc { millis: at, counter: 0 },
        author: key(by),
        author_epoch: 1,
        author_seq: at,
        grants: vec![],
    }
}

fn sign(by: u8, record: Record) -> SignedRecord {
    SignedRecord::sign(record, &SigningKey::from_seed(&[by; 32])).unwrap()
}

fn live(body: &impl Serialize) -> Body {
    Body::Live { version: BODY_VERSION, bytes: serde_json::to_vec(body).unwrap() }
}

fn gone(by: u8, at: u64, thing: (Kind, &str, &str)) -> SignedRecord {
    sign(by, unsigned(by, at, thing, Body::Tombstone))
}

fn peer_body(name: &str, admin: bool, domains: &[&str]) -> PeerBody {
    let domains = domains.iter().map(|d| (*d).to_owned()).collect();
    PeerBody { name: name.into(), admin, domains, ..PeerBody::default() }
}

fn peer(by: u8, at: u64, about: u8, body: &PeerBody) -> SignedRecord {
    sign(by, unsigned(by, at, (Kind::PEER, "", &broker(about)), live(body)))
}

fn admin(by: u8, at: u64, about: u8) -> SignedRecord {
    peer(by, at, about, &peer_body("admin", true, &[]))
}

/// A member that is no admin, named `m` and its number, with patterns.
fn member(by: u8, at: u64, about: u8, domains: &[&str]) -> SignedRecord {
    peer(by, at, about, &peer_body(&format!("m{about}"), false, domains))
}

fn no_peer(by: u8, at: u64, about: u8) -> SignedRecord {
    gone(by, at, (Kind::PEER, "", &broker(about)))
}

fn named(by: u8, at: u64, about: u8, name: &str) -> SignedRecord {
    let body = live(&PersonBody { name: name.into() });
    sign(by, unsigned(by, at, (Kind::PERSON, "", &person(about)), body))
}

fn vouch(by: u8, at: u64, about: u8) -> SignedRecord {
    named(by, at, about, "")
}

fn no_person(by: u8, at: u64, about: u8) -> SignedRecord {
    gone(by, at, (Kind::PERSON, "", &person(about)))
}

fn claim(by: u8, at: u64) -> SignedRecord {
    sign(by, unsigned(by, at, (Kind::CLAIM, D, ""), live(&ClaimBody {})))
}

fn roll_record(by: u8, at: u64, to: u8) -> Record {
    let body = RollBody::sign(D, &key(by).0, &KeyPair::from_seed(Role::Person, &[to; 32]));
    unsigned(by, at, (Kind::ROLL, D, &person(by)), live(&body))
}

fn roll(by: u8, at: u64, to: u8) -> SignedRecord {
    sign(by, roll_record(by, at, to))
}

fn grant_body(role: GrantRole) -> GrantBody {
    GrantBody { role, kinds: vec![], from_unix_ms: 0, until_unix_ms: 0 }
}

fn grant_with(by: u8, at: u64, to: u8, body: &GrantBody) -> SignedRecord {
    sign(by, unsigned(by, at, (Kind::GRANT, D, &person(to)), live(body)))
}

fn grant(by: u8, at: u64, to: u8, role: GrantRole) -> SignedRecord {
    grant_with(by, at, to, &grant_body(role))
}

fn revoke(by: u8, at: u64, to: u8) -> SignedRecord {
    gone(by, at, (Kind::GRANT, D, &person(to)))
}

fn ban(by: u8, at: u64, scope: &str, about: &str, until_unix_ms: u64) -> SignedRecord {
    let bytes = BanBody { until_unix_ms, reason: "noise".into() }.encode();
    let body = Body::Live { version: BODY_VERSION, bytes };
    sign(by, unsigned(by, at, (Kind::BAN, scope, about), body))
}

/// What follows for the broker `root`.
fn rights(root: u8, held: &[SignedRecord]) -> Rights {
    let mut rights = Rights::new(key(root));
    rights.learn(held, &[]);
    rights
}

/// What becomes of a statement with an empty body at a moment after all others.
fn says(rights: &Rights, by: u8, thing: (Kind, &str, &str)) -> Judgement {
    rights.admits(&unsigned(by, 1_000_000, thing, live(&serde_json::json!({}))))
}

fn may(rights: &Rights, by: u8, thing: (Kind, &str, &str)) -> bool {
    says(rights, by, thing).is_admitted()
}

fn is_refused(rights: &Rights, by: u8, thing: (Kind, &str, &str)) -> bool {
    matches!(says(rights, by, thing), Judgement::Unauthorised(_))
}

fn member_numbers(rights: &Rights) -> Vec<u8> {
    let mut all: Vec<u8> = (0..=255).filter(|n| rights.is_member(&key(*n))).collect();
    all.sort_unstable();
    all
}
