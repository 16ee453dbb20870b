use super::*;
use crate::api::testing::Fixture;
use nearmost_core::check::CheckSpec;
use nearmost_core::registry::NodeIndex;

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

#[test]
fn every_node_and_every_mirror_without_one_is_a_target() {
    let mut fixture = Fixture::five_mirrors();
    fixture.mirror("syd", |m| m.node = None);
    let snapshot = fixture.snapshot();
    let (targets, at) = targets(&snapshot);
    let names: Vec<&Target> = targets.iter().map(|t| &t.target).collect();
    let sydney = Target::Address([192, 0, 2, 5].into());
    assert_eq!(
        names,
        [
            &Target::Node(node(1)),
            &Target::Node(node(2)),
            &Target::Node(node(3)),
            &Target::Node(node(4)),
            &sydney
        ]
    );
    assert_eq!(at[&Target::Node(node(1))], "192.0.2.1:8080".parse().unwrap());
    assert!(targets.iter().all(|t| t.position.is_some()));
}

#[test]
fn what_has_no_address_no_port_or_no_right_is_no_target() {
    let mut fixture = Fixture::five_mirrors();
    fixture.mirror("lon", |m| m.port = 0);
    let mut snapshot = Snapshot::clone(&fixture.snapshot());
    let mut live = snapshot.live.as_ref().clone();
    live.mirrors[1].v4 = None;
    live.mirrors[2].v6 = Some("2001:db8::1".parse().unwrap());
    live.mirrors[3] = Default::default();
    live.mirrors[3].v6 = Some("2001:db8::2".parse().unwrap());
    snapshot.live = Arc::new(live);
    let mut registry = Registry::clone(&snapshot.registry);
    registry.nodes[4].revoked = true;
    snapshot.registry = Arc::new(registry);
    let (targets, at) = targets(&snapshot);
    assert_eq!(targets.len(), 2);
    // IPv4 where there are both.
    assert_eq!(at[&Target::Node(node(3))], "192.0.2.3:8080".parse().unwrap());
    assert_eq!(at[&Target::Node(node(4))], "[2001:db8::2]:8080".parse().unwrap());
}

#[test]
fn mirrors_of_one_node_are_one_target_and_one_that_speaks_tcp_stands_for_all() {
    let mut fixture = Fixture::five_mirrors();
    let second = Duration::from_secs(1);
    let udp = nearmost_core::check::CheckKind::Udp { send: Vec::new(), expect: Vec::new() };
    let spec = CheckSpec { kind: udp, interval: second, timeout: second, rise: 1, fall: 1 };
    fixture.mirror("lon", |m| m.probe = Some(spec.clone()));
    fixture.mirror("nyc", |m| m.node = Some(NodeIndex(0)));
    fixture.mirror("sao", |m| m.node = Some(NodeIndex(0)));
    let snapshot = fixture.snapshot();
    let (all, at) = targets(&snapshot);
    assert_eq!((all.len(), at.len()), (3, 3));
    let lon = snapshot.registry.mirrors.iter().position(|m| &*m.name == "lon").unwrap();
    let (first, _) = snapshot
        .registry
        .mirrors
        .iter()
        .enumerate()
        .find(|(i, m)| *i != lon && m.node == Some(NodeIndex(0)))
        .expect("another mirror of the node");
    let address = snapshot.live.mirrors[first].v4.unwrap();
    assert_eq!(at[&Target::Node(node(1))], SocketAddr::new(address.into(), 8080));
}

#[test]
fn nodes_are_where_people_say_or_where_their_mirrors_are() {
    let fixture = Fixture::five_mirrors();
    let mut registry = Registry::clone(&fixture.snapshot().registry);
    let given = registry.mirrors[4].place;
    registry.nodes[1].place = Some(given);
    let nodes = present(vec![node(1), node(2), node(99)], &registry);
    assert_eq!(nodes.len(), 2, "one is not registered");
    assert_eq!(nodes[0].position, registry.mirrors[0].place.position);
    assert_eq!(nodes[1].position, given.position);
}

#[test]
fn what_cannot_have_changed_is_not_looked_at_again_and_orders_to_nobody_are_counted() {
    let mut fixture = Fixture::five_mirrors();
    let config = PairConfig {
        interval: Duration::from_secs(60),
        node_gap: Duration::from_millis(100),
        gap: Duration::from_millis(10),
    };
    let metrics = PathMetrics::register(&prometheus::Registry::new()).unwrap();
    let parts = PairParts {
        config: Some(config),
        seed: 1,
        table: Arc::default(),
        snapshot: fixture.reader(),
        metrics: metrics.clone(),
    };
    let pairs = Pairs::new(config, 1);
    let mut pairing = Pairing { parts, pairs, addresses: BTreeMap::new(), seen: None };
    pairing.look(MonoTime::ZERO);
    assert_eq!((pairing.addresses.len(), metrics.pairs.get()), (5, 0));
    pairing.addresses.clear();
    pairing.look(MonoTime::ZERO);
    assert!(pairing.addresses.is_empty(), "looked at again");
    fixture.remove("syd");
    pairing.look(MonoTime::ZERO);
    assert_eq!(pairing.addresses.len(), 4);
    // The schedule still has one that left since.
    pairing.pairs.set_nodes([PairNode { id: node(1), position: None }], MonoTime::ZERO);
    while let Some(due) = pairing.pairs.next_deadline().filter(|d| *d < MonoTime::from_millis(500)) {
        pairing.order(due);
    }
    assert!(metrics.orders.with_label_values(&["dropped"]).get() >= 3);
    assert_eq!(metrics.orders.with_label_values(&["sent"]).get(), 0);
}
