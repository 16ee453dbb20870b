//! A broker as far as its API goes: an in-memory registry with history behind axum on a Unix
//! socket or a TCP port. It keeps the rules that clients rely on: signatures, persons, versions,
//! clocks and sequence numbers.
//!
//! Speaks of types only through the client's own re-exports, so that the command's tests use it too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "test support: each test binary uses its own part, and a failed unwrap fails the test"
)]

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::BASE64;
use nearmost_client::api::*;
use nearmost_client::identity::{Id, KeyPair, Role};
use nearmost_client::registry::sign::{Signer, Stamp, to_view};
use nearmost_client::registry::view::decode_record;
use nearmost_client::registry::{EntryKey, Held, RegistryView};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[path = "federation.rs"]
mod federation;

/// What it holds.
#[derive(Default)]
pub struct Store {
    pub records: BTreeMap<EntryKey, String>,
    pub history: Vec<HistoryView>,
    pub version: u64,
    /// Every statement, by kind, scope, id and author.
    pub statements: BTreeMap<(u16, String, String, [u8; 32]), String>,
    /// Numbers used: author, epoch, sequence number.
    pub numbers: BTreeSet<([u8; 32], u32, u64)>,
    /// The federation, where there is one.
    pub peers: Option<PeersResponse>,
    pub peer_invites: Vec<PeerInviteRequest>,
    pub joins: Vec<String>,
    pub backups: Vec<BackupRequest>,
    /// How many commits to refuse as if somebody else had been faster.
    pub conflicts: u32,
    /// Commits seen.
    pub commits: u32,
    /// Requests seen: method, path with query, authorization.
    pub requests: Vec<(String, Option<String>)>,
    pub invites: Vec<InviteRequest>,
    /// Whether it takes new persons: over its Unix socket.
    pub enrols: bool,
    /// What resolving answers with instead of one mirror far away, all of them to be measured.
    pub ranked: Option<Vec<RankedMirror>>,
    /// What is to be measured, at first and after each report; all of `ranked` at first, unless given.
    pub measure: Vec<Vec<&'static str>>,
    /// The fleet, instead of [`fleet_of`].
    pub fleet: Option<FleetResponse>,
    /// Reports of round trips.
    pub reports: Vec<RttRequest>,
    /// How far its clock is ahead.
    pub clock_ahead_ms: u64,
}

#[derive(Clone)]
pub struct FakeBroker {
    pub store: Arc<Mutex<Store>>,
    key: KeyPair,
}

type Answer<T> = Result<Json<T>, Response>;

fn refuse(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    (status, Json(ErrorBody { code: code.into(), message: message.into() })).into_response()
}

impl FakeBroker {
    fn new(enrols: bool) -> FakeBroker {
        let store = Store { enrols, ..Store::default() };
        FakeBroker { store: Arc::new(Mutex::new(store)), key: KeyPair::from_seed(Role::Broker, &[200; 32]) }
    }

    /// Serves on a Unix socket in `folder` until the runtime ends.
    pub async fn unix(folder: &std::path::Path) -> (FakeBroker, PathBuf) {
        let broker = FakeBroker::new(true);
        let path = folder.join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let app = broker.router();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (broker, path)
    }

    /// Serves on a loopback port until the runtime ends.
    pub async fn tcp() -> (FakeBroker, String) {
        let broker = FakeBroker::new(false);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = broker.router();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (broker, url)
    }

    pub fn router(&self) -> Router {
        let noted = self.clone();
        Router::new()
            .route("/v1/registry", get(registry).post(commit))
            .route("/v1/history", get(history))
            .route("/v1/invites", post(invite))
            .route("/v1/peers", get(federation::peers))
            .route("/v1/peers/invites", post(federation::invite))
            .route("/v1/peers/join", post(federation::join))
            .route("/v1/records", get(federation::records))
            .route("/v1/records/watch", get(federation::watch))
            .route("/v1/backup", post(federation::backup))
            .route("/v1/resolve/{domain}", get(resolve))
            .route("/v1/rtt", post(rtt))
            .route("/v1/explain", get(explain))
            .route("/v1/fleet", get(fleet))
            .route("/v1/geo/{ip}", get(geo))
            .route("/healthz", get(health))
            .route("/v1/events", get(events))
            .route("/v1/drain-preview", get(drain_preview))
            .layer(axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| {
                    let what = format!("{} {}", request.method(), request.uri());
                    let auth = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
                    noted.store.lock().unwrap().requests.push((what, auth));
                    next.run(request)
                },
            ))
            .with_state(self.clone())
    }

    pub fn view(&self) -> RegistryView {
        RegistryView::decode(&self.registry_of(&self.store.lock().unwrap(), false)).unwrap()
    }

    /// Every statement, and what follows.
    pub fn held(&self) -> Held {
        let now = nearmost_client::clock::now_unix_ms();
        Held::decode(&self.registry_of(&self.store.lock().unwrap(), true), now).unwrap()
    }

    /// Makes a broker a member, on this one's word.
    pub fn admit_peer(&self, peer: &KeyPair, body: &str) {
        let mut signer = Signer::new(Default::default(), Stamp { now_unix_ms: 1, first_seq: 1 });
        let template = EntryKey::node("x").unwrap().record_key();
        let about = |kind: u16| {
            let mut about = template.clone();
            about.kind.0 = kind;
            about.id = peer.id().to_string();
            about
        };
        let live = nearmost_client::registry::statements::live(body.as_bytes().to_vec());
        let signed = signer.sign(&self.key, about(7), live).unwrap();
        self.state(&mut self.store.lock().unwrap(), &to_view(&signed).record);
    }

    fn state(&self, store: &mut Store, record: &str) {
        let signed = decode_record(record, 0).unwrap();
        let said = signed.record();
        let slot = (said.kind.0, said.scope.clone(), said.id.clone(), said.author.0);
        store.statements.insert(slot, record.to_owned());
    }

    /// This broker's word that a person is one of its own.
    fn vouch(&self, store: &mut Store, record: &str) {
        let signed = decode_record(record, 0).unwrap();
        let said = signed.record();
        let mut signer = Signer::new(said.hlc, Stamp { now_unix_ms: 1, first_seq: 1 });
        let vouched = signer.sign(&self.key, said.key(), said.body.clone()).unwrap();
        self.state(store, &to_view(&vouched).record);
    }

    fn registry_of(&self, store: &Store, all: bool) -> RegistryResponse {
        let records: Vec<String> = match all {
            true => store.statements.values().cloned().collect(),
            false => store.records.values().cloned().collect(),
        };
        let newest =
            records.iter().map(|r| decode_record(r, 0).unwrap().record().hlc).max().unwrap_or_default();
        RegistryResponse {
            broker: self.key.id().to_string(),
            version: store.version,
            hlc_millis: newest.millis,
            hlc_counter: newest.counter,
            author_epoch: 1,
            author_next_seq: 1,
            records: records.into_iter().map(|record| RecordView { record }).collect(),
        }
    }
}

/// Values of a query's key, decoded.
fn values(query: &Option<String>, key: &str) -> Vec<String> {
    let pairs = query.as_deref().unwrap_or("").split('&').filter_map(|p| p.split_once('='));
    pairs.filter(|(k, _)| *k == key).map(|(_, v)| v.replace("%2F", "/").replace("%3A", ":")).collect()
}

async fn registry(State(broker): State<FakeBroker>, RawQuery(query): RawQuery) -> Json<RegistryResponse> {
    let all = values(&query, "all") == ["true"];
    Json(broker.registry_of(&broker.store.lock().unwrap(), all))
}

async fn commit(
    State(broker): State<FakeBroker>,
    Json(request): Json<CommitRequest>,
) -> Answer<CommitResponse> {
    let store = &mut *broker.store.lock().unwrap();
    store.commits += 1;
    if store.conflicts > 0 {
        store.conflicts -= 1;
        store.version += 1;
        return Err(refuse(StatusCode::CONFLICT, "version_conflict", "the registry moved on"));
    }
    if request.expect_version.is_some_and(|v| v != store.version) {
        return Err(refuse(StatusCode::CONFLICT, "version_conflict", "the registry moved on"));
    }
    let batch = store.history.iter().map(|h| h.batch).max().unwrap_or(0) + 1;
    let mut enrolled: Vec<String> =
        store.records.keys().filter_map(|k| k.person_id()).map(|i| i.to_string()).collect();
    let mut written = Vec::new();
    for (index, view) in request.records.iter().enumerate() {
        let signed = decode_record(&view.record, index).unwrap();
        signed.verify().unwrap();
        let record = signed.record();
        let key = EntryKey::of_record(record.key());
        let author = Id { role: Role::Person, key: record.author.0 }.to_string();
        if let Some(person) = key.as_ref().and_then(EntryKey::person_id).filter(|_| store.enrols) {
            enrolled.push(person.to_string());
            broker.vouch(store, &view.record);
        }
        if !enrolled.contains(&author) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "unknown_person",
                format!("{author} is not enrolled here"),
            ));
        }
        let number = (record.author.0, record.author_epoch, record.author_seq);
        assert!(store.numbers.insert(number), "no number is used twice");
        broker.state(store, &view.record);
        let previous = key.as_ref().and_then(|key| store.records.get(key)).cloned();
        if let Some(previous) = &previous {
            assert!(record.hlc > decode_record(previous, 0).unwrap().record().hlc, "the newer record wins");
        }
        store.records.extend(key.map(|key| (key, view.record.clone())));
        written.push((author, view.record.clone(), previous));
    }
    store.version += 1;
    let applied = written.len() as u64;
    for (actor, record, previous) in written {
        let (version, note) = (store.version, request.note.clone());
        store.history.insert(
            0,
            HistoryView { batch, version, at_unix_ms: 1_760_000_000_000, actor, note, record, previous },
        );
    }
    Ok(Json(CommitResponse { version: store.version, batch, applied, unchanged: 0 }))
}

async fn history(State(broker): State<FakeBroker>, RawQuery(query): RawQuery) -> Json<Vec<HistoryView>> {
    let limit: usize = values(&query, "limit")[0].parse().unwrap();
    let key = values(&query, "key").pop();
    let store = broker.store.lock().unwrap();
    let name = |h: &&HistoryView| {
        let of = EntryKey::of_record(decode_record(&h.record, 0).unwrap().record().key());
        key.as_ref().is_none_or(|k| of.is_some_and(|of| of.name() == *k))
    };
    Json(store.history.iter().filter(name).take(limit).cloned().collect())
}

async fn invite(
    State(broker): State<FakeBroker>,
    Json(request): Json<InviteRequest>,
) -> Json<InviteResponse> {
    broker.store.lock().unwrap().invites.push(request);
    Json(InviteResponse { token: "nmt1token".into(), expires_unix_ms: 1_760_000_000_000 })
}

fn place() -> PlaceView {
    PlaceView {
        latitude: Some(51.5),
        longitude: Some(-0.12),
        country: Some("GB".into()),
        country_name: Some("United Kingdom".into()),
        asn: Some(64500),
        source: "test".into(),
    }
}

fn verdict(family: &str, state: &str) -> VerdictView {
    VerdictView {
        family: family.into(),
        address: Some("203.0.113.1".into()),
        state: state.into(),
        eligible: state == "up",
        reason: "reported".into(),
        vantage: "agent".into(),
        since_unix_ms: 0,
        age_ms: 125_000,
        stale: false,
        evidence: None,
    }
}

pub fn ranked() -> RankedMirror {
    RankedMirror {
        mirror: "lon".into(),
        node: Some("lon1".into()),
        addresses: vec!["203.0.113.1".into()],
        port: 443,
        url: "https://203.0.113.1/".into(),
        rtt_ms: 12.34,
        distance_km: Some(345.6),
        eligible: true,
        chosen: true,
        verdicts: vec![verdict("v4", "up"), verdict("v6", "down")],
        reasons: vec!["nearest by distance".into(), "v6 is down".into()],
    }
}

async fn resolve(
    State(broker): State<FakeBroker>,
    Path(domain): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<ResolveResponse> {
    if domain != "play.example.com" {
        return Err(refuse(StatusCode::NOT_FOUND, "unknown_domain", format!("no domain {domain:?}")));
    }
    let client = values(&query, "client").pop().unwrap_or("127.0.0.1".into()).parse().unwrap();
    let given = broker.store.lock().unwrap().ranked.clone();
    let all = given.iter().flatten().map(|m| m.mirror.clone()).collect();
    let measure = next_to_measure(&broker).unwrap_or(all);
    let mirrors = given.unwrap_or_else(|| vec![ranked()]);
    let session = "a session".into();
    Ok(Json(ResolveResponse { domain, client, version: 1, ttl_s: 20, mirrors, session, measure }))
}

fn next_to_measure(broker: &FakeBroker) -> Option<Vec<String>> {
    let next = &mut broker.store.lock().unwrap().measure;
    (!next.is_empty()).then(|| next.remove(0).into_iter().map(String::from).collect())
}

/// Takes reports of one round trip or more.
async fn rtt(State(broker): State<FakeBroker>, Json(request): Json<RttRequest>) -> Answer<RttResponse> {
    let accepted = request.rtts.len() as u32;
    broker.store.lock().unwrap().reports.push(request);
    match accepted {
        0 => Err(refuse(StatusCode::TOO_MANY_REQUESTS, "reports_too_often", "wait 9 s")),
        accepted => {
            let measure = next_to_measure(&broker).unwrap_or_default();
            Ok(Json(RttResponse { accepted, tied: true, measure }))
        }
    }
}

async fn explain(RawQuery(query): RawQuery) -> Json<ExplainResponse> {
    let client = values(&query, "client").into_iter().chain(values(&query, "resolver")).next().unwrap();
    let client: std::net::IpAddr = client.parse().unwrap();
    let answer = |family: &str, addresses: &[&str]| AnswerView {
        family: family.into(),
        basis: if addresses.is_empty() { "empty" } else { "eligible" }.into(),
        how: if addresses.is_empty() { "none" } else { "first" }.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        tie_band_ms: (!addresses.is_empty()).then_some(3.0),
        scope: "192.0.2.0/24".into(),
        scope_reason: "everyone in it has this list".into(),
        ttl_s: 20,
        ttl_reason: "the domain's policy says so".into(),
    };
    let resolver =
        ResolverView { address: client, users: Some("198.51.100.1".parse().unwrap()), asked: true };
    Json(ExplainResponse {
        domain: values(&query, "domain").remove(0),
        client,
        place: place(),
        network: network(),
        resolver: Some(resolver).filter(|_| !values(&query, "resolver").is_empty()),
        list: "0123abcd".into(),
        answer: vec!["203.0.113.1".parse().unwrap()],
        answers: vec![answer("v4", &["203.0.113.1"]), answer("v6", &[])],
        mirrors: vec![explained()],
    })
}

fn network() -> NetworkView {
    NetworkView {
        range: "192.0.0.0/16".into(),
        cell: "192.0.2.0/24".into(),
        overridden: None,
        measured: Some("192.0.2.0/24".into()),
        prefix: None,
        asn: Some(64500),
        country: None,
        misplaced: false,
    }
}

fn explained() -> ExplainedMirror {
    let shares = SourceShares {
        network_percent: 95.2,
        prefix_percent: 0.0,
        asn_percent: 3.1,
        country_percent: 0.0,
        region_percent: 0.0,
        distance_percent: 1.7,
    };
    ExplainedMirror {
        ranked: ranked(),
        prediction: PredictionView {
            ms: 12.34,
            distance_ms: 9.5,
            route_km: Some(420.0),
            own_ms: Some(12.5),
            own_sources: vec!["client".into()],
            shares,
            missed: false,
        },
        sharing: SharingView {
            share_v4_percent: 75.0,
            share_v6_percent: 0.0,
            weight: 100,
            withheld_percent: 0.0,
            shed_percent: 25.0,
            excluded: false,
            pinned: true,
            misplaced: false,
        },
    }
}

/// One mirror, whose second family is down.
pub fn fleet_of(broker: &str) -> FleetResponse {
    let mirror = FleetMirror {
        domain: "play.example.com".into(),
        mirror: "lon".into(),
        node: Some("lon1".into()),
        health: "agent".into(),
        port: 443,
        weight: 100,
        place: place(),
        verdicts: vec![verdict("v4", "up"), verdict("v6", "down")],
        cpu: 0.1,
        memory: 0.2,
        connections: 3,
        capacity: 0,
    };
    let node = FleetNode {
        name: "lon1".into(),
        id: None,
        connected: true,
        revoked: false,
        drained: true,
        domains: vec!["play.example.com".into()],
    };
    FleetResponse {
        broker: broker.into(),
        version: 1,
        domains: vec!["play.example.com".into()],
        nodes: vec![node],
        mirrors: vec![mirror],
        doubts_itself: false,
    }
}

async fn fleet(State(broker): State<FakeBroker>) -> Json<FleetResponse> {
    let told = broker.store.lock().unwrap().fleet.clone();
    Json(told.unwrap_or_else(|| fleet_of(&broker.key.id().to_string())))
}

async fn health(State(broker): State<FakeBroker>) -> Json<HealthResponse> {
    let ahead = broker.store.lock().unwrap().clock_ahead_ms;
    let (broker, at_unix_ms) = (broker.key.id().to_string(), nearmost_client::clock::now_unix_ms() + ahead);
    Json(HealthResponse { status: "ok".into(), broker, clients: Vec::new(), at_unix_ms })
}

async fn geo(Path(ip): Path<String>) -> Json<GeoResponse> {
    Json(GeoResponse { address: ip.parse().unwrap(), place: place(), cell: "192.0.2.0/24".into() })
}

/// Word of lost events, two more than the last one seen, then the end.
async fn events(headers: HeaderMap) -> Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>> {
    let last: u64 = headers.get("last-event-id").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
    let event = |number: u64| {
        let view = EventView {
            number,
            at_unix_ms: 1_760_000_000_000,
            domain: "play.example.com".into(),
            mirror: "lon".into(),
            family: "v4".into(),
            from: "up".into(),
            to: "down".into(),
            reason: "beacons_missed".into(),
            vantage: "broker".into(),
        };
        Ok(Event::default().id(number.to_string()).event("transition").json_data(view).unwrap())
    };
    let missed = if last < 9 { "{\"missed\":12}" } else { "{\"missed\":null}" };
    let lagged = Ok(Event::default().event("lagged").data(missed));
    let newer = Ok(Event::default().event("of a newer broker").data("?"));
    Sse::new(tokio_stream::iter([lagged, newer, event(last + 1), event(last + 2)]))
}

async fn drain_preview(RawQuery(query): RawQuery) -> Json<DrainPreview> {
    let row = |mirror: String| {
        let (domain, mirror) = mirror.split_once('/').unwrap_or(("node", &mirror));
        DrainRow {
            domain: domain.into(),
            mirror: mirror.into(),
            before_percent: 20.0,
            after_percent: 0.0,
            before_rtt_ms: 10.0,
            after_rtt_ms: 35.5,
        }
    };
    let named = values(&query, "mirror").into_iter().chain(values(&query, "node"));
    Json(DrainPreview { rows: named.map(row).collect(), addresses: 1000 })
}
