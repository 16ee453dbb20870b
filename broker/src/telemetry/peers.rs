//! What is counted of the talk with other brokers.

use super::{counter, counters, from_zero};
use nearmost_core::time::UnixMillis;
use nearmost_replica::message::{Answer, Message};
use nearmost_wire::peer::Refusal;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Peers with series of their own; the others, by name the last, share those of [`OTHER`].
const NAMED: usize = 64;
/// The name of the rest.
const OTHER: &str = "other";
/// States of a peer.
const STATES: [&str; 3] = ["up", "dialling", "down"];

/// What the task that talks with other brokers counts. What belongs to one peer vanishes with it.
#[derive(Clone)]
pub struct PeerMetrics {
    now: Arc<Mutex<Vec<PeerSample>>>,
    /// `nearmost_peer_delivered_total{answer}`: records that peers answered, by their answer.
    pub delivered: IntCounterVec,
    /// `nearmost_peer_received_total{answer}`: records that peers delivered, by what they were answered.
    pub received: IntCounterVec,
    /// `nearmost_peer_comparisons_total`: comparisons of everything that came to their end.
    pub comparisons: IntCounter,
    /// `nearmost_peer_compared_records_total`: records received in comparisons.
    pub compared_records: IntCounter,
    /// `nearmost_peer_retries_total`: records sent again after an answer that may pass.
    pub retries: IntCounter,
    /// `nearmost_peer_expired_total`: records that waited for too long and were dropped.
    pub expired: IntCounter,
    /// `nearmost_peer_refused_total{answer}`: records that peers refused for good.
    pub refused: IntCounterVec,
    /// `nearmost_peer_breaches_total{kind}`: connections ended because a peer broke the protocol.
    pub breaches: IntCounterVec,
    /// `nearmost_peer_connections_refused_total{reason}`: connections of brokers that were refused.
    pub connections_refused: IntCounterVec,
}

/// How it stands with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSample {
    /// Its name.
    pub name: String,
    /// `up`, `dialling` or `down`.
    pub state: &'static str,
    /// Records that it was not told yet.
    pub queued: u64,
    /// Age of the oldest of them.
    pub oldest: Option<Duration>,
    /// The round trip to it.
    pub rtt: Option<Duration>,
    /// When it was last heard; 0 for never.
    pub contact: UnixMillis,
    /// When everything was last compared with it; 0 for never.
    pub compared: UnixMillis,
}

impl PeerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<PeerMetrics, Error> {
        let now = Arc::new(Mutex::new(Vec::new()));
        registry.register(Box::new(PeerCollector { now: now.clone(), desc: Families::new()?.desc() }))?;
        let counter = |name, help| counter(registry, name, help);
        let counters = |name, help, label| counters(registry, name, help, &[label]);
        let metrics = PeerMetrics {
            now,
            delivered: counters(
                "nearmost_peer_delivered_total",
                "Records delivered to other brokers, by their answer.",
                "answer",
            )?,
            received: counters(
                "nearmost_peer_received_total",
                "Records that other brokers delivered, by what they were answered.",
                "answer",
            )?,
            comparisons: counter(
                "nearmost_peer_comparisons_total",
                "Comparisons of everything with another broker that came to their end.",
            )?,
            compared_records: counter(
                "nearmost_peer_compared_records_total",
                "Records received from other brokers in comparisons of everything.",
            )?,
            retries: counter(
                "nearmost_peer_retries_total",
                "Records sent again to other brokers after an answer that may pass.",
            )?,
            expired: counter(
                "nearmost_peer_expired_total",
                "Records that waited for another broker for too long and were dropped.",
            )?,
            refused: counters(
                "nearmost_peer_refused_total",
                "Records that other brokers refused for good, by their answer.",
                "answer",
            )?,
            breaches: counters(
                "nearmost_peer_breaches_total",
                "Connections ended because the other broker broke the protocol, by how.",
                "kind",
            )?,
            connections_refused: counters(
                "nearmost_peer_connections_refused_total",
                "Connections of brokers that were refused, by reason.",
                "reason",
            )?,
        };
        for by_answer in [&metrics.delivered, &metrics.received, &metrics.refused] {
            from_zero(by_answer, Answer::LABELS);
        }
        from_zero(&metrics.breaches, Message::<()>::LABELS);
        from_zero(&metrics.connections_refused, Refusal::ALL.map(Refusal::label));
        Ok(metrics)
    }

    /// How it stands with every peer, in place of what was said before.
    pub fn set(&self, peers: Vec<PeerSample>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = peers;
    }
}

struct Families {
    states: IntGaugeVec,
    up: IntGaugeVec,
    contact: GaugeVec,
    compared: GaugeVec,
    queued: IntGaugeVec,
    oldest: GaugeVec,
    rtt: GaugeVec,
}

impl Families {
    fn new() -> Result<Families, Error> {
        let peer = ["peer"];
        Ok(Families {
            states: IntGaugeVec::new(Opts::new("nearmost_peers", "Other brokers, by state."), &["state"])?,
            up: IntGaugeVec::new(
                Opts::new(
                    "nearmost_peer_up",
                    "1 while another broker is connected; the least for the rest of them.",
                ),
                &peer,
            )?,
            contact: GaugeVec::new(
                Opts::new(
                    "nearmost_peer_contact_timestamp_seconds",
                    "Unix time when another broker was last heard; 0 for never, the earliest for the rest of them.",
                ),
                &peer,
            )?,
            compared: GaugeVec::new(
                Opts::new(
                    "nearmost_peer_compared_timestamp_seconds",
                    "Unix time when everything was last compared with another broker; 0 for never, the earliest for the rest of them.",
                ),
                &peer,
            )?,
            queued: IntGaugeVec::new(
                Opts::new("nearmost_peer_queue_records", "Records that another broker was not told yet."),
                &peer,
            )?,
            oldest: GaugeVec::new(
                Opts::new(
                    "nearmost_peer_queue_oldest_seconds",
                    "Age of the oldest record that another broker was not told yet; 0 for none.",
                ),
                &peer,
            )?,
            rtt: GaugeVec::new(
                Opts::new(
                    "nearmost_peer_round_trip_seconds",
                    "Round trip to another broker; the longest for the rest of them.",
                ),
                &peer,
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 7] {
        let Families { states, up, contact, compared, queued, oldest, rtt } = self;
        [states, up, contact, compared, queued, oldest, rtt]
    }

    fn desc(&self) -> Vec<Desc> {
        self.all().into_iter().flat_map(Collector::desc).cloned().collect()
    }

    fn fill(&self, peers: &[PeerSample]) {
        for state in STATES {
            let count = peers.iter().filter(|p| p.state == state).count();
            self.states.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (name, sum) in by_name(peers) {
            self.up.with_label_values(&[name]).set(i64::from(sum.up));
            let seconds = |at: UnixMillis| at.0 as f64 / 1000.0;
            self.contact.with_label_values(&[name]).set(seconds(sum.contact));
            self.compared.with_label_values(&[name]).set(seconds(sum.compared));
            let queued = i64::try_from(sum.queued).unwrap_or(i64::MAX);
            self.queued.with_label_values(&[name]).set(queued);
            self.oldest.with_label_values(&[name]).set(sum.oldest.unwrap_or_default().as_secs_f64());
            if let Some(rtt) = sum.rtt {
                self.rtt.with_label_values(&[name]).set(rtt.as_secs_f64());
            }
        }
    }
}

/// What peers of one series have together.
struct Sum {
    up: bool,
    contact: UnixMillis,
    compared: UnixMillis,
    queued: u64,
    oldest: Option<Duration>,
    rtt: Option<Duration>,
}

/// The series, by name. Two peers of one name share one.
fn by_name(peers: &[PeerSample]) -> BTreeMap<&str, Sum> {
    let names: BTreeSet<&str> = peers.iter().map(|p| p.name.as_str()).collect();
    let named: BTreeSet<&str> = names.into_iter().take(NAMED).collect();
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for peer in peers {
        let name = named.get(peer.name.as_str()).copied().unwrap_or(OTHER);
        let sum = sums.entry(name).or_insert(Sum {
            up: true,
            contact: peer.contact,
            compared: peer.compared,
            queued: 0,
            oldest: None,
            rtt: None,
        });
        sum.up &= peer.state == "up";
        sum.contact = sum.contact.min(peer.contact);
        sum.compared = sum.compared.min(peer.compared);
        sum.queued = sum.queued.saturating_add(peer.queued);
        sum.oldest = sum.oldest.max(peer.oldest);
        sum.rtt = sum.rtt.max(peer.rtt);
    }
    sums
}

/// Reads what was last said at each scrape, so that a peer that is gone vanishes.
struct PeerCollector {
    now: Arc<Mutex<Vec<PeerSample>>>,
    desc: Vec<Desc>,
}

impl Collector for PeerCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The same names were accepted at registration, so there is no error to lose.
        let Ok(families) = Families::new() else { return Vec::new() };
        families.fill(&self.now.lock().unwrap_or_else(PoisonError::into_inner));
        families.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, queued: u64) -> PeerSample {
        let (oldest, rtt) = (Some(Duration::from_secs(queued)), Some(Duration::from_millis(queued)));
        let at = UnixMillis(queued * 1000);
        PeerSample {
            name: name.into(),
            state: "up",
            queued,
            oldest,
            rtt,
            contact: at,
            compared: UnixMillis(0),
        }
    }

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_peer_that_is_gone_vanishes_and_states_are_counted() {
        let registry = Registry::new();
        let metrics = PeerMetrics::register(&registry).unwrap();
        let down = PeerSample { state: "down", rtt: None, ..sample("carol", 0) };
        metrics.set(vec![sample("bob", 2), down]);
        let said = text(&registry);
        for line in [
            "nearmost_peers{state=\"up\"} 1",
            "nearmost_peers{state=\"dialling\"} 0",
            "nearmost_peers{state=\"down\"} 1",
            "nearmost_peer_queue_records{peer=\"bob\"} 2",
            "nearmost_peer_up{peer=\"bob\"} 1",
            "nearmost_peer_up{peer=\"carol\"} 0",
            "nearmost_peer_contact_timestamp_seconds{peer=\"bob\"} 2",
            "nearmost_peer_compared_timestamp_seconds{peer=\"bob\"} 0",
            "nearmost_peer_received_total{answer=\"malformed\"} 0",
            "nearmost_peer_breaches_total{kind=\"deliver\"} 0",
            "nearmost_peer_queue_oldest_seconds{peer=\"bob\"} 2",
            "nearmost_peer_round_trip_seconds{peer=\"bob\"} 0.002",
            "nearmost_peer_queue_records{peer=\"carol\"} 0",
        ] {
            assert!(said.contains(line), "{line} is missing in\n{said}");
        }
        assert!(!said.contains("round_trip_seconds{peer=\"carol\"}"), "{said}");
        metrics.set(vec![sample("bob", 0)]);
        assert!(!text(&registry).contains("carol"));
    }

    #[test]
    fn series_are_bounded_and_the_rest_is_summed() {
        let registry = Registry::new();
        let metrics = PeerMetrics::register(&registry).unwrap();
        metrics.set((0..100).map(|i| sample(&format!("peer{i:03}"), 1 + i)).collect());
        let said = text(&registry);
        let series = said.lines().filter(|l| l.starts_with("nearmost_peer_queue_records{")).count();
        assert_eq!(series, NAMED + 1);
        let rest: u64 = (64..100).map(|i| 1 + i).sum();
        assert!(said.contains(&format!("nearmost_peer_queue_records{{peer=\"other\"}} {rest}")), "{said}");
        assert!(said.contains("nearmost_peer_queue_oldest_seconds{peer=\"other\"} 100"), "{said}");
        assert!(said.contains("nearmost_peer_contact_timestamp_seconds{peer=\"other\"} 65"), "{said}");
        assert!(said.contains("nearmost_peers{state=\"up\"} 100"), "{said}");
    }
}
