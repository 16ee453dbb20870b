//! Signatures of sets: which key, from when to when, and out of the cache if they are there.

use crate::dnssec::cache::Cache;
use crate::dnssec::canonical::{RrSet, Signed};
use crate::dnssec::chain::{Links, Signing};
use crate::dnssec::{KeyDerivation, PublicKey, SigningKey, TYPE_CDNSKEY, TYPE_CDS, TYPE_DNSKEY};
use crate::name::WireName;
use arrayvec::ArrayVec;
use nearmost_core::registry::{MAX_ZONE_KEYS, ZoneKey};
use nearmost_core::time::UnixMillis;
use ring::digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most keys of one site in one zone that sign the key set: all of them, since any may be the one that a
/// resolver has the DS of.
const OWN_KEYS: usize = MAX_ZONE_KEYS;
/// Derived keys that are kept of one zone.
const KEPT_KEYS: usize = 16;
/// Signatures kept unless something else is said: 100 bytes each, and what the maps take.
pub(super) const CACHE_SIZE: usize = 65_536;

/// From when to when signatures are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignTimes {
    /// One signature of a set is used for this long, then the next is made. At least a second.
    pub window: Duration,
    /// It is good this much longer than its window: for caches, and for clocks that are behind.
    pub margin: Duration,
    /// It is good this long before its window begins: for clocks that are behind.
    pub skew: Duration,
}

impl Default for SignTimes {
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        SignTimes { window: hours(24), margin: hours(6 * 24), skew: hours(1) }
    }
}

impl SignTimes {
    /// From when to when a signature of this inception is used, in seconds since 1970: the inverse of what
    /// its times were made by.
    pub(crate) fn used(&self, inception_s: u64) -> std::ops::Range<u64> {
        let begin = inception_s + self.skew.as_secs();
        begin..begin + self.window.as_secs().max(1)
    }

    /// Beginning and end of a signature that is used at `now_s` for a set whose hash is `spread`: each set's
    /// windows begin at a moment of its own.
    fn of(&self, now_s: u64, spread: u64) -> (u64, u64) {
        let window = self.window.as_secs().max(1);
        let shift = spread % window;
        let begin = ((now_s + shift) / window * window).saturating_sub(shift);
        (begin.saturating_sub(self.skew.as_secs()), begin + window + self.margin.as_secs())
    }
}

/// Signs for one site: its keys, and the signatures made so far. Shared by all who answer.
#[derive(Debug)]
pub struct Signer {
    derivation: KeyDerivation,
    site: String,
    times: SignTimes,
    /// Keys by zone: derived once.
    keys: Mutex<HashMap<String, Vec<Derived>>>,
    cache: Cache,
}

#[derive(Debug)]
struct Derived {
    generation: u32,
    key: Option<Arc<SigningKey>>,
}

impl Signer {
    /// For the site with this derivation of keys.
    pub fn new(derivation: KeyDerivation, times: SignTimes) -> Signer {
        let site = derivation.site();
        Signer { derivation, site, times, keys: Mutex::default(), cache: Cache::new(CACHE_SIZE) }
    }

    /// The times of its signatures.
    pub(crate) fn times(&self) -> &SignTimes {
        &self.times
    }

    /// What the site is called.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The private part of a key of this site; `None` when it is another's.
    pub fn own(&self, zone: &str, key: &ZoneKey) -> Option<Arc<SigningKey>> {
        if *key.site != *self.site {
            return None;
        }
        let derived = self.derived(zone, key.generation)?;
        (derived.public() == PublicKey::new(key.public)).then_some(derived)
    }

    fn derived(&self, zone: &str, generation: u32) -> Option<Arc<SigningKey>> {
        // A list is as good after a panic elsewhere as before.
        let lock = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |keys: &HashMap<String, Vec<Derived>>| {
            keys.get(zone)?.iter().find(|d| d.generation == generation).map(|d| d.key.clone())
        };
        if let Some(known) = known(&lock()) {
            return known;
        }
        let key = self.derivation.key(zone, generation).map(Arc::new);
        let mut keys = lock();
        let own = keys.entry(zone.to_owned()).or_default();
        if own.len() >= KEPT_KEYS {
            own.remove(0);
        }
        own.push(Derived { generation, key: key.clone() });
        key
    }

    /// How many signatures are kept.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }
}

/// Signs in one zone at one moment.
#[derive(Debug)]
pub(crate) struct ZoneSigner {
    signer: Arc<Signer>,
    /// In lower case.
    zone: WireName,
    answers: Arc<SigningKey>,
    /// Those that sign the key set and what is derived from it.
    own: ArrayVec<Arc<SigningKey>, OWN_KEYS>,
    now_s: u64,
}

impl ZoneSigner {
    /// For a zone (lower case, no final dot) with these keys.
    pub(crate) fn signing(signer: &Arc<Signer>, zone: &str, keys: &[ZoneKey], now: UnixMillis) -> Signing {
        let mut own: ArrayVec<Arc<SigningKey>, OWN_KEYS> = ArrayVec::new();
        let (mut ours, mut others) = (Links::default(), Links::default());
        let mut best = None;
        for key in keys {
            let stage = key.life.at(now);
            if !stage.is_served() {
                continue;
            }
            let Some(private) = signer.own(zone, key) else {
                others.add(stage);
                continue;
            };
            ours.add(stage);
            if let Some(rank) = stage.rank().map(|r| (r, key.generation))
                && best.as_ref().is_none_or(|(known, _)| *known < rank)
            {
                best = Some((rank, private.clone()));
            }
            // A registry has no more of a zone.
            let _ = own.try_push(private);
        }
        if others.link() > ours.link() {
            return Signing::Elsewhere;
        }
        // All of them retiring: the newest goes on.
        let answers = best.map(|(_, key)| key).or_else(|| own.last().cloned());
        let (Some(answers), Some(zone)) = (answers, WireName::from_text(zone)) else { return Signing::Bare };
        let now_s = now.0 / 1000;
        Signing::By(Box::new(ZoneSigner { signer: signer.clone(), zone, answers, own, now_s }))
    }

    /// Record data of the RRSIGs of a set; `None` when one cannot be made.
    pub(crate) fn sign(&self, set: &RrSet) -> Option<ArrayVec<Vec<u8>, OWN_KEYS>> {
        // Parents believe CDS and CDNSKEY by what they know already (RFC 7344 §4.1): any of the keys.
        let keys = match set.rtype {
            TYPE_DNSKEY | TYPE_CDS | TYPE_CDNSKEY => self.own.as_slice(),
            _ => std::slice::from_ref(&self.answers),
        };
        let records = set.records();
        let (begin, end) = self.signer.times.of(self.now_s, fnv(&records));
        keys.iter().map(|key| self.with(key, set, &records, begin as u32, end as u32)).collect()
    }

    fn with(&self, key: &SigningKey, set: &RrSet, records: &[u8], begin: u32, end: u32) -> Option<Vec<u8>> {
        let public = key.public();
        let signed = Signed { zone: self.zone.wire(), tag: public.tag(), inception: begin, expiration: end };
        let mut data = set.rrsig(&signed);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&data);
        hash.update(records);
        let hash: [u8; 32] = hash.finish().as_ref().try_into().ok()?;
        let name = *public.dnskey().last_chunk::<8>()?;
        data.extend_from_slice(&self.signer.cache.get_or((hash, name), || key.sign(&hash))?);
        Some(data)
    }
}

/// FNV-1a: spreads sets over their windows; nothing depends on it being hard to foresee.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::registry::{KeyLife, KeyStage};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_signature_is_good_for_long_whenever_it_is_given(
            now in 1_000_000_000u64..4_000_000_000,
            spread: u64,
            window in 1u64..10_000_000,
        ) {
            let times = SignTimes { window: Duration::from_secs(window), ..SignTimes::default() };
            let (begin, end) = times.of(now, spread);
            prop_assert!(begin + times.skew.as_secs() <= now);
            prop_assert!(end >= now + times.margin.as_secs());
            prop_assert!(end - begin == window + times.margin.as_secs() + times.skew.as_secs());
            // The same until the window ends, then another.
            let next = begin + times.skew.as_secs() + window;
            prop_assert_eq!(times.of(next - 1, spread), (begin, end));
            prop_assert_eq!(times.of(next, spread), (begin + window, end + window));
        }
    }

    fn life(stage: KeyStage) -> KeyLife {
        let hold = Duration::from_secs(10);
        KeyLife { stage, since: UnixMillis(0), publish_hold: hold, retire_hold: hold }
    }

    #[test]
    fn the_key_that_is_farthest_signs_answers_and_all_sign_the_key_set() {
        let derivation = KeyDerivation::new(&[5; 32]);
        let signer = Arc::new(Signer::new(derivation.clone(), SignTimes::default()));
        let other = KeyDerivation::new(&[6; 32]);
        let key = |from: &KeyDerivation, generation, stage| ZoneKey {
            site: from.site().into(),
            generation,
            public: from.key("a.example", generation).unwrap().public().dnskey()[4..].try_into().unwrap(),
            life: life(stage),
        };
        let beside = |others: &[KeyStage], stages: &[KeyStage]| {
            let mut keys: Vec<ZoneKey> = others.iter().zip(1..).map(|(s, n)| key(&other, n, *s)).collect();
            keys.extend(stages.iter().zip(1..).map(|(s, n)| key(&derivation, n, *s)));
            ZoneSigner::signing(&signer, "a.example", &keys, UnixMillis(1))
        };
        let signing = |stages: &[KeyStage]| {
            let Signing::By(zone) = beside(&[KeyStage::Ready], stages) else { return None };
            let number = |key: &SigningKey| {
                (1..99).find(|n| derivation.key("a.example", *n).unwrap().public() == key.public()).unwrap()
            };
            Some((number(&zone.answers), zone.own.iter().map(|k| number(k)).collect::<Vec<_>>()))
        };
        use KeyStage::{Active, Leaving, Left, Published, Ready, Removed, Retiring};
        assert_eq!(signing(&[]), None);
        assert_eq!(signing(&[Removed]), None);
        assert_eq!(signing(&[Published]), Some((1, vec![1])));
        assert_eq!(signing(&[Active, Published]), Some((1, vec![1, 2])));
        assert_eq!(signing(&[Active, Ready]), Some((1, vec![1, 2])));
        assert_eq!(signing(&[Retiring, Active]), Some((2, vec![1, 2])));
        assert_eq!(signing(&[Removed, Active]), Some((2, vec![2])));
        assert_eq!(signing(&[Ready, Ready]), Some((2, vec![1, 2])));
        assert_eq!(signing(&[Leaving, Published]), Some((1, vec![1, 2])));
        assert_eq!(signing(&[Retiring]), Some((1, vec![1])));
        // However often a key was rolled while old ones stay.
        let many = [[Retiring; MAX_ZONE_KEYS - 2].as_slice(), &[Active]].concat();
        let last = MAX_ZONE_KEYS as u32 - 1;
        assert_eq!(signing(&many), Some((last, (1..=last).collect())));

        // Where a site's DS is, or was last, it can be believed; elsewhere it says nothing.
        let believed = |others: &[KeyStage], own: &[KeyStage]| match beside(others, own) {
            Signing::By(_) => Some(true),
            Signing::Elsewhere => Some(false),
            Signing::Bare => None,
        };
        for own in [&[][..], &[Published], &[Ready], &[Left], &[Removed], &[Retiring, Left]] {
            assert_eq!(believed(&[Active], own), Some(false), "{own:?}");
            assert_eq!(believed(&[Leaving], own), Some(false), "{own:?}");
        }
        for own in [&[Active][..], &[Leaving], &[Retiring, Ready], &[Active, Left], &[Published, Active]] {
            assert_eq!(believed(&[Active], own), Some(true), "{own:?}");
        }
        // All of them leave.
        assert_eq!(believed(&[Left], &[Left]), Some(true));
        assert_eq!(believed(&[Left], &[Ready]), Some(false));
        assert_eq!(believed(&[Ready], &[Published]), Some(true));
        assert_eq!(believed(&[Ready, Removed], &[]), None);
        assert_eq!(believed(&[Left], &[]), Some(false));
    }

    #[test]
    fn a_key_that_is_not_what_the_site_derives_is_not_its_own() {
        let signer = Signer::new(KeyDerivation::new(&[5; 32]), SignTimes::default());
        let key = ZoneKey {
            site: signer.site().into(),
            generation: 1,
            public: [7; 64],
            life: life(KeyStage::Active),
        };
        assert!(signer.own("a.example", &key).is_none());
    }
}
