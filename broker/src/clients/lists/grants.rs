//! Signs the grants of mirrors, where a domain's owner delegated that to this broker.

use nearmost_core::registry::Trust;
use nearmost_core::time::UnixMillis;
use nearmost_wire::grant::{Delegation, GRANT_MS, Grant, Granted, SKEW_MS};
use nearmost_wire::identity::KeyPair;
use nearmost_wire::list::Entry;
use std::collections::HashMap;

/// A grant is signed anew after so long, so that every list has nearly a day in it.
const AGAIN_MS: u64 = 10 * 60 * 1000;
/// Grants kept; past that all are signed anew.
const KEPT: usize = 64 * 1024;

/// Domain, mirror, node.
type Mirror = (String, String, [u8; 32]);

/// Grants that were signed lately.
pub struct Grants {
    key: KeyPair,
    signed: HashMap<Mirror, Grant>,
}

impl Grants {
    /// Signed with the broker's key.
    pub fn new(key: KeyPair) -> Grants {
        Grants { key, signed: HashMap::new() }
    }

    /// The delegations to hand out with a domain's lists: those that hold now.
    pub fn delegations(trust: &Trust, now: UnixMillis) -> Vec<Delegation> {
        let holds = |d: &Delegation| d.from_ms <= now.0.saturating_add(SKEW_MS) && now.0 < d.until_ms;
        trust.delegations.iter().filter_map(|text| Delegation::decode(text).ok()).filter(holds).collect()
    }

    /// Puts grants into entries, if one of the delegations is to this broker; none of them is longer than
    /// that delegation.
    pub fn grant(
        &mut self,
        domain: &str,
        delegations: &[Delegation],
        entries: &mut [Entry],
        now: UnixMillis,
    ) {
        let me = self.key.id().key;
        let Some(most) = delegations.iter().filter(|d| d.to == me).map(|d| d.until_ms).max() else {
            return entries.iter_mut().for_each(|e| e.grant = None);
        };
        let until = now.0.saturating_add(GRANT_MS).min(most);
        if self.signed.len() > KEPT {
            self.signed.clear();
        }
        for entry in entries {
            let key = (domain.to_owned(), entry.name.clone(), entry.node);
            let kept = self.signed.get(&key).copied();
            let kept = kept.filter(|g| g.until_ms.saturating_add(AGAIN_MS) > until && g.until_ms <= until);
            let grant = kept.unwrap_or_else(|| {
                let granted = Granted { domain, mirror: &entry.name, node: &entry.node };
                let grant = Grant::sign(&self.key, granted, until);
                self.signed.insert(key, grant);
                grant
            });
            entry.grant = Some(grant);
        }
    }
}
