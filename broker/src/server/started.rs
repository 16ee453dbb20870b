//! What was configured otherwise than at the last start, for the audit log.
//!
//! Who can change the configuration and start the broker needs no token and no key, so nothing else would tell of it.
//! The store keeps what was given at the last start: what may be shown of each value, and a hash of all of it.

use crate::audit::{Act, By, Via, acts};
use crate::clock::unix_now;
use crate::store::{Beside, StoreError, StoreHandle};
use data_encoding::HEXLOWER;
use nearmost_config::Given;
use nearmost_wire::api::AuditChange;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Where in the store it is kept.
const BLOB: &str = "configuration";

/// A value of the last start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// As people may see it.
    shown: String,
    /// Of all of it.
    sha256: String,
}

type Configured = BTreeMap<String, Kept>;

/// Compares with the last start, and writes down what is otherwise; then this is the last start. Before the first
/// there was none, and nothing is written down.
///
/// # Errors
/// Those of the disk.
pub(super) async fn note(store: &StoreHandle, given: &Given) -> Result<(), StoreError> {
    let now: Configured = given.0.iter().map(|(key, value)| (key.clone(), kept(value))).collect();
    // Plain text by plain keys has a JSON form.
    let blob = serde_json::to_vec(&now).unwrap_or_default();
    let before = store.get_meta(BLOB).await?;
    let Some(before) = before.and_then(|blob| read(&blob)) else {
        return store.put_meta(BLOB, blob).await;
    };
    let changes = differences(&before, &now);
    if changes.is_empty() {
        return Ok(());
    }
    tracing::info!(keys = changes.len(), "configured otherwise than at the last start");
    let act = Act {
        by: By { actor: "this machine".into(), via: Via::Command, source: None },
        code: acts::START.into(),
        at_unix_ms: unix_now().0,
        note: "configured otherwise than at the start before".into(),
        changes,
        ..Act::default()
    };
    store.write_act(act, Beside::Blob(BLOB, blob)).await
}

/// What was configured at the last start, read and written again.
pub(crate) fn again(blob: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec(&read(blob)?).ok()
}

/// `None` where another program wrote it.
fn read(blob: &[u8]) -> Option<Configured> {
    serde_json::from_slice(blob).ok()
}

fn kept(value: &nearmost_config::GivenValue) -> Kept {
    Kept { shown: value.shown.clone(), sha256: HEXLOWER.encode(&Sha256::digest(&value.whole)) }
}

/// What differs, by key.
fn differences(before: &Configured, now: &Configured) -> Vec<AuditChange> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |key: &String| {
        let (old, new) = (before.get(key), now.get(key));
        if old == new {
            return None;
        }
        let hidden = old.zip(new).is_some_and(|(old, new)| old.shown == new.shown);
        let shown = |text: &str| json!({ "value": text });
        Some(AuditChange {
            kind: "settings".into(),
            name: key.clone(),
            author: None,
            before: old.map(|old| shown(&old.shown)),
            after: new.map(|new| match hidden {
                true => shown(&format!("{} (another secret)", new.shown)),
                false => shown(&new.shown),
            }),
        })
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditFilter, RedbStore, StoreThread};
    use nearmost_config::GivenValue;
    use nearmost_wire::api::AuditEntry;
    use serde_json::Value;

    fn given(values: &[(&str, &str, &str)]) -> Given {
        let value = |shown: &str, whole: &str| GivenValue { shown: shown.into(), whole: whole.into() };
        Given(values.iter().map(|(key, shown, whole)| ((*key).into(), value(shown, whole))).collect())
    }

    #[tokio::test]
    async fn a_start_with_another_configuration_is_an_entry_and_one_with_the_same_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let entries = async |given: Given| {
            let (store, thread) = StoreThread::spawn(Box::new(RedbStore::open(dir.path()).unwrap())).unwrap();
            note(&store, &given).await.unwrap();
            let page = store.audit(AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap();
            thread.stop().await.unwrap();
            page.rows.iter().map(|row| serde_json::from_str(&row.json).unwrap()).collect::<Vec<AuditEntry>>()
        };
        let first =
            [("dns.workers", "2", "2"), ("http.tokens", "[…]", "[aa]"), ("geo.watch", "true", "true")];
        assert!(entries(given(&first)).await.is_empty(), "there is nothing to compare with");
        assert!(entries(given(&first)).await.is_empty());
        let other = [("dns.workers", "3", "3"), ("http.tokens", "[…]", "[bb]"), ("peers.name", "b", "b")];
        let told = entries(given(&other)).await;
        assert_eq!((told.len(), &*told[0].act, &*told[0].actor), (1, acts::START, "this machine"));
        let changes: Vec<_> = told[0]
            .changes
            .iter()
            .map(|c| {
                let text =
                    |value: &Option<Value>| value.as_ref().map(|v| v["value"].as_str().unwrap().to_owned());
                (c.name.as_str(), text(&c.before), text(&c.after))
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changes,
            [
                ("dns.workers", some("2"), some("3")),
                ("geo.watch", some("true"), None),
                ("http.tokens", some("[…]"), some("[…] (another secret)")),
                ("peers.name", None, some("b")),
            ]
        );
        assert_eq!(entries(given(&other)).await.len(), 1, "it is the last start now");
    }
}
