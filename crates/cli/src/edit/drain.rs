//! Drain orders of mirrors, nodes and all mirrors of a domain: from now on, or as planned maintenance.

use super::{mirrors_of, must_exist};
use crate::broker::Context;
use crate::change::{make, view};
use crate::preview;
use crate::time::{When, parse_duration};
use clap::Args;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::{
    Content, DrainBody, Edit, EntryKey, EntryKind, Plan, PlanError, RegistryView, WindowBody,
};
use std::time::Duration;

/// Which entry, when, and a note.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// What to drain
    name: String,
    /// When to begin and end; without these from now on until `undrain`
    #[command(flatten)]
    window: WindowArgs,
    /// For whoever wonders why
    #[arg(long)]
    note: Option<String>,
    /// Only show where its users would go
    #[arg(long)]
    dry_run: bool,
}

/// A planned maintenance, added to those planned before.
#[derive(Debug, Default, Args)]
struct WindowArgs {
    /// Planned maintenance: begin then, e.g. 2026-12-01T02:00Z or +2h; default: now
    #[arg(long, value_name = "TIME", value_parser = When::parse, allow_hyphen_values = true, requires = "end")]
    from: Option<When>,
    /// Planned maintenance: end then, e.g. 2026-12-01T04:00Z or +4h
    #[arg(long, value_name = "TIME", value_parser = When::parse, allow_hyphen_values = true, group = "end")]
    until: Option<When>,
    /// Planned maintenance: end so long after the beginning, e.g. 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true, group = "end")]
    duration: Option<Duration>,
}

impl WindowArgs {
    /// The window that is meant, if any; one that is over or no time at all is refused.
    fn window(&self, now_unix_ms: u64) -> Result<Option<WindowBody>, PlanError> {
        let from = self.from.map_or(now_unix_ms, |from| from.unix_ms(now_unix_ms));
        let until = match (self.until, self.duration) {
            (Some(until), _) => until.unix_ms(now_unix_ms),
            (None, Some(duration)) => When::In(duration).unix_ms(from),
            (None, None) => return Ok(None),
        };
        let shown = moment::show;
        match () {
            () if until <= now_unix_ms => Err(PlanError::Refused(format!(
                "the maintenance would end at {}, and it is {} now",
                shown(until),
                shown(now_unix_ms)
            ))),
            () if until <= from => Err(PlanError::Refused(format!(
                "the maintenance would end at {}, which is not after its beginning at {}",
                shown(until),
                shown(from)
            ))),
            () => Ok(Some(WindowBody { from_unix_ms: from, until_unix_ms: until })),
        }
    }
}

/// Drains what `args` names, a domain by all of its mirrors. `key` reads the name.
pub async fn drain<E: std::error::Error + Send + Sync + 'static>(
    context: &Context,
    args: &DrainArgs,
    key: impl Fn(&str) -> Result<EntryKey, E>,
) -> anyhow::Result<()> {
    let key = key(&args.name)?;
    let now = now_unix_ms();
    let window = args.window.window(now)?;
    if args.dry_run {
        let all = targets(&view(context).await?, &key)?;
        let names = |kind| all.iter().filter(|k| k.kind == kind).map(EntryKey::name).collect::<Vec<_>>();
        return preview::drain(context, &names(EntryKind::Mirror), &names(EntryKind::Node)).await;
    }
    let plan = |view: &RegistryView| {
        let (mut edits, mut warnings) = (Vec::new(), Vec::new());
        for key in targets(view, &key)? {
            let before = ordered(view, &key.drain())?;
            warnings.extend(window.is_none().then(|| lost(&key, before, now)).flatten());
            let body = order(&key, before, window, args.note.as_ref(), now)?;
            edits.push(Edit::put(key.drain(), Content::Drain(body)));
        }
        let mut plan = Plan::of_edits(view, edits)?;
        plan.warnings.extend(warnings);
        Ok::<Plan, PlanError>(plan)
    };
    let when = window
        .map(|w| format!(" from {} until {}", moment::show(w.from_unix_ms), moment::show(w.until_unix_ms)));
    make(context, &format!("drain {key}{}", when.unwrap_or_default()), plan).await
}

/// Lifts the drains of a mirror, a node, or all mirrors of a domain, planned ones too.
pub async fn undrain(context: &Context, key: &EntryKey) -> anyhow::Result<()> {
    let plan = |view: &RegistryView| {
        let targets = match key.kind {
            EntryKind::Domain => mirrors_of(view, key)?,
            _ => must_exist(view, key).map(|()| vec![key.clone()])?,
        };
        let orders = targets.iter().map(EntryKey::drain).filter(|order| view.has(order));
        Plan::of_edits(view, orders.map(Edit::remove).collect())
    };
    make(context, &format!("undrain {key}"), plan).await
}

/// What is drained; it must be there.
fn targets(view: &RegistryView, key: &EntryKey) -> Result<Vec<EntryKey>, PlanError> {
    match key.kind {
        EntryKind::Domain => match mirrors_of(view, key)? {
            none if none.is_empty() => Err(PlanError::Refused(format!("{key} has no mirrors to drain"))),
            mirrors => Ok(mirrors),
        },
        _ => must_exist(view, key).map(|()| vec![key.clone()]),
    }
}

/// The drain order that is there.
fn ordered<'a>(view: &'a RegistryView, order: &EntryKey) -> Result<Option<&'a DrainBody>, PlanError> {
    match view.content(order) {
        Some(Content::Drain(body)) => Ok(Some(body)),
        _ if view.has(order) => Err(PlanError::Unreadable(order.clone())),
        _ => Ok(None),
    }
}

/// The order of `key` with this window added to those that are not over; without one the drain holds until
/// it is lifted. A window in the place of a drain that holds would lift it, so that is refused.
fn order(
    key: &EntryKey,
    before: Option<&DrainBody>,
    window: Option<WindowBody>,
    note: Option<&String>,
    now_unix_ms: u64,
) -> Result<DrainBody, PlanError> {
    let Some(window) = window else { return Ok(DrainBody { note: note.cloned(), windows: Vec::new() }) };
    if before.is_some_and(|b| b.windows.is_empty()) {
        return Err(PlanError::Refused(format!(
            "{key} is drained already until `undrain` lifts it; plan its maintenance after that"
        )));
    }
    let before = before.cloned().unwrap_or_default();
    let mut windows: Vec<WindowBody> = before.windows;
    windows.retain(|w| w.until_unix_ms > now_unix_ms);
    windows.push(window);
    windows.sort();
    windows.dedup();
    Ok(DrainBody { note: note.cloned().or(before.note), windows })
}

/// What is said where a drain from now on takes the place of planned ones.
fn lost(key: &EntryKey, before: Option<&DrainBody>, now_unix_ms: u64) -> Option<String> {
    match before?.windows.iter().filter(|w| w.until_unix_ms > now_unix_ms).count() {
        0 => None,
        n => Some(format!("{key} had {n} maintenance windows, which this drain replaces")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn at(from: u64, until: u64) -> WindowBody {
        WindowBody { from_unix_ms: NOW + from, until_unix_ms: NOW + until }
    }

    #[test]
    fn windows_are_read() {
        let hours = |n: u64| Some(When::In(Duration::from_secs(n * 3600)));
        let window = |from, until, duration: Option<u64>| {
            let duration = duration.map(|h| Duration::from_secs(h * 3600));
            WindowArgs { from, until, duration }.window(NOW).map_err(|e| e.to_string())
        };
        const HOUR: u64 = 3_600_000;
        assert_eq!(window(None, None, None), Ok(None));
        assert_eq!(window(None, hours(2), None), Ok(Some(at(0, 2 * HOUR))));
        assert_eq!(window(hours(2), None, Some(1)), Ok(Some(at(2 * HOUR, 3 * HOUR))));
        assert_eq!(window(Some(When::At(NOW - 5)), hours(1), None).unwrap().unwrap().from_unix_ms, NOW - 5);
        let past = window(Some(When::At(NOW - 9)), Some(When::At(NOW)), None).unwrap_err();
        assert!(
            past.contains("would end at 1970-01-12 13:46:40 UTC, and it is 1970-01-12 13:46:40"),
            "{past}"
        );
        let backwards = window(hours(2), hours(1), None).unwrap_err();
        assert!(backwards.contains("not after its beginning at 1970-01-12 15:46:40 UTC"), "{backwards}");
    }

    #[test]
    fn windows_are_added_to_those_that_are_not_over() {
        let key = EntryKey::node("n").unwrap();
        let note = Some("disks".to_owned());
        let over = WindowBody { from_unix_ms: NOW - 9, until_unix_ms: NOW };
        let open = WindowBody { from_unix_ms: NOW - 9, until_unix_ms: NOW + 1 };
        let before = DrainBody { note: note.clone(), windows: vec![at(50, 60), over, open] };
        let add = |window| order(&key, Some(&before), Some(window), None, NOW).unwrap();
        assert_eq!(add(at(20, 30)), DrainBody { note, windows: vec![open, at(20, 30), at(50, 60)] });
        assert_eq!(add(at(50, 60)).windows, [open, at(50, 60)], "the same one is there once");
        assert_eq!(order(&key, Some(&before), None, None, NOW).unwrap(), DrainBody::default());
        assert!(lost(&key, Some(&before), NOW).unwrap().contains("node n had 2 maintenance windows"));
        let holds = DrainBody::default();
        let refused = order(&key, Some(&holds), Some(at(1, 2)), None, NOW).unwrap_err().to_string();
        assert!(refused.contains("node n is drained already until `undrain`"), "{refused}");
        assert_eq!(lost(&key, Some(&holds), NOW), None);
    }
}
