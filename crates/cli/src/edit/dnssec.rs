//! `nearmost domain dnssec …`: what a domain is signed with.

use crate::broker::Context;
use crate::change::{make, view};
use crate::output::{emit, emit_json};
use crate::table::Table;
use clap::Args;
use nearmost_client::api::DnssecResponse;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::dnssec::{KeyChange, next_generation, plan};
use nearmost_client::registry::{EntryKey, RegistryView};

/// What is to happen to the keys of the broker's site; without, they are shown.
#[derive(Debug, Args)]
pub struct DnssecArgs {
    /// The domain, which is a zone of its own
    name: String,
    #[command(flatten)]
    change: DnssecChange,
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
    let site = context.client.dnssec(&key.scope, None).await?.site;
    let next = next_generation(&view(context).await?, &key.scope, &site);
    let told = context.client.dnssec(&key.scope, Some(next)).await?;
    let planned = |view: &RegistryView| plan(view, &told, change, now_unix_ms());
    make(context, &format!("{note} {key}"), planned).await
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
