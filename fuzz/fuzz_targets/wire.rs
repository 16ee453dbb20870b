//! Arbitrary bytes to every decoder of what agents, people and peers send. Nothing panics, and what
//! decodes encodes to the same bytes where the encoding is canonical.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearmost_replica::SignedRecord;
use nearmost_wire::agent::{ToAgent, ToBroker};
use nearmost_wire::beacon::{Beacon, SiteKey, authenticate};
use nearmost_wire::registry::{BuildDefaults, Entry, EntryKind, build};
use nearmost_wire::{auth, client, frame, token::JoinToken};

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    match which % 5 {
        0 => {
            if let Ok(record) = SignedRecord::decode(data) {
                assert_eq!(record.bytes(), data);
            }
        }
        1 => {
            let _ = frame::decode::<ToBroker>(data);
            let _ = frame::decode::<ToAgent>(data);
            let _ = frame::decode::<client::ToBroker>(data);
            let _ = frame::decode::<client::ToClient>(data);
        }
        2 => {
            let _ = Beacon::decode(data);
            let key = SiteKey::new(&[1; 32]).beacon_secret(&nearmost_core::id::NodeId([2; 32]), 1).prepare();
            assert!(authenticate(data, &key).is_err());
        }
        3 => {
            let text = String::from_utf8_lossy(data);
            if let Ok(token) = JoinToken::decode(&text) {
                assert_eq!(JoinToken::decode(&token.encode()), Ok(token));
            }
            let _ = auth::SignedRequest::parse(&text);
        }
        _ => {
            let kind = EntryKind::ALL[usize::from(which / 5) % EntryKind::ALL.len()];
            let entry = Entry { kind, scope: "a.b", id: "c", body: data };
            let _ = build(1, [entry], &BuildDefaults::default());
        }
    }
});
