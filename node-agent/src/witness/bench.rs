//! Which inquiries there are, and who waits for which.
//!
//! ```text
//!            limits allow it                 all attempts failed, or one passed
//!  (nothing) ───────────────▶ under way ────────────────────────────────────────▶ at rest ──▶ (nothing)
//!                             │      ▲                                            │      ▲  QUIET
//!                             └──────┘ the same is asked: it waits too            └──────┘ the same is asked:
//!                                      until it has waited as long as it wants             the answer at once
//! ```
//!
//! The same is the same address and port, asked in the same way, whoever asks. When attempts start and how
//! long each takes follows from every broker's own round trips, so it differs although nothing else does:
//! the first to ask decides, and its failure is told to others only if they would not have asked much more
//! patiently. One who joins later and would wait less is told of failure once as many
//! attempts as it asked for are as old as it allows, else that nothing can be said in its time.
//!
//! A broker is told one result of one mirror once: two would look to it as if the mirror had been asked
//! twice.
//!
//! Pure: time is handed in.

use super::limit::{Limiter, QUIET, Wanted};
use super::{Probe, Task, answer};
use nearmost_core::time::MonoTime;
use nearmost_wire::witness::{Decline, MAX_ORDERS, WitnessOutcome};
use prometheus::IntCounterVec;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Inquiries that are under way at once, each over a few connections.
const AT_ONCE: usize = 2 * MAX_ORDERS;
/// Brokers and mirrors that are told of one inquiry.
const MOST_TOLD: usize = MAX_ORDERS;

/// All inquiries.
pub struct Bench {
    limiter: Limiter,
    hasher: RandomState,
    results: IntCounterVec,
    inquiries: HashMap<IpAddr, Vec<Inquiry>>,
    /// How many are under way.
    under_way: usize,
    /// Those at rest, and when they are forgotten; the first to end comes first.
    resting: VecDeque<(MonoTime, Key)>,
    /// For inquiries that are under way.
    waiting: Vec<Waiter>,
    next: u64,
}

/// Names one inquiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    address: IpAddr,
    inquiry: u64,
}

struct Inquiry {
    number: u64,
    probe: Probe,
    began: MonoTime,
    /// `None` while it is under way.
    outcome: Option<WitnessOutcome>,
    told: Vec<Asker>,
}

/// Position of a broker, and the hash of the mirror that it asks about.
type Asker = (usize, u64);

struct Waiter {
    key: Key,
    asker: Asker,
    task: Task,
    /// `None` for who began it, which ends by itself in time.
    until: Option<MonoTime>,
}

impl Bench {
    /// At most `rate` inquiries a second.
    pub fn new(rate: u32, results: IntCounterVec, now: MonoTime) -> Bench {
        Bench {
            limiter: Limiter::new(rate, now),
            hasher: RandomState::new(),
            results,
            inquiries: HashMap::new(),
            under_way: 0,
            resting: VecDeque::new(),
            waiting: Vec::new(),
            next: 0,
        }
    }

    /// What is to be begun for an order: nothing when it is declined, or when the same is under way or was
    /// found out just now, as when several brokers suspect a mirror.
    pub fn take(&mut self, task: Task, now: MonoTime) -> Option<(Key, Probe)> {
        self.forget(now);
        if task.answers.is_closed() {
            return None;
        }
        let address = task.order.probe.target.ip();
        let asker = (task.broker, self.hasher.hash_one(&task.order.name));
        let same = |i: &&Inquiry| i.probe.asks_as(&task.order.probe);
        if let Some(same) = self.inquiries.get(&address).and_then(|of| of.iter().find(same)) {
            let key = Key { address, inquiry: same.number };
            self.join(key, asker, task, now);
            return None;
        }
        match self.admit(address, asker, &task.order.probe, now) {
            Ok(key) => {
                let probe = task.order.probe.clone();
                self.waiting.push(Waiter { key, asker, task, until: None });
                Some((key, probe))
            }
            Err(decline) => {
                self.decline(&task, decline);
                None
            }
        }
    }

    fn admit(
        &mut self,
        address: IpAddr,
        (broker, name): Asker,
        probe: &Probe,
        now: MonoTime,
    ) -> Result<Key, Decline> {
        if self.under_way >= AT_ONCE {
            return Err(Decline::Overload);
        }
        let key = Key { address, inquiry: self.next };
        let longest = probe.longest();
        self.limiter.admit(Wanted { broker, name, address, inquiry: key.inquiry, longest }, now)?;
        self.next += 1;
        self.under_way += 1;
        let inquiry = Inquiry {
            number: key.inquiry,
            probe: probe.clone(),
            began: now,
            outcome: None,
            told: Vec::new(),
        };
        self.inquiries.entry(address).or_default().push(inquiry);
        Ok(key)
    }

    /// Somebody else asks what an inquiry is about.
    fn join(&mut self, key: Key, asker: Asker, task: Task, now: MonoTime) {
        let Some(inquiry) = inquiry(&mut self.inquiries, key) else { return };
        if inquiry.told.contains(&asker) || inquiry.told.len() >= MOST_TOLD {
            return self.decline(&task, Decline::TooFast);
        }
        match &inquiry.outcome {
            Some(outcome) if !says_enough(outcome, &inquiry.probe, &task.order.probe) => {
                self.decline(&task, Decline::TooFast);
            }
            Some(outcome) => {
                inquiry.told.push(asker);
                answer(&task.answers, task.order.id, outcome.clone(), &self.results);
            }
            None => {
                let until = Some(now + task.order.probe.longest());
                self.waiting.push(Waiter { key, asker, task, until });
            }
        }
    }

    /// All that an inquiry was to do is done.
    pub fn ended(&mut self, key: Key, outcome: &WitnessOutcome, now: MonoTime) {
        self.limiter.ended(key.address, key.inquiry, now);
        let Some(inquiry) = inquiry(&mut self.inquiries, key) else { return };
        inquiry.outcome = Some(outcome.clone());
        self.under_way = self.under_way.saturating_sub(1);
        self.resting.push_back((now + QUIET, key));
        for waiter in self.waiting.extract_if(.., |w| w.key == key) {
            let wanted = &waiter.task.order;
            let said = match says_enough(outcome, &inquiry.probe, &wanted.probe) {
                true => {
                    inquiry.told.push(waiter.asker);
                    outcome.clone()
                }
                false => WitnessOutcome::Declined(Decline::TooFast),
            };
            answer(&waiter.task.answers, wanted.id, said, &self.results);
        }
    }

    /// When somebody will have waited long enough for what somebody else began.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.waiting.iter().filter_map(|w| w.until).min()
    }

    /// Tells those who have waited long enough.
    pub fn expire(&mut self, now: MonoTime) {
        for waiter in self.waiting.extract_if(.., |w| w.until.is_some_and(|until| until <= now)) {
            let Some(inquiry) = inquiry(&mut self.inquiries, waiter.key) else { continue };
            let wanted = &waiter.task.order.probe;
            let old = |start: &&Duration| inquiry.began + **start + wanted.timeout <= now;
            let outcome = match inquiry.probe.starts.iter().filter(old).count() >= wanted.starts.len() {
                true => {
                    inquiry.told.push(waiter.asker);
                    let reason =
                        format!("expected an answer, found none within {} ms", wanted.timeout.as_millis());
                    WitnessOutcome::Failed { reason }
                }
                false => WitnessOutcome::Declined(Decline::TooFast),
            };
            answer(&waiter.task.answers, waiter.task.order.id, outcome, &self.results);
        }
    }

    fn forget(&mut self, now: MonoTime) {
        while let Some(&(until, key)) = self.resting.front()
            && until <= now
        {
            self.resting.pop_front();
            if let Some(of) = self.inquiries.get_mut(&key.address) {
                of.retain(|i| i.number != key.inquiry);
                if of.is_empty() {
                    self.inquiries.remove(&key.address);
                }
            }
        }
    }

    fn decline(&self, task: &Task, decline: Decline) {
        answer(&task.answers, task.order.id, WitnessOutcome::Declined(decline), &self.results);
    }
}

fn inquiry(inquiries: &mut HashMap<IpAddr, Vec<Inquiry>>, key: Key) -> Option<&mut Inquiry> {
    inquiries.get_mut(&key.address)?.iter_mut().find(|i| i.number == key.inquiry)
}

/// Whether what was found out says enough to one who would have asked otherwise. That something answers
/// always does; that nothing does only where it was asked about as patiently: as many attempts, over at
/// least half the time and for at least half as long each. Whoever asks carelessly must not make others
/// believe that a mirror is dead.
fn says_enough(outcome: &WitnessOutcome, asked: &Probe, wanted: &Probe) -> bool {
    let last = |probe: &Probe| probe.starts.last().copied().unwrap_or_default();
    !matches!(outcome, WitnessOutcome::Failed { .. })
        || asked.starts.len() >= wanted.starts.len()
            && last(asked) * 2 >= last(wanted)
            && asked.timeout * 2 >= wanted.timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::{self, Lane};
    use crate::witness::Checked;
    use nearmost_core::check::CheckKind;
    use nearmost_wire::witness::WitnessResult;
    use std::net::SocketAddr;
    use tokio::sync::mpsc;

    /// A bench and two brokers' sessions.
    struct Room {
        bench: Bench,
        tasks: mpsc::Receiver<Task>,
        lanes: Vec<(Lane<Checked, WitnessResult>, mpsc::Receiver<WitnessResult>)>,
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    /// By tcp, with attempts at 0, 20 and 40 ms.
    fn probe(target: &str, timeout_ms: u64) -> Probe {
        Probe {
            target: target.parse::<SocketAddr>().expect("an address"),
            kind: CheckKind::Tcp,
            starts: [0, 20, 40].map(Duration::from_millis).to_vec(),
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    fn failed() -> WitnessOutcome {
        WitnessOutcome::Failed { reason: "nobody there".into() }
    }

    const TOO_FAST: WitnessOutcome = WitnessOutcome::Declined(Decline::TooFast);

    impl Room {
        fn new() -> Room {
            let (intake, tasks) = orders::channel(AT_ONCE);
            let results = crate::metrics::Metrics::new().expect("metrics").witnesses.clone();
            let lanes = (0..2).map(|broker| intake.session(broker, AT_ONCE, 64)).collect();
            Room { bench: Bench::new(1000, results, at(0)), tasks, lanes }
        }

        /// What is begun for an order of a broker about a mirror.
        fn ask(&mut self, broker: usize, mirror: &str, probe: Probe, ms: u64) -> Option<Key> {
            let name = ("play.example".into(), mirror.into());
            assert!(self.lanes[broker].0.queue(Checked { id: ms, name, probe }));
            let task = self.tasks.try_recv().expect("a task");
            self.bench.take(task, at(ms)).map(|(key, _)| key)
        }

        fn heard(&mut self, broker: usize) -> Option<(u64, WitnessOutcome)> {
            self.lanes[broker].1.try_recv().ok().map(|r| (r.id, r.outcome))
        }
    }

    #[test]
    fn brokers_with_other_round_trips_share_one_inquiry_and_its_result_for_a_while() {
        let mut room = Room::new();
        let key = room.ask(0, "m", probe("192.0.2.1:443", 80), 0).expect("begun");
        let slower = Probe { starts: vec![Duration::ZERO], ..probe("192.0.2.1:443", 160) };
        assert_eq!(room.ask(1, "m", slower.clone(), 30), None);
        room.bench.ended(key, &failed(), at(120));
        assert_eq!((room.heard(0), room.heard(1)), (Some((0, failed())), Some((30, failed()))));
        // Another mirror there, as of another domain; then nobody is told twice of one.
        assert_eq!(room.ask(1, "other", slower.clone(), 2119), None);
        assert_eq!(room.heard(1), Some((2119, failed())));
        for (broker, mirror) in [(0, "m"), (1, "m"), (1, "other")] {
            assert_eq!(room.ask(broker, mirror, slower.clone(), 2119), None);
            assert_eq!(room.heard(broker), Some((2119, TOO_FAST)), "{broker} {mirror}");
        }
        assert!(room.ask(0, "m", slower, 2120).is_some());
        assert_eq!(room.heard(0), None);
    }

    #[test]
    fn a_failure_that_was_asked_for_carelessly_is_told_to_nobody_else() {
        let mut room = Room::new();
        let key = room.ask(0, "m", probe("192.0.2.1:443", 10), 0).expect("begun");
        assert_eq!(room.ask(1, "m", probe("192.0.2.1:443", 80), 1), None);
        room.bench.ended(key, &failed(), at(50));
        assert_eq!((room.heard(0), room.heard(1)), (Some((0, failed())), Some((1, TOO_FAST))));
        let fewer = Probe { starts: vec![Duration::ZERO], ..probe("192.0.2.1:443", 20) };
        assert_eq!(room.ask(1, "m", fewer, 60), None, "who asks for less may be told");
        assert_eq!(room.heard(1), Some((60, failed())));
        assert_eq!(room.ask(1, "other", probe("192.0.2.1:443", 21), 70), None);
        assert_eq!(room.heard(1), Some((70, TOO_FAST)), "at rest, too");
    }

    #[test]
    fn who_joins_waits_no_longer_than_it_wants() {
        let mut room = Room::new();
        let spread = [0, 60, 400, 1000].map(Duration::from_millis).to_vec();
        let key =
            room.ask(0, "m", Probe { starts: spread, ..probe("192.0.2.1:443", 500) }, 0).expect("begun");
        assert_eq!(room.bench.deadline(), None);
        // Two attempts of the three that it wants are old enough by then, ...
        assert_eq!(room.ask(1, "m", probe("192.0.2.1:443", 100), 50), None);
        assert_eq!(room.bench.deadline(), Some(at(190)));
        room.bench.expire(at(189));
        assert_eq!(room.heard(1), None);
        room.bench.expire(at(190));
        assert_eq!(room.heard(1), Some((50, TOO_FAST)));
        // ... and all three later; that counts as told.
        for ms in [400, 560] {
            assert_eq!(room.ask(1, "m", probe("192.0.2.1:443", 100), ms), None);
            room.bench.expire(at(540));
            let heard = room.heard(1).expect("an answer");
            let expected = matches!(heard.1, WitnessOutcome::Failed { .. }) == (ms == 400);
            assert!(expected && (ms == 400 || heard.1 == TOO_FAST), "{ms} {heard:?}");
        }
        room.bench.ended(key, &failed(), at(1500));
        assert_eq!((room.heard(0), room.heard(1)), (Some((0, failed())), None));
    }

    #[test]
    fn other_ports_and_kinds_of_an_address_are_asked_beside_it_up_to_a_bound() {
        let mut room = Room::new();
        let udp = CheckKind::Udp { send: b"ping".to_vec(), expect: Vec::new() };
        let tcp = |port: u16| probe(&format!("192.0.2.1:{port}"), 100);
        assert!(room.ask(0, "a", tcp(443), 0).is_some());
        assert!(room.ask(1, "b", tcp(8443), 0).is_some());
        assert!(room.ask(0, "c", Probe { kind: udp, ..tcp(443) }, 0).is_some());
        assert!(room.ask(0, "d", tcp(25), 0).is_some());
        assert_eq!(room.ask(1, "e", tcp(26), 0), None);
        assert_eq!(room.heard(1), Some((0, TOO_FAST)));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut room = Room::new();
        for n in 0..20 {
            let key =
                room.ask(0, &format!("m{n}"), probe(&format!("192.0.{n}.1:443"), 100), n).expect("begun");
            room.bench.ended(key, &failed(), at(n));
        }
        assert_eq!((room.bench.inquiries.len(), room.bench.under_way, room.bench.waiting.len()), (20, 0, 0));
        assert!(room.ask(0, "m", probe("192.0.99.1:443", 100), 5_000).is_some());
        assert_eq!((room.bench.inquiries.len(), room.bench.resting.len(), room.bench.under_way), (1, 0, 1));
    }

    #[test]
    fn only_so_many_are_under_way() {
        let mut room = Room::new();
        let ask = |room: &mut Room, n: usize| {
            let asked = room.ask(n % 2, &format!("m{n}"), probe(&format!("10.0.{n}.1:443"), 100), 0);
            (asked, room.heard(n % 2).map(|(_, outcome)| outcome))
        };
        let first = ask(&mut room, 0).0.expect("begun");
        for n in 1..AT_ONCE {
            assert!(ask(&mut room, n).0.is_some(), "{n}");
        }
        assert_eq!(ask(&mut room, 200), (None, Some(WitnessOutcome::Declined(Decline::Overload))));
        room.bench.ended(first, &failed(), at(0));
        assert!(ask(&mut room, 200).0.is_some());
    }
}
