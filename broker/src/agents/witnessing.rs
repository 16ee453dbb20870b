//! The way of the fleet's questions to witnesses: from the driver into the sessions of their agents.
//!
//! Answers come back through the sessions as [`crate::driver::DriverInput::Witnessed`]. A witness
//! without a session, or without room for another order, declines on the spot.

use super::orders::{Ask, Ordered};
use super::table::SessionTable;
use crate::telemetry::WitnessMetrics;
use nearmost_core::fleet::{WitnessOrder, Witnessed};
use nearmost_core::registry::Registry;
use nearmost_wire::registry::ProbeBody;
use nearmost_wire::witness;
use std::sync::Arc;
use std::time::Duration;

/// Asks witnesses.
#[derive(Clone)]
pub struct Witnesses {
    table: Arc<SessionTable>,
    metrics: WitnessMetrics,
}

impl Witnesses {
    /// Through the sessions of `table`.
    pub fn new(table: Arc<SessionTable>, metrics: WitnessMetrics) -> Witnesses {
        Witnesses { table, metrics }
    }

    /// Hands an order to the witness's session; whether it was taken.
    pub fn ask(&self, order: &WitnessOrder, registry: &Registry) -> bool {
        let sent = message(order, registry).is_some_and(|body| {
            let ask = Ask { token: order.token, order: body };
            self.table.order(&order.witness, Ordered::Witness(Box::new(ask)))
        });
        self.metrics.orders.with_label_values(&[if sent { "sent" } else { "dropped" }]).inc();
        sent
    }
}

/// The order as agents read it, but for its number; `None` for a probe that is not carried out for
/// others.
fn message(order: &WitnessOrder, registry: &Registry) -> Option<witness::WitnessOrder> {
    let mirror = registry.mirrors.get(order.mirror.0 as usize)?;
    let ms = |d: &Duration| u16::try_from(d.as_millis()).unwrap_or(u16::MAX);
    let (low, high) = (*witness::TIMEOUT_MS.start(), *witness::TIMEOUT_MS.end());
    let timeout_ms = u32::try_from(order.spec.timeout.as_millis()).unwrap_or(high).clamp(low, high);
    let message = witness::WitnessOrder {
        id: 0,
        domain: registry.domain(mirror.domain).name.to_string(),
        mirror: mirror.name.to_string(),
        address: order.addr,
        port: order.port,
        probe: ProbeBody::of(&order.spec.kind)?,
        attempts_ms: order.attempts.iter().map(ms).collect(),
        timeout_ms,
    };
    message.check().is_ok().then_some(message)
}

impl WitnessMetrics {
    /// Counts an answer; what it says of the mirror. Of one that was not asked for nothing is believed.
    pub fn heard(&self, asked: bool, outcome: &witness::WitnessOutcome) -> Witnessed {
        let (label, said) = match outcome {
            _ if !asked => ("unknown", Witnessed::Declined),
            witness::WitnessOutcome::Passed { rtt_us } => {
                ("passed", Witnessed::Passed(Duration::from_micros((*rtt_us).into())))
            }
            witness::WitnessOutcome::Failed { .. } => ("failed", Witnessed::Failed),
            witness::WitnessOutcome::Declined(why) => (why.label(), Witnessed::Declined),
        };
        self.answers.with_label_values(&[label]).inc();
        said
    }
}
