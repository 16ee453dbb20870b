use super::*;
use nearmost_config::Share;
use proptest::prelude::*;
use std::net::{Ipv4Addr, SocketAddr};

fn watched(mirror: &str, port: u16, addresses: &[&str]) -> Watched {
    let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
    Watched { domain: "play.example".into(), mirror: mirror.into(), port, addresses }
}

fn connection(local: &str, peer: &str, rtt_us: u32) -> Connection {
    let local: SocketAddr = local.parse().expect("an address and port");
    Connection { local, peer: peer.parse().expect("an address"), rtt_us }
}

/// Mirror, network, round trip and connections of each sample.
fn told(services: &[Watched], connections: &[Connection]) -> Vec<(String, String, u32, u32)> {
    let mut aggregate = Aggregate::new(services, Coarseness::default());
    connections.iter().for_each(|c| aggregate.add(c));
    let reading = aggregate.finish(4096);
    assert_eq!((reading.left_out, reading.unread), (0, 0));
    let of_service = |s: ServicePaths| {
        let samples = s.samples.into_iter();
        samples.map(move |p| (s.mirror.clone(), p.network.to_string(), p.rtt_us, p.connections))
    };
    reading.services.into_iter().flat_map(of_service).collect()
}

fn sample(mirror: &str, network: &str, rtt_us: u32, connections: u32) -> (String, String, u32, u32) {
    (mirror.into(), network.into(), rtt_us, connections)
}

#[test]
fn connections_become_medians_by_network() {
    let services = [watched("lon", 443, &["192.0.2.1", "2001:db8::1"])];
    let connections = [
        connection("192.0.2.1:443", "198.51.100.1", 9_000),
        connection("192.0.2.1:443", "198.51.100.2", 1_000),
        connection("192.0.2.1:443", "198.51.100.200", 5_000),
        connection("192.0.2.1:443", "203.0.113.1", 7_000),
        connection("192.0.2.1:443", "203.0.113.2", 8_000),
        connection("[2001:db8::1]:443", "2001:db8:1:2::3", 2_000),
        // Nothing timed yet, and somebody else's port.
        connection("192.0.2.1:443", "198.51.100.3", 0),
        connection("192.0.2.1:444", "198.51.100.3", 3),
    ];
    let expected = [
        sample("lon", "198.51.100.0/24", 5_000, 3),
        sample("lon", "203.0.113.0/24", 7_000, 2),
        sample("lon", "2001:db8:1::/48", 2_000, 1),
    ];
    assert_eq!(told(&services, &connections), expected);
}

#[test]
fn only_a_service_on_loopback_counts_peers_of_this_machine() {
    let beside = [
        connection("127.0.0.1:443", "127.0.0.1", 20),
        connection("[::1]:443", "::1", 20),
        connection("192.0.2.1:443", "192.0.2.1", 20),
        connection("169.254.1.1:443", "169.254.7.7", 300),
        connection("[fe80::1]:443", "fe80::2", 300),
    ];
    for addresses in [&[][..], &["192.0.2.1"]] {
        assert_eq!(told(&[watched("lon", 443, addresses)], &beside), []);
    }
    let demo = [watched("lon", 443, &["127.0.0.1"])];
    assert_eq!(told(&demo, &beside), [sample("lon", "127.0.0.0/24", 20, 1)]);
}

#[test]
fn services_that_share_a_port_are_told_apart_by_their_addresses() {
    let demo = [watched("lon", 443, &["127.0.21.1"]), watched("syd", 443, &["127.0.21.2"])];
    let connections = [
        connection("127.0.21.2:443", "127.0.0.1", 20),
        connection("127.0.21.3:443", "127.0.0.1", 20),
        connection("192.0.2.1:443", "198.51.100.1", 20),
    ];
    assert_eq!(told(&demo, &connections), [sample("syd", "127.0.0.0/24", 20, 1)]);
    // Behind a NAT the declared address is not the machine's; two services share what they have.
    let behind = [watched("lon", 443, &["203.0.113.1"]), watched("files", 443, &[])];
    let connections = [connection("10.0.0.5:443", "198.51.100.1", 20)];
    assert_eq!(told(&behind, &connections), [sample("lon", "198.51.100.0/24", 20, 1)]);
}

#[test]
fn networks_with_few_connections_are_left_out_first() {
    let services = [watched("lon", 443, &[]), watched("lon", 80, &[])];
    let mut aggregate = Aggregate::new(&services, Coarseness { v4: 16, v6: 32 });
    for (port, network, connections) in [(443, 1, 1), (443, 2, 3), (443, 3, 2), (80, 1, 1)] {
        for _ in 0..connections {
            aggregate.add(&connection(&format!("192.0.2.1:{port}"), &format!("10.{network}.0.9"), 5));
        }
    }
    let reading = aggregate.finish(2);
    let networks: Vec<String> = reading.services[0].samples.iter().map(|s| s.network.to_string()).collect();
    assert_eq!(networks, ["10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!((reading.services[1].samples.len(), reading.connections, reading.left_out), (1, 6, 1));
}

#[test]
fn a_reading_is_bounded() {
    let services = [watched("lon", 443, &[])];
    let mut aggregate = Aggregate::new(&services, Coarseness::default());
    aggregate.room = 2;
    for peer in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        aggregate.add(&connection("192.0.2.1:443", peer, 5));
    }
    let reading = aggregate.finish(10);
    assert_eq!((reading.connections, reading.unread), (2, 1));
}

#[test]
fn where_services_are_follows_from_the_configuration() {
    let service = |address| Service {
        domain: "play.example".into(),
        mirror: "lon".into(),
        address,
        port: 443,
        share: Share { weight: 1, capacity: 0 },
        url: None,
        checks: Vec::new(),
        ready: None,
        probe: Default::default(),
        local: Default::default(),
    };
    let declared = MirrorAddress::Declared { v4: Some(Ipv4Addr::LOCALHOST), v6: None };
    let all = Watched::all(&[service(declared), service(MirrorAddress::Observed)]);
    assert_eq!(all, [watched("lon", 443, &["127.0.0.1"]), watched("lon", 443, &[])]);
    assert_eq!(all.iter().map(Watched::on_loopback).collect::<Vec<_>>(), [true, false]);
    assert!(watched("lon", 443, &["::1"]).on_loopback());
}

#[test]
fn the_middle_is_the_median() {
    for (values, middle) in
        [(vec![], 0), (vec![3], 3), (vec![4, 2], 2), (vec![9, 1, 5], 5), (vec![4, 3, 2, 1], 2)]
    {
        assert_eq!(median(&mut values.clone()), middle, "{values:?}");
    }
}

proptest! {
    /// Every sample is told once, in messages that are not too long.
    #[test]
    fn a_reading_is_told_message_by_message(sizes in prop::collection::vec(1usize..700, 0..4)) {
        let sample = |i: usize| PathSample {
            network: Coarseness::default().network(Ipv4Addr::from((i as u32) << 8).into()),
            rtt_us: 1,
            connections: 1,
        };
        let service = |(i, n): (usize, &usize)| ServicePaths {
            domain: "play.example".into(),
            mirror: format!("m{i}"),
            samples: (0..*n).map(sample).collect(),
        };
        let services: Vec<_> = sizes.iter().enumerate().map(service).collect();
        let mut telling = Telling::new(Arc::new(Reading { services: services.clone(), ..Reading::default() }));
        let mut left: usize = sizes.iter().sum();
        let mut seen: BTreeMap<String, Vec<PathSample>> = BTreeMap::new();
        prop_assert_eq!(telling.left(), left);
        while let Some(ToBroker::Paths { mirror, samples, .. }) = telling.next_message() {
            prop_assert!(!samples.is_empty() && samples.len() <= MAX_SAMPLES);
            left -= samples.len();
            prop_assert_eq!(telling.left(), left);
            seen.entry(mirror).or_default().extend(samples);
        }
        prop_assert_eq!(left, 0);
        let expected: BTreeMap<_, _> = services.into_iter().map(|s| (s.mirror, s.samples)).collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn sessions_of_the_ingress_are_read_with_the_connections() {
    let services = [watched("lon", 443, &[]), watched("near", 80, &["127.0.0.1"])];
    let mut aggregate = Aggregate::new(&services, Coarseness::default());
    let key = |mirror: &str| ("play.example".to_string(), mirror.to_string());
    let ip = |text: &str| text.parse().expect("an address");
    aggregate.add(&connection("192.0.2.1:443", "198.51.100.1", 5));
    aggregate.add_session(&key("lon"), ip("198.51.100.2"), 7);
    aggregate.add_session(&key("lon"), ip("198.51.100.3"), 9);
    // Checks beside the service, services that are no more, and what was not timed.
    aggregate.add_session(&key("lon"), ip("127.0.0.1"), 1);
    aggregate.add_session(&key("gone"), ip("198.51.100.4"), 1);
    aggregate.add_session(&key("lon"), ip("203.0.113.1"), 0);
    aggregate.add_session(&key("near"), ip("127.0.0.1"), 2);
    let reading = aggregate.finish(10);
    let of = |i: usize| &reading.services[i].samples[..];
    assert_eq!((of(0).len(), of(0)[0].rtt_us, of(0)[0].connections), (1, 7, 3));
    assert_eq!((of(1).len(), of(1)[0].rtt_us, of(1)[0].connections), (1, 2, 1));
}
