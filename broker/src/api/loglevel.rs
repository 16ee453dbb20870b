//! Levels of the logs, while running.

use super::Shared;
use super::auth::Caller;
use super::changes::{asked, who};
use super::error::Problem;
use super::params::Params;
use crate::audit::{Act, acts};
use crate::clock::unix_now;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, Uri};
use nearmost_config::{LogLevel, TargetLevel};
use nearmost_service::logging::Levels;
use nearmost_wire::api::{AuditChange, ErrorBody, LogLevelRequest, LogLevelResponse, LogLevelSet};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most levels that are set at one time, by all requests together.
const MOST: usize = 100;
/// Longest time for which one is set: a week.
const LONGEST_S: u64 = 7 * 24 * 3600;

/// Tells what is logged.
#[utoipa::path(
    get,
    path = "/v1/log-level",
    tag = "administration",
    responses((status = 200, body = LogLevelResponse))
)]
pub(super) async fn levels(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<LogLevelResponse>, Problem> {
    Params::read(&uri, &[])?;
    Ok(Json(view(shared.api.log.levels())))
}

/// A [`LogLevelRequest`] as it is taken: a key that is not known is a slip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    levels: BTreeMap<String, String>,
    #[serde(default)]
    for_s: Option<u64>,
    #[serde(default)]
    reset: bool,
}

/// Sets levels, for a time if one is given.
#[utoipa::path(
    put,
    path = "/v1/log-level",
    tag = "administration",
    request_body = LogLevelRequest,
    responses(
        (status = 200, body = LogLevelResponse),
        (status = 400, description = "Not a level, or not a target", body = ErrorBody),
    )
)]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LogLevelResponse>, Problem> {
    let who = who(caller)?;
    let Asked { levels, for_s, reset } = asked(&shared, (&who, acts::LOG_LEVEL), &headers, body)?;
    let log = &shared.api.log;
    let before = log.levels();
    let change = || {
        let wanted = read(&levels, for_s, reset)?;
        bounded(&before, &wanted, reset)?;
        let ends = for_s.map(|s| (Duration::from_secs(s), unix_now().0 + s * 1000));
        log.set(&wanted, reset, ends)
            .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "logging", e.to_string()))
    };
    change().inspect_err(|p: &Problem| shared.api.admin.refused(&who, acts::LOG_LEVEL, p.code, ""))?;
    let now = log.levels();
    tracing::info!(actor = %who.actor, levels = now.directives(), "levels of the logs were set");
    let value = |levels: &Levels| Some(levels.directives().into());
    let change = AuditChange {
        kind: "settings".into(),
        name: "log".into(),
        author: None,
        before: value(&before),
        after: value(&now),
    };
    let note = for_s.map_or_else(String::new, |s| format!("for {s} s"));
    let act =
        Act { by: who.by(), code: acts::LOG_LEVEL.into(), note, changes: vec![change], ..Act::default() };
    // It is in force; that it could not be written down is in the log and counted.
    let _ = shared.api.admin.desk().done(act).await;
    Ok(Json(view(now)))
}

pub(crate) fn read(
    levels: &BTreeMap<String, String>,
    for_s: Option<u64>,
    reset: bool,
) -> Result<Vec<(String, LogLevel)>, Problem> {
    if levels.is_empty() && !reset {
        return Err(Problem::bad_request("levels is empty: nothing is to be set"));
    }
    if levels.len() > MOST {
        return Err(Problem::bad_request(format!("levels has more than {MOST} targets")));
    }
    if let Some(s) = for_s.filter(|s| *s == 0 || *s > LONGEST_S) {
        return Err(Problem::bad_request(format!("for_s = {s}: expected 1 to {LONGEST_S}")));
    }
    let one = |(target, level): (&String, &String)| {
        let cut: String = level.chars().take(40).collect();
        match target.as_str() {
            "" => cut.parse().map(|level| (String::new(), level)),
            target => format!("{target}={cut}").parse().map(|t: TargetLevel| (t.target, t.level)),
        }
        .map_err(|e| Problem::bad_request(format!("levels: {e}")))
    };
    levels.iter().map(one).collect()
}

/// Each target is matched with each line: there may not be any number of them.
fn bounded(before: &Levels, wanted: &[(String, LogLevel)], reset: bool) -> Result<(), Problem> {
    let new = wanted.iter().filter(|(target, _)| reset || !before.set.contains_key(target)).count();
    let kept = if reset { 0 } else { before.set.len() };
    if kept + new > MOST {
        let message =
            format!("more than {MOST} levels would be set at once; --reset forgets those set before");
        return Err(Problem::bad_request(message));
    }
    Ok(())
}

fn view(levels: Levels) -> LogLevelResponse {
    let configured = levels.levels.iter().map(|t| (t.target.clone(), t.level));
    let mut all: BTreeMap<String, LogLevel> = configured.collect();
    let mut level = levels.level;
    let mut set = Vec::new();
    for (target, told) in levels.set {
        match target.as_str() {
            "" => level = told.level,
            _ => drop(all.insert(target.clone(), told.level)),
        }
        set.push(LogLevelSet {
            target,
            level: told.level.as_str().into(),
            until_unix_ms: told.until_unix_ms,
        });
    }
    LogLevelResponse {
        level: level.as_str().into(),
        levels: all.into_iter().map(|(target, level)| (target, level.as_str().to_owned())).collect(),
        set,
        environment: levels.environment,
    }
}
