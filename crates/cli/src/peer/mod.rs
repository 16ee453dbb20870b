//! `nearmost peer …`: the other brokers of the federation.

pub mod list;
mod show;

use crate::args::{Item, text_item};
use crate::broker::Context;
use crate::output::{complain, emit, emit_json};
use crate::state::{Saying, say};
use crate::time::{When, parse_duration};
use clap::{Args, Subcommand};
use nearmost_client::Client;
use nearmost_client::api::{PeerInviteRequest, PeerJoinRequest};
use nearmost_client::moment;
use nearmost_client::name;
use nearmost_client::registry::PeerBody;
use nearmost_client::registry::members::{self, MemberFields};
use nearmost_client::token::PeerToken;
use std::time::Duration;

/// The other brokers of the federation.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Print a one-time token with which a broker joins; nothing else goes to standard output
    Invite(InviteArgs),
    /// Have this broker join the federation of the broker that printed a token
    Join {
        /// The token, nmp1…
        token: String,
    },
    /// Every peer, worst first: who is behind, by how much and why. Below them stand pairs of brokers that
    /// do not see each other, and what somebody should look at
    List,
    /// Everything known of one peer: what waits for it, what it refused, whom it sees
    Show {
        /// Its name or id (nb1…)
        name: String,
    },
    /// Change what a peer may do; what is not given stays
    Set {
        /// Its name or id (nb1…)
        name: String,
        /// What it may do
        #[command(flatten)]
        fields: SetFields,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// End a peer's membership. What it stated counts no longer, and members on its word alone go with it
    Remove {
        /// Its name or id (nb1…)
        name: String,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Refuse everything that a peer, or another key, states for a while
    Ban {
        /// A peer's name, or any id (nb1…, np1…, nn1…)
        name: String,
        /// How long, e.g. 7d
        #[arg(long = "for", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true)]
        duration: Duration,
        /// For whoever wonders why
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Lift a ban
    Unban {
        /// A peer's name, or any id (nb1…, np1…, nn1…)
        name: String,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whom a token lets in, and until when.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The new peer's name. Unless it is an admin, its nodes are named NAME or NAME-…
    name: String,
    /// It may change members and everything else that concerns all
    #[arg(long)]
    admin: bool,
    /// Domain that it may create and run: a.example, *.a.example for that and all below it, or *; repeat for
    /// more
    #[arg(long, value_name = "PATTERN")]
    domain: Vec<String>,
    /// How long the token is good
    #[arg(long, default_value = "24h", value_parser = parse_duration, allow_hyphen_values = true)]
    ttl: Duration,
}

/// What a peer may do.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SetFields {
    /// It may change members and everything else that concerns all
    #[arg(long, conflicts_with = "no_admin")]
    admin: bool,
    /// It may not any longer
    #[arg(long)]
    no_admin: bool,
    /// Domain that it may create and run: a.example, *.a.example for that and all below it, or *; repeat for
    /// more, replaces all, an empty text clears
    #[arg(long, value_name = "PATTERN", value_parser = text_item)]
    domain: Vec<Item<String>>,
}

impl SetFields {
    fn fields(&self) -> MemberFields {
        let admin = (self.admin || self.no_admin).then_some(self.admin);
        let given = || self.domain.iter().filter_map(|item| item.0.as_deref()).map(canonical).collect();
        MemberFields { admin, domains: (!self.domain.is_empty()).then(given) }
    }
}

/// A pattern as rights compare it; one that is none stays, and is refused with its reason later.
fn canonical(pattern: &str) -> String {
    let (stars, domain) = match pattern.strip_prefix("*.") {
        Some(domain) => ("*.", domain),
        None => ("", pattern),
    };
    name::domain(domain).map_or_else(|_| pattern.to_owned(), |domain| format!("{stars}{domain}"))
}

/// Carries out a command.
pub async fn run(context: &Context, command: PeerCommand) -> anyhow::Result<()> {
    match command {
        PeerCommand::Invite(args) => invite(context, &args).await,
        PeerCommand::Join { token } => join(context, &token).await,
        PeerCommand::List => list::list(context).await,
        PeerCommand::Show { name } => show::show(context, &name).await,
        PeerCommand::Set { name, fields, dry_run } => {
            let (note, fields) = (format!("set peer {name}"), fields.fields());
            say(context, Saying::new(&note, dry_run), |held, _| members::set(held, &name, &fields)).await?;
            Ok(())
        }
        PeerCommand::Remove { name, dry_run } => {
            let note = format!("remove peer {name}");
            say(context, Saying::new(&note, dry_run), |held, _| members::remove(held, &name)).await?;
            Ok(())
        }
        PeerCommand::Ban { name, duration, reason, dry_run } => {
            let note = format!("ban {name}");
            say(context, Saying::new(&note, dry_run), |held, _| {
                members::ban(held, &name, When::In(duration).unix_ms(held.now_unix_ms), &reason)
            })
            .await?;
            Ok(())
        }
        PeerCommand::Unban { name, dry_run } => {
            let note = format!("unban {name}");
            say(context, Saying::new(&note, dry_run), |held, _| members::unban(held, &name)).await?;
            Ok(())
        }
    }
}

/// The client that an order to the broker goes through: over its socket without a key, else with one's own.
pub fn ordering(context: &Context) -> anyhow::Result<Client> {
    match context.client.endpoint().is_unix() {
        true => Ok(context.client.clone()),
        false => Ok(context.signer()?.1),
    }
}

async fn invite(context: &Context, args: &InviteArgs) -> anyhow::Result<()> {
    let request = PeerInviteRequest {
        name: name::short(&args.name)?,
        admin: args.admin,
        domains: args.domain.iter().map(|pattern| canonical(pattern)).collect(),
        ttl_s: args.ttl.as_secs(),
    };
    let (name, domains) = (request.name.clone(), request.domains.clone());
    PeerBody { name, admin: request.admin, domains, ..PeerBody::default() }.check()?;
    let answer = ordering(context)?.peer_invite(&request).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    complain(&format!(
        "good for one broker until {}; on its machine: nearmost peer join TOKEN. Whoever has the token can \
         join in its place: hand it over as you would a password\n",
        moment::show(answer.expires_unix_ms)
    ));
    emit(&format!("{}\n", answer.token))
}

async fn join(context: &Context, token: &str) -> anyhow::Result<()> {
    // What is no token is told here, before it goes anywhere.
    let token = PeerToken::decode(token)?.encode();
    let answer = ordering(context)?.peer_join(&PeerJoinRequest { token }).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    emit(&format!(
        "asks {} at {} to be let in; `nearmost peer list` says what became of it\n",
        answer.peer,
        answer.addresses.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_made_canonical() {
        assert_eq!(
            ["*", "A.Example.", "*.A.Example", "a b"].map(canonical),
            ["*", "a.example", "*.a.example", "a b"]
        );
    }
}
