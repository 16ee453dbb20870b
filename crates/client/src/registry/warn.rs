//! What a registry may say and people might not mean.

use super::entry::{Content, EntryKey};
use super::plan::Plan;
use super::view::RegistryView;
use nearmost_wire::registry::{EntryKind, HealthBody};
use std::collections::{BTreeMap, BTreeSet};

/// All of it.
pub(super) fn of(plan: &Plan, view: &RegistryView) -> Vec<String> {
    let mut out = unknown_mirrors(plan, view);
    out.extend(idle_pace(plan));
    out
}

/// Written mirrors whose probe has a pace that nothing goes by: those with an agent are probed when there is
/// a reason to, and as often as the broker is configured.
fn idle_pace(plan: &Plan) -> Vec<String> {
    let warning = |(key, content): (&EntryKey, Option<&Content>)| {
        let Some(Content::Mirror(body)) = content else { return None };
        let probe = Some(&body.probe).filter(|_| body.health == HealthBody::Agent)?;
        let given = [
            ("interval_ms", probe.interval_ms.is_some()),
            ("rise", probe.rise.is_some()),
            ("fall", probe.fall.is_some()),
        ];
        let idle: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        let told =
            || format!("{key}: {} of its probe have no effect beside health = \"agent\"", idle.join(", "));
        (!idle.is_empty()).then(told)
    };
    plan.writes().filter_map(warning).collect()
}

/// Mirrors that a written domain names in its order or its rules, and that will not be there.
fn unknown_mirrors(plan: &Plan, view: &RegistryView) -> Vec<String> {
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
