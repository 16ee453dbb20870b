//! The registry on the wire: bodies of records, and records → plain types.
//!
//! A record's body is JSON of one of the `…Body` types, version [`BODY_VERSION`]; its kind,
//! scope and id say what it is of:
//!
//! | kind | scope | id | body | at a tie |
//! |---|---|---|---|---|
//! | domain | its name | empty | [`DomainBody`] | removal wins |
//! | node | empty | its name | [`NodeBody`] | removal wins |
//! | mirror | the domain | its name | [`MirrorBody`] | removal wins |
//! | drain | the domain, or empty for a node | the mirror's or node's name | [`DrainBody`] | presence wins |
//! | force | the domain | the mirror's name | [`ForceBody`] | removal wins |
//! | person | empty | the person's id | [`PersonBody`] | removal wins |
//! | override | empty | the prefix, in its canonical text | [`OverrideBody`] | removal wins |
//! | zone-key | the domain | `<site>-<generation>` | [`ZoneKeyBody`] | removal wins |
//! | peer | empty | the broker's id | [`PeerBody`] | removal wins |
//! | endpoint | empty | the broker's id | [`EndpointBody`] | removal wins |
//! | challenge | the domain | the owner's labels below it, `/`, the value | [`ChallengeBody`] | removal wins |
//! | grant | the domain | the grantee's id | [`GrantBody`] | removal wins |
//! | claim | the domain | empty | [`ClaimBody`] | the earlier write stands |
//! | roll | the domain | the old key's id | [`RollBody`] | the earlier write stands |
//! | ban | the domain, or empty for all | the key's id, or an address | [`BanBody`], JSON behind an expiry | presence wins, the latest expiry first |
//!
//! Of two records of one kind, scope and id the later write stands, but for claims and rolls; the last column
//! says which of two that were written at the same moment of the hybrid clock (see
//! [`nearmost_replica::merge::Rule`]). Who may write them is [`crate::authority`]'s subject.

mod bodies;
mod build;
mod challenge;
mod failover;
mod federation;
mod mirror;
mod names;
mod orders;
mod overrides;
mod probe;
mod probe_of;
mod record;
mod sharing;
mod trust;
mod url;
mod zone_key;

#[cfg(test)]
mod build_tests;
#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod federation_tests;
#[cfg(test)]
mod orders_tests;
#[cfg(test)]
mod sharing_tests;

pub use bodies::*;
pub use build::{BuildDefaults, Built, Entry, EntryKind, Problem, build, entry_of};
pub use challenge::{Challenge, ChallengeBody, ChallengeError, MAX_CHALLENGES, owner as challenge_owner};
pub use failover::{FailbackBody, FailoverBody};
pub(crate) use federation::read;
pub use federation::{
    BanBody, BanError, ClaimBody, EndpointBody, GrantBody, GrantRole, PeerBody, RightsError, RollBody,
    RollError,
};
/// Most maintenance windows of one drain order.
pub use nearmost_core::registry::MAX_WINDOWS;
pub use orders::{DrainBody, ForceBody, ForceBodyTo, WindowBody};
pub use overrides::MAX_OVERRIDES;
pub(crate) use probe::check as plain_probe;
pub use probe::{ProbeBody, ProbeKind, StepBody};
pub use sharing::{MAX_RULES, RuleBody, RuleEffectBody, SharingBody, StrategyBody};
pub use zone_key::{MAX_HOLD_S, ZoneKeyBody, zone_key_id};
