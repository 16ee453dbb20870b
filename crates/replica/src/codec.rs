//! The canonical bytes of a record. Integers are big-endian; there is one spelling for each record.
//!
//! ```text
//! format      u8    1
//! kind        u16
//! scope       u16 length, UTF-8
//! id          u16 length, UTF-8
//! hlc         u64 milliseconds, u16 counter
//! author      32 bytes
//! epoch, seq  u32, u64
//! grants      u8 count, 32 bytes each
//! body        u8 tag: 0 tombstone; 1 live, then u8 version, u16 length, bytes
//! signature   64 bytes, over SIGNED_TAG and everything above
//! ```

use crate::hlc::Hlc;
use crate::key::{KeyError, PublicKey, SIGNATURE_BYTES};
use crate::record::{Body, Kind, Record};

/// Longest record in bytes, signature included.
pub const MAX_RECORD_BYTES: usize = 4096;
/// Longest scope and longest id in bytes: a domain's name fits (RFC 1035 §2.3.4).
pub const MAX_NAME_BYTES: usize = 255;
/// Most grants in one record.
pub const MAX_GRANTS: usize = 16;
/// The version of this format.
pub const FORMAT: u8 = 1;
/// Stands before the record's bytes in what is signed, so that no other protocol's signature is
/// one of ours.
pub const SIGNED_TAG: &[u8] = b"nearmost record v1\0";

const TAG_TOMBSTONE: u8 = 0;
const TAG_LIVE: u8 = 1;

/// Why bytes are not a record, or a record has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD_BYTES`].
    #[error("a record of {found} bytes: at most {MAX_RECORD_BYTES} are allowed")]
    Oversized {
        /// Its length in bytes.
        found: usize,
    },
    /// The bytes end inside a field.
    #[error("the record ends inside its {field}: {needed} bytes needed at byte {at}, {left} left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Where the missing piece starts.
        at: usize,
        /// Bytes the piece takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Bytes follow the signature.
    #[error("{extra} bytes follow the record's end at byte {at}")]
    Trailing {
        /// Where the record ends.
        at: usize,
        /// How many bytes follow.
        extra: usize,
    },
    /// A format version of the future, or no record at all.
    #[error("the record's format version is {found}, this program knows {FORMAT}")]
    UnknownFormat {
        /// The version found.
        found: u8,
    },
    /// A field is longer than it may be.
    #[error("the record's {field} has {found} {unit}, at most {max} are allowed")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// How many of `unit`.
        found: usize,
        /// Most allowed.
        max: usize,
        /// `bytes` or `entries`.
        unit: &'static str,
    },
    /// A name is not UTF-8.
    #[error("the record's {field} is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// Where in the record.
        at: usize,
    },
    /// The body is neither live nor a tombstone.
    #[error("the record's body has the unknown tag {found} at byte {at}")]
    UnknownBody {
        /// The tag found.
        found: u8,
        /// Where in the record.
        at: usize,
    },
    /// Encoding what was decoded gives other bytes.
    #[error("the record is not in its canonical form: encoding it again gives other bytes")]
    NotCanonical,
    /// The record names another author than the key that should sign it.
    #[error("the record names the author {author}, the signing key is {key}")]
    WrongSigner {
        /// Named in the record.
        author: PublicKey,
        /// The key's public half.
        key: PublicKey,
    },
    /// The author's signature does not verify.
    #[error("the record's author is not proven: {0}")]
    Signature(#[from] KeyError),
}

/// The record's bytes without the signature.
///
/// # Errors
/// [`RecordError::FieldTooLong`], [`RecordError::Oversized`] (counting the signature to come).
pub(crate) fn encode_unsigned(record: &Record) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::with_capacity(256);
    out.push(FORMAT);
    out.extend_from_slice(&record.kind.0.to_be_bytes());
    put_prefixed(&mut out, "scope", record.scope.as_bytes(), MAX_NAME_BYTES)?;
    put_prefixed(&mut out, "id", record.id.as_bytes(), MAX_NAME_BYTES)?;
    out.extend_from_slice(&record.hlc.millis.to_be_bytes());
    out.extend_from_slice(&record.hlc.counter.to_be_bytes());
    out.extend_from_slice(&record.author.0);
    out.extend_from_slice(&record.author_epoch.to_be_bytes());
    out.extend_from_slice(&record.author_seq.to_be_bytes());
    put_grants(&mut out, &record.grants)?;
    match &record.body {
        Body::Tombstone => out.push(TAG_TOMBSTONE),
        Body::Live { version, bytes } => {
            out.extend_from_slice(&[TAG_LIVE, *version]);
            put_prefixed(&mut out, "body", bytes, MAX_RECORD_BYTES)?;
        }
    }
    check_size(out.len() + SIGNATURE_BYTES)?;
    Ok(out)
}

/// What the author signs: the tag and the bytes without the signature.
pub(crate) fn signed_message(unsigned: &[u8]) -> Vec<u8> {
    [SIGNED_TAG, unsigned].concat()
}

/// Reads exact bytes: the record, and where its signature starts. The signature is not checked.
///
/// # Errors
/// Every structural variant of [`RecordError`].
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record, [u8; SIGNATURE_BYTES]), RecordError> {
    check_size(bytes.len())?;
    let mut input = Reader { bytes, at: 0 };
    let format = input.u8("format version")?;
    if format != FORMAT {
        return Err(RecordError::UnknownFormat { found: format });
    }
    let record = Record {
        kind: Kind(input.u16("kind")?),
        scope: input.name("scope")?,
        id: input.name("id")?,
        hlc: Hlc { millis: input.u64("clock")?, counter: input.u16("clock")? },
        author: PublicKey(input.array("author")?),
        author_epoch: u32::from_be_bytes(input.array("author's epoch")?),
        author_seq: input.u64("author's sequence")?,
        grants: input.grants()?,
        body: input.body()?,
    };
    let signature = input.array("signature")?;
    input.end()?;
    // The fields above leave no room for a second spelling; this holds that for fields to come.
    if encode_unsigned(&record)?[..] != bytes[..bytes.len() - SIGNATURE_BYTES] {
        return Err(RecordError::NotCanonical);
    }
    Ok((record, signature))
}

fn check_size(found: usize) -> Result<(), RecordError> {
    if found > MAX_RECORD_BYTES { Err(RecordError::Oversized { found }) } else { Ok(()) }
}

fn check_len(field: &'static str, found: usize, max: usize, unit: &'static str) -> Result<(), RecordError> {
    if found > max { Err(RecordError::FieldTooLong { field, found, max, unit }) } else { Ok(()) }
}

fn put_prefixed(out: &mut Vec<u8>, field: &'static str, bytes: &[u8], max: usize) -> Result<(), RecordError> {
    match u16::try_from(bytes.len()) {
        Ok(len) if bytes.len() <= max => {
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(bytes);
            Ok(())
        }
        _ => Err(RecordError::FieldTooLong { field, found: bytes.len(), max, unit: "bytes" }),
    }
}

fn put_grants(out: &mut Vec<u8>, grants: &[[u8; 32]]) -> Result<(), RecordError> {
    check_len("grants", grants.len(), MAX_GRANTS, "entries")?;
    // At most MAX_GRANTS, so it fits.
    out.push(grants.len() as u8);
    grants.iter().for_each(|grant| out.extend_from_slice(grant));
    Ok(())
}

/// Takes fields off the front and remembers where it is.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], RecordError> {
        let rest = &self.bytes[self.at..];
        let truncated = RecordError::Truncated { field, at: self.at, needed, left: rest.len() };
        let piece = rest.get(..needed).ok_or(truncated)?;
        self.at += needed;
        Ok(piece)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, RecordError> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    fn prefixed(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], RecordError> {
        let len = usize::from(self.u16(field)?);
        check_len(field, len, max, "bytes")?;
        self.take(field, len)
    }

    fn name(&mut self, field: &'static str) -> Result<String, RecordError> {
        let bytes = self.prefixed(field, MAX_NAME_BYTES)?;
        let start = self.at - bytes.len();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(e) => Err(RecordError::NotUtf8 { field, at: start + e.valid_up_to() }),
        }
    }

    fn grants(&mut self) -> Result<Vec<[u8; 32]>, RecordError> {
        let count = usize::from(self.u8("grants")?);
        check_len("grants", count, MAX_GRANTS, "entries")?;
        (0..count).map(|_| self.array("grants")).collect()
    }

    fn body(&mut self) -> Result<Body, RecordError> {
        match self.u8("body")? {
            TAG_TOMBSTONE => Ok(Body::Tombstone),
            TAG_LIVE => {
                let version = self.u8("body")?;
                Ok(Body::Live { version, bytes: self.prefixed("body", MAX_RECORD_BYTES)?.to_vec() })
            }
            found => Err(RecordError::UnknownBody { found, at: self.at - 1 }),
        }
    }

    fn end(&self) -> Result<(), RecordError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(RecordError::Trailing { at: self.at, extra }),
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
