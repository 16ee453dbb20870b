//! The queue that those who see users put them into: bounded, and nobody waits.

use crate::clock::mono_now;
pub use nearmost_core::traffic::Seen;
use prometheus::IntCounter;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Sightings of each kind that wait: queries, which anybody can send, leave agents their room.
const QUEUE: usize = 16 * 1024;
/// One answer in so many is looked at …
const SAMPLE: u32 = 32;
/// … and so that nobody is overlooked where little is asked, one each time this has passed …
const EVERY: Duration = Duration::from_millis(20);
/// … or so many at once after a pause.
const BURST: u64 = 64;

/// Users of a domain, somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The domain's name.
    pub domain: Arc<str>,
    /// The mirror that serves them, or that was named to them first; `None` for none.
    pub mirror: Option<Arc<str>>,
    /// An address in their network.
    pub addr: IpAddr,
    /// How many.
    pub users: f32,
    /// Their round trip to the mirror in milliseconds, where it was measured.
    pub rtt_ms: Option<f32>,
    /// How they were seen.
    pub seen: Seen,
}

impl Demand {
    /// An answer that stands for so many answers.
    pub fn asked((domain, mirror): (Arc<str>, Option<Arc<str>>), addr: IpAddr, answers: u32) -> Demand {
        Demand { domain, mirror, addr, users: answers as f32, rtt_ms: None, seen: Seen::Query }
    }
}

/// For everyone who sees users.
#[derive(Clone)]
pub struct DemandHandle {
    counted: SyncSender<Demand>,
    asked: SyncSender<Demand>,
    dropped: IntCounter,
}

impl DemandHandle {
    /// Tells of users, unless too many are waiting to be told of.
    pub fn tell(&self, demand: Demand) {
        let queue = match demand.seen {
            Seen::Connections => &self.counted,
            Seen::Query => &self.asked,
        };
        if queue.try_send(demand).is_err() {
            self.dropped.inc();
        }
    }
}

/// What was told.
pub struct DemandInbox {
    counted: Receiver<Demand>,
    asked: Receiver<Demand>,
}

impl DemandInbox {
    /// What waits, but no more than there is room for: what comes meanwhile is taken the next time.
    pub fn take(&mut self) -> impl Iterator<Item = Demand> + '_ {
        let counted = std::iter::from_fn(|| self.counted.try_recv().ok()).take(QUEUE);
        counted.chain(std::iter::from_fn(|| self.asked.try_recv().ok()).take(QUEUE))
    }
}

/// The queue; what is dropped is counted.
pub fn channel(dropped: IntCounter) -> (DemandHandle, DemandInbox) {
    // It has room for all from the start, so that telling allocates nothing.
    let ((counted, counts), (asked, asks)) = (sync_channel(QUEUE), sync_channel(QUEUE));
    (DemandHandle { counted, asked, dropped }, DemandInbox { counted: counts, asked: asks })
}

/// Looks at one answer in many; each clone counts for itself.
pub(crate) struct Sampler {
    handle: DemandHandle,
    /// Answers since the last that was looked at.
    count: AtomicU32,
    began: Instant,
    /// When the next of those is due that are looked at whatever their number, in microseconds since the
    /// beginning; it may be as much ahead as a burst takes.
    due: AtomicU64,
}

impl Clone for Sampler {
    fn clone(&self) -> Sampler {
        Sampler::new(self.handle.clone())
    }
}

impl Sampler {
    pub(crate) fn new(handle: DemandHandle) -> Sampler {
        Sampler { handle, count: AtomicU32::new(0), began: mono_now(), due: AtomicU64::new(0) }
    }

    /// A domain was asked for from an address, at `now`; `names`, of the domain and of the mirror that was
    /// answered first, is called for those that are looked at. Each of these stands for those since the last.
    pub(crate) fn asked(
        &self,
        addr: IpAddr,
        now: Instant,
        names: impl FnOnce() -> Option<(Arc<str>, Option<Arc<str>>)>,
    ) {
        // Whoever counts is alone, as a rule; a lost count would be no harm.
        let count = self.count.load(Ordering::Relaxed).saturating_add(1);
        let at = u64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
        let every = EVERY.as_micros() as u64;
        let due = self.due.load(Ordering::Relaxed).max(at);
        let soon = due - at <= (BURST - 1) * every;
        if count < SAMPLE && !soon {
            self.count.store(count, Ordering::Relaxed);
            return;
        }
        self.count.store(0, Ordering::Relaxed);
        if soon {
            self.due.store(due + every, Ordering::Relaxed);
        }
        if let Some(names) = names() {
            self.handle.tell(Demand::asked(names, addr, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Option<(Arc<str>, Option<Arc<str>>)> {
        Some(("a.test".into(), Some("lon".into())))
    }

    fn told(inbox: &mut DemandInbox) -> Vec<f32> {
        inbox.take().map(|d| d.users).collect()
    }

    #[test]
    fn after_a_burst_one_answer_in_many_is_told_and_none_is_lost() {
        let dropped = IntCounter::new("d", "d").unwrap();
        let (handle, mut inbox) = channel(dropped.clone());
        let sampler = Sampler::new(handle);
        let now = sampler.began;
        let ask = |n: u32| (0..n).for_each(|_| sampler.asked([192, 0, 2, 1].into(), now, names));
        ask(BURST as u32);
        let first = inbox.take().next().unwrap();
        assert_eq!((&*first.domain, first.users, first.seen), ("a.test", 1.0, Seen::Query));
        assert_eq!(first.mirror.as_deref(), Some("lon"));
        assert_eq!(told(&mut inbox), [1.0; BURST as usize - 1]);
        ask(2 * SAMPLE + 5);
        assert_eq!(told(&mut inbox), [32.0; 2]);
        ask((QUEUE as u32 + 3) * SAMPLE);
        assert_eq!(dropped.get(), 3);
    }

    #[test]
    fn with_time_there_is_room_again_and_the_next_stands_for_those_before() {
        let (handle, mut inbox) = channel(IntCounter::new("d", "d").unwrap());
        let sampler = Sampler::new(handle);
        let ask = |ms| sampler.asked([192, 0, 2, 1].into(), sampler.began + Duration::from_millis(ms), names);
        (0..BURST + 4).for_each(|_| ask(0));
        assert_eq!(told(&mut inbox), [1.0; BURST as usize]);
        [19, 20, 21, 45].into_iter().for_each(ask);
        assert_eq!(told(&mut inbox), [6.0, 2.0]);
        (0..3).for_each(|_| ask(10_000));
        assert_eq!(told(&mut inbox), [1.0; 3]);
    }
}
