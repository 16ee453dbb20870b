//! What is reported of the services: their checks, readiness and load put together.
//!
//! A service of which some check has had no result yet keeps what was said of it before, so that a
//! new configuration does not take a healthy mirror out; one of which nothing was said is left out,
//! and brokers then send it no users. A process that ended is reported at once, whatever checks said.

use crate::link::ReportBody;
use crate::load::Load;
use crate::process::Key;
use crate::process::state::Machine;
use crate::status::FailingCheck;
use nearmost_config::Service;
use nearmost_core::check::CheckOutcome;
use nearmost_probe::{CheckStatus, MAX_REASON_CHARS, NamedCheck};
use nearmost_wire::agent::ServiceReport;
use std::collections::{BTreeMap, HashMap};

/// The checks of all services, under the names that [`assemble`] looks for.
pub fn checks(services: &[Service]) -> Vec<NamedCheck> {
    let of_service = |service: &Service| {
        let named = |(name, check): (String, &nearmost_config::ServiceCheck)| NamedCheck {
            name,
            target: check.address,
            spec: check.spec.clone(),
        };
        let ready = service.ready.iter().map(|check| (ready_name(service), check));
        let checks = service.checks.iter().map(|check| (check_name(service, &check.name), check));
        checks.chain(ready).map(named).collect::<Vec<_>>()
    };
    services.iter().flat_map(of_service).collect()
}

/// A check's name among all services. Slashes are in no name, so it is unique.
fn check_name(service: &Service, check: &str) -> String {
    format!("{}/{}/check/{check}", service.domain, service.mirror)
}

/// The names of the checks that say whether a service is healthy.
pub fn check_names(service: &Service) -> Vec<String> {
    service.checks.iter().map(|check| check_name(service, &check.name)).collect()
}

fn ready_name(service: &Service) -> String {
    format!("{}/{}/ready", service.domain, service.mirror)
}

/// What is known of the services and the machine.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Of each check.
    pub statuses: &'a [CheckStatus],
    /// Of each process that is watched.
    pub machines: &'a BTreeMap<Key, Machine>,
    /// The load.
    pub load: &'a Load,
}

/// The report of this moment; `said` is the one before.
pub fn assemble(services: &[Service], known: Known<'_>, draining: bool, said: &ReportBody) -> ReportBody {
    let Known { statuses, machines, load } = known;
    let by_name: HashMap<&str, &CheckStatus> = statuses.iter().map(|s| (s.name.as_str(), s)).collect();
    let before =
        |s: &Service| said.services.iter().find(|r| r.domain == s.domain && r.mirror == s.mirror).cloned();
    let report = |s: &Service| {
        let checked = service_report(s, &by_name, load).or_else(|| before(s));
        match machines.get(&(s.domain.clone(), s.mirror.clone())) {
            Some(machine) => with_process(s, checked, machine, load),
            None => checked.map(|report| ServiceReport { stopped: false, ..report }),
        }
    };
    ReportBody {
        draining,
        cpu: load.cpu,
        memory: load.memory,
        services: services.iter().filter_map(report).collect(),
    }
}

fn service_report(
    service: &Service,
    statuses: &HashMap<&str, &CheckStatus>,
    load: &Load,
) -> Option<ServiceReport> {
    let status = |name: String| statuses.get(name.as_str()).and_then(|s| s.verdict().map(|good| (good, *s)));
    let mut problem = None;
    let mut healthy = true;
    for check in &service.checks {
        let (good, status) = status(check_name(service, &check.name))?;
        healthy &= good;
        if !good && problem.is_none() {
            problem = Some(problem_of(&check.name, status));
        }
    }
    let mut ready = true;
    if let Some(check) = &service.ready {
        let (good, status) = status(ready_name(service))?;
        ready = good;
        if !good && problem.is_none() {
            problem = Some(problem_of(&check.name, status));
        }
    }
    Some(ServiceReport {
        domain: service.domain.clone(),
        mirror: service.mirror.clone(),
        healthy,
        ready,
        stopped: false,
        problem,
        connections: load.connections.get(&service.port).copied().unwrap_or(0),
        capacity: service.share.capacity,
    })
}

/// Adds what is known of the process; without it running, checks mean nothing.
fn with_process(
    service: &Service,
    checked: Option<ServiceReport>,
    machine: &Machine,
    load: &Load,
) -> Option<ServiceReport> {
    let problem = machine.problem().map(|p| p.chars().take(MAX_REASON_CHARS).collect::<String>());
    if !machine.stopped() {
        // One that was never found is told, and the checks decide.
        return checked.map(|r| ServiceReport { stopped: false, problem: r.problem.or(problem), ..r });
    }
    Some(ServiceReport {
        domain: service.domain.clone(),
        mirror: service.mirror.clone(),
        healthy: false,
        ready: checked.is_none_or(|r| r.ready),
        stopped: true,
        problem,
        connections: load.connections.get(&service.port).copied().unwrap_or(0),
        capacity: service.share.capacity,
    })
}

/// Checks that do not pass, for people on the machine.
pub fn failing(statuses: &[CheckStatus]) -> Vec<FailingCheck> {
    let failing = |status: &&CheckStatus| status.verdict() != Some(true);
    let told = |status: &CheckStatus| {
        let problem = match (status.verdict(), &status.last) {
            (None, _) => "no result yet".to_owned(),
            _ => reason_of(status),
        };
        FailingCheck { name: status.name.clone(), stuck: status.stuck.is_some(), problem }
    };
    statuses.iter().filter(failing).map(told).collect()
}

/// A failing check in words. While a check recovers its last result is a pass; of one that hangs no result
/// counts.
fn problem_of(name: &str, status: &CheckStatus) -> String {
    format!("{name}: {}", reason_of(status)).chars().take(MAX_REASON_CHARS).collect()
}

fn reason_of(status: &CheckStatus) -> String {
    match (&status.stuck, &status.last) {
        (Some(stuck), _) => stuck.to_string(),
        (None, Some(CheckOutcome::Fail { reason, .. })) => reason.clone(),
        (None, _) => format!("passes again, not often enough yet ({} in a row)", status.consecutive),
    }
}

/// Whether two reports differ in what a broker acts on at once.
pub fn differs(a: &ReportBody, b: &ReportBody) -> bool {
    type Acted<'a> = ((&'a str, &'a str), [bool; 3], u32);
    fn acted(r: &ReportBody) -> impl Iterator<Item = Acted<'_>> {
        let of = |s: &'_ ServiceReport| [s.healthy, s.ready, s.stopped];
        r.services.iter().map(move |s| ((s.domain.as_str(), s.mirror.as_str()), of(s), s.capacity))
    }
    a.draining != b.draining || !acted(a).eq(acted(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::state::Observed;
    use nearmost_config::{ServiceCheck, ServiceProbe, Share};
    use nearmost_core::check::{CheckKind, CheckSpec};
    use nearmost_core::registry::MirrorAddress;
    use nearmost_probe::Stuck;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    fn check(name: &str) -> ServiceCheck {
        let second = Duration::from_secs(1);
        let spec = CheckSpec { kind: CheckKind::Tcp, interval: second, timeout: second, rise: 1, fall: 2 };
        ServiceCheck { name: name.into(), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)), spec }
    }

    fn service(mirror: &str, checks: &[&str], ready: Option<&str>) -> Service {
        Service {
            domain: "play.example".into(),
            mirror: mirror.into(),
            address: MirrorAddress::Observed,
            port: 80,
            share: Share { weight: 100, capacity: 9 },
            url: None,
            checks: checks.iter().map(|n| check(n)).collect(),
            ready: ready.map(check),
            probe: ServiceProbe::Default,
            local: Default::default(),
        }
    }

    fn status(name: &str, good: Option<bool>, failure: Option<&str>) -> CheckStatus {
        let last = match failure {
            Some(reason) => CheckOutcome::Fail { reason: reason.into(), answered: true },
            None => CheckOutcome::Pass { took: Duration::ZERO },
        };
        let since = crate::clock::Clock::start().instant(Default::default());
        CheckStatus { name: name.into(), good, last: good.map(|_| last), since, consecutive: 1, stuck: None }
    }

    fn known<'a>(
        statuses: &'a [CheckStatus],
        machines: &'a BTreeMap<Key, Machine>,
        load: &'a Load,
    ) -> Known<'a> {
        Known { statuses, machines, load }
    }

    fn assembled(service: &Service, statuses: &[CheckStatus]) -> Option<ServiceReport> {
        let load = Load { connections: BTreeMap::from([(80, 4)]), ..Load::default() };
        let none = BTreeMap::new();
        let known = known(statuses, &none, &load);
        assemble(std::slice::from_ref(service), known, false, &ReportBody::default()).services.pop()
    }

    #[test]
    fn every_check_has_a_name_of_its_own() {
        let services = [service("a", &["tcp", "ready"], Some("ready")), service("b", &["tcp"], None)];
        let mut names: Vec<String> = checks(&services).into_iter().map(|c| c.name).collect();
        assert_eq!(names.len(), 4);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 4);
    }

    #[test]
    fn a_service_is_healthy_when_all_its_checks_are() {
        let s = service("lon", &["tcp", "web"], None);
        let tcp = status("play.example/lon/check/tcp", Some(true), None);
        let good = status("play.example/lon/check/web", Some(true), None);
        let report = assembled(&s, &[tcp.clone(), good]).expect("known");
        assert_eq!((report.healthy, report.ready, report.problem), (true, true, None));
        assert_eq!((report.connections, report.capacity), (4, 9));
        let bad = status("play.example/lon/check/web", Some(false), Some("expected 200, found 503"));
        let report = assembled(&s, &[tcp.clone(), bad]).expect("known");
        assert!(!report.healthy && report.ready);
        assert_eq!(report.problem.as_deref(), Some("web: expected 200, found 503"));
        let recovering = status("play.example/lon/check/web", Some(false), None);
        let report = assembled(&s, &[tcp.clone(), recovering]).expect("known");
        assert!(report.problem.expect("named").starts_with("web: passes again"));
        // One check without a result yet: nothing is said.
        let unknown = status("play.example/lon/check/web", None, None);
        assert_eq!(assembled(&s, &[tcp.clone(), unknown]), None);
        assert_eq!(assembled(&s, &[tcp]), None);
    }

    #[test]
    fn a_check_that_hangs_fails_its_service_whatever_it_said_before() {
        let s = service("lon", &["tcp"], Some("caught-up"));
        let ready = status("play.example/lon/ready", Some(true), None);
        for good in [None, Some(true), Some(false)] {
            let mut hangs = status("play.example/lon/check/tcp", good, Some("refused"));
            hangs.stuck = Some(Stuck::Running(Duration::from_secs(9)));
            let report = assembled(&s, &[hangs, ready.clone()]).expect("known");
            assert!(!report.healthy && report.ready);
            assert_eq!(report.problem.as_deref(), Some("tcp: stuck: has run for 9 s, beyond its timeout"));
        }
        let mut hangs = ready;
        hangs.stuck = Some(Stuck::NotStarted(Duration::from_secs(9)));
        let tcp = status("play.example/lon/check/tcp", Some(true), None);
        let report = assembled(&s, &[tcp, hangs]).expect("known");
        assert!(report.healthy && !report.ready);
        assert_eq!(report.problem.as_deref(), Some("caught-up: stuck: should have started 9 s ago"));
    }

    #[test]
    fn a_service_that_is_not_known_again_yet_keeps_what_was_said() {
        let services = [service("lon", &["tcp"], None), service("par", &["tcp"], None)];
        let good = status("play.example/lon/check/tcp", Some(true), None);
        let load = Load::default();
        let none = BTreeMap::new();
        let said = assemble(&services, known(&[good], &none, &load), false, &ReportBody::default());
        assert_eq!(said.services.len(), 1);
        assert_eq!(assemble(&services, known(&[], &none, &load), false, &said), said);
        assert_eq!(assemble(&services[1..], known(&[], &none, &load), false, &said).services, []);
    }

    #[test]
    fn readiness_is_apart_from_health() {
        let s = service("lon", &[], Some("caught-up"));
        assert_eq!(assembled(&s, &[]), None);
        let behind = status("play.example/lon/ready", Some(false), Some("behind"));
        let report = assembled(&s, &[behind]).expect("known");
        assert!(report.healthy && !report.ready);
        assert_eq!(report.problem.as_deref(), Some("caught-up: behind"));
        let report = assembled(&service("lon", &[], None), &[]).expect("nothing to wait for");
        assert!(report.healthy && report.ready);
    }

    #[test]
    fn without_its_process_a_service_is_stopped_whatever_checks_say() {
        let s = service("lon", &["tcp"], None);
        let load = Load::default();
        let report = |inputs: &[Observed], statuses: &[CheckStatus]| {
            let mut machine = Machine::default();
            inputs.iter().cloned().for_each(|observed| {
                machine.on(observed);
            });
            let machines = BTreeMap::from([(("play.example".to_string(), "lon".to_string()), machine)]);
            let known = known(statuses, &machines, &load);
            assemble(std::slice::from_ref(&s), known, false, &ReportBody::default())
        };
        let good = [status("play.example/lon/check/tcp", Some(true), None)];
        let missing = report(&[Observed::Missing("no such file".into())], &good);
        assert!(missing.services[0].healthy && !missing.services[0].stopped);
        assert_eq!(missing.services[0].problem.as_deref(), Some("process not found: no such file"));
        let running = report(&[Observed::Found(1234)], &good);
        assert_eq!((running.services[0].healthy, &running.services[0].problem), (true, &None));
        for statuses in [&good[..], &[]] {
            let ended = report(&[Observed::Found(1234), Observed::Ended], statuses);
            assert!(!ended.services[0].healthy && ended.services[0].stopped);
            assert_eq!(ended.services[0].problem.as_deref(), Some("process 1234 ended"));
            assert!(differs(&running, &ended));
        }
        // A check that fails is named first where the process was never found.
        let bad = [status("play.example/lon/check/tcp", Some(false), Some("refused"))];
        let both = report(&[Observed::Missing("no such file".into())], &bad);
        assert_eq!(both.services[0].problem.as_deref(), Some("tcp: refused"));
    }

    #[test]
    fn a_problem_has_its_limit() {
        let s = service("lon", &["tcp"], None);
        let bad = status("play.example/lon/check/tcp", Some(false), Some(&"é".repeat(200)));
        let problem = assembled(&s, &[bad]).expect("known").problem.expect("named");
        assert_eq!(problem.chars().count(), MAX_REASON_CHARS);
    }

    #[test]
    fn only_what_is_acted_on_at_once_makes_reports_differ() {
        let s = service("lon", &["tcp"], None);
        let good = status("play.example/lon/check/tcp", Some(true), None);
        let bad = |why| status("play.example/lon/check/tcp", Some(false), Some(why));
        let idle = Load::default();
        let busy = Load { cpu: 0.9, memory: 0.5, connections: BTreeMap::from([(80, 4)]) };
        let none = BTreeMap::new();
        let make = |status: &CheckStatus, load, draining| {
            let known = known(std::slice::from_ref(status), &none, load);
            assemble(std::slice::from_ref(&s), known, draining, &ReportBody::default())
        };
        let base = make(&good, &idle, false);
        assert!(!differs(&base, &make(&good, &busy, false)));
        assert!(!differs(&make(&bad("a"), &idle, false), &make(&bad("b"), &idle, false)));
        assert!(differs(&base, &make(&bad("a"), &idle, false)));
        assert!(differs(&base, &make(&good, &idle, true)));
        assert!(differs(&base, &ReportBody::default()));
    }
}
