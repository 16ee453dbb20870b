//! UDP: each address is a flow.

use super::Running;
use crate::world::{builder, event, mirrors, settled, soon};
use nearmost_client::session::{Duplicate, Event, Mode, Session};
use nearmost_client::sidecar::udp::{Settings, serve};
use nearmost_client::sidecar::{Count, Notice};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::UdpSocket;

const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

async fn sidecar(session: &Session, settings: Settings) -> Running {
    let socket = UdpSocket::bind(HERE).await.unwrap();
    let (address, session) = (socket.local_addr().unwrap(), session.clone());
    Running::run(address, move |counters, notices, stop| {
        serve(socket, session, settings, counters, notices, stop)
    })
}

async fn program(sidecar: &Running) -> UdpSocket {
    let socket = UdpSocket::bind(HERE).await.unwrap();
    socket.connect(sidecar.address).await.unwrap();
    socket
}

/// Says something, again while nothing comes, and hears it back.
async fn echoed(program: &UdpSocket, says: &[u8]) {
    let mut heard = [0; 2000];
    let mut again = tokio::time::interval(Duration::from_millis(200));
    let asked = async {
        loop {
            tokio::select! {
                _ = again.tick() => drop(program.send(says).await),
                n = program.recv(&mut heard) => match n {
                    Ok(n) if heard[..n] == *says => return,
                    Ok(n) => assert!(heard[..n].starts_with(&says[..6]), "of another: {:?}", &heard[..n]),
                    Err(_) => {}
                },
            }
        }
    };
    soon(asked).await;
}

#[tokio::test]
async fn flows_do_not_mix_and_outlive_a_mirror() {
    let mut mirrors = mirrors(1..4);
    let mode = Mode::Datagram(Duplicate::WhileDegraded);
    let session = builder(&mirrors).mode(mode).connect().await.unwrap();
    let (primary, _) = settled(&session, &mirrors).await;
    let mut events = session.events();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut programs = Vec::new();
    for _ in 0..20 {
        programs.push(program(&sidecar).await);
    }
    for round in ["before", "after"] {
        for (n, program) in programs.iter().enumerate() {
            echoed(program, format!("no {n:03} {round}").as_bytes()).await;
        }
        if round == "before" {
            mirrors[primary].kill();
            event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
        }
    }
    assert_eq!(sidecar.counters.get(Count::FlowsOpened), 20);
    assert!(sidecar.counters.get(Count::PacketsDown) >= 40);
    sidecar.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_counted_and_named() {
    let mirrors = mirrors(1..3);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut sidecar = sidecar(&session, Settings::default()).await;
    let program = program(&sidecar).await;
    program.send(&[7; 9000]).await.unwrap();
    let notice = soon(sidecar.notices.recv()).await.unwrap();
    let Notice::TooLarge { peer, have: 9000, most } = notice else { panic!("{notice}") };
    assert_eq!(peer, program.local_addr().unwrap());
    assert!((1000..9000).contains(&most), "{most}");
    program.send(&[7; 9000]).await.unwrap();
    echoed(&program, b"small one").await;
    assert_eq!(sidecar.counters.get(Count::TooLarge), 2);
    assert!(sidecar.notices.try_recv().is_err(), "it is not said each time");
    sidecar.stop().await;
}

#[tokio::test]
async fn an_idle_flow_ends_and_begins_anew() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    let settings = Settings { idle: Duration::from_millis(300), ..Settings::default() };
    let sidecar = sidecar(&session, settings).await;
    let program = program(&sidecar).await;
    echoed(&program, b"one day").await;
    sidecar.counted(Count::FlowsExpired, 1).await;
    echoed(&program, b"another day").await;
    assert_eq!(sidecar.counters.get(Count::FlowsOpened), 2);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_flood_of_addresses_is_bounded_and_takes_no_flow() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut sidecar = sidecar(&session, Settings { most_flows: 4, ..Settings::default() }).await;
    let plays = program(&sidecar).await;
    echoed(&plays, b"in use").await;
    for n in 1..=100u64 {
        let other = program(&sidecar).await;
        other.send(b"flood").await.unwrap();
        let seen = || sidecar.counters.get(Count::FlowsOpened) + sidecar.counters.get(Count::FlowsRefused);
        soon(async {
            while seen() < n + 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(sidecar.counters.get(Count::FlowsOpened), 4);
    assert!(sidecar.counters.get(Count::FlowsRefused) >= 97);
    assert!(matches!(soon(sidecar.notices.recv()).await, Some(Notice::NoFlow { most: 4, .. })));
    echoed(&plays, b"in use still").await;
    sidecar.stop().await;
}
