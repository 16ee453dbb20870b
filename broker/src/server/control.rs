//! What a running broker can be told: to read its configuration again.

use crate::api::{ApiControl, ReloadError};
use crate::audit::{Act, By, Desk, Ending, acts};
use crate::dns::certificate::Certificate;
use crate::events::keeper::Keeping;
use crate::geoip::GeoService;
use crate::settings;
use nearmost_config::{BrokerConfig, GeoOverride, HttpToken, ObservingConfig, Scope};
use nearmost_core::geo::Place;
use nearmost_service::logging::LogControl;
use nearmost_wire::api::AuditChange;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// What a running broker can be told.
#[derive(Clone)]
pub struct Control {
    pub(super) running: Arc<BrokerConfig>,
    /// What was taken over last.
    pub(super) current: Arc<Mutex<Arc<BrokerConfig>>>,
    pub(super) geo: GeoService,
    pub(super) api: ApiControl,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) log: LogControl,
    pub(super) keeping: watch::Sender<Keeping>,
    pub(super) desk: Desk,
}

impl Control {
    /// Takes over what can change while running: geo databases and overrides, who may use the API,
    /// TLS certificates, that of DNS too, levels of the logs, how long what happened is kept. Everything else
    /// needs a restart, which is said of each section that differs. What changed is in the audit log.
    /// Whether all of it was taken over.
    pub async fn reload(&self, config: &BrokerConfig, by: By) -> bool {
        let before = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Of what fails the old stays in force, and so it stands here.
        let mut taken = config.clone();
        for section in settings::needing_restart(&self.running, config) {
            tracing::warn!(
                section,
                "changed in the configuration; a restart is needed for it to take effect"
            );
        }
        let mut failed = Vec::new();
        match self.log.reload(&config.observing.log) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "levels of the logs not reloaded; the old ones stay");
                failed.push("log");
                taken.observing.log = before.observing.log.clone();
            }
        }
        self.keeping.send_replace(settings::keeping(config));
        match self.geo.reload_with(settings::geo(config)).await {
            Ok(()) => tracing::info!("geo databases reloaded"),
            Err(error) => {
                tracing::error!(%error, "geo databases not reloaded; the old ones stay");
                failed.push("geo");
                taken.geo = before.geo.clone();
            }
        }
        match self.api.reload(&config.http) {
            Ok(()) => tracing::info!("HTTP settings and TLS certificates reloaded"),
            Err(error) => {
                tracing::error!(%error, "not all of the HTTP settings were reloaded");
                failed.push("http");
                if matches!(error, ReloadError::Person(_)) {
                    taken.http = before.http.clone();
                }
            }
        }
        match self.certificate.as_ref().map(|c| c.reload()) {
            None => {}
            Some(Ok(())) => tracing::info!("DNS certificate reloaded"),
            Some(Err(error)) => {
                tracing::error!(%error, "DNS certificate not reloaded; the old one stays");
                failed.push("dns.tls");
            }
        }
        self.write_down(taken, by, &failed).await;
        failed.is_empty()
    }

    /// A configuration that cannot be read was to be taken over.
    pub async fn refused(&self, by: By, error: &str) {
        // Which key, and not what was found there: that may be a token in a wrong place.
        let note = error.split(": found ").next().unwrap_or_default().to_owned();
        let ending = Ending::Failed("configuration");
        let act = Act { by, code: acts::RELOAD.into(), ending, note, ..Act::default() };
        // What went wrong with that is in the log.
        let _ = self.desk.done(act).await;
    }

    async fn write_down(&self, taken: BrokerConfig, by: By, failed: &[&str]) {
        let taken = Arc::new(taken);
        let before = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, taken.clone())
        };
        let ending = if failed.is_empty() { Ending::Done } else { Ending::Failed("partly") };
        let note = match failed {
            [] => String::new(),
            failed => format!("not taken over: {}", failed.join(", ")),
        };
        let changes = differences(&before, &taken);
        let act = Act { by, code: acts::RELOAD.into(), ending, note, changes, ..Act::default() };
        // What went wrong with that is in the log.
        let _ = self.desk.done(act).await;
    }
}

/// What differs in the sections that are taken over while running. Tokens are told by name.
fn differences(before: &BrokerConfig, now: &BrokerConfig) -> Vec<AuditChange> {
    let (old, new) = (sections(before), sections(now));
    let replaced: Vec<&str> = now
        .http
        .tokens
        .iter()
        .filter(|t| before.http.tokens.iter().any(|o| o.name == t.name && o.sha256 != t.sha256))
        .map(|t| t.name.as_str())
        .collect();
    let mut changes = Vec::new();
    for ((name, before), (_, mut after)) in old.into_iter().zip(new) {
        if name == "http" && !replaced.is_empty() {
            after["replaced_tokens"] = json!(replaced);
        }
        if before != after {
            let (kind, name) = ("settings".into(), name.into());
            changes.push(AuditChange { kind, name, author: None, before: Some(before), after: Some(after) });
        }
    }
    changes
}

/// A correction with its place.
fn corrected(told: &GeoOverride) -> Value {
    let Place { position, country, asn } = told.place;
    let position = position.map(|at| at.degrees());
    json!({
        "prefix": told.prefix.to_string(),
        "position": position,
        "country": country.map(|country| country.to_string()),
        "asn": asn,
    })
}

/// A token's name, and its scope where that is not everything.
fn token_told(token: &HttpToken) -> String {
    match token.scope {
        Scope::Admin => token.name.clone(),
        scope => format!("{} ({})", token.name, scope.as_str()),
    }
}

fn sections(config: &BrokerConfig) -> [(&'static str, Value); 5] {
    let BrokerConfig { observing: ObservingConfig { log, audit, events, .. }, http, geo, .. } = config;
    let levels: Vec<String> =
        log.levels.iter().map(|t| format!("{}={}", t.target, t.level.as_str())).collect();
    let overrides: Vec<_> = geo.overrides.iter().map(corrected).collect();
    let persons: Vec<_> = http.persons.iter().map(|p| json!({ "name": p.name, "id": p.id })).collect();
    let trusted: Vec<String> = http.trusted_sources.iter().map(ToString::to_string).collect();
    [
        ("log", json!({ "level": log.level.as_str(), "levels": levels })),
        (
            "audit",
            json!({
                "keep_days": audit.keep_days,
                "max_entries": audit.max_entries,
                "max_agent_entries": audit.max_agent_entries,
            }),
        ),
        ("events", json!({ "keep_days": events.keep_days, "max_entries": events.max_entries })),
        (
            "http",
            json!({
                "tokens": http.tokens.iter().map(token_told).collect::<Vec<_>>(),
                "persons": persons,
                "trusted_sources": trusted,
                "requests_per_second": http.requests_per_second,
                "request_burst": http.request_burst,
            }),
        ),
        (
            "geo",
            json!({
                "databases": geo.databases,
                "embedded": geo.embedded,
                "watch": geo.watch,
                "overrides": overrides,
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn tokens_are_told_by_name_and_never_by_hash() {
        let token =
            |name: &str, byte| HttpToken { name: name.into(), sha256: [byte; 32], scope: Scope::Admin };
        let mut before = BrokerConfig::default();
        before.http.tokens = vec![token("ci", 0xab), token("old", 0xab)];
        assert!(differences(&before, &before).is_empty());
        let mut now = before.clone();
        now.http.tokens = vec![token("ci", 0xcd), token("new", 0xab)];
        now.observing.audit.keep_days += 1;
        let changes = differences(&before, &now);
        let names: Vec<_> = changes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["audit", "http"]);
        assert_eq!(changes[1].after.as_ref().unwrap()["replaced_tokens"], json!(["ci"]));
        let text = serde_json::to_string(&changes).unwrap();
        assert!(!text.contains("abab") && !text.contains("cdcd") && !text.contains("171"), "{text}");
    }
}
