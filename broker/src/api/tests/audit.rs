//! The audit log and levels of the logs, over the API.

use super::*;
use nearmost_wire::api::{AuditEntry, AuditResponse, EventsHistoryResponse};
use sha2::{Digest, Sha256};

const TOKEN: &str = "a long secret of a program";

async fn guarded() -> Api {
    let token = ApiToken { name: "ci".into(), sha256: Sha256::digest(TOKEN).into(), scope: Scope::Admin };
    Api::with(ApiSettings { tokens: vec![token], ..settings() }, |_| ()).await
}

fn with_token(request: Builder) -> Builder {
    request.header("authorization", format!("Bearer {TOKEN}")).header("content-type", "application/json")
}

async fn entries(api: &Api, uri: &str) -> Vec<AuditEntry> {
    let page: AuditResponse = api.get(admin(), uri).await.json();
    page.entries.iter().map(|view| view.read().unwrap()).collect()
}

#[tokio::test]
async fn who_did_it_through_what_and_from_where_is_told_to_those_who_prove_themselves() {
    let api = guarded().await;
    for peer in [local(), public()] {
        assert_eq!(api.get(peer, "/v1/audit").await.refusal(), (401, "credentials_missing".into()));
    }
    let body = r#"{"path":"/nowhere/copy"}"#;
    let post = || with_token(Request::post("/v1/backup"));
    assert_eq!(api.send(public(), post(), body).await.refusal(), (403, "person_needed".into()));
    let invite = r#"{"domains":["no.such.example"],"ttl_s":60}"#;
    let asked = Request::post("/v1/invites").header("content-type", "application/json");
    assert_eq!(api.send(admin(), asked, invite).await.status, 400);
    // They are written beside the answer.
    let found = loop {
        let found = entries(&api, "/v1/audit").await;
        if found.len() == 2 {
            break found;
        }
        tokio::task::yield_now().await;
    };
    let [backup, invite] = &found[..] else { panic!("{found:?}") };
    assert_eq!((backup.actor.as_str(), backup.via.as_str()), ("token ci", "public"));
    assert_eq!(
        (backup.source.as_deref(), backup.code.as_deref()),
        (Some("203.0.113.9"), Some("person_needed"))
    );
    assert_eq!((backup.outcome.as_str(), backup.target.as_str()), ("refused", "/nowhere/copy"));
    assert_eq!(
        (invite.actor.as_str(), invite.via.as_str(), invite.act.as_str()),
        ("uid 1000", "socket", "invite.create")
    );
    assert!(invite.note.contains("no.such.example"), "{}", invite.note);
    assert_eq!(entries(&api, "/v1/audit?actor=token%20ci").await.len(), 1);
    assert_eq!(entries(&api, "/v1/audit?act=invite").await.len(), 1);
    assert_eq!(api.get(admin(), "/v1/audit?since=1").await.refusal(), (400, "bad_request".into()));
    let get = || with_token(Request::get("/v1/audit").header("host", "127.0.0.1:8053"));
    assert_eq!(api.send(local(), get(), "").await.status, 200);
    let page: AuditResponse = api.get(admin(), "/v1/audit?limit=1").await.json();
    assert_eq!((page.entries.len(), page.more, page.next_after, page.head), (1, true, 1, 2));
}

#[tokio::test]
async fn levels_that_are_none_are_refused_by_name() {
    let api = Api::new().await;
    let put = |body: &'static str| {
        let request = Request::put("/v1/log-level").header("content-type", "application/json");
        api.send(admin(), request, body)
    };
    for (body, says) in [
        (r#"{"levels":{"nearmost_broker":"debgu"}}"#, "did you mean \"debug\"?"),
        (r#"{"levels":{"":"loud"}}"#, "loud"),
        (r#"{"levels":{"a b":"info"}}"#, "a module's path"),
        (r#"{"levels":{"a":"info"},"for_s":0}"#, "for_s = 0"),
        ("{}", "nothing is to be set"),
    ] {
        let answer = put(body).await;
        assert!(
            answer.text().contains(&serde_json::to_string(says).unwrap().trim_matches('"').to_owned()),
            "{}",
            answer.text()
        );
        assert_eq!(answer.status, 400);
    }
    // The logs of this process are not set up here, and it says so.
    assert_eq!(put(r#"{"levels":{"a":"info"}}"#).await.refusal(), (500, "logging".into()));
    assert_eq!(api.get(local(), "/v1/log-level").await.status, 200);
}

#[tokio::test]
async fn transitions_that_are_kept_are_told() {
    let api = Api::new().await;
    let told: EventsHistoryResponse =
        api.get(local(), "/v1/events/history?domain=Play.Nearmost.TEST.").await.json();
    assert!(told.events.is_empty() && !told.more && told.gaps.is_empty());
    assert_eq!(api.get(public(), "/v1/events/history").await.status, 401);
    assert_eq!(
        api.get(local(), "/v1/events/history?limit=many").await.refusal(),
        (400, "bad_request".into())
    );
}
