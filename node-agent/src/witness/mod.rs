//! Probes other nodes' mirrors on brokers' orders, to corroborate or dispel a suspicion.
//!
//! ```text
//! orders of all sessions ─▶ sensible? allowed? room? ─▶ asked already? ─▶ limits ─▶ attempts, at once ─▶ answers
//!                               │                         │                 │                            ▲
//!                               └── declined: said at once ────────────────┘                            │
//!                                                         └─ the same is under way, or ended just now: its answer
//! ```
//!
//! Only brokers that the operator joined have sessions, so only they can order; still the agent goes
//! only where [`measure::allowed`] lets it, with probes as small as [`WitnessOrder::check`] says, and as
//! seldom as [`limit`] says, all brokers together; what several ask is asked once (`bench`). A broker waits
//! half a second for the answer: nothing here is paced, what cannot be done now is declined. It runs in
//! tasks of its own and never holds up the loop that sends beacons.

mod bench;
pub mod limit;

use crate::clock::Clock;
use crate::measure;
use crate::orders::{self, Answers, Intake, Lane};
use crate::paths::Watched;
use bench::{Bench, Key};
use nearmost_core::check::{CheckKind, CheckOutcome};
use nearmost_probe::{MAX_REASON_CHARS, Prober};
use nearmost_wire::witness::{Decline, MAX_ORDERS, WitnessOrder, WitnessOutcome, WitnessResult};
use prometheus::IntCounterVec;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Orders of all sessions that may wait for their turn, which comes at once.
const QUEUE: usize = 4 * MAX_ORDERS;
/// Orders of one session that may wait or be carried out.
const OF_ONE: usize = 2 * MAX_ORDERS;
/// Answers that a session may have waiting to be written.
const ANSWERS: usize = 2 * MAX_ORDERS;

/// Where all sessions hand in their orders.
#[derive(Clone)]
pub struct Witness {
    intake: Intake<Checked, WitnessResult>,
    services: watch::Receiver<Vec<Watched>>,
    enabled: bool,
    /// What became of orders, by `result`.
    results: IntCounterVec,
}

/// Where one session hands in its orders.
pub struct Orders {
    witness: Witness,
    lane: Lane<Checked, WitnessResult>,
}

/// An order that makes sense.
pub struct Checked {
    id: u64,
    name: (String, String),
    probe: Probe,
}

/// What is done for an order.
#[derive(Clone, Debug, PartialEq)]
struct Probe {
    target: SocketAddr,
    kind: CheckKind,
    starts: Vec<Duration>,
    timeout: Duration,
}

impl Probe {
    /// Whether another asks the same of the same service, whenever and however long.
    fn asks_as(&self, other: &Probe) -> bool {
        self.target == other.target && self.kind == other.kind
    }

    /// From its beginning to the end of the last attempt, if that takes all its time.
    fn longest(&self) -> Duration {
        self.starts.iter().copied().max().unwrap_or_default() + self.timeout
    }
}

/// An order that waits.
pub type Task = orders::Task<Checked, WitnessResult>;

/// The two ends of the one queue; with a rate of 0 every order is declined.
pub fn channel(
    services: watch::Receiver<Vec<Watched>>,
    rate: u32,
    results: IntCounterVec,
) -> (Witness, mpsc::Receiver<Task>) {
    let (intake, tasks) = orders::channel(QUEUE);
    (Witness { intake, services, enabled: rate > 0, results }, tasks)
}

impl Witness {
    /// For a session with a broker; the answers come out of the receiver.
    pub fn session(&self, broker: usize) -> (Orders, mpsc::Receiver<WitnessResult>) {
        let (lane, received) = self.intake.session(broker, OF_ONE, ANSWERS);
        (Orders { witness: self.clone(), lane }, received)
    }
}

impl Orders {
    /// Takes the orders that make sense and that there is room for; the others are declined at once.
    pub fn take(&self, orders: Vec<WitnessOrder>) {
        let on_loopback = self.witness.services.borrow().iter().any(Watched::on_loopback);
        for order in orders {
            let id = order.id;
            let taken = self.checked(order, on_loopback).and_then(|checked| self.queue(checked));
            if let Err(decline) = taken {
                answer(&self.lane.answers, id, WitnessOutcome::Declined(decline), &self.witness.results);
            }
        }
    }

    fn queue(&self, checked: Checked) -> Result<(), Decline> {
        if self.lane.queue(checked) { Ok(()) } else { Err(Decline::Overload) }
    }

    fn checked(&self, order: WitnessOrder, on_loopback: bool) -> Result<Checked, Decline> {
        if !self.witness.enabled {
            return Err(Decline::Disabled);
        }
        let kind = order.check().map_err(|why| {
            tracing::debug!(domain = order.domain, mirror = order.mirror, why, "an order makes no sense");
            Decline::BadOrder
        })?;
        let address = order.address.to_canonical();
        if !measure::allowed(address, order.port, on_loopback) || tunnelled(address) {
            return Err(Decline::Forbidden);
        }
        let probe = Probe {
            target: SocketAddr::new(address, order.port),
            kind,
            starts: order.attempts_ms.iter().map(|ms| Duration::from_millis((*ms).into())).collect(),
            timeout: Duration::from_millis(order.timeout_ms.into()),
        };
        Ok(Checked { id: order.id, name: (order.domain, order.mirror), probe })
    }
}

/// Whether an IPv6 address leads to an IPv4 address within it (NAT64, 6to4, Teredo): that one would
/// escape the bounds and rules that it has under its own name.
fn tunnelled(address: IpAddr) -> bool {
    let IpAddr::V6(v6) = address else { return false };
    let within = |prefix: Ipv6Addr, length: u32| (v6.to_bits() ^ prefix.to_bits()) >> (128 - length) == 0;
    within(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96)
        || within(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48)
        || within(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16)
        || within(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32)
}

fn answer(answers: &Answers<WitnessResult>, id: u64, outcome: WitnessOutcome, results: &IntCounterVec) {
    let label = match &outcome {
        WitnessOutcome::Passed { .. } => "passed",
        WitnessOutcome::Failed { .. } => "failed",
        WitnessOutcome::Declined(decline) => decline.label(),
    };
    results.with_label_values(&[label]).inc();
    if !answers.tell(WitnessResult { id, outcome }) {
        results.with_label_values(&["untold"]).inc();
    }
}

/// Carries out what is ordered for as long as there may be sessions, at most `rate` orders a second.
pub async fn work(
    mut tasks: mpsc::Receiver<Task>,
    rate: u32,
    prober: Arc<Prober>,
    clock: Clock,
    results: IntCounterVec,
) {
    let mut bench = Bench::new(rate, results, clock.now());
    let mut probes: JoinSet<(Key, WitnessOutcome)> = JoinSet::new();
    loop {
        let impatient = bench.deadline().map(|at| clock.instant(at));
        tokio::select! {
            biased;
            Some(ended) = probes.join_next() => match ended {
                Ok((key, outcome)) => bench.ended(key, &outcome, clock.now()),
                Err(e) => tracing::error!(error = %e, "a probe on order failed"),
            },
            () = sleep_until(impatient) => bench.expire(clock.now()),
            task = tasks.recv() => {
                let Some(task) = task else { return };
                if let Some((key, probe)) = bench.take(task, clock.now()) {
                    let prober = Arc::clone(&prober);
                    probes.spawn(async move { (key, attempts(prober, probe).await) });
                }
            }
        }
    }
}

/// Sleeps until a moment, if there is one, else for ever.
async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Starts every attempt at its time; the first that passes ends them all.
async fn attempts(prober: Arc<Prober>, probe: Probe) -> WitnessOutcome {
    let mut under_way = JoinSet::new();
    for start in probe.starts {
        let (prober, kind) = (Arc::clone(&prober), probe.kind.clone());
        under_way.spawn(async move {
            tokio::time::sleep(start).await;
            nearmost_probe::run(&prober, probe.target, &kind, probe.timeout).await
        });
    }
    let mut last = String::from("no attempt ended");
    while let Some(ended) = under_way.join_next().await {
        match ended {
            Ok(CheckOutcome::Pass { took }) => {
                // The set's end is that of attempts that are still under way.
                return WitnessOutcome::Passed {
                    rtt_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
                };
            }
            Ok(CheckOutcome::Fail { reason, .. }) => last = reason,
            Err(e) => tracing::error!(error = %e, "an attempt failed to run"),
        }
    }
    WitnessOutcome::Failed { reason: last.chars().take(MAX_REASON_CHARS).collect() }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
