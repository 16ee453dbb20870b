//! `nearmost mirror …`

use super::drain::{DrainArgs, drain, undrain};
use super::force::{ForceState, force, release};
use super::probe::ProbeFields;
use super::{clearable, current, must_not_exist};
use crate::args::{Item, PlaceArgs, address_item};
use crate::broker::Context;
use crate::change::make;
use crate::output::emit_json;
use crate::table::Table;
use crate::time::parse_duration;
use clap::{Args, Subcommand, ValueEnum};
use nearmost_client::registry::{
    Content, Edit, EntryKey, HealthBody, MirrorBody, Plan, PlanError, RegistryView,
};
use std::net::IpAddr;
use std::time::Duration;

/// Mirrors, written DOMAIN/NAME.
#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// Register a mirror
    Add {
        /// DOMAIN/NAME
        name: String,
        /// What it says
        #[command(flatten)]
        fields: Box<MirrorFields>,
    },
    /// Change what is given, leave the rest
    Set {
        /// DOMAIN/NAME
        name: String,
        /// What it says
        #[command(flatten)]
        fields: Box<MirrorFields>,
    },
    /// Remove a mirror
    Remove {
        /// DOMAIN/NAME
        name: String,
    },
    /// All mirrors
    List,
    /// Send no new users there, from now on or within a planned maintenance
    Drain(DrainArgs),
    /// Lift its drain, and its planned maintenance
    Undrain {
        /// DOMAIN/NAME
        name: String,
    },
    /// Overrule its health for a while
    Force {
        /// DOMAIN/NAME
        name: String,
        /// To what; clear ends the order early
        state: ForceState,
        /// How long, e.g. 10m
        #[arg(long = "for", value_parser = parse_duration, allow_hyphen_values = true, value_name = "DURATION", required_if_eq_any([("state", "up"), ("state", "down"), ("state", "freeze")]))]
        duration: Option<Duration>,
    },
    /// Let it back at once when it is held down, or waits for that
    Release {
        /// DOMAIN/NAME
        name: String,
    },
}

/// Where health comes from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Health {
    /// The node's agent
    Agent,
    /// The broker's own probes
    Probe,
    /// By hand: serving
    ManualUp,
    /// By hand: not serving
    ManualDown,
}

/// Fields of a mirror.
#[derive(Debug, Default, Args)]
pub struct MirrorFields {
    /// The node that runs it; an empty text clears it
    #[arg(long)]
    node: Option<String>,
    /// At most one IPv4 and one IPv6 address; replaces all, and a hostname; an empty text clears
    #[arg(long, value_name = "IP", conflicts_with = "hostname", value_parser = address_item)]
    address: Vec<Item<IpAddr>>,
    /// A host name to follow instead of addresses; an empty text clears it
    #[arg(long)]
    hostname: Option<String>,
    /// Service port
    #[arg(long)]
    port: Option<u16>,
    /// Share among near-equals; 100 is usual
    #[arg(long)]
    weight: Option<u32>,
    /// Where its health comes from
    #[arg(long)]
    health: Option<Health>,
    /// Base URL for redirects; an empty text clears it
    #[arg(long)]
    url: Option<String>,
    /// Port of its node's ingress, where sessions are taken in; 0 clears it
    #[arg(long)]
    ingress: Option<u16>,
    /// Where it is
    #[command(flatten)]
    place: PlaceArgs,
    /// How brokers probe it
    #[command(flatten)]
    probe: ProbeFields,
}

impl MirrorFields {
    fn patch(&self, body: &mut MirrorBody) {
        clearable(&self.node, &mut body.node);
        body.node = body.node.take().map(|n| n.to_ascii_lowercase());
        if !self.address.is_empty() {
            Item::replace(&mut body.addresses, &self.address);
            body.hostname = None;
        }
        if self.hostname.as_ref().is_some_and(|h| !h.is_empty()) {
            body.addresses.clear();
        }
        clearable(&self.hostname, &mut body.hostname);
        body.port = self.port.unwrap_or(body.port);
        body.weight = self.weight.unwrap_or(body.weight);
        if let Some(health) = self.health {
            body.health = match health {
                Health::Agent => HealthBody::Agent,
                Health::Probe => HealthBody::Probe,
                Health::ManualUp => HealthBody::ManualUp,
                Health::ManualDown => HealthBody::ManualDown,
            };
        }
        clearable(&self.url, &mut body.url);
        if let Some(port) = self.ingress {
            body.ingress = (port != 0).then_some(port);
        }
        self.place.patch(&mut body.place);
        self.probe.patch(&mut body.probe);
    }
}

/// Carries out a command.
pub async fn run(context: &Context, command: MirrorCommand) -> anyhow::Result<()> {
    match command {
        MirrorCommand::Add { name, fields } => {
            let key = EntryKey::mirror(&name)?;
            let plan = |view: &RegistryView| {
                must_not_exist(view, &key)?;
                put(view, &key, MirrorBody::default(), &fields)
            };
            make(context, &format!("add {key}"), plan).await
        }
        MirrorCommand::Set { name, fields } => {
            let key = EntryKey::mirror(&name)?;
            let plan = |view: &RegistryView| match current(view, &key)? {
                Content::Mirror(body) => put(view, &key, body.clone(), &fields),
                _ => Err(PlanError::Unreadable(key.clone())),
            };
            make(context, &format!("set {key}"), plan).await
        }
        MirrorCommand::Remove { name } => {
            let key = EntryKey::mirror(&name)?;
            let plan = |view: &RegistryView| Plan::of_edits(view, vec![Edit::remove(key.clone())]);
            make(context, &format!("remove {key}"), plan).await
        }
        MirrorCommand::List => list(context).await,
        MirrorCommand::Drain(args) => drain(context, &args, EntryKey::mirror).await,
        MirrorCommand::Undrain { name } => undrain(context, &EntryKey::mirror(&name)?).await,
        MirrorCommand::Force { name, state, duration } => force(context, &name, state, duration).await,
        MirrorCommand::Release { name } => release(context, &name).await,
    }
}

fn put(
    view: &RegistryView,
    key: &EntryKey,
    mut body: MirrorBody,
    fields: &MirrorFields,
) -> Result<Plan, PlanError> {
    fields.patch(&mut body);
    Plan::of_edits(view, vec![Edit::put(key.clone(), Content::Mirror(body))])
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let fleet = context.client.fleet().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&fleet.mirrors)?);
    }
    let mut table = Table::new(&["MIRROR", "NODE", "HEALTH", "PORT", "WEIGHT", "ELIGIBLE", "ADDRESSES"]);
    for m in &fleet.mirrors {
        let eligible = m.verdicts.iter().any(|v| v.eligible);
        let addresses: Vec<String> = m.verdicts.iter().filter_map(|v| v.address.clone()).collect();
        table.row(vec![
            format!("{}/{}", m.domain, m.mirror),
            m.node.clone().unwrap_or("-".into()),
            m.health.clone(),
            m.port.to_string(),
            m.weight.to_string(),
            if eligible { "yes" } else { "no" }.into(),
            addresses.join(" "),
        ]);
    }
    table.print("no mirrors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_hostname_replace_each_other() {
        let mut body = MirrorBody::default();
        let address =
            MirrorFields { address: vec![Item(Some([192, 0, 2, 1].into()))], ..MirrorFields::default() };
        let host = MirrorFields { hostname: Some("a.example".into()), ..MirrorFields::default() };
        address.patch(&mut body);
        host.patch(&mut body);
        assert!(body.addresses.is_empty() && body.hostname.is_some());
        address.patch(&mut body);
        assert!(!body.addresses.is_empty() && body.hostname.is_none());
    }
}
