//! From a plan to signed records.
//!
//! Each record's moment is after the broker's newest and after the one before, and not before this
//! machine's clock, so that it wins over everything the person has seen.
//!
//! A person may sign at two brokers that do not see each other, and no number may be used twice. So no
//! broker is asked for the next one: the epoch is the time in seconds, and within it each commit counts up
//! from a number drawn at random.

use super::entry::{Content, EntryKey};
use super::plan::Plan;
use super::view::RegistryView;
use crate::clock::now_unix_ms;
use crate::error::ClientError;
use crate::http::random;
use data_encoding::BASE64;
use nearmost_replica::{
    Body, Hlc, HlcClock, PublicKey, Record, RecordError, RecordKey, SignedRecord, SigningKey, hlc,
};
use nearmost_wire::api::RecordView;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::registry::{BODY_VERSION, PersonBody};

/// Why a plan cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// An entry does not fit into a record.
    #[error("{what}: {source}")]
    Record {
        /// The entry.
        what: String,
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
}

/// When something is signed, and the first of the numbers that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Unix milliseconds.
    pub now_unix_ms: u64,
    /// The sequence number of the first record, below 2⁶³.
    pub first_seq: u64,
}

impl Stamp {
    /// By the machine's clock and source of randomness.
    ///
    /// # Errors
    /// [`ClientError::Random`].
    pub fn now() -> Result<Stamp, ClientError> {
        Ok(Stamp { now_unix_ms: now_unix_ms(), first_seq: u64::from_le_bytes(random()?) >> 1 })
    }

    /// The epoch of what is signed then: seconds since 1970.
    pub fn epoch(&self) -> u32 {
        u32::try_from(self.now_unix_ms / 1000).unwrap_or(u32::MAX)
    }
}

/// Signs the records of one commit, one after the other.
#[derive(Debug)]
pub struct Signer {
    clock: HlcClock,
    stamp: Stamp,
    next_seq: u64,
}

impl Signer {
    /// Whose records come after `newest`.
    pub fn new(newest: Hlc, stamp: Stamp) -> Signer {
        Signer { clock: HlcClock::new(newest, hlc::DEFAULT_MAX_AHEAD), stamp, next_seq: stamp.first_seq }
    }

    /// The next record, stated by `key`.
    ///
    /// # Errors
    /// [`RecordError`]: it is too long.
    pub fn sign(&mut self, key: &KeyPair, about: RecordKey, body: Body) -> Result<SignedRecord, RecordError> {
        let record = Record {
            kind: about.kind,
            scope: about.scope,
            id: about.id,
            body,
            hlc: self.clock.tick(self.stamp.now_unix_ms),
            author: PublicKey(key.id().key),
            author_epoch: self.stamp.epoch(),
            author_seq: self.next_seq,
            grants: Vec::new(),
        };
        // No commit has 2⁶³ records.
        self.next_seq = self.next_seq.wrapping_add(1);
        SignedRecord::sign(record, &SigningKey::from_seed(&key.seed()))
    }
}

/// Signs what `plan` writes. With `enrol`, a record that makes the person known under that name goes first.
///
/// # Errors
/// [`SignError`].
pub fn sign(
    plan: &Plan,
    view: &RegistryView,
    key: &KeyPair,
    enrol: Option<&str>,
    stamp: Stamp,
) -> Result<Vec<SignedRecord>, SignError> {
    let id = key.id();
    let mut signer = Signer::new(view.hlc, stamp);
    let own = EntryKey::person(&id);
    let person = enrol.map(|name| Content::Person(PersonBody { name: name.into() }));
    let enrolment = person.as_ref().map(|content| (&own, Some(content)));
    let mut signed = Vec::new();
    for (entry, content) in enrolment.into_iter().chain(plan.writes()) {
        let maker = view.maker(entry).unwrap_or(id).to_string();
        let body = body(entry, content, maker)?;
        let record = signer.sign(key, entry.record_key(), body);
        signed.push(record.map_err(|e| SignError::Record { what: entry.to_string(), source: Box::new(e) })?);
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
