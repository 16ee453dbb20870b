//! What AF_XDP counts besides what every query counts as one over UDP.

use crate::dns::metrics::registered;
use nearmost_xdp::Lost;
use nearmost_xdp::frame::Refusal;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// AF_XDP as Prometheus sees it.
#[derive(Clone, Debug)]
pub struct XdpMetrics {
    /// `nearmost_dns_xdp_active`: whether an interface's queues are served, by interface; the configuration bounds them.
    active: IntGaugeVec,
    counted: Counted,
}

/// What workers count.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// `nearmost_dns_xdp_queries_total`: datagrams that were read.
    queries: IntCounter,
    /// `nearmost_dns_xdp_refused_total`: frames that were not, by reason.
    refused: [IntCounter; Refusal::ALL.len()],
    /// `nearmost_dns_xdp_lost_total`: in the order of [`LOST`].
    lost: [IntCounter; LOST.len()],
}

const LOST: [&str; 4] = ["ring_full", "no_frame", "dropped", "unsent"];

impl XdpMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn register(registry: &Registry) -> Result<XdpMetrics, prometheus::Error> {
        let active = Opts::new(
            "nearmost_dns_xdp_active",
            "1 while DNS queries are taken from the interface's queues (AF_XDP), 0 while sockets serve alone.",
        );
        let by_reason = |name: &str, help: &str| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), &["reason"])?)
        };
        let refused =
            by_reason("nearmost_dns_xdp_refused_total", "Frames of AF_XDP that could not be answered.")?;
        let lost = by_reason(
            "nearmost_dns_xdp_lost_total",
            "Frames of AF_XDP that were lost: queries that the kernel had no room for, replies that it did not take.",
        )?;
        let queries =
            IntCounter::new("nearmost_dns_xdp_queries_total", "Datagrams to DNS that came by AF_XDP.")?;
        Ok(XdpMetrics {
            active: registered(registry, IntGaugeVec::new(active, &["interface"])?)?,
            counted: Counted {
                queries: registered(registry, queries)?,
                refused: Refusal::ALL.map(|reason| refused.with_label_values(&[reason.as_str()])),
                lost: LOST.map(|reason| lost.with_label_values(&[reason])),
            },
        })
    }

    /// Says whether an interface's queues are served.
    pub(super) fn active(&self, interface: &str, active: bool) {
        self.active.with_label_values(&[interface]).set(active.into());
    }

    /// What was said last.
    #[cfg(test)]
    pub(super) fn is_active(&self, interface: &str) -> i64 {
        self.active.with_label_values(&[interface]).get()
    }

    /// For a worker.
    pub(super) fn counted(&self) -> Counted {
        self.counted.clone()
    }
}

impl Counted {
    pub(super) fn queries(&self, count: u64) {
        self.queries.inc_by(count);
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        let at = Refusal::ALL.iter().position(|of| *of == refusal);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.inc();
        }
    }

    pub(super) fn lost(&self, lost: Lost) {
        let Lost { ring_full, no_frame, dropped, unsent } = lost;
        for (counter, count) in self.lost.iter().zip([ring_full, no_frame, dropped, unsent]) {
            counter.inc_by(count);
        }
    }
}
