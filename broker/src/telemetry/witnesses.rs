//! Counters of agents asked as witnesses.

use super::{counters, from_zero};
use nearmost_wire::witness::Decline;
use prometheus::{Error, IntCounterVec, Registry};

/// What became of questions to witnesses.
#[derive(Clone)]
pub struct WitnessMetrics {
    /// `nearmost_witness_orders_total{result}`: questions, by whether a session took them.
    pub orders: IntCounterVec,
    /// `nearmost_witness_answers_total{result}`: answers; those that say why they decline by the reason.
    pub answers: IntCounterVec,
}

impl WitnessMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<WitnessMetrics, Error> {
        let orders = counters(
            registry,
            "nearmost_witness_orders_total",
            "Questions to agents about other nodes' mirrors, by whether a session took them.",
            &["result"],
        )?;
        let answers =
            counters(registry, "nearmost_witness_answers_total", "What agents answered them.", &["result"])?;
        from_zero(&orders, ["sent", "dropped"]);
        from_zero(&answers, ["passed", "failed", "unknown"]);
        from_zero(&answers, Decline::ALL.map(Decline::label));
        Ok(WitnessMetrics { orders, answers })
    }
}
