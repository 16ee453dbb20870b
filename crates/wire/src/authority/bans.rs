//! Keys that are refused for a while.

use super::domains::Domains;
use super::members::Federation;
use super::statements::{Statements, keep_greatest, key_of};
use crate::identity::Role;
use nearmost_replica::merge::expiry_unix_ms;
use nearmost_replica::{Body, PublicKey, Record, SignedRecord};
use std::collections::HashMap;

/// The key that a ban's id names; `None` where it is an address.
pub(super) fn banned_key(id: &str) -> Option<PublicKey> {
    key_of(id, &[Role::Broker, Role::Person, Role::Node])
}

/// Whether somebody may say this of a ban: nobody lifts its own.
pub(super) fn may_say(record: &Record) -> bool {
    banned_key(&record.id) != Some(record.author)
}

/// Bans of keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Bans {
    /// By key, then by scope: until when, Unix milliseconds.
    until: HashMap<PublicKey, HashMap<String, u64>>,
}

impl Bans {
    /// The bans that count. The root is not banned by others where it is the root.
    pub(super) fn of(
        root: PublicKey,
        federation: &Federation,
        domains: &Domains,
        statements: &Statements<'_>,
    ) -> Bans {
        let counts = |record: &Record| match record.scope.as_str() {
            "" => federation.standing(&record.author).is_some_and(|s| s.admin),
            domain => domains.is_full(federation, &record.author, domain),
        };
        let mut greatest: HashMap<(&str, &str), &SignedRecord> = HashMap::new();
        for signed in statements.bans.iter().filter(|s| may_say(s.record()) && counts(s.record())) {
            let record = signed.record();
            keep_greatest(&mut greatest, (&record.scope, &record.id), signed);
        }
        let mut bans = Bans::default();
        for ((scope, id), signed) in greatest {
            let (Some(key), Body::Live { bytes, .. }) = (banned_key(id), &signed.record().body) else {
                continue;
            };
            if key != root {
                bans.add(key, scope, expiry_unix_ms(bytes));
            }
        }
        bans
    }

    /// One key may be banned by several names, as a broker's and as a person's.
    fn add(&mut self, key: PublicKey, scope: &str, until: u64) {
        let known = self.until.entry(key).or_default().entry(scope.to_owned()).or_default();
        *known = until.max(*known);
    }

    /// When the next ban ends.
    pub(super) fn next_end(&self, now_unix_ms: u64) -> Option<u64> {
        let ends = self.until.values().flat_map(HashMap::values).copied();
        ends.filter(|at| *at > now_unix_ms && *at != u64::MAX).min()
    }

    /// Until when a key's statements in a scope are refused.
    pub(super) fn until(&self, key: &PublicKey, scope: &str, now_unix_ms: u64) -> Option<u64> {
        let of_key = self.until.get(key)?;
        let until = of_key.get("").max(of_key.get(scope)).copied()?;
        (until > now_unix_ms).then_some(until)
    }
}
