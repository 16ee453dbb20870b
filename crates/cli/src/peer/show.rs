//! `nearmost peer show`.

use super::list::{behind, called, compared, queue, state};
use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::table::Table;
use anyhow::bail;
use nearmost_client::api::{PeerView, PeersResponse};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::{StateError, members};

/// Prints everything known of a peer.
pub async fn show(context: &Context, name: &str) -> anyhow::Result<()> {
    let all = context.client.peers().await?;
    let peer = find(&all, name)?;
    if context.json {
        return emit_json(&serde_json::to_value(peer)?);
    }
    let held = context.client.held::<StateError>().await?;
    let mut text = render(&all, peer, now_unix_ms());
    for (id, until, reason) in members::bans(&held).iter().filter(|(id, ..)| *id == peer.id) {
        let until = if *until == u64::MAX { "for ever".into() } else { moment::show(*until) };
        text.push_str(&format!("banned        {id} until {until}{}\n", because(reason)));
    }
    emit(&text)
}

fn find<'a>(all: &'a PeersResponse, name: &str) -> anyhow::Result<&'a PeerView> {
    let found: Vec<&PeerView> =
        all.peers.iter().filter(|p| p.id == name || p.name.eq_ignore_ascii_case(name)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let names: Vec<&str> = all.peers.iter().map(|p| p.name.as_str()).collect();
            bail!("there is no peer {name:?}; there are {}", names.join(", "))
        }
        _ => {
            let ids: Vec<&str> = found.iter().map(|p| p.id.as_str()).collect();
            bail!("several peers are called {name:?}, name one by its id: {}", ids.join(", "))
        }
    }
}

fn render(all: &PeersResponse, peer: &PeerView, now: u64) -> String {
    let mut out = String::new();
    let mut line =
        |what: &str, text: String| out.push_str(&format!("{what:<14}{}\n", text.replace('\n', " ")));
    let moment_of = |at: u64| if at == 0 { "never".into() } else { moment::show(at) };
    let list = |texts: &[String]| if texts.is_empty() { "none".into() } else { texts.join(", ") };
    line("name", peer.name.clone());
    line("id", peer.id.clone());
    line("rights", rights(peer));
    line(
        "member",
        peer.via.as_deref().map_or("-".into(), |via| format!("on the word of {}", called(all, via))),
    );
    line("addresses", list(&peer.addresses));
    line("state", state(peer, now));
    line("last contact", moment_of(peer.last_contact_unix_ms));
    if peer.state != "up" {
        let next = peer.next_try_ms.map_or("-".into(), |ms| format!("in {:.1} s", ms as f64 / 1000.0));
        line("next try", format!("{next}, after {} failed attempts", peer.attempts));
    }
    line("round trip", peer.rtt_ms.map_or("unknown".into(), |ms| format!("{ms:.1} ms")));
    line("queue", queue(&peer.queue));
    line("", format!("{} paused after a refusal that may pass", peer.queue.paused));
    line("", format!("{} bytes under way", peer.queue.in_flight_bytes));
    line("", format!("{} waited too long and were dropped, ever", peer.queue.expired));
    line("", format!("{} refused for good since this broker's start", peer.queue.refused));
    line("behind", behind(peer));
    line("compared", format!("{} ({})", compared(peer, now), moment_of(peer.last_compared_unix_ms)));
    let sees: Vec<String> = peer.sees.iter().map(|id| called(all, id)).collect();
    line("sees", list(&sees));
    if !peer.refusals.is_empty() {
        out.push_str("refused lately, oldest first:\n");
        let mut table = Table::new(&["AT", "RECORD", "ANSWER", "WHY"]);
        for refusal in &peer.refusals {
            let answer = refusal.answer.replace('_', " ");
            table.row(vec![
                moment::show(refusal.at_unix_ms),
                refusal.record.clone(),
                answer,
                refusal.why.clone(),
            ]);
        }
        out.push_str(&table.render());
    }
    out
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", reason.replace('\n', " ")) }
}

fn rights(peer: &PeerView) -> String {
    let domains = if peer.domains.is_empty() { "none".into() } else { peer.domains.join(", ") };
    match peer.admin {
        true => format!("admin; domains: {domains}"),
        false => format!("no admin; domains: {domains}"),
    }
}
