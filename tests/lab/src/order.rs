//! What the lab tells its router, a line of JSON each, and what the router says to it.

use crate::pipe::{Burst, Late, Limit, Shape};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A change of some of a pipe's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// One way, in milliseconds.
    pub delay_ms: Option<f64>,
    /// On top of the delay, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Percent of packets that are lost.
    pub loss_percent: Option<f64>,
    /// Losses that come together.
    pub burst: Option<Burst>,
    /// Percent of packets that are overtaken …
    pub reorder_percent: Option<f64>,
    /// … by those of so many milliseconds; 5 if nothing is said.
    pub reorder_ms: Option<f64>,
    /// A bottleneck.
    pub limit: Option<Limit>,
    /// Longer packets do not pass.
    pub mtu: Option<u16>,
    /// Nothing passes.
    pub blackhole: Option<bool>,
}

impl Change {
    /// The shape that comes of it.
    pub fn of(&self, mut shape: Shape) -> Shape {
        let ms = |ms: f64| Duration::from_secs_f64(ms.clamp(0.0, 1e6) / 1e3);
        let share = |percent: f64| (percent / 100.0).clamp(0.0, 1.0);
        shape.delay = self.delay_ms.map_or(shape.delay, ms);
        shape.jitter = self.jitter_ms.map_or(shape.jitter, ms);
        shape.loss = self.loss_percent.map_or(shape.loss, share);
        shape.burst = self.burst.or(shape.burst);
        if let Some(percent) = self.reorder_percent {
            shape.late = Some(Late { share: share(percent), by: ms(self.reorder_ms.unwrap_or(5.0)) });
        }
        shape.limit = self.limit.or(shape.limit);
        shape.mtu = self.mtu.or(shape.mtu);
        shape.blackhole = self.blackhole.unwrap_or(shape.blackhole);
        shape
    }
}

/// What the router is to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Set both directions between two hosts to a delay, for good.
    Base {
        /// One host.
        a: u8,
        /// The other.
        b: u8,
        /// One way, in milliseconds.
        delay_ms: f64,
    },
    /// Change the pipes from `from` to `to` until they are reset; without one, all of that side.
    Shape {
        /// Packets of this host.
        from: Option<u8>,
        /// Packets to this host.
        to: Option<u8>,
        /// What changes.
        change: Change,
    },
    /// Say to senders when a packet is too long, or do not.
    TellTooLong {
        /// Whether.
        told: bool,
    },
    /// Everything as the base says; translators stay.
    Reset,
    /// A host is behind a translator from now on, or is not.
    Nat {
        /// Which.
        host: u8,
        /// Whether it is.
        on: bool,
    },
    /// Its translator forgets all.
    Rebind {
        /// Which host's.
        host: u8,
    },
    /// Say how it went since the last report.
    Report,
}

/// What the router says when an order is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// When it was, in nanoseconds of the lab's clock.
    pub at_ns: u64,
    /// What was asked for.
    pub report: Option<Report>,
    /// What was wrong with the order.
    pub error: Option<String>,
}

/// How the router did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Packets passed on.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Into blackholes.
    pub blackholed: u64,
    /// Longer than what passes.
    pub too_long: u64,
    /// Before a bottleneck, or since too many were under way.
    pub queue_full: u64,
    /// For nobody, or not understood.
    pub strays: u64,
    /// How much later than due packets were passed on, in microseconds: half of them …
    pub late_p50_us: u64,
    /// … 99 in a hundred …
    pub late_p99_us: u64,
    /// … and the latest.
    pub late_max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_changes() {
        let base = Shape::delay(Duration::from_millis(5));
        let change: Change = serde_json::from_str(r#"{"loss_percent": 30, "reorder_percent": 1}"#).unwrap();
        let shape = change.of(base);
        assert_eq!((shape.delay, shape.loss), (base.delay, 0.3));
        assert_eq!(shape.late, Some(Late { share: 0.01, by: Duration::from_millis(5) }));
        assert!(serde_json::from_str::<Change>(r#"{"los": 1}"#).unwrap_err().to_string().contains("`los`"));
    }

    #[test]
    fn orders_are_lines() {
        let order = Order::Shape { from: Some(1), to: None, change: Change::default() };
        let line = serde_json::to_string(&order).unwrap();
        assert!(line.starts_with(r#"{"do":"shape","from":1"#), "{line}");
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
    }
}
