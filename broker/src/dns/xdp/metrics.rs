//! What AF_XDP counts besides what every query counts as one over UDP.

use crate::dns::metrics::registered;
use nearmost_xdp::Lost;
use nearmost_xdp::frame::Refusal;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// AF_XDP as Prometheus sees it.
#[derive(Clone, Debug)]
pub struct XdpMetrics {
    /// `nearmost_dns_xdp_active`: whether all of an interface's queues are served, by interface; the configuration bounds them.
    active: IntGaugeVec,
    counted: Counted,
}

/// What workers share.
#[derive(Clone, Debug)]
struct Counted {
    /// `nearmost_dns_xdp_queries_total`: datagrams that were read.
    queries: IntCounter,
    /// `nearmost_dns_xdp_refused_total`: frames that were not, by reason.
    refused: [IntCounter; Refusal::ALL.len()],
    /// `nearmost_dns_xdp_lost_total`: in the order of [`LOST`].
    lost: [IntCounter; LOST.len()],
}

/// What one worker counted: it keeps that to itself, for the counters are on lines of the cache that all would
/// fight for, and adds it up now and then.
#[derive(Debug)]
pub(super) struct Tally {
    counted: Counted,
    queries: u64,
    refused: [u64; Refusal::ALL.len()],
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
            "1 while DNS queries are taken from all of the interface's queues (AF_XDP), 0 while sockets serve some or all.",
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

    /// Says whether all of an interface's queues are served.
    pub(super) fn active(&self, interface: &str, active: bool) {
        self.active.with_label_values(&[interface]).set(active.into());
    }

    /// What was said last.
    #[cfg(test)]
    pub(super) fn is_active(&self, interface: &str) -> i64 {
        self.active.with_label_values(&[interface]).get()
    }

    /// For a worker.
    pub(super) fn tally(&self) -> Tally {
        Tally { counted: self.counted.clone(), queries: 0, refused: Default::default() }
    }
}

impl Tally {
    /// One datagram that was read.
    pub(super) fn query(&mut self) {
        self.queries += 1;
    }

    /// One frame that was not.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        let at = Refusal::ALL.iter().position(|of| *of == refusal);
        if let Some(count) = at.and_then(|at| self.refused.get_mut(at)) {
            *count += 1;
        }
    }

    /// Shows what was counted since the last time, and what was lost since then.
    pub(super) fn show(&mut self, lost: Lost) {
        let Lost { ring_full, no_frame, dropped, unsent } = lost;
        let lost = self.counted.lost.iter().zip([ring_full, no_frame, dropped, unsent]);
        let refused = self.counted.refused.iter().zip(std::mem::take(&mut self.refused));
        let queries = (&self.counted.queries, std::mem::take(&mut self.queries));
        for (counter, count) in lost.chain(refused).chain([queries]).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_counted_is_shown_once() {
        let metrics = XdpMetrics::register(&Registry::new()).unwrap();
        let mut tally = metrics.tally();
        tally.query();
        tally.query();
        tally.refused(Refusal::Checksum);
        assert_eq!(metrics.counted.queries.get(), 0, "not yet");
        tally.show(Lost { unsent: 3, ..Lost::default() });
        tally.show(Lost::default());
        assert_eq!(metrics.counted.queries.get(), 2);
        assert_eq!(metrics.counted.refused.each_ref().map(IntCounter::get), [0, 0, 1, 0]);
        assert_eq!(metrics.counted.lost.each_ref().map(IntCounter::get), [0, 0, 0, 3]);
    }
}
