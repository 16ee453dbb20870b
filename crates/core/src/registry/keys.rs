//! Keys that zones are signed with (DNSSEC), and their lives.
//!
//! Each site of brokers has keys of its own and signs with nobody else's (RFC 8901 §2.1.2, each key being
//! both key- and zone-signing). What is registered is the public part: every broker serves the keys of all
//! sites together, so that an answer signed at one site is valid to a resolver that asked another for the
//! keys.

use crate::time::UnixMillis;
use std::sync::Arc;
use std::time::Duration;

/// Most keys of one zone, of all sites: each is 80 bytes of every DNSKEY answer.
pub const MAX_ZONE_KEYS: usize = 16;

/// A public key of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneKey {
    /// The site whose key it is.
    pub site: Arc<str>,
    /// Which of the site's keys: from this and the zone's name the site derives the private part.
    pub generation: u32,
    /// Point on P-256: both coordinates, big-endian (RFC 6605 §4).
    pub public: [u8; 64],
    /// How far it is.
    pub life: KeyLife,
}

/// Where a key is in its life.
///
/// ```text
///             publish_hold          DsSeen            Superseded           retire_hold
///  Published ─────────────► Ready ─────────► Active ────────────► Retiring ───────────┐
///      │                      │                │                                      │
///      │ Disabled             │ Disabled       │ Disabled                             ▼
///      │                      ▼                ▼      DsGone          retire_hold   Removed
///      │                   Leaving ◄───────────┘   ┌───────► Left ──────────────────► ▲
///      │                      └────────────────────┘                                  │
///      └──────────────────────────────────────────────────────────────────────────────┘
/// ```
///
/// Superseded leads to Retiring from Published and Ready too. What is done with a key in each stage:
///
/// | stage | in DNSKEY, signs it | signs answers | in CDS | why |
/// |---|---|---|---|---|
/// | Published | yes | if the site has no other | no | resolvers may hold key sets without it |
/// | Ready | yes | if the site has no other | yes | every resolver can know it: its DS may come |
/// | Active | yes | yes | yes | its DS is there |
/// | Retiring | yes | no | no | resolvers hold its signatures, or its DS alone |
/// | Leaving | yes | yes | no: the zone asks for no DS | its DS is to go |
/// | Left | yes | yes | the same | resolvers may hold its DS still |
/// | Removed | no | no | no | |
///
/// A stage ends by itself after its hold, so nothing has to be written for that: [`KeyLife::at`] says what
/// it is at a moment, alike on every broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLife {
    /// The stage that was entered by an event.
    pub stage: KeyStage,
    /// When that was.
    pub since: UnixMillis,
    /// How long resolvers may hold a key set from before: the TTL of DNSKEY, and what brokers need to hear of it.
    pub publish_hold: Duration,
    /// How long resolvers may hold a DS or a signature from before: the parent's TTL of DS, as a rule.
    pub retire_hold: Duration,
}

/// The stages of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyStage {
    /// In the key set; not every resolver can have seen it.
    Published,
    /// Every resolver can have seen it; its DS is awaited.
    Ready,
    /// Its DS is at the parent; it signs.
    Active,
    /// A newer key took its place.
    Retiring,
    /// The zone is to be signed no longer: the DS is to go.
    Leaving,
    /// The DS is gone; caches may still have it.
    Left,
    /// Used no more.
    Removed,
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// Its DS is at the parent.
    DsSeen,
    /// Another key of its site became active.
    Superseded,
    /// The site is to sign no longer.
    Disabled,
    /// Its DS is at the parent no longer.
    DsGone,
}

/// An event that makes no sense in the stage that a key is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyLifeError {
    /// The DS came before every resolver could know the key.
    #[error("the key is in caches everywhere only in {} s: its DS must not be at the parent before", .wait.as_secs())]
    TooEarly {
        /// How long it is to wait still.
        wait: Duration,
    },
    /// Anything else.
    #[error("a key that is {} cannot be {}", .stage.as_str(), .event.as_str())]
    NoSense {
        /// Where it is.
        stage: KeyStage,
        /// What was told.
        event: KeyEvent,
    },
}

impl KeyEvent {
    /// Every one.
    pub const ALL: [KeyEvent; 4] =
        [KeyEvent::DsSeen, KeyEvent::Superseded, KeyEvent::Disabled, KeyEvent::DsGone];

    /// What it makes of a key, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyEvent::DsSeen => "taken by the parent",
            KeyEvent::Superseded => "superseded",
            KeyEvent::Disabled => "disabled",
            KeyEvent::DsGone => "dropped by the parent",
        }
    }
}

impl KeyStage {
    /// Every one.
    pub const ALL: [KeyStage; 7] = [
        KeyStage::Published,
        KeyStage::Ready,
        KeyStage::Active,
        KeyStage::Retiring,
        KeyStage::Leaving,
        KeyStage::Left,
        KeyStage::Removed,
    ];

    /// As people and records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyStage::Published => "published",
            KeyStage::Ready => "ready",
            KeyStage::Active => "active",
            KeyStage::Retiring => "retiring",
            KeyStage::Leaving => "leaving",
            KeyStage::Left => "left",
            KeyStage::Removed => "removed",
        }
    }

    /// The stage of this name.
    pub fn parse(text: &str) -> Option<KeyStage> {
        KeyStage::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether it is in the key set, which it then signs.
    pub fn is_served(self) -> bool {
        self != KeyStage::Removed
    }

    /// Whether the parent is asked to have its DS (RFC 7344).
    pub fn wants_ds(self) -> bool {
        matches!(self, KeyStage::Ready | KeyStage::Active)
    }

    /// Whether it ends what was signed: the parent is asked to have no DS (RFC 8078 §4).
    pub fn wants_no_ds(self) -> bool {
        matches!(self, KeyStage::Leaving | KeyStage::Left)
    }

    /// Of a site's keys the one that ranks highest signs answers; `None` signs never.
    pub fn rank(self) -> Option<u8> {
        match self {
            KeyStage::Active => Some(4),
            KeyStage::Leaving | KeyStage::Left => Some(3),
            KeyStage::Ready => Some(2),
            KeyStage::Published => Some(1),
            KeyStage::Retiring | KeyStage::Removed => None,
        }
    }
}

impl KeyLife {
    /// Of a key that is made now.
    pub fn begin(now: UnixMillis, publish_hold: Duration, retire_hold: Duration) -> KeyLife {
        KeyLife { stage: KeyStage::Published, since: now, publish_hold, retire_hold }
    }

    /// The stage at a moment.
    pub fn at(&self, now: UnixMillis) -> KeyStage {
        match self.change() {
            Some((at, next)) if at <= now => next,
            _ => self.stage,
        }
    }

    /// When the stage ends by itself, and what comes then.
    pub fn change(&self) -> Option<(UnixMillis, KeyStage)> {
        let after = |hold: Duration| {
            let millis = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
            UnixMillis(self.since.0.saturating_add(millis))
        };
        match self.stage {
            KeyStage::Published => Some((after(self.publish_hold), KeyStage::Ready)),
            KeyStage::Retiring | KeyStage::Left => Some((after(self.retire_hold), KeyStage::Removed)),
            KeyStage::Ready | KeyStage::Active | KeyStage::Leaving | KeyStage::Removed => None,
        }
    }

    /// Its life after an event.
    ///
    /// # Errors
    /// [`KeyLifeError`] where the event makes no sense; nothing changes then.
    pub fn on(&self, event: KeyEvent, now: UnixMillis) -> Result<KeyLife, KeyLifeError> {
        use KeyEvent::{Disabled, DsGone, DsSeen, Superseded};
        use KeyStage::{Active, Leaving, Left, Published, Ready, Removed, Retiring};
        let stage = self.at(now);
        let next = match (stage, event) {
            (Ready, DsSeen) => Active,
            (Published | Ready | Active, Superseded) => Retiring,
            // No parent has heard of it yet, and answers may bear its signatures: those are good without a DS.
            (Published, Disabled) => Removed,
            // The DS may be there, unseen.
            (Ready | Active, Disabled) => Leaving,
            (Leaving, DsGone) => Left,
            (Published, DsSeen) => {
                let ready = self.change().map_or(now.0, |(at, _)| at.0);
                return Err(KeyLifeError::TooEarly {
                    wait: Duration::from_millis(ready.saturating_sub(now.0)),
                });
            }
            // Told again.
            (Active, DsSeen)
            | (Retiring, Superseded)
            | (Leaving, Disabled)
            | (Left, DsGone | Disabled)
            | (Removed, Superseded | Disabled | DsGone) => return Ok(*self),
            _ => return Err(KeyLifeError::NoSense { stage, event }),
        };
        Ok(KeyLife { stage: next, since: now, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: Duration = Duration::from_secs(10);
    const RETIRE: Duration = Duration::from_secs(100);

    fn in_stage(stage: KeyStage) -> KeyLife {
        KeyLife { stage, since: UnixMillis(1000), publish_hold: PUBLISH, retire_hold: RETIRE }
    }

    #[test]
    fn every_stage_and_every_event() {
        use KeyStage::{Active, Leaving, Left, Published, Ready, Removed, Retiring};
        // In the order of `KeyEvent::ALL`: seen, superseded, disabled, gone. `None` is refused.
        let table = [
            (Published, [None, Some(Retiring), Some(Removed), None]),
            (Ready, [Some(Active), Some(Retiring), Some(Leaving), None]),
            (Active, [Some(Active), Some(Retiring), Some(Leaving), None]),
            (Retiring, [None, Some(Retiring), None, None]),
            (Leaving, [None, None, Some(Leaving), Some(Left)]),
            (Left, [None, None, Some(Left), Some(Left)]),
            (Removed, [None, Some(Removed), Some(Removed), Some(Removed)]),
        ];
        assert_eq!(table.map(|(stage, _)| stage), KeyStage::ALL);
        let now = UnixMillis(1001);
        for (stage, row) in table {
            for (event, expected) in KeyEvent::ALL.into_iter().zip(row) {
                let life = in_stage(stage);
                let after = life.on(event, now);
                assert_eq!(after.ok().map(|l| l.stage), expected, "{stage:?} {event:?}");
                if let Ok(after) = after {
                    // Told again, a stage does not begin anew.
                    assert_eq!(after.since, if after.stage == stage { life.since } else { now });
                }
            }
        }
        let early = in_stage(Published).on(KeyEvent::DsSeen, UnixMillis(3000));
        assert_eq!(early, Err(KeyLifeError::TooEarly { wait: Duration::from_secs(8) }));
    }

    #[test]
    fn holds_end_by_themselves() {
        for (stage, hold, next) in [
            (KeyStage::Published, PUBLISH, KeyStage::Ready),
            (KeyStage::Retiring, RETIRE, KeyStage::Removed),
            (KeyStage::Left, RETIRE, KeyStage::Removed),
        ] {
            let life = in_stage(stage);
            let end = UnixMillis(1000 + hold.as_millis() as u64);
            assert_eq!(life.at(UnixMillis(end.0 - 1)), stage);
            assert_eq!(life.at(end), next);
            assert_eq!(life.change(), Some((end, next)));
        }
        for stage in [KeyStage::Ready, KeyStage::Active, KeyStage::Leaving, KeyStage::Removed] {
            assert_eq!(in_stage(stage).at(UnixMillis(u64::MAX)), stage);
        }
    }

    #[test]
    fn a_key_that_waited_long_enough_is_taken() {
        let life = KeyLife::begin(UnixMillis(0), PUBLISH, RETIRE);
        assert!(life.on(KeyEvent::DsSeen, UnixMillis(9_999)).is_err());
        let active = life.on(KeyEvent::DsSeen, UnixMillis(10_000)).unwrap();
        assert_eq!((active.stage, active.since), (KeyStage::Active, UnixMillis(10_000)));
    }

    #[test]
    fn names_are_read_back() {
        for stage in KeyStage::ALL {
            assert_eq!(KeyStage::parse(stage.as_str()), Some(stage));
        }
        assert_eq!(KeyStage::parse("Active"), None);
    }
}
