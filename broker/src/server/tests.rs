use super::*;

fn config(dir: &std::path::Path) -> BrokerConfig {
    let local: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
    let mut config = BrokerConfig { data_dir: dir.to_path_buf(), ..BrokerConfig::default() };
    config.admin.socket = dir.join("admin.sock");
    config.dns.listen = local.clone();
    config.dns.udp.workers = 1;
    config.http.listen = local.clone();
    config.http.redirect_listen = Vec::new();
    config.agents.listen = local.clone();
    config.agents.beacon_listen = local.clone();
    config.clients.listen = local.clone();
    config.peers.listen = local;
    config.geo.embedded = false;
    config
}

async fn bound(dir: &std::path::Path) -> Broker {
    Broker::bind(config(dir)).await.expect("binds")
}

fn ended(result: Result<(), BrokerError>) -> &'static str {
    match result {
        Err(BrokerError::TaskEnded { task }) => task,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_loses_a_task_stops_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = bound(dir.path()).await;
    broker.tasks.verdicts = Box::pin(async { panic!("for the test") });
    let cancel = CancellationToken::new();
    assert_eq!(ended(broker.run(cancel.clone()).await), "verdicts");
    assert!(cancel.is_cancelled());
    // Another may use the directory now.
    let mut broker = bound(dir.path()).await;
    broker.tasks.driver.1.close();
    // Without the driver's inbox the verdicts' task has nobody to tell and may be seen to end first.
    let task = ended(broker.run(CancellationToken::new()).await);
    assert!(["driver", "verdicts"].contains(&task), "{task}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_told_to_stop_does_so_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let broker = bound(dir.path()).await;
    let cancel = CancellationToken::new();
    let running = tokio::spawn(broker.run(cancel.clone()));
    cancel.cancel();
    running.await.unwrap().expect("stops in order");
}

#[tokio::test]
async fn a_table_published_between_bind_and_run_reaches_the_driver() {
    let (tables, places) = watch::channel(Arc::new(PlaceTable::default()));
    let newer = Arc::new(PlaceTable::default());
    tables.send_replace(newer.clone());
    let (driver, mut inputs) = driver::channel();
    let cancel = CancellationToken::new();
    tokio::spawn(follow_places(places, driver, cancel.clone()));
    match inputs.recv().await {
        Some(DriverInput::Places(table)) => assert!(Arc::ptr_eq(&table, &newer)),
        other => panic!("{other:?}"),
    }
    cancel.cancel();
}
