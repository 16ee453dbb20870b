//! Keys that a domain is signed with: enabled, rolled, and taken or dropped by its parent.
//!
//! Private keys are the site's, which makes them by number; what is planned here is the record of the public
//! part, and how far it is ([`KeyLife`]). Only keys of the site that is asked are changed: other sites have
//! their own people.

use super::entry::{Content, EntryKey};
use super::plan::{Edit, Plan, PlanError};
use super::view::RegistryView;
use nearmost_core::registry::{KeyEvent, KeyLife, KeyStage, MAX_ZONE_KEYS, ZoneKey};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::DnssecResponse;
use nearmost_wire::registry::{EntryKind, ZoneKeyBody};
use std::time::Duration;

/// What shall happen to the keys of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// The domain is to be signed.
    Enable,
    /// A new key is to take the place of the one there is.
    Roll,
    /// The parent has the DS of the new key.
    DsSeen,
    /// The domain is to be signed no longer.
    Disable,
    /// The parent has no DS any more.
    DsGone,
}

/// The number after the last that a site had in a domain, the removed ones included: none is used twice.
pub fn next_generation(view: &RegistryView, domain: &str, site: &str) -> u32 {
    let prefix = format!("{site}-");
    let all = view.records.keys().filter(|k| k.kind == EntryKind::ZoneKey && k.scope == domain);
    let numbers = all.filter_map(|k| k.id.strip_prefix(prefix.as_str())?.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// The change of the keys of the site that `told` is of; with a new key, that is the one named there.
///
/// # Errors
/// [`PlanError::Refused`] where it makes no sense now; [`PlanError::Unreadable`] for a key that this build
/// cannot read.
pub fn plan(
    view: &RegistryView,
    told: &DnssecResponse,
    change: KeyChange,
    now_unix_ms: u64,
) -> Result<Plan, PlanError> {
    let now = UnixMillis(now_unix_ms);
    let own = own(view, told)?;
    let mut edits = Edits { domain: &told.domain, all: Vec::new() };
    for key in own.iter().filter(|k| k.life.at(now) == KeyStage::Removed) {
        edits.all.push(Edit::remove(edits.key(key)?));
    }
    match change {
        KeyChange::Enable => edits.enable(view, told, &own, now)?,
        KeyChange::Roll => edits.roll(view, told, &own, now)?,
        KeyChange::DsSeen => edits.seen(&own, now)?,
        KeyChange::Disable => edits.each(&own, now, KeyEvent::Disabled, |s| {
            matches!(s, KeyStage::Published | KeyStage::Ready | KeyStage::Active)
        })?,
        KeyChange::DsGone => edits.each(&own, now, KeyEvent::DsGone, |s| s == KeyStage::Leaving)?,
    }
    Plan::of_edits(view, edits.all)
}

/// The keys of all sites.
fn all(view: &RegistryView, domain: &str) -> Result<Vec<ZoneKey>, PlanError> {
    let keys = view
        .zone_keys(domain)
        .map(|(key, body)| body.plain(&key.id).map_err(|e| PlanError::Refused(format!("{key}: {e}"))));
    keys.collect()
}

/// How long a new key is published beside those that are served: at least as long as caches may hold a key
/// set from before, which lives half as long as the shortest hold of its keys, and a second at least.
fn publish_hold(served: &[ZoneKey], configured: Duration) -> Duration {
    let shortest = served.iter().map(|key| key.life.publish_hold).min();
    configured.max(shortest.map_or(Duration::ZERO, |hold| hold.max(Duration::from_secs(2))))
}

/// The site's keys, the oldest first.
fn own(view: &RegistryView, told: &DnssecResponse) -> Result<Vec<ZoneKey>, PlanError> {
    let mut own = all(view, &told.domain)?;
    own.retain(|key| *key.site == *told.site);
    own.sort_by_key(|key| key.generation);
    Ok(own)
}

struct Edits<'d> {
    domain: &'d str,
    all: Vec<Edit>,
}

impl Edits<'_> {
    fn key(&self, key: &ZoneKey) -> Result<EntryKey, PlanError> {
        EntryKey::zone_key(self.domain, &key.site, key.generation).map_err(refused)
    }

    fn enable(
        &mut self,
        view: &RegistryView,
        told: &DnssecResponse,
        own: &[ZoneKey],
        now: UnixMillis,
    ) -> Result<(), PlanError> {
        match own.iter().map(|k| k.life.at(now)).find(|s| *s != KeyStage::Removed && *s != KeyStage::Left) {
            Some(stage) => {
                let why = format!(
                    "the site {} has a key of {} already, which is {}",
                    told.site,
                    told.domain,
                    stage.as_str()
                );
                Err(PlanError::Refused(why))
            }
            None => self.add(view, told, now),
        }
    }

    fn roll(
        &mut self,
        view: &RegistryView,
        told: &DnssecResponse,
        own: &[ZoneKey],
        now: UnixMillis,
    ) -> Result<(), PlanError> {
        let stages: Vec<KeyStage> = own.iter().map(|k| k.life.at(now)).collect();
        if let Some(at) = stages.iter().position(|s| matches!(s, KeyStage::Published | KeyStage::Ready)) {
            let id = self.key(&own[at])?.id;
            return Err(PlanError::Refused(format!(
                "the key {id} is {}: give its DS to the parent and say --ds-seen before the next one is made",
                stages[at].as_str()
            )));
        }
        match stages.contains(&KeyStage::Active) {
            true => self.add(view, told, now),
            false => Err(PlanError::Refused(format!(
                "the site {} has no active key of {}; begin with --enable",
                told.site, told.domain
            ))),
        }
    }

    /// A new key, as the broker named it.
    fn add(&mut self, view: &RegistryView, told: &DnssecResponse, now: UnixMillis) -> Result<(), PlanError> {
        if told.next_generation < next_generation(view, &told.domain, &told.site) {
            return Err(PlanError::Refused("somebody else made a key meanwhile; look again".into()));
        }
        let mut known = all(view, self.domain)?;
        // Own ones that are over go with this change; others' go when their people change something.
        known.retain(|key| key.life.at(now).is_served() || *key.site != *told.site);
        if known.len() >= MAX_ZONE_KEYS {
            return Err(PlanError::Refused(format!(
                "{} has {} keys of all sites, and of more than {MAX_ZONE_KEYS} some are not served: roll again \
                 when an old one is removed",
                told.domain,
                known.len()
            )));
        }
        let mut served = known;
        served.retain(|key| key.life.at(now).is_served());
        let life = KeyLife::begin(
            now,
            publish_hold(&served, Duration::from_secs(told.publish_hold_s)),
            Duration::from_secs(told.retire_hold_s),
        );
        let body = ZoneKeyBody {
            public: told.next_public.clone(),
            stage: life.stage.as_str().into(),
            since_unix_ms: life.since.0,
            publish_hold_s: life.publish_hold.as_secs(),
            retire_hold_s: told.retire_hold_s,
        };
        let key = EntryKey::zone_key(self.domain, &told.site, told.next_generation).map_err(refused)?;
        self.all.push(Edit::put(key, Content::ZoneKey(body)));
        Ok(())
    }

    /// The newest key that is not active yet becomes so, and those before it make room.
    fn seen(&mut self, own: &[ZoneKey], now: UnixMillis) -> Result<(), PlanError> {
        let waiting = |k: &&ZoneKey| matches!(k.life.at(now), KeyStage::Published | KeyStage::Ready);
        let Some(new) = own.iter().rev().find(waiting) else {
            return match own.iter().any(|k| k.life.at(now) == KeyStage::Active) {
                true => Ok(()),
                false => Err(PlanError::Refused("there is no key whose DS could be at the parent".into())),
            };
        };
        self.happens(new, KeyEvent::DsSeen, now)?;
        for old in own.iter().filter(|k| k.generation != new.generation) {
            if matches!(old.life.at(now), KeyStage::Published | KeyStage::Ready | KeyStage::Active) {
                self.happens(old, KeyEvent::Superseded, now)?;
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        own: &[ZoneKey],
        now: UnixMillis,
        event: KeyEvent,
        which: impl Fn(KeyStage) -> bool,
    ) -> Result<(), PlanError> {
        let mut keys = own.iter().filter(|k| which(k.life.at(now))).peekable();
        if keys.peek().is_none() {
            return Err(PlanError::Refused(format!("there is no key that could be {}", event.as_str())));
        }
        keys.try_for_each(|key| self.happens(key, event, now))
    }

    fn happens(&mut self, key: &ZoneKey, event: KeyEvent, now: UnixMillis) -> Result<(), PlanError> {
        let life = key.life.on(event, now).map_err(refused)?;
        let body = ZoneKeyBody::of(&ZoneKey { life, ..key.clone() });
        self.all.push(Edit::put(self.key(key)?, Content::ZoneKey(body)));
        Ok(())
    }
}

fn refused(error: impl std::fmt::Display) -> PlanError {
    PlanError::Refused(error.to_string())
}

#[cfg(test)]
#[path = "dnssec_tests.rs"]
mod tests;
