use super::*;
use crate::registry::Action;
use crate::registry::sign::to_view;
use crate::registry::statements::live;
use crate::registry::world::{NOW, World};
use nearmost_replica::Body;
use nearmost_wire::api::RegistryResponse;

const DOMAIN: &str = "a.test";
const PUBLISH_MS: u64 = 10_000;
const RETIRE_MS: u64 = 100_000;

fn view(world: &World) -> RegistryView {
    // As a broker tells them: of each thing the last that was said.
    let said_later = |at: usize, key| world.records[at + 1..].iter().any(|r| r.record().key() == key);
    let all = world.records.iter().enumerate();
    let newest = all.filter(|(at, signed)| !said_later(*at, signed.record().key()));
    let response = RegistryResponse {
        broker: world.broker.id().to_string(),
        version: 1,
        hlc_millis: NOW,
        hlc_counter: 0,
        author_epoch: 0,
        author_next_seq: 0,
        records: newest.map(|(_, signed)| to_view(signed)).collect(),
    };
    RegistryView::decode(&response).unwrap()
}

fn told(view: &RegistryView, site: &str) -> DnssecResponse {
    let next = next_generation(view, DOMAIN, site);
    DnssecResponse {
        domain: DOMAIN.into(),
        site: site.into(),
        keys: Vec::new(),
        next_generation: next,
        next_public: data_encoding::BASE64.encode(&[next as u8; 64]),
        publish_hold_s: PUBLISH_MS / 1000,
        retire_hold_s: RETIRE_MS / 1000,
    }
}

/// Makes a change at a moment after the world's, and tells the site's keys as they are then.
fn make(world: &mut World, site: &str, change: KeyChange, after_ms: u64) -> Result<Vec<String>, String> {
    let told = told(&view(world), site);
    make_as(world, &told, change, after_ms)
}

/// The same, where a broker has told that.
fn make_as(
    world: &mut World,
    told: &DnssecResponse,
    change: KeyChange,
    after_ms: u64,
) -> Result<Vec<String>, String> {
    let before = view(world);
    let plan = plan(&before, told, change, NOW + after_ms).map_err(|e| e.to_string())?;
    for change in &plan.changes {
        let body = match (&change.action, &change.after) {
            (Action::Unchanged, _) => continue,
            (_, Some(content)) => live(content.to_json().unwrap()),
            (_, None) => Body::Tombstone,
        };
        let ada = world.ada.clone();
        world.state(&ada, change.key.record_key(), body);
    }
    let after = view(world);
    let shown = after.zone_keys(DOMAIN).map(|(key, body)| {
        let plain = body.plain(&key.id).unwrap();
        format!("{} {}", key.id, plain.life.at(UnixMillis(NOW + after_ms)).as_str())
    });
    Ok(shown.collect())
}

fn world() -> World {
    let mut world = World::new();
    let ada = world.ada.clone();
    world.domain(&ada, DOMAIN, 1);
    world
}

#[test]
fn a_key_is_made_taken_rolled_and_dropped() {
    use KeyChange::{Disable, DsGone, DsSeen, Enable, Roll};
    let mut world = world();
    let mut at = 0;
    let mut step = |change, wait: u64, expected: &[&str]| {
        at += wait;
        assert_eq!(make(&mut world, "s", change, at).unwrap(), expected, "{change:?}");
    };
    step(Enable, 0, &["s-1 published"]);
    step(DsSeen, PUBLISH_MS, &["s-1 active"]);
    step(DsSeen, 1, &["s-1 active"]);
    step(Roll, 1, &["s-1 active", "s-2 published"]);
    step(DsSeen, PUBLISH_MS, &["s-1 retiring", "s-2 active"]);
    // What is over is cleared away with the next change, and its number is not used again.
    step(Roll, RETIRE_MS, &["s-2 active", "s-3 published"]);
    step(Disable, 1, &["s-2 leaving", "s-3 removed"]);
    step(DsGone, 1, &["s-2 left"]);
    step(Enable, RETIRE_MS, &["s-4 published"]);
}

#[test]
fn what_makes_no_sense_says_why() {
    let mut world = world();
    let mut refused = |change, at, says: &str| {
        let why = make(&mut world, "s", change, at).unwrap_err();
        assert!(why.contains(says), "{change:?}: {why}");
    };
    refused(KeyChange::Roll, 0, "begin with --enable");
    refused(KeyChange::DsSeen, 0, "no key whose DS");
    refused(KeyChange::Disable, 0, "no key that could be disabled");
    refused(KeyChange::DsGone, 0, "no key that could be dropped");
    make(&mut world, "s", KeyChange::Enable, 0).unwrap();
    let mut refused = |change, at, says: &str| {
        let why = make(&mut world, "s", change, at).unwrap_err();
        assert!(why.contains(says), "{change:?}: {why}");
    };
    refused(KeyChange::Enable, 1, "already, which is published");
    refused(KeyChange::Roll, 1, "say --ds-seen before the next");
    refused(KeyChange::DsSeen, 2000, "only in 8 s");
}

#[test]
fn sites_change_their_own_keys_only() {
    let mut world = world();
    make(&mut world, "s", KeyChange::Enable, 0).unwrap();
    make(&mut world, "t", KeyChange::Enable, 0).unwrap();
    let after = make(&mut world, "t", KeyChange::DsSeen, PUBLISH_MS).unwrap();
    assert_eq!(after, ["s-1 ready", "t-1 active"]);
    let after = make(&mut world, "t", KeyChange::Disable, PUBLISH_MS).unwrap();
    assert_eq!(after, ["s-1 ready", "t-1 leaving"]);
}

#[test]
fn a_later_key_is_published_as_long_as_caches_hold_the_key_set() {
    let hold = |world: &World, id: &str| {
        let view = view(world);
        view.zone_keys(DOMAIN).find(|(key, _)| key.id == id).map(|(_, body)| body.publish_hold_s)
    };
    let enable = |world: &mut World, site: &str, publish_hold_s, at| {
        let told = DnssecResponse { publish_hold_s, ..told(&view(world), site) };
        make_as(world, &told, KeyChange::Enable, at).unwrap();
    };
    let mut world = world();
    // The first may be short, since there is nothing to hold.
    enable(&mut world, "s", 7200, 0);
    enable(&mut world, "t", 2, 1);
    assert_eq!((hold(&world, "s-1"), hold(&world, "t-1")), (Some(7200), Some(7200)));
    // A longer one is not made shorter.
    enable(&mut world, "u", 9000, 2);
    assert_eq!(hold(&world, "u-1"), Some(9000));

    let mut world = self::world();
    enable(&mut world, "s", 1, 0);
    enable(&mut world, "t", 1, 1);
    assert_eq!((hold(&world, "s-1"), hold(&world, "t-1")), (Some(1), Some(2)));
    // Those that are removed are served no longer.
    let mut world = self::world();
    enable(&mut world, "s", 7200, 0);
    make(&mut world, "s", KeyChange::Disable, 1).unwrap();
    enable(&mut world, "t", 2, 2);
    assert_eq!(hold(&world, "t-1"), Some(2));
}

#[test]
fn more_keys_than_are_served_are_not_made() {
    let mut world = world();
    let sites: Vec<String> = ('a'..).take(MAX_ZONE_KEYS - 1).map(String::from).collect();
    for site in &sites {
        make(&mut world, site, KeyChange::Enable, 0).unwrap();
    }
    make(&mut world, "a", KeyChange::DsSeen, PUBLISH_MS).unwrap();
    make(&mut world, "b", KeyChange::DsSeen, PUBLISH_MS).unwrap();
    make(&mut world, "a", KeyChange::Roll, PUBLISH_MS).unwrap();
    for (site, change) in [("b", KeyChange::Roll), ("new", KeyChange::Enable)] {
        let why = make(&mut world, site, change, PUBLISH_MS + 1).unwrap_err();
        assert!(why.contains("of more than 16 some are not served"), "{why}");
    }
    // A site's own that is over makes room for its next.
    make(&mut world, "a", KeyChange::DsSeen, 2 * PUBLISH_MS).unwrap();
    assert!(make(&mut world, "a", KeyChange::Roll, 2 * PUBLISH_MS + RETIRE_MS - 1).is_err());
    make(&mut world, "a", KeyChange::Roll, 2 * PUBLISH_MS + RETIRE_MS).unwrap();
}
