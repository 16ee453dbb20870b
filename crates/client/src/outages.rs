//! Outages, told from transitions: which mirror, from when to when, why, and who said so.
//!
//! ```text
//!  before ─┐ up ── down ───────── up ──          one outage
//!          │ up ── down ── (gap) ── up ──        one, whose end is only known to lie after the gap's beginning
//!          │ up ── draining ── down ── up        a planned one; what is not wanted any more is another
//! ```
//! A mirror is out while no new users are sent to it. A broker that restarts goes on from its last verdicts, so
//! that an outage over a restart is one; while it did not run, nobody looked, and that is said.

use nearmost_wire::api::{EventView, FleetMirror, RunGapView};
use serde::Serialize;
use std::collections::BTreeMap;

/// A change so soon after a start, in milliseconds, may have happened before it: what a broker did not see
/// happen it finds within its first probes.
const AFTER_START_MS: u64 = 30_000;

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When the broker saw it, Unix milliseconds.
    pub at_unix_ms: u64,
    /// The earliest that it can have been, where nobody looked in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_unix_ms: Option<u64>,
}

/// How far an outage got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Users are sent there again, or it went on for another reason.
    At(Moment),
    /// It goes on.
    Still,
    /// The mirror is no longer registered.
    Removed,
}

/// One mirror in one address family, from when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub mirror: String,
    /// `v4` or `v6`.
    pub family: String,
    /// Somebody wanted it so: a drain, a maintenance.
    pub planned: bool,
    /// Since when; `None`: longer than anything is kept.
    pub from: Option<Moment>,
    /// Until when.
    pub until: End,
    /// Code of the reason that began it.
    pub reason: String,
    /// Who measured it.
    pub vantage: String,
    /// What was known then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    /// For how long of it the broker did not run, in milliseconds.
    pub unwatched_ms: u64,
}

impl Outage {
    /// How long it lasted, or has lasted at `now`; `None` where its beginning or end is not known.
    pub fn lasted_ms(&self, now_unix_ms: u64) -> Option<u64> {
        let until = match self.until {
            End::At(moment) => moment.at_unix_ms,
            End::Still => now_unix_ms,
            End::Removed => return None,
        };
        Some(until.saturating_sub(self.from?.at_unix_ms))
    }

    /// Whether any of it lies in a time: from, until.
    fn touches(&self, (since, until): (u64, u64)) -> bool {
        let began = self.from.is_none_or(|from| from.not_before_unix_ms.unwrap_or(from.at_unix_ms) < until);
        let ended = match self.until {
            End::At(moment) => moment.at_unix_ms >= since,
            End::Still | End::Removed => true,
        };
        began && ended
    }
}

/// What outages are told from.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Transitions in the order of their numbers.
    pub events: &'a [EventView],
    /// Of each mirror and family the last transition before those.
    pub before: &'a [EventView],
    /// When the broker did not run, in order.
    pub gaps: &'a [RunGapView],
    /// The fleet as it is now; `None` where that is not asked for, and the last transition counts.
    pub fleet: Option<&'a [FleetMirror]>,
}

type Key = (String, String, String);

/// One that has begun.
struct Open {
    from: Option<Moment>,
    planned: bool,
    reason: String,
    vantage: String,
    evidence: String,
}

impl Open {
    fn of(event: &EventView, from: Option<Moment>, planned: bool) -> Open {
        Open {
            from,
            planned,
            reason: event.reason.clone(),
            vantage: event.vantage.clone(),
            evidence: event.evidence.clone(),
        }
    }
}

/// The outages that touch `window` (from, until, in Unix milliseconds), in the order of their beginnings.
/// `planned` says of a reason's code whether somebody wants it so.
pub fn outages(told: Told<'_>, window: (u64, u64), planned: impl Fn(&str) -> bool) -> Vec<Outage> {
    let mut lines: BTreeMap<Key, Vec<&EventView>> = BTreeMap::new();
    for event in told.before.iter().chain(told.events) {
        let key = (event.domain.clone(), event.mirror.clone(), event.family.clone());
        lines.entry(key).or_default().push(event);
    }
    let mut found = Vec::new();
    for (key, events) in &lines {
        let (ended, open) = follow(events, told.gaps, &planned);
        let closed = ended.into_iter().map(|(open, end)| outage(key, open, End::At(end)));
        found.extend(closed);
        if let Some(open) = open {
            let end = end_now(key, told.fleet);
            found.push(outage(key, open, end));
        }
    }
    for mirror in told.fleet.unwrap_or_default() {
        found.extend(silent(mirror, &lines, &planned));
    }
    for outage in &mut found {
        outage.unwatched_ms = unwatched(outage, told.gaps, window.1);
    }
    found.retain(|outage| outage.touches(window));
    found.sort_by(|a, b| {
        let from = |o: &Outage| o.from.map_or(0, |from| from.at_unix_ms);
        (from(a), &a.domain, &a.mirror, &a.family).cmp(&(from(b), &b.domain, &b.mirror, &b.family))
    });
    found
}

/// Goes along one mirror's transitions in one family: what began and ended, and what began only.
fn follow(
    events: &[&EventView],
    gaps: &[RunGapView],
    planned: &impl Fn(&str) -> bool,
) -> (Vec<(Open, Moment)>, Option<Open>) {
    let mut ended = Vec::new();
    let mut open: Option<Open> = None;
    let mut last = None;
    for event in events {
        let moment = moment(event.at_unix_ms, last, gaps);
        if last.is_none() && is_out(&event.from) && event.from != "unknown" {
            // It was out before anything that is kept.
            open = Some(Open { from: None, ..Open::of(event, None, planned(&event.reason)) });
        }
        last = Some(event.at_unix_ms);
        let wanted = planned(&event.reason);
        match open.take() {
            Some(begun) if !is_out(&event.to) => ended.push((begun, moment)),
            // That nothing is known of it ends nothing.
            Some(begun) if begun.planned == wanted || event.to == "unknown" => open = Some(begun),
            Some(begun) => {
                ended.push((begun, moment));
                open = Some(Open::of(event, Some(moment), wanted));
            }
            None if is_out(&event.to) && (event.to != "unknown" || !is_out(&event.from)) => {
                open = Some(Open::of(event, Some(moment), wanted));
            }
            None => {}
        }
    }
    (ended, open)
}

/// Whether no new users are sent to a mirror in this state.
fn is_out(state: &str) -> bool {
    !matches!(state, "up" | "suspect" | "warming" | "unattended")
}

/// When a transition happened that was seen `at`, after the mirror's last one.
fn moment(at: u64, last: Option<u64>, gaps: &[RunGapView]) -> Moment {
    let gap = gaps.iter().rev().find(|gap| gap.until_unix_ms <= at);
    let unseen = gap.filter(|gap| {
        at - gap.until_unix_ms <= AFTER_START_MS && last.is_none_or(|last| last <= gap.from_unix_ms)
    });
    Moment { at_unix_ms: at, not_before_unix_ms: unseen.map(|gap| gap.from_unix_ms) }
}

/// How one stands that no transition ends.
fn end_now((domain, mirror, family): &Key, fleet: Option<&[FleetMirror]>) -> End {
    let Some(fleet) = fleet else { return End::Still };
    let found = fleet.iter().find(|m| m.domain == *domain && m.mirror == *mirror);
    let verdict = found.and_then(|m| m.verdicts.iter().find(|v| v.family == *family));
    match verdict {
        None => End::Removed,
        // Its last transition was not kept; the verdict knows since when it is so.
        Some(verdict) if verdict.eligible => {
            End::At(Moment { at_unix_ms: verdict.since_unix_ms, not_before_unix_ms: None })
        }
        Some(_) => End::Still,
    }
}

/// Mirrors that are out and of which no transition is kept.
fn silent<'a>(
    mirror: &'a FleetMirror,
    lines: &'a BTreeMap<Key, Vec<&EventView>>,
    planned: &'a impl Fn(&str) -> bool,
) -> impl Iterator<Item = Outage> + 'a {
    let out = mirror.verdicts.iter().filter(|v| is_out(&v.state) && v.state != "unknown");
    out.filter_map(move |verdict| {
        let key = (mirror.domain.clone(), mirror.mirror.clone(), verdict.family.clone());
        let since = Moment { at_unix_ms: verdict.since_unix_ms, not_before_unix_ms: None };
        let open = Open {
            from: (verdict.since_unix_ms > 0).then_some(since),
            planned: planned(&verdict.reason),
            reason: verdict.reason.clone(),
            vantage: verdict.vantage.clone(),
            evidence: String::new(),
        };
        (!lines.contains_key(&key)).then(|| outage(&key, open, End::Still))
    })
}

fn outage((domain, mirror, family): &Key, open: Open, until: End) -> Outage {
    let Open { from, planned, reason, vantage, evidence } = open;
    Outage {
        domain: domain.clone(),
        mirror: mirror.clone(),
        family: family.clone(),
        planned,
        from,
        until,
        reason,
        vantage,
        evidence,
        unwatched_ms: 0,
    }
}

fn unwatched(outage: &Outage, gaps: &[RunGapView], now: u64) -> u64 {
    let from = outage.from.map_or(0, |from| from.at_unix_ms);
    let until = match outage.until {
        End::At(moment) => moment.at_unix_ms,
        End::Still | End::Removed => now,
    };
    let overlap = |gap: &RunGapView| gap.until_unix_ms.min(until).saturating_sub(gap.from_unix_ms.max(from));
    gaps.iter().map(overlap).sum()
}

#[cfg(test)]
#[path = "outages_tests.rs"]
mod tests;
