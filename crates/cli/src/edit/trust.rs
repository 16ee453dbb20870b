//! `nearmost domain delegate`: the owner's word, signed where the owner's key is; and `nearmost domain
//! token`: what clients begin with.

use super::current;
use crate::broker::Context;
use crate::output::{emit, emit_json, notice};
use crate::time::parse_duration;
use anyhow::bail;
use clap::Args;
use nearmost_client::Endpoint;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::grant::Delegation;
use nearmost_client::identity::{Id, KeyPair, Role};
use nearmost_client::person;
use nearmost_client::registry::{Content, EntryKey, PlanError};
use nearmost_client::session::{BROKER_PORT, BrokerAt, dns_text};
use nearmost_client::token::ClientToken;
use std::path::PathBuf;
use std::time::Duration;

/// Clocks of brokers and clients may be behind by so much.
const EARLIER: Duration = Duration::from_secs(60);

/// What is delegated, and how.
#[derive(Debug, Args)]
pub struct DelegateArgs {
    /// The domain
    name: String,
    /// The broker's id (nb1…)
    #[arg(long, value_name = "ID")]
    to: String,
    /// How long it holds from now on, e.g. 30d
    #[arg(long = "for", value_parser = parse_duration, default_value = "90d", value_name = "DURATION")]
    duration: Duration,
    /// The owner's key; your own person's key if nothing is said
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Of which domain, and where brokers are reached.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The domain
    name: String,
    /// Where clients reach this broker, HOST:PORT with its QUIC port for clients; repeat for more. The
    /// host of --broker if nothing is said
    #[arg(long, value_name = "HOST[:PORT]")]
    at: Vec<String>,
    /// Other brokers of the domain
    #[arg(long, value_name = "ID@HOST[:PORT]")]
    also: Vec<BrokerAt>,
    /// Print the TXT records of _nearmost.DOMAIN instead, by which clients find brokers without a token
    #[arg(long)]
    dns: bool,
}

/// Prints a token, or records.
pub async fn token(context: &Context, args: &TokenArgs) -> anyhow::Result<()> {
    let key = EntryKey::domain(&args.name)?;
    let view = context.client.view::<PlanError>().await?;
    let Content::Domain(body) = current(&view, &key)? else { bail!("{key} is no domain") };
    let owner = body.owner.as_deref().map(|text| Id::parse(text, Role::Person)).transpose()?;
    let mut brokers = here(context, &args.at).await?;
    brokers.extend(args.also.iter().cloned());
    if args.dns {
        let records: Vec<String> = brokers.iter().map(|broker| dns_text(broker, owner.as_ref())).collect();
        if context.json {
            return emit_json(&serde_json::json!(records));
        }
        return emit(
            &records
                .iter()
                .map(|r| format!("_nearmost.{}. 300 IN TXT {r:?}\n", key.scope))
                .collect::<String>(),
        );
    }
    let brokers = brokers.into_iter().map(|broker| (broker.id.key, broker.at)).collect();
    let owner = owner.map(|id| id.key);
    let token = ClientToken { domain: key.scope.clone(), owner, brokers }.encode();
    if context.json {
        return emit_json(&serde_json::json!({ "token": token }));
    }
    emit(&format!("{token}\n"))
}

/// This broker, at the places that were named, else at the host by which it was asked.
async fn here(context: &Context, named: &[String]) -> anyhow::Result<Vec<BrokerAt>> {
    let health = context.client.health().await?;
    let id = &health.broker;
    let port = health.clients.first().copied().unwrap_or(BROKER_PORT);
    let named: Vec<String> = match (named, context.client.endpoint()) {
        ([], Endpoint::Unix(_)) => bail!(
            "say where clients reach this broker with --at HOST:PORT: its socket on this machine does not tell"
        ),
        ([], Endpoint::Http { host, .. } | Endpoint::Https { host, .. }) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            vec![format!("{host}:{port}")]
        }
        (named, _) => named.to_vec(),
    };
    named.iter().map(|at| Ok(format!("{id}@{at}").parse::<BrokerAt>()?)).collect()
}

/// Prints owner and delegation.
pub fn delegate(context: &Context, args: &DelegateArgs) -> anyhow::Result<()> {
    let broker = Id::parse(&args.to, Role::Broker)?;
    let owner = match &args.key {
        Some(path) => KeyPair::load(path, Role::Person)?,
        None => {
            let path = person::default_path()?;
            let (key, made) = person::load_or_create(&path)?;
            if made {
                let message = format!(
                    "made your key {}: keep it, it is the root of trust of {}",
                    path.display(),
                    args.name
                );
                notice(context.json, &message);
            }
            key
        }
    };
    let now = now_unix_ms();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (from, until) = (now.saturating_sub(ms(EARLIER)), now.saturating_add(ms(args.duration)));
    let delegation = Delegation::sign(&owner, &args.name, &broker, from, until)?;
    let (owner, text) = (owner.id().to_string(), delegation.encode());
    if context.json {
        return emit_json(&serde_json::json!({ "owner": owner, "delegation": text }));
    }
    emit(&format!("nearmost domain set {} --owner {owner} --delegation {text}\n", delegation.domain))
}
