//! Other brokers, records of applications, and copies of everything.

use super::*;
use crate::admin::AppFilter;
use crate::peers::Question;
use crate::registrar::Command;
use data_encoding::BASE64;
use http_body_util::BodyExt;
use nearmost_replica::merge::Rule;
use nearmost_replica::{Body as RecordBody, Hlc, Kind, Record, SignedRecord, SigningKey};
use nearmost_wire::api::{
    AppRecordView, AppRecordsResponse, BackupResponse, PeerInviteRequest, PeerInviteResponse,
    PeerJoinResponse, PeersResponse, RegistryResponse,
};
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::BODY_VERSION;
use sha2::{Digest, Sha256};
use std::sync::Mutex;
use tokio::sync::mpsc;

const TOKEN: &str = "a long secret of an operator";

/// A registrar that answers as told, and a change to be told of.
#[derive(Clone)]
struct Script {
    records: Arc<Mutex<Vec<AppRecordView>>>,
    asked: Arc<Mutex<Vec<AppFilter>>>,
    invited: Arc<Mutex<Vec<PeerInviteRequest>>>,
    version: watch::Sender<u64>,
}

impl Script {
    fn set(&self, records: Vec<AppRecordView>) {
        *self.records.lock().unwrap() = records;
        self.version.send_modify(|version| *version += 1);
    }

    fn records(&self, filter: AppFilter) -> AppRecordsResponse {
        let all = self.records.lock().unwrap().clone();
        let wanted = |r: &AppRecordView| match &filter.id {
            Some(id) => r.id == *id,
            None => r.body.is_some() && filter.kind.is_none_or(|k| k.0 == r.kind),
        };
        let records = all.into_iter().filter(wanted).collect();
        self.asked.lock().unwrap().push(filter);
        AppRecordsResponse { version: *self.version.borrow(), records }
    }

    async fn run(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::AppRecords { filter, reply } => drop(reply.send(Ok(self.records(filter)))),
                Command::InvitePeer { request, reply, .. } => {
                    self.invited.lock().unwrap().push(request);
                    let token = "a token".into();
                    drop(reply.send(Ok(PeerInviteResponse { token, expires_unix_ms: 7 })));
                }
                Command::JoinPeer { request, reply, .. } => {
                    let peer = format!("of {}", request.token);
                    drop(reply.send(Ok(PeerJoinResponse { peer, addresses: Vec::new() })));
                }
                _ => panic!("nothing else is asked"),
            }
        }
    }
}

/// An API over a scripted registrar and peers; and one with a token.
async fn scripted() -> (Api, Script) {
    let token = ApiToken { name: "ops".into(), sha256: Sha256::digest(TOKEN).into(), scope: Scope::Admin };
    let mut api = Api::with(ApiSettings { tokens: vec![token], ..settings() }, |_| ()).await;
    let (version, _) = watch::channel(0);
    let script = Script {
        records: Arc::default(),
        asked: Arc::default(),
        invited: Arc::default(),
        version: version.clone(),
    };
    let (commands, inbox) = mpsc::channel(8);
    tokio::spawn(script.clone().run(inbox));
    api.api.state.admin.commands = commands;
    api.api.state.admin.changes = version.subscribe();
    let (peers, mut questions) = PeersHandle::channel();
    tokio::spawn(async move {
        while let Some(Question::Peers(reply)) = questions.recv().await {
            let _ = reply.send(PeersResponse {
                broker: "nb1".into(),
                log_epoch: 1,
                log_position: 2,
                statements: 3,
                rights_digest: "aa".into(),
                digest: "bb".into(),
                peers: Vec::new(),
                splits: Vec::new(),
                alarms: vec!["look".into()],
            });
        }
    });
    api.api.state.peers = Some(peers);
    api.router = router(api.api.state.clone(), api.closing.clone());
    (api, script)
}

fn record(id: &str, body: Option<&str>, hlc_millis: u64) -> AppRecordView {
    AppRecordView {
        domain: testing::DOMAIN.into(),
        kind: Kind::APPLICATION | 1,
        id: id.into(),
        body: body.map(Into::into),
        author: "np1".into(),
        hlc_millis,
        hlc_counter: 0,
    }
}

fn post(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

#[tokio::test]
async fn peers_are_listed_and_invited_and_joined() {
    let (api, script) = scripted().await;
    let peers: PeersResponse = api.get(local(), "/v1/peers").await.json();
    assert_eq!((peers.statements, &*peers.alarms[0]), (3, "look"));
    assert_eq!(api.get(local(), "/v1/peers?who=1").await.refusal(), (400, "bad_request".into()));
    assert_eq!(api.get(public(), "/v1/peers").await.refusal(), (401, "credentials_missing".into()));

    let invite = r#"{"name":"bob","domains":["*.bob.example"],"ttl_s":60}"#;
    let refused = api.send(local(), post("/v1/peers/invites"), invite).await;
    assert_eq!(refused.refusal(), (401, "credentials_missing".into()));
    let invited = api.send(admin(), post("/v1/peers/invites"), invite).await;
    assert_eq!(invited.json::<PeerInviteResponse>().token, "a token");
    let asked = script.invited.lock().unwrap().pop().unwrap();
    assert_eq!((&*asked.name, asked.admin, &*asked.domains[0]), ("bob", false, "*.bob.example"));
    let joined = api.send(admin(), post("/v1/peers/join"), r#"{"token":"x"}"#).await;
    assert_eq!(joined.json::<PeerJoinResponse>().peer, "of x");

    for (path, body, says) in [
        ("/v1/peers/invites", r#"{"name":"bob","ttl_s":60,"domain":[]}"#, "unknown key \\\"domain\\\""),
        ("/v1/peers/invites", r#"{"ttl_s":60}"#, "\\\"name\\\" is missing"),
        ("/v1/peers/join", r#"{}"#, "\\\"token\\\" is missing"),
        ("/v1/backup", r#"{"path":"/a","force":true}"#, "unknown key \\\"force\\\""),
    ] {
        let answer = api.send(admin(), post(path), body).await;
        assert_eq!(answer.refusal(), (422, "bad_json".into()));
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    let wrong = api.get(admin(), "/v1/peers/join").await;
    assert_eq!(wrong.refusal(), (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn without_peers_it_is_said() {
    let api = Api::new().await;
    let disabled = (503, "peers_disabled".to_owned());
    let answer = api.get(local(), "/v1/peers").await;
    assert_eq!(answer.refusal(), disabled);
    assert!(answer.text().contains("peers.enabled"), "{}", answer.text());
    let invite = api.send(admin(), post("/v1/peers/invites"), r#"{"name":"bob","ttl_s":60}"#).await;
    assert_eq!(invite.refusal(), disabled);
    let join = api.send(admin(), post("/v1/peers/join"), r#"{"token":"x"}"#).await;
    assert_eq!(join.refusal(), disabled);
}

#[tokio::test]
async fn records_are_asked_for_by_domain_kind_and_id() {
    let (api, script) = scripted().await;
    script.set(vec![record("a", Some("AA=="), 1), record("b", None, 2)]);
    let all: AppRecordsResponse = api.get(local(), "/v1/records?domain=Play.Nearmost.Test.").await.json();
    assert_eq!((all.version, &*all.records[0].id, all.records.len()), (1, "a", 1));
    let removed: AppRecordsResponse =
        api.get(local(), "/v1/records?domain=play.nearmost.test&kind=4097&id=b").await.json();
    assert_eq!(removed.records[0].body, None);
    let asked = script.asked.lock().unwrap().clone();
    let domain = || testing::DOMAIN.to_owned();
    assert_eq!(
        asked,
        [
            AppFilter { domain: domain(), kind: None, id: None },
            AppFilter { domain: domain(), kind: Some(Kind(4097)), id: Some("b".into()) },
        ]
    );
    for path in [
        "/v1/records",
        "/v1/records?domain=",
        "/v1/records?domain=a..b",
        "/v1/records?domain=a.test&kind=1",
        "/v1/records?domain=a.test&kind=65536",
        "/v1/records?domain=a.test&kind=x",
        "/v1/records?domain=a.test&scope=x",
        "/v1/records?domain=a.test&domain=b.test",
        "/v1/records/watch",
        "/v1/records/watch?domain=a.test&kind=2",
        "/v1/records/watch?domain=a.test&id=x",
    ] {
        assert_eq!(api.get(local(), path).await.refusal(), (400, "bad_request".into()), "{path}");
    }
}

async fn open(api: &Api) -> http::Response<Body> {
    let request = Request::get("/v1/records/watch?domain=play.nearmost.test");
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(local());
    api.router.clone().oneshot(request).await.unwrap()
}

/// The next event's text; `None` at the end.
async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

async fn next_record(body: &mut Body) -> AppRecordView {
    let text = next(body).await.unwrap();
    assert!(text.contains("event: record\n"), "{text}");
    serde_json::from_str(text.lines().find_map(|l| l.strip_prefix("data: ")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_watch_tells_what_stands_and_then_what_changes() {
    let (api, script) = scripted().await;
    script.set(vec![record("a", Some("AA=="), 1), record("b", Some("AQ=="), 2), record("z", None, 3)]);
    let response = open(&api).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next_record(&mut body).await, record("a", Some("AA=="), 1));
    assert_eq!(next_record(&mut body).await, record("b", Some("AQ=="), 2));
    let current = next(&mut body).await.unwrap();
    assert!(current.contains("event: current\n") && current.contains("{\"version\":1}"), "{current}");

    script.set(vec![record("a", Some("Ag=="), 4), record("b", None, 5), record("c", Some("Aw=="), 6)]);
    assert_eq!(next_record(&mut body).await, record("a", Some("Ag=="), 4));
    assert_eq!(next_record(&mut body).await, record("c", Some("Aw=="), 6));
    assert_eq!(next_record(&mut body).await, record("b", None, 5));
    // Its author may state it no longer, and nobody removed it: no trace is left.
    script.set(vec![record("a", Some("Ag=="), 4)]);
    assert_eq!(next_record(&mut body).await, record("c", None, 6));
    api.closing.cancel();
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_reader_that_is_slow_is_told_how_it_ended() {
    let (api, script) = scripted().await;
    script.set(vec![record("a", Some("AA=="), 1)]);
    let mut body = open(&api).await.into_body();
    assert_eq!(next_record(&mut body).await.hlc_millis, 1);
    assert!(next(&mut body).await.unwrap().contains("event: current\n"));
    for at in 2..500 {
        script.set(vec![record("a", Some("AA=="), at)]);
    }
    let mut last = 1;
    while last < 499 {
        let told = next_record(&mut body).await.hlc_millis;
        assert!(told > last);
        last = told;
    }
}

#[tokio::test]
async fn readers_of_records_and_of_events_share_their_places() {
    let (api, _) = scripted().await;
    let (first, second) = (open(&api).await, open(&api).await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    assert_eq!(open(&api).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(api.count("nearmost_http_event_streams"), 2);
    drop(first);
    assert_eq!(open(&api).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_copy_is_made_by_people_only_and_where_they_say() {
    let (api, _) = scripted().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    let body = |path: &std::path::Path, overwrite: bool| {
        serde_json::json!({ "path": path.to_str().unwrap(), "overwrite": overwrite }).to_string()
    };
    let make = |text: String| api.send(admin(), post("/v1/backup"), text);
    assert_eq!(make(body(&path, false)).await.json::<BackupResponse>().statements, 0);
    assert!(path.is_file());
    assert_eq!(make(body(&path, false)).await.refusal(), (409, "already_there".into()));
    assert_eq!(make(body(&path, true)).await.status, StatusCode::OK);
    for wrong in ["copy", "", "../copy", "/nowhere/at/all/copy", dir.path().to_str().unwrap(), "/"] {
        let answer = make(body(std::path::Path::new(wrong), false)).await;
        assert_eq!(answer.refusal(), (400, "bad_request".into()), "{wrong}");
        assert!(answer.text().contains("path = "), "{}", answer.text());
    }
    let token = post("/v1/backup").header("authorization", format!("Bearer {TOKEN}"));
    let refused = api.send(local(), token, body(&dir.path().join("other"), false)).await;
    assert_eq!(refused.refusal(), (403, "person_needed".into()));
    let refused = api.send(local(), post("/v1/backup"), body(&path, true)).await;
    assert_eq!(refused.refusal(), (401, "credentials_missing".into()));
}

/// What a person states, over the admin socket.
struct Author {
    key: SigningKey,
    seq: u64,
}

impl Author {
    async fn state(&mut self, api: &Api, kind: Kind, scope: &str, id: &str, body: RecordBody) {
        let record = Record {
            kind,
            scope: scope.into(),
            id: id.into(),
            body,
            hlc: Hlc { millis: crate::clock::unix_now().0, counter: self.seq as u16 },
            author: self.key.public(),
            author_epoch: 0,
            author_seq: self.seq,
            grants: Vec::new(),
        };
        self.seq += 1;
        let record = BASE64.encode(SignedRecord::sign(record, &self.key).unwrap().bytes());
        let body = serde_json::json!({ "records": [{ "record": record }], "note": "" }).to_string();
        let answer = api.send(admin(), post("/v1/registry"), body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
}

fn live(bytes: &[u8]) -> RecordBody {
    RecordBody::Live { version: BODY_VERSION, bytes: bytes.to_vec() }
}

#[tokio::test]
async fn what_people_state_is_read_and_watched() {
    let api = Api::new().await;
    let person = KeyPair::from_seed(Role::Person, &[7; 32]);
    let mut author = Author { key: SigningKey::from_seed(&[7; 32]), seq: 0 };
    author.state(&api, Kind::PERSON, "", &person.id().to_string(), live(b"{}")).await;
    author.state(&api, Kind::DOMAIN, testing::DOMAIN, "", live(b"{}")).await;
    let kind = Kind::application(Rule::RemovalWins, 1).unwrap();
    author.state(&api, kind, testing::DOMAIN, "a", live(b"one")).await;

    let path = format!("/v1/records?domain={}", testing::DOMAIN);
    let read: AppRecordsResponse = api.get(local(), &path).await.json();
    let [record] = &read.records[..] else { panic!("{read:?}") };
    assert_eq!((record.kind, &*record.id, record.body.as_deref()), (kind.0, "a", Some("b25l")));
    assert_eq!((&*record.domain, &*record.author), (testing::DOMAIN, &*person.id().to_string()));
    let other: AppRecordsResponse = api.get(local(), &format!("{path}&kind=4098")).await.json();
    assert!(other.records.is_empty());

    let mut body = open(&api).await.into_body();
    assert_eq!(next_record(&mut body).await, *record);
    assert!(next(&mut body).await.unwrap().contains("event: current\n"));
    author.state(&api, kind, testing::DOMAIN, "b", live(b"two")).await;
    assert_eq!(next_record(&mut body).await.id, "b");
    author.state(&api, kind, testing::DOMAIN, "a", RecordBody::Tombstone).await;
    let removed = next_record(&mut body).await;
    assert_eq!((&*removed.id, &removed.body), ("a", &None));
    assert!(removed.hlc_millis >= record.hlc_millis);
    let read: AppRecordsResponse = api.get(local(), &format!("{path}&id=a")).await.json();
    assert_eq!(read.records, std::slice::from_ref(&removed));
    let read: AppRecordsResponse = api.get(local(), &format!("{path}&id=a&kind={}", kind.0)).await.json();
    assert_eq!(read.records, [removed]);

    // All statements are told, in whichever number they stand for one thing.
    let some: RegistryResponse = api.get(local(), "/v1/registry").await.json();
    let all: RegistryResponse = api.get(local(), "/v1/registry?all=true").await.json();
    assert_eq!(some.version, all.version);
    assert!(some.records.iter().all(|r| all.records.contains(r)));
    assert!(all.records.len() >= 4, "{all:?}");
    let none: RegistryResponse = api.get(local(), "/v1/registry?all=false").await.json();
    assert_eq!(none, some);
    assert_eq!(api.get(local(), "/v1/registry?all=yes").await.refusal(), (400, "bad_request".into()));
}
