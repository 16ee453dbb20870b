//! What is said of mirrors whose hosts and links fail, and of a broker that is cut off itself.

use nearmost_tests::netns::{BROKER, Cut, Lab, Node, Signal, signal};
use nearmost_wire::api::VerdictView;
use std::net::SocketAddr;
use std::time::Duration;

const PAGE: &str = env!("CARGO_BIN_EXE_serve-page");
/// A host with a service and no agent, whose answers tell that the broker's own line works.
const REFERENCE: u8 = 50;
/// From a host's death until its mirror is down.
const DEAD: Duration = Duration::from_millis(1_500);

/// A host dies: everything that shows verdicts says so, and why, and by whom.
#[tokio::test]
async fn a_dead_host_is_down_by_the_word_of_broker_and_witnesses_everywhere_the_same() {
    let mut lab = Lab::start(PAGE, 4, "").await;
    let address = lab.node(1).address();
    assert_eq!(lab.dns(1).await, [address]);
    let from = lab.journal.now();
    cut_off(&lab, 1).await;
    down_in_time(&lab, "m1", from, "host dead").await;
    assert!(!lab.dns(1).await.contains(&address), "DNS still answers it");

    let verdict = lab.verdict("m1").await;
    let shown = (verdict.state.as_str(), verdict.reason.as_str(), verdict.vantage.as_str());
    assert_eq!(shown, ("down", "silent_and_unreachable", "broker+witnesses"));
    assert!(verdict.age_ms < 20_000, "{verdict:?}");
    let evidence = verdict.evidence.as_ref().expect("the fleet tells evidence");
    assert!(evidence.witnesses.iter().filter(|w| w.said == "failed").count() >= 2, "{evidence:?}");

    let status = lab.broker.ok(&["status"]).await;
    println!("{status}");
    let told: Vec<&str> = status.lines().skip_while(|l| !l.contains("/m1")).take(4).collect();
    let told = told.join(" ");
    for word in ["down", "broker+witnesses", "witnesses", "s ago"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let all = lab.broker.ok(&["status", "--all"]).await;
    let line = all.lines().find(|l| l.contains("/m1")).expect("a line of m1");
    assert!(line.contains("silent_and_unreachable") && line.contains("broker+witnesses"), "{line}");

    let label = format!(
        "nearmost_mirror_verdict_since_seconds{{domain=\"{}\",family=\"v4\",mirror=\"m1\",\
         reason=\"silent_and_unreachable\",state=\"down\",vantage=\"broker+witnesses\"}}",
        nearmost_tests::netns::DOMAIN
    );
    assert!(lab.broker.metric(&label).await > 1e9, "{label}");
    let taken = lab.journal.since(from).into_iter().find(|s| s.event.to == "down").expect("it was heard");
    let moved = format!("nearmost_transitions_total{{from=\"{}\",to=\"down\"}}", taken.event.from);
    assert!(lab.broker.metric(&moved).await >= 1.0, "{moved}");

    let back = lab.journal.now();
    heal(&lab, 1).await;
    let (_, took) = lab.journal.until(back, "m1", "up").await;
    println!("host back: up after {took:?}");
    assert_eq!(lab.dns(1).await, [address]);
}

/// The link goes down, of which routers tell; and agent and service die with the host still there.
#[tokio::test]
async fn other_ways_for_a_host_to_die() {
    let mut lab = Lab::start(PAGE, 4, "").await;
    let from = lab.journal.now();
    lab.network.unplug(2).await;
    down_in_time(&lab, "m2", from, "unplugged").await;
    let back = lab.journal.now();
    lab.network.plug(2).await;
    let (_, took) = lab.journal.until(back, "m2", "up").await;
    println!("plugged in: up after {took:?}");

    let from = lab.journal.now();
    let node = lab.node(3);
    signal(&node.agent, Signal::Kill);
    signal(&node.service, Signal::Kill);
    let (event, took) = lab.journal.until(from, "m3", "down").await;
    println!("agent and service killed: down, {} ({}), after {took:?}", event.reason, event.vantage);
    assert!(took <= DEAD, "it took {took:?}:\n{}", lab.journal.told(from));
    lab.restart_service(3).await;
    lab.restart_agent(3).await;
    lab.broker.until("m3", "up").await;
}

/// Nothing comes back from the host, whatever is sent to it.
#[tokio::test]
async fn a_host_that_can_only_hear_is_dead() {
    let lab = Lab::start(PAGE, 4, "").await;
    let from = lab.journal.now();
    lab.network.cut(Cut::From(1)).await;
    down_in_time(&lab, "m1", from, "mute").await;
    let back = lab.journal.now();
    lab.network.heal(Cut::From(1)).await;
    let (_, took) = lab.journal.until(back, "m1", "up").await;
    println!("heard again: up after {took:?}");
}

/// The broker does not reach a mirror, everybody else does. Its beacons still arrive: a regular probe finds
/// out, before the agent's session times out.
#[tokio::test]
async fn a_mirror_that_only_the_broker_does_not_reach_stays_in_service() {
    let lab = Lab::start(PAGE, 4, "[health]\nreprobe_interval_ms = 5000").await;
    let from = lab.journal.now();
    lab.network.cut(Cut::Between(BROKER, 1)).await;
    let verdict = lab.until("m1", "seen by witnesses", by_witnesses).await;
    let took = lab.journal.now() - from;
    println!("one way: {}, {} ({}), after {took:?}", verdict.state, verdict.reason, verdict.vantage);
    lab.journal.nobody_down_for(Duration::from_secs(2), |_| true).await;
    let verdict = lab.verdict("m1").await;
    assert!(verdict.eligible && by_witnesses(&verdict), "{verdict:?}");
    lab.network.heal(Cut::Between(BROKER, 1)).await;
    lab.until("m1", "proven", |v| v.state == "up" && v.reason == "proven").await;
    lab.journal.never(from, "m1", "down");
}

/// And its agent dies just then: witnesses, who probe no address again within two seconds, decline, and
/// what they said a moment ago still holds.
#[tokio::test]
async fn a_mirror_is_kept_by_what_witnesses_said_a_moment_ago() {
    let mut lab = Lab::start(PAGE, 4, "[health]\nreprobe_interval_ms = 5000").await;
    lab.network.cut(Cut::Between(BROKER, 1)).await;
    lab.until("m1", "seen by witnesses", by_witnesses).await;
    let from = lab.journal.now();
    signal(&lab.node(1).agent, Signal::Kill);
    lab.journal.nobody_down_for(Duration::from_secs(6), |_| true).await;
    println!("one way, and the agent killed:\n{}", lab.journal.told(from));
    lab.until("m1", "seen by witnesses", by_witnesses).await;
}

fn by_witnesses(verdict: &VerdictView) -> bool {
    let kept = verdict.eligible && ["up", "unattended"].contains(&verdict.state.as_str());
    kept && verdict.vantage == "witnesses"
}

/// The broker's own line fails.
#[tokio::test]
async fn a_broker_that_is_cut_off_evicts_nobody_and_goes_on_answering() {
    let lab = Lab::start(PAGE, 4, "").await;
    let from = lab.journal.now();
    lab.network.unplug(BROKER).await;
    lab.journal.nobody_down_for(Duration::from_secs(10), |_| true).await;
    println!("broker cut off:\n{}", lab.journal.told(from));
    for node in &lab.nodes {
        let verdict = lab.verdict(&node.name).await;
        assert!(verdict.eligible, "{}: {verdict:?}", node.name);
        assert_eq!(verdict.reason, "self_doubt", "{}: {verdict:?}", node.name);
        assert_eq!(lab.dns(node.host).await, [node.address()]);
    }
    assert!(lab.broker.fleet().await.doubts_itself);
    let back = lab.journal.now();
    lab.network.plug(BROKER).await;
    lab.all_up().await;
    println!("broker back: all up after {:?}", lab.journal.now() - back);
    assert!(!lab.broker.fleet().await.doubts_itself);
    lab.journal.nobody_down_for(Duration::from_secs(2), |_| true).await;
}

/// All of a small fleet dies: whether the broker believes it hangs on a reference.
#[tokio::test]
async fn a_reference_that_answers_lets_a_whole_fleet_be_dead() {
    let caution = format!("[caution]\npanic_below_percent = 0\nreferences = [\"{}\"]", reference());
    let mut lab = Lab::start(PAGE, 3, &caution).await;
    lab.add_service(REFERENCE).await;
    two_of_three_die(&lab).await;

    // Now everything is silent, the reference too.
    let from = lab.journal.now();
    lab.network.unplug(REFERENCE).await;
    cut_off(&lab, 3).await;
    let doubt = lab.until("m3", "in doubt", |v| v.reason == "self_doubt").await;
    println!("nothing answers: m3 {}, {}, after {:?}", doubt.state, doubt.reason, lab.journal.now() - from);
    lab.journal.nobody_down_for(Duration::from_secs(3), |_| true).await;
    let back = lab.journal.now();
    lab.network.plug(REFERENCE).await;
    let (event, took) = lab.journal.until(back, "m3", "down").await;
    println!("the reference answers: m3 down, {} ({}), after {took:?}", event.reason, event.vantage);
    assert_eq!(event.reason, "silent_and_unreachable");
    for host in 1..=3 {
        heal(&lab, host).await;
    }
    lab.all_up().await;
}

/// The same two deaths as panic would have it, were it not for the third mirror's agent, which sees them too.
#[tokio::test]
async fn one_witness_that_agrees_is_enough_where_there_are_no_more() {
    let lab = Lab::start(PAGE, 3, "").await;
    two_of_three_die(&lab).await;
}

/// The first two mirrors of three die, and users go to the third.
async fn two_of_three_die(lab: &Lab) {
    let from = lab.journal.now();
    tokio::join!(cut_off(lab, 1), cut_off(lab, 2));
    for mirror in ["m1", "m2"] {
        let (event, took) = lab.journal.until(from, mirror, "down").await;
        println!("two of three dead: {mirror} down, {} ({}), after {took:?}", event.reason, event.vantage);
    }
    let third = lab.nodes[2].address();
    for host in 1..=3 {
        assert_eq!(lab.dns(host).await, [third], "users near host {host}:\n{}", lab.journal.told(from));
    }
    lab.journal.never(from, "m3", "down");
}

fn reference() -> SocketAddr {
    Node::service_address(REFERENCE)
}

/// As if the host had lost its power.
async fn cut_off(lab: &Lab, host: u8) {
    lab.network.cut(Cut::To(host)).await;
    lab.network.cut(Cut::From(host)).await;
}

async fn heal(lab: &Lab, host: u8) {
    lab.network.heal(Cut::To(host)).await;
    lab.network.heal(Cut::From(host)).await;
}

/// A mirror whose host died at `from` is down in time, and for the right reason.
async fn down_in_time(lab: &Lab, mirror: &str, from: Duration, what: &str) {
    let (event, took) = lab.journal.until(from, mirror, "down").await;
    println!("{what}: down, {} ({}), after {took:?}", event.reason, event.vantage);
    let told = lab.journal.told(from);
    assert_eq!(event.reason, "silent_and_unreachable", "{told}");
    assert_eq!(event.vantage, "broker+witnesses", "{told}");
    assert!(took <= DEAD, "it took {took:?}:\n{told}");
}
