//! Leaving: the tripwire, drains, services that end.

#[path = "../fake/mod.rs"]
mod fake;

use crate::world::{Client, LONG, World, config, refusal, report, service, soon, tcp};
use fake::{FakeBroker, Manner};
use nearmost_agent::clock::Clock;
use nearmost_agent::link::ReportBody;
use nearmost_agent::{Agent, Shutdown};
use nearmost_config::{IngressConfig, LocalService, ProcessSource, Service};
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{RefuseReason, Refused, Role, ToClient};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;

/// Until the other side closes.
async fn closed(tripwire: &mut TcpStream) {
    assert_eq!(soon(tripwire.read(&mut [0; 1])).await.expect("an end"), 0);
}

/// A tripwire connection that is held.
async fn held(addr: SocketAddr) -> TcpStream {
    let pull = async {
        loop {
            let mut tripwire = TcpStream::connect(addr).await.expect("a connection");
            let early = tokio::time::timeout(Duration::from_millis(50), tripwire.read(&mut [0; 1])).await;
            if early.is_err() {
                return tripwire;
            }
        }
    };
    soon(pull).await
}

async fn echo() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    (addr, task)
}

#[tokio::test]
async fn the_tripwire_holds_while_all_is_well() {
    let (addr, _echo) = echo().await;
    let world = World::start(tcp(addr), 0);
    // Nothing was reported yet.
    closed(&mut TcpStream::connect(world.addr).await.expect("a connection")).await;
    world.ingress.told(&report(true, false));
    let mut all = vec![held(world.addr).await, held(world.addr).await, held(world.addr).await];
    world.until("tripwires", 3).await;
    world.ingress.told(&report(true, false));
    drop(all.pop());
    world.until("tripwires", 2).await;
    // Whoever talks has another use for it.
    let mut talks = held(world.addr).await;
    talks.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    assert!(!matches!(soon(talks.read(&mut [0; 1])).await, Ok(1..)));
    world.until("tripwires", 2).await;
    world.ingress.told(&report(false, false));
    for tripwire in &mut all {
        closed(tripwire).await;
    }
    closed(&mut TcpStream::connect(world.addr).await.expect("a connection")).await;
    world.ingress.told(&report(true, false));
    let mut again = held(world.addr).await;
    // Words tell of a drain; what is under way goes on.
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    world.ingress.drain(LONG);
    assert!(matches!(client.word().await, ToClient::Drain { .. }));
    let draining = ReportBody { draining: true, ..report(true, false) };
    world.ingress.told(&draining);
    let waited = tokio::time::timeout(Duration::from_millis(300), again.read(&mut [0; 1])).await;
    assert!(waited.is_err(), "the drain closed it: {waited:?}");
    world.ingress.finish().await;
    closed(&mut again).await;
}

#[tokio::test]
async fn a_tripwire_without_room_says_that_it_is_none() {
    let (addr, _echo) = echo().await;
    let world = World::with(&IngressConfig { max_tripwires: 1, ..config() }, tcp(addr), 0);
    world.ingress.told(&report(true, false));
    let _held = held(world.addr).await;
    let mut more = TcpStream::connect(world.addr).await.expect("a connection");
    assert_eq!(soon(more.read(&mut [0; 2])).await.expect("a byte"), 1);
    closed(&mut more).await;
}

#[tokio::test]
async fn a_drain_waits_for_what_is_under_way_until_its_limit() {
    let (addr, _echo) = echo().await;
    let world = World::start(tcp(addr), 0);
    let mut stays = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let mut goes = Client::attached(world.addr, 2, 2, Role::Primary).await;
    let (mut send, mut recv) = stays.opened().await;
    let clock = Clock::start();
    let within = Duration::from_millis(400);
    world.ingress.drain(within);
    let told = ToClient::Drain { go_to: None, within_ms: 400 };
    assert_eq!((stays.word().await, goes.word().await), (told.clone(), told));
    goes.connection.close(0u8.into(), b"");
    let mut late = Client::connect(world.addr, 3).await;
    match late.attach(3, Role::Primary).await {
        ToClient::Refused(Refused { reason: RefuseReason::Draining, .. }) => {}
        other => panic!("{other:?}"),
    }
    let mut got = [0; 2];
    send.write_all(b"hi").await.expect("sent");
    soon(recv.read_exact(&mut got)).await.expect("it is served on");
    assert!(clock.now().since(Default::default()) < within, "too slow a machine for this test");
    assert_eq!(refusal(&stays.connection).await, Refusal::DrainDeadline);
    assert!(clock.now().since(Default::default()) >= within, "it was closed before its time");
    world.until("sessions{role=\"primary\"}", 0).await;
}

#[tokio::test]
async fn sessions_leave_a_service_that_ended_and_others_come_when_it_is_back() {
    let (addr, _echo) = echo().await;
    let world = World::start(tcp(addr), 0);
    world.ingress.told(&report(true, false));
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    // Checks alone end no session.
    world.ingress.told(&report(false, false));
    client.opened().await;
    world.ingress.told(&report(false, true));
    assert_eq!(client.word().await, ToClient::Drain { go_to: None, within_ms: 2000 });
    let mut next = Client::connect(world.addr, 2).await;
    match next.attach(2, Role::Primary).await {
        ToClient::Refused(Refused { reason: RefuseReason::Draining, .. }) => {}
        other => panic!("{other:?}"),
    }
    world.ingress.told(&report(true, false));
    let back = async { while !matches!(next.attach(2, Role::Primary).await, ToClient::Accepted(_)) {} };
    soon(back).await;
}

#[tokio::test]
async fn a_changed_service_begins_anew_and_an_unchanged_one_goes_on() {
    let (addr, _echo) = echo().await;
    let mut world = World::start(tcp(addr), 0);
    let mut client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    world.ingress.set(&[service(tcp(addr), 0)], LONG);
    client.opened().await;
    // Another capacity drives nobody out, and counts for those who come.
    world.ingress.set(&[service(tcp(addr), 1)], LONG);
    let mut more = Client::connect(world.addr, 3).await;
    let full = async { while matches!(more.attach(3, Role::Primary).await, ToClient::Accepted(_)) {} };
    soon(full).await;
    client.opened().await;
    let (other, _echo) = echo().await;
    world.ingress.set(&[service(tcp(other), 1)], LONG);
    assert!(matches!(client.word().await, ToClient::Drain { .. }));
    client.opened().await;
    Client::attached(world.addr, 2, 2, Role::Primary).await;
    world.ingress.set(&[], Duration::ZERO);
    let mut late = Client::connect(world.addr, 3).await;
    late.attach_to(crate::world::DOMAIN, 3, Role::Primary).await;
    assert_eq!(refusal(&late.connection).await, Refusal::UnknownDomain);
}

#[tokio::test]
async fn who_is_still_there_learns_that_the_agent_stops() {
    let (addr, _echo) = echo().await;
    let world = World::start(tcp(addr), 0);
    world.ingress.told(&report(true, false));
    let client = Client::attached(world.addr, 1, 1, Role::Primary).await;
    let mut tripwire = held(world.addr).await;
    soon(world.ingress.finish()).await;
    assert_eq!(refusal(&client.connection).await, Refusal::Leaving);
    closed(&mut tripwire).await;
    assert!(TcpStream::connect(world.addr).await.is_err());
}

struct Run {
    addr: SocketAddr,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
    _reload: mpsc::Sender<nearmost_config::AgentConfig>,
    _broker: FakeBroker,
}

/// An agent with an ingress.
async fn agent(service: Service, grace: Duration) -> Run {
    let broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = fake::config(vec![broker.config()], vec![service]);
    config.drain_grace = grace;
    config.node.ingress = crate::world::config();
    let agent = Agent::bind(config, fake::node_key()).await.expect("an agent");
    let addr = agent.ingress_addrs()[0];
    let (reload, reloads) = mpsc::channel(1);
    let shutdown = Shutdown::default();
    let task = tokio::spawn(agent.run(shutdown.clone(), reloads));
    Run { addr, shutdown, task, _reload: reload, _broker: broker }
}

#[tokio::test]
async fn the_tripwire_closes_within_50_ms_of_the_services_end() {
    let (addr, _echo) = echo().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("x.pid");
    let mut child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().expect("sleep");
    std::fs::write(&file, child.id().expect("its number").to_string()).expect("written");
    let local = LocalService { process: Some(ProcessSource::PidFile(file)), ingress: tcp(addr) };
    let run = agent(Service { local, ..service(tcp(addr), 0) }, LONG).await;
    let mut tripwire = held(run.addr).await;
    let mut client = Client::attached(run.addr, 1, 1, Role::Primary).await;
    let clock = Clock::start();
    child.start_kill().expect("killed");
    closed(&mut tripwire).await;
    let took = clock.now().since(Default::default());
    assert!(took < Duration::from_millis(50), "it took {took:?}");
    assert!(matches!(client.word().await, ToClient::Drain { .. }));
    child.wait().await.expect("reaped");
}

#[tokio::test]
async fn an_agent_that_drains_tells_its_clients_and_ends() {
    let (addr, _echo) = echo().await;
    let run = agent(service(tcp(addr), 0), Duration::from_millis(300)).await;
    let mut tripwire = held(run.addr).await;
    let mut client = Client::attached(run.addr, 1, 1, Role::Primary).await;
    run.shutdown.drain.cancel();
    assert_eq!(client.word().await, ToClient::Drain { go_to: None, within_ms: 300 });
    closed(&mut tripwire).await;
    let end = refusal(&client.connection).await;
    assert!(matches!(end, Refusal::DrainDeadline | Refusal::Leaving), "{end:?}");
    soon(run.task).await.expect("no panic");
}
