//! Who is where, for everyone who asks.

use super::Demand;
use crate::clock::Clock;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::MonoTime;
use nearmost_core::traffic::{Basis, Flow, MirrorName, MirrorUsers, Sighting, Traffic};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known of users, shared by the task that learns it and those who tell it.
#[derive(Clone)]
pub struct TrafficHandle {
    known: Arc<Mutex<Known>>,
    clock: Clock,
}

/// What is told stays the same for so long, however many ask.
const TOLD: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Known {
    traffic: Traffic,
    told: Option<(MonoTime, Arc<Told>)>,
}

/// Who is where, of one moment.
#[derive(Debug, Default)]
pub struct Told {
    /// Users by mirror and country.
    pub flows: Vec<Flow>,
    /// Users by mirror, with their round trips.
    pub mirrors: BTreeMap<MirrorName, MirrorUsers>,
    /// Users by domain.
    pub domains: BTreeMap<Arc<str>, f64>,
    /// How many sightings found no room, ever.
    pub left_out: u64,
}

impl Told {
    /// Counts the users of each domain, once for all who ask.
    pub(crate) fn new(flows: Vec<Flow>, mirrors: BTreeMap<MirrorName, MirrorUsers>, left_out: u64) -> Told {
        let mut domains = BTreeMap::new();
        for (name, at) in &mirrors {
            *domains.entry(name.domain.clone()).or_default() += at.users;
        }
        Told { flows, mirrors, domains, left_out }
    }
}

impl TrafficHandle {
    /// Nobody is anywhere.
    pub fn new(clock: Clock) -> TrafficHandle {
        TrafficHandle { known: Arc::default(), clock }
    }

    /// Takes down users who were seen at a mirror that is known.
    pub(super) fn see(&self, snapshot: &Snapshot, demand: &Demand, now: MonoTime) {
        let registry = &snapshot.registry;
        let Some(name) = &demand.mirror else { return };
        let Some(domain) = registry.find_domain(&demand.domain) else { return };
        let Some(mirror) = registry.find_mirror(domain, name) else { return };
        let slot = (mirror.0 - registry.domain(domain).mirrors.start) as usize;
        let predicted = || snapshot.map.predict(domain, slot, demand.addr);
        let sighting = Sighting {
            mirror: MirrorName { domain: demand.domain.clone(), mirror: name.clone() },
            network: demand.addr,
            country: snapshot.map.locate(demand.addr).place.country,
            users: demand.users,
            rtt_ms: demand.rtt_ms.or_else(predicted),
            basis: if demand.rtt_ms.is_some() { Basis::Measured } else { Basis::Predicted },
            seen: demand.seen,
        };
        self.lock().traffic.see(sighting, now);
    }

    /// A user of each mirror.
    #[cfg(test)]
    pub(crate) fn see_all(&self, snapshot: &Snapshot) {
        for mirror in &snapshot.registry.mirrors {
            let domain = std::sync::Arc::clone(&snapshot.registry.domain(mirror.domain).name);
            let addr = std::net::Ipv4Addr::LOCALHOST.into();
            let demand = Demand::asked((domain, Some(std::sync::Arc::clone(&mirror.name))), addr, 1);
            self.see(snapshot, &demand, self.clock.now().mono);
        }
    }

    /// Who is where now, or was a moment ago.
    pub fn told(&self) -> Arc<Told> {
        let now = self.clock.now().mono;
        let mut known = self.lock();
        if let Some((at, told)) = &known.told
            && now.since(*at) < TOLD
        {
            return told.clone();
        }
        let traffic = &mut known.traffic;
        let (flows, mirrors) = (traffic.flows(now), traffic.mirrors(now));
        let told = Arc::new(Told::new(flows, mirrors, traffic.left_out()));
        known.told = Some((now, told.clone()));
        told
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is half taken down is at worst a user too few.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};

    #[test]
    fn users_have_a_country_and_a_distance_and_nobody_is_at_a_mirror_that_is_not_there() {
        let fixture = Fixture::five_mirrors();
        let (snapshot, traffic) = (fixture.snapshot(), TrafficHandle::new(Clock::start()));
        let now = MonoTime::ZERO;
        let asked = |mirror: &str, addr: &str| {
            Demand::asked((DOMAIN.into(), Some(mirror.into())), addr.parse().unwrap(), 3)
        };
        traffic.see(&snapshot, &asked("nyc", "203.0.113.9"), now);
        traffic.see(&snapshot, &asked("nyc", "2001:db8::1"), now);
        traffic.see(&snapshot, &asked("gone", "203.0.113.9"), now);
        traffic.see(&snapshot, &Demand { mirror: None, ..asked("", "203.0.113.9") }, now);
        let all = traffic.told();
        let told = all.flows.iter().map(|f| (&*f.mirror.mirror, f.country.map(|c| c.to_string()), f.users));
        let told: Vec<_> = told.collect();
        assert_eq!(told, [("nyc", None, 3.0), ("nyc", Some("US".to_owned()), 3.0)]);
        let rtts = &all.mirrors.values().next().unwrap().rtts;
        // Nobody measured it; and of whom nothing is known, nothing is told.
        assert_eq!(rtts.keys().copied().collect::<Vec<_>>(), [("NA", Basis::Predicted)]);
        assert!(rtts[&("NA", Basis::Predicted)].quantiles().unwrap().p50_ms < 100.0, "{rtts:?}");
    }
}
