//! `nearmost status`: what is wrong, worst first, on one screen.
//!
//! ```text
//! the broker itself ─┐  not ready, doubts itself, failing findings of its own examination
//! domains            ├─ without a mirror that takes users
//! mirrors            │  out: since when, why, on what evidence, where their users go
//! peers              │  down or behind
//! last changes       │
//! N of M well ───────┘
//! ```
//! Only the fleet must be told; what else a broker has not is left out, and what it does not say in time is named.

mod all;
mod screen;
mod trouble;

use crate::args::StatusArgs;
use crate::broker::Context;
use crate::failure::{Kind, kind, report};
use crate::output::{columns, complain, emit_json, emit_painted, rows, unless_gone};
use nearmost_client::ClientError;
use nearmost_client::api::{
    CheckupResponse, EventView, FindingView, FleetResponse, PeersResponse, TrafficResponse,
};
use nearmost_client::clock::now_unix_ms;
use serde_json::{Value, json};
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;
use trouble::Trouble;

/// How long what need not be told may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Events of so long ago are of interest, where the broker writes them down.
const RECENT: Duration = Duration::from_secs(3600);
const RECENT_MOST: usize = 200;
/// How many of them JSON has.
const RECENT_TOLD: usize = 20;
/// `--watch` shows it anew this often.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything that a broker told.
pub struct Told {
    fleet: FleetResponse,
    not_ready: Option<String>,
    peers: Option<PeersResponse>,
    traffic: Option<TrafficResponse>,
    checkup: Option<CheckupResponse>,
    events: Vec<EventView>,
    /// What the broker was asked for and said nothing of.
    unanswered: Vec<&'static str>,
    now_unix_ms: u64,
}

impl Told {
    async fn ask(context: &Context) -> Result<Told, ClientError> {
        let client = &context.client;
        let (fleet, not_ready, peers, traffic, checkup, events) = tokio::join!(
            client.fleet(),
            part(client.not_ready()),
            part(client.peers()),
            part(client.traffic()),
            part(client.checkup()),
            part(recent(context)),
        );
        let silent = [
            ("readiness", matches!(not_ready, Part::Silent)),
            ("peers", matches!(peers, Part::Silent)),
            ("traffic", matches!(traffic, Part::Silent)),
            ("its examination", matches!(checkup, Part::Silent)),
            ("events", matches!(events, Part::Silent)),
        ];
        Ok(Told {
            fleet: fleet?,
            not_ready: match not_ready {
                Part::Told(missing) => missing,
                Part::Refused(why) => Some(why),
                Part::Silent => None,
            },
            peers: peers.told(),
            traffic: traffic.told().flatten(),
            checkup: checkup.told().flatten(),
            events: events.told().unwrap_or_default(),
            unanswered: silent.into_iter().filter(|(_, silent)| *silent).map(|(what, _)| what).collect(),
            now_unix_ms: now_unix_ms(),
        })
    }

    /// What the broker's examination found to be wrong.
    fn failing(&self) -> impl Iterator<Item = &FindingView> {
        self.checkup.iter().flat_map(|c| &c.findings).filter(|f| f.level == "fail")
    }

    /// Whether a person should be woken.
    fn is_wrong(&self, trouble: &Trouble<'_>) -> bool {
        trouble.is_wrong()
            || self.not_ready.is_some()
            || self.fleet.doubts_itself
            || self.failing().next().is_some()
    }
}

/// What came of asking for something that need not be told.
enum Part<T> {
    Told(T),
    /// The broker has not this, or not for us; or what answers is no broker.
    Refused(String),
    /// It did not say anything in time.
    Silent,
}

impl<T> Part<T> {
    fn told(self) -> Option<T> {
        match self {
            Part::Told(told) => Some(told),
            Part::Refused(_) | Part::Silent => None,
        }
    }
}

async fn part<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Part<T> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(told)) => Part::Told(told),
        Ok(Err(e @ (ClientError::Api { .. } | ClientError::Answer { .. }))) => Part::Refused(e.to_string()),
        Ok(Err(_)) | Err(_) => Part::Silent,
    }
}

async fn recent(context: &Context) -> Result<Vec<EventView>, ClientError> {
    let since = now_unix_ms().saturating_sub(u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX));
    if let Some(events) = context.client.events_since(since, RECENT_MOST, &[]).await? {
        return Ok(events);
    }
    Ok(context.client.events_retained(None).await?.events)
}

/// Prints what is wrong, or with `--all` every mirror with its place and addresses.
pub async fn status(context: &Context, args: &StatusArgs) -> anyhow::Result<Option<Kind>> {
    if args.watch {
        return watch(context).await.map(|()| None);
    }
    let told = {
        let told = Box::pin(Told::ask(context));
        crate::progress::during(context.json, "asking the broker", told).await?
    };
    let trouble = Trouble::of(&told.fleet);
    let printed = match (context.json, args.all) {
        (true, _) => emit_json(&as_json(&told, &trouble)?),
        (false, true) => all::print(&told.fleet),
        (false, false) => emit_painted(&screen::render(&told, &trouble, columns(), rows())),
    };
    if args.check {
        unless_gone(printed)?;
        return Ok(told.is_wrong(&trouble).then_some(Kind::Wrong));
    }
    printed.map(|()| None)
}

/// Until interrupted. A broker that does not answer is told of and asked again.
async fn watch(context: &Context) -> anyhow::Result<()> {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    loop {
        match Told::ask(context).await {
            Ok(told) if context.json => {
                crate::output::emit_json_line(&as_json(&told, &Trouble::of(&told.fleet))?)?;
            }
            Ok(told) => {
                let shown = screen::render(&told, &Trouble::of(&told.fleet), columns(), rows());
                emit_painted(&format!("{clear}{shown}"))?;
            }
            Err(e) => {
                let e = anyhow::Error::from(e);
                // Asking again does not help.
                if kind(&e) == Kind::Unauthorised {
                    return Err(e);
                }
                match context.json {
                    true => complain(&report(&e, true)),
                    false => emit_painted(&format!("{clear}{}", report(&e, false)))?,
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The fleet, with all else beside its keys.
fn as_json(told: &Told, trouble: &Trouble<'_>) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(&told.fleet)?;
    let out: Vec<Value> =
        trouble.out.iter().map(|m| json!(format!("{}/{}", m.mirror.domain, m.mirror.mirror))).collect();
    let more = json!({
        "not_ready": told.not_ready,
        "unanswered": told.unanswered,
        "dead_domains": trouble.dead.iter().map(|(domain, _)| domain).collect::<Vec<_>>(),
        "wrong": out,
        "well": trouble.well,
        "peers": told.peers.as_ref().map(|p| &p.peers),
        "traffic": told.traffic,
        "findings": told.checkup.as_ref().map(|c| &c.findings),
        "events": told.events.iter().rev().take(RECENT_TOLD).rev().collect::<Vec<_>>(),
    });
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), more) {
        all.extend(more);
    }
    Ok(value)
}
