//! Who uses which mirror, from where, as brokers tell it: what users did is what is told.

use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_tests::{dns, eventually};
use nearmost_wire::api::TrafficResponse;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

const CONFIG: &str = "[geo]\nembedded = false\n\
    [[geo.overrides]]\nprefix = \"212.58.224.0/19\"\nlatitude = 51.5\nlongitude = -0.1\ncountry = \"GB\"\n\
    [[geo.overrides]]\nprefix = \"1.128.0.0/11\"\nlatitude = -33.9\nlongitude = 151.2\ncountry = \"AU\"\n\
    [[geo.overrides]]\nprefix = \"203.0.113.7/32\"\nlatitude = 48.9\nlongitude = 2.4\ncountry = \"FR\"\n";

const REGISTRY: &str = "version = 1\n[[domain]]\nname = \"play.example.com\"\nexplore_percent = 0\n\
    [[mirror]]\ndomain = \"play.example.com\"\nname = \"london\"\naddresses = [\"192.0.2.1\"]\n\
    health = \"manual\"\nstate = \"up\"\nplace = { latitude = 51.5, longitude = -0.1 }\n\
    [[mirror]]\ndomain = \"play.example.com\"\nname = \"sydney\"\naddresses = [\"192.0.2.6\"]\n\
    health = \"manual\"\nstate = \"up\"\nplace = { latitude = -33.9, longitude = 151.2 }\n";

/// Mirror, country and users of each flow.
fn flows(traffic: &TrafficResponse) -> Vec<(String, Option<String>, f64)> {
    traffic.flows.iter().map(|f| (f.mirror.clone(), f.country.clone(), f.users)).collect()
}

#[tokio::test]
async fn answers_are_users_of_the_mirror_that_they_name() {
    let dir = directory();
    let broker = Broker::start_with(dir.path(), CONFIG).await;
    broker.apply(REGISTRY, &[]).await;
    broker.until("london", "up").await;
    broker.until("sydney", "up").await;
    assert!(broker.traffic().await.flows.is_empty());

    for _ in 0..3 {
        dns::ask(broker.at.dns[0], DOMAIN, "212.58.224.0/24").await;
    }
    dns::ask(broker.at.dns[0], DOMAIN, "1.128.3.0/24").await;
    // A redirect is an answer, too; this machine is nowhere.
    let url = format!("{}/go/{DOMAIN}/", broker.url());
    let curl = Command::new("curl").args(["-s", "--max-time", "10", &url]).output().await.expect("curl");
    assert!(curl.status.success());

    let told = |t: &TrafficResponse| t.flows.iter().map(|f| f.users).sum::<f64>() == 5.0;
    let traffic = eventually("five users are told of", || broker.traffic(), told).await;
    let flows = flows(&traffic);
    let of = |country: Option<&str>| {
        let mut found = flows.iter().filter(|(_, c, _)| c.as_deref() == country);
        found.next().map(|(mirror, _, users)| (mirror.as_str(), *users))
    };
    assert_eq!(of(Some("GB")), Some(("london", 3.0)), "{flows:?}");
    assert_eq!(of(Some("AU")), Some(("sydney", 1.0)), "{flows:?}");
    assert_eq!(of(None).map(|(_, users)| users), Some(1.0), "{flows:?}");
    let britain = traffic.flows.iter().find(|f| f.country.as_deref() == Some("GB")).expect("a flow");
    assert!(britain.latitude.is_some_and(|lat| (50.0..56.0).contains(&lat)), "{britain:?}");
    let london = traffic.mirrors.iter().find(|m| m.mirror == "london").expect("London has users");
    assert!(london.rtt_p50_ms.is_some_and(|ms| ms < 40.0), "{london:?}");
    let [me] = &traffic.brokers[..] else { panic!("{:?}", traffic.brokers) };
    assert!(me.me && me.id.starts_with("nb1") && me.latitude.is_none(), "{me:?}");

    // The metrics say the same.
    let users = "nearmost_users{country=\"GB\",domain=\"play.example.com\",mirror=\"london\"}";
    assert_eq!(broker.metric(users).await, 3.0);
    let rtt = "nearmost_user_rtt_seconds{basis=\"predicted\",domain=\"play.example.com\",mirror=\"london\",region=\"EU\",share=\"0.5\"}";
    let seconds = broker.metric(rtt).await;
    assert!(seconds > 0.0 && seconds < 0.04, "{seconds}");
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_is_drawn_where_it_says_that_it_is_reached() {
    let dir = directory();
    let named = "[peers]\nname = \"paris\"\nadvertise = [\"203.0.113.7:7843\"]\n";
    let config = broker_config(dir.path(), CONFIG).replace("[peers]\n", named);
    std::fs::write(dir.path().join("broker.toml"), config).expect("write broker.toml");
    let broker = Broker::restart(dir.path()).await;
    let traffic = broker.traffic().await;
    let [me] = &traffic.brokers[..] else { panic!("{:?}", traffic.brokers) };
    assert_eq!((&*me.name, me.latitude, me.longitude), ("paris", Some(48.9), Some(2.4)));
    broker.stop().await;
}
