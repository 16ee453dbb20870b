//! Tests of [`super`], through [`crate::signed`] as everyone uses it.

use super::*;
use crate::key::SigningKey;
use crate::signed::SignedRecord;
use proptest::prelude::*;

fn key() -> SigningKey {
    SigningKey::from_seed(&[42; 32])
}

fn sample() -> Record {
    Record {
        kind: Kind::MIRROR,
        scope: "play.example".into(),
        id: "lon".into(),
        body: Body::Live { version: 3, bytes: b"opaque".to_vec() },
        hlc: Hlc { millis: 0x0102_0304_0506, counter: 7 },
        author: key().public(),
        author_epoch: 2,
        author_seq: 9,
        grants: vec![[1; 32], [2; 32]],
    }
}

fn signed(record: Record) -> SignedRecord {
    SignedRecord::sign(record, &key()).unwrap()
}

/// Offsets of the sample's fields, by the layout in the module's documentation.
const AT_SCOPE: usize = 3;
const AT_ID: usize = AT_SCOPE + 2 + 12;
const AT_GRANTS: usize = AT_ID + 2 + 3 + 10 + 32 + 12;
const AT_BODY: usize = AT_GRANTS + 1 + 64;

#[test]
fn the_layout_is_as_documented() {
    let bytes = signed(sample()).bytes().to_vec();
    assert_eq!(bytes[..3], [1, 0, 3]);
    assert_eq!(bytes[AT_SCOPE..AT_ID], *b"\x00\x0cplay.example");
    assert_eq!(bytes[AT_ID..AT_ID + 5], *b"\x00\x03lon");
    assert_eq!(bytes[AT_ID + 5..AT_ID + 15], [0, 0, 1, 2, 3, 4, 5, 6, 0, 7]);
    assert_eq!(bytes[AT_ID + 47..AT_GRANTS], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(bytes[AT_GRANTS], 2);
    assert_eq!(bytes[AT_BODY..AT_BODY + 10], *b"\x01\x03\x00\x06opaque");
    assert_eq!(bytes.len(), AT_BODY + 10 + SIGNATURE_BYTES);
    let message = [b"nearmost record v1\0", &bytes[..AT_BODY + 10]].concat();
    let signature: [u8; 64] = bytes[AT_BODY + 10..].try_into().unwrap();
    key().public().verify_strict(&message, &signature).unwrap();
}

#[test]
fn each_fault_is_named_with_its_place() {
    let good = signed(sample()).bytes().to_vec();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        SignedRecord::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 2), RecordError::UnknownFormat { found: 2 });
    let long = |field, found, max, unit| RecordError::FieldTooLong { field, found, max, unit };
    assert_eq!(with(AT_SCOPE, 1), long("scope", 256 + 12, 255, "bytes"));
    assert_eq!(with(AT_ID, 1), long("id", 256 + 3, 255, "bytes"));
    assert_eq!(with(AT_GRANTS, 17), long("grants", 17, 16, "entries"));
    assert_eq!(with(AT_SCOPE + 6, 0xff), RecordError::NotUtf8 { field: "scope", at: AT_SCOPE + 6 });
    assert_eq!(with(AT_BODY, 2), RecordError::UnknownBody { found: 2, at: AT_BODY });
    let cut = |field, at, needed, left| RecordError::Truncated { field, at, needed, left };
    assert_eq!(with(AT_BODY + 2, 0x0f), cut("body", AT_BODY + 4, 0x0f06, 6 + 64));
    assert_eq!(with(AT_BODY + 3, 5), RecordError::Trailing { at: good.len() - 1, extra: 1 });
    assert_eq!(SignedRecord::decode(&[]).unwrap_err(), cut("format version", 0, 1, 0));
    let extra = [&good[..], b"xy"].concat();
    assert_eq!(SignedRecord::decode(&extra).unwrap_err(), RecordError::Trailing { at: good.len(), extra: 2 });
    assert_eq!(SignedRecord::decode(&[1; 5000]).unwrap_err(), RecordError::Oversized { found: 5000 });
    let shown = with(AT_GRANTS, 17).to_string();
    assert_eq!(shown, "the record's grants has 17 entries, at most 16 are allowed");
}

#[test]
fn every_cut_is_refused() {
    let good = signed(sample()).bytes().to_vec();
    for len in 0..good.len() {
        let refused = SignedRecord::decode(&good[..len]).unwrap_err();
        assert!(matches!(refused, RecordError::Truncated { .. }), "{len}: {refused}");
    }
}

#[test]
fn what_cannot_be_encoded_is_refused_before_it_is_signed() {
    let refuse = |change: fn(&mut Record)| {
        let mut record = sample();
        change(&mut record);
        SignedRecord::sign(record, &key()).unwrap_err()
    };
    let long = |field, found, max, unit| RecordError::FieldTooLong { field, found, max, unit };
    assert_eq!(refuse(|r| r.scope = "x".repeat(256)), long("scope", 256, 255, "bytes"));
    assert_eq!(refuse(|r| r.id = "x".repeat(70_000)), long("id", 70_000, 255, "bytes"));
    assert_eq!(refuse(|r| r.grants = vec![[0; 32]; 17]), long("grants", 17, 16, "entries"));
    let body = |len| Body::Live { version: 1, bytes: vec![0; len] };
    let overhead = signed(Record { body: body(0), ..sample() }).bytes().len();
    let most = MAX_RECORD_BYTES - overhead;
    let largest = signed(Record { body: body(most), ..sample() });
    assert_eq!(largest.bytes().len(), MAX_RECORD_BYTES);
    assert_eq!(SignedRecord::decode_verified(largest.bytes()).unwrap(), largest);
    let over = SignedRecord::sign(Record { body: body(most + 1), ..sample() }, &key());
    assert_eq!(over.unwrap_err(), RecordError::Oversized { found: MAX_RECORD_BYTES + 1 });
    let author = PublicKey([5; 32]);
    let refused = SignedRecord::sign(Record { author, ..sample() }, &key()).unwrap_err();
    assert_eq!(refused, RecordError::WrongSigner { author, key: key().public() });
}

#[test]
fn a_signature_of_another_key_is_refused_only_when_verified() {
    let mut bytes = signed(sample()).bytes().to_vec();
    let start = bytes.len() - SIGNATURE_BYTES;
    let message = signed_message(&bytes[..start]);
    bytes[start..].copy_from_slice(&SigningKey::from_seed(&[43; 32]).sign(&message));
    assert_eq!(SignedRecord::decode(&bytes).unwrap().record(), &sample());
    let refused = SignedRecord::decode_verified(&bytes).unwrap_err();
    assert_eq!(refused, RecordError::Signature(KeyError::BadSignature { key: key().public() }));
}

#[test]
fn a_signature_without_the_tag_is_refused() {
    let mut bytes = signed(sample()).bytes().to_vec();
    let start = bytes.len() - SIGNATURE_BYTES;
    let untagged = key().sign(&bytes[..start]);
    bytes[start..].copy_from_slice(&untagged);
    assert!(SignedRecord::decode_verified(&bytes).is_err());
}

fn arbitrary_record() -> impl Strategy<Value = Record> {
    let body = prop_oneof![
        Just(Body::Tombstone),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..2000))
            .prop_map(|(version, bytes)| Body::Live { version, bytes }),
    ];
    let grants = prop::collection::vec(any::<[u8; 32]>(), 0..=MAX_GRANTS);
    let place = (any::<u16>(), "\\PC{0,60}", ".{0,60}");
    let author = (any::<u32>(), any::<u64>());
    (place, body, any::<u64>(), any::<u16>(), author, grants).prop_map(
        |((kind, scope, id), body, millis, counter, (author_epoch, author_seq), grants)| Record {
            kind: Kind(kind),
            scope,
            id,
            body,
            hlc: Hlc { millis, counter },
            author: key().public(),
            author_epoch,
            author_seq,
            grants,
        },
    )
}

proptest! {
    #[test]
    fn round_trip_keeps_bytes_meaning_and_hash(record in arbitrary_record()) {
        let made = signed(record.clone());
        let read = SignedRecord::decode_verified(made.bytes()).unwrap();
        prop_assert_eq!(read.record(), &record);
        prop_assert_eq!(read.bytes(), made.bytes());
        prop_assert_eq!(read.hash(), made.hash());
    }

    #[test]
    fn any_changed_byte_is_refused(
        record in arbitrary_record(), at in any::<prop::sample::Index>(), mask in 1u8..=255
    ) {
        let mut bytes = signed(record).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        prop_assert!(SignedRecord::decode_verified(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_is_read_is_canonical(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600), as_record in any::<bool>()
    ) {
        if as_record && !bytes.is_empty() {
            bytes[0] = FORMAT;
        }
        if let Ok(read) = SignedRecord::decode(&bytes) {
            prop_assert_eq!(read.bytes(), &bytes[..]);
        }
    }

    /// Damage inside a real record reaches deeper into the decoder than noise does.
    #[test]
    fn damaged_records_never_panic(
        record in arbitrary_record(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = signed(record).bytes().to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(read) = SignedRecord::decode(&bytes) {
            prop_assert_eq!(read.bytes(), &bytes[..]);
        }
    }
}
