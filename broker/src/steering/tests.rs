use super::*;
use crate::api::testing::{DOMAIN, Fixture};
use crate::driver;
use crate::publish::Publisher;
use nearmost_core::health::State;
use nearmost_core::live::Load;
use prometheus::{IntCounter, Registry};

fn task() -> (Task, DemandHandle) {
    let (handle, demand) = channel(IntCounter::new("d", "d").unwrap());
    let metrics = SteeringMetrics::register(&Registry::new()).unwrap();
    let config = SpreadConfig::default();
    let spread = Spread::new(config.clone());
    let traffic = TrafficHandle::new(Clock::start());
    (Task { spread, counted: HashMap::new(), demand, traffic, planned_for: None, config, metrics }, handle)
}

fn at(seconds: u64) -> MonoTime {
    MonoTime::default() + Duration::from_secs(seconds)
}

/// London is as loaded as this, of a hundred.
fn loaded(connections: u32) -> Snapshot {
    let mut fixture = Fixture::five_mirrors();
    fixture.set_state("syd", State::Up);
    let mut snapshot = Snapshot::clone(&fixture.snapshot());
    let mut live = nearmost_core::live::Live::clone(&snapshot.live);
    live.mirrors[0].load = Load { connections, capacity: 100, ..Load::default() };
    live.tally(&snapshot.registry);
    snapshot.live = Arc::new(live);
    snapshot
}

#[tokio::test]
async fn a_mirror_above_its_mark_is_offered_less_and_the_driver_is_told() {
    let mut publisher = Publisher::default();
    let (driver, mut inputs) = driver::channel();
    let (_handle, demand) = channel(IntCounter::new("d", "d").unwrap());
    let parts = SteeringParts {
        snapshot: publisher.reader(),
        news: publisher.news(),
        demand,
        traffic: TrafficHandle::new(Clock::start()),
        driver,
        clock: Clock::start(),
        config: SpreadConfig::default(),
        metrics: SteeringMetrics::register(&Registry::new()).unwrap(),
    };
    let running = tokio::spawn(run(parts));
    let snapshot = loaded(97);
    let version = snapshot.registry.version;
    publisher.publish(snapshot);
    let offers = loop {
        match inputs.recv().await.unwrap() {
            DriverInput::Offers { registry, offers } if registry == version => break offers,
            _ => {}
        }
    };
    assert_eq!(offers.len(), 5);
    assert!(offers[0].shed > 0, "{offers:?}");
    assert!(offers[1..].iter().all(|o| o.shed == 0), "{offers:?}");
    running.abort();
}

#[test]
fn plans_are_due_when_a_mirror_comes_or_goes_and_when_time_has_passed() {
    let (mut task, _) = task();
    assert!(task.is_due(&loaded(10), at(0)));
    assert!(!task.is_due(&loaded(50), at(1)), "loads are looked at from time to time");
    let mut fixture = Fixture::five_mirrors();
    fixture.set_state("lon", State::Down);
    assert!(task.is_due(&fixture.snapshot(), at(1)));
}

#[tokio::test]
async fn queries_tell_of_users_only_where_no_agent_does() {
    let (mut task, handle) = task();
    let tell = |addr: [u8; 4], seen| {
        let demand = Demand::asked((DOMAIN.into(), None), addr.into(), 100);
        handle.tell(Demand { seen, ..demand });
    };
    let snapshot = Arc::new(loaded(50));
    // Demand is taken for domains that are planned.
    task.plan(snapshot.clone(), at(0)).await;
    let samples = async |task: &mut Task, now| {
        task.take_demand(&snapshot, at(now));
        let mut spread = std::mem::replace(&mut task.spread, Spread::new(SpreadConfig::default()));
        let plan = spread.plan(&snapshot.registry, &snapshot.map, &snapshot.live, at(now + 40));
        task.spread = spread;
        plan.domains[0].samples
    };
    tell([198, 51, 100, 1], Seen::Query);
    assert_eq!(samples(&mut task, 1).await, 1);
    tell([203, 0, 113, 1], Seen::Connections);
    tell([192, 0, 2, 1], Seen::Query);
    assert_eq!(samples(&mut task, 50).await, 2);
    tell([192, 0, 2, 1], Seen::Query);
    assert_eq!(samples(&mut task, 400).await, 3);
}
