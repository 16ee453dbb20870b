//! Orders of people: what is built of them, and what is refused.

use super::build::*;
use super::orders::*;
use nearmost_core::registry::{Force, ForcedTo, MAX_WINDOWS, Orders, Registry, Window};
use nearmost_core::time::UnixMillis;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A node `n` with mirror `d.test/m`, mirror `d.test/alone` without a node, and these orders.
fn with(orders: &[(EntryKind, &str, &str, Value)]) -> Built {
    let service = json!({ "addresses": ["192.0.2.1"], "health": "probe" });
    let of_node = json!({ "node": "n", "health": "agent" });
    let mut entries = vec![
        (EntryKind::Domain, "d.test", "", json!({})),
        (EntryKind::Node, "", "n", json!({})),
        (EntryKind::Mirror, "d.test", "m", of_node),
        (EntryKind::Mirror, "d.test", "alone", service),
    ];
    entries.extend_from_slice(orders);
    let texts: Vec<String> = entries.iter().map(|(.., body)| body.to_string()).collect();
    let view = entries.iter().zip(&texts).map(|((kind, scope, id, _), body)| Entry {
        kind: *kind,
        scope,
        id,
        body: body.as_bytes(),
    });
    build(1, view, &BuildDefaults::default())
}

fn registry(orders: &[(EntryKind, &str, &str, Value)]) -> Registry {
    let built = with(orders);
    assert_eq!(built.problems, []);
    built.registry
}

fn orders_of(registry: &Registry, name: &str) -> Orders {
    registry.mirrors.iter().find(|m| &*m.name == name).expect("a mirror").orders.clone()
}

fn window(from: u64, until: u64) -> Window {
    Window { from: UnixMillis(from), until: UnixMillis(until) }
}

fn body(from: u64, until: u64) -> Value {
    json!({ "from_unix_ms": from, "until_unix_ms": until })
}

#[test]
fn a_drain_without_windows_holds_until_it_is_lifted() {
    let registry = registry(&[(EntryKind::Drain, "", "n", json!({ "note": "why", "of_a_newer_writer": 1 }))]);
    assert!(registry.nodes[0].drained && registry.nodes[0].windows.is_empty());
    assert!(orders_of(&registry, "m").drained, "its node is");
    assert_eq!(orders_of(&registry, "alone"), Orders::default());
}

#[test]
fn a_drain_with_windows_holds_only_within_them_and_a_nodes_are_its_mirrors_too() {
    let node = json!({ "windows": [body(70, 80), body(10, 20)] });
    let own = json!({ "windows": [body(30, 40)] });
    let registry = registry(&[(EntryKind::Drain, "", "n", node), (EntryKind::Drain, "d.test", "m", own)]);
    let node = &registry.nodes[0];
    assert!(!node.drained);
    assert_eq!(node.windows, [window(10, 20), window(70, 80)], "in their order");
    let orders = orders_of(&registry, "m");
    assert!(!orders.drained);
    assert_eq!(orders.windows, [window(30, 40), window(10, 20), window(70, 80)]);
    for (now, inside, next) in [
        (0, false, Some(10)),
        (10, true, Some(20)),
        (20, false, Some(30)),
        (79, true, Some(80)),
        (80, false, None),
    ] {
        let found = (orders.in_window(UnixMillis(now)), orders.next_window(UnixMillis(now)));
        assert_eq!(found, (inside, next.map(UnixMillis)), "at {now}");
    }
    assert_eq!(orders_of(&registry, "alone"), Orders::default());
}

#[test]
fn every_force_is_built_and_a_release_is_none() {
    for (to, force) in [("up", ForcedTo::Up), ("down", ForcedTo::Down), ("freeze", ForcedTo::AsItWas)] {
        let registry =
            registry(&[(EntryKind::Force, "d.test", "m", json!({ "to": to, "until_unix_ms": 9 }))]);
        let expected = Orders { force: Some(Force { to: force, until: UnixMillis(9) }), ..Orders::default() };
        assert_eq!(orders_of(&registry, "m"), expected);
    }
    let release = json!({ "to": "release", "until_unix_ms": 9 });
    let registry = registry(&[(EntryKind::Force, "d.test", "m", release)]);
    assert_eq!(orders_of(&registry, "m"), Orders { released: Some(UnixMillis(9)), ..Orders::default() });
}

#[test]
fn orders_that_make_no_sense_are_left_out_and_named() {
    let many: Vec<Value> = (0..=MAX_WINDOWS as u64).map(|i| body(i, i + 1)).collect();
    for (kind, order, says) in [
        (
            EntryKind::Drain,
            json!({ "windows": [body(1, 2), body(7, 7)] }),
            "drain d.test/m: window 2: until_unix_ms = 7: expected a moment after from_unix_ms = 7",
        ),
        (EntryKind::Drain, json!({ "windows": many }), "windows: there are 33, expected at most 32"),
        (EntryKind::Drain, json!({ "windows": [{ "from_unix_ms": 1 }] }), "missing field `until_unix_ms`"),
        (EntryKind::Drain, json!({ "windows": [body(1, 2), { "from_unix_ms": -1 }] }), "body: "),
        (
            EntryKind::Force,
            json!({ "to": "sideways", "until_unix_ms": 1 }),
            "force d.test/m: body: unknown variant `sideways`, expected one of `up`, `down`, `freeze`, `release`",
        ),
        (EntryKind::Force, json!({ "to": "up" }), "missing field `until_unix_ms`"),
        (EntryKind::Force, json!({ "until_unix_ms": 1 }), "missing field `to`"),
    ] {
        let built = with(&[(kind, "d.test", "m", order.clone())]);
        assert_eq!(built.problems.len(), 1, "{order}: {:?}", built.problems);
        let problem = built.problems[0].to_string();
        assert!(problem.contains(says), "{order}: {problem}\nexpected: {says}");
        assert_eq!(orders_of(&built.registry, "m"), Orders::default());
    }
    let most = json!({ "windows": many[1..].to_vec() });
    let registry = registry(&[(EntryKind::Drain, "d.test", "m", most)]);
    assert_eq!(orders_of(&registry, "m").windows.len(), MAX_WINDOWS);
}

#[test]
fn an_order_without_windows_is_written_as_older_readers_know_it() {
    let order = DrainBody { note: None, windows: Vec::new() };
    assert_eq!(serde_json::to_string(&order).expect("writes"), "{}");
}

fn windows() -> impl Strategy<Value = Vec<WindowBody>> {
    let window = (any::<u64>(), any::<u64>())
        .prop_map(|(from_unix_ms, until_unix_ms)| WindowBody { from_unix_ms, until_unix_ms });
    prop::collection::vec(window, 0..40)
}

proptest! {
    /// They come back as they were written; and either all windows are built or the order is refused.
    #[test]
    fn orders_round_trip(note: Option<String>, windows in windows(), to in 0usize..4, until: u64) {
        let order = DrainBody { note, windows };
        let json = serde_json::to_string(&order).expect("writes");
        prop_assert_eq!(&serde_json::from_str::<DrainBody>(&json).expect("reads"), &order);
        let sound = order.windows.len() <= MAX_WINDOWS
            && order.windows.iter().all(|w| w.from_unix_ms < w.until_unix_ms);
        match drain(&order) {
            Err(_) => prop_assert!(!sound),
            Ok(plain) => {
                prop_assert!(sound);
                prop_assert_eq!(plain.drained, order.windows.is_empty());
                prop_assert!(plain.windows.is_sorted_by_key(|w| w.from));
                prop_assert_eq!(plain.windows.len(), order.windows.len());
            }
        }
        let force = ForceBody { to: ForceBodyTo::ALL[to], until_unix_ms: until };
        let json = serde_json::to_string(&force).expect("writes");
        prop_assert!(json.contains(force.to.as_str()), "{}", json);
        prop_assert_eq!(serde_json::from_str::<ForceBody>(&json).expect("reads"), force);
    }
}
