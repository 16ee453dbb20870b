//! The learner and its models as a whole.

use super::routes::Routes;
use super::*;
use crate::geo::{CountryCode, Place, Position};
use crate::time::UnixMillis;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

const LONDON: (f64, f64) = (51.5, -0.1);
const NEW_YORK: (f64, f64) = (40.7, -74.0);
const TOKYO: (f64, f64) = (35.7, 139.7);
const LAGOS: (f64, f64) = (6.5, 3.4);
const ACCRA: (f64, f64) = (5.6, -0.2);
const HOUR: u64 = 3_600_000;

fn place((lat, lon): (f64, f64), asn: u32) -> Place {
    let country = CountryCode::new(match asn {
        1 => "NG",
        2 => "GH",
        _ => "GB",
    });
    Place { position: Position::from_degrees(lat, lon), country, asn: Some(asn) }
}

fn target(name: &str) -> Target {
    Target::Mirror { domain: "d".into(), mirror: name.into() }
}

/// Three mirrors; clients in 10.0/16 are in Lagos, in 10.1/16 in Accra, others in London.
struct Bench {
    learner: Learner,
    sites: HashMap<Target, Place>,
}

fn locate(addr: IpAddr) -> Place {
    match addr {
        IpAddr::V4(a) if a.octets()[..2] == [10, 0] => place(LAGOS, 1),
        IpAddr::V4(a) if a.octets()[..2] == [10, 1] => place(ACCRA, 2),
        _ => place(LONDON, 3),
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(LearnerConfig::default())
    }

    fn with(config: LearnerConfig) -> Bench {
        let at = [("lon", LONDON), ("nyc", NEW_YORK), ("tok", TOKYO)];
        let sites = at.iter().map(|(n, p)| (target(n), place(*p, 9))).collect();
        Bench { learner: Learner::new(config, Arc::new(Routes::new()), Memory::default()), sites }
    }

    fn report(&mut self, from: &str, to: &str, rtt_ms: f32, now: u64) {
        let observation = Observation {
            network: from.parse::<IpAddr>().unwrap().into(),
            target: target(to),
            rtt_ms,
            source: Source::Client,
            reporter: 1,
            users: 1,
        };
        self.learner.observe(&observation, UnixMillis(now)).unwrap();
    }

    fn model(&mut self, now: u64) -> Model {
        self.learner.fit(&World { sites: &self.sites, locate: &locate }, UnixMillis(now))
    }

    fn predict(&mut self, from: &str, to: &str, now: u64) -> Prediction {
        let model = self.model(now);
        let addr = from.parse().unwrap();
        let site = model.site(&target(to), &self.sites[&target(to)], None);
        model.client(&locate(addr), Some(addr)).predict(&site)
    }
}

#[test]
fn nothing_measured_is_the_line_over_the_route() {
    let mut bench = Bench::new();
    let seen = bench.predict("10.0.0.1", "lon", 0);
    assert_eq!(seen.shares, Shares { distance: 1.0, ..Shares::default() });
    assert!((seen.ms - seen.distance_ms).abs() < 0.1 && (60.0..120.0).contains(&seen.ms), "{seen:?}");
    let unknown = Model::default();
    let nowhere = unknown.client(&Place::default(), None);
    let site = unknown.site(&target("lon"), &place(LONDON, 9), None);
    assert!(nowhere.ms(&site) > 300.0 && nowhere.predict(&site).route_km.is_none());
}

#[test]
fn a_network_s_own_word_counts_for_it_and_for_no_other() {
    let mut bench = Bench::new();
    let before = bench.predict("10.0.9.1", "lon", 0).ms;
    bench.report("10.0.0.1", "lon", 400.0, 0);
    let own = bench.predict("10.0.0.77", "lon", 0);
    assert!((own.ms - 400.0).abs() < 25.0 && own.own_ms.unwrap() > 399.0, "{own:?}");
    assert!(own.shares.network > 0.9 && own.own_sources == 1);
    for (neighbour, what) in [("10.0.9.1", "same prefix, AS and country"), ("10.1.0.1", "a country away")] {
        let now = bench.predict(neighbour, "lon", 0).ms;
        let (low, high) = if neighbour == "10.0.9.1" { (before - 0.5, before + 0.5) } else { (0.0, 200.0) };
        assert!((low..high).contains(&now), "{what}: {now}, before {before}");
    }
    // By how much it differs on the whole is expected of its other mirrors as well.
    let elsewhere = bench.predict("10.0.0.77", "tok", 0).ms;
    assert!(elsewhere > bench.predict("10.0.9.1", "tok", 0).ms * 1.2);
}

#[test]
fn what_several_networks_found_counts_around_them() {
    let mut bench = Bench::new();
    let before = (bench.predict("10.0.200.1", "lon", 0).ms, bench.predict("10.1.0.1", "lon", 0).ms);
    for i in 0..6 {
        bench.report(&format!("10.0.{i}.1"), "lon", 300.0, 0);
    }
    let lagos = bench.predict("10.0.200.1", "lon", 0);
    assert!(lagos.ms > 200.0, "{} before, now {lagos:?}", before.0);
    assert!(lagos.shares.prefix > 0.5 && lagos.shares.network == 0.0);
    let total = [
        lagos.shares.prefix,
        lagos.shares.asn,
        lagos.shares.country,
        lagos.shares.region,
        lagos.shares.distance,
    ];
    assert!((total.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let accra = bench.predict("10.1.0.1", "lon", 0);
    assert!(accra.ms > before.1 * 1.3 && accra.shares.region > 0.3, "{} before, now {accra:?}", before.1);
    assert!((bench.predict("192.0.2.1", "lon", 0).ms / 10.0) < 3.0, "London itself is far from there");
}

#[test]
fn words_fade_and_end() {
    let mut bench = Bench::new();
    bench.report("10.0.0.1", "lon", 400.0, 0);
    let share = |bench: &mut Bench, hours: u64| bench.predict("10.0.0.1", "lon", hours * HOUR).shares.network;
    let (fresh, days) = (share(&mut bench, 0), share(&mut bench, 96));
    assert!(fresh > days && days > 0.4, "{fresh} {days}");
    assert_eq!(share(&mut bench, 7 * 24), 0.0);
    assert_eq!(bench.learner.network_count(), 0);
}

#[test]
fn a_network_that_measures_faster_than_light_is_elsewhere_and_speaks_for_no_place() {
    let mut bench = Bench::new();
    let before = bench.predict("10.0.200.1", "tok", 0).ms;
    for i in 0..6 {
        bench.report(&format!("10.0.{i}.1"), "tok", 2.0, 0);
    }
    let own = bench.predict("10.0.3.1", "tok", 0);
    assert!(own.ms < 5.0 && own.route_km == Some(0.0), "taken to be in Tokyo: {own:?}");
    assert!(bench.predict("10.0.3.1", "lon", 0).ms > 150.0);
    assert!((bench.predict("10.0.200.1", "tok", 0).ms - before).abs() < 1.0, "Lagos stays where it is");
}

#[test]
fn unbelievable_measurements_are_named() {
    let mut bench = Bench::new();
    let mut observe = |ms| {
        let network = "10.0.0.0/24".parse().unwrap();
        let (source, reporter, users) = (Source::Client, 1, 1);
        let seen = Observation { network, target: target("lon"), rtt_ms: ms, source, reporter, users };
        bench.learner.observe(&seen, UnixMillis(0))
    };
    for ms in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(observe(ms), Err(Unbelievable::NotANumber), "{ms}");
    }
    assert_eq!(observe(10_001.0), Err(Unbelievable::TooLong));
    let itself = bench.learner.probed(&target("lon"), &target("lon"), 1.0, UnixMillis(0));
    assert_eq!(itself, Err(Unbelievable::Itself));
}

#[test]
fn a_misplaced_mirror_is_taken_to_be_where_probes_find_it() {
    let mut bench = Bench::new();
    bench.sites.insert(target("par"), place((48.9, 2.3), 9));
    // Said to be in Tokyo, in truth in London.
    for (from, ms) in [("lon", 1.0), ("par", 9.0), ("nyc", 72.0)] {
        bench.learner.probed(&target(from), &target("tok"), ms, UnixMillis(0)).unwrap();
    }
    let model = bench.model(0);
    let site = model.site(&target("tok"), &bench.sites[&target("tok")], None);
    assert!(
        site.misplaced() && site.position().unwrap().distance_km(place(LONDON, 0).position.unwrap()) < 1.0
    );
    assert!(bench.predict("192.0.2.1", "tok", 0).ms < 20.0);
}

#[test]
fn what_is_remembered_survives_and_what_is_gone_is_forgotten() {
    let mut bench = Bench::new();
    bench.report("10.0.0.1", "nyc", 150.0, 0);
    bench.report("10.0.0.1", "lon", 400.0, 0);
    bench.learner.probed(&target("nyc"), &target("lon"), 80.0, UnixMillis(0)).unwrap();
    let memory = postcard::to_stdvec(bench.learner.memory()).unwrap();
    let memory = postcard::from_bytes(&memory).unwrap();
    bench.learner = Learner::new(LearnerConfig::default(), Arc::new(Routes::new()), memory);
    assert!(bench.predict("10.0.0.1", "lon", 0).ms > 350.0);
    let nyc = bench.sites.remove(&target("nyc")).unwrap();
    assert!(bench.predict("10.0.0.1", "lon", 0).ms > 350.0, "numbers of the others stay right");
    bench.sites.insert(target("nyc"), nyc);
    assert_eq!(bench.predict("10.0.0.1", "nyc", 0).own_ms, None);
}

#[test]
fn what_a_network_does_not_reach_is_far_for_it_alone_and_for_a_while() {
    let mut bench = Bench::new();
    bench.report("10.0.0.1", "lon", 90.0, 0);
    let before = bench.predict("10.0.0.1", "lon", 0).ms;
    let beside = bench.predict("10.0.1.1", "lon", 0).ms;
    let other = bench.predict("10.0.0.1", "nyc", 0).ms;
    let network: ipnet::IpNet = "10.0.0.0/24".parse().unwrap();
    bench.learner.missed(network, &target("lon"), 77, UnixMillis(0)).unwrap();
    // Its neighbour measured nothing, and says only that it does not reach another one.
    bench.learner.missed("10.0.7.0/24".parse().unwrap(), &target("nyc"), 5, UnixMillis(0)).unwrap();
    let missed = bench.predict("10.0.0.1", "lon", 0);
    assert!(missed.missed && (missed.ms - before - 500.0).abs() < 1.0, "{missed:?} {before}");
    assert_eq!(bench.predict("10.0.1.1", "lon", 0).ms, beside, "no other network learns of it");
    assert_eq!(bench.predict("10.0.0.1", "nyc", 0).ms, other, "nor does another mirror suffer");
    assert!(bench.predict("10.0.7.1", "nyc", 0).missed && !bench.predict("10.0.7.1", "lon", 0).missed);

    let model = bench.model(0);
    let site = model.site(&target("lon"), &bench.sites[&target("lon")], None);
    let client = model.client(&locate([10, 0, 0, 1].into()), Some([10, 0, 0, 1].into()));
    let again = Row::extended(&client, [(&site, None)]).unwrap();
    assert!(client.with(&again).ms(&site) > before + 400.0);
    let reached = Row::extended(&client, [(&site, Some(91.0))]).unwrap();
    assert!(client.with(&reached).ms(&site) < 100.0, "who measures it reaches it");

    let later = 10 * 60_000;
    assert!(!bench.predict("10.0.0.1", "lon", later).missed);
    bench.learner.missed(network, &target("lon"), 77, UnixMillis(later)).unwrap();
    bench.learner.forgive(&target("lon"));
    assert!(!bench.predict("10.0.0.1", "lon", later).missed, "nobody reaches it");
    bench.learner.missed(network, &target("lon"), 77, UnixMillis(later)).unwrap();
    assert!(bench.predict("10.0.0.1", "lon", later).missed);
    bench
        .learner
        .observe(
            &Observation {
                network,
                target: target("lon"),
                rtt_ms: 90.0,
                source: Source::Client,
                reporter: 77,
                users: 1,
            },
            UnixMillis(later + 1),
        )
        .unwrap();
    assert!(!bench.predict("10.0.0.1", "lon", later + 1).missed, "the reporter reaches it again");
}

#[test]
fn resolvers_are_where_their_users_are() {
    let mut bench = Bench::new();
    let resolver: IpAddr = [192, 0, 2, 53].into();
    for i in 0..3u8 {
        let network = format!("10.0.{i}.0/24").parse().unwrap();
        bench.learner.behind(resolver, network, 1, UnixMillis(0));
    }
    let middle = bench.model(0).users_behind(resolver).unwrap();
    assert_eq!(locate(middle), place(LAGOS, 1));
    assert_eq!(bench.model(0).users_behind([198, 51, 100, 1].into()), None);
    assert_eq!(bench.model(8 * 24 * HOUR).users_behind(resolver), None);
}

#[test]
fn the_likely_best_is_measured_first_and_nothing_twice() {
    let mut bench = Bench::new();
    let model = bench.model(0);
    let names = ["tok", "nyc", "lon"];
    let sites: Vec<Site> =
        names.iter().map(|n| model.site(&target(n), &bench.sites[&target(n)], None)).collect();
    let plain = model.client(&place(LONDON, 3), Some([192, 0, 2, 1].into()));
    let mut measured: Vec<(usize, f32)> = Vec::new();
    let mut order = Vec::new();
    loop {
        let row = Row::fresh(&plain, measured.iter().map(|(i, ms)| (&sites[*i], *ms)));
        let seen = row.as_ref().map_or(plain, |r| plain.with(r));
        let Some(next) = measure::next(&seen, sites.iter().enumerate()) else { break };
        order.push(names[next]);
        measured.push((next, 100.0));
    }
    assert_eq!(order, ["lon", "nyc", "tok"]);
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::with(LearnerConfig { max_networks: 500, ..LearnerConfig::default() });
    for i in 0..5000u32 {
        bench.report(&format!("20.{}.{}.1", i / 250, i % 250), "lon", 20.0, i.into());
        assert!(bench.learner.network_count() <= 500);
    }
    assert_eq!(bench.model(5000).network_count(), bench.learner.network_count());
}
