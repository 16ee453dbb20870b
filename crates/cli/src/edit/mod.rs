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
    if view.has(key) { Ok(()) } else { Err(PlanError::NotThere(key.clone())) }
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
