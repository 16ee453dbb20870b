//! Statements about members, rights and applications' records: what would be stated, by which key, and the
//! signed records.
//!
//! Unlike entries ([`super::plan`]) they are no part of registry files, and some are stated although the same
//! is visible already: what one key had stated and another takes over.

use super::commit::Author;
use super::entry::{Content, EntryKey};
use super::held::Held;
use super::plan::{added, differences};
use super::shown;
use super::sign::{SignError, Signer, Stamp};
pub use nearmost_replica::Record;
use nearmost_replica::{Body, Kind, RecordKey, SignedRecord};
use nearmost_wire::identity::{Id, IdError, KeyPair};
use nearmost_wire::name::NameError;
use nearmost_wire::registry::{BODY_VERSION, PersonBody, RightsError};
use serde_json::Value;
use std::fmt;

/// What happens to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is new.
    Add,
    /// It says something else.
    Change,
    /// It goes.
    Remove,
    /// It says the same already.
    Unchanged,
    /// Another key states what is there.
    Keep,
}

/// Whose key states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Of whoever makes the change.
    Author,
    /// The one that takes its place.
    Heir,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// About what.
    pub about: RecordKey,
    /// That for people: `peer bob (nb1…)`.
    pub what: String,
    /// What happens to it.
    pub step: Step,
    /// `admin: false → true`
    pub differences: Vec<String>,
    body: Body,
    by: By,
}

/// Why there is nothing to state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No member has this name.
    #[error("there is no peer {name:?}{}", known(.members))]
    NoPeer {
        /// As given.
        name: String,
        /// The names that there are.
        members: Vec<String>,
    },
    /// Several have.
    #[error("several peers are called {name:?}, name one by its id: {}", .ids.join(", "))]
    Ambiguous {
        /// As given.
        name: String,
        /// Theirs.
        ids: Vec<String>,
    },
    /// The thing is not there.
    #[error("there is no {0}")]
    NotThere(String),
    /// It makes no sense.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An id is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Somebody else owns the domain.
    #[error("{domain} is owned by {owner}")]
    Owned {
        /// The domain.
        domain: String,
        /// Its owner.
        owner: String,
    },
    /// A body for which a record has no room.
    #[error("the body of {what} has {found} bytes; the largest that fits has {room}")]
    TooLong {
        /// The record.
        what: String,
        /// Bytes given.
        found: usize,
        /// Bytes that fit.
        room: usize,
    },
    /// What was given makes no sense.
    #[error("{0}")]
    Refused(String),
    /// A body that JSON has no form for.
    #[error("{what}: {source}")]
    Body {
        /// The thing.
        what: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

fn known(members: &[String]) -> String {
    match members {
        [] => "; this broker has none".into(),
        all => format!("; there are {}", all.join(", ")),
    }
}

/// All that is stated in one commit, in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementPlan {
    /// The statements.
    pub statements: Vec<Statement>,
    /// What is allowed, and might be a slip.
    pub warnings: Vec<String>,
}

impl StatementPlan {
    /// Lets a thing say this; nothing is stated where it says so already.
    pub(super) fn put(&mut self, held: &Held, about: RecordKey, what: String, bytes: Vec<u8>) {
        let before = held.live(&about).map(|signed| signed.record().body.clone());
        self.put_over(before.as_ref(), about, what, bytes);
    }

    /// The same for a thing that says `before`, whatever is visible of it.
    pub(super) fn put_over(&mut self, before: Option<&Body>, about: RecordKey, what: String, bytes: Vec<u8>) {
        let body = live(bytes);
        let step = match before {
            None => Step::Add,
            Some(before) if *before == body => Step::Unchanged,
            Some(_) => Step::Change,
        };
        let differences = steps(about.kind, step, before, &body);
        self.statements.push(Statement { about, what, step, differences, body, by: By::Author });
    }

    /// Lets a thing be gone.
    ///
    /// # Errors
    /// [`StateError::NotThere`].
    pub(super) fn remove(&mut self, held: &Held, about: RecordKey, what: String) -> Result<(), StateError> {
        match held.live(&about) {
            None => Err(StateError::NotThere(what)),
            Some(_) => {
                self.end(about, what);
                Ok(())
            }
        }
    }

    /// Lets a thing be gone that is there, whatever is visible of it.
    pub(super) fn end(&mut self, about: RecordKey, what: String) {
        let (step, body) = (Step::Remove, Body::Tombstone);
        self.statements.push(Statement { about, what, step, differences: Vec::new(), body, by: By::Author });
    }

    /// Has another key state what somebody stated, in the same bytes.
    pub(super) fn keep(&mut self, signed: &SignedRecord, by: By) {
        let Record { body, .. } = signed.record();
        let about = signed.record().key();
        let what = noun(&about);
        let differences = match body {
            Body::Live { .. } => Vec::new(),
            Body::Tombstone => vec!["its removal".into()],
        };
        let body = body.clone();
        self.statements.push(Statement { about, what, step: Step::Keep, differences, body, by });
    }

    /// Whether nothing has to be stated.
    pub fn is_empty(&self) -> bool {
        self.writes().next().is_none()
    }

    fn writes(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|s| s.step != Step::Unchanged)
    }

    /// The signed records; those that make `enrolled` keys known go first.
    ///
    /// # Errors
    /// [`SignError`].
    pub(super) fn sign(
        &self,
        held: &Held,
        author: &Author<'_>,
        heir: Option<&KeyPair>,
        enrolled: &[&KeyPair],
        stamp: Stamp,
    ) -> Result<Vec<SignedRecord>, SignError> {
        let mut signer = Signer::new(held.hlc, stamp);
        let mut out = Vec::new();
        for key in enrolled {
            let entry = EntryKey::person(&key.id());
            let content = Content::Person(PersonBody { name: author.name.into() });
            let bytes = content.to_json().map_err(|source| SignError::Body { key: entry.clone(), source })?;
            let body = live(bytes);
            out.push(signed(&mut signer, key, entry.record_key(), &entry.to_string(), body)?);
        }
        for said in self.writes() {
            let key = match said.by {
                By::Author => author.key,
                By::Heir => heir.unwrap_or(author.key),
            };
            out.push(signed(&mut signer, key, said.about.clone(), &said.what, said.body.clone())?);
        }
        Ok(out)
    }
}

fn signed(
    signer: &mut Signer,
    key: &KeyPair,
    about: RecordKey,
    what: &str,
    body: Body,
) -> Result<SignedRecord, SignError> {
    let signed = signer.sign(key, about, body);
    signed.map_err(|e| SignError::Record { what: what.into(), source: Box::new(e) })
}

impl fmt::Display for Statement {
    /// `~ peer bob (nb1…)  admin: false → true`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.step {
            Step::Add => '+',
            Step::Change => '~',
            Step::Remove => '-',
            Step::Unchanged | Step::Keep => '=',
        };
        write!(f, "{sign} {}", self.what)?;
        match (self.step, self.differences.as_slice()) {
            (Step::Keep, []) => f.write_str("  kept: stated anew"),
            (Step::Keep, which) => write!(f, "  kept: {} stated anew", which.join(", ")),
            (Step::Change, []) => f.write_str("  says something else"),
            (_, []) => Ok(()),
            (_, all) => write!(f, "  {}", all.join(", ")),
        }
    }
}

impl fmt::Display for StatementPlan {
    /// The diff, a line each, without what stays as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writes().try_for_each(|said| writeln!(f, "{said}"))
    }
}

/// What a written record of no entry did, as a diff has it.
pub(super) fn told(signed: &SignedRecord, previous: Option<&SignedRecord>) -> String {
    let (said, before) = (signed.record(), previous.map(|p| &p.record().body));
    let before = before.filter(|body| bytes(body).is_some());
    let step = match (before, &said.body) {
        (None, Body::Live { .. }) => Step::Add,
        (Some(before), body) if before == body => Step::Unchanged,
        (Some(_), Body::Live { .. }) => Step::Change,
        (_, Body::Tombstone) => Step::Remove,
    };
    let about = said.key();
    let (what, differences) = (noun(&about), steps(about.kind, step, before, &said.body));
    Statement { about, what, step, differences, body: said.body.clone(), by: By::Author }.to_string()
}

fn steps(kind: Kind, step: Step, before: Option<&Body>, after: &Body) -> Vec<String> {
    match (step, before) {
        (Step::Add, _) => added(Some(value(kind, after)), Value::Null),
        (Step::Change, Some(before)) => differences(Some(value(kind, before)), Some(value(kind, after))),
        _ => Vec::new(),
    }
}

/// A thing for people.
pub(super) fn noun(about: &RecordKey) -> String {
    if let Some(entry) = EntryKey::of_record(about.clone()) {
        return entry.to_string();
    }
    match (super::app::AppKind::of(about.kind), about.scope.as_str(), about.id.as_str()) {
        (Some(kind), scope, id) => format!("record {scope}/{id} of kind {kind}"),
        (None, scope, "") => format!("{} {scope}", about.kind),
        (None, "", id) => format!("{} {id}", about.kind),
        (None, scope, id) => format!("{} {scope}/{id}", about.kind),
    }
}

/// A body as diffs show it.
fn value(kind: Kind, body: &Body) -> Value {
    match body {
        Body::Live { bytes, .. } => shown::statement(kind, bytes),
        Body::Tombstone => Value::Null,
    }
}

/// A body of today's version.
pub fn live(bytes: Vec<u8>) -> Body {
    Body::Live { version: BODY_VERSION, bytes }
}

/// What a live body says.
pub fn bytes(body: &Body) -> Option<&[u8]> {
    match body {
        Body::Live { bytes, .. } => Some(bytes),
        Body::Tombstone => None,
    }
}

/// A thing's key.
pub(super) fn about(kind: Kind, scope: &str, id: &str) -> RecordKey {
    RecordKey { kind, scope: scope.into(), id: id.into() }
}

/// The thing that is about an id.
pub(super) fn about_id(kind: Kind, scope: &str, id: &Id) -> RecordKey {
    about(kind, scope, &id.to_string())
}
