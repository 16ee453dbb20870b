//! Tests of [`super`], and of signing what it plans.

use super::*;
use crate::registry::sign::{Stamp, sign, to_view};
use crate::registry::view::Current;
use nearmost_replica::{Body, Hlc, SignedRecord};
use nearmost_wire::api::{RecordView, RegistryResponse};
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::{
    DrainBody, ForceBody, ForceBodyTo, MirrorBody, NodeBody, OverrideBody, PersonBody, WindowBody,
};
use proptest::prelude::*;

fn person(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Person, &[seed; 32])
}

fn stamp(now_unix_ms: u64) -> Stamp {
    Stamp { now_unix_ms, first_seq: 40 }
}

fn broker() -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[200; 32])
}

fn empty() -> RegistryView {
    view_of(Vec::new())
}

fn view_of(records: Vec<RecordView>) -> RegistryView {
    let response = RegistryResponse {
        broker: broker().id().to_string(),
        version: 7,
        hlc_millis: 1_000,
        hlc_counter: 3,
        author_epoch: 2,
        author_next_seq: 40,
        records,
    };
    RegistryView::decode(&response).unwrap()
}

/// The registry after `key` carried out `plan`; an error when a record loses against what was there.
fn after(view: &RegistryView, plan: &Plan, key: &KeyPair) -> RegistryView {
    let mut next = view.clone();
    for signed in sign(plan, view, key, None, stamp(500)).unwrap() {
        let entry = EntryKey::of_record(signed.record().key()).unwrap();
        assert!(signed.record().hlc > view.hlc);
        let outcome = nearmost_replica::merge(next.records.get(&entry), &signed);
        assert_eq!(outcome, nearmost_replica::MergeOutcome::Applied, "{entry}");
        match &signed.record().body {
            Body::Live { bytes, .. } => {
                let content = Content::parse(entry.kind, bytes).ok();
                next.entries.insert(entry.clone(), Current { content, signed: signed.clone() });
            }
            Body::Tombstone => drop(next.entries.remove(&entry)),
        }
        next.hlc = signed.record().hlc;
        next.records.insert(entry, signed);
    }
    next.version += 1;
    next
}

const FILE: &str = r#"
version = 1
[[domain]]
name = "a.example"
[[node]]
name = "n1"
domains = ["a.example"]
[[mirror]]
domain = "a.example"
name = "lon"
node = "n1"
[[mirror]]
domain = "a.example"
name = "nyc"
addresses = ["192.0.2.1"]
health = "probe"
"#;

fn file(text: &str) -> RegistryFile {
    RegistryFile::parse("reg.toml", text).unwrap()
}

fn of_file(text: &str, view: &RegistryView, me: &KeyPair, prune: bool) -> Plan {
    Plan::of_file(&file(text), view, &me.id(), prune).unwrap()
}

fn mirror_key(name: &str) -> EntryKey {
    EntryKey::mirror(&format!("a.example/{name}")).unwrap()
}

fn without(text: &str, name: &str) -> String {
    let start = text.rfind("[[mirror]]").unwrap();
    assert!(text[start..].contains(name));
    text[..start].into()
}

#[test]
fn applying_twice_does_nothing_the_second_time() {
    let me = person(1);
    let plan = of_file(FILE, &empty(), &me, false);
    assert_eq!(plan.count(|a| a == Action::Add), 4);
    let there = after(&empty(), &plan, &me);
    assert!(of_file(FILE, &there, &me, true).is_empty());
    assert!(of_file(FILE, &there, &person(2), true).is_empty(), "whoever wrote it");
}

#[test]
fn the_diff_says_what_is_added_changed_and_removed() {
    let me = person(1);
    let plan = of_file(FILE, &empty(), &me, false);
    let shown = plan.to_string();
    assert!(shown.contains("+ mirror a.example/nyc  addresses: [192.0.2.1], health: probe\n"), "{shown}");
    assert!(shown.contains("+ domain a.example\n"), "{shown}");
    let there = after(&empty(), &plan, &me);
    let changed = without(FILE, "nyc").replace("node = \"n1\"", "node = \"n1\"\nport = 8443");
    let kept = of_file(&changed, &there, &me, false);
    assert_eq!(kept.to_string(), "~ mirror a.example/lon  port: 443 → 8443\n");
    assert_eq!(kept.count(|a| a == Action::Kept(Kept::NotPruned)), 1);
    assert!(kept.changes.iter().any(|c| c.to_string() == "  mirror a.example/nyc kept: not in the file"));
    let pruned = of_file(&changed, &there, &me, true);
    assert_eq!(pruned.to_string(), "~ mirror a.example/lon  port: 443 → 8443\n- mirror a.example/nyc\n");
    assert!(!after(&there, &pruned, &me).has(&mirror_key("nyc")));
}

#[test]
fn pruning_removes_only_what_the_same_person_made_and_never_the_own_key() {
    let (me, other) = (person(1), person(2));
    let there = after(&empty(), &of_file(FILE, &empty(), &other, false), &other);
    let own_key = Edit::put(EntryKey::person(&me.id()), Content::Person(PersonBody::default()));
    let there = after(&there, &Plan::of_edits(&there, vec![own_key]).unwrap(), &me);
    let plan = of_file(&without(FILE, "nyc"), &there, &me, true);
    assert!(plan.is_empty());
    let kept: Vec<_> = plan.changes.iter().map(|c| (c.key.clone(), c.action)).collect();
    assert!(kept.contains(&(mirror_key("nyc"), Action::Kept(Kept::MadeBy(other.id())))));
    assert!(kept.contains(&(EntryKey::person(&me.id()), Action::Kept(Kept::OwnKey))));
    assert!(plan.to_string().contains(&format!("made by {}", other.id())));
}

#[test]
fn what_others_made_stays_theirs_whoever_changes_it() {
    let (me, other) = (person(1), person(2));
    for maker in [&other, &broker()] {
        let made = after(&empty(), &of_file(FILE, &empty(), maker, false), maker);
        let Some(Content::Mirror(body)) = made.content(&mirror_key("nyc")) else { panic!() };
        let changed = Content::Mirror(MirrorBody { port: 8443, ..body.clone() });
        let set = Plan::of_edits(&made, vec![Edit::put(mirror_key("nyc"), changed)]).unwrap();
        let there = after(&made, &set, &me);
        assert_eq!(there.entries[&mirror_key("nyc")].author().0, me.id().key);
        let pruned = of_file(&without(FILE, "nyc"), &there, &me, true);
        assert!(pruned.is_empty(), "{pruned}");
        assert!(!set.to_string().contains("made_by"), "{set}");
        // Removed and taken back by another hand, it is still its maker's.
        let undone = after(
            &there,
            &Plan::of_edits(&there, vec![Edit::put(mirror_key("nyc"), Content::Mirror(body.clone()))])
                .unwrap(),
            &me,
        );
        assert_eq!(undone.maker(&mirror_key("nyc")).unwrap().key, maker.id().key);
    }
    let mine = after(&empty(), &of_file(FILE, &empty(), &me, false), &me);
    let Some(Content::Mirror(body)) = mine.content(&mirror_key("nyc")) else { panic!() };
    assert_eq!(body.made_by, Some(me.id().to_string()));
    let theirs = Content::Mirror(MirrorBody { port: 8443, ..body.clone() });
    let set = Plan::of_edits(&mine, vec![Edit::put(mirror_key("nyc"), theirs)]).unwrap();
    let there = after(&mine, &set, &other);
    assert_eq!(of_file(&without(FILE, "nyc"), &there, &me, true).count(|a| a == Action::Remove), 1);
}

#[test]
fn a_wrong_domain_is_told_once_and_not_for_each_of_its_mirrors() {
    let text = FILE.replace("name = \"a.example\"\n[[node]]", "name = \"a.example\"\nredirect_hosts = [\"a.example\"]\nrecords = [{ name = \"@\", type = \"NONE\", value = \"x\" }]\n[[node]]");
    let said = Plan::of_file(&file(&text), &empty(), &person(1).id(), false).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("domain a.example"), "{said}");
}

/// A node that joined: its record is the broker's.
fn joined(view: &RegistryView, revoked: bool) -> (RegistryView, String) {
    let id = KeyPair::from_seed(Role::Node, &[9; 32]).id().to_string();
    let body = NodeBody { id: Some(id.clone()), domains: vec![], revoked, place: None, made_by: None };
    let edit = Edit::put(EntryKey::node("n1").unwrap(), Content::Node(body));
    (after(view, &Plan::of_edits(view, vec![edit]).unwrap(), &broker()), id)
}

#[test]
fn the_file_wins_over_the_broker_and_a_joined_node_keeps_its_id() {
    let me = person(1);
    let (there, id) = joined(&empty(), true);
    let plan = of_file(FILE, &there, &me, false);
    let next = after(&there, &plan, &me);
    let key = EntryKey::node("n1").unwrap();
    let Some(Content::Node(node)) = next.content(&key) else { panic!() };
    assert_eq!(node.id, Some(id.clone()));
    assert_eq!(node.domains, ["a.example"]);
    assert!(node.revoked, "a file that is silent does not admit a revoked node");
    assert_eq!(next.entries[&key].author().0, me.id().key);
    assert!(of_file(FILE, &next, &me, true).is_empty());

    let admitted = FILE.replace("name = \"n1\"", "name = \"n1\"\nrevoked = false");
    let next = after(&next, &of_file(&admitted, &next, &me, false), &me);
    let Some(Content::Node(node)) = next.content(&key) else { panic!() };
    assert!(!node.revoked);
}

#[test]
fn a_file_may_name_what_only_the_broker_knows() {
    let (there, _) = joined(&empty(), false);
    let text = FILE.replace("[[node]]\nname = \"n1\"\ndomains = [\"a.example\"]\n", "");
    let plan = of_file(&text, &there, &person(1), false);
    assert_eq!(plan.count(|a| a == Action::Add), 3);
    let refused = Plan::of_file(&file(&text), &empty(), &person(1).id(), false).unwrap_err().to_string();
    assert!(
        refused.contains("mirror a.example/lon: unknown node \"n1\": neither this file nor the broker"),
        "{refused}"
    );
}

#[test]
fn a_plan_that_would_break_something_is_refused() {
    let me = person(1);
    let there = after(&empty(), &of_file(FILE, &empty(), &me, false), &me);
    let gone =
        Plan::of_edits(&there, vec![Edit::remove(EntryKey::node("n1").unwrap())]).unwrap_err().to_string();
    assert!(gone.contains("mirror a.example/lon: unknown node \"n1\""), "{gone}");
    let gone = Plan::of_edits(&there, vec![Edit::remove(EntryKey::node("n2").unwrap())]).unwrap_err();
    assert_eq!(gone.to_string(), "there is no node n2");
    let zero = Edit::put(mirror_key("lon"), Content::Mirror(MirrorBody { port: 0, ..MirrorBody::default() }));
    assert!(Plan::of_edits(&there, vec![zero]).unwrap_err().to_string().contains("port = 0"));
}

#[test]
fn orders_go_with_what_they_are_about_and_files_leave_them_alone() {
    let me = person(1);
    let there = after(&empty(), &of_file(FILE, &empty(), &me, false), &me);
    let orders = vec![
        Edit::put(mirror_key("nyc").drain(), Content::Drain(DrainBody::default())),
        Edit::put(
            mirror_key("nyc").force(),
            Content::Force(ForceBody { to: ForceBodyTo::Up, until_unix_ms: 9 }),
        ),
    ];
    let there = after(&there, &Plan::of_edits(&there, orders).unwrap(), &me);
    assert!(of_file(FILE, &there, &me, true).is_empty());
    let plan = of_file(&without(FILE, "nyc"), &there, &person(1), true);
    assert_eq!(plan.count(|a| a == Action::Remove), 3, "{plan}");
}

#[test]
fn orders_are_shown_with_readable_moments_and_each_window_by_itself() {
    let me = person(1);
    let there = after(&empty(), &of_file(FILE, &empty(), &me, false), &me);
    let (drain, force) = (mirror_key("nyc").drain(), mirror_key("nyc").force());
    const HOUR: u64 = 3_600_000;
    let windows = |hours: &[(u64, u64)]| {
        let each = hours
            .iter()
            .map(|(from, until)| WindowBody { from_unix_ms: from * HOUR, until_unix_ms: until * HOUR });
        let body = DrainBody { note: None, windows: each.collect() };
        Edit::put(drain.clone(), Content::Drain(body))
    };
    let to = |to, hour: u64| {
        Edit::put(force.clone(), Content::Force(ForceBody { to, until_unix_ms: hour * HOUR }))
    };
    let plan = Plan::of_edits(&there, vec![windows(&[(1, 2), (5, 6)]), to(ForceBodyTo::Freeze, 3)]).unwrap();
    assert_eq!(
        plan.to_string(),
        "+ drain a.example/nyc  window 1970-01-01 01:00:00 UTC: until 1970-01-01 02:00:00 UTC, \
         window 1970-01-01 05:00:00 UTC: until 1970-01-01 06:00:00 UTC\n\
         + force a.example/nyc  to: freeze, until: 1970-01-01 03:00:00 UTC\n"
    );
    let there = after(&there, &plan, &me);
    let plan = Plan::of_edits(&there, vec![windows(&[(5, 7)]), to(ForceBodyTo::Release, 4)]).unwrap();
    assert_eq!(
        plan.to_string(),
        "~ drain a.example/nyc  window 1970-01-01 01:00:00 UTC: until 1970-01-01 02:00:00 UTC → none, \
         window 1970-01-01 05:00:00 UTC: until 1970-01-01 06:00:00 UTC → until 1970-01-01 07:00:00 UTC\n\
         ~ force a.example/nyc  before: none → 1970-01-01 04:00:00 UTC, to: freeze → release, \
         until: 1970-01-01 03:00:00 UTC → none\n"
    );
    let backwards = Plan::of_edits(&there, vec![windows(&[(7, 5)])]).unwrap_err().to_string();
    assert!(backwards.contains("afterwards drain a.example/nyc: window 1: until_unix_ms"), "{backwards}");
}

const POLICY: &str = r#"
version = 1
[[domain]]
name = "a.example"
strategy = "failover"
order = ["lon", "nyc"]
[[domain.rules]]
effect = "pin"
country = "CN"
mirrors = ["sha", "hkg"]
[[domain.rules]]
effect = "exclude"
prefix = "192.0.2.0/24"
mirrors = ["lon"]
[[override]]
prefix = "192.0.2.0/24"
country = "GB"
"#;

#[test]
fn policies_and_overrides_are_shown_field_by_field() {
    let me = person(1);
    let plan = of_file(POLICY, &empty(), &me, false);
    let shown = plan.to_string();
    assert!(
        shown.contains("+ domain a.example  order: [lon nyc], rules.exclude prefix=192.0.2.0/24: [lon], rules.pin country=CN: [sha hkg], strategy: failover\n"),
        "{shown}"
    );
    assert!(shown.contains("+ override 192.0.2.0/24  country: GB\n"), "{shown}");
    let there = after(&empty(), &plan, &me);
    assert!(of_file(POLICY, &there, &person(2), true).is_empty());
    let changed = POLICY
        .replace("strategy = \"failover\"\norder = [\"lon\", \"nyc\"]", "explore_percent = 5")
        .replace("\"sha\", \"hkg\"", "\"hkg\"")
        .replace("country = \"GB\"", "asn = 64496");
    assert_eq!(
        of_file(&changed, &there, &me, true).to_string(),
        "~ domain a.example  explore_percent: 1.0 → 5.0, order: [lon nyc] → none, rules.pin country=CN: [sha hkg] → [hkg], strategy: failover → balanced\n\
         ~ override 192.0.2.0/24  asn: none → 64496, country: GB → none\n"
    );
    let (rules, rest) = POLICY.split_at(POLICY.find("[[override]]").unwrap());
    let (head, rules) = rules.split_at(rules.find("[[domain.rules]]").unwrap());
    let (pin, exclude) = rules.split_at(rules.rfind("[[domain.rules]]").unwrap());
    let turned = of_file(&format!("{head}{exclude}{pin}{rest}"), &there, &me, true);
    assert_eq!(turned.to_string(), "~ domain a.example  written otherwise, and says the same\n");
}

/// From the file through signed records to what brokers make of them.
#[test]
fn what_a_file_says_is_what_brokers_build() {
    let there = after(&empty(), &of_file(POLICY, &empty(), &person(1), false), &person(1));
    let entries = there.live().map(|(k, body)| nearmost_wire::registry::Entry {
        kind: k.kind,
        scope: &k.scope,
        id: &k.id,
        body,
    });
    let built = nearmost_wire::registry::build(1, entries, &Default::default());
    assert_eq!(built.problems, []);
    let policy = &built.registry.domains[0].policy;
    assert_eq!(format!("{:?}", policy.strategy), "Failover([\"lon\", \"nyc\"])");
    assert_eq!(policy.explore, 0.01);
    let rules: Vec<String> =
        policy.rules.iter().map(|r| format!("{:?} {:?} {:?}", r.effect, r.who, r.mirrors)).collect();
    assert_eq!(rules, ["Pin Country(CN) [\"sha\", \"hkg\"]", "Exclude Prefix(192.0.2.0/24) [\"lon\"]"]);
    let [(prefix, place)] = &built.registry.overrides[..] else { panic!() };
    assert_eq!(
        (prefix.to_string(), place.country.map(|c| c.to_string())),
        ("192.0.2.0/24".into(), Some("GB".into()))
    );
    assert!(place.position.is_none() && place.asn.is_none());
}

#[test]
fn overrides_are_pruned_by_whoever_made_them() {
    let (me, other) = (person(1), person(2));
    let there = after(&empty(), &of_file(POLICY, &empty(), &me, false), &me);
    let key = EntryKey::place_override("192.0.2.0/24").unwrap();
    let body = OverrideBody { asn: Some(7), ..OverrideBody::default() };
    let set = Plan::of_edits(&there, vec![Edit::put(key.clone(), Content::Override(body))]).unwrap();
    let there = after(&there, &set, &other);
    assert_eq!(there.maker(&key).unwrap().key, me.id().key, "whoever changes it");
    let without = &POLICY[..POLICY.find("[[override]]").unwrap()];
    assert!(of_file(without, &there, &other, true).is_empty());
    let pruned = of_file(without, &there, &me, true);
    assert_eq!(pruned.to_string(), "- override 192.0.2.0/24\n");
    assert!(!after(&there, &pruned, &me).has(&key));
}

#[test]
fn a_pace_that_nothing_goes_by_is_warned_of() {
    let me = person(1);
    let warned = |health: &str, probe: &str| {
        let file = format!(
            "version = 1\n[[domain]]\nname = \"a.example\"\n[[node]]\nname = \"n\"\ndomains = [\"a.example\"]\n\
             [[mirror]]\ndomain = \"a.example\"\nname = \"lon\"\nnode = \"n\"\naddresses = [\"192.0.2.1\"]\n\
             health = {health:?}\nprobe = {{ kind = \"tcp\"{probe} }}\n"
        );
        of_file(&file, &empty(), &me, false).warnings
    };
    let told = ["interval_ms, fall", "rise"]
        .map(|k| format!("mirror a.example/lon: {k} of its probe have no effect beside health = \"agent\""));
    assert_eq!(warned("agent", ", interval_ms = 500, fall = 3, timeout_ms = 700"), told[..1]);
    assert_eq!(warned("agent", ", rise = 2"), told[1..]);
    assert!(warned("agent", ", timeout_ms = 700").is_empty());
    assert!(warned("probe", ", interval_ms = 500, rise = 2, fall = 3").is_empty());
}

#[test]
fn names_of_mirrors_that_are_not_there_are_warned_of_and_allowed() {
    let me = person(1);
    let warned = of_file(POLICY, &empty(), &me, false).warnings;
    assert_eq!(
        warned,
        [
            "domain a.example: order names mirror \"lon\", which is not there",
            "domain a.example: order names mirror \"nyc\", which is not there",
            "domain a.example: pin country=CN names mirror \"sha\", which is not there",
            "domain a.example: pin country=CN names mirror \"hkg\", which is not there",
        ]
    );
    let mirror = |n: &str| {
        format!(
            "[[mirror]]\ndomain = \"a.example\"\nname = {n:?}\nhealth = \"probe\"\naddresses = [\"192.0.2.1\"]\n"
        )
    };
    let with = format!("{POLICY}{}{}{}", mirror("lon"), mirror("nyc"), mirror("hkg"));
    let plan = of_file(&with, &empty(), &me, false);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    let there = after(&empty(), &plan, &me);
    let again = of_file(&with.replace("\"sha\", ", ""), &there, &me, false);
    assert!(again.warnings.is_empty() && !again.is_empty(), "{:?}", again.warnings);
}

#[test]
fn signed_records_continue_the_clock_count_up_and_verify() {
    let me = person(1);
    let plan = of_file(FILE, &empty(), &me, false);
    let signed = sign(&plan, &empty(), &me, Some("ada"), stamp(500)).unwrap();
    let first = signed[0].record();
    assert_eq!((first.kind, first.id.clone()), (nearmost_replica::Kind::PERSON, me.id().to_string()));
    for (i, record) in signed.iter().enumerate() {
        let said = record.record();
        assert_eq!((said.author_epoch, said.author_seq), (0, 40 + i as u64));
        assert_eq!(said.hlc, Hlc { millis: 1_000, counter: 4 + i as u16 }, "after the broker's newest");
        SignedRecord::decode_verified(record.bytes()).unwrap();
    }
    let later = sign(&plan, &empty(), &me, None, stamp(65_000)).unwrap();
    assert_eq!(later[0].record().hlc, Hlc { millis: 65_000, counter: 0 });
    assert_eq!(
        (later[0].record().author_epoch, later[1].record().author_seq),
        (65, 41),
        "seconds, and a count"
    );
    let decoded = view_of(later.iter().map(to_view).collect());
    assert_eq!(decoded.entries.len(), 4);
}

#[test]
fn numbers_are_drawn_anew_for_each_commit_and_cannot_run_out() {
    let (a, b) = (Stamp::now().unwrap(), Stamp::now().unwrap());
    assert_ne!(a.first_seq, b.first_seq);
    assert!(a.first_seq >> 63 == 0 && b.first_seq >> 63 == 0);
    assert_eq!(Stamp { now_unix_ms: u64::MAX, first_seq: 0 }.epoch(), u32::MAX);
}

#[test]
fn an_entry_too_big_for_a_record_is_named() {
    let key = EntryKey::domain("a.example").unwrap();
    let record = nearmost_wire::registry::RecordBody {
        name: "@".into(),
        kind: "TXT".into(),
        ttl_s: 1,
        value: "x".repeat(200),
    };
    let body = nearmost_wire::registry::DomainBody {
        records: (0..40)
            .map(|n| nearmost_wire::registry::RecordBody {
                value: format!("{n}{}", record.value),
                ..record.clone()
            })
            .collect(),
        ..Default::default()
    };
    let plan = Plan::of_edits(&empty(), vec![Edit::put(key, Content::Domain(body))]).unwrap();
    let refused = sign(&plan, &empty(), &person(1), None, stamp(1)).unwrap_err().to_string();
    assert!(refused.contains("domain a.example") && refused.contains("4096"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// From whatever registry, applying a file with pruning leaves what the file says of what is
    /// one's own, and a second time nothing to do.
    #[test]
    fn a_file_is_reached_from_anywhere(
        wanted in prop::collection::btree_map("[a-d]", 1u16..5, 0..4),
        before in prop::collection::btree_map("[a-d]", (1u16..5, any::<bool>()), 0..4),
    ) {
        let (me, other) = (person(1), person(2));
        let domain = Edit::put(EntryKey::domain("a.example").unwrap(), Content::Domain(Default::default()));
        let mut view = after(&empty(), &Plan::of_edits(&empty(), vec![domain]).unwrap(), &other);
        for (name, (port, mine)) in &before {
            let body = MirrorBody {
                addresses: vec![[192, 0, 2, 1].into()],
                health: nearmost_wire::registry::HealthBody::Probe,
                port: *port,
                ..MirrorBody::default()
            };
            let plan = Plan::of_edits(&view, vec![Edit::put(mirror_key(name), Content::Mirror(body))]).unwrap();
            view = after(&view, &plan, if *mine { &me } else { &other });
        }
        let mut text = "version = 1\n".to_owned();
        for (name, port) in &wanted {
            text.push_str(&format!("[[mirror]]\ndomain = \"a.example\"\nname = \"{name}\"\nport = {port}\n"));
            text.push_str("addresses = [\"192.0.2.1\"]\nhealth = \"probe\"\n");
        }
        let next = after(&view, &of_file(&text, &view, &me, true), &me);
        prop_assert!(of_file(&text, &next, &me, true).is_empty());
        for (key, mirror) in next.mirrors() {
            let foreign = before.get(&key.id).is_some_and(|(_, mine)| !mine);
            prop_assert!(wanted.get(&key.id) == Some(&mirror.port) || (foreign && !wanted.contains_key(&key.id)));
        }
        prop_assert!(wanted.keys().all(|name| next.has(&mirror_key(name))));
    }
}
