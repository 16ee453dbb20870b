//! The HTTP API's requests and answers, streams of events, the audit log.

use http::header::{AUTHORIZATION, CONTENT_TYPE, FORWARDED};
use http::{HeaderMap, HeaderValue, Uri};
use nearmost_broker::api::{ListenerKind, Peer};
use nearmost_broker::fuzzing as broker;
use nearmost_client::fuzzing::{MAX_EVENT_BYTES, Parser};
use nearmost_client::registry::{Held, RegistryView};
use nearmost_replica::peer::PeerState;
use nearmost_wire::api::{self, AuditView, ChainCheck};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};

/// A request: its query, `X-Forwarded-For`, `Forwarded`, the seal-less part of a session, and its body, a line
/// each.
pub fn request(data: &[u8]) {
    let mut lines = data.splitn(5, |byte| *byte == b'\n');
    let [query, older, newer, session, body] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    parameters(query);
    headers(older, newer);
    if let Some(again) = broker::session(session) {
        assert_eq!(again, session);
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Err(problem) = broker::levels(&headers, body) {
        assert!(problem.status.is_client_error() && !problem.message.is_empty());
        // In our own words, not those of the reader of JSON.
        assert!(!problem.message.contains('`') || body.contains(&b'`'), "{}", problem.message);
    }
}

fn parameters(query: &[u8]) {
    let Ok(query) = std::str::from_utf8(query) else { return };
    let Ok(uri) = format!("/v1/x?{query}").parse::<Uri>() else { return };
    match broker::parameters(&uri, &["domain", "client", "n"]) {
        Ok(pairs) => assert!(pairs.len() <= 3),
        Err(problem) => assert!(problem.status.is_client_error() && problem.message.len() <= 4096),
    }
}

/// Whoever is not trusted comes from where the connection comes from, whatever the headers say.
fn headers(older: &[u8], newer: &[u8]) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(older) {
        headers.insert("x-forwarded-for", value);
    }
    if let Ok(value) = HeaderValue::from_bytes(newer) {
        headers.insert(FORWARDED, value.clone());
        headers.insert(AUTHORIZATION, value);
    }
    let trusted = ["10.0.0.0/8".parse().expect("a prefix")];
    let peer = |addr: &str| {
        let addr = SocketAddr::new(addr.parse().expect("an address"), 1);
        Peer::Tcp { kind: ListenerKind::Public, addr }
    };
    let stranger = broker::source(&peer("192.0.2.1"), &headers, &trusted);
    assert_eq!((stranger.0, stranger.1), (IpAddr::from([192, 0, 2, 1]), false));
    let (addr, _, local) = broker::source(&peer("10.0.0.1"), &headers, &trusted);
    assert_eq!(addr, addr.to_canonical());
    // Two ways to ask the same: who is said to come from elsewhere is not of this machine.
    assert!(!local || headers.is_empty() || addr.is_loopback() || addr == IpAddr::from([10, 0, 0, 1]));
}

/// What the API takes and gives, each kind of which is tried: what was read is written as what reads the same.
pub fn api(data: &[u8]) {
    read::<api::RttRequest>(data);
    read::<api::RttResponse>(data);
    read::<api::ResolveResponse>(data);
    read::<api::FleetResponse>(data);
    read::<api::EventView>(data);
    read::<api::HealthResponse>(data);
    read::<api::GeoResponse>(data);
    read::<api::ErrorBody>(data);
    read::<api::CommitRequest>(data);
    read::<api::CommitResponse>(data);
    read::<api::HistoryView>(data);
    read::<api::InviteRequest>(data);
    read::<api::ChallengeRequest>(data);
    read::<api::DrainPreview>(data);
    read::<api::AuditEntry>(data);
    read::<api::LogLevelRequest>(data);
    read::<api::EventsHistoryResponse>(data);
    read::<api::CheckupResponse>(data);
    read::<api::DnssecResponse>(data);
    read::<api::ExplainResponse>(data);
    read::<api::PeersResponse>(data);
    read::<api::PeerInviteRequest>(data);
    read::<api::PeerJoinRequest>(data);
    read::<api::AppRecordsResponse>(data);
    read::<api::BackupRequest>(data);
    read::<api::TrafficResponse>(data);
    read::<api::TokenRequest>(data);
    read::<api::TokenResponse>(data);
    read::<api::TokensResponse>(data);
    read::<api::AuditResponse>(data);
    read::<api::InviteResponse>(data);
    read::<api::ChallengeResponse>(data);
    read::<api::PeerInviteResponse>(data);
    read::<api::PeerJoinResponse>(data);
    read::<api::BackupResponse>(data);
    read::<api::LogLevelResponse>(data);
    // What the store keeps as JSON for the next start.
    read::<PeerState>(data);
    if let Some(again) = broker::configured(data) {
        assert_eq!(broker::configured(&again), Some(again));
    }
    if let Some(registry) = read::<api::RegistryResponse>(data) {
        let view = RegistryView::decode(&registry);
        let _ = view.map(|view| view.problems());
        let _ = Held::decode(&registry, 1);
    }
    audit(data);
}

fn read<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read is written");
    let again: T = serde_json::from_slice(&written).expect("what was written reads");
    assert_eq!(serde_json::to_vec(&again).expect("it was before"), written);
    Some(value)
}

/// An export of the audit log, an entry a line: one that is taken has the hash of what it says.
fn audit(data: &[u8]) {
    let mut chain = ChainCheck::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(view) = serde_json::from_slice::<AuditView>(line) else { continue };
        let _ = view.read();
        let checked = chain.checked;
        match chain.next(&view) {
            Ok(()) => {
                assert_eq!(chain.checked, checked + 1);
                assert_eq!(chain.head(), Some((view.number, view.hash.as_str())));
                // Told twice, it is out of its place.
                assert!(chain.clone().next(&view).is_err());
            }
            Err(_) => assert_eq!(chain.checked, checked),
        }
    }
}

/// A stream of events: where it is cut does not matter, and no event is longer than it may be. The first byte
/// says where.
pub fn events(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let mut whole = (Parser::default(), Vec::new());
    let said = whole.0.feed(stream, &mut whole.1);
    let mut parts = (Parser::default(), Vec::new());
    let pieces = stream.chunks(usize::from(cut).max(1));
    let again = pieces.map(|piece| parts.0.feed(piece, &mut parts.1)).find(Result::is_err);
    assert_eq!(again.unwrap_or(Ok(())), said);
    assert_eq!(parts.1, whole.1);
    // A byte that is no UTF-8 is shown as a character of three.
    assert!(whole.1.iter().all(|event| event.data.len() <= 3 * MAX_EVENT_BYTES));
}
