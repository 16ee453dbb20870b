//! Signed, versioned records: exact bytes, clock, merges, without I/O.
//!
//! What brokers share durably is a set of records. A record is written and signed by one key,
//! then stored and forwarded as the exact bytes that were received, so that every broker can check
//! it without trusting the broker it came from. Two copies of the set are brought together by
//! merging record by record; merging is commutative, associative and idempotent, so the order and
//! the number of deliveries do not matter.
//!
//! | module | subject |
//! |---|---|
//! | [`key`] | Ed25519 keys and signatures |
//! | [`hlc`] | the hybrid logical clock that orders writes |
//! | [`record`] | what a record says |
//! | [`codec`] | the record's canonical bytes |
//! | [`signed`] | bytes, meaning, hash and signature held together |
//! | [`mod@merge`] | which of two records of one key stands |
//! | [`authority`] | who may state what, asked of those who know the bodies |
//! | [`digest`] | finding out what two sets differ in |
//! | [`set`] | all statements of a store, and which are visible |
//! | [`message`] | what two stores say to each other |
//! | [`outbox`], [`backoff`] | what a peer has not acknowledged, and when it is tried again |
//! | [`compare`], [`serve`] | one comparison of two stores, at either side |
//! | [`federation`], [`peer`] | one store among its peers |
//! | [`time`] | the clocks that are handed in |
//! | [`log`] | the store's own account of what it applied |
//!
//! Nothing here reads a clock, a socket or a file, and nothing here reads the body of a record,
//! with one exception that [`mod@merge`] explains: the expiry that kinds with
//! [`merge::Rule::LatestExpiryWins`] put in front.

pub mod authority;
pub mod backoff;
pub mod codec;
pub mod compare;
pub mod digest;
pub mod federation;
pub mod hlc;
pub mod key;
pub mod log;
pub mod merge;
pub mod message;
pub mod outbox;
pub mod peer;
pub mod record;
pub mod serve;
pub mod set;
pub mod signed;
pub mod time;

pub use authority::{Authority, Judgement};
pub use codec::{MAX_RECORD_BYTES, RecordError};
pub use federation::Federation;
pub use hlc::{Hlc, HlcClock, HlcError};
pub use key::{KeyError, PublicKey, SigningKey};
pub use log::LogEntry;
pub use merge::{MergeOutcome, TOMBSTONE_LIFE, merge};
pub use record::{Body, Kind, Record, RecordKey};
pub use set::StatementSet;
pub use signed::SignedRecord;
pub use time::Now;
