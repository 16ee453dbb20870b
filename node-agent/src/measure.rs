//! Measures the way to other mirrors, as brokers order it: the time that a TCP connection takes.
//!
//! ```text
//! orders of all sessions ─▶ allowed? room? ─▶ paced ─▶ a few at a time ─▶ the session's answers
//!                              └── refused: answered at once ──────────────────▲
//! ```
//!
//! Only brokers that the operator joined have sessions, so only they can order. Still an order is
//! refused that would have the agent connect to itself or to its link: see [`allowed`]. The agent
//! alone decides how fast: what comes faster than `paths.measures_per_second` waits, what has no
//! room to wait is answered as not measured, and all of it is counted. It runs in tasks of its own and
//! never holds up the loop that sends beacons.

use crate::metrics::PathMetrics;
use crate::orders::{self, Answers, Intake, Lane};
use crate::paths::Watched;
use crate::paths::aggregate::link_local;
use nearmost_core::check::{CheckKind, CheckOutcome};
use nearmost_probe::Prober;
use nearmost_wire::paths::{MAX_ORDERS, MeasureOrder, Measurement};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

/// Connections that are timed for one order; the least counts.
const ATTEMPTS: usize = 3;
/// How long all of them may take together.
const LIMIT: Duration = Duration::from_secs(3);
/// Orders that are carried out at once.
const AT_ONCE: usize = 4;
/// Orders of all sessions that may wait.
const QUEUE: usize = 256;
/// Orders of one session that may wait, so that no broker takes all the room.
const OF_ONE: usize = MAX_ORDERS;
/// Answers that a session may have waiting to be written.
pub const ANSWERS: usize = 2 * MAX_ORDERS;

/// Where all sessions hand in their orders.
#[derive(Clone)]
pub struct Measurer {
    intake: Intake<MeasureOrder, Measurement>,
    services: watch::Receiver<Vec<Watched>>,
    metrics: PathMetrics,
}

/// Where one session hands in its orders.
pub struct Orders {
    measurer: Measurer,
    lane: Lane<MeasureOrder, Measurement>,
}

/// An order that waits.
pub type Task = orders::Task<MeasureOrder, Measurement>;

/// What became of an order, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was measured.
    Measured(Duration),
    /// Nothing answered there.
    Failed,
    /// The address is none that is connected to on order.
    Forbidden,
    /// There was no room for it.
    Overload,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Measured(_) => "measured",
            Outcome::Failed => "failed",
            Outcome::Forbidden => "forbidden",
            Outcome::Overload => "overload",
        }
    }
}

/// The two ends of the one queue.
pub fn channel(
    services: watch::Receiver<Vec<Watched>>,
    metrics: PathMetrics,
) -> (Measurer, mpsc::Receiver<Task>) {
    let (intake, tasks) = orders::channel(QUEUE);
    (Measurer { intake, services, metrics }, tasks)
}

/// Whether the agent connects to an address on order: never to what is no other machine's address
/// (unspecified, multicast, broadcast), nor to its link, where there may be what only it can reach;
/// to loopback only when a service of its own is there, as in the demo.
pub fn allowed(address: IpAddr, port: u16, on_loopback: bool) -> bool {
    let address = address.to_canonical();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let nobody = address.is_unspecified() || address.is_multicast() || broadcast || link_local(address);
    port != 0 && !nobody && (on_loopback || !address.is_loopback())
}

impl Measurer {
    /// For a session with a broker; the answers come out of the receiver.
    pub fn session(&self, broker: usize) -> (Orders, mpsc::Receiver<Measurement>) {
        let (lane, received) = self.intake.session(broker, OF_ONE, ANSWERS);
        (Orders { measurer: self.clone(), lane }, received)
    }
}

impl Orders {
    /// Takes the orders that there is room for; the others are answered at once.
    pub fn take(&self, orders: Vec<MeasureOrder>) {
        let on_loopback = self.measurer.services.borrow().iter().any(Watched::on_loopback);
        for order in orders {
            let outcome = match allowed(order.address, order.port, on_loopback) {
                false => Outcome::Forbidden,
                true if self.lane.queue(order) => continue,
                true => Outcome::Overload,
            };
            answer(&self.lane.answers, order.id, outcome, &self.measurer.metrics);
        }
    }
}

fn answer(answers: &Answers<Measurement>, id: u64, outcome: Outcome, metrics: &PathMetrics) {
    metrics.measures.with_label_values(&[outcome.label()]).inc();
    let rtt_us = match outcome {
        Outcome::Measured(rtt) => Some(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
        _ => None,
    };
    if !answers.tell(Measurement { id, rtt_us }) {
        metrics.measures.with_label_values(&["untold"]).inc();
    }
}

/// Carries out what is ordered, at most so much a second, for as long as there may be sessions.
/// With a rate of 0 it returns at once, and every order finds no room.
pub async fn work(mut tasks: mpsc::Receiver<Task>, rate: u32, prober: Arc<Prober>, metrics: PathMetrics) {
    let Some(gap) = Duration::from_secs(1).checked_div(rate) else { return };
    let mut pace = tokio::time::interval(gap);
    // What was not used before is not made up for.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(task) = tasks.recv().await {
        if task.answers.is_closed() {
            continue;
        }
        pace.tick().await;
        // The semaphore is never closed, so there is no error to lose.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (prober, metrics) = (Arc::clone(&prober), metrics.clone());
        tokio::spawn(async move {
            let target = SocketAddr::new(task.order.address.to_canonical(), task.order.port);
            let outcome = measure(&prober, target).await.map_or(Outcome::Failed, Outcome::Measured);
            answer(&task.answers, task.order.id, outcome, &metrics);
            drop(slot);
        });
    }
}

/// The least time of a few connections; none when the first does not come about.
async fn measure(prober: &Prober, target: SocketAddr) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    let attempts = async {
        for _ in 0..ATTEMPTS {
            match nearmost_probe::run(prober, target, &CheckKind::Tcp, LIMIT).await {
                CheckOutcome::Pass { took } => least = Some(least.map_or(took, |least| least.min(took))),
                CheckOutcome::Fail { .. } => break,
            }
        }
    };
    // What was timed until then counts.
    let _ = tokio::time::timeout(LIMIT, attempts).await;
    least
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
