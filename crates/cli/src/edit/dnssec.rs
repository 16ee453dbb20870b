//! `nearmost domain dnssec …`: what a domain is signed with.

use crate::broker::Context;
use crate::change::{make, view};
use crate::output::{emit, emit_json, notice};
use crate::table::Table;
use anyhow::bail;
use clap::Args;
use nearmost_client::api::{DnssecResponse, PeerView};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::dnssec::{KeyChange, next_generation, plan};
use nearmost_client::registry::{EntryKey, RegistryView};
use nearmost_client::text::printable;

/// What is to happen to the keys of the broker's site; without, they are shown.
#[derive(Debug, Args)]
pub struct DnssecArgs {
    /// The domain, which is a zone of its own
    name: String,
    #[command(flatten)]
    change: DnssecChange,
    /// With --ds-seen: although other brokers may not serve the new key yet
    #[arg(long, requires = "ds_seen")]
    anyway: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct DnssecChange {
    /// Sign it from now on. Its parent is given the DS once this command shows one
    #[arg(long)]
    enable: bool,
    /// Make a new key that takes the place of the active one
    #[arg(long)]
    roll: bool,
    /// The parent has the DS of the newest key now
    #[arg(long)]
    ds_seen: bool,
    /// Sign it no longer. First the DS goes from the parent, then say --ds-gone
    #[arg(long)]
    disable: bool,
    /// The parent has no DS any more
    #[arg(long)]
    ds_gone: bool,
}

impl DnssecChange {
    fn wanted(&self) -> Option<(KeyChange, &'static str)> {
        let all = [
            (self.enable, KeyChange::Enable, "sign"),
            (self.roll, KeyChange::Roll, "roll the key of"),
            (self.ds_seen, KeyChange::DsSeen, "DS seen of"),
            (self.disable, KeyChange::Disable, "sign no longer"),
            (self.ds_gone, KeyChange::DsGone, "DS gone of"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, change, note)| (change, note))
    }
}

/// Shows the keys of a domain, or changes those of the broker's site.
pub async fn dnssec(context: &Context, args: &DnssecArgs) -> anyhow::Result<()> {
    let key = EntryKey::domain(&args.name)?;
    let Some((change, note)) = args.change.wanted() else {
        return show(context, &context.client.dnssec(&key.scope, None).await?);
    };
    if change == KeyChange::DsSeen && !args.anyway {
        known_everywhere(context).await?;
    }
    let site = context.client.dnssec(&key.scope, None).await?.site;
    let next = next_generation(&view(context).await?, &key.scope, &site);
    let told = context.client.dnssec(&key.scope, Some(next)).await?;
    let planned = |view: &RegistryView| plan(view, &told, change, now_unix_ms());
    make(context, &format!("{note} {key}"), planned).await
}

/// Refuses where another broker may serve a key set without the key that is about to sign: whoever has that set
/// in its cache does not believe what the key signs (RFC 8901 §6).
async fn known_everywhere(context: &Context) -> anyhow::Result<()> {
    match context.client.peers().await {
        Ok(told) => match lagging(&told.peers) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        },
        // Whoever may change the keys of a domain need not be one who may look at the federation.
        Err(error) => {
            notice(context.json, &format!("warning: cannot see whether all brokers know the key: {error}"));
            Ok(())
        }
    }
}

/// Why keys should not change now: which brokers were not told all that this one knows.
fn lagging(peers: &[PeerView]) -> Option<String> {
    let lag = |peer: &&PeerView| peer.queue.records > 0 || peer.behind.is_some();
    let names: Vec<String> = peers.iter().filter(lag).map(|peer| printable(&peer.name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "not told all yet: {}. While they serve keys without the new one, resolvers may refuse what it signs. Wait \
             until `nearmost peer list` shows nothing queued for them, and as long again as the key was published; or \
             take them out of the delegation and say --anyway",
            names.join(", ")
        )
    })
}

fn show(context: &Context, told: &DnssecResponse) -> anyhow::Result<()> {
    if context.json {
        return emit_json(&serde_json::to_value(told)?);
    }
    if told.keys.is_empty() {
        return emit(&format!("{} is not signed\n", told.domain));
    }
    let mut table = Table::new(&["KEY", "TAG", "STAGE", "UNTIL", "THEN", "WHOSE"]);
    for key in &told.keys {
        let whose = if key.own { "this site's" } else { "another site's" };
        table.row(vec![
            key.id.clone(),
            key.tag.to_string(),
            key.stage.clone(),
            key.until_unix_ms.map(moment::show).unwrap_or_default(),
            key.next_stage.clone().unwrap_or_default(),
            whose.into(),
        ]);
    }
    let mut text = table.render();
    for key in &told.keys {
        text.push_str(&format!("{}. DNSKEY {}\n", told.domain, key.dnskey));
    }
    for key in told.keys.iter().filter(|k| !k.ds.is_empty() && matches!(k.stage.as_str(), "ready" | "active"))
    {
        text.push_str(&format!("{}. DS {}\n", told.domain, key.ds));
    }
    emit(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_client::api::PeerQueueView;

    fn peer(name: &str, records: u64, behind: Option<&str>) -> PeerView {
        PeerView {
            id: format!("nb1{name}"),
            name: name.into(),
            admin: false,
            domains: Vec::new(),
            via: None,
            addresses: Vec::new(),
            state: "down".into(),
            last_contact_unix_ms: 0,
            up_since_unix_ms: None,
            attempts: 0,
            last_error: None,
            next_try_ms: None,
            rtt_ms: None,
            queue: PeerQueueView {
                records,
                paused: 0,
                in_flight_bytes: 0,
                oldest_ms: None,
                expired: 0,
                refused: 0,
            },
            behind: behind.map(str::to_owned),
            last_compared_unix_ms: 0,
            comparing: None,
            sees: Vec::new(),
            refusals: Vec::new(),
        }
    }

    #[test]
    fn a_key_waits_for_brokers_that_were_not_told_all() {
        // Whoever is down and was told all serves the key when it is back.
        assert_eq!(lagging(&[peer("amy", 0, None)]), None);
        let why = lagging(&[peer("amy", 0, None), peer("bob", 2, None), peer("cat", 0, Some("expired"))]);
        let why = why.expect("two lag");
        assert!(why.starts_with("not told all yet: bob, cat."), "{why}");
    }
}
