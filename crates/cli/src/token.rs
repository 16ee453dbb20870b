//! `nearmost token …`: tokens of the API for programs that read, such as Prometheus.

use crate::broker::Context;
use crate::output::{complain, emit, emit_json};
use crate::peer::ordering;
use crate::table::Table;
use crate::time::parse_duration;
use clap::{Subcommand, ValueEnum};
use nearmost_client::api::{TokenRequest, TokenView};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use std::time::Duration;

/// Tokens for programs that read.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a token with which a program reads; nothing else goes to standard output. It is told this once
    Create {
        /// What it is for, in logs and in the audit log: prometheus
        name: String,
        /// What it is good for
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// How long it is good, e.g. 90d; else until it is revoked
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
        lasting: Option<Duration>,
    },
    /// All tokens, those of the broker's configuration too
    List,
    /// Take a token back that was made so: it is good for nothing from now on
    Revoke {
        /// Its name
        name: String,
    },
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// All that the API tells, and no change
    Read,
    /// /metrics alone
    Metrics,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Metrics => "metrics",
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { name, scope, lasting } => create(context, name, scope, lasting).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { name } => revoke(context, &name).await,
    }
}

async fn create(
    context: &Context,
    name: String,
    scope: Scope,
    lasting: Option<Duration>,
) -> anyhow::Result<()> {
    let expires_in_s = lasting.map(|lasting| lasting.as_secs());
    let request = TokenRequest { name, scope: scope.as_str().into(), expires_in_s };
    let made = ordering(context)?.create_token(&request).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&made)?);
    }
    emit(&format!("{}\n", made.token))?;
    let until = until(&made.about);
    complain(&format!(
        "{} may {}, {until}; `nearmost token revoke {}` takes it back. It is not told again\n",
        made.about.name,
        may(&made.about),
        made.about.name
    ));
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let told = context.client.tokens().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&told)?);
    }
    if told.tokens.is_empty() {
        return emit("no tokens\n");
    }
    let mut table = Table::new(&["NAME", "SCOPE", "GOOD", "MADE", "BY"]);
    for token in &told.tokens {
        table.row(vec![
            token.name.clone(),
            token.scope.clone(),
            until(token),
            token.created_unix_ms.map_or_else(|| "-".into(), moment::show),
            token.created_by.clone().unwrap_or_else(|| "the configuration".into()),
        ]);
    }
    emit(&table.render())
}

async fn revoke(context: &Context, name: &str) -> anyhow::Result<()> {
    let gone = ordering(context)?.revoke_token(name).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&gone)?);
    }
    emit(&format!("{} is good for nothing from now on\n", gone.name))
}

fn may(token: &TokenView) -> &'static str {
    match token.scope.as_str() {
        "metrics" => "read the metrics and nothing else",
        _ => "read what the API tells of the fleet, and change nothing",
    }
}

fn until(token: &TokenView) -> String {
    match token.expires_unix_ms {
        Some(until) if until <= now_unix_ms() => format!("ended {}", moment::show(until)),
        Some(until) => format!("until {}", moment::show(until)),
        None => "until revoked".into(),
    }
}
