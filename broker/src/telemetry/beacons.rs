//! Beacons by node: how many came, were missed, came late, and when the node was last heard.
//!
//! The driver owns what it counts of nodes and lays it down here, of so many nodes, at most once a second; scrapes
//! read it and name the nodes by the registry, so that a node that is gone vanishes. Those that have been silent
//! for longest come first; one that was never heard has been silent since the broker started.

use crate::publish::SnapshotReader;
use nearmost_core::fleet::BeaconTally;
use nearmost_core::id::NodeId;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounterVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two times that the driver lays down what it knows.
const EVERY: Duration = Duration::from_secs(1);

/// Silence below this is nothing: which nodes are shown must not change with every beacon.
const QUIET: Duration = Duration::from_secs(5);

/// Of one node: what came, and for how long nothing has.
type Beacons = (BeaconTally, Duration);

#[derive(Default)]
struct Page {
    written: Option<Instant>,
    nodes: HashMap<NodeId, Beacons>,
}

/// `nearmost_node_beacons_total{node,outcome}` and `nearmost_node_heard_ago_seconds{node}`.
#[derive(Clone)]
pub struct BeaconBook {
    page: Arc<Mutex<Page>>,
    /// Nodes that are laid down.
    most: usize,
    began: Instant,
}

impl BeaconBook {
    /// Registers them, for at most so many nodes.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry, snapshot: SnapshotReader, most: usize) -> Result<BeaconBook, Error> {
        let book = BeaconBook { page: Arc::default(), most, began: crate::clock::mono_now() };
        let desc = Families::new()?.all().into_iter().flat_map(Collector::desc).cloned().collect();
        registry.register(Box::new(BeaconCollector { book: book.clone(), snapshot, desc }))?;
        Ok(book)
    }

    /// Takes over what is known of nodes, if it is time.
    pub fn lay_down<I: Iterator<Item = (NodeId, BeaconTally, Option<Duration>)>>(
        &self,
        now: Instant,
        nodes: impl FnOnce() -> I,
    ) {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        if page.written.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            return;
        }
        page.written = Some(now);
        page.nodes.clear();
        if self.most == 0 {
            return;
        }
        let age = now.saturating_duration_since(self.began);
        let mut all: Vec<_> = nodes().map(|(id, tally, heard)| (id, (tally, heard.unwrap_or(age)))).collect();
        if all.len() > self.most {
            let trouble = |silent: Duration| if silent < QUIET { Duration::ZERO } else { silent };
            all.select_nth_unstable_by(self.most - 1, |(a, (_, x)), (b, (_, y))| {
                trouble(*y).cmp(&trouble(*x)).then_with(|| a.0.cmp(&b.0))
            });
            all.truncate(self.most);
        }
        page.nodes.extend(all);
    }
}

struct Families {
    beacons: IntCounterVec,
    heard: GaugeVec,
}

impl Families {
    fn new() -> Result<Families, Error> {
        Ok(Families {
            beacons: IntCounterVec::new(
                Opts::new(
                    "nearmost_node_beacons_total",
                    "Beacons of a node: heard in order, missed when a later one came, and of the missed those that came late.",
                ),
                &["node", "outcome"],
            )?,
            heard: GaugeVec::new(
                Opts::new(
                    "nearmost_node_heard_ago_seconds",
                    "Time since a node's last beacon, or since the broker started where none came.",
                ),
                &["node"],
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 2] {
        [&self.beacons, &self.heard]
    }
}

struct BeaconCollector {
    book: BeaconBook,
    snapshot: SnapshotReader,
    desc: Vec<Desc>,
}

impl BeaconCollector {
    fn fill(&self, families: &Families) {
        let now = crate::clock::mono_now();
        let snapshot = self.snapshot.load();
        let page = self.book.page.lock().unwrap_or_else(PoisonError::into_inner);
        let since = page.written.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        for node in &snapshot.registry.nodes {
            let Some((tally, heard)) = node.id.and_then(|id| page.nodes.get(&id)) else { continue };
            for (outcome, n) in [("heard", tally.heard), ("missed", tally.missed), ("late", tally.late)] {
                families.beacons.with_label_values(&[&*node.name, outcome]).inc_by(n);
            }
            let ago = (*heard + since).as_secs_f64();
            families.heard.with_label_values(&[&*node.name]).set(ago);
        }
    }
}

impl Collector for BeaconCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names and labels were accepted at registration, so there is no error to lose.
        let Ok(families) = Families::new() else { return Vec::new() };
        self.fill(&families);
        let all = families.all().into_iter().flat_map(Collector::collect);
        // A family without a series cannot be written down.
        all.filter(|f| !f.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;

    #[test]
    fn nodes_have_series_up_to_a_bound_and_are_laid_down_once_a_second() {
        let fixture = Fixture::five_mirrors();
        let registry = Registry::new();
        let book = BeaconBook::register(&registry, fixture.reader(), 2).unwrap();
        let now = crate::clock::mono_now();
        let of = |heard| {
            move || {
                let tally = BeaconTally { heard, missed: 3, late: 1 };
                (1..=6).map(move |n| (NodeId([n; 32]), tally, Some(Duration::from_secs(70))))
            }
        };
        book.lay_down(now, of(10));
        book.lay_down(now + EVERY / 2, of(99));
        let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let said = text();
        assert!(
            said.contains("nearmost_node_beacons_total{node=\"lon-node\",outcome=\"heard\"} 10\n"),
            "{said}"
        );
        assert!(
            said.contains("nearmost_node_beacons_total{node=\"lon-node\",outcome=\"late\"} 1\n"),
            "{said}"
        );
        assert_eq!(said.matches("nearmost_node_heard_ago_seconds{").count(), 2, "{said}");
        let ago =
            said.lines().find_map(|l| l.strip_prefix("nearmost_node_heard_ago_seconds{node=\"lon-node\"} "));
        assert!(ago.unwrap().parse::<f64>().unwrap() >= 70.0);
        book.lay_down(now + EVERY, of(99));
        assert!(text().contains("outcome=\"heard\"} 99\n"));
    }

    #[test]
    fn those_silent_for_longest_come_first() {
        let fixture = Fixture::five_mirrors();
        let registry = Registry::new();
        let book = BeaconBook::register(&registry, fixture.reader(), 3).unwrap();
        let heard = |n: u8| match n {
            4 => Some(Duration::from_secs(70)),
            // Never.
            5 => None,
            n => Some(Duration::from_millis(u64::from(n))),
        };
        let nodes = (1..=5).rev().map(|n| (NodeId([n; 32]), BeaconTally::default(), heard(n)));
        book.lay_down(book.began + Duration::from_secs(60), || nodes);
        let page = book.page.lock().unwrap();
        let mut shown: Vec<_> = page.nodes.iter().map(|(id, (_, silent))| (id.0[0], *silent)).collect();
        shown.sort_unstable();
        let seconds = Duration::from_secs;
        assert_eq!(shown, [(1, Duration::from_millis(1)), (4, seconds(70)), (5, seconds(60))]);
    }
}
