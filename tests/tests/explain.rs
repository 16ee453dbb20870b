//! Why a client is sent where it is sent, told by the real broker and true of its DNS answers.

use nearmost_tests::process::{Broker, directory};
use nearmost_tests::{dns, eventually};
use nearmost_wire::api::{ExplainResponse, ExplainedMirror};
use std::net::IpAddr;
use std::path::Path;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

/// Name, address and place of each mirror.
const MIRRORS: [(&str, &str, &str); 3] = [
    ("london", "192.0.2.1", "latitude = 51.5, longitude = -0.1"),
    ("newyork", "192.0.2.2", "latitude = 40.7, longitude = -74.0"),
    ("sydney", "192.0.2.6", "latitude = -33.9, longitude = 151.2"),
];

/// Places of the configuration: two networks in Britain.
const PLACES: &str = "[geo]\nembedded = false\n\
    [[geo.overrides]]\nprefix = \"212.58.224.0/19\"\nlatitude = 51.5\nlongitude = -0.1\ncountry = \"GB\"\n\
    [[geo.overrides]]\nprefix = \"81.2.69.0/24\"\nlatitude = 51.5\nlongitude = -0.1\ncountry = \"GB\"\n";

/// Three mirrors that are up, and a rule that pins a part of one network to Sydney.
async fn world(dir: &Path) -> Broker {
    // What is reported counts a moment later.
    let broker = Broker::start_with(dir, &format!("{PLACES}[learning]\nfit_interval_ms = 200\n")).await;
    let mirrors: String = MIRRORS
        .iter()
        .map(|(name, addr, place)| {
            format!(
                "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [{addr:?}]\n\
                 health = \"manual\"\nstate = \"up\"\nplace = {{ {place} }}\n"
            )
        })
        .collect();
    let rule = "[[domain.rules]]\neffect = \"pin\"\nprefix = \"212.58.240.0/20\"\nmirrors = [\"sydney\"]\n";
    let domain = format!("[[domain]]\nname = {DOMAIN:?}\nexplore_percent = 0\n{rule}");
    broker.apply(&format!("version = 1\n{domain}{mirrors}"), &[]).await;
    for (name, ..) in MIRRORS {
        broker.until(name, "up").await;
    }
    broker
}

async fn explain(broker: &Broker, client: &str) -> ExplainResponse {
    let json = broker.ok(&["--json", "explain", DOMAIN, "--client", client]).await;
    serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"))
}

fn mirror<'e>(explained: &'e ExplainResponse, name: &str) -> &'e ExplainedMirror {
    let found = explained.mirrors.iter().find(|m| m.ranked.mirror == name);
    found.unwrap_or_else(|| panic!("{name} is not in {explained:?}"))
}

/// The mirror that is explained to be answered is the one that DNS answers, for the scope that is told.
async fn holds(broker: &Broker, explained: &ExplainResponse, name: &str) {
    let (_, addr, _) = MIRRORS.iter().find(|(n, ..)| *n == name).expect("a mirror");
    let addr: IpAddr = addr.parse().expect("an address");
    let seen = mirror(explained, name);
    assert!(seen.ranked.chosen && seen.sharing.share_v4_percent == 100.0, "{seen:?}");
    let v4 = &explained.answers[0];
    assert_eq!((&*v4.family, &*v4.basis, &v4.addresses[..]), ("v4", "eligible", &[addr][..]));
    let subnet = format!("{}/32", explained.client).parse().expect("a prefix");
    let query = dns::query(DOMAIN, hickory_proto::rr::RecordType::A, Some(subnet));
    let reply = dns::exchange(broker.at.dns[0], &query).await.expect("a reply");
    assert_eq!(dns::addresses(&reply), [addr]);
    let scope: ipnet::IpNet = v4.scope.parse().expect("a prefix");
    assert_eq!(dns::scope(&reply), Some(scope.prefix_len()), "{v4:?}");
    assert_eq!(reply.answers[0].ttl, v4.ttl_s);
}

#[tokio::test]
async fn a_pinned_network_is_explained() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let seen = explain(&broker, "212.58.241.7").await;
    assert_eq!((&*seen.place.source, seen.place.country.as_deref()), ("config_override", Some("GB")));
    let sydney = mirror(&seen, "sydney");
    assert!(sydney.sharing.pinned && seen.mirrors[0].ranked.mirror == "sydney", "{seen:?}");
    let said = sydney.ranked.reasons.join("\n");
    assert!(said.contains("pinned for this client by the rule pin prefix=212.58.240.0/20"), "{said}");
    let said = mirror(&seen, "london").ranked.reasons.join("\n");
    assert!(said.contains("not in the IPv4 answer: a rule pins others for this client"), "{said}");
    assert_eq!(seen.answers[0].scope, "212.58.240.0/20");
    holds(&broker, &seen, "sydney").await;

    // Beside the rule's prefix it is as if there were none.
    let beside = explain(&broker, "212.58.225.7").await;
    assert!(!mirror(&beside, "sydney").sharing.pinned && beside.list != seen.list);
    assert_eq!(mirror(&beside, "london").prediction.shares.distance_percent, 100.0);
    holds(&broker, &beside, "london").await;

    // For people.
    let text = broker.ok(&["explain", DOMAIN, "--client", "212.58.241.7"]).await;
    for part in [
        &format!("{DOMAIN} for 212.58.241.7, list {}\n", seen.list),
        "United Kingdom 51.50,-0.10, from config override",
        "v4      192.0.2.6",
        "100 % distance",
        "weight 100, pinned",
        "v4 eligible: up, manual (operator) for ",
    ] {
        assert!(text.contains(part), "{text}\nexpected: {part}");
    }
    let text = broker.ok(&["explain", DOMAIN, "--resolver", "212.58.241.53"]).await;
    assert!(text.contains("212.58.241.53: its users are not known"), "{text}");
    broker.fails(&["explain", DOMAIN]).await;
    broker.stop().await;
}

/// Reports round trips as a client does, in its name.
async fn report(broker: &Broker, client: &str, rtts: &[(&str, f64)]) {
    let ask = async |args: &[&str]| {
        let curl = Command::new("curl")
            .args(["-sSf", "--max-time", "10", "--unix-socket"])
            .arg(&broker.at.admin)
            .args(args)
            .output();
        let output = curl.await.expect("curl; `cargo xtask test` installs it");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let resolved = ask(&[&format!("http://localhost/v1/resolve/{DOMAIN}?client={client}")]).await;
    let rtts: Vec<serde_json::Value> =
        rtts.iter().map(|(m, ms)| serde_json::json!({ "mirror": m, "rtt_ms": ms })).collect();
    let body = serde_json::json!({ "session": resolved["session"], "rtts": rtts }).to_string();
    let to = format!("http://localhost/v1/rtt?client={client}");
    let taken = ask(&["-H", "content-type: application/json", "-d", &body, &to]).await;
    assert_eq!(taken["accepted"], rtts.len(), "{taken}");
}

#[tokio::test]
async fn a_learned_network_is_explained() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let before = explain(&broker, "81.2.69.9").await;
    holds(&broker, &before, "london").await;

    report(&broker, "81.2.69.9", &[("london", 150.0), ("newyork", 20.0)]).await;
    let learned = |e: &ExplainResponse| e.network.measured.as_deref() == Some("81.2.69.0/24");
    eventually("the network is learned", || explain(&broker, "81.2.69.77"), learned).await;
    // Cells are built after that; nothing keeps a guess before what was measured.
    let moved = |e: &ExplainResponse| e.mirrors[0].ranked.mirror == "newyork";
    let seen = eventually("it is moved", || explain(&broker, "81.2.69.77"), moved).await;
    let newyork = &mirror(&seen, "newyork").prediction;
    assert_eq!(newyork.own_sources, ["client"]);
    // It is where light allows it to be: at New York.
    assert!(newyork.own_ms.is_some_and(|ms| (19.0..21.0).contains(&ms)), "{newyork:?}");
    assert!(newyork.shares.network_percent > 90.0 && seen.network.misplaced, "{seen:?}");
    let london = mirror(&seen, "london");
    assert!(london.prediction.own_ms.is_some_and(|ms| (149.0..151.0).contains(&ms)), "{london:?}");
    assert!(mirror(&seen, "sydney").prediction.own_ms.is_none());
    let said = mirror(&seen, "newyork").ranked.reasons.join("\n");
    assert!(said.contains(" % from what 81.2.69.0/24 measured itself (20.0 ms)"), "{said}");
    assert_eq!(seen.answers[0].scope, "81.2.69.0/24", "its neighbours measured nothing");
    assert_ne!(seen.list, before.list);
    holds(&broker, &seen, "newyork").await;

    // Its word counts for nobody else.
    let other = explain(&broker, "212.58.225.7").await;
    assert_eq!(other.network.measured, None);
    holds(&broker, &other, "london").await;
    broker.stop().await;
}

#[tokio::test]
async fn an_overridden_network_is_explained() {
    let dir = directory();
    let broker = world(dir.path()).await;
    holds(&broker, &explain(&broker, "81.2.69.9").await, "london").await;

    broker.ok(&["geo", "override", "add", "81.2.69.0/25", "-33.9,151.2,AU"]).await;
    let corrected = |e: &ExplainResponse| e.place.source == "registry_override";
    let seen = eventually("the place is corrected", || explain(&broker, "81.2.69.9"), corrected).await;
    assert_eq!((seen.place.country.as_deref(), seen.place.latitude), (Some("AU"), Some(-33.9)));
    assert_eq!(seen.network.overridden.as_deref(), Some("81.2.69.0/25"));
    assert_eq!(seen.network.range, "81.2.69.0/25");
    assert_eq!(mirror(&seen, "sydney").prediction.shares.distance_percent, 100.0);
    let nearest = |e: &ExplainResponse| e.mirrors[0].ranked.mirror == "sydney";
    let seen = eventually("Sydney is nearest", || explain(&broker, "81.2.69.9"), nearest).await;
    holds(&broker, &seen, "sydney").await;
    let beside = explain(&broker, "81.2.69.200").await;
    assert_eq!((&*beside.place.source, beside.network.overridden.as_deref()), ("config_override", None));
    holds(&broker, &beside, "london").await;
    let text = broker.ok(&["explain", DOMAIN, "--client", "81.2.69.9"]).await;
    assert!(text.contains("Australia -33.90,151.20, from registry override of 81.2.69.0/25"), "{text}");

    broker.ok(&["geo", "override", "remove", "81.2.69.0/25"]).await;
    let back = |e: &ExplainResponse| e.place.source == "config_override";
    eventually("the correction is taken back", || explain(&broker, "81.2.69.9"), back).await;
    broker.stop().await;
}
