//! Which mirrors one client is given, for how long, and for whom else that holds: what every way to an
//! answer asks, so that all of them say the same.

use crate::records;
use nearmost_core::health::Family;
use nearmost_core::ranking::{self, Choice};
use nearmost_core::registry::DomainIndex;
use nearmost_core::snapshot::Snapshot;
use std::net::IpAddr;

/// The mirrors for a client in one family, and whether others may be given other ones; `None` for a
/// domain that the map does not know yet.
#[inline]
pub(crate) fn choose(
    snapshot: &Snapshot,
    domain: DomainIndex,
    client: IpAddr,
    family: Family,
) -> Option<(Choice, bool)> {
    let view = snapshot.map.view(domain, client)?;
    let choice = ranking::choose(&snapshot.registry, &snapshot.live, domain, &view, family);
    // The only mirror of a family is everyone's answer, unless rules keep it from somebody.
    let alternatives =
        view.set().has_rules() || snapshot.live.addressed(&snapshot.registry, domain, family) > 1;
    let depends = alternatives && !choice.for_everyone;
    Some((choice, depends))
}

/// How long an answer of these choices may be kept, in seconds: by the one that may change soonest.
pub(crate) fn ttl(snapshot: &Snapshot, domain: DomainIndex, choices: &[(Family, &Choice)]) -> u32 {
    let pace = choices
        .iter()
        .map(|(family, choice)| snapshot.live.pace(choice.mirrors.iter().map(|m| m.mirror), *family))
        .min();
    records::seconds(snapshot.registry.domain(domain).policy.ttl_at(pace.unwrap_or_default()))
}

/// Where the users of a resolver are that says nothing of them: where they were found, else where it is.
pub(crate) fn users_of(snapshot: &Snapshot, source: IpAddr) -> IpAddr {
    snapshot.map.model.users_behind(source).unwrap_or(source)
}
