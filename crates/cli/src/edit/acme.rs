//! `nearmost domain acme`: for the hooks of programs that fetch certificates.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::time::parse_duration;
use clap::Args;
use nearmost_client::api::ChallengeRequest;
use std::time::Duration;

/// A challenge.
#[derive(Debug, Args)]
pub struct AcmeArgs {
    /// What the certificate is for: a domain or a name below one, with or without _acme-challenge. before it
    name: String,
    /// What the certificate authority looks for
    #[arg(required_unless_present = "remove", allow_hyphen_values = true)]
    value: Option<String>,
    /// Remove it; without a value all of the name
    #[arg(long)]
    remove: bool,
    /// After which time it is gone by itself
    #[arg(long = "for", value_parser = parse_duration, default_value = "1h", value_name = "DURATION", conflicts_with = "remove")]
    duration: Duration,
}

/// Carries out the command.
pub async fn acme(context: &Context, args: &AcmeArgs) -> anyhow::Result<()> {
    let AcmeArgs { name, value, remove, duration } = args;
    if let (Some(value), false) = (value, remove) {
        let request = ChallengeRequest { value: value.clone(), ttl_s: duration.as_secs() };
        let set = context.client.set_challenge(name, &request).await?;
        return match context.json {
            true => emit_json(&serde_json::to_value(&set)?),
            false => emit(&format!("{} has it for {} s\n", set.name, request.ttl_s)),
        };
    }
    let removed = context.client.remove_challenges(name, value.as_deref()).await?;
    match context.json {
        true => emit_json(&serde_json::to_value(&removed)?),
        false => emit(&format!("{} removed from {}\n", removed.removed, removed.name)),
    }
}
