//! Entries as diffs show them: what a record leaves out by its default is named, moments are readable, and
//! one thing that changed is one difference.

use crate::moment;
use nearmost_wire::registry::{
    DomainBody, DrainBody, FailbackBody, ForceBody, ForceBodyTo, SharingBody, WindowBody,
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
