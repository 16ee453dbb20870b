//! Keys of signed domains that wait for somebody.

use super::{ok, warn};
use crate::api::ApiState;
use nearmost_core::registry::{KeyStage, Registry};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;

/// A key of a domain, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    domain: String,
    /// Whether this broker's site signs with it.
    own: bool,
    stage: KeyStage,
}

pub(super) fn gather(api: &ApiState, registry: &Registry, now: UnixMillis) -> Vec<Key> {
    let signer = api.signing.signer();
    let keys = registry.zone_keys.iter().flat_map(|(domain, keys)| {
        let name = registry.domain(*domain).name.to_string();
        keys.iter().map(move |key| (name.clone(), key))
    });
    let mut all: Vec<Key> = keys
        .map(|(domain, key)| {
            let own = signer.own(&domain, key).is_some();
            Key { domain, own, stage: key.life.at(now) }
        })
        .collect();
    all.sort_by(|a, b| a.domain.cmp(&b.domain));
    all
}

pub(super) fn judge(keys: &[Key]) -> Vec<FindingView> {
    let mut findings = Vec::new();
    for key in keys.iter().filter(|k| k.own) {
        let domain = &key.domain;
        match key.stage {
            KeyStage::Ready => findings.push(warn(
                "dnssec",
                format!("{domain}: a key waits for its DS at the parent"),
                format!("`nearmost domain dnssec {domain}` shows the DS: have it added at the parent, then say `… --ds-seen`"),
            )),
            KeyStage::Left => findings.push(warn(
                "dnssec",
                format!("{domain}: a key waits for its DS to leave the parent"),
                format!("have the DS removed at the parent, then say `nearmost domain dnssec {domain} --ds-gone`"),
            )),
            _ => {}
        }
    }
    let mut signed: Vec<&str> =
        keys.iter().filter(|k| k.stage == KeyStage::Active).map(|k| &*k.domain).collect();
    signed.dedup();
    if !signed.is_empty() {
        findings.push(ok("dnssec", format!("{} domains are signed", signed.len())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_wait_are_told() {
        let key = |own, stage| Key { domain: "a.test".into(), own, stage };
        let levels = |keys: &[Key]| -> Vec<String> { judge(keys).into_iter().map(|f| f.level).collect() };
        assert_eq!(levels(&[key(true, KeyStage::Ready)]), ["warn"]);
        assert_eq!(levels(&[key(false, KeyStage::Ready)]), Vec::<String>::new());
        assert_eq!(levels(&[key(true, KeyStage::Active)]), ["ok"]);
        assert_eq!(levels(&[key(true, KeyStage::Left)]), ["warn"]);
    }
}
