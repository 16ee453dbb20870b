//! Records, their bodies, registry files.

use nearmost_client::registry::file::export;
use nearmost_client::registry::{Content, EntryKey, RegistryFile};
use nearmost_replica::{Body, SignedRecord};
use nearmost_wire::registry::{
    BanBody, BuildDefaults, Challenge, ChallengeBody, ClaimBody, EndpointBody, Entry, EntryKind, GrantBody,
    PeerBody, RollBody, build, entry_of,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record has one spelling, and whoever changed it did not sign it.
pub fn record(data: &[u8]) {
    let Ok(record) = SignedRecord::decode(data) else {
        assert!(SignedRecord::decode_verified(data).is_err());
        return;
    };
    assert_eq!(record.bytes(), data);
    assert_eq!(SignedRecord::decode_verified(data).is_ok(), record.verify().is_ok());
    let inner = record.record();
    if let Some(entry) = entry_of(inner) {
        let _ = build(1, [entry], &BuildDefaults::default());
    }
    let _ = Challenge::of_record(inner);
    if let (Body::Live { bytes, .. }, Some(key)) = (&inner.body, EntryKey::of_record(inner.key())) {
        assert_eq!(key.record_key(), inner.key());
        let _ = Content::parse(key.kind, bytes);
    }
}

/// Bodies of every kind: what was read is written as what reads the same. The first byte chooses the kind.
pub fn body(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let kinds = EntryKind::ALL.len();
    match usize::from(which) % (kinds + 7) {
        n if n < kinds => entry(EntryKind::ALL[n], data),
        n if n == kinds => {
            if let Ok(ban) = BanBody::decode(data) {
                let again = BanBody::decode(&ban.encode()).expect("what was written reads");
                assert_eq!(again.encode(), ban.encode());
            }
        }
        n => match n - kinds {
            1 => {
                let grant: Option<GrantBody> = json(data);
                let _ = grant.map(|body| body.check());
            }
            2 => {
                let peer: Option<PeerBody> = json(data);
                let _ = peer.map(|body| body.check());
            }
            3 => {
                let roll: Option<RollBody> = json(data);
                let _ = roll.map(|body| body.verify("a.b", &[1; 32]));
            }
            4 => drop(json::<EndpointBody>(data)),
            5 => drop(json::<ClaimBody>(data)),
            _ => drop(json::<ChallengeBody>(data)),
        },
    }
}

fn entry(kind: EntryKind, data: &[u8]) {
    if let Ok(content) = Content::parse(kind, data) {
        let written = content.to_json().expect("what was read is written");
        let again = Content::parse(kind, &written).expect("what was written reads");
        assert_eq!(again, content);
    }
    // Beside a domain and a mirror, so that it is about something.
    let domain = Entry { kind: EntryKind::Domain, scope: "a.b", id: "", body: b"{}" };
    let mirror = Entry {
        kind: EntryKind::Mirror,
        scope: "a.b",
        id: "c",
        body: br#"{"addresses":["192.0.2.1"],"port":443}"#,
    };
    let (scope, id) = match kind {
        EntryKind::Domain => ("a.b", ""),
        EntryKind::Node => ("", "c"),
        EntryKind::Person => ("", crate::seeds::PERSON),
        EntryKind::Override => ("", "192.0.2.0/24"),
        EntryKind::ZoneKey => ("a.b", "a2b3c4d5-1"),
        EntryKind::Mirror | EntryKind::Drain | EntryKind::Force => ("a.b", "c"),
    };
    let own = Entry { kind, scope, id, body: data };
    let others = [domain, mirror].into_iter().filter(|e| e.kind != kind);
    let built = build(1, others.chain([own]), &BuildDefaults::default());
    assert!(built.registry.domains.len() <= 1 && built.registry.mirrors.len() <= 1);
    // What is left out is told, and what is told is left out.
    if kind == EntryKind::Domain {
        assert_eq!(built.registry.domains.is_empty(), built.problems.iter().any(|p| p.kind == kind.noun()));
    }
}

/// A body of JSON, read, written and read again.
fn json<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let body: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&body).expect("what was read is written");
    let again: T = serde_json::from_slice(&written).expect("what was written reads");
    assert_eq!(serde_json::to_vec(&again).expect("it was before"), written);
    Some(body)
}

/// A registry file: what makes sense as a whole is exported as a file that says the same, and mistakes are told
/// with a place within the text.
pub fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match RegistryFile::parse_complete("f", text) {
        Ok(file) => {
            let content = |file: &RegistryFile| -> Vec<(EntryKey, Content)> {
                file.entries.iter().map(|(key, entry)| (key.clone(), entry.content.clone())).collect()
            };
            let before = content(&file);
            let exported = export(before.iter().map(|(key, content)| (key, content)));
            let again = RegistryFile::parse_complete("f", &exported);
            let again = again.unwrap_or_else(|e| panic!("{e}\n{exported}"));
            assert_eq!(content(&again), before, "{exported}");
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let lines = text.lines().count().max(1) + 1;
            for error in &errors.0 {
                assert!(error.at.line <= lines, "{error}");
                assert!(!error.problem.is_empty());
            }
        }
    }
}
