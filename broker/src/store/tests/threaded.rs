//! Tests of the store thread.

use super::*;
use std::sync::mpsc;

fn spawn(dir: &std::path::Path) -> (StoreHandle, StoreThread) {
    StoreThread::spawn(Box::new(RedbStore::open(dir).unwrap())).unwrap()
}

/// Keeps the store thread busy until the sender is used or dropped.
async fn block(handle: &StoreHandle) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (open, gate) = mpsc::channel();
    let (held, holds) = tokio::sync::oneshot::channel();
    let handle = handle.clone();
    let blocked = tokio::spawn(async move {
        let waited = handle.call(move |_| {
            let _ = held.send(());
            let _ = gate.recv();
            Ok(())
        });
        waited.await.unwrap();
    });
    // What is queued from here on waits: else the thread could be done with it before it is held.
    holds.await.unwrap();
    (open, blocked)
}

#[tokio::test]
async fn queued_writers_share_a_transaction_and_each_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    let (open, blocked) = block(&handle).await;

    const WRITERS: u8 = 100;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let handle = handle.clone();
            let mut author = Author::new(n + 1);
            // Every tenth uses a number of its own twice.
            let mut records = vec![author.write(&format!("m{n}"), 5, Some(b"a"))];
            if n % 10 == 0 {
                records.push(author.sign(1, "fork", 6, None));
            }
            tokio::spawn(async move { (n, handle.write(batch(records)).await) })
        })
        .collect();
    while handle.stats().queued < u64::from(WRITERS) {
        tokio::task::yield_now().await;
    }
    drop(open);
    blocked.await.unwrap();

    let mut versions = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            (n, Err(StoreError::AuthorForked { .. })) => assert_eq!(n % 10, 0),
            (n, answer) => {
                assert_ne!(n % 10, 0);
                versions.push(answer.unwrap().version);
            }
        }
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=90).collect::<Vec<_>>(), "each batch is a version of its own");
    let stats = handle.stats();
    assert_eq!((stats.groups, stats.batches, stats.refused, stats.queued), (1, 100, 10, 0));
    assert_eq!(handle.read_all().await.unwrap().records.len(), 90);
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn calls_keep_their_order_between_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    let (open, blocked) = block(&handle).await;
    let mut ada = Author::new(1);
    let (a, b) = (batch([ada.write("a", 5, Some(b"a"))]), batch([ada.write("b", 5, Some(b"b"))]));
    let queued = async {
        while handle.stats().queued < 3 {
            tokio::task::yield_now().await;
        }
        drop(open);
    };
    let (first, between, second, ()) =
        tokio::join!(biased; handle.write(a), handle.version(), handle.write(b), queued);
    assert_eq!(first.unwrap().version, 1);
    assert_eq!(between, Ok(1), "it was asked before the second write");
    assert_eq!(second.unwrap().version, 2);
    blocked.await.unwrap();
    thread.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_what_is_queued_and_frees_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    let (open, blocked) = block(&handle).await;
    let mut ada = Author::new(1);
    let record = ada.write("lon", 5, Some(b"a"));
    let writer = tokio::spawn({
        let (handle, batch) = (handle.clone(), batch([record.clone()]));
        async move { handle.write(batch).await }
    });
    while handle.stats().queued < 1 {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(thread.stop());
    drop(open);
    blocked.await.unwrap();
    stopping.await.unwrap().unwrap();
    handle.stopped().await;
    assert!(writer.await.unwrap().unwrap().changed());
    assert_eq!(handle.version().await, Err(StoreError::Stopped));
    assert_eq!(handle.write(batch([])).await, Err(StoreError::Stopped));
    assert_eq!(RedbStore::open(dir.path()).unwrap().contents().unwrap().records, [record]);
}

#[tokio::test]
async fn a_thread_without_handles_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    drop(handle);
    thread.stop().await.unwrap();
    RedbStore::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_thread_that_died_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    let died: Result<(), _> = handle.call(|_| panic!("on purpose")).await;
    assert_eq!(died, Err(StoreError::Stopped));
    handle.stopped().await;
    assert_eq!(handle.version().await, Err(StoreError::Stopped));
    assert_eq!(thread.stop().await, Err(StoreError::Stopped));
}

#[tokio::test]
async fn every_call_reaches_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, thread) = spawn(dir.path());
    let mut ada = Author::new(1);
    handle.write(batch([ada.write("lon", 5, Some(b"a"))])).await.unwrap();
    assert_eq!(handle.history(HistoryFilter { limit: 5, ..Default::default() }).await.unwrap().len(), 1);
    assert_eq!(handle.batch(1).await.unwrap().len(), 1);
    let position = handle.author_position(ada.key.public()).await;
    assert_eq!(position, Ok(AuthorPosition { epoch: 1, next_seq: 2 }));
    handle.put_token([1; 32], token(NOW)).await.unwrap();
    assert_eq!(handle.check_token([1; 32], 5).await, Ok(token(NOW)));
    assert_eq!(handle.redeem_token([1; 32], 5).await, Ok(token(NOW)));
    handle.save_verdicts(vec![("a".into(), vec![1])]).await.unwrap();
    assert_eq!(handle.load_verdicts().await, Ok(vec![("a".into(), vec![1])]));
    handle.put_meta("x", vec![2]).await.unwrap();
    assert_eq!(handle.get_meta("x").await, Ok(Some(vec![2])));
    handle.remove_meta("x").await.unwrap();
    assert_eq!(handle.get_meta("x").await, Ok(None));
    assert_ne!(handle.log_epoch().await, Ok(0));
    assert_eq!(handle.log_head().await, Ok(1));
    assert_eq!(handle.log_after(0, 5, true).await.unwrap().len(), 1);
    assert!(handle.find_numbered(ada.key.public(), 1, 1).await.unwrap().is_some());
    handle.save_peers(vec![(PublicKey([1; 32]), Some(vec![3]))]).await.unwrap();
    assert_eq!(handle.load_peers().await, Ok(vec![(PublicKey([1; 32]), vec![3])]));
    let (a, b) = (ada.sign(7, "a", 5, None), ada.sign(7, "b", 5, None));
    assert_eq!(handle.put_evidence(ada.key.public(), a.clone(), b.clone()).await, Ok(true));
    assert_eq!(handle.load_evidence().await, Ok(vec![(ada.key.public(), a, b)]));
    let dropped = handle.read_all().await.unwrap().records.remove(0);
    assert_eq!(handle.drop_statements(vec![(dropped.record().key(), ada.key.public())]).await, Ok(2));
    assert_eq!(handle.collect(NOW, HashSet::new()).await, Ok(Collected::default()));
    thread.stop().await.unwrap();
}
