//! Queries by domain, and answers by the mirror that was chosen: as sheets are, one a thread, and added up
//! by scrapes.
//!
//! Domains and mirrors are counted by their numbers, which mean something in one registry only. So a thread
//! that meets another registry begins another tally; what the one before it counted is added up by name.
//!
//! ```text
//! thread ─► tally of its registry ─ another registry came ─► left to the book ─► folded into names
//!                    └──────────────── read by scrapes ───────────────┘
//! ```
//!
//! Series are bounded: the first so many names that are asked for have one of their own each, and what comes
//! after them is counted together. No name ever changes sides, so no counter ever goes back.

use super::sheet::{Cell, counters};
use nearmost_config::MetricsConfig;
use nearmost_core::registry::{DomainIndex, MirrorIndex, Registry};
use nearmost_dns::Outcome;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Stands for all other names.
const OTHER: &str = "other";

/// What one thread counted in one registry.
#[derive(Debug)]
struct Tally {
    registry: Arc<Registry>,
    domains: Box<[Cell]>,
    mirrors: Box<[Cell]>,
}

impl Tally {
    fn new(registry: &Arc<Registry>) -> Tally {
        let cells = |n| (0..n).map(|_| Cell::default()).collect();
        Tally {
            domains: cells(registry.domains.len()),
            mirrors: cells(registry.mirrors.len()),
            registry: Arc::clone(registry),
        }
    }
}

/// A domain, or a mirror of one.
type Name = (Arc<str>, Option<Arc<str>>);

/// Counts by name.
#[derive(Debug, Default)]
struct Names(BTreeMap<Name, u64>);

impl Names {
    fn add(&mut self, tally: &Tally) {
        let registry = &tally.registry;
        let mut add = |name: Name, count| *self.0.entry(name).or_default() += count;
        for (domain, cell) in registry.domains.iter().zip(&tally.domains).filter(|(_, c)| c.get() > 0) {
            add((Arc::clone(&domain.name), None), cell.get());
        }
        for (mirror, cell) in registry.mirrors.iter().zip(&tally.mirrors).filter(|(_, c)| c.get() > 0) {
            let domain = registry.domains.get(mirror.domain.0 as usize).map(|d| Arc::clone(&d.name));
            add((domain.unwrap_or_else(|| OTHER.into()), Some(Arc::clone(&mirror.name))), cell.get());
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Those that threads write, and those that they left.
    tallies: Vec<Arc<Tally>>,
    /// What those that were left had counted.
    past: Names,
    /// Names that have series of their own.
    domains: HashSet<Arc<str>>,
    mirrors: HashSet<Name>,
}

impl Inner {
    /// Folds what no thread writes any more.
    fn fold(&mut self) {
        let Inner { tallies, past, .. } = self;
        tallies.retain_mut(|tally| {
            // Having it alone means that its thread has left it, and what the thread wrote is seen.
            let left = Arc::get_mut(tally).is_some();
            if left {
                past.add(tally);
            }
            !left
        });
    }

    /// All counts of now.
    fn sum(&mut self, most: MetricsConfig) -> Names {
        self.fold();
        let mut all = Names(self.past.0.clone());
        self.tallies.iter().for_each(|t| all.add(t));
        for (domain, mirror) in all.0.keys() {
            if mirror.is_none() && self.domains.len() < most.max_domains {
                self.domains.insert(Arc::clone(domain));
            }
            if mirror.is_some() && self.mirrors.len() < most.max_mirrors {
                self.mirrors.insert((Arc::clone(domain), mirror.clone()));
            }
        }
        all
    }
}

/// The tallies of all threads.
#[derive(Clone, Debug)]
pub struct Book {
    inner: Arc<Mutex<Inner>>,
    /// Series of domains, and of mirrors.
    most: MetricsConfig,
    descs: Arc<[Desc; 2]>,
}

impl Book {
    /// Nothing counted.
    ///
    /// # Errors
    /// Never, unless a name of ours is no metric's name.
    pub fn new(most: MetricsConfig) -> Result<Book, prometheus::Error> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|l| (*l).to_owned()).collect();
            Desc::new(name.into(), help.into(), labels, HashMap::new())
        };
        let descs = [
            desc("nearmost_dns_domain_queries_total", "DNS queries by registered domain.", &["domain"])?,
            desc(
                "nearmost_dns_chosen_total",
                "DNS answers by the mirror that they name first.",
                &["domain", "mirror"],
            )?,
        ];
        Ok(Book { inner: Arc::default(), most, descs: Arc::new(descs) })
    }

    /// Counts for one thread.
    pub(super) fn writer(&self) -> Writer {
        Writer { book: self.clone(), tally: self.begin(&Arc::default()) }
    }

    /// One query for each domain, answered with its first mirror.
    #[cfg(test)]
    pub(crate) fn count_all(&self, registry: &Arc<Registry>) {
        let mut writer = self.writer();
        for (i, domain) in (0..).zip(&registry.domains) {
            let mut outcome = Outcome { domain: Some(DomainIndex(i)), ..Outcome::default() };
            outcome.mirrors.push(MirrorIndex(domain.mirrors.start));
            writer.count(registry, &outcome);
        }
    }

    fn begin(&self, registry: &Arc<Registry>) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(registry));
        // What was left is folded by scrapes: here somebody waits for an answer.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).tallies.push(Arc::clone(&tally));
        tally
    }
}

/// One thread's way to count.
#[derive(Debug)]
pub(super) struct Writer {
    book: Book,
    tally: Arc<Tally>,
}

impl Writer {
    /// Counts one query that was answered from this registry.
    pub(super) fn count(&mut self, registry: &Arc<Registry>, outcome: &Outcome) {
        let Some(DomainIndex(domain)) = outcome.domain else { return };
        if !Arc::ptr_eq(&self.tally.registry, registry) {
            self.tally = self.book.begin(registry);
        }
        if let Some(cell) = self.tally.domains.get(domain as usize) {
            cell.add_alone(1);
        }
        let first = outcome.mirrors.first();
        if let Some(cell) = first.and_then(|MirrorIndex(m)| self.tally.mirrors.get(*m as usize)) {
            cell.add_alone(1);
        }
    }
}

impl Collector for Book {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let all = inner.sum(self.most);
        let (mut domains, mut mirrors) = (Vec::new(), Vec::new());
        let (mut other_domains, mut other_mirrors) = (0, 0);
        for (name, count) in &all.0 {
            match name {
                (domain, None) if inner.domains.contains(domain) => domains.push((vec![&**domain], *count)),
                (_, None) => other_domains += count,
                (domain, Some(mirror)) if inner.mirrors.contains(name) => {
                    mirrors.push((vec![&**domain, &**mirror], *count));
                }
                (_, Some(_)) => other_mirrors += count,
            }
        }
        if other_domains > 0 {
            domains.push((vec![OTHER], other_domains));
        }
        if other_mirrors > 0 {
            mirrors.push((vec![OTHER, OTHER], other_mirrors));
        }
        let families = [counters(&self.descs[0], domains), counters(&self.descs[1], mirrors)];
        // A family without a series cannot be written down.
        families.into_iter().filter(|f| !f.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::registry::Domain;

    fn registry(version: u64, names: impl IntoIterator<Item = String>) -> Arc<Registry> {
        let domain = |name: String| Domain {
            name: name.into(),
            mirrors: 0..0,
            policy: super::super::tests::policy(),
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        let domains = names.into_iter().map(domain).collect();
        Arc::new(Registry { version, domains, ..Registry::default() })
    }

    fn of(domain: u32) -> Outcome {
        Outcome { domain: Some(DomainIndex(domain)), ..Outcome::default() }
    }

    fn counts(book: &Book) -> HashMap<String, u64> {
        let families = book.collect();
        let metrics = families.iter().flat_map(|f| f.get_metric());
        metrics.map(|m| (m.get_label()[0].value().to_owned(), m.get_counter().get_value() as u64)).collect()
    }

    #[test]
    fn counts_follow_names_from_registry_to_registry() {
        let book = Book::new(MetricsConfig::default()).unwrap();
        let (mut one, mut two) = (book.writer(), book.writer());
        let first = registry(1, ["b.test".to_owned()]);
        let second = registry(2, ["a.test".to_owned(), "b.test".to_owned()]);
        one.count(&first, &of(0));
        two.count(&first, &of(0));
        assert_eq!(counts(&book), HashMap::from([("b.test".to_owned(), 2)]));
        one.count(&second, &of(1));
        one.count(&second, &of(0));
        one.count(&second, &Outcome::default());
        let expected = HashMap::from([("a.test".to_owned(), 1), ("b.test".to_owned(), 3)]);
        assert_eq!(counts(&book), expected);
        drop((one, two));
        assert_eq!(counts(&book), expected, "what threads counted stays when they end");
        assert!(book.inner.lock().unwrap().tallies.is_empty());
    }

    #[test]
    fn series_are_bounded_and_none_goes_back() {
        let book = Book::new(MetricsConfig::default()).unwrap();
        let mut writer = book.writer();
        let many = registry(1, (0..3000).map(|i| format!("{i:05}.test")));
        for domain in (0..3000).rev().step_by(2) {
            writer.count(&many, &of(domain));
        }
        let before = counts(&book);
        assert_eq!(before.len(), 1000 + 1);
        assert_eq!(before.values().sum::<u64>(), 1500);
        (0..3000).for_each(|domain| writer.count(&many, &of(domain)));
        let after = counts(&book);
        assert_eq!((after.len(), after.values().sum::<u64>()), (1000 + 1, 4500));
        assert!(before.iter().all(|(name, count)| after[name] >= *count));
    }
}
