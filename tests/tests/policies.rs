//! Sharing policies and corrected places, from the registry file through the real broker and back.

use nearmost_tests::process::{Broker, directory};

const DOMAIN: &str = "play.example.com";

const REGISTRY: &str = r#"
version = 1

[[domain]]
name = "play.example.com"
strategy = "failover"
order = ["lon", "hkg"]
explore_percent = 2.5

[[domain.rules]]
effect = "pin"
country = "CN"
mirrors = ["hkg"]

[[domain.rules]]
effect = "exclude"
asn = 64496
mirrors = ["hkg", "sha"]

[[domain.rules]]
effect = "exclude"
prefix = "2001:db8::/32"
mirrors = ["lon"]

[[mirror]]
domain = "play.example.com"
name = "lon"
addresses = ["203.0.113.1"]
health = "manual"
state = "up"

[[mirror]]
domain = "play.example.com"
name = "hkg"
addresses = ["203.0.113.2"]
health = "manual"
state = "up"

[[override]]
prefix = "198.51.100.0/24"
country = "GB"

[[override]]
prefix = "9.0.0.0/8"
latitude = -33.9
longitude = 151.2
asn = 64500
"#;

const LIST: &str = "PREFIX           POSITION     COUNTRY  AS\n\
                    9.0.0.0/8        -33.9,151.2  -        64500\n\
                    198.51.100.0/24  -            GB       -\n";

#[tokio::test]
async fn policies_and_overrides_go_in_and_come_out() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let shown = broker.apply(REGISTRY, &[]).await;
    for line in [
        "+ domain play.example.com  explore_percent: 2.5, order: [lon hkg], rules.exclude asn=64496: [hkg sha], \
         rules.exclude prefix=2001:db8::/32: [lon], rules.pin country=CN: [hkg], strategy: failover\n",
        "+ override 198.51.100.0/24  country: GB\n",
        "+ override 9.0.0.0/8  asn: 64500, latitude: -33.9, longitude: 151.2\n",
    ] {
        assert!(shown.contains(line), "{shown}\nexpected: {line}");
    }
    assert_eq!(broker.ok(&["geo", "override", "list"]).await, LIST);
    let exported = broker.ok(&["export"]).await;
    assert!(broker.apply(&exported, &["--prune"]).await.contains("nothing to do"));
    assert!(broker.apply(REGISTRY, &["--prune"]).await.contains("nothing to do"));

    changes_are_undone(&broker).await;
    pruning_removes(&broker).await;
    nonsense_is_refused(&broker).await;

    // All of it is in the store.
    broker.stop().await;
    let broker = Broker::restart(dir.path()).await;
    assert_eq!(broker.ok(&["export"]).await, exported);
    broker.stop().await;
}

async fn changes_are_undone(broker: &Broker) {
    let set = broker
        .ok(&[
            "domain",
            "set",
            DOMAIN,
            "--strategy",
            "weighted",
            "--order",
            "",
            "--rule",
            "pin country=JP lon",
        ])
        .await;
    assert!(
        set.contains("strategy: failover → weighted") && set.contains("rules.pin country=JP: none → [lon]")
    );
    let history = broker.ok(&["history", DOMAIN]).await;
    assert!(history.contains("order: [lon hkg] → none"), "{history}");
    let undone = broker.ok(&["undo"]).await;
    assert!(undone.contains("strategy: weighted → failover"), "{undone}");

    broker.ok(&["geo", "override", "add", "198.51.100.0/24", "-33.9,151.2,AU"]).await;
    let history = broker.ok(&["history", "198.51.100.0/24"]).await;
    assert!(
        history.contains("~ override 198.51.100.0/24  country: GB → AU, latitude: none → -33.9"),
        "{history}"
    );
    assert!(history.contains("+ override 198.51.100.0/24  country: GB") && !history.contains("9.0.0.0/8"));
    broker.ok(&["undo"]).await;
    broker.ok(&["geo", "override", "remove", "9.0.0.0/8"]).await;
    broker.ok(&["undo"]).await;
    assert_eq!(broker.ok(&["geo", "override", "list"]).await, LIST);
}

async fn pruning_removes(broker: &Broker) {
    let (without, _) = REGISTRY.split_at(REGISTRY.find("[[override]]").expect("there"));
    let pruned = broker.apply(without, &["--prune"]).await;
    assert!(pruned.contains("- override 198.51.100.0/24\n- override 9.0.0.0/8\n"), "{pruned}");
    assert_eq!(broker.ok(&["geo", "override", "list"]).await, "no overrides\n");
    broker.ok(&["undo"]).await;
    assert_eq!(broker.ok(&["geo", "override", "list"]).await, LIST);
}

async fn nonsense_is_refused(broker: &Broker) {
    for (args, says) in [
        (&["geo", "override", "add", "198.51.100.1/24", "GB"][..], "as in 198.51.100.0/24"),
        (&["geo", "override", "add", "198.51.100.0/24", "QQ"], "\"QQ\" is no country"),
        (
            &["domain", "set", DOMAIN, "--strategy", "nearest"],
            "order stands only beside strategy = \"failover\"",
        ),
        (&["domain", "set", DOMAIN, "--rule", "pin asn=0 lon"], "rule 1 (pin asn=0): asn = 0: expected 1"),
    ] {
        let said = broker.fails(args).await;
        assert!(said.contains(says), "{args:?}: {said}");
    }
}
