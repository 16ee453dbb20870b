//! Verdicts overruled by a person: up, down, frozen as they are; and what failed let back.

use super::{mirrors_of, must_exist};
use crate::broker::Context;
use crate::change::make;
use clap::ValueEnum;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::{
    Content, Edit, EntryKey, ForceBody, ForceBodyTo, Plan, PlanError, RegistryView,
};
use std::time::Duration;

/// What a verdict is forced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForceState {
    /// Serving
    Up,
    /// Not serving
    Down,
    /// Whatever it is now
    Freeze,
    /// No longer forced
    Clear,
}

impl ForceState {
    fn order(self) -> Option<ForceBodyTo> {
        match self {
            ForceState::Up => Some(ForceBodyTo::Up),
            ForceState::Down => Some(ForceBodyTo::Down),
            ForceState::Freeze => Some(ForceBodyTo::Freeze),
            ForceState::Clear => None,
        }
    }
}

/// Overrules the health of a mirror, or ends that.
pub async fn force(
    context: &Context,
    name: &str,
    state: ForceState,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let key = EntryKey::mirror(name)?;
    let until = until(duration.unwrap_or_default());
    let plan = |view: &RegistryView| {
        must_exist(view, &key)?;
        let edit = match state.order() {
            Some(to) => Some(put(&key, to, until)),
            None => clear(view, &key, |_| true)?,
        };
        Plan::of_edits(view, edit.into_iter().collect())
    };
    let word = state.order().map_or("clear", ForceBodyTo::as_str);
    make(context, &format!("force {key} {word}"), plan).await
}

/// Lets a mirror back that is held down or awaits this. A force that holds is not ended in passing.
pub async fn release(context: &Context, name: &str) -> anyhow::Result<()> {
    let key = EntryKey::mirror(name)?;
    let now = now_unix_ms();
    let plan = |view: &RegistryView| {
        must_exist(view, &key)?;
        if let Some(body) = holding(view, &key, now)? {
            return Err(PlanError::Refused(format!(
                "{key} is forced ({}) until {}; end that first with `force {} clear`",
                body.to.as_str(),
                moment::show(body.until_unix_ms),
                key.name()
            )));
        }
        Plan::of_edits(view, vec![put(&key, ForceBodyTo::Release, now)])
    };
    make(context, &format!("release {key}"), plan).await
}

/// Freezes all mirrors of a domain as they are. What is forced up or down stays so.
pub async fn freeze(context: &Context, name: &str, duration: Duration) -> anyhow::Result<()> {
    let key = EntryKey::domain(name)?;
    let (now, until) = (now_unix_ms(), until(duration));
    let plan = |view: &RegistryView| {
        let mirrors = mirrors_of(view, &key)?;
        if mirrors.is_empty() {
            return Err(PlanError::Refused(format!("{key} has no mirrors to freeze")));
        }
        let (mut edits, mut warnings) = (Vec::new(), Vec::new());
        for mirror in &mirrors {
            match holding(view, mirror, now)?.filter(|body| body.to != ForceBodyTo::Freeze) {
                None => edits.push(put(mirror, ForceBodyTo::Freeze, until)),
                Some(body) => warnings.push(format!(
                    "{mirror} is not frozen: it is forced {} until {}",
                    body.to.as_str(),
                    moment::show(body.until_unix_ms)
                )),
            }
        }
        let mut plan = Plan::of_edits(view, edits)?;
        plan.warnings.extend(warnings);
        Ok(plan)
    };
    make(context, &format!("freeze {key}"), plan).await
}

/// Ends the freeze of all mirrors of a domain, and nothing else that people ordered.
pub async fn unfreeze(context: &Context, name: &str) -> anyhow::Result<()> {
    let key = EntryKey::domain(name)?;
    let plan = |view: &RegistryView| {
        let mut edits = Vec::new();
        for mirror in mirrors_of(view, &key)? {
            edits.extend(clear(view, &mirror, |to| to == ForceBodyTo::Freeze)?);
        }
        Plan::of_edits(view, edits)
    };
    make(context, &format!("unfreeze {key}"), plan).await
}

fn until(duration: Duration) -> u64 {
    now_unix_ms().saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn put(key: &EntryKey, to: ForceBodyTo, until_unix_ms: u64) -> Edit {
    Edit::put(key.force(), Content::Force(ForceBody { to, until_unix_ms }))
}

/// The forced verdict that is there, over or not; a release is none.
fn forced<'a>(view: &'a RegistryView, key: &EntryKey) -> Result<Option<&'a ForceBody>, PlanError> {
    let order = key.force();
    match view.content(&order) {
        Some(Content::Force(body)) => Ok(Some(body).filter(|b| b.to != ForceBodyTo::Release)),
        _ if view.has(&order) => Err(PlanError::Unreadable(order)),
        _ => Ok(None),
    }
}

/// The forced verdict that is there and not over.
fn holding<'a>(
    view: &'a RegistryView,
    key: &EntryKey,
    now_unix_ms: u64,
) -> Result<Option<&'a ForceBody>, PlanError> {
    Ok(forced(view, key)?.filter(|body| body.until_unix_ms > now_unix_ms))
}

/// The wish that a forced verdict for which `which` holds be gone.
fn clear(
    view: &RegistryView,
    key: &EntryKey,
    which: impl Fn(ForceBodyTo) -> bool,
) -> Result<Option<Edit>, PlanError> {
    Ok(forced(view, key)?.filter(|body| which(body.to)).map(|_| Edit::remove(key.force())))
}
