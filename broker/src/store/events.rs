//! Transitions of mirrors, kept over a restart, and the times in which the broker did not run.

use super::audit::Keep;
use super::audit_prune::MAX_PRUNED;
use super::tables::{self, Abort};
use super::{StoreError, StoreHandle};
use nearmost_wire::api::EventView;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use std::collections::BTreeMap;

/// Most rows that are looked at for one page.
const MAX_LOOKED: usize = 200_000;
/// Most gaps that are kept.
const MAX_GAPS: u64 = 1000;

/// Which transitions are wanted; all fields narrow it.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Not before, in milliseconds since the Unix epoch.
    pub since_unix_ms: Option<u64>,
    /// Before, likewise.
    pub until_unix_ms: Option<u64>,
    /// Only of this domain.
    pub domain: Option<String>,
    /// Only of mirrors of this name.
    pub mirror: Option<String>,
    /// Only after this number: the next page.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// Transitions in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventsPage {
    /// Those wanted.
    pub events: Vec<EventView>,
    /// Whether there are more.
    pub more: bool,
    /// Up to which number was looked.
    pub seen: u64,
    /// Of each mirror and family the last one before [`EventFilter::since_unix_ms`], of those looked at.
    pub before: Vec<EventView>,
    /// When the broker did not run: from, until.
    pub gaps: Vec<(u64, u64)>,
}

/// Keeps transitions, each by its number.
pub(super) fn append(db: &Database, events: &[EventView]) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    {
        let mut rows = txn.open_table(tables::EVENTS)?;
        for event in events {
            let json = serde_json::to_vec(event)
                .map_err(|e| Abort::Damaged(format!("a transition has no JSON form: {e}")))?;
            rows.insert(event.number, (event.at_unix_ms, json.as_slice()))?;
        }
    }
    Ok(txn.commit()?)
}

/// Number of the newest transition; 0 when there is none.
pub(super) fn newest(db: &Database) -> Result<u64, Abort> {
    let rows = db.begin_read()?.open_table(tables::EVENTS)?;
    Ok(rows.last()?.map_or(0, |(number, _)| number.value()))
}

/// Notes a time in which the broker did not run.
pub(super) fn add_gap(db: &Database, from_unix_ms: u64, until_unix_ms: u64) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    {
        let mut gaps = txn.open_table(tables::GAPS)?;
        gaps.insert(until_unix_ms, from_unix_ms)?;
        while gaps.len()? > MAX_GAPS {
            gaps.pop_first()?;
        }
    }
    Ok(txn.commit()?)
}

/// Removes the oldest transitions, as far as they are not to be kept; answers how many.
pub(super) fn prune(db: &Database, keep: Keep) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let gone = {
        let mut rows = txn.open_table(tables::EVENTS)?;
        let excess = rows.len()?.saturating_sub(keep.most);
        let (mut gone, mut last) = (0_u64, None);
        for row in rows.iter()?.take(MAX_PRUNED) {
            let (number, row) = row?;
            if gone >= excess && row.value().0 >= keep.since_unix_ms {
                break;
            }
            gone += 1;
            last = Some(number.value());
        }
        if let Some(last) = last {
            rows.retain_in(..=last, |_, _| false)?;
        }
        txn.open_table(tables::GAPS)?.retain(|until, _| until >= keep.since_unix_ms)?;
        gone
    };
    if gone == 0 {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok(gone)
}

/// Reads a page, without the store's thread.
pub(super) fn read_page(txn: &ReadTransaction, filter: &EventFilter) -> Result<EventsPage, Abort> {
    let mut page = EventsPage { seen: filter.after.unwrap_or(0), ..EventsPage::default() };
    let since = filter.since_unix_ms.unwrap_or(0);
    let mut before = Before::default();
    // Numbers rise with time but for a clock that was set back, so that every row is looked at.
    let first = filter.after.map_or(0, |after| after.saturating_add(1));
    for (looked, row) in txn.open_table(tables::EVENTS)?.range(first..)?.enumerate() {
        if looked >= MAX_LOOKED || page.events.len() >= filter.limit {
            page.more = true;
            break;
        }
        let (number, row) = row?;
        page.seen = number.value();
        let (at, json) = row.value();
        if filter.until_unix_ms.is_some_and(|until| at >= until) {
            continue;
        }
        let event: EventView = serde_json::from_slice(json)
            .map_err(|e| Abort::Damaged(format!("transition {} is unreadable: {e}", number.value())))?;
        before.take(&mut page, filter, event);
    }
    page.before = before.0.into_values().collect();
    for row in txn.open_table(tables::GAPS)?.range(since..)? {
        let (until, from) = row?;
        if filter.until_unix_ms.is_none_or(|end| from.value() < end) {
            page.gaps.push((from.value(), until.value()));
        }
    }
    Ok(page)
}

/// Of each mirror and family the last transition before the time that is asked for.
#[derive(Default)]
struct Before(BTreeMap<(String, String, String), EventView>);

impl Before {
    /// Puts a transition where it belongs, if it is wanted.
    fn take(&mut self, page: &mut EventsPage, filter: &EventFilter, event: EventView) {
        if !filter.wants(&event) {
            return;
        }
        if event.at_unix_ms < filter.since_unix_ms.unwrap_or(0) {
            let key = (event.domain.clone(), event.mirror.clone(), event.family.clone());
            self.0.insert(key, event);
        } else {
            page.events.push(event);
        }
    }
}

impl EventsPage {
    /// Adds to the last page what is not kept yet: `newer` ones, in their order.
    pub fn join(&mut self, filter: &EventFilter, newer: impl IntoIterator<Item = EventView>) {
        let mut before = Before::default();
        for event in std::mem::take(&mut self.before) {
            before.0.insert((event.domain.clone(), event.mirror.clone(), event.family.clone()), event);
        }
        for event in newer {
            if self.more {
                break;
            }
            if event.number <= self.seen {
                continue;
            }
            if self.events.len() >= filter.limit {
                self.more = true;
                break;
            }
            self.seen = event.number;
            before.take(self, filter, event);
        }
        self.before = before.0.into_values().collect();
    }
}

impl EventFilter {
    fn wants(&self, event: &EventView) -> bool {
        self.until_unix_ms.is_none_or(|until| event.at_unix_ms < until)
            && self.domain.as_ref().is_none_or(|domain| *domain == event.domain)
            && self.mirror.as_ref().is_none_or(|mirror| *mirror == event.mirror)
    }
}

impl StoreHandle {
    /// Keeps transitions.
    pub async fn append_events(&self, events: Vec<EventView>) -> Result<(), StoreError> {
        self.call(move |store| store.append_events(&events)).await
    }

    /// Number of the newest transition that is kept; 0 when there is none.
    pub async fn newest_event(&self) -> Result<u64, StoreError> {
        self.call(|store| store.newest_event()).await
    }

    /// Notes a time in which the broker did not run.
    pub async fn add_gap(&self, from_unix_ms: u64, until_unix_ms: u64) -> Result<(), StoreError> {
        self.call(move |store| store.add_gap(from_unix_ms, until_unix_ms)).await
    }

    /// Transitions that are kept; the store goes on meanwhile.
    pub async fn events(&self, filter: EventFilter) -> Result<EventsPage, StoreError> {
        let job = self.call(move |store| store.events_page(filter)).await?;
        self.read(job).await
    }

    /// Forgets the oldest transitions; answers how many.
    pub async fn prune_events(&self, keep: Keep) -> Result<u64, StoreError> {
        self.call(move |store| store.prune_events(keep)).await
    }
}
