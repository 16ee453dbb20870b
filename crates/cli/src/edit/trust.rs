//! `nearmost domain delegate`: the owner's word, signed where the owner's key is.

use crate::broker::Context;
use crate::output::emit_json;
use crate::time::parse_duration;
use clap::Args;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::grant::Delegation;
use nearmost_client::identity::{Id, KeyPair, Role};
use nearmost_client::person;
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

/// Prints owner and delegation.
pub fn delegate(context: &Context, args: &DelegateArgs) -> anyhow::Result<()> {
    let broker = Id::parse(&args.to, Role::Broker)?;
    let owner = match &args.key {
        Some(path) => KeyPair::load(path, Role::Person)?,
        None => {
            let path = person::default_path()?;
            let (key, made) = person::load_or_create(&path)?;
            if made {
                eprintln!(
                    "made your key {}: keep it, it is the root of trust of {}",
                    path.display(),
                    args.name
                );
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
    println!("nearmost domain set {} --owner {owner} --delegation {text}", delegation.domain);
    Ok(())
}
