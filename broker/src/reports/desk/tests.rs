use super::*;
use crate::api::testing::{DOMAIN, Fixture};
use crate::clock::mono_now;
use crate::learning;
use crate::telemetry::LearningMetrics;
use nearmost_core::check::CheckSpec;
use nearmost_core::id::NodeId;

const CLIENT: &str = "198.51.100.7";

struct Desk {
    reports: Reports,
    lessons: crate::learning::Lessons,
    metrics: Arc<ReportMetrics>,
    fixture: Fixture,
}

impl Desk {
    fn new(settings: ReportSettings) -> Desk {
        let registry = prometheus::Registry::new();
        let learning = Arc::new(LearningMetrics::register(&registry).unwrap());
        let (learn, lessons) = learning::channel(learning);
        let metrics = Arc::new(ReportMetrics::register(&registry).unwrap());
        let reports = Reports::new(settings, learn, metrics.clone()).unwrap();
        Desk { reports, lessons, metrics, fixture: Fixture::five_mirrors() }
    }

    fn open() -> Desk {
        Desk::new(ReportSettings { interval: Duration::ZERO, burst: 1 })
    }

    fn take_from(&self, client: &str, report: &Report) -> Result<Taken, ReportError> {
        let snapshot = self.fixture.snapshot();
        let domain = snapshot.registry.find_domain(DOMAIN).unwrap();
        self.reports.take(Way::Http, &snapshot, domain, ip(client), report, mono_now())
    }

    fn take(&self, report: &Report) -> Result<Taken, ReportError> {
        self.take_from(CLIENT, report)
    }

    fn refused(&self, report: &Report) -> &'static str {
        let error = self.take(report).unwrap_err();
        assert!(self.metrics.refused.with_label_values(&[error.code()]).get() > 0, "{error}");
        error.code()
    }

    /// Network, node and round trip of the next lesson's observations, and their reporter.
    fn observed(&mut self) -> (Vec<(String, u8, f32)>, u64) {
        let Ok(Lesson::Observed(all)) = self.lessons.try_recv() else { panic!("nothing observed") };
        let shown = |o: &Observation| {
            let Target::Node(NodeId(id)) = &o.target else { panic!("{o:?}") };
            assert_eq!((o.source, o.users), (Source::Client, 1));
            (o.network.to_string(), id[0], o.rtt_ms)
        };
        (all.iter().map(shown).collect(), all[0].reporter)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rtts(entries: &[(&str, f64)]) -> Report {
    Report { rtts: entries.iter().map(|(m, ms)| ((*m).to_owned(), *ms)).collect(), ..Report::default() }
}

#[test]
fn what_makes_sense_reaches_the_learner() {
    let mut desk = Desk::open();
    let taken = desk.take(&rtts(&[("lon", 12.5), ("nyc", 10_000.0)])).unwrap();
    assert_eq!(taken, Taken { accepted: 2, tied: false });
    let (seen, reporter) = desk.observed();
    assert_eq!(seen, [("198.51.100.0/24".into(), 1, 12.5), ("198.51.100.0/24".into(), 2, 10_000.0)]);
    desk.take_from("::ffff:198.51.100.7", &rtts(&[("lon", 1.0)])).unwrap();
    assert_eq!(desk.observed().1, reporter, "one address is one reporter");
    desk.take_from("198.51.100.8", &rtts(&[("lon", 1.0)])).unwrap();
    assert_ne!(desk.observed().1, reporter);
    let mut of = |client: &str| {
        desk.take_from(client, &rtts(&[("lon", 1e-300)])).unwrap();
        let (seen, reporter) = desk.observed();
        assert!(seen[0].2 > 0.0);
        (seen[0].0.clone(), reporter)
    };
    let first = of("2001:db8:1:2::3");
    assert_eq!(first.0, "2001:db8:1::/48");
    assert_eq!(of("2001:db8:1:2:ffff::"), first, "an IPv6 line has all of its /64");
    assert_ne!(of("2001:db8:1:3::3"), first);
    assert_eq!(desk.metrics.taken.with_label_values(&["http"]).get(), 6);
}

#[test]
fn every_bad_report_has_its_own_code_and_teaches_nothing() {
    let mut desk = Desk::open();
    assert_eq!(desk.refused(&Report::default()), "no_rtts");
    assert_eq!(desk.refused(&rtts(&[("lon", 1.0); 33])), "too_many_rtts");
    assert_eq!(desk.refused(&rtts(&[("lon", 1.0), ("par", 1.0)])), "unknown_mirror");
    for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, 10_000.1] {
        assert_eq!(desk.refused(&rtts(&[("lon", 1.0), ("nyc", ms)])), "rtt_range", "{ms}");
    }
    for nonce in ["", "short", "abcdefghij23456-", &"a".repeat(33)] {
        let report = Report { nonce: Some(nonce.into()), ..rtts(&[("lon", 1.0)]) };
        assert_eq!(desk.refused(&report), "nonce_malformed", "{nonce}");
    }
    let error = desk.take(&rtts(&[("par", 1.0)])).unwrap_err().to_string();
    assert!(error.contains(DOMAIN) && error.contains("\"par\""), "{error}");
    assert!(desk.lessons.try_recv().is_err());
    assert_eq!(desk.take(&rtts(&[("lon", 1.0); 32])).unwrap().accepted, 32);
}

#[test]
fn a_nonce_that_was_seen_ties_the_network_once() {
    let mut desk = Desk::open();
    let nonce = "ABCDEFGHIJ234567";
    let report = Report { nonce: Some(nonce.into()), ..Report::default() };
    assert_eq!(desk.take(&report), Ok(Taken { accepted: 0, tied: false }));
    let seen = Nonce::parse(nonce).unwrap();
    desk.reports.nonces().note(&seen, ip("192.0.2.53"), mono_now());
    assert_eq!(desk.take(&report), Ok(Taken { accepted: 0, tied: true }));
    let Ok(Lesson::Behind { resolver, network, reporter }) = desk.lessons.try_recv() else {
        panic!("no tie")
    };
    assert_eq!((resolver, network.to_string()), (ip("192.0.2.53"), "198.51.100.0/24".into()));
    assert_eq!(desk.take(&report), Ok(Taken { accepted: 0, tied: false }));
    desk.take(&rtts(&[("lon", 1.0)])).unwrap();
    assert_eq!(desk.observed().1, reporter);
}

#[test]
fn a_source_reports_a_burst_and_then_waits() {
    let desk = Desk::new(ReportSettings { interval: Duration::from_secs(10), burst: 5 });
    let admitted = |client: &str| desk.reports.admit(ip(client)).is_ok();
    assert_eq!([0; 6].map(|_| admitted(CLIENT)), [true, true, true, true, true, false]);
    let error = desk.reports.admit(ip(CLIENT)).unwrap_err();
    assert!(
        matches!(error, ReportError::TooOften { wait, .. } if wait <= Duration::from_secs(10)),
        "{error}"
    );
    assert_eq!(desk.metrics.refused.with_label_values(&["reports_too_often"]).get(), 2);
    assert!(admitted("198.51.100.8"));
}

#[test]
fn a_session_is_about_its_domain_as_long_as_that_is_served() {
    let desk = Desk::open();
    let now = UnixMillis(1_700_000_000_000);
    let snapshot = desk.fixture.snapshot();
    let of = |session: &str| desk.reports.domain_of(&snapshot, ip(CLIENT), session, now);
    let session = desk.reports.session(DOMAIN, ip(CLIENT), now);
    assert_eq!(of(&session), Ok(snapshot.registry.find_domain(DOMAIN).unwrap()));
    let gone = of(&desk.reports.session("gone.test", ip(CLIENT), now)).unwrap_err();
    assert_eq!((gone.code(), gone.to_string().contains("gone.test")), ("unknown_domain", true));
    assert_eq!(of("x").unwrap_err().code(), "session_malformed");
    assert_eq!(desk.metrics.refused.with_label_values(&["session_malformed"]).get(), 1);
}

#[test]
fn a_mirror_that_a_client_does_not_reach_is_told_to_driver_and_learner() {
    let mut desk = Desk::open();
    let dropped = prometheus::IntCounter::new("dropped", "dropped").unwrap();
    let (driver, mut told) = crate::driver::complaints(dropped.clone());
    desk.reports = desk.reports.telling(driver);
    let asked = |kind: CheckKind| {
        let second = Duration::from_secs(1);
        Some(CheckSpec { kind, interval: second, timeout: second, rise: 1, fall: 1 })
    };
    let udp = CheckKind::Udp { send: Vec::new(), expect: Vec::new() };
    desk.fixture.mirror("lon", |m| m.probe = asked(CheckKind::Tcp));
    desk.fixture.mirror("nyc", |m| m.probe = asked(udp));
    let failed = |names: &[&str]| Report {
        failed: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Report::default()
    };
    // A client tries TCP: of what speaks something else, or was not said how to ask, it knows nothing.
    let taken = desk.take(&failed(&["lon", "nyc", "lon", "sao", "lon"])).unwrap();
    assert_eq!(taken, Taken { accepted: 0, tied: false });
    let Ok(Lesson::Missed { network, targets, .. }) = desk.lessons.try_recv() else { panic!("not taught") };
    assert_eq!(
        (network.to_string(), targets),
        ("198.51.100.0/24".into(), vec![Target::Node(NodeId([1; 32]))])
    );
    let said =
        Complaint { domain: DOMAIN.into(), mirror: "lon".into(), family: Family::V4, client: ip(CLIENT) };
    assert_eq!(told.try_recv().ok(), Some(said));
    assert!(told.try_recv().is_err() && desk.lessons.try_recv().is_err());

    assert_eq!(desk.refused(&failed(&["lon", "par"])), "unknown_mirror");
    assert_eq!(desk.refused(&failed(&["lon"; 33])), "too_many_rtts");
    assert!(told.try_recv().is_err() && desk.lessons.try_recv().is_err(), "all of it or nothing");

    // Nobody listens, and what has no room is dropped.
    for _ in 0..300 {
        desk.take(&failed(&["lon"])).unwrap();
    }
    assert_eq!((told.len() as u64 + dropped.get(), dropped.get()), (300, 44));
}
