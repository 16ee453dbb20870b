//! The keys that this broker's site signs with: what it says of them, and to whom they are.

use data_encoding::BASE64;
use nearmost_core::registry::{KeyStage, Registry, ZoneKey};
use nearmost_core::time::UnixMillis;
use nearmost_dns::dnssec::{KeyDerivation, PublicKey, SignTimes, Signer};
use nearmost_wire::api::{DnssecKeyView, DnssecResponse};
use nearmost_wire::registry::zone_key_id;
use std::sync::Arc;
use std::time::Duration;

/// How keys are held and signatures made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningSettings {
    /// How long a new key is published before its DS may come.
    pub publish_hold: Duration,
    /// How long an old one stays.
    pub retire_hold: Duration,
    /// Of signatures.
    pub times: SignTimes,
}

/// Why nothing is said of a domain's keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// It is in another zone, whose keys sign it.
    #[error("{domain} lies in the zone {zone}: it is signed as a part of that")]
    Inside {
        /// The domain.
        domain: String,
        /// Its zone.
        zone: String,
    },
    /// No key could be derived; it is one chance in 2^256.
    #[error("no key with number {0} can be made; try the next")]
    NoKey(u32),
}

/// What a broker knows of its site's keys.
#[derive(Clone, Debug)]
pub struct Signing {
    derivation: KeyDerivation,
    signer: Arc<Signer>,
    settings: SigningSettings,
    /// Configured zones: what lies strictly in one has no keys of its own.
    zones: Vec<String>,
}

impl Signing {
    /// With the keys of the broker's site.
    pub fn new(derivation: KeyDerivation, settings: SigningSettings, zones: Vec<String>) -> Signing {
        let signer = Arc::new(Signer::new(derivation.clone(), settings.times));
        Signing { derivation, signer, settings, zones }
    }

    /// What signs answers.
    pub fn signer(&self) -> Arc<Signer> {
        self.signer.clone()
    }

    /// The keys of a domain, which is registered, and the one of this site that would be next; with
    /// `generation` the one with that number.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn describe(
        &self,
        registry: &Registry,
        domain: &str,
        generation: Option<u32>,
        now: UnixMillis,
    ) -> Result<DnssecResponse, SigningError> {
        if let Some(zone) =
            self.zones.iter().find(|z| domain.strip_suffix(z.as_str()).is_some_and(|d| d.ends_with('.')))
        {
            return Err(SigningError::Inside { domain: domain.into(), zone: zone.clone() });
        }
        let index = registry.find_domain(domain);
        let keys = index.and_then(|i| registry.zone_keys.get(&i)).map_or(&[][..], Vec::as_slice);
        let own = keys.iter().filter(|k| *k.site == *self.signer.site());
        let generation =
            generation.unwrap_or_else(|| own.map(|k| k.generation).max().unwrap_or(0).saturating_add(1));
        let next = self.derivation.key(domain, generation).ok_or(SigningError::NoKey(generation))?;
        let point = &next.public().dnskey()[4..];
        Ok(DnssecResponse {
            domain: domain.into(),
            site: self.signer.site().into(),
            keys: keys.iter().map(|k| self.view(domain, k, now)).collect(),
            next_generation: generation,
            next_public: BASE64.encode(point),
            publish_hold_s: self.settings.publish_hold.as_secs(),
            retire_hold_s: self.settings.retire_hold.as_secs(),
        })
    }

    fn view(&self, domain: &str, key: &ZoneKey, now: UnixMillis) -> DnssecKeyView {
        let public = PublicKey::new(key.public);
        let stage = key.life.at(now);
        let change = key.life.change().filter(|(at, _)| *at > now);
        DnssecKeyView {
            id: zone_key_id(&key.site, key.generation),
            site: key.site.to_string(),
            own: self.signer.own(domain, key).is_some(),
            tag: public.tag(),
            stage: stage.as_str().into(),
            until_unix_ms: change.map(|(at, _)| at.0),
            next_stage: change.map(|(_, next)| next.as_str().into()),
            dnskey: public.text(),
            ds: public
                .ds(domain)
                .map(|ds| ds.text())
                .filter(|_| stage != KeyStage::Published)
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::registry::KeyLife;
    use nearmost_wire::registry::{BuildDefaults, Entry, EntryKind, ZoneKeyBody, build};

    fn signing(secret: u8) -> Signing {
        let hold = Duration::from_secs(10);
        let settings = SigningSettings { publish_hold: hold, retire_hold: hold, times: SignTimes::default() };
        Signing::new(KeyDerivation::new(&[secret; 32]), settings, vec!["zone.test".into()])
    }

    fn registry(signing: &Signing) -> Registry {
        let next = signing.derivation.key("a.test", 3).unwrap().public();
        let life = KeyLife::begin(UnixMillis(1000), Duration::from_secs(10), Duration::from_secs(10));
        let public = next.dnskey()[4..].try_into().unwrap();
        let key = ZoneKey { site: signing.signer.site().into(), generation: 3, public, life };
        let body = serde_json::to_vec(&ZoneKeyBody::of(&key)).unwrap();
        let id = zone_key_id(&key.site, 3);
        let entries = [
            Entry { kind: EntryKind::Domain, scope: "a.test", id: "", body: b"{}" },
            Entry { kind: EntryKind::ZoneKey, scope: "a.test", id: &id, body: &body },
        ];
        let built = build(1, entries, &BuildDefaults::default());
        assert!(built.problems.is_empty(), "{:?}", built.problems);
        built.registry
    }

    #[test]
    fn keys_are_described_and_the_next_is_named() {
        let (one, other) = (signing(1), signing(2));
        let registry = registry(&one);
        let told = one.describe(&registry, "a.test", None, UnixMillis(2000)).unwrap();
        assert_eq!((told.next_generation, told.keys.len()), (4, 1));
        let key = &told.keys[0];
        assert!(key.own && key.ds.is_empty() && key.dnskey.starts_with("257 3 13 "));
        assert_eq!((key.stage.as_str(), key.until_unix_ms), ("published", Some(11_000)));
        // The DS is told once it may be given to the parent.
        let told = one.describe(&registry, "a.test", Some(3), UnixMillis(11_000)).unwrap();
        assert_eq!((told.keys[0].stage.as_str(), told.keys[0].until_unix_ms), ("ready", None));
        assert!(told.keys[0].ds.starts_with(&format!("{} 13 2 ", told.keys[0].tag)));
        assert!(told.keys[0].dnskey.ends_with(&told.next_public));
        // To another site it is a stranger's.
        let told = other.describe(&registry, "a.test", None, UnixMillis(2000)).unwrap();
        assert!(!told.keys[0].own && told.next_generation == 1);
    }

    #[test]
    fn what_lies_in_a_configured_zone_has_no_keys() {
        let one = signing(1);
        let registry = registry(&one);
        let inside = one.describe(&registry, "a.zone.test", None, UnixMillis(0)).unwrap_err();
        assert_eq!(
            inside.to_string(),
            "a.zone.test lies in the zone zone.test: it is signed as a part of that"
        );
        assert!(one.describe(&registry, "zone.test", None, UnixMillis(0)).is_ok());
        assert!(one.describe(&registry, "otherzone.test", None, UnixMillis(0)).is_ok());
    }
}
