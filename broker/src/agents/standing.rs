//! Tells an agent what this broker concludes of its node's mirrors and how much they are used, for the node's
//! operator.
//!
//! ```text
//! snapshot ─────── every few seconds ──► verdicts of declared services ── changed? ──► first uni stream
//! users, beacons ─ every few seconds ──► their users and share ────────── changed? ──► second, where there is one
//! ```
//! It costs a look at a few mirrors; whoever does not read is not waited for, and loses nothing else.

use super::beacons::{BeaconKeys, Claimed};
use crate::publish::SnapshotReader;
use crate::steering::{Told, TrafficHandle};
use nearmost_core::health::{Family, Reason};
use nearmost_core::id::NodeId;
use nearmost_core::registry::MirrorIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::traffic::MirrorName;
use nearmost_wire::frame;
use nearmost_wire::standing::{MAX_STANDING, MirrorStanding, MirrorUsage, Standing, Usage};
use serde::Serialize;
use std::time::Duration;

/// How often it is looked whether something changed.
const LOOK: Duration = Duration::from_secs(5);
/// A number of users that moved by no more than this part is as it was.
const SLIGHT: f32 = 0.02;
/// A node's services beyond these are not told of.
const MOST_SERVICES: usize = MAX_STANDING / 2;

/// Names of a node's services: domain and mirror.
pub(super) type Services = Vec<(String, String)>;

/// What is told comes from these.
pub struct Telling {
    /// Verdicts.
    pub snapshot: SnapshotReader,
    /// Users.
    pub traffic: TrafficHandle,
}

/// Tells until it is dropped; never ends by itself.
pub(super) async fn tell(
    connection: &quinn::Connection,
    (node, services): (&NodeId, &Services),
    telling: &Telling,
    beacons: &BeaconKeys,
) {
    // An agent that allows no stream keeps this waiting, and that is all; so does one that allows no second.
    if let Ok(first) = connection.open_uni().await {
        let standing = changes(first, || of(services, &telling.snapshot.load()), |told, now| told != now);
        let usage = async {
            let claimed = Claimed::new(beacons, node);
            if let Ok(second) = connection.open_uni().await {
                let now = || used(services, &telling.traffic.told(), beacons.refused(&claimed));
                changes(second, now, moved).await;
            }
        };
        tokio::join!(standing, usage);
    }
    std::future::pending().await
}

/// Says what is so, again when it changed, until nobody reads it.
async fn changes<M: Serialize>(
    mut stream: quinn::SendStream,
    now: impl Fn() -> M,
    changed: impl Fn(&M, &M) -> bool,
) {
    let mut told = None;
    loop {
        let now = now();
        if told.as_ref().is_none_or(|told| changed(told, &now)) {
            if frame::write(&mut stream, &now).await.is_err() {
                return;
            }
            told = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Users of a node's mirrors, and of their domains.
fn used(services: &Services, told: &Told, beacons_refused: u64) -> Usage {
    // Whole tenths, so that what decays is not told for ever.
    let tenths = |users: f64| ((users * 10.0).round() / 10.0) as f32;
    let of = |(domain, mirror): &(String, String)| {
        let name = MirrorName { domain: domain.as_str().into(), mirror: mirror.as_str().into() };
        MirrorUsage {
            domain: domain.clone(),
            mirror: mirror.clone(),
            users: tenths(told.mirrors.get(&name).map_or(0.0, |m| m.users)),
            domain_users: tenths(told.domains.get(&name.domain).copied().unwrap_or(0.0)),
        }
    };
    Usage { mirrors: services.iter().take(MOST_SERVICES).map(of).collect(), beacons_refused }
}

/// Whether numbers of users are worth telling anew; those of a busy domain are never quite the same.
fn moved(before: &Usage, now: &Usage) -> bool {
    let far = |before: f32, now: f32| (now - before).abs() > SLIGHT * before.max(now);
    before.beacons_refused != now.beacons_refused
        || before.mirrors.len() != now.mirrors.len()
        || before
            .mirrors
            .iter()
            .zip(&now.mirrors)
            .any(|(before, now)| far(before.users, now.users) || far(before.domain_users, now.domain_users))
}

fn of(services: &Services, snapshot: &Snapshot) -> Standing {
    let found = services.iter().take(MOST_SERVICES).filter_map(|(domain, mirror)| {
        let registry = &snapshot.registry;
        let run = registry.domain(registry.find_domain(domain)?).mirrors.clone();
        let mirrors = registry.mirrors.get(run.start as usize..run.end as usize)?;
        let at = mirrors.binary_search_by(|m| (*m.name).cmp(mirror.as_str())).ok()?;
        Some((domain, mirror, MirrorIndex(run.start + at as u32)))
    });
    let verdicts = found.flat_map(|(domain, mirror, index)| {
        let live = snapshot.live.mirror(index);
        let families = Family::ALL.into_iter().filter(|f| {
            live.addr(*f).is_some()
                || !matches!(live.verdict(*f).reason, Reason::NothingHeard | Reason::NoAddress)
        });
        families
            .map(|family| {
                let verdict = live.verdict(family);
                MirrorStanding {
                    domain: domain.clone(),
                    mirror: mirror.clone(),
                    family: family.as_str().into(),
                    state: verdict.state.as_str().into(),
                    reason: verdict.reason.code().into(),
                    vantage: verdict.vantage.as_str().into(),
                    since_unix_ms: verdict.since.0,
                    eligible: live.eligible(family),
                }
            })
            .collect::<Vec<_>>()
    });
    Standing { verdicts: verdicts.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::traffic::MirrorUsers;
    use std::collections::BTreeMap;

    #[test]
    fn users_are_told_with_those_of_the_whole_domain() {
        let mut mirrors = BTreeMap::new();
        for (domain, mirror, users) in [(DOMAIN, "sao", 3.04), (DOMAIN, "nyc", 9.0), ("b.test", "sao", 5.0)] {
            let name = MirrorName { domain: domain.into(), mirror: mirror.into() };
            mirrors.insert(name, MirrorUsers { users, ..MirrorUsers::default() });
        }
        let told = Told::new(Vec::new(), mirrors, 0);
        let services = ["sao", "nowhere"].map(|mirror| (DOMAIN.to_owned(), mirror.to_owned())).to_vec();
        let usage = used(&services, &told, 2);
        assert_eq!(usage.beacons_refused, 2);
        let users: Vec<_> = usage.mirrors.iter().map(|m| (&*m.mirror, m.users, m.domain_users)).collect();
        assert_eq!(users, [("sao", 3.0, 12.0), ("nowhere", 0.0, 12.0)]);
        assert!(usage.mirrors[1].users.is_sign_positive(), "nobody is not less than nobody");
    }

    #[test]
    fn users_are_told_anew_once_they_moved() {
        let usage = |users, domain_users, beacons_refused| {
            let mirror = MirrorUsage { domain: "d".into(), mirror: "m".into(), users, domain_users };
            Usage { mirrors: vec![mirror], beacons_refused }
        };
        let before = usage(1000.0, 2000.0, 0);
        assert!(!moved(&before, &before) && !moved(&before, &usage(1010.0, 1970.0, 0)));
        for now in [usage(1030.0, 2000.0, 0), usage(1000.0, 1900.0, 0), usage(1000.0, 2000.0, 1)] {
            assert!(moved(&before, &now), "{now:?}");
        }
        assert!(moved(&usage(0.1, 0.1, 0), &usage(0.0, 0.0, 0)), "that the last one left is told");
        assert!(!moved(&usage(0.0, 0.0, 0), &usage(0.0, 0.0, 0)));
    }

    #[test]
    fn only_declared_mirrors_are_told() {
        let fixture = Fixture::five_mirrors();
        let services = ["sao", "nowhere"].map(|mirror| (DOMAIN.to_owned(), mirror.to_owned())).to_vec();
        let told = of(&services, &fixture.snapshot()).verdicts;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&*told[0].mirror, &*told[0].family, &*told[0].state), ("sao", "v4", "up"));
        assert!(told[0].eligible);
    }
}
