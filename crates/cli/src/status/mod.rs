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
//! Only the fleet must be told; what else a broker does not tell is left out.

mod all;
mod screen;
mod trouble;

use crate::args::StatusArgs;
use crate::broker::Context;
use crate::failure::{Kind, report};
use crate::output::{columns, emit_json, emit_painted, rows};
use nearmost_client::ClientError;
use nearmost_client::api::{CheckupResponse, EventView, FleetResponse, PeersResponse, TrafficResponse};
use nearmost_client::clock::now_unix_ms;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;
use trouble::Trouble;

/// Events of so long ago are of interest, where the broker writes them down.
const RECENT: Duration = Duration::from_secs(3600);
const RECENT_MOST: u32 = 200;
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
    now_unix_ms: u64,
}

impl Told {
    async fn ask(context: &Context) -> Result<Told, ClientError> {
        let client = &context.client;
        let (fleet, not_ready, peers, traffic, checkup, events) = tokio::join!(
            client.fleet(),
            client.not_ready(),
            client.peers(),
            client.traffic(),
            client.checkup(),
            recent(context),
        );
        Ok(Told {
            fleet: fleet?,
            not_ready: not_ready.ok().flatten(),
            peers: peers.ok(),
            traffic: traffic.ok().flatten(),
            checkup: checkup.ok().flatten(),
            events: events.unwrap_or_default(),
            now_unix_ms: now_unix_ms(),
        })
    }
}

async fn recent(context: &Context) -> Result<Vec<EventView>, ClientError> {
    let since = now_unix_ms().saturating_sub(u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX));
    if let Some(events) = context.client.events_history(since, RECENT_MOST).await? {
        return Ok(events);
    }
    Ok(context.client.events_retained(None).await?.events)
}

/// Prints what is wrong, or with `--all` every mirror with its place and addresses.
pub async fn status(context: &Context, args: &StatusArgs) -> anyhow::Result<Option<Kind>> {
    if args.watch {
        return watch(context).await.map(|()| None);
    }
    let told = crate::progress::during(context.json, "asking the broker", Told::ask(context)).await?;
    let trouble = Trouble::of(&told.fleet);
    match (context.json, args.all) {
        (true, _) => emit_json(&as_json(&told, &trouble)?)?,
        (false, true) => all::print(&told.fleet)?,
        (false, false) => emit_painted(&screen::render(&told, &trouble, columns(), rows()))?,
    }
    let wrong = args.check && (trouble.is_wrong() || told.not_ready.is_some() || told.fleet.doubts_itself);
    Ok(wrong.then_some(Kind::Wrong))
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
            Err(e) if context.json => eprint!("{}", report(&e.into(), true)),
            Err(e) => emit_painted(&format!("{clear}{}", report(&e.into(), false)))?,
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
