//! The queue that those who see users put them into: bounded, and nobody waits.

use prometheus::IntCounter;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Sightings that wait.
const QUEUE: usize = 16 * 1024;
/// One answer in so many is looked at.
const SAMPLE: u32 = 32;

/// Users of a domain, somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The domain's name.
    pub domain: Arc<str>,
    /// An address in their network.
    pub addr: IpAddr,
    /// How many.
    pub users: f32,
    /// How they were seen.
    pub seen: Seen,
}

/// How users were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An agent counted their connections.
    Connections,
    /// Their resolver asked for the domain.
    Query,
}

/// For everyone who sees users.
#[derive(Clone)]
pub struct DemandHandle {
    queue: SyncSender<Demand>,
    dropped: IntCounter,
}

impl DemandHandle {
    /// Tells of users, unless too many are waiting to be told of.
    pub fn tell(&self, demand: Demand) {
        if self.queue.try_send(demand).is_err() {
            self.dropped.inc();
        }
    }
}

/// What was told.
pub struct DemandInbox(Receiver<Demand>);

impl DemandInbox {
    /// The next of what waits.
    pub fn take(&mut self) -> Option<Demand> {
        self.0.try_recv().ok()
    }
}

/// The queue; what is dropped is counted.
pub fn channel(dropped: IntCounter) -> (DemandHandle, DemandInbox) {
    // It has room for all from the start, so that telling allocates nothing.
    let (queue, inbox) = sync_channel(QUEUE);
    (DemandHandle { queue, dropped }, DemandInbox(inbox))
}

/// Looks at one answer in many; each clone counts for itself.
pub(crate) struct Sampler {
    handle: DemandHandle,
    count: AtomicU32,
}

impl Clone for Sampler {
    fn clone(&self) -> Sampler {
        Sampler::new(self.handle.clone())
    }
}

impl Sampler {
    pub(crate) fn new(handle: DemandHandle) -> Sampler {
        Sampler { handle, count: AtomicU32::new(0) }
    }

    /// A domain was asked for from an address; `name` is called for those that are looked at.
    pub(crate) fn asked(&self, addr: IpAddr, name: impl FnOnce() -> Option<Arc<str>>) {
        // Whoever counts is alone, as a rule; a lost count would be no harm.
        let count = self.count.load(Ordering::Relaxed).wrapping_add(1);
        self.count.store(count, Ordering::Relaxed);
        if count.is_multiple_of(SAMPLE)
            && let Some(domain) = name()
        {
            self.handle.tell(Demand { domain, addr, users: SAMPLE as f32, seen: Seen::Query });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_many_is_told_and_too_many_are_counted() {
        let dropped = IntCounter::new("d", "d").unwrap();
        let (handle, mut inbox) = channel(dropped.clone());
        let sampler = Sampler::new(handle);
        for _ in 0..2 * SAMPLE {
            sampler.asked([192, 0, 2, 1].into(), || Some("a.test".into()));
        }
        let told: Vec<Demand> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(told.len(), 2);
        assert_eq!((&*told[0].domain, told[0].users, told[0].seen), ("a.test", 32.0, Seen::Query));
        for _ in 0..(QUEUE as u32 + 3) * SAMPLE {
            sampler.asked([192, 0, 2, 1].into(), || Some("a.test".into()));
        }
        assert_eq!(dropped.get(), 3);
    }
}
