//! Datagrams that wait for the application.

use super::counters::{Count, Counters};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A packet of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Of which flow.
    pub flow: u64,
    /// What the service sent.
    pub payload: Vec<u8>,
}

/// A queue that several may read. When it is full the oldest datagram is dropped and counted: what is
/// newest is worth most.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    come: Notify,
    most: usize,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Datagram>,
    closed: bool,
}

impl Inbox {
    pub fn new(most: usize, counters: Arc<Counters>) -> Inbox {
        Inbox { queue: Mutex::default(), come: Notify::new(), most, counters }
    }

    /// Nothing that holds the lock can panic in between: what a poisoned one holds is whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, datagram: Datagram) {
        let mut queue = self.lock();
        if queue.waiting.len() == self.most {
            queue.waiting.pop_front();
            self.counters.add(Count::NotFetched);
        }
        queue.waiting.push_back(datagram);
        drop(queue);
        self.come.notify_one();
    }

    /// Nothing comes any more; what waits may still be fetched.
    pub fn close(&self) {
        self.lock().closed = true;
        self.come.notify_waiters();
    }

    /// The next datagram; `None` once nothing comes any more.
    pub async fn get(&self) -> Option<Datagram> {
        loop {
            let come = self.come.notified();
            tokio::pin!(come);
            // From here on a notification is kept, so nothing is missed between the look and the wait.
            come.as_mut().enable();
            {
                let mut queue = self.lock();
                if let Some(datagram) = queue.waiting.pop_front() {
                    return Some(datagram);
                }
                if queue.closed {
                    return None;
                }
            }
            come.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(flow: u64) -> Datagram {
        Datagram { flow, payload: Vec::new() }
    }

    #[tokio::test]
    async fn the_oldest_gives_way_and_what_waits_outlives_the_end() {
        let counters = Arc::new(Counters::default());
        let inbox = Inbox::new(2, counters.clone());
        (1..=3).for_each(|flow| inbox.put(datagram(flow)));
        assert_eq!(counters.get(Count::NotFetched), 1);
        inbox.close();
        assert_eq!(inbox.get().await, Some(datagram(2)));
        assert_eq!(inbox.get().await, Some(datagram(3)));
        assert_eq!(inbox.get().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_gives_up_takes_nothing_with_it() {
        let inbox = Arc::new(Inbox::new(2, Arc::default()));
        let mut given_up = Box::pin(inbox.get());
        assert!(polled_once(&mut given_up).await.is_none());
        let other = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.get().await }
        });
        tokio::task::yield_now().await;
        inbox.put(datagram(7));
        drop(given_up);
        assert_eq!(other.await.unwrap(), Some(datagram(7)));
    }

    /// Polls once.
    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
