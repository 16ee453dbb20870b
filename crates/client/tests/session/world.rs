//! Mirrors and a session with them.

use super::hub::Attached;
use super::mirror::Mirror;
use nearmost_client::identity::Id;
use nearmost_client::session::{Builder, ClientConfig, Event, Events, Session};
use std::time::Duration;
use tokio::sync::watch;

/// Awaited events come within this time, or the test has failed.
pub const LONG: Duration = Duration::from_secs(30);
pub const DOMAIN: &str = "play.example";

/// Awaits something that should happen.
pub async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, event).await.expect("in time")
}

/// Waits until what is watched is so.
pub async fn until<T: Clone + std::fmt::Debug>(
    watched: &watch::Receiver<T>,
    so: impl FnMut(&T) -> bool,
) -> T {
    soon(watched.clone().wait_for(so)).await.expect("somebody tells").clone()
}

pub fn mirrors(seeds: std::ops::Range<u8>) -> Vec<Mirror> {
    seeds.map(Mirror::start).collect()
}

/// A session that is patient with a busy machine and looks for mirrors often.
pub fn builder(mirrors: &[Mirror]) -> Builder {
    let mut settings = ClientConfig::default();
    settings.gaining.most_rest = Duration::from_millis(500);
    let builder = Session::builder(DOMAIN).seed(1).settings(settings).within(LONG);
    mirrors.iter().fold(builder, |builder, mirror| builder.mirror(mirror.known()))
}

/// The place of a node's mirror.
pub fn place(mirrors: &[Mirror], node: Id) -> usize {
    mirrors.iter().position(|mirror| mirror.id() == node).expect("one of the mirrors")
}

/// Waits for a primary and a standby, each with its tripwire, and says which they are.
pub async fn settled(session: &Session, mirrors: &[Mirror]) -> (usize, usize) {
    let primary = place(mirrors, soon(session.attached()).await.expect("a primary"));
    until(&mirrors[primary].attached, |attached| attached.served == 1).await;
    until(&mirrors[primary].tripwires, |held| *held == 1).await;
    let others: Vec<usize> = (0..mirrors.len()).filter(|at| *at != primary).collect();
    let standby = |attached: &Attached| attached.all == 1 && attached.served == 0;
    let warm = others.iter().map(|at| {
        let (at, mirror) = (*at, &mirrors[*at]);
        Box::pin(async move {
            until(&mirror.attached, standby).await;
            until(&mirror.tripwires, |held| *held == 1).await;
            at
        })
    });
    (primary, first(warm.collect()).await)
}

/// The first of several that is done.
async fn first<F: Future + Unpin>(mut all: Vec<F>) -> F::Output {
    std::future::poll_fn(|cx| {
        all.iter_mut()
            .map(|one| std::pin::Pin::new(one).poll(cx))
            .find(|poll| poll.is_ready())
            .unwrap_or(std::task::Poll::Pending)
    })
    .await
}

/// The next event that is of a kind; those before are read over.
pub async fn event(events: &mut Events, of: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = soon(events.next()).await.expect("the session lives");
        if of(&event) {
            return event;
        }
    }
}

/// The next move of a session: where to.
pub async fn moved(events: &mut Events) -> Id {
    match event(events, |event| matches!(event, Event::Moved { .. })).await {
        Event::Moved { to, .. } => to,
        other => unreachable!("{other:?}"),
    }
}

/// Sends a packet and waits for its echo; what is lost on the way is sent again.
pub async fn echoed(session: &Session, flow: u64, payload: &[u8]) {
    let asked = async {
        loop {
            let _ = session.send(flow, payload);
            let answer = tokio::time::timeout(Duration::from_millis(500), session.recv()).await;
            if answer.is_ok_and(|packet| packet.is_some_and(|p| p.flow == flow && p.payload == payload)) {
                return;
            }
        }
    };
    soon(asked).await;
}
