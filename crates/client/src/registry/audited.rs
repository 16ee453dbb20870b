//! Changes of the audit log in the words of the history.

use super::entry::{Content, EntryKey};
use super::plan::{Change, added, differences};
use nearmost_wire::api::AuditChange;
use nearmost_wire::registry::EntryKind;
use serde_json::Value;

/// What a change did, on one line: `~ mirror play.example.com/lon  port: 80 → 443`.
pub fn told(change: &AuditChange) -> String {
    match entry(change) {
        Some(change) => change.to_string(),
        None => other(change),
    }
}

/// Of an entry of the registry.
fn entry(change: &AuditChange) -> Option<Change> {
    const KINDS: [EntryKind; 8] = [
        EntryKind::Domain,
        EntryKind::Node,
        EntryKind::Mirror,
        EntryKind::Drain,
        EntryKind::Force,
        EntryKind::Person,
        EntryKind::Override,
        EntryKind::ZoneKey,
    ];
    let kind = KINDS.into_iter().find(|kind| kind.noun() == change.kind)?;
    let whole = || (change.name.clone(), String::new());
    let in_scope = || match change.name.split_once('/') {
        Some((scope, id)) => (scope.to_owned(), id.to_owned()),
        // A node's drain, say.
        None => (String::new(), change.name.clone()),
    };
    let (scope, id) = match kind {
        EntryKind::Domain => whole(),
        // A prefix has a slash of its own.
        EntryKind::Node | EntryKind::Person | EntryKind::Override => (String::new(), change.name.clone()),
        _ => in_scope(),
    };
    let side = |value: &Option<Value>| -> Option<(bool, Option<Content>)> {
        match value {
            None => Some((false, None)),
            Some(value) => Some((true, Content::parse(kind, value.to_string().as_bytes()).ok())),
        }
    };
    Some(Change::new(EntryKey { kind, scope, id }, side(&change.before)?, side(&change.after)?))
}

/// Of anything else.
fn other(change: &AuditChange) -> String {
    let (before, after) = (change.before.clone(), change.after.clone());
    let (sign, details) = match (&before, &after) {
        (None, None) => ('-', Vec::new()),
        (None, Some(_)) => ('+', added(after, Value::Null)),
        (Some(_), None) => ('-', Vec::new()),
        (Some(_), Some(_)) => ('~', differences(before, after)),
    };
    let details = if details.is_empty() { String::new() } else { format!("  {}", details.join(", ")) };
    format!("{sign} {} {}{details}", change.kind, change.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(kind: &str, name: &str, before: Option<Value>, after: Option<Value>) -> AuditChange {
        AuditChange { kind: kind.into(), name: name.into(), author: None, before, after }
    }

    #[test]
    fn entries_are_told_as_the_history_tells_them() {
        let mirror = |port: u16| Some(json!({ "port": port, "weight": 100 }));
        let name = "play.example.com/lon";
        assert_eq!(
            told(&change("mirror", name, mirror(80), mirror(443))),
            "~ mirror play.example.com/lon  port: 80 → 443"
        );
        assert_eq!(told(&change("mirror", name, mirror(80), None)), "- mirror play.example.com/lon");
        let place = Some(json!({ "country": "GB" }));
        assert_eq!(
            told(&change("override", "192.0.2.0/24", None, place)),
            "+ override 192.0.2.0/24  country: GB"
        );
        assert_eq!(told(&change("drain", "lon-1", None, Some(json!({})))), "+ drain lon-1");
    }

    #[test]
    fn everything_else_is_told_field_by_field() {
        let (before, after) = (Some(json!({ "level": "info" })), Some(json!({ "level": "debug" })));
        assert_eq!(told(&change("settings", "log", before, after)), "~ settings log  level: info → debug");
        let body = Some(json!({ "bytes": 3 }));
        assert_eq!(told(&change("record", "d.example/x", None, body)), "+ record d.example/x  bytes: 3");
    }
}
