//! What an act did, as JSON: values as records have them, and no secrets.
//!
//! Kinds whose bodies are shown are named here one by one; of everything else, which may be anybody's,
//! length and hash are shown. A challenge's text stands in its record's id and is left out there.

use super::{Act, acts};
use data_encoding::HEXLOWER;
use nearmost_replica::{Body, Kind, PublicKey, Record, SignedRecord};
use nearmost_wire::api::{AuditChange, AuditEntry};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::registry::BanBody;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Largest JSON of the changes of one entry, in bytes; an act that did more has several.
const MAX_CHANGES_BYTES: usize = 64 * 1024;
/// Longest note and target, in characters.
const MAX_TEXT: usize = 300;

/// Kinds whose bodies are JSON that anyone who may read the registry may read.
const SHOWN: [Kind; 13] = [
    Kind::DOMAIN,
    Kind::NODE,
    Kind::MIRROR,
    Kind::FORCE,
    Kind::PERSON,
    Kind::OVERRIDE,
    Kind::PEER,
    Kind::ENDPOINT,
    Kind::GRANT,
    Kind::ZONE_KEY,
    Kind::CLAIM,
    Kind::ROLL,
    Kind::DRAIN,
];

/// What a record did that took the place of another.
pub(crate) fn change(
    signed: &SignedRecord,
    before: Option<&SignedRecord>,
    own: Option<&PublicKey>,
) -> AuditChange {
    let record = signed.record();
    let role = if own == Some(&record.author) { Role::Broker } else { Role::Person };
    AuditChange {
        kind: kind(record.kind),
        name: name(record),
        author: Some(Id { role, key: record.author.0 }.to_string()),
        before: before.and_then(|before| value(before.record())),
        after: value(record),
    }
}

fn kind(kind: Kind) -> String {
    if kind.is_application() { "record".into() } else { kind.name().unwrap_or("unknown").into() }
}

fn name(record: &Record) -> String {
    let id = match record.kind {
        // What stands after the slash is what the authority looks for.
        Kind::CHALLENGE => record.id.split('/').next().unwrap_or_default(),
        _ => record.id.as_str(),
    };
    match (record.scope.as_str(), id) {
        (scope, "") => scope.into(),
        ("", id) => id.into(),
        (scope, id) => format!("{scope}/{id}"),
    }
}

fn value(record: &Record) -> Option<Value> {
    let Body::Live { bytes, .. } = &record.body else { return None };
    let read = match record.kind {
        Kind::BAN => BanBody::decode(bytes)
            .ok()
            .map(|ban| json!({ "until_unix_ms": ban.until_unix_ms, "reason": ban.reason })),
        Kind::CHALLENGE => {
            let read: Option<Value> = serde_json::from_slice(bytes).ok();
            read.map(|body| json!({ "until_unix_ms": body.get("until_unix_ms") }))
        }
        kind if SHOWN.contains(&kind) => serde_json::from_slice(bytes).ok(),
        _ => None,
    };
    Some(read.unwrap_or_else(|| opaque(bytes)))
}

fn opaque(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes.len(), "sha256": HEXLOWER.encode(&Sha256::digest(bytes)) })
}

/// The code of a change of the registry: what kind of thing, and what happened to it, where that is one and
/// the same for all.
pub(crate) fn code_of(act: &'static str, changes: &[AuditChange]) -> String {
    if !act.is_empty() && act != acts::COMMIT {
        return act.into();
    }
    let step = |change: &AuditChange| match (&change.before, &change.after) {
        (None, _) => "add",
        (Some(_), Some(_)) => "change",
        (Some(_), None) => "remove",
    };
    let Some(first) = changes.first() else { return acts::COMMIT.into() };
    let alike = |change: &AuditChange| change.kind == first.kind && step(change) == step(first);
    match changes.iter().all(alike) {
        true => format!("{}.{}", first.kind, step(first)),
        false => acts::COMMIT.into(),
    }
}

/// A text without what may be a secret in it: one-time tokens, and what stands after the name of a challenge.
/// Notes are people's, and refusals quote what was asked.
fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | ')'))
    {
        let end = word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let rest = &word[end.len()..];
        let secret = ["nmt1", "nmp1", "nmc1", "nma1"]
            .iter()
            .filter_map(|prefix| end.find(prefix).map(|at| at + 4))
            .min();
        let challenge = end.find("_acme-challenge").and_then(|at| Some(at + end[at..].find('/')? + 1));
        match secret.into_iter().chain(challenge).min() {
            Some(at) => out.extend([&end[..at], "…", rest]),
            None => out.push_str(word),
        }
    }
    out
}

/// The entries of an act, each as the exact JSON that is hashed. Fails only where there is no JSON form.
pub(crate) fn parts(act: Act) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let Act { by, code, ending, at_unix_ms, count, note, target, version, changes } = act;
    let cut =
        |text: &str| redacted(text).chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect::<String>();
    let entry = AuditEntry {
        at_unix_ms,
        actor: by.actor,
        via: by.via.as_str().into(),
        source: by.source,
        act: code,
        outcome: ending.as_str().into(),
        code: ending.code().map(str::to_owned),
        count: count.max(1),
        note: cut(&note),
        version: version.map(|(version, _)| version),
        batch: version.map(|(_, batch)| batch),
        part: None,
        target: cut(&target),
        changes: Vec::new(),
    };
    let mut groups = vec![Vec::new()];
    let mut bytes = 0;
    for change in changes {
        let size = serde_json::to_vec(&change)?.len();
        if bytes > 0 && bytes + size > MAX_CHANGES_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(group) = groups.last_mut() {
            group.push(change);
        }
    }
    let count = groups.len();
    let part = |(at, changes): (usize, Vec<AuditChange>)| {
        let part = (count > 1).then(|| format!("{}/{count}", at + 1));
        serde_json::to_vec(&AuditEntry { part, changes, ..entry.clone() })
    };
    groups.into_iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn texts_tell_no_tokens_and_no_challenges() {
        for (text, told) in [
            ("joining with nmp1aeaqsecret, again", "joining with nmp1…, again"),
            (
                "record 0, challenge \"_acme-challenge.www/LoqXcY-V8\" in \"play.test\": no",
                "record 0, challenge \"_acme-challenge.www/…\" in \"play.test\": no",
            ),
            ("token=nmt1abc", "token=nmt1…"),
            ("Bearer nma1abc", "Bearer nma1…"),
            ("set mirror play.test/lon by np1ada", "set mirror play.test/lon by np1ada"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), told);
        }
    }
}
