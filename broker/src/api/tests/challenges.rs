//! Challenges, as programs that fetch certificates set and remove them.

use super::*;
use nearmost_replica::{Body as RecordBody, Hlc, Kind, Record, SignedRecord, SigningKey};
use nearmost_wire::api::{ChallengeResponse, ChallengesRemoved};
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::BODY_VERSION;
use sha2::{Digest, Sha256};

const TOKEN: &str = "a long secret of a web server";
const VALUE: &str = "gfj9Xq-Rg85nM_abcdefghijklmnopqrstuvwxyz012";

fn path(name: &str) -> String {
    format!("/v1/domains/{name}/acme-challenge")
}

fn put(name: &str) -> Builder {
    Request::put(path(name)).header("content-type", "application/json")
}

/// An API of a broker that has the fixture's domain in its registry, too.
async fn guarded() -> Api {
    let token = ApiToken { name: "web".into(), sha256: Sha256::digest(TOKEN).into(), scope: Scope::Admin };
    let api = Api::with(ApiSettings { tokens: vec![token], ..settings() }, |_| ()).await;
    let key = SigningKey::from_seed(&[7; 32]);
    let person = KeyPair::from_seed(Role::Person, &[7; 32]).id().to_string();
    let record = |seq: u64, kind, scope: &str, id: &str| {
        let hlc = Hlc { millis: crate::clock::unix_now().0, counter: seq as u16 };
        let record = Record {
            kind,
            scope: scope.into(),
            id: id.into(),
            body: RecordBody::Live { version: BODY_VERSION, bytes: b"{}".to_vec() },
            hlc,
            author: key.public(),
            author_epoch: 0,
            author_seq: seq,
            grants: Vec::new(),
        };
        let signed = SignedRecord::sign(record, &key).unwrap();
        serde_json::json!({ "record": data_encoding::BASE64.encode(signed.bytes()) })
    };
    let records = [record(0, Kind::PERSON, "", &person), record(1, Kind::DOMAIN, testing::DOMAIN, "")];
    let body = serde_json::json!({ "records": records, "note": "" }).to_string();
    let post = Request::post("/v1/registry").header("content-type", "application/json");
    let answer = api.send(admin(), post, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    api
}

#[tokio::test]
async fn a_token_sets_and_removes_challenges_and_nobody_else_does() {
    let api = guarded().await;
    let bearer = format!("Bearer {TOKEN}");
    let name = format!("www.{}", testing::DOMAIN);
    let body = |value: &str| serde_json::json!({ "value": value }).to_string();
    for peer in [local(), public()] {
        let refused = api.send(peer.clone(), put(&name), body(VALUE)).await;
        assert_eq!(refused.refusal(), (401, "credentials_missing".into()));
        let refused = api.send(peer, Request::delete(path(&name)), "").await;
        assert_eq!(refused.refusal(), (401, "credentials_missing".into()));
    }
    let before = crate::clock::unix_now().0;
    for value in [VALUE, "second"] {
        let request = put(&name).header("authorization", &bearer);
        let set: ChallengeResponse = api.send(public(), request, body(value)).await.json();
        assert_eq!((set.name, set.domain), (format!("_acme-challenge.{name}"), testing::DOMAIN.into()));
        assert!(set.expires_unix_ms >= before + 3_600_000, "an hour");
    }
    let remove = |query: &str| {
        let request = Request::delete(format!("{}{query}", path(&name))).header("authorization", &bearer);
        let api = &api;
        async move { api.send(public(), request, "").await.json::<ChallengesRemoved>().removed }
    };
    assert_eq!(remove("?value=other").await, 0);
    assert_eq!(remove(&format!("?value={VALUE}")).await, 1);
    assert_eq!(remove("").await, 1);
    assert_eq!(remove("").await, 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let api = guarded().await;
    for (name, body, status, says) in [
        ("elsewhere.test", r#"{"value":"a"}"#, 400, "no domain here"),
        (testing::DOMAIN, r#"{"value":"a b"}"#, 400, "base64url"),
        (testing::DOMAIN, r#"{"value":"a","ttl_s":0}"#, 400, "ttl_s = 0"),
        (testing::DOMAIN, r#"{"value":"a","ttl_s":604801}"#, 400, "604800"),
        (testing::DOMAIN, r#"{"value":"a","until":1}"#, 422, "unknown key"),
        ("a..b", r#"{"value":"a"}"#, 400, "label"),
    ] {
        let refused = api.send(admin(), put(name), body).await;
        assert!(refused.refusal().0 == status && refused.text().contains(says), "{}", refused.text());
    }
    let large = api.send(admin(), put(testing::DOMAIN), vec![b' '; 100_000]).await;
    assert_eq!(large.refusal(), (413, "body_too_large".into()));
    let get = api.get(admin(), &path(testing::DOMAIN)).await;
    assert_eq!(get.refusal(), (405, "method_not_allowed".into()));
    let wrong = api.send(admin(), Request::delete(format!("{}?valu=x", path("a"))), "").await;
    assert_eq!(wrong.refusal(), (400, "bad_request".into()));
}
