//! From a plan to signed records.
//!
//! Each record's moment is after the broker's newest and after the one before, and not before this
//! machine's clock, so that it wins over everything the person has seen. Sequence numbers continue
//! the author's own count, which the broker told.

use super::entry::{Content, EntryKey};
use super::plan::Plan;
use super::view::RegistryView;
use data_encoding::BASE64;
use nearmost_replica::{Body, HlcClock, PublicKey, Record, RecordError, SignedRecord, SigningKey, hlc};
use nearmost_wire::api::RecordView;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::registry::{BODY_VERSION, PersonBody};

/// Why a plan cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// An entry does not fit into a record.
    #[error("{key}: {source}")]
    Record {
        /// The entry.
        key: EntryKey,
        /// What is wrong.
        source: Box<RecordError>,
    },
    /// A body that JSON has no form for.
    #[error("{key}: {source}")]
    Body {
        /// The entry.
        key: EntryKey,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The author's numbers are used up.
    #[error("this key has no sequence numbers left in its epoch")]
    Exhausted,
}

/// Signs what `plan` writes, at `now_unix_ms`. With `enrol`, a record that makes the person known
/// under that name goes first.
///
/// # Errors
/// [`SignError`].
pub fn sign(
    plan: &Plan,
    view: &RegistryView,
    key: &KeyPair,
    enrol: Option<&str>,
    now_unix_ms: u64,
) -> Result<Vec<SignedRecord>, SignError> {
    let id = key.id();
    let signing = SigningKey::from_seed(&key.seed());
    let author = PublicKey(key.id().key);
    let mut clock = HlcClock::new(view.hlc, hlc::DEFAULT_MAX_AHEAD);
    let own = EntryKey::person(&key.id());
    let person = enrol.map(|name| Content::Person(PersonBody { name: name.into() }));
    let enrolment = person.as_ref().map(|content| (&own, Some(content)));
    let mut seq = view.author_next_seq;
    let mut signed = Vec::new();
    for (key, content) in enrolment.into_iter().chain(plan.writes()) {
        let maker = view.maker(key).unwrap_or(id).to_string();
        let body = body(key, content, maker)?;
        let record_key = key.record_key();
        let record = Record {
            kind: record_key.kind,
            scope: record_key.scope,
            id: record_key.id,
            body,
            hlc: clock.tick(now_unix_ms),
            author,
            author_epoch: view.author_epoch,
            author_seq: seq,
            grants: Vec::new(),
        };
        seq = seq.checked_add(1).ok_or(SignError::Exhausted)?;
        signed.push(
            SignedRecord::sign(record, &signing)
                .map_err(|e| SignError::Record { key: key.clone(), source: Box::new(e) })?,
        );
    }
    Ok(signed)
}

fn body(key: &EntryKey, content: Option<&Content>, maker: String) -> Result<Body, SignError> {
    let Some(content) = content else { return Ok(Body::Tombstone) };
    let content = match content.made_by() {
        Some(_) => content.clone(),
        None => content.clone().with_maker(Some(maker)),
    };
    let bytes = content.to_json().map_err(|source| SignError::Body { key: key.clone(), source })?;
    Ok(Body::Live { version: BODY_VERSION, bytes })
}

/// A record as the API carries it.
pub fn to_view(signed: &SignedRecord) -> RecordView {
    RecordView { record: BASE64.encode(signed.bytes()) }
}
