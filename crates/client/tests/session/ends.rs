//! A session ends with its last handle, and nothing of it is left.

use super::world::{builder, mirrors, settled, soon, until};

#[tokio::test]
async fn with_the_last_handle_all_tasks_end() {
    let mirrors = mirrors(1..4);
    // Mirrors have runtimes of their own: the tasks of this one are the session's.
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let (primary, standby) = settled(&session, &mirrors).await;
    assert!(tasks() > before);
    let other = session.clone();
    drop(session);
    assert!(other.send(1, b"alive").is_ok());
    drop(other);
    let ended = async { while events.next().await.is_some() {} };
    soon(ended).await;
    for at in [primary, standby] {
        until(&mirrors[at].attached, |attached| attached.all == 0).await;
        until(&mirrors[at].tripwires, |held| *held == 0).await;
    }
    let gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn an_attempt_to_connect_that_is_dropped_leaves_nothing() {
    let mirrors = mirrors(1..2);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut attempt = Box::pin(builder(&mirrors).connect());
    // Until it has reached the mirror.
    tokio::select! {
        _ = &mut attempt => {}
        _ = until(&mirrors[0].attached, |attached| attached.all == 1) => {}
    }
    drop(attempt);
    until(&mirrors[0].attached, |attached| attached.all == 0).await;
    let gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
}
