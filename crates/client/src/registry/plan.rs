//! What would change: from desired entries and the current registry to a list of changes.
//!
//! Rules:
//! - What says the same is unchanged, whoever wrote it: applying twice does nothing the second time.
//! - Absence from a file deletes only with `prune`, and only what the same person's key made, whoever
//!   changed it since; never that key itself. Bodies carry who made them (`made_by`); of older records
//!   it is the author.
//! - A node's `id`, learned when its agent joined, and its `revoked` stay where the file is silent.
//! - A removed mirror or node takes its drain order and forced verdict with it, so that one of
//!   that name made later does not inherit them.
//! - Drain orders and forced verdicts are acts of the moment and no part of files.
//! - An order of failover and rules may name mirrors that are not there yet: that is a warning.

use super::entry::{Content, EntryKey};
use super::file::{FileErrors, RegistryFile};
use super::view::{self, RegistryView};
use super::warn;
use crate::text::printable;
use nearmost_wire::identity::Id;
use nearmost_wire::registry::{EntryKind, Problem};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A wish of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    key: EntryKey,
    content: Option<Content>,
}

impl Edit {
    /// Let the entry say this.
    pub fn put(key: EntryKey, content: Content) -> Edit {
        Edit { key, content: Some(content) }
    }

    /// Let it be gone.
    pub fn remove(key: EntryKey) -> Edit {
        Edit { key, content: None }
    }
}

/// What happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Add,
    /// It says something else.
    Change,
    /// It goes.
    Remove,
    /// It says the same already.
    Unchanged,
    /// It is not in the file and stays.
    Kept(Kept),
}

/// Why an entry that is not in the file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Pruning was not asked for.
    NotPruned,
    /// Somebody else made it.
    MadeBy(Id),
    /// It is the key that would sign the removal.
    OwnKey,
}

/// What happens to one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub key: EntryKey,
    /// What happens.
    pub action: Action,
    /// What it says now; `None` when it is not there, or cannot be read.
    pub before: Option<Content>,
    /// What it will say; `None` when it will not be there.
    pub after: Option<Content>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] FileErrors),
    /// The result would make no sense.
    #[error("refused, because afterwards {}", Problem::list(.0))]
    Problems(Vec<Problem>),
    /// There is none of that name.
    #[error("there is no {key}")]
    NotThere {
        /// What was named.
        key: EntryKey,
        /// A name of the same kind that looks alike, for whoever mistyped.
        near: Option<String>,
    },
    /// There is one of that name.
    #[error("{0} is there already; change it with `set`")]
    Exists(EntryKey),
    /// A newer program wrote it.
    #[error("{0} was written by a newer version and cannot be read; update this program")]
    Unreadable(EntryKey),
    /// A domain with mirrors.
    #[error("{domain} has mirrors ({}); remove them too with --with-mirrors", .mirrors.join(", "))]
    HasMirrors {
        /// The domain.
        domain: EntryKey,
        /// Its mirrors' names.
        mirrors: Vec<String>,
    },
    /// What was given to a command makes no sense.
    #[error("{0}")]
    Refused(String),
    /// A body that JSON has no form for.
    #[error("{key}: {source}")]
    Body {
        /// The entry.
        key: EntryKey,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// All changes, sorted by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One for each entry looked at.
    pub changes: Vec<Change>,
    /// What is allowed, and might be a slip.
    pub warnings: Vec<String>,
}

impl Plan {
    /// From a file: all its entries, and with `prune` the removal of `me`'s entries it lacks.
    ///
    /// # Errors
    /// [`PlanError::File`] and [`PlanError::Problems`].
    pub fn of_file(
        file: &RegistryFile,
        view: &RegistryView,
        me: &Id,
        prune: bool,
    ) -> Result<Plan, PlanError> {
        file.check(Some(view))?;
        let mut edits: Vec<Edit> = Vec::new();
        let mut kept = Vec::new();
        for (key, content) in file.desired(view) {
            edits.push(Edit::put(key, content));
        }
        for (key, current) in &view.entries {
            if file.entries.contains_key(key)
                || matches!(key.kind, EntryKind::Drain | EntryKind::Force | EntryKind::ZoneKey)
            {
                continue;
            }
            match keep(view, key, me, prune) {
                None => edits.push(Edit::remove(key.clone())),
                Some(why) => {
                    let content = current.content.clone();
                    kept.push(Change {
                        key: key.clone(),
                        action: Action::Kept(why),
                        before: content.clone(),
                        after: content,
                    });
                }
            }
        }
        let mut plan = Plan::of_edits(view, edits)?;
        plan.changes.extend(kept);
        plan.changes.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(plan)
    }

    /// From a command's wishes; the last of several for one key counts.
    ///
    /// # Errors
    /// [`PlanError::NotThere`] for the removal of what is not there, [`PlanError::Problems`].
    pub fn of_edits(view: &RegistryView, edits: Vec<Edit>) -> Result<Plan, PlanError> {
        let mut wishes: BTreeMap<EntryKey, Option<Content>> = BTreeMap::new();
        for edit in edits {
            let Edit { key, content } = edit;
            if content.is_none() {
                if !view.has(&key) {
                    return Err(PlanError::NotThere { key, near: None });
                }
                let orders = orders_of(&key).into_iter().filter(|o| view.has(o));
                wishes.extend(orders.map(|o| (o, None)));
            }
            wishes.insert(key, content);
        }
        let changes = wishes.into_iter().map(|(key, after)| change(view, key, after)).collect();
        let mut plan = Plan { changes, warnings: Vec::new() };
        plan.check(view)?;
        plan.warnings = warn::of(&plan, view);
        Ok(plan)
    }

    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.writes().next().is_none()
    }

    /// What has to be written: the new content, or `None` for a removal.
    pub fn writes(&self) -> impl Iterator<Item = (&EntryKey, Option<&Content>)> {
        let writes =
            self.changes.iter().filter(|c| matches!(c.action, Action::Add | Action::Change | Action::Remove));
        writes.map(|c| (&c.key, c.after.as_ref()))
    }

    /// How many entries have an action for which `which` holds.
    pub fn count(&self, which: impl Fn(Action) -> bool) -> usize {
        self.changes.iter().filter(|c| which(c.action)).count()
    }

    /// Refuses a plan that adds something that makes no sense; what made none before is not its
    /// fault.
    fn check(&self, view: &RegistryView) -> Result<(), PlanError> {
        let mut after: BTreeMap<&EntryKey, Vec<u8>> = view.live().map(|(k, b)| (k, b.to_vec())).collect();
        for (key, content) in self.writes() {
            match content {
                Some(content) => {
                    let body =
                        content.to_json().map_err(|source| PlanError::Body { key: key.clone(), source })?;
                    after.insert(key, body)
                }
                None => after.remove(key),
            };
        }
        let before: BTreeSet<Problem> = view.problems().into_iter().collect();
        let mut new = view::problems(after.iter().map(|(k, b)| (*k, b.as_slice())));
        new.retain(|p| !before.contains(p));
        if new.is_empty() { Ok(()) } else { Err(PlanError::Problems(new)) }
    }
}

/// The orders that go with an entry.
fn orders_of(key: &EntryKey) -> Vec<EntryKey> {
    match key.kind {
        EntryKind::Mirror => vec![key.drain(), key.force()],
        EntryKind::Node => vec![key.drain()],
        _ => Vec::new(),
    }
}

fn keep(view: &RegistryView, key: &EntryKey, me: &Id, prune: bool) -> Option<Kept> {
    let other = view.maker(key).filter(|maker| maker.key != me.key);
    match () {
        () if key.person_id().is_some_and(|id| id == *me) => Some(Kept::OwnKey),
        () if !prune => Some(Kept::NotPruned),
        () => other.map(Kept::MadeBy),
    }
}

fn change(view: &RegistryView, key: EntryKey, after: Option<Content>) -> Change {
    let current = view.entries.get(&key);
    let before = current.and_then(|c| c.content.clone());
    let after = match current {
        // Whoever changes an entry did not make it.
        Some(_) => after.map(|a| a.with_maker(before.as_ref().and_then(Content::made_by).map(Into::into))),
        None => after,
    };
    let will_be = after.is_some();
    Change::new(key, (current.is_some(), before), (will_be, after))
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::NotPruned => f.write_str("not in the file"),
            Kept::MadeBy(id) => write!(f, "made by {id}"),
            Kept::OwnKey => f.write_str("your own key"),
        }
    }
}

impl fmt::Display for Change {
    /// `+ mirror d/m  port: 80`, `~ mirror d/m  port: 443 → 8443`, `- mirror d/m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            Action::Add => '+',
            Action::Change => '~',
            Action::Remove => '-',
            Action::Unchanged => '=',
            Action::Kept(why) => return write!(f, "  {} kept: {why}", self.key),
        };
        write!(f, "{sign} {}", self.key)?;
        let details = match self.action {
            Action::Add => self.added(),
            Action::Change => self.differences(),
            _ => Vec::new(),
        };
        match self.action {
            // Rules in another order, or a place without parts where there was none.
            Action::Change if details.is_empty() => f.write_str("  written otherwise, and says the same"),
            _ if details.is_empty() => Ok(()),
            _ => write!(f, "  {}", details.join(", ")),
        }
    }
}

impl Change {
    /// From what was and what is; each side says whether the entry is there, and its content if
    /// that can be read.
    pub(crate) fn new(
        key: EntryKey,
        (was, before): (bool, Option<Content>),
        (is, after): (bool, Option<Content>),
    ) -> Change {
        let action = match (was, is) {
            (false, true) => Action::Add,
            (false, false) => Action::Unchanged,
            (true, false) => Action::Remove,
            (true, true) if before == after => Action::Unchanged,
            (true, true) => Action::Change,
        };
        Change { key, action, before, after }
    }

    /// Fields of a new entry that are not as by default: `port: 8443`.
    fn added(&self) -> Vec<String> {
        added(self.after.as_ref().map(Content::to_value), Content::defaults(self.key.kind))
    }

    /// Fields that differ: `port: 443 → 8443`.
    pub fn differences(&self) -> Vec<String> {
        differences(self.before.as_ref().map(Content::to_value), self.after.as_ref().map(Content::to_value))
    }
}

/// Fields of a new thing that are not as by default: `port: 8443`.
pub(super) fn added(after: Option<Value>, defaults: Value) -> Vec<String> {
    let (after, defaults) = (flat(after), flat(Some(defaults)));
    let given = after.iter().filter(|(k, v)| defaults.get(*k) != Some(v));
    given.map(|(k, v)| format!("{k}: {v}")).collect()
}

/// Fields that differ: `port: 443 → 8443`.
pub(super) fn differences(before: Option<Value>, after: Option<Value>) -> Vec<String> {
    let (before, after) = (flat(before), flat(after));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let show =
        |side: &BTreeMap<String, String>, key: &String| side.get(key).cloned().unwrap_or("none".into());
    let differing = keys.into_iter().filter(|k| before.get(*k) != after.get(*k));
    differing.map(|k| format!("{k}: {} → {}", show(&before, k), show(&after, k))).collect()
}

impl fmt::Display for Plan {
    /// The diff, a line each. Left out are unchanged entries, and those that stay for a reason that
    /// lies in the command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silent = [Action::Unchanged, Action::Kept(Kept::NotPruned), Action::Kept(Kept::OwnKey)];
        let mut shown = self.changes.iter().filter(|c| !silent.contains(&c.action));
        shown.try_for_each(|c| writeln!(f, "{c}"))
    }
}

/// Fields by dotted path; absent ones and empty lists are left out.
fn flat(value: Option<Value>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    flatten("", &value.unwrap_or(Value::Null), &mut out);
    out
}

fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, out);
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) if items.iter().all(|i| !i.is_object()) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            out.insert(path.into(), format!("[{}]", items.join(" ")));
        }
        other => drop(out.insert(path.into(), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
