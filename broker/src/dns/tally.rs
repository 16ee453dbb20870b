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
//! A tally keeps its registry alive. Scrapes fold what was left, and where nobody scrapes, the threads do it
//! when they begin another, so there are never many. A scrape adds up outside the lock that threads take.
//!
//! Series are bounded: the first so many names that are asked for have one of their own each, and what comes
//! after them is counted together. No name ever changes sides, so no counter ever goes back. Names that are in
//! no registry any more are forgotten when they are many.

use super::sheet::{Cell, counters};
use nearmost_config::MetricsConfig;
use nearmost_core::registry::{DomainIndex, MirrorIndex, Registry};
use nearmost_dns::Outcome;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stands for all other names.
const OTHER: &str = "other";
/// Tallies beyond those in use that wait for a scrape, before threads fold them.
const WAITING: usize = 16;
/// Names kept beyond those that registries have, before they are forgotten.
const GONE: usize = 4096;

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
#[derive(Clone, Debug, Default)]
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

/// Whose series are their own. Held by scrapes for as long as they last.
#[derive(Debug, Default)]
struct Series {
    /// Names that have series of their own.
    own: HashSet<Name>,
    /// How many of them are mirrors'.
    mirrors: usize,
    /// Names that are counted together.
    beyond: HashSet<Name>,
    /// What forgotten names had counted among those: queries of domains, and answers of mirrors.
    forgotten: [u64; 2],
}

impl Series {
    /// Decides about names that are new.
    fn meet(&mut self, names: &Names, most: MetricsConfig) {
        for name in names.0.keys() {
            if self.own.contains(name) || self.beyond.contains(name) {
                continue;
            }
            let is_mirror = name.1.is_some();
            let domains = self.own.len() - self.mirrors;
            let has_room = match is_mirror {
                true => self.mirrors < most.max_mirrors,
                false => domains < most.max_domains,
            };
            if has_room {
                self.own.insert(name.clone());
                self.mirrors += usize::from(is_mirror);
            } else {
                self.beyond.insert(name.clone());
            }
        }
    }

    fn forget(&mut self, name: &Name, count: u64) {
        let is_mirror = name.1.is_some();
        if self.own.remove(name) {
            self.mirrors -= usize::from(is_mirror);
        } else {
            // Its count stays where it was counted. A scrape that never saw it may see it there.
            self.beyond.remove(name);
            self.forgotten[usize::from(is_mirror)] += count;
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Those that threads write, and those that they left.
    tallies: Vec<Arc<Tally>>,
    /// What those that were left had counted.
    past: Arc<Names>,
    /// Tallies that make threads fold.
    fold_at: usize,
}

impl Inner {
    /// Folds what no thread writes any more, where no scrape did.
    fn fold(&mut self) {
        if self.tallies.len() < self.fold_at.max(WAITING) {
            return;
        }
        let Inner { tallies, past, .. } = self;
        let past = Arc::make_mut(past);
        tallies.retain_mut(|tally| {
            let left = is_left(tally);
            if left {
                past.add(tally);
            }
            !left
        });
        self.fold_at = self.tallies.len() + WAITING;
    }

    /// Forgets names that no registry has, when they are many.
    fn forget(&mut self, series: &mut Series) {
        let registries = self.tallies.iter().map(|t| &t.registry);
        let live: usize = registries.clone().map(|r| r.domains.len() + r.mirrors.len()).sum();
        if self.past.0.len() < live + GONE {
            return;
        }
        let mut known: HashMap<Arc<str>, HashSet<Arc<str>>> = HashMap::new();
        for registry in registries {
            for domain in &registry.domains {
                known.entry(Arc::clone(&domain.name)).or_default();
            }
            for mirror in &registry.mirrors {
                let Some(domain) = registry.domains.get(mirror.domain.0 as usize) else { continue };
                known.entry(Arc::clone(&domain.name)).or_default().insert(Arc::clone(&mirror.name));
            }
        }
        Arc::make_mut(&mut self.past).0.retain(|name, count| {
            let mirrors = known.get(&name.0);
            let keep = mirrors.is_some_and(|m| name.1.as_ref().is_none_or(|mirror| m.contains(mirror)));
            if !keep {
                series.forget(name, *count);
            }
            keep
        });
    }
}

/// Whether its thread has left it. Having it alone means so, and that what the thread wrote is seen.
fn is_left(tally: &mut Arc<Tally>) -> bool {
    Arc::get_mut(tally).is_some()
}

/// The tallies of all threads.
#[derive(Clone, Debug)]
pub struct Book {
    inner: Arc<Mutex<Inner>>,
    /// Taken before `inner` by whoever waits for it.
    series: Arc<Mutex<Series>>,
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
        Ok(Book { inner: Arc::default(), series: Arc::default(), most, descs: Arc::new(descs) })
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
        let mut inner = lock(&self.inner);
        inner.tallies.push(Arc::clone(&tally));
        inner.fold();
        // Somebody waits for an answer here: while a scrape lasts, names are forgotten another time.
        if let Ok(mut series) = self.series.try_lock() {
            inner.forget(&mut series);
        }
        tally
    }

    /// All counts of now; what was left is folded.
    fn sum(&self, series: &mut Series) -> Names {
        let (before, left, used) = {
            let mut inner = lock(&self.inner);
            inner.forget(series);
            let (left, used): (Vec<_>, Vec<_>) =
                inner.tallies.iter_mut().map(|t| (is_left(t), Arc::clone(t))).partition(|(left, _)| *left);
            (Arc::clone(&inner.past), left, used)
        };
        let mut past = Names::clone(&before);
        left.iter().for_each(|(_, tally)| past.add(tally));
        let mut all = past.clone();
        used.iter().for_each(|(_, tally)| all.add(tally));
        series.meet(&all, self.most);
        let mut inner = lock(&self.inner);
        // Where a thread folded meanwhile, what was left waits for another scrape.
        if Arc::ptr_eq(&inner.past, &before) {
            inner.past = Arc::new(past);
            inner.tallies.retain(|t| !left.iter().any(|(_, gone)| Arc::ptr_eq(t, gone)));
        }
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut series = lock(&self.series);
        let all = self.sum(&mut series);
        let (mut domains, mut mirrors) = (Vec::new(), Vec::new());
        let [mut other_domains, mut other_mirrors] = series.forgotten;
        for (name, count) in &all.0 {
            match name {
                (domain, None) if series.own.contains(name) => domains.push((vec![&**domain], *count)),
                (_, None) => other_domains += count,
                (domain, Some(mirror)) if series.own.contains(name) => {
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

    #[test]
    fn without_scrapes_no_registry_is_kept_for_long() {
        let book = Book::new(MetricsConfig::default()).unwrap();
        let mut writer = book.writer();
        let mut gone = Vec::new();
        for version in 0..1000 {
            let registry = registry(version, ["a.test".to_owned()]);
            writer.count(&registry, &of(0));
            gone.push(Arc::downgrade(&registry));
        }
        assert!(book.inner.lock().unwrap().tallies.len() <= 2 * WAITING);
        assert!(gone.iter().filter(|weak| weak.upgrade().is_some()).count() <= 2 * WAITING);
        assert_eq!(counts(&book), HashMap::from([("a.test".to_owned(), 1000)]));
    }

    #[test]
    fn names_that_are_gone_are_forgotten_and_others_never_go_back() {
        let book = Book::new(MetricsConfig { max_domains: 2, ..MetricsConfig::default() }).unwrap();
        let mut writer = book.writer();
        let mut other = 0;
        for version in 0..300 {
            let names = (0..100).map(|i| format!("{version}-{i}.test")).chain(["a.test".to_owned()]);
            let registry = registry(version, names);
            (0..=100).for_each(|domain| writer.count(&registry, &of(domain)));
            if version % 50 == 0 {
                let now = counts(&book)[OTHER];
                assert!(now > other, "{now} after {other}");
                other = now;
            }
        }
        let known = 101 * 2 * WAITING;
        assert!(book.inner.lock().unwrap().past.0.len() <= GONE + 3 * known);
        let series = book.series.lock().unwrap();
        assert!(series.own.len() <= 2 && series.beyond.len() <= GONE + 3 * known);
    }
}
