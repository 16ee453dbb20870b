//! Public keys that domains are signed with (DNSSEC) → plain data.

use crate::name;
use data_encoding::BASE64;
use nearmost_core::registry::{KeyLife, KeyStage, ZoneKey};
use nearmost_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest hold of a key, in seconds: a year.
pub const MAX_HOLD_S: u64 = 366 * 86_400;

/// A public key of a domain that is a zone. The record's scope is the domain, its id
/// `<site>-<generation>`, see [`zone_key_id`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneKeyBody {
    /// Point on P-256: both coordinates, big-endian, in base64 (RFC 6605 §4).
    pub public: String,
    /// The stage that was entered last: `published`, `ready`, `active`, `retiring`, `leaving`, `left`
    /// or `removed` (see [`KeyLife`]).
    pub stage: String,
    /// When that was, Unix milliseconds.
    pub since_unix_ms: u64,
    /// How long it is published before its DS may come, in seconds.
    pub publish_hold_s: u64,
    /// How long it stays after it is needed no more, in seconds.
    pub retire_hold_s: u64,
}

/// The id of the record of a site's key with this number.
pub fn zone_key_id(site: &str, generation: u32) -> String {
    format!("{site}-{generation}")
}

impl ZoneKeyBody {
    /// Of a plain key.
    pub fn of(key: &ZoneKey) -> ZoneKeyBody {
        let KeyLife { stage, since, publish_hold, retire_hold } = key.life;
        ZoneKeyBody {
            public: BASE64.encode(&key.public),
            stage: stage.as_str().into(),
            since_unix_ms: since.0,
            publish_hold_s: publish_hold.as_secs(),
            retire_hold_s: retire_hold.as_secs(),
        }
    }

    /// The plain key of the record with this id.
    ///
    /// # Errors
    /// Says what makes no sense.
    pub fn plain(&self, id: &str) -> Result<ZoneKey, String> {
        let (site, generation) =
            split(id).ok_or_else(|| format!("id {id:?}: expected a site and a number as in a2b3c4d5-1"))?;
        let public = BASE64.decode(self.public.as_bytes()).ok().and_then(|p| <[u8; 64]>::try_from(p).ok());
        let public = public.ok_or("public: expected 64 bytes in base64")?;
        let stage = KeyStage::parse(&self.stage)
            .ok_or_else(|| format!("stage {:?}: expected published, ready, active …", self.stage))?;
        for (what, hold) in [("publish_hold_s", self.publish_hold_s), ("retire_hold_s", self.retire_hold_s)] {
            if hold > MAX_HOLD_S {
                return Err(format!("{what} = {hold}: expected at most {MAX_HOLD_S}"));
            }
        }
        let life = KeyLife {
            stage,
            since: UnixMillis(self.since_unix_ms),
            publish_hold: Duration::from_secs(self.publish_hold_s),
            retire_hold: Duration::from_secs(self.retire_hold_s),
        };
        Ok(ZoneKey { site: site.into(), generation, public, life })
    }
}

/// How easily a zone can do without a key whose record says this stage. Resolvers come to a zone by keys whose
/// DS is at the parent, or comes there; nobody needs those that are removed.
pub(super) fn dispensable(stage: KeyStage) -> u8 {
    match stage {
        KeyStage::Active | KeyStage::Leaving => 0,
        KeyStage::Ready => 1,
        // It is ready by itself after a while, without another record.
        KeyStage::Published => 2,
        KeyStage::Retiring => 3,
        KeyStage::Left => 4,
        KeyStage::Removed => 5,
    }
}

/// Site and number of a record's id, in their only spelling.
fn split(id: &str) -> Option<(&str, u32)> {
    let (site, number) = id.rsplit_once('-')?;
    let generation: u32 = number.parse().ok()?;
    let canonical = generation.to_string() == number && name::short(site).is_ok_and(|s| s == site);
    canonical.then_some((site, generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{BuildDefaults, Entry, EntryKind, build};
    use nearmost_core::registry::MAX_ZONE_KEYS;

    fn body() -> ZoneKeyBody {
        ZoneKeyBody {
            public: BASE64.encode(&[7; 64]),
            stage: "active".into(),
            since_unix_ms: 5,
            publish_hold_s: 10,
            retire_hold_s: 20,
        }
    }

    #[test]
    fn plain_keys_and_bodies_are_made_of_each_other() {
        let key = body().plain("a2b3c4d5-12").unwrap();
        assert_eq!((&*key.site, key.generation, key.life.stage), ("a2b3c4d5", 12, KeyStage::Active));
        assert_eq!(ZoneKeyBody::of(&key), body());
        assert_eq!(zone_key_id(&key.site, key.generation), "a2b3c4d5-12");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for id in ["", "a", "a-", "-1", "a-01", "a-x", "A-1", "a-4294967296"] {
            assert!(body().plain(id).unwrap_err().starts_with("id "), "{id}");
        }
        let with = |change: fn(&mut ZoneKeyBody)| {
            let mut body = body();
            change(&mut body);
            body.plain("a-1").unwrap_err()
        };
        assert!(with(|b| b.public = BASE64.encode(&[7; 63])).contains("64 bytes"));
        assert!(with(|b| b.stage = "Active".into()).contains("\"Active\""));
        assert!(with(|b| b.retire_hold_s = MAX_HOLD_S + 1).contains("retire_hold_s"));
    }

    #[test]
    fn of_too_many_keys_those_needed_least_are_left_out() {
        use KeyStage::{Active, Leaving, Left, Published, Ready, Removed, Retiring};
        // The first ones by number are needed least.
        let mut stages = vec![Removed, Left, Retiring, Published, Ready, Leaving];
        stages.resize(MAX_ZONE_KEYS, Active);
        let kept = |more: &[KeyStage]| {
            let all: Vec<KeyStage> = stages.iter().chain(more).copied().collect();
            let bodies: Vec<Vec<u8>> = all
                .iter()
                .map(|s| serde_json::to_vec(&ZoneKeyBody { stage: s.as_str().into(), ..body() }).unwrap())
                .collect();
            let ids: Vec<String> = (1..=all.len() as u32).map(|n| zone_key_id("s", n)).collect();
            let domain = Entry { kind: EntryKind::Domain, scope: "a.test", id: "", body: b"{}" };
            let keys = ids.iter().zip(&bodies);
            let keys = keys.map(|(id, body)| Entry { kind: EntryKind::ZoneKey, scope: "a.test", id, body });
            let built = build(1, std::iter::once(domain).chain(keys), &BuildDefaults::default());
            assert_eq!(built.problems.len(), more.len());
            let domain = built.registry.find_domain("a.test").unwrap();
            built.registry.zone_keys[&domain].iter().map(|k| k.generation).collect::<Vec<_>>()
        };
        let last = MAX_ZONE_KEYS as u32;
        for n in 0..=4 {
            let expected: Vec<u32> = (n + 1..=last + n).collect();
            assert_eq!(kept(&vec![Active; n as usize]), expected, "{n}");
        }
    }

    #[test]
    fn keys_come_to_their_domain_in_order_and_within_bounds() {
        let json = serde_json::to_vec(&body()).unwrap();
        let ids: Vec<String> = (1..=MAX_ZONE_KEYS as u32 + 1).map(|n| zone_key_id("s", n)).collect();
        let key = |scope, id| Entry { kind: EntryKind::ZoneKey, scope, id, body: &json };
        let mut entries = vec![Entry { kind: EntryKind::Domain, scope: "a.test", id: "", body: b"{}" }];
        entries.extend(ids.iter().map(|id| key("a.test", id.as_str())));
        entries.push(key("b.test", "s-1"));
        let built = build(1, entries, &BuildDefaults::default());
        let domain = built.registry.find_domain("a.test").unwrap();
        let keys: Vec<u32> = built.registry.zone_keys[&domain].iter().map(|k| k.generation).collect();
        assert_eq!(keys, (1..=MAX_ZONE_KEYS as u32).collect::<Vec<_>>());
        let problems: Vec<String> = built.problems.iter().map(|p| p.to_string()).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("at most 16"), "{problems:?}");
        assert!(problems[1].contains("unknown domain \"b.test\""), "{problems:?}");
    }
}
