//! What taking in beacons costs, and how often they are asked for.

use super::registered;
use prometheus::{Counter, Error, Gauge, Registry};
use std::time::Duration;

/// The cost of beacons.
#[derive(Clone)]
pub struct IntakeMetrics {
    /// `nearmost_beacon_intake_seconds_total`: time spent reading, authenticating and noting agents'
    /// beacons; the share of datagrams that were rejected is not in it.
    pub seconds: Counter,
    /// `nearmost_beacon_period_seconds`: time between two beacons that agents are asked for.
    pub period: Gauge,
}

impl IntakeMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<IntakeMetrics, Error> {
        let seconds = Counter::new(
            "nearmost_beacon_intake_seconds_total",
            "Time spent reading, authenticating and noting agents' beacons, without the share of rejected ones.",
        )?;
        let period = Gauge::new(
            "nearmost_beacon_period_seconds",
            "Time between two beacons that agents are asked for; longer than configured under load.",
        )?;
        Ok(IntakeMetrics { seconds: registered(registry, seconds)?, period: registered(registry, period)? })
    }

    /// Counts time.
    pub fn spent(&self, time: Duration) {
        self.seconds.inc_by(time.as_secs_f64());
    }
}
