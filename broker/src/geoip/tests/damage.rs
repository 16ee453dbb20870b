//! Files that are no databases, or no longer: each is refused by name, and nothing panics.

use super::*;
use crate::geoip::load::{GeoSettings, compile};
use crate::geoip::testing::{Value, map, nested_city};
use proptest::prelude::*;

fn small(record_size: u16) -> Vec<u8> {
    let networks = [
        ("192.0.2.0/24", nested_city("GB", 51.5, -0.1)),
        ("198.51.100.0/25", map([("country_code", Value::Text("FR")), ("loc", Value::Text("48.9,2.4"))])),
        ("2001:db8::/32", map([("asn", Value::Text("AS64500"))])),
    ];
    TestDatabase { record_size, ..TestDatabase::new("small", &networks) }.bytes()
}

/// Compiles a file of these bytes, alone.
fn compile_file(bytes: &[u8]) -> GeoError {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("geo.mmdb");
    std::fs::write(&file, bytes).unwrap();
    let settings =
        GeoSettings { embedded: false, databases: vec![file.clone()], watch: true, overrides: vec![] };
    let error = compile(&settings).unwrap_err();
    assert_eq!(error.name(), file.display().to_string());
    assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
    error
}

#[test]
fn a_file_that_is_no_database_is_refused_with_what_it_is() {
    let whole = small(24);
    assert!(matches!(compile_file(b""), GeoError::Empty { .. }));
    assert!(matches!(compile_file(b"<html>404</html>"), GeoError::NotADatabase { .. }));
    assert!(matches!(compile_file(&whole[..whole.len() / 2]), GeoError::NotADatabase { .. }));
    assert!(matches!(compile_file(b"\x1f\x8b\x08\x00"), GeoError::Archive { kind: "gzip", .. }));
    assert!(matches!(compile_file(b"PK\x03\x04"), GeoError::Archive { kind: "zip", .. }));
    assert!(matches!(compile_file(&whole[whole.len() / 2..]), GeoError::Damaged { .. }));
}

#[test]
fn a_file_that_is_not_there_or_is_a_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in [dir.path().join("none.mmdb"), dir.path().to_path_buf()] {
        let databases = vec![file.clone()];
        let error = compile(&GeoSettings { databases, ..GeoSettings::default() }).unwrap_err();
        assert!(matches!(error, GeoError::Unreadable { .. }), "{error}");
        assert_eq!(error.name(), file.display().to_string());
    }
}

#[test]
fn a_database_without_places_is_refused_with_its_type() {
    let networks = [("192.0.2.0/24", map([("connection_type", Value::Text("Cellular"))]))];
    let bytes = TestDatabase::new("GeoIP2-Connection-Type", &networks).bytes();
    let error = compile_file(&bytes);
    assert!(matches!(error, GeoError::WrongType { .. }));
    assert!(error.to_string().contains("\"GeoIP2-Connection-Type\""), "{error}");
}

#[test]
fn a_tree_that_loops_or_joins_is_refused() {
    let bytes = small(32);
    let nodes = bytes.windows(16).position(|w| w == [0; 16]).expect("the separator") / 8;
    // Every record points to the root; then every record points to the next node.
    let looped: Vec<u8> = vec![0; nodes * 8];
    let joined: Vec<u8> =
        (0..nodes as u32).flat_map(|n| [(n + 1).to_be_bytes(), (n + 1).to_be_bytes()].concat()).collect();
    for tree in [looped, joined] {
        let mut bad = bytes.clone();
        bad[..tree.len()].copy_from_slice(&tree);
        assert!(matches!(compiled(&bad), Err(GeoError::Damaged { .. })));
    }
}

#[test]
fn no_truncation_panics_or_passes_for_whole() {
    for record_size in [24, 28, 32] {
        let whole = small(record_size);
        assert!(compiled(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(compiled(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
        }
        for from in 1..whole.len() {
            // Without its first bytes every record of the tree is another; whatever that says, it
            // is an answer.
            let _ = compiled(&whole[from..]);
        }
    }
}

#[test]
fn no_single_flipped_bit_panics() {
    for record_size in [24, 28, 32] {
        let mut bytes = small(record_size);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let _ = compiled(&bytes);
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

proptest! {
    #[test]
    fn many_flipped_bytes_do_not_panic(
        record_size in prop::sample::select(vec![24, 28, 32]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = small(record_size);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            // From the front, so that the metadata stays.
            let from = keep.index(bytes.len());
            bytes.drain(..from);
        }
        let _ = compiled(&bytes);
    }

    #[test]
    fn garbage_around_metadata_does_not_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        after in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = compiled(&[&garbage[..], b"\xab\xcd\xefMaxMind.com", &after].concat());
    }
}
