//! Which mirrors a client should measure.
//!
//! The model chooses, one after the other: the mirror that could well be the nearest, given what is known.
//! What a client reports decides about the next ones. It is asked for [`FIRST_MEASURED`] when it
//! resolves and for [`NEXT_MEASURED`] after a report, in all for [`MAX_MEASURED`]; nothing is
//! remembered of a client in between, so it says what it has tried.

use super::Report;
use nearmost_core::registry::{DomainIndex, MirrorIndex};
use nearmost_core::rtt::{Row, Site, measure};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::client::{FIRST_MEASURED, MAX_MEASURED, NEXT_MEASURED};
use std::net::IpAddr;

/// The mirrors that a client should measure before it reports for the first time.
pub fn measure_first(snapshot: &Snapshot, domain: DomainIndex, client: IpAddr) -> Vec<MirrorIndex> {
    measure_next(snapshot, domain, client, &[], &[], FIRST_MEASURED)
}

/// The mirrors that a client should measure after a report that was taken; none when it has measured
/// enough.
pub fn measure_after(
    snapshot: &Snapshot,
    domain: DomainIndex,
    client: IpAddr,
    report: &Report,
) -> Vec<MirrorIndex> {
    let find = |name: &String| snapshot.registry.find_mirror(domain, name);
    let fresh: Vec<(MirrorIndex, f32)> =
        report.rtts.iter().filter_map(|(name, ms)| Some((find(name)?, *ms as f32))).collect();
    let tried: Vec<MirrorIndex> = report.tried.iter().filter_map(find).collect();
    // What the registry does not have any more was tried all the same.
    let done = report.rtts.len() + report.tried.len();
    let most = NEXT_MEASURED.min(MAX_MEASURED.saturating_sub(done));
    measure_next(snapshot, domain, client, &fresh, &tried, most)
}

/// At most so many mirrors whose round trips are worth knowing, given what the client measured just now,
/// in milliseconds; of those that it may be sent to, and was not asked for yet.
fn measure_next(
    snapshot: &Snapshot,
    domain: DomainIndex,
    client: IpAddr,
    fresh: &[(MirrorIndex, f32)],
    tried: &[MirrorIndex],
    most: usize,
) -> Vec<MirrorIndex> {
    let Some(view) = snapshot.map.view(domain, client).filter(|_| most > 0) else { return Vec::new() };
    let start = snapshot.registry.domain(domain).mirrors.start;
    // A set has no more mirrors than the domain.
    let mirror = |slot: usize| MirrorIndex(start + slot as u32);
    let sites = || (0..view.set().len()).filter_map(|slot| Some((slot, view.set().site(slot)?)));
    let just_now = |slot: usize| fresh.iter().find(|(m, _)| *m == mirror(slot)).map(|(_, ms)| *ms);
    let before = view.client();
    let row = Row::extended(&before, sites().map(|(slot, site)| (site, just_now(slot))));
    let client = match &row {
        Some(row) if !fresh.is_empty() => before.with(row),
        _ => before,
    };
    let wanted = |(slot, _): &(usize, &Site)| {
        let m = mirror(*slot);
        snapshot.live.mirror(m).eligible_any()
            && !view.excludes(*slot)
            && !tried.contains(&m)
            && just_now(*slot).is_none()
    };
    let mut open: Vec<(usize, &Site)> = sites().filter(wanted).collect();
    let mut chosen = Vec::new();
    while chosen.len() < most
        && let Some(next) = measure::next(&client, open.iter().copied())
    {
        open.retain(|(slot, _)| *slot != next);
        chosen.push(mirror(next));
    }
    chosen
}

/// Mirrors by name.
pub fn names(snapshot: &Snapshot, mirrors: &[MirrorIndex]) -> Vec<String> {
    mirrors.iter().map(|m| snapshot.registry.mirror(*m).name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{DOMAIN, Fixture};
    use nearmost_core::health::State;
    use nearmost_core::registry::{Rule, RuleEffect, Who};

    const LONDONER: &str = "198.51.100.1";

    fn first(fixture: &Fixture, client: &str) -> Vec<String> {
        let snapshot = fixture.snapshot();
        let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
        names(&snapshot, &measure_first(&snapshot, domain, client.parse().unwrap()))
    }

    fn after(fixture: &Fixture, rtts: &[(&str, f64)], tried: &[&str]) -> Vec<String> {
        let snapshot = fixture.snapshot();
        let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
        let rtts = rtts.iter().map(|(m, ms)| ((*m).to_owned(), *ms)).collect();
        let tried = tried.iter().map(|t| (*t).to_owned()).collect();
        let report = Report { rtts, tried, ..Report::default() };
        names(&snapshot, &measure_after(&snapshot, domain, LONDONER.parse().unwrap(), &report))
    }

    #[test]
    fn whom_a_client_may_be_sent_to_is_measured_nearest_first() {
        let mut fixture = Fixture::five_mirrors();
        assert_eq!(first(&fixture, LONDONER), ["lon", "nyc", "sao"]);
        fixture.set_state("lon", State::Down);
        fixture.set_state("sin", State::Draining);
        assert_eq!(first(&fixture, LONDONER), ["nyc", "sao", "syd"]);
        fixture.policy(|p| {
            let who = Who::Prefix("198.51.100.0/24".parse().unwrap());
            p.rules = vec![Rule { who, effect: RuleEffect::Exclude, mirrors: vec!["nyc".into()] }];
        });
        assert_eq!(first(&fixture, LONDONER), ["sao", "syd"]);
        assert_eq!(after(&fixture, &[("sao", 200.0)], &["syd"]), Vec::<String>::new());
    }

    #[test]
    fn reports_lead_on_until_five_were_asked_for() {
        let fixture = Fixture::five_mirrors();
        let rtts = [("lon", 9.0), ("nyc", 80.0), ("sao", 190.0)];
        assert_eq!(after(&fixture, &rtts, &[]), ["sin", "syd"]);
        assert_eq!(after(&fixture, &rtts[..2], &["sao"]), ["sin", "syd"], "out of reach");
        assert_eq!(after(&fixture, &rtts[..1], &["sao", "nyc", "sin"]), ["syd"]);
        assert_eq!(after(&fixture, &[("sin", 1.0), ("syd", 1.0)], &["lon", "nyc", "sao"]), [""; 0]);
        assert_eq!(after(&fixture, &rtts, &["gone", "away"]), [""; 0], "five were tried");
        assert_eq!(after(&fixture, &[], &["lon", "nyc", "sao"]), ["sin", "syd"]);
    }

    #[test]
    fn what_is_measured_decides_what_is_measured_next_and_not_again() {
        let mut fixture = Fixture::five_mirrors();
        fixture.learn(&[]);
        // Nearer to Singapore than light allows from London: it is there, and Sydney is next.
        assert_eq!(after(&fixture, &[("sin", 2.0), ("lon", 170.0)], &[])[0], "syd");
        fixture.learn(&[(LONDONER, "lon", 9.0), (LONDONER, "nyc", 80.0)]);
        assert_eq!(first(&fixture, "198.51.100.77"), ["sao", "sin", "syd"], "its network knows the others");
        assert_eq!(first(&fixture, "203.0.113.1")[0], "nyc");
    }
}
