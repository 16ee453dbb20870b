//! Counting without sharing: each thread that answers has a sheet of its own, and a scrape adds them up.
//!
//! A sheet's cells are written by one thread, with plain loads and stores: no two cores ever write the
//! same cache line, so counting a query costs a few instructions. What many tasks share (streams) counts
//! on one sheet by atomic additions; those are not what a flood of queries meets.

use nearmost_dns::limiter::{Reason, Verdict};
use nearmost_dns::{CookieState, ErrorKind, Outcome, Rcode, Transport};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Types that have a label of their own, by number.
const QTYPES: [(u16, &str); 18] = [
    (1, "a"),
    (28, "aaaa"),
    (65, "https"),
    (64, "svcb"),
    (33, "srv"),
    (16, "txt"),
    (2, "ns"),
    (6, "soa"),
    (5, "cname"),
    (15, "mx"),
    (257, "caa"),
    (12, "ptr"),
    (43, "ds"),
    (48, "dnskey"),
    (59, "cds"),
    (60, "cdnskey"),
    (255, "any"),
    // The question was not readable.
    (0, "none"),
];
/// The label of every other type.
const OTHER: &str = "other";
const QTYPE_LABELS: usize = QTYPES.len() + 1;
const TRANSPORTS: usize = Transport::ALL.len();
const RCODES: usize = Rcode::ALL.len();
const COOKIES: usize = CookieState::ALL.len();
const REASONS: usize = Reason::ALL.len();
/// What becomes of a reply that is held back.
const ACTIONS: [&str; 2] = ["slip", "drop"];
const KINDS: usize = ErrorKind::ALL.len();
/// Bounds of the latency histogram double from a microsecond; the last is 33 ms.
const BUCKETS: usize = 16;

/// A number that counts up.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// What it has come to.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds where one thread alone writes.
    pub(super) fn add_alone(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    fn add_among_others(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

/// How long answers took.
#[derive(Debug, Default)]
struct Latency {
    buckets: [Cell; BUCKETS + 1],
    nanos: Cell,
}

/// What was counted of one transport.
#[derive(Debug, Default)]
struct ByTransport {
    queries: [[Cell; RCODES]; QTYPE_LABELS],
    latency: Latency,
    reply_bytes: Cell,
}

/// The counts of one thread, or of all streams.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// Whether one thread alone writes.
    alone: bool,
    transports: [ByTransport; TRANSPORTS],
    malformed: [Cell; KINDS],
    dropped: Cell,
    panics: Cell,
    truncated: Cell,
    client_subnets: Cell,
    /// Queries by what their cookie says.
    cookies: [Cell; COOKIES],
    /// Replies that a limit shortened, and those that it held back.
    limited: [[Cell; REASONS]; ACTIONS.len()],
}

impl Sheet {
    fn new(alone: bool) -> Sheet {
        Sheet {
            alone,
            transports: Default::default(),
            malformed: std::array::from_fn(|_| Cell::default()),
            dropped: Cell::default(),
            panics: Cell::default(),
            truncated: Cell::default(),
            client_subnets: Cell::default(),
            cookies: Default::default(),
            limited: Default::default(),
        }
    }

    pub(super) fn add(&self, cell: &Cell, n: u64) {
        match self.alone {
            true => cell.add_alone(n),
            false => cell.add_among_others(n),
        }
    }

    /// Counts one message.
    pub(super) fn record(&self, transport: Transport, outcome: &Outcome, reply: usize) {
        if let Some(cell) = outcome.error.and_then(|e| self.malformed.get(e.kind as usize)) {
            self.add(cell, 1);
        }
        if outcome.dropped() {
            return self.add(&self.dropped, 1);
        }
        if outcome.truncated {
            self.add(&self.truncated, 1);
        }
        if outcome.account.ecs {
            self.add(&self.client_subnets, 1);
        }
        if outcome.error.is_none() {
            self.add(&self.cookies[outcome.account.cookie as usize], 1);
        }
        let by = &self.transports[transport as usize];
        let qtype = QTYPES.iter().position(|(t, _)| *t == outcome.qtype).unwrap_or(QTYPES.len());
        self.add(&by.queries[qtype][outcome.rcode as usize], 1);
        self.add(&by.reply_bytes, reply as u64);
    }

    /// Counts a message that brought out a fault of ours.
    pub(super) fn panicked(&self) {
        self.add(&self.panics, 1);
    }

    /// Counts what a limit did to a reply.
    pub(super) fn limited(&self, verdict: Verdict) {
        match verdict {
            Verdict::Send => {}
            Verdict::Slip(reason) => self.add(&self.limited[0][reason as usize], 1),
            Verdict::Drop(reason) => self.add(&self.limited[1][reason as usize], 1),
        }
    }

    /// Counts how long the replies to so many messages took.
    pub(super) fn took(&self, transport: Transport, each: Duration, messages: u64) {
        let nanos = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos.div_ceil(1000).max(1);
        // The least power of two that is not below it.
        let bucket = (u64::BITS - (micros - 1).leading_zeros()).min(BUCKETS as u32) as usize;
        let latency = &self.transports[transport as usize].latency;
        self.add(&latency.buckets[bucket], messages);
        self.add(&latency.nanos, nanos.saturating_mul(messages));
    }
}

/// All sheets, and what a scrape makes of them.
#[derive(Clone, Debug)]
pub struct Sheets {
    /// Held while a thread starts, and by scrapes.
    all: Arc<Mutex<Vec<Arc<Sheet>>>>,
    shared: Arc<Sheet>,
    descs: Arc<[Desc; 10]>,
}

impl Sheets {
    /// No sheet but the one that streams share.
    ///
    /// # Errors
    /// Never, unless a name of ours is no metric's name.
    pub fn new() -> Result<Sheets, prometheus::Error> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            Desc::new(
                name.into(),
                help.into(),
                labels.iter().map(|l| (*l).to_owned()).collect(),
                HashMap::new(),
            )
        };
        let shared = Arc::new(Sheet::new(false));
        Ok(Sheets {
            all: Arc::new(Mutex::new(vec![Arc::clone(&shared)])),
            shared,
            descs: Arc::new([
                desc(
                    "nearmost_dns_queries_total",
                    "DNS messages answered.",
                    &["transport", "qtype", "rcode"],
                )?,
                desc("nearmost_dns_malformed_total", "DNS messages not accepted as queries.", &["kind"])?,
                desc("nearmost_dns_dropped_total", "DNS messages left without a reply.", &[])?,
                desc("nearmost_dns_truncated_total", "DNS replies with the TC bit set.", &[])?,
                desc("nearmost_dns_client_subnet_total", "DNS queries that carried a client subnet.", &[])?,
                desc("nearmost_dns_reply_bytes_total", "Bytes of DNS replies.", &["transport"])?,
                desc(
                    "nearmost_dns_response_seconds",
                    "From a DNS message read to its reply ready to be sent.",
                    &["transport"],
                )?,
                desc("nearmost_dns_cookies_total", "DNS queries by the state of their cookie.", &["state"])?,
                desc(
                    "nearmost_dns_limited_total",
                    "DNS replies shortened or not sent for a limit.",
                    &["action", "reason"],
                )?,
                desc(
                    "nearmost_dns_panics_total",
                    "DNS messages that brought out a fault of the broker.",
                    &[],
                )?,
            ]),
        })
    }

    /// A sheet for one thread alone.
    pub(super) fn own(&self) -> Arc<Sheet> {
        let sheet = Arc::new(Sheet::new(true));
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&sheet));
        sheet
    }

    /// The sheet that streams share.
    pub(super) fn shared(&self) -> Arc<Sheet> {
        Arc::clone(&self.shared)
    }

    fn sum(&self, cell: impl Fn(&Sheet) -> &Cell) -> u64 {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|s| cell(s).get()).fold(0, u64::wrapping_add)
    }

    fn queries(&self) -> MetricFamily {
        let mut metrics = Vec::new();
        for transport in Transport::ALL {
            for qtype in 0..QTYPE_LABELS {
                for rcode in Rcode::ALL {
                    let count =
                        self.sum(|s| &s.transports[transport as usize].queries[qtype][rcode as usize]);
                    let label = QTYPES.get(qtype).map_or(OTHER, |(_, label)| label);
                    // What never happened has no series, as most of the combinations never do; but each
                    // transport and code has one, so that the first time shows as an increase.
                    if count > 0 || label == "a" {
                        metrics.push((vec![transport.as_str(), label, rcode.as_str()], count));
                    }
                }
            }
        }
        counters(&self.descs[0], metrics)
    }

    fn latency(&self) -> MetricFamily {
        let desc = &self.descs[6];
        let mut family = MetricFamily::default();
        family.set_name(desc.fq_name.clone());
        family.set_help(desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        let metrics = Transport::ALL.map(|t| {
            let of = |s: &Sheet| -> [u64; BUCKETS + 1] {
                std::array::from_fn(|b| s.transports[t as usize].latency.buckets[b].get())
            };
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let mut counts = [0; BUCKETS + 1];
            let mut nanos = 0_u64;
            for sheet in all.iter() {
                counts.iter_mut().zip(of(sheet)).for_each(|(to, n)| *to += n);
                nanos = nanos.wrapping_add(sheet.transports[t as usize].latency.nanos.get());
            }
            let mut metric = labelled(desc, &[t.as_str()]);
            metric.set_histogram(histogram(&counts, nanos));
            metric
        });
        family.set_metric(metrics.into_iter().collect());
        family
    }
}

fn histogram(counts: &[u64; BUCKETS + 1], nanos: u64) -> Histogram {
    let mut histogram = Histogram::default();
    let mut cumulative = 0;
    let buckets = counts[..BUCKETS].iter().enumerate().map(|(b, n)| {
        cumulative += n;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(1e-6 * f64::from(1_u32 << b));
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(nanos as f64 * 1e-9);
    histogram
}

/// A family of counters of one name, from its labels and values.
pub(super) fn counters(desc: &Desc, metrics: Vec<(Vec<&str>, u64)>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(MetricType::COUNTER);
    let metrics = metrics.into_iter().map(|(values, count)| {
        let mut metric = labelled(desc, &values);
        let mut counter = Counter::default();
        counter.set_value(count as f64);
        metric.set_counter(counter);
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn labelled(desc: &Desc, values: &[&str]) -> Metric {
    let mut metric = Metric::default();
    let pairs = desc.variable_labels.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut pairs: Vec<LabelPair> = pairs.collect();
    // As everywhere else: scrapers do not care, people who look do.
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    metric.set_label(pairs);
    metric
}

impl Collector for Sheets {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let one = |desc: usize, count| counters(&self.descs[desc], vec![(vec![], count)]);
        let kinds = ErrorKind::ALL.map(|k| (vec![k.as_str()], self.sum(|s| &s.malformed[k as usize])));
        let bytes =
            Transport::ALL.map(|t| (vec![t.as_str()], self.sum(|s| &s.transports[t as usize].reply_bytes)));
        let cookies = CookieState::ALL.map(|c| (vec![c.as_str()], self.sum(|s| &s.cookies[c as usize])));
        let limited = (0..ACTIONS.len())
            .flat_map(|a| Reason::ALL.map(|r| (a, r)))
            .map(|(a, r)| (vec![ACTIONS[a], r.as_str()], self.sum(|s| &s.limited[a][r as usize])));
        let mut families = vec![
            self.queries(),
            counters(&self.descs[1], kinds.into()),
            one(2, self.sum(|s| &s.dropped)),
            one(3, self.sum(|s| &s.truncated)),
            one(4, self.sum(|s| &s.client_subnets)),
            counters(&self.descs[5], bytes.into()),
            self.latency(),
            counters(&self.descs[7], cookies.into()),
            counters(&self.descs[8], limited.collect()),
            one(9, self.sum(|s| &s.panics)),
        ];
        // A family without a series cannot be written down.
        families.retain(|f| !f.get_metric().is_empty());
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_dns::Account;

    fn value(families: &[MetricFamily], name: &str) -> f64 {
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric().iter().map(|m| m.get_counter().get_value()).sum()
    }

    #[test]
    fn sheets_add_up_to_what_all_threads_counted() {
        let sheets = Sheets::new().unwrap();
        let registry = prometheus::Registry::new();
        registry.register(Box::new(sheets.clone())).unwrap();
        std::thread::scope(|scope| {
            for n in 1..=3_u64 {
                let sheets = &sheets;
                scope.spawn(move || {
                    let (own, shared) = (sheets.own(), sheets.shared());
                    for _ in 0..n * 1000 {
                        let outcome = Outcome {
                            qtype: 28,
                            truncated: true,
                            account: Account { ecs: true, ..Account::default() },
                            ..Outcome::default()
                        };
                        own.record(Transport::Udp, &outcome, 40);
                        shared.record(Transport::Tcp, &outcome, 60);
                    }
                    own.took(Transport::Udp, Duration::from_micros(3), n * 1000);
                });
            }
        });
        let families = registry.gather();
        for (name, expected) in [
            ("nearmost_dns_queries_total", 12_000.0),
            ("nearmost_dns_truncated_total", 12_000.0),
            ("nearmost_dns_client_subnet_total", 12_000.0),
            ("nearmost_dns_reply_bytes_total", 600_000.0),
            ("nearmost_dns_malformed_total", 0.0),
        ] {
            assert_eq!(value(&families, name), expected, "{name}");
        }
        let latency = families.iter().find(|f| f.name() == "nearmost_dns_response_seconds").unwrap();
        let udp = latency.get_metric().iter().find(|m| m.get_label()[0].value() == "udp").unwrap();
        assert_eq!(udp.get_histogram().get_sample_count(), 6000);
        assert!((udp.get_histogram().get_sample_sum() - 0.018).abs() < 1e-9);
        let within: Vec<u64> =
            udp.get_histogram().get_bucket().iter().map(|b| b.cumulative_count()).collect();
        assert_eq!(within[..4], [0, 0, 6000, 6000], "3 µs is above 2 and not above 4");
    }

    #[test]
    fn bounds_of_the_histogram_are_not_exceeded() {
        let sheets = Sheets::new().unwrap();
        let own = sheets.own();
        for nanos in [0, 1, 1000, 1001, 32_768_000, 32_768_001, u64::MAX] {
            own.took(Transport::Udp, Duration::from_nanos(nanos), 1);
        }
        let latency = &own.transports[Transport::Udp as usize].latency;
        let counts: Vec<u64> = latency.buckets.iter().map(Cell::get).collect();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (3, 1, 1, 2));
    }

    #[test]
    fn cookies_and_limits_are_counted_by_what_they_are() {
        let (registry, sheets) = (prometheus::Registry::new(), Sheets::new().unwrap());
        registry.register(Box::new(sheets.clone())).unwrap();
        let own = sheets.own();
        for cookie in CookieState::ALL {
            let account = Account { cookie, ..Account::default() };
            own.record(Transport::Udp, &Outcome { account, ..Outcome::default() }, 0);
        }
        for reason in Reason::ALL {
            own.limited(Verdict::Slip(reason));
            own.limited(Verdict::Drop(reason));
        }
        own.limited(Verdict::Send);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let cookies =
            CookieState::ALL.map(|s| format!("nearmost_dns_cookies_total{{state=\"{}\"}} 1\n", s.as_str()));
        let limited = Reason::ALL.into_iter().flat_map(|r| {
            let line =
                |a| format!("nearmost_dns_limited_total{{action=\"{a}\",reason=\"{}\"}} 1\n", r.as_str());
            ACTIONS.map(line)
        });
        for line in cookies.into_iter().chain(limited) {
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
