//! What a registry may say and people might not mean.

use super::entry::{Content, EntryKey};
use super::plan::Plan;
use super::view::RegistryView;
use nearmost_wire::registry::EntryKind;
use std::collections::{BTreeMap, BTreeSet};

/// Mirrors that a written domain names in its order or its rules, and that will not be there.
pub(super) fn unknown_mirrors(plan: &Plan, view: &RegistryView) -> Vec<String> {
    let written: BTreeMap<&EntryKey, bool> =
        plan.writes().map(|(k, content)| (k, content.is_some())).collect();
    let mut out = Vec::new();
    for (key, content) in plan.writes() {
        let Some(Content::Domain(body)) = content else { continue };
        let order = body.sharing.order.iter().map(|name| ("order".to_owned(), name));
        let rules = body.sharing.rules.iter().flat_map(|r| r.mirrors.iter().map(|name| (r.head(), name)));
        let mut told = BTreeSet::new();
        for (place, name) in order.chain(rules) {
            let id = name.to_ascii_lowercase();
            let mirror = EntryKey { kind: EntryKind::Mirror, scope: key.scope.clone(), id };
            let there = written.get(&mirror).copied().unwrap_or_else(|| view.has(&mirror));
            if !there && told.insert(mirror.id) {
                out.push(format!("{key}: {place} names mirror {name:?}, which is not there"));
            }
        }
    }
    out
}
