//! What the fake broker answers about peers and applications' records.

use super::*;

pub async fn peers(State(broker): State<FakeBroker>) -> Json<PeersResponse> {
    let told = broker.store.lock().unwrap().peers.clone();
    Json(told.unwrap_or_else(|| PeersResponse {
        broker: broker.key.id().to_string(),
        log_epoch: 1,
        log_position: 0,
        statements: 0,
        rights_digest: String::new(),
        digest: String::new(),
        peers: Vec::new(),
        splits: Vec::new(),
        alarms: Vec::new(),
    }))
}

pub async fn invite(
    State(broker): State<FakeBroker>,
    Json(request): Json<PeerInviteRequest>,
) -> Json<PeerInviteResponse> {
    broker.store.lock().unwrap().peer_invites.push(request);
    Json(PeerInviteResponse { token: "nmp1token".into(), expires_unix_ms: 1_760_000_000_000 })
}

pub async fn join(
    State(broker): State<FakeBroker>,
    Json(request): Json<PeerJoinRequest>,
) -> Json<PeerJoinResponse> {
    broker.store.lock().unwrap().joins.push(request.token);
    Json(PeerJoinResponse { peer: "nb1bob".into(), addresses: vec!["b.example:7843".into()] })
}

pub async fn backup(
    State(broker): State<FakeBroker>,
    Json(request): Json<BackupRequest>,
) -> Answer<BackupResponse> {
    let store = &mut *broker.store.lock().unwrap();
    if !request.overwrite && store.backups.iter().any(|b| b.path == request.path) {
        let message = format!("{} is there already", request.path);
        return Err(refuse(StatusCode::CONFLICT, "file_exists", message));
    }
    store.backups.push(request);
    Ok(Json(BackupResponse { statements: store.statements.len() as u64 }))
}

fn views(broker: &FakeBroker, query: &Option<String>) -> Vec<AppRecordView> {
    let domain = values(query, "domain").remove(0);
    let (kind, id) = (values(query, "kind").pop(), values(query, "id").pop());
    let held = broker.held();
    let wanted = held.in_scope(&domain).map(|signed| signed.record()).filter(|record| {
        let whose = record.kind.is_application();
        whose
            && kind.as_ref().is_none_or(|kind| *kind == record.kind.0.to_string())
            && id.as_ref().map_or(!record.is_tombstone(), |id| *id == record.id)
    });
    let view = |record: &nearmost_client::registry::statements::Record| AppRecordView {
        domain: record.scope.clone(),
        kind: record.kind.0,
        id: record.id.clone(),
        body: nearmost_client::registry::statements::bytes(&record.body).map(|bytes| BASE64.encode(bytes)),
        author: held.id_of(&record.author).to_string(),
        hlc_millis: record.hlc.millis,
        hlc_counter: record.hlc.counter,
    };
    wanted.map(view).collect()
}

pub async fn records(
    State(broker): State<FakeBroker>,
    RawQuery(query): RawQuery,
) -> Json<AppRecordsResponse> {
    Json(AppRecordsResponse { version: 1, records: views(&broker, &query) })
}

/// What stands, then the removal of each, then the end.
pub async fn watch(
    State(broker): State<FakeBroker>,
    RawQuery(query): RawQuery,
) -> Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>> {
    let standing = views(&broker, &query);
    let removed: Vec<AppRecordView> =
        standing.iter().map(|view| AppRecordView { body: None, ..view.clone() }).collect();
    let events = standing.into_iter().chain(removed);
    let events: Vec<_> = events.map(|view| Ok(Event::default().json_data(view).unwrap())).collect();
    Sse::new(tokio_stream::iter(events))
}
