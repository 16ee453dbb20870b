//! Changes of single entries by command.

mod acme;
mod dnssec;
pub mod domain;
mod drain;
mod failover;
mod force;
pub mod mirror;
pub mod node;
pub mod place;
mod probe;
mod rights;
mod sharing;
mod trust;

use nearmost_client::registry::{Content, EntryKey, EntryKind, PlanError, RegistryView};

/// Refuses what is not there.
pub fn must_exist(view: &RegistryView, key: &EntryKey) -> Result<(), PlanError> {
    match view.has(key) {
        true => Ok(()),
        false => Err(PlanError::NotThere { key: key.clone(), near: nearest(view, key) }),
    }
}

/// The name that was perhaps meant.
fn nearest(view: &RegistryView, key: &EntryKey) -> Option<String> {
    let name = key.name();
    let limit = (name.len() / 4).clamp(1, 4);
    view.entries
        .keys()
        .filter(|k| k.kind == key.kind)
        .map(|k| (strsim::damerau_levenshtein(&name, &k.name()), k.name()))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Refuses what is there.
pub fn must_not_exist(view: &RegistryView, key: &EntryKey) -> Result<(), PlanError> {
    if view.has(key) { Err(PlanError::Exists(key.clone())) } else { Ok(()) }
}

/// What an entry says now.
pub fn current<'a>(view: &'a RegistryView, key: &EntryKey) -> Result<&'a Content, PlanError> {
    must_exist(view, key)?;
    view.content(key).ok_or_else(|| PlanError::Unreadable(key.clone()))
}

/// The mirrors of a domain, which must exist.
pub fn mirrors_of(view: &RegistryView, domain: &EntryKey) -> Result<Vec<EntryKey>, PlanError> {
    debug_assert_eq!(domain.kind, EntryKind::Domain);
    must_exist(view, domain)?;
    Ok(view.mirrors_of(&domain.scope).cloned().collect())
}

/// An option that an empty text clears.
pub fn clearable(given: &Option<String>, field: &mut Option<String>) {
    if let Some(text) = given {
        *field = Some(text.clone()).filter(|t| !t.is_empty());
    }
}
