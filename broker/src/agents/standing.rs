//! Tells an agent what this broker concludes of its node's mirrors, for the node's operator.
//!
//! ```text
//! snapshot ── every few seconds ──► verdicts of declared services ── changed? ──► one uni stream
//! ```
//! It costs a look at a few mirrors; whoever does not read is not waited for, and loses nothing else.

use crate::publish::SnapshotReader;
use nearmost_core::health::{Family, Reason};
use nearmost_core::registry::MirrorIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::frame;
use nearmost_wire::standing::{MAX_STANDING, MirrorStanding, Standing};
use std::time::Duration;

/// How often it is looked whether something changed.
const LOOK: Duration = Duration::from_secs(5);
/// A node's services beyond these are not told of.
const MOST_SERVICES: usize = MAX_STANDING / 2;

/// Names of a node's services: domain and mirror.
pub(super) type Services = Vec<(String, String)>;

/// Tells until it is dropped; never ends by itself.
pub(super) async fn tell(connection: &quinn::Connection, services: &Services, snapshot: &SnapshotReader) {
    // An agent that allows no stream keeps this waiting, and that is all.
    if let Ok(mut stream) = connection.open_uni().await {
        let mut told = None;
        loop {
            let now = of(services, &snapshot.load());
            if told.as_ref() != Some(&now) {
                if frame::write(&mut stream, &now).await.is_err() {
                    break;
                }
                told = Some(now);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    std::future::pending().await
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
