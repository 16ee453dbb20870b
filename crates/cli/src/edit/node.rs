//! `nearmost node …`

use super::drain::{DrainArgs, drain, undrain};
use super::{clearable, current, must_exist, must_not_exist};
use crate::args::{Item, PlaceArgs, text_item};
use crate::broker::Context;
use crate::change::make;
use crate::output::{complain, emit, emit_json};
use crate::table::Table;
use crate::time::parse_duration;
use clap::{Args, Subcommand};
use nearmost_client::api::InviteRequest;
use nearmost_client::moment;
use nearmost_client::name;
use nearmost_client::registry::{Content, Edit, EntryKey, NodeBody, Plan, PlanError, RegistryView};
use std::time::Duration;

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Register a node by hand; nodes that join with a token register themselves
    Add {
        /// Its name
        name: String,
        /// What it says
        #[command(flatten)]
        fields: NodeFields,
    },
    /// Change what is given, leave the rest
    Set {
        /// Its name
        name: String,
        /// What it says
        #[command(flatten)]
        fields: NodeFields,
    },
    /// Remove a node that no mirror names
    Remove {
        /// Its name
        name: String,
    },
    /// All nodes
    List,
    /// Send no new users to any of its mirrors, from now on or within a planned maintenance
    Drain(DrainArgs),
    /// Lift its drain, and its planned maintenance
    Undrain {
        /// Its name
        name: String,
    },
    /// Print a one-time token for `nearmost-agent join`
    Invite {
        /// Domain that the node may mirror; repeat for more
        #[arg(long, required = true)]
        domain: Vec<String>,
        /// Its name; else the agent chooses
        #[arg(long)]
        name: Option<String>,
        /// How long the token is good
        #[arg(long, default_value = "24h", value_parser = parse_duration, allow_hyphen_values = true)]
        ttl: Duration,
    },
    /// Refuse a node from now on; `set --revoked false` admits it again
    Revoke {
        /// Its name
        name: String,
    },
}

/// Fields of a node.
#[derive(Debug, Default, Args)]
pub struct NodeFields {
    /// Its id (nn1…); an empty text clears it
    #[arg(long)]
    id: Option<String>,
    /// Domain that it may mirror; repeat for more, replaces all, an empty text clears
    #[arg(long, value_parser = text_item)]
    domain: Vec<Item<String>>,
    /// Whether it is refused
    #[arg(long, value_name = "BOOL")]
    revoked: Option<bool>,
    /// Where it is
    #[command(flatten)]
    place: PlaceArgs,
}

impl NodeFields {
    fn patch(&self, body: &mut NodeBody) -> Result<(), PlanError> {
        clearable(&self.id, &mut body.id);
        if !self.domain.is_empty() {
            let names = self.domain.iter().filter_map(|d| d.0.as_deref()).map(name::domain);
            body.domains = names.collect::<Result<_, _>>().map_err(|e| PlanError::Refused(e.to_string()))?;
        }
        body.revoked = self.revoked.unwrap_or(body.revoked);
        self.place.patch(&mut body.place);
        Ok(())
    }
}

/// Carries out a command.
pub async fn run(context: &Context, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::Add { name, fields } => {
            let key = EntryKey::node(&name)?;
            let plan = |view: &RegistryView| {
                must_not_exist(view, &key)?;
                put(view, &key, NodeBody::default(), &fields)
            };
            make(context, &format!("add {key}"), plan).await
        }
        NodeCommand::Set { name, fields } => set(context, &name, &fields, "set").await,
        NodeCommand::Revoke { name } => {
            let fields = NodeFields { revoked: Some(true), ..NodeFields::default() };
            set(context, &name, &fields, "revoke").await
        }
        NodeCommand::Remove { name } => {
            let key = EntryKey::node(&name)?;
            let plan = |view: &RegistryView| Plan::of_edits(view, vec![Edit::remove(key.clone())]);
            make(context, &format!("remove {key}"), plan).await
        }
        NodeCommand::List => list(context).await,
        NodeCommand::Drain(args) => drain(context, &args, EntryKey::node).await,
        NodeCommand::Undrain { name } => undrain(context, &EntryKey::node(&name)?).await,
        NodeCommand::Invite { domain, name, ttl } => invite(context, &domain, name.as_deref(), ttl).await,
    }
}

async fn set(context: &Context, name: &str, fields: &NodeFields, verb: &str) -> anyhow::Result<()> {
    let key = EntryKey::node(name)?;
    let plan = |view: &RegistryView| match current(view, &key)? {
        Content::Node(body) => put(view, &key, body.clone(), fields),
        _ => Err(PlanError::Unreadable(key.clone())),
    };
    make(context, &format!("{verb} {key}"), plan).await
}

fn put(
    view: &RegistryView,
    key: &EntryKey,
    mut body: NodeBody,
    fields: &NodeFields,
) -> Result<Plan, PlanError> {
    fields.patch(&mut body)?;
    for domain in &body.domains {
        let domain = EntryKey::domain(domain).map_err(|e| PlanError::Refused(e.to_string()))?;
        must_exist(view, &domain)?;
    }
    Plan::of_edits(view, vec![Edit::put(key.clone(), Content::Node(body))])
}

async fn invite(
    context: &Context,
    domains: &[String],
    node: Option<&str>,
    ttl: Duration,
) -> anyhow::Result<()> {
    let request = InviteRequest {
        domains: domains.iter().map(|d| name::domain(d)).collect::<Result<_, _>>()?,
        name: node.map(name::short).transpose()?,
        ttl_s: ttl.as_secs(),
    };
    let client =
        if context.client.endpoint().is_unix() { context.client.clone() } else { context.signer()?.1 };
    let answer = client.invite(&request).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    complain(&format!(
        "good for one node until {}; on the node: nearmost-agent join TOKEN\n",
        moment::show(answer.expires_unix_ms)
    ));
    emit(&format!("{}\n", answer.token))
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let fleet = context.client.fleet().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&fleet.nodes)?);
    }
    let mut table = Table::new(&["NODE", "SESSION", "ORDERS", "DOMAINS", "ID"]);
    for node in &fleet.nodes {
        let orders = match (node.revoked, node.drained) {
            (true, _) => "revoked",
            (false, true) => "drained",
            (false, false) => "-",
        };
        let session = if node.connected { "connected" } else { "none" };
        let id = node.id.clone().unwrap_or("not joined".into());
        table.row(vec![node.name.clone(), session.into(), orders.into(), node.domains.join(" "), id]);
    }
    table.print("no nodes")
}
