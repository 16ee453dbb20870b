//! A record with its exact bytes.
//!
//! The bytes are what was received, never what an encoder made of the meaning, so a hash or a
//! signature taken of them elsewhere holds here too.

use crate::codec::{self, RecordError};
use crate::key::{SIGNATURE_BYTES, SigningKey};
use crate::record::Record;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// A record as it was signed. Cheap to clone.
#[derive(Clone)]
pub struct SignedRecord(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    record: Record,
    signature: [u8; SIGNATURE_BYTES],
    hash: [u8; 32],
}

impl SignedRecord {
    /// Signs a record with its author's key.
    ///
    /// # Errors
    /// [`RecordError::WrongSigner`] when the record names another author,
    /// [`RecordError::FieldTooLong`] and [`RecordError::Oversized`].
    pub fn sign(record: Record, key: &SigningKey) -> Result<Self, RecordError> {
        if record.author != key.public() {
            return Err(RecordError::WrongSigner { author: record.author, key: key.public() });
        }
        let mut bytes = codec::encode_unsigned(&record)?;
        let signature = key.sign(&codec::signed_message(&bytes));
        bytes.extend_from_slice(&signature);
        Ok(Self::from_parts(bytes, record, signature))
    }

    /// Reads exact bytes without checking the signature: for bytes that were checked before, such
    /// as those of the own store.
    ///
    /// # Errors
    /// Every structural variant of [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (record, signature) = codec::decode(bytes)?;
        Ok(Self::from_parts(bytes.to_vec(), record, signature))
    }

    /// Reads exact bytes and checks the author's signature.
    ///
    /// # Errors
    /// Every structural variant of [`RecordError`], and [`RecordError::Signature`].
    pub fn decode_verified(bytes: &[u8]) -> Result<Self, RecordError> {
        let signed = Self::decode(bytes)?;
        signed.verify()?;
        Ok(signed)
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// [`RecordError::Signature`].
    pub fn verify(&self) -> Result<(), RecordError> {
        let unsigned = &self.0.bytes[..self.0.bytes.len() - SIGNATURE_BYTES];
        Ok(self.0.record.author.verify_strict(&codec::signed_message(unsigned), &self.0.signature)?)
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// The exact bytes, signature included.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// SHA-256 of the exact bytes.
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash
    }

    fn from_parts(bytes: Vec<u8>, record: Record, signature: [u8; SIGNATURE_BYTES]) -> Self {
        let hash = Sha256::digest(&bytes).into();
        SignedRecord(Arc::new(Inner { bytes, record, signature, hash }))
    }
}

impl PartialEq for SignedRecord {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for SignedRecord {}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRecord")
            .field("record", &self.0.record)
            .field("hash", &data_encoding::HEXLOWER.encode(&self.0.hash))
            .finish_non_exhaustive()
    }
}
