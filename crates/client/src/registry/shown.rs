//! Entries as diffs show them: what a record leaves out by its default is named, moments are readable, and
//! one thing that changed is one difference.

use super::app::{AppKind, EXPIRY_BYTES};
use crate::moment;
use nearmost_replica::Kind;
use nearmost_replica::merge::{Rule, expiry_unix_ms};
use nearmost_wire::registry::{
    BanBody, DomainBody, DrainBody, FailbackBody, ForceBody, ForceBodyTo, PeerBody, SharingBody, WindowBody,
};
use serde_json::{Map, Value, json};

/// A domain: each rule becomes a field whose name says what it is about.
pub(super) fn domain(body: &DomainBody, fields: &mut Map<String, Value>) {
    let usual = SharingBody::default();
    fields.entry("strategy").or_insert_with(|| usual.strategy.as_str().into());
    fields.entry("explore_percent").or_insert_with(|| json!(usual.explore_percent));
    fields.entry("failback").or_insert_with(|| FailbackBody::default().as_str().into());
    let mut rules = Map::new();
    for rule in &body.sharing.rules {
        insert(&mut rules, rule.head(), json!(rule.mirrors));
    }
    fields.insert("rules".into(), rules.into());
}

/// A drain order: each window becomes a field whose name says when it begins.
pub(super) fn drain(body: &DrainBody, fields: &mut Map<String, Value>) {
    fields.remove("windows");
    for WindowBody { from_unix_ms, until_unix_ms } in &body.windows {
        let name = format!("window {}", moment::show(*from_unix_ms));
        insert(fields, name, format!("until {}", moment::show(*until_unix_ms)).into());
    }
}

/// A forced verdict. A release has no end, it is about what was before.
pub(super) fn force(body: &ForceBody, fields: &mut Map<String, Value>) {
    fields.remove("until_unix_ms");
    let name = if body.to == ForceBodyTo::Release { "before" } else { "until" };
    fields.insert(name.into(), moment::show(body.until_unix_ms).into());
}

/// Under the name, or where that is taken under it with a number.
fn insert(fields: &mut Map<String, Value>, name: String, value: Value) {
    let mut free = name.clone();
    let mut again = 2;
    while fields.contains_key(&free) {
        free = format!("{name} ({again})");
        again += 1;
    }
    fields.insert(free, value);
}

/// The body of a statement about members, rights or an application's record.
pub(super) fn statement(kind: Kind, bytes: &[u8]) -> Value {
    let mut fields = Map::new();
    match kind {
        Kind::BAN => {
            fields.insert("until".into(), until(expiry_unix_ms(bytes)).into());
            let reason = BanBody::decode(bytes).map(|ban| ban.reason).unwrap_or_default();
            fields.extend((!reason.is_empty()).then(|| ("reason".into(), reason.into())));
        }
        kind if kind.is_application() => {
            let restrictive = Rule::of(kind) == Rule::LatestExpiryWins;
            let mut length = bytes.len();
            if restrictive {
                fields.insert("until".into(), until(expiry_unix_ms(bytes)).into());
                length = length.saturating_sub(EXPIRY_BYTES);
            }
            fields.insert("bytes".into(), length.into());
        }
        kind => {
            let read = match kind {
                // What its JSON leaves out by default is told all the same.
                Kind::PEER => serde_json::from_slice::<PeerBody>(bytes).and_then(serde_json::to_value),
                _ => serde_json::from_slice(bytes),
            };
            if let Ok(Value::Object(all)) = read {
                fields = all;
            }
            fields.remove("made_by");
            if kind == Kind::GRANT {
                grant(&mut fields);
            }
            let invited = fields.remove("invited_unix_ms").and_then(|at| at.as_u64());
            fields.extend(invited.map(|at| ("invited".into(), moment::show(at).into())));
        }
    }
    fields.into()
}

/// A grant: kinds as people write them, and dates only where they bound it.
fn grant(fields: &mut Map<String, Value>) {
    for (field, name) in [("from_unix_ms", "from"), ("until_unix_ms", "until")] {
        let at = fields.remove(field).and_then(|at| at.as_u64()).filter(|at| *at != 0);
        fields.extend(at.map(|at| (name.into(), moment::show(at).into())));
    }
    let named = |kind: &Value| {
        let kind = kind.as_u64().and_then(|number| u16::try_from(number).ok()).map(Kind);
        kind.and_then(AppKind::of).map(|kind| kind.to_string())
    };
    if let Some(Value::Array(kinds)) = fields.get_mut("kinds") {
        for kind in kinds.iter_mut() {
            *kind = named(kind).map_or_else(|| kind.take(), Value::from);
        }
    }
}

/// An end, which may never come.
fn until(unix_ms: u64) -> String {
    if unix_ms == u64::MAX { "for ever".into() } else { moment::show(unix_ms) }
}
