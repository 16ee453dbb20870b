use super::*;
use crate::api::testing::Fixture;

const DEFAULT: MetricsConfig = MetricsConfig { max_mirrors: 1000, max_domains: 1000, max_nodes: 1000 };

fn text(fixture: &Fixture, most: MetricsConfig) -> String {
    let registry = Registry::new();
    MirrorCollector::register(&registry, fixture.reader(), most).unwrap();
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_removed_mirror_vanishes_and_a_changed_state_moves() {
    let mut fixture = Fixture::five_mirrors();
    assert!(text(&fixture, DEFAULT).contains("mirror=\"syd\""));
    fixture.set_state("lon", State::Down);
    fixture.remove("syd");
    let text = text(&fixture, DEFAULT);
    assert!(!text.contains("mirror=\"syd\""), "{text}");
    let state = "nearmost_mirror_state{domain=\"play.nearmost.test\",family=\"v4\",mirror=\"lon\",state=";
    has(&text, &[&format!("{state}\"down\"}} 1"), &format!("{state}\"up\"}} 0")]);
    has(
        &text,
        &[
            "nearmost_mirrors_eligible{domain=\"play.nearmost.test\"} 3",
            "nearmost_domain_mirrors{domain=\"play.nearmost.test\"} 4",
        ],
    );
}

#[test]
fn regions_and_domains_are_summed_by_what_users_meet() {
    let mut fixture = Fixture::five_mirrors();
    fixture.set_state("lon", State::Down);
    has(
        &text(&fixture, DEFAULT),
        &[
            "nearmost_region_mirrors{region=\"EU\",state=\"down\"} 1",
            "nearmost_region_mirrors{region=\"EU\",state=\"up\"} 0",
            "nearmost_region_mirrors{region=\"OC\",state=\"up\"} 1",
            "nearmost_region_mirrors{region=\"unknown\",state=\"up\"} 0",
            "nearmost_domains{state=\"served\"} 1",
            "nearmost_domains{state=\"unserved\"} 0",
            "nearmost_mirror_info{country=\"GB\",domain=\"play.nearmost.test\",mirror=\"lon\",node=\"lon-node\",region=\"EU\"} 1",
            "nearmost_series_left_out{kind=\"mirrors\"} 0",
        ],
    );
    ["nyc", "sao", "sin", "syd"].into_iter().for_each(|m| fixture.set_state(m, State::Draining));
    let text = text(&fixture, DEFAULT);
    has(&text, &["nearmost_domains{state=\"served\"} 0", "nearmost_domains{state=\"unserved\"} 1"]);
}

#[test]
fn those_in_trouble_come_first_and_the_rest_is_counted_as_left_out() {
    let mut fixture = Fixture::five_mirrors();
    fixture.set_state("syd", State::Down);
    fixture.set_state("sin", State::Suspect);
    let text = text(&fixture, MetricsConfig { max_mirrors: 2, max_domains: 0, max_nodes: 4 });
    for (mirror, shown) in [("lon", false), ("nyc", false), ("sao", false), ("sin", true), ("syd", true)] {
        assert_eq!(text.contains(&format!("mirror=\"{mirror}\"")), shown, "{mirror}\n{text}");
    }
    assert!(!text.contains("nearmost_mirrors_eligible"), "{text}");
    has(
        &text,
        &[
            "nearmost_series_left_out{kind=\"mirrors\"} 3",
            "nearmost_series_left_out{kind=\"domains\"} 1",
            "nearmost_series_left_out{kind=\"nodes\"} 1",
            "nearmost_region_mirrors{region=\"EU\",state=\"up\"} 1",
            "nearmost_domains{state=\"served\"} 1",
        ],
    );
}

/// The fixture's world grown to so many domains, each with a mirror on a node of its own; every tenth is down.
fn grown(fixture: &Fixture, n: u32) -> std::sync::Arc<Snapshot> {
    let one = fixture.snapshot();
    let mut registry = Registered::clone(&one.registry);
    let domain = |i: u32| Domain {
        name: format!("d{i:05}.test").into(),
        mirrors: i..i + 1,
        ..one.registry.domains[0].clone()
    };
    let mirror = |i: u32| Mirror {
        name: format!("m{i:05}").into(),
        domain: nearmost_core::registry::DomainIndex(i),
        node: Some(nearmost_core::registry::NodeIndex(i)),
        ..one.registry.mirrors[i as usize % 5].clone()
    };
    let id = |i: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&i.to_be_bytes());
        nearmost_core::id::NodeId(key)
    };
    let node = |i: u32| nearmost_core::registry::Node {
        name: format!("n{i:05}").into(),
        id: Some(id(i)),
        ..one.registry.nodes[0].clone()
    };
    registry.domains = (0..n).map(domain).collect();
    registry.mirrors = (0..n).map(mirror).collect();
    registry.nodes = (0..n).map(node).collect();
    let mut live = vec![one.live.mirrors[0]; n as usize];
    live.iter_mut().step_by(10).for_each(|l| l.verdicts[0].state = State::Down);
    let named = registry
        .domains
        .iter()
        .zip(0..)
        .map(|(d, i)| (d.name.clone(), nearmost_core::registry::DomainIndex(i)));
    registry.domain_by_name = named.collect();
    let live = nearmost_core::live::Live::new(live);
    std::sync::Arc::new(Snapshot { registry: registry.into(), live: live.into(), ..Snapshot::clone(&one) })
}

#[test]
fn ten_thousand_domains_mirrors_and_nodes_have_a_bounded_number_of_series() {
    const N: u32 = 10_000;
    let fixture = Fixture::five_mirrors();
    let snapshot = grown(&fixture, N);
    fixture.reader().store(snapshot.clone());
    for (most, bound) in [(1000, 40_000), (100, 5_000), (0, 500)] {
        let settings = MetricsConfig { max_mirrors: most, max_domains: most, max_nodes: most };
        let registry = Registry::new();
        let fleet = crate::telemetry::FleetMetrics::register(&registry, fixture.reader(), settings).unwrap();
        let nodes = snapshot.registry.nodes.iter().filter_map(|n| n.id);
        let tally = nearmost_core::fleet::BeaconTally { heard: 9, missed: 1, late: 0 };
        let all = nodes.map(|id| (id, tally, Some(Duration::from_secs(1))));
        fleet.beacons_by_node.lay_down(crate::clock::mono_now(), || all);
        let traffic = crate::steering::TrafficHandle::new(crate::clock::Clock::start());
        traffic.see_all(&snapshot);
        crate::telemetry::traffic::register(&registry, traffic, settings).unwrap();
        // And every domain is asked for.
        let dns = crate::dns::DnsMetrics::limited(&registry, settings).unwrap();
        dns.book.count_all(&snapshot.registry);

        let began = crate::clock::mono_now();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let took = crate::clock::mono_now() - began;
        let series = text.lines().filter(|l| !l.starts_with('#')).count();
        println!("{most}: {series} series in {} bytes, {took:?}", text.len());
        assert!(series > most * 20 && series < bound, "{most}: {series}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        let flows: Vec<_> = text.lines().filter(|l| l.starts_with("nearmost_users{")).collect();
        assert!(!flows.is_empty() && flows.len() <= 4 * most + 1, "{most}: {}", flows.len());
        for kind in ["mirrors", "domains", "nodes"] {
            let left_out = N as usize - most;
            has(&text, &[&format!("nearmost_series_left_out{{kind=\"{kind}\"}} {left_out}")]);
        }
        has(&text, &["nearmost_domains{state=\"unserved\"} 1000", "nearmost_domains{state=\"served\"} 9000"]);
        if most > 0 {
            let down = text
                .lines()
                .filter(|l| l.contains("state=\"down\"} 1") && l.starts_with("nearmost_mirror_state"));
            assert_eq!(down.count(), most.min(1000), "those in trouble come first");
            assert!(
                text.contains("nearmost_dns_domain_queries_total{domain=\"other\"}"),
                "the rest is summed"
            );
        }
    }
}
