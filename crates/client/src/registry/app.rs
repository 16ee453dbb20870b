//! Records of applications: their kinds as people write them, what fits, and what is stated.

use super::held::Held;
use super::statements::{StateError, StatementPlan, about, noun};
use data_encoding::BASE64;
use nearmost_replica::codec::MAX_RECORD_BYTES;
use nearmost_replica::hlc::Hlc;
use nearmost_replica::merge::{Rule, expiry_unix_ms};
use nearmost_replica::{Body, Kind, PublicKey, Record, RecordError, RecordKey, SignedRecord, SigningKey};
use nearmost_wire::api::AppRecordView;
use nearmost_wire::name;
use nearmost_wire::registry::BODY_VERSION;
use std::fmt;
use std::str::FromStr;

/// What stands before the body in kinds that restrict.
pub const EXPIRY_BYTES: usize = 8;

/// How an application's records merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppRule {
    /// The later write.
    #[default]
    LastWriter,
    /// Removal, whenever it was written.
    RemovalWins,
    /// The later write, and of two at one moment the one that lasts longer; it ends by itself.
    Restrictive,
}

impl AppRule {
    /// Every one.
    pub const ALL: [AppRule; 3] = [AppRule::LastWriter, AppRule::RemovalWins, AppRule::Restrictive];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            AppRule::LastWriter => "last-writer",
            AppRule::RemovalWins => "removal-wins",
            AppRule::Restrictive => "restrictive",
        }
    }

    fn rule(self) -> Rule {
        match self {
            AppRule::LastWriter => Rule::RemovalWins,
            AppRule::RemovalWins => Rule::RemovalFinal,
            AppRule::Restrictive => Rule::LatestExpiryWins,
        }
    }
}

/// An application's kind: `5`, `removal-wins:5`, `restrictive:5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppKind {
    /// How its records merge.
    pub rule: AppRule,
    number: u16,
}

/// Why a text is no application's kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no kind of an application: expected a number up to 4095, before it removal-wins: or restrictive: \
     where it merges like that"
)]
pub struct AppKindError(String);

impl AppKind {
    /// The kind with this number, at most 4095.
    pub fn new(rule: AppRule, number: u16) -> Option<AppKind> {
        (number < Kind::APPLICATION).then_some(AppKind { rule, number })
    }

    /// The kind of a record, where it is an application's.
    pub fn of(kind: Kind) -> Option<AppKind> {
        let rule = AppRule::ALL.into_iter().find(|rule| rule.rule() == Rule::of(kind))?;
        let found = AppKind { rule, number: kind.0 & (Kind::APPLICATION - 1) };
        (found.kind() == kind).then_some(found)
    }

    /// The kind with this whole number, as the API has it.
    pub fn of_number(number: u16) -> Option<AppKind> {
        AppKind::of(Kind(number))
    }

    /// Its number with the bits that say how it merges.
    pub fn whole_number(self) -> u16 {
        self.kind().0
    }

    /// The same number with another rule.
    #[must_use]
    pub fn with_rule(self, rule: AppRule) -> AppKind {
        AppKind { rule, ..self }
    }

    fn kind(self) -> Kind {
        // The number is in range, and each of these rules is one of applications.
        Kind::application(self.rule.rule(), self.number).unwrap_or(Kind(Kind::APPLICATION | self.number))
    }
}

impl FromStr for AppKind {
    type Err = AppKindError;

    fn from_str(text: &str) -> Result<AppKind, AppKindError> {
        let wrong = || AppKindError(text.into());
        let (rule, number) = match text.split_once(':') {
            Some((rule, number)) => {
                let rule = AppRule::ALL.into_iter().find(|r| r.as_str() == rule).ok_or_else(wrong)?;
                (rule, number)
            }
            None => (AppRule::default(), text),
        };
        let number = number.parse().map_err(|_| wrong())?;
        AppKind::new(rule, number).ok_or_else(wrong)
    }
}

impl fmt::Display for AppKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            AppRule::LastWriter => write!(f, "{}", self.number),
            rule => write!(f, "{}:{}", rule.as_str(), self.number),
        }
    }
}

/// Which record of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppKey {
    domain: String,
    kind: AppKind,
    id: String,
}

impl AppKey {
    /// The record of this kind and id in a domain, whose name is made canonical.
    ///
    /// # Errors
    /// [`StateError::Name`], and [`StateError::Refused`] for an empty id.
    pub fn new(domain: &str, kind: AppKind, id: &str) -> Result<AppKey, StateError> {
        match id {
            "" => Err(StateError::Refused("the record's id is empty".into())),
            id => Ok(AppKey { domain: name::domain(domain)?, kind, id: id.into() }),
        }
    }

    fn about(&self) -> RecordKey {
        about(self.kind.kind(), &self.domain, &self.id)
    }

    /// How many bytes of body fit into its record, beside the expiry where its kind has one.
    ///
    /// # Errors
    /// [`RecordError`]: its id is too long by itself.
    pub fn room(&self) -> Result<usize, RecordError> {
        let signing = SigningKey::from_seed(&[0; 32]);
        let RecordKey { kind, scope, id } = self.about();
        let bytes = vec![0; if self.kind.rule == AppRule::Restrictive { EXPIRY_BYTES } else { 0 }];
        let empty = Record {
            kind,
            scope,
            id,
            body: Body::Live { version: BODY_VERSION, bytes },
            hlc: Hlc::default(),
            author: PublicKey(signing.public().0),
            author_epoch: 0,
            author_seq: 0,
            grants: Vec::new(),
        };
        Ok(MAX_RECORD_BYTES - SignedRecord::sign(empty, &signing)?.bytes().len())
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&noun(&self.about()))
    }
}

/// The body of a record without the expiry, and that in Unix milliseconds where the kind has one;
/// `u64::MAX` is for ever.
fn split(kind: AppKind, bytes: &[u8]) -> (Option<u64>, &[u8]) {
    match kind.rule {
        AppRule::Restrictive => (Some(expiry_unix_ms(bytes)), bytes.get(EXPIRY_BYTES..).unwrap_or_default()),
        _ => (None, bytes),
    }
}

/// Lets a record hold this body; kinds that restrict until then, in Unix milliseconds, or for ever.
///
/// # Errors
/// [`StateError::TooLong`]; [`StateError::Refused`] for an end of a kind that has none.
pub fn put(
    held: &Held,
    key: &AppKey,
    body: &[u8],
    until_unix_ms: Option<u64>,
) -> Result<StatementPlan, StateError> {
    let room = key.room().map_err(|e| StateError::Refused(format!("{key}: {e}")))?;
    if body.len() > room {
        return Err(StateError::TooLong { what: key.to_string(), found: body.len(), room });
    }
    let mut bytes = Vec::with_capacity(EXPIRY_BYTES + body.len());
    let mut plan = StatementPlan::default();
    match (key.kind.rule, until_unix_ms) {
        (AppRule::Restrictive, until) => {
            bytes.extend(until.unwrap_or(u64::MAX).to_be_bytes());
            if until.is_some_and(|until| until <= held.now_unix_ms) {
                plan.warnings.push(format!("{key} has ended already"));
            }
        }
        (rule, Some(_)) => {
            let rule = rule.as_str();
            return Err(StateError::Refused(format!(
                "records of {rule} kinds have no end, only restrictive ones"
            )));
        }
        (_, None) => {}
    }
    bytes.extend_from_slice(body);
    plan.put(held, key.about(), key.to_string(), bytes);
    Ok(plan)
}

/// Removes a record.
///
/// # Errors
/// [`StateError::Refused`] names other kinds that have this id where this one has not.
pub fn remove(held: &Held, key: &AppKey) -> Result<StatementPlan, StateError> {
    let mut plan = StatementPlan::default();
    let others: Vec<String> = held
        .in_scope(&key.domain)
        .map(SignedRecord::record)
        .filter(|r| r.id == key.id && !r.is_tombstone())
        .filter_map(|r| AppKind::of(r.kind))
        .map(|kind| kind.to_string())
        .collect();
    match plan.remove(held, key.about(), key.to_string()) {
        Err(e) if !others.is_empty() => {
            Err(StateError::Refused(format!("{e}; there is one of kind {}", others.join(" and of kind "))))
        }
        done => done.map(|()| plan),
    }
}

/// A record as the API tells it, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRecord {
    /// Its kind as people write it.
    pub kind: String,
    /// Its body without the expiry; `None` where it was removed.
    pub body: Option<Vec<u8>>,
    /// Of kinds that restrict: until when, Unix milliseconds; `u64::MAX` is for ever.
    pub until_unix_ms: Option<u64>,
}

/// The body of a record as the API tells it is not base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker's answer: the body of record {0:?} is not base64")]
pub struct NotBase64(String);

impl AppRecord {
    /// Reads it.
    ///
    /// # Errors
    /// [`NotBase64`].
    pub fn of(view: &AppRecordView) -> Result<AppRecord, NotBase64> {
        let decode = |text: &String| BASE64.decode(text.as_bytes()).map_err(|_| NotBase64(view.id.clone()));
        let bytes = view.body.as_ref().map(decode).transpose()?;
        let Some(kind) = AppKind::of_number(view.kind) else {
            return Ok(AppRecord { kind: format!("{:#06x}", view.kind), body: bytes, until_unix_ms: None });
        };
        let (until_unix_ms, body) = match &bytes {
            Some(bytes) => split(kind, bytes),
            None => (None, &[][..]),
        };
        Ok(AppRecord { kind: kind.to_string(), until_unix_ms, body: bytes.is_some().then(|| body.to_vec()) })
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
