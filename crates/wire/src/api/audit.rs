//! The audit log: who did what, when, what was there before and after; and levels of the logs.
//!
//! ```text
//! hash 0 ──┐ entry 1 ──> hash 1 ──┐ entry 2 ──> hash 2 …
//!          └─────────────────────^└─────────────────────^
//! ```
//! Entries are numbered from 1, and each has the hash of the one before in its own: who changes, removes or
//! inserts one changes every hash after it. The hash is over the exact bytes of the entry's JSON, so these are
//! carried as they are.
//!
//! What agents did of their own accord is forgotten sooner than what people did, so entries may be missing
//! within the chain. Of such a gap the hash of its last entry is kept, so that the chain goes on, and a later
//! entry ([`PRUNED`]) tells of every number that was taken out: a gap that none tells of was made by somebody
//! else.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a chain's first entry follows.
pub const NO_ENTRY: [u8; 32] = [0; 32];
/// The act of taking entries of agents out of the chain.
pub const PRUNED: &str = "audit.prune";
/// Tells these hashes from all others.
const TAG: &[u8] = b"nearmost audit 1\0";

/// The hash of an entry: of its number, its exact JSON, and the hash of the one before it.
pub fn audit_hash(previous: &[u8; 32], number: u64, json: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(TAG).chain_update(previous).chain_update(number.to_be_bytes());
    hash.chain_update(json).finalize().into()
}

api! {
/// One administrative act, or a part of a large one.
pub struct AuditEntry {
    /// When the broker did or refused it, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Who: `np1…`, `token NAME`, `uid N`, `nn1…`, `nb1…`, or a signal's name.
    pub actor: String,
    /// Through what: `socket`, `loopback`, `public`, `signal`, `agents`, `peers`, `broker` or `command`.
    pub via: String,
    /// The address it came from, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What, as a bounded code: `mirror.change`, `invite.create`, `backup` …
    pub act: String,
    /// `done`, `refused` or `failed`.
    pub outcome: String,
    /// Why it was refused or failed: the API's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How many attempts the entry stands for: refused ones that repeat are written once for many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// What whoever did it said of it, or the broker does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The registry's version after it, where it changed the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Its number in the history, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Which part this is, of how many, where it is too large for one entry: `1/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What it is about, where that is no record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What it did to each record or setting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<AuditChange>,
}
}

fn one() -> u64 {
    1
}

fn is_one(count: &u64) -> bool {
    *count == 1
}

api! {
/// What an act did to one record or setting. Secrets are not in it: challenges are shown without their text,
/// applications' bodies by length and hash.
pub struct AuditChange {
    /// `mirror`, `drain`, … or `settings`.
    pub kind: String,
    /// Which: `play.example.com/lon`.
    pub name: String,
    /// Whose signature the record has: an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What was there; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub before: Option<Value>,
    /// What is there now; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub after: Option<Value>,
}
}

/// An entry with its place in the chain; one line of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditView {
    /// Counts up by one.
    pub number: u64,
    /// Hash of the entry before, in hexadecimal; zeros before the first.
    pub previous: String,
    /// This entry's hash: see the documentation of `nearmost audit`.
    pub hash: String,
    /// The entry, byte by byte as it was hashed; `null` for a gap.
    #[cfg_attr(feature = "openapi", schema(value_type = AuditEntry))]
    pub entry: Box<RawValue>,
    /// Of a gap the number of its first entry: those from there to `number` were forgotten, and `hash` is that
    /// of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_from: Option<u64>,
}

impl AuditView {
    /// The entry, typed.
    ///
    /// # Errors
    /// What is wrong with its JSON.
    pub fn read(&self) -> Result<AuditEntry, serde_json::Error> {
        serde_json::from_str(self.entry.get())
    }

    /// The hash that the entry should have, and the one it has; `None` where a hash is none.
    fn hashes(&self) -> Option<([u8; 32], [u8; 32])> {
        let previous = hash_of(&self.previous)?;
        Some((audit_hash(&previous, self.number, self.entry.get().as_bytes()), hash_of(&self.hash)?))
    }
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditResponse {
    /// Those asked for, oldest first.
    pub entries: Vec<AuditView>,
    /// Whether there are more after these.
    pub more: bool,
    /// What to ask for as `after` then.
    pub next_after: u64,
    /// Number of the last entry that was pruned; 0 where none was.
    pub anchor: u64,
    /// Its hash, in hexadecimal: what the oldest entry follows.
    pub anchor_hash: String,
    /// Number of the newest entry.
    pub head: u64,
    /// Its hash. Noted elsewhere it shows later that nothing up to it was changed or cut off.
    pub head_hash: String,
}

/// The numbers that an entry tells to have been forgotten: first and last of each run.
fn forgotten(view: &AuditView) -> Vec<(u64, u64)> {
    // Few entries are such; the others are not parsed.
    if !view.entry.get().contains(PRUNED) {
        return Vec::new();
    }
    let entry = view.read().ok().filter(|entry| entry.act == PRUNED && entry.outcome == "done");
    let run = |change: &AuditChange| {
        let (from, to) = change.name.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    entry.iter().flat_map(|entry| &entry.changes).filter_map(run).collect()
}

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry is not where it should be.
    #[error("entry {expected} is missing: {found} comes in its place")]
    Missing {
        /// Which should come.
        expected: u64,
        /// Which comes.
        found: u64,
    },
    /// An entry does not follow the one before it.
    #[error("entry {0} does not follow the entry before it: one of them is not what was written")]
    Cut(u64),
    /// An entry is not what was hashed.
    #[error("entry {0} is not what was written: its hash is another")]
    Changed(u64),
    /// Entries are missing and no entry tells that the broker forgot them.
    #[error("entries {from} to {to} are missing, and no entry tells that the broker forgot them")]
    Untold {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// Checks a chain entry by entry.
#[derive(Clone, Debug, Default)]
pub struct ChainCheck {
    last: Option<(u64, String)>,
    /// Entries that were checked.
    pub checked: u64,
    /// Entries that were forgotten within the chain.
    pub pruned: u64,
    /// First and last of each gap.
    gaps: Vec<(u64, u64)>,
    /// First and last of what entries tell to have been forgotten.
    told: Vec<(u64, u64)>,
}

impl ChainCheck {
    /// Checks that begin after an entry that is known: the anchor of what was pruned.
    pub fn after(number: u64, hash: impl Into<String>) -> ChainCheck {
        ChainCheck { last: Some((number, hash.into())), ..ChainCheck::default() }
    }

    /// Checks the next one. Without an anchor the first is taken at its word for what it follows.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn next(&mut self, view: &AuditView) -> Result<(), ChainError> {
        if let Some((number, hash)) = &self.last {
            let expected = number.saturating_add(1);
            let first = view.pruned_from.unwrap_or(view.number);
            if first != expected {
                return Err(ChainError::Missing { expected, found: first });
            }
            if !view.previous.eq_ignore_ascii_case(hash) {
                return Err(ChainError::Cut(view.number));
            }
        }
        match (view.pruned_from, view.hashes()) {
            (Some(from), Some(_)) if from <= view.number && view.entry.get() == "null" => {
                self.pruned += view.number - from + 1;
                self.gaps.push((from, view.number));
            }
            (None, Some((should, is))) if should == is => {
                self.checked += 1;
                self.told.extend(forgotten(view));
            }
            _ => return Err(ChainError::Changed(view.number)),
        }
        self.last = Some((view.number, view.hash.clone()));
        Ok(())
    }

    /// Whether entries tell of all that is missing within the chain; to be asked at its end, as they come later.
    ///
    /// # Errors
    /// [`ChainError::Untold`].
    pub fn all_told(&self) -> Result<(), ChainError> {
        let mut told = self.told.clone();
        told.sort_unstable();
        // What was forgotten bit by bit is one gap.
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in told {
            match joined.last_mut() {
                Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
                _ => joined.push((from, to)),
            }
        }
        // Both are in order, so one pass is enough.
        let mut joined = joined.into_iter().peekable();
        for &(from, to) in &self.gaps {
            while joined.next_if(|run| run.1 < to).is_some() {}
            if joined.peek().is_none_or(|run| run.0 > from) {
                return Err(ChainError::Untold { from, to });
            }
        }
        Ok(())
    }

    /// The last entry's number and hash; `None` before the first.
    pub fn head(&self) -> Option<(u64, &str)> {
        self.last.as_ref().map(|(number, hash)| (*number, hash.as_str()))
    }
}

api! {
/// `GET /v1/log-level`: what is logged at this moment.
pub struct LogLevelResponse {
    /// Of everything without a level of its own.
    pub level: String,
    /// Of targets (modules), the longest that fits wins.
    pub levels: BTreeMap<String, String>,
    /// Of these what was set while running, not by the configuration.
    pub set: Vec<LogLevelSet>,
    /// A filter from the environment stands in place of what the configuration says of levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}
}

api! {
/// A level that was set while running.
pub struct LogLevelSet {
    /// The target; empty for everything without a level of its own.
    pub target: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Until when, Unix milliseconds; absent: until it is reset or the broker ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_unix_ms: Option<u64>,
}
}

api! {
/// `PUT /v1/log-level`.
pub struct LogLevelRequest {
    /// Levels of targets; the empty one is everything without a level of its own.
    #[serde(default)]
    pub levels: BTreeMap<String, String>,
    /// Goes back by itself after so many seconds.
    #[serde(default)]
    pub for_s: Option<u64>,
    /// Forget first what was set before.
    #[serde(default)]
    pub reset: bool,
}
}

api! {
/// A time in which the broker did not look: it was not running.
pub struct RunGapView {
    /// When it was last known to run, Unix milliseconds.
    pub from_unix_ms: u64,
    /// When it started again.
    pub until_unix_ms: u64,
}
}

api! {
/// `GET /v1/events/history`.
pub struct EventsHistoryResponse {
    /// Transitions, oldest first.
    pub events: Vec<super::EventView>,
    /// Whether there are more after these; ask for those after `next_after`.
    pub more: bool,
    /// Up to which number was looked: a page may end before it is full, or without a transition. Older
    /// brokers do not tell it; it is the last one's number then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
    /// Of each mirror and family the last transition before `since_unix_ms`, of those that this page looked
    /// at; of several pages the last counts.
    pub before: Vec<super::EventView>,
    /// When the broker did not run, as far as that reaches into the time asked for.
    pub gaps: Vec<RunGapView>,
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    fn chain(texts: &[String]) -> Vec<AuditView> {
        let mut previous = NO_ENTRY;
        let link = |(at, text): (usize, &String)| {
            let json = serde_json::to_string(&serde_json::json!({ "note": text })).unwrap();
            let number = at as u64 + 1;
            let hash = audit_hash(&previous, number, json.as_bytes());
            let view = AuditView {
                number,
                previous: HEXLOWER.encode(&previous),
                hash: HEXLOWER.encode(&hash),
                entry: RawValue::from_string(json).unwrap(),
                pruned_from: None,
            };
            previous = hash;
            view
        };
        texts.iter().enumerate().map(link).collect()
    }

    fn check(views: &[AuditView]) -> Result<u64, ChainError> {
        let mut check = ChainCheck::after(0, HEXLOWER.encode(&NO_ENTRY));
        views.iter().try_for_each(|view| check.next(view))?;
        Ok(check.checked)
    }

    proptest! {
        #[test]
        fn a_chain_is_good_and_survives_its_lines_until_anything_is_changed(
            texts in proptest::collection::vec("[ -~]{0,12}", 2..8), at in 0_usize..7, how in 0_u8..4
        ) {
            let lines: Vec<String> =
                chain(&texts).iter().map(|view| serde_json::to_string(view).unwrap()).collect();
            let mut views: Vec<AuditView> =
                lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(check(&views), Ok(texts.len() as u64));
            let at = at % (views.len() - 1);
            match how {
                0 => views[at].entry = RawValue::from_string("{\"note\":\"\u{e9}\"}".into()).unwrap(),
                1 => drop(views.remove(at)),
                2 => views.swap(at, at + 1),
                _ => views[at].number += 1,
            }
            prop_assert!(check(&views).is_err());
        }
    }

    #[test]
    fn what_was_changed_is_named() {
        let texts: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let mut views = chain(&texts);
        // Whoever knows how hashes are made can make one that fits; the next entry betrays it.
        let json = r#"{"note":"forged"}"#;
        let previous = hash_of(&views[1].previous).unwrap();
        views[1].hash = HEXLOWER.encode(&audit_hash(&previous, 2, json.as_bytes()));
        views[1].entry = RawValue::from_string(json.into()).unwrap();
        assert_eq!(check(&views), Err(ChainError::Cut(3)));
        views.remove(1);
        assert_eq!(check(&views), Err(ChainError::Missing { expected: 2, found: 3 }));
    }

    #[test]
    fn a_gap_keeps_the_chain_and_is_good_only_where_an_entry_tells_of_it() {
        let tells = |runs: &[&str]| {
            let changes: Vec<_> =
                runs.iter().map(|run| serde_json::json!({ "kind": "audit", "name": run })).collect();
            serde_json::json!({
                "at_unix_ms": 1, "actor": "nearmost-broker", "via": "broker", "act": PRUNED,
                "outcome": "done", "changes": changes,
            })
            .to_string()
        };
        let mut previous = NO_ENTRY;
        let mut link = |number: u64, json: &str| {
            let hash = audit_hash(&previous, number, json.as_bytes());
            let view = AuditView {
                number,
                previous: HEXLOWER.encode(&previous),
                hash: HEXLOWER.encode(&hash),
                entry: RawValue::from_string(json.into()).unwrap(),
                pruned_from: None,
            };
            previous = hash;
            view
        };
        let mut views: Vec<AuditView> = (1..=5).map(|number| link(number, "{}")).collect();
        // 2 to 4 went in two steps.
        views.push(link(6, &tells(&["2-3"])));
        views.push(link(7, &tells(&["4-4"])));
        let gap = |views: &[AuditView], last: usize| AuditView {
            previous: views[1].previous.clone(),
            entry: RawValue::from_string("null".into()).unwrap(),
            pruned_from: Some(2),
            ..views[last].clone()
        };
        let run = |views: &[AuditView]| {
            let mut check = ChainCheck::after(0, HEXLOWER.encode(&NO_ENTRY));
            views.iter().try_for_each(|view| check.next(view))?;
            check.all_told().map(|()| (check.checked, check.pruned))
        };
        assert_eq!(run(&views), Ok((7, 0)));
        let good: Vec<_> = [&views[..1], &[gap(&views, 3)], &views[4..]].concat();
        assert_eq!(run(&good), Ok((4, 3)));
        let line = serde_json::to_string(&good[1]).unwrap();
        assert!(serde_json::from_str::<AuditView>(&line).unwrap().pruned_from == Some(2), "{line}");
        // More is missing than was told, or the gap is not where it should be.
        let wide: Vec<_> = [&views[..1], &[gap(&views, 4)], &views[5..]].concat();
        assert_eq!(run(&wide), Err(ChainError::Untold { from: 2, to: 5 }));
        assert_eq!(run(&good[1..]), Err(ChainError::Missing { expected: 1, found: 2 }));
        let mut forged = good.clone();
        forged[1].hash = HEXLOWER.encode(&[9; 32]);
        assert_eq!(run(&forged), Err(ChainError::Cut(5)));
        forged[1] = AuditView { entry: RawValue::from_string("{}".into()).unwrap(), ..good[1].clone() };
        assert_eq!(run(&forged), Err(ChainError::Changed(4)));
    }

    #[test]
    fn an_entry_is_short_where_nothing_is_to_be_said() {
        let entry = AuditEntry {
            at_unix_ms: 1,
            actor: "uid 0".into(),
            via: "socket".into(),
            source: None,
            act: "backup".into(),
            outcome: "done".into(),
            code: None,
            count: 1,
            note: String::new(),
            version: None,
            batch: None,
            part: None,
            target: String::new(),
            changes: Vec::new(),
        };
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            json,
            r#"{"at_unix_ms":1,"actor":"uid 0","via":"socket","act":"backup","outcome":"done"}"#
        );
        assert_eq!(serde_json::from_str::<AuditEntry>(&json).unwrap(), entry);
    }
}
