//! Carries out the fleet's probe orders and hands the results back to the driver.
//!
//! Each probe has its own timeout, so one slow mirror holds only its own place. An order that finds
//! no free place is handed back at once: waiting here would count as the mirror's silence. A quarter of the
//! places is for what is urgent, so that regular looks at many mirrors, or at many that are dead, never
//! keep a new suspicion waiting.

use crate::driver::{DriverHandle, DriverInput};
use crate::telemetry::ProbeMetrics;
use nearmost_core::check::CheckOutcome;
use nearmost_core::fleet::{ProbeAnswer, ProbeOrder};
use nearmost_probe::Prober;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Runs probes.
#[derive(Clone)]
pub struct Probes {
    prober: Arc<Prober>,
    places: Arc<Semaphore>,
    /// Of these, so many are for what is not urgent.
    calm: Arc<Semaphore>,
    metrics: ProbeMetrics,
    cancel: CancellationToken,
}

impl Probes {
    /// At most `max_in_flight` at once.
    pub fn new(
        prober: Prober,
        max_in_flight: usize,
        metrics: ProbeMetrics,
        cancel: CancellationToken,
    ) -> Probes {
        let calm = (max_in_flight - max_in_flight / 4).max(1);
        let [places, calm] = [max_in_flight, calm].map(|n| Arc::new(Semaphore::new(n)));
        Probes { prober: Arc::new(prober), places, calm, metrics, cancel }
    }

    /// Starts one probe; its result reaches `driver`.
    pub fn start(&self, order: ProbeOrder, driver: DriverHandle) {
        let this = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = this.cancel.cancelled() => {}
                () = this.run(order, driver) => {}
            }
        });
    }

    async fn run(&self, order: ProbeOrder, driver: DriverHandle) {
        let calm = (!order.urgent).then(|| self.calm.try_acquire()).transpose();
        let (Ok(_calm), Ok(_place)) = (calm, self.places.try_acquire()) else {
            self.metrics.skipped.inc();
            driver.send(DriverInput::ProbeSkipped(order.token)).await;
            return;
        };
        self.metrics.started.inc();
        let target = SocketAddr::new(order.addr, order.port);
        let outcome = nearmost_probe::run(&self.prober, target, &order.spec.kind, order.spec.timeout).await;
        let answer = match outcome {
            CheckOutcome::Pass { took } => {
                self.metrics.passed.inc();
                ProbeAnswer::Passed(took)
            }
            CheckOutcome::Fail { reason, answered } => {
                tracing::debug!(%target, reason, answered, "probe failed");
                self.metrics.failed.inc();
                if answered { ProbeAnswer::Refused } else { ProbeAnswer::Silent }
            }
        };
        driver.send(DriverInput::ProbeResult { token: order.token, answer }).await;
    }
}
