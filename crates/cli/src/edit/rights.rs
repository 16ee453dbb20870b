//! Whose a domain is and who may do what in it: `nearmost domain claim`, `grant`, `revoke`, `roll`, `rights`.

use crate::broker::Context;
use crate::output::{emit, emit_json, notice};
use crate::state::{Saying, say};
use crate::table::Table;
use crate::time::{When, parse_duration};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::identity::{Id, KeyPair};
use nearmost_client::registry::app::AppKind;
use nearmost_client::registry::rights::{self, DomainRights, GrantView, Holder};
use nearmost_client::registry::{GrantBody, GrantRole, StateError};
use nearmost_client::{moment, person};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whose a domain is, and who may do what in it.
#[derive(Debug, Subcommand)]
pub enum RightsCommand {
    /// Make a domain your own: from then on only your key, and whom it grants something, states what is in
    /// it. The first claim stands
    Claim {
        /// The domain
        name: String,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a key a role in a domain, in the place of what it had
    Grant(GrantArgs),
    /// Take back what a key was granted. This is total: nothing that it stated in the domain counts any
    /// longer, whenever it did
    Revoke {
        /// The domain
        name: String,
        /// Whose grant it is (np1… or nb1…)
        #[arg(long, value_name = "ID")]
        from: Id,
        /// State anew, with your own key, what it stated and is visible
        #[arg(long)]
        keep: bool,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Give your place as the domain's owner to another key. Both sign: yours, and the new one
    Roll {
        /// The domain
        name: String,
        /// The new key's file; it is made when there is none
        #[arg(long, value_name = "FILE")]
        to_key: PathBuf,
        /// State anew, with the new key, what yours stated and is visible; otherwise that counts no longer,
        /// your grants included
        #[arg(long)]
        keep: bool,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Who owns a domain, who else may do what in it, and until when
    Rights {
        /// The domain
        name: String,
    },
}

/// What is granted.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The domain
    name: String,
    /// Whom (np1… or nb1…)
    #[arg(long, value_name = "ID")]
    to: Id,
    /// admin: all that is in it, and giving the other roles. operator: mirrors, their drains and verdicts.
    /// writer: applications' records of the kinds given. auditor: reading
    #[arg(long, value_parser = role, value_name = "ROLE")]
    role: GrantRole,
    /// A writer's kind of applications' records: 5, removal-wins:5 or restrictive:5; repeat for more
    #[arg(long, value_name = "KIND")]
    kind: Vec<AppKind>,
    /// Until then, e.g. 2027-01-01, 2027-01-01T12:00Z or +90d; else for ever
    #[arg(long, value_name = "TIME", value_parser = When::parse_day, conflicts_with = "duration", allow_hyphen_values = true)]
    until: Option<When>,
    /// For so long, e.g. 90d
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

fn role(text: &str) -> Result<GrantRole, String> {
    let found = GrantRole::ALL.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| format!("expected {}", GrantRole::ALL.map(GrantRole::as_str).join(", ")))
}

impl GrantArgs {
    fn body(&self, now_unix_ms: u64) -> GrantBody {
        let until = self.until.or(self.duration.map(When::In)).map_or(0, |when| when.unix_ms(now_unix_ms));
        GrantBody {
            role: self.role,
            kinds: self.kind.iter().map(|kind| kind.whole_number()).collect(),
            from_unix_ms: 0,
            until_unix_ms: until,
        }
    }
}

/// Carries out a command.
pub async fn run(context: &Context, command: RightsCommand) -> anyhow::Result<()> {
    match command {
        RightsCommand::Claim { name, dry_run } => {
            let note = format!("claim {name}");
            say(context, Saying::new(&note, dry_run), |held, key| rights::claim(held, &key.id(), &name))
                .await?;
        }
        RightsCommand::Grant(args) => {
            let note = format!("grant {} in {} to {}", args.role.as_str(), args.name, args.to);
            // Once for all attempts, so that a date from now on does not move.
            let body = args.body(now_unix_ms());
            say(context, Saying::new(&note, args.dry_run), |held, key| {
                rights::grant(held, &key.id(), &args.name, &args.to, &body)
            })
            .await?;
        }
        RightsCommand::Revoke { name, from, keep, dry_run } => {
            let note = format!("revoke the grant of {from} in {name}");
            say(context, Saying::new(&note, dry_run), |held, _| rights::revoke(held, &name, &from, keep))
                .await?;
        }
        RightsCommand::Roll { name, to_key, keep, dry_run } => {
            roll(context, &name, &to_key, keep, dry_run).await?;
        }
        RightsCommand::Rights { name } => show(context, &name).await?,
    }
    Ok(())
}

async fn roll(context: &Context, name: &str, file: &Path, keep: bool, dry_run: bool) -> anyhow::Result<()> {
    let new = new_key(context, file, dry_run)?;
    let note = format!("roll {name} to {}", new.id());
    let saying = Saying { note: &note, dry_run, heir: Some(&new) };
    let rolled = say(context, saying, |held, key| rights::roll(held, key, name, &new, keep)).await?;
    if rolled {
        let message = format!(
            "{name} is owned by {} now. Sign with it from here on: {}={}",
            new.id(),
            person::PERSON_KEY_VARIABLE,
            file.display()
        );
        notice(context.json, &message);
    }
    Ok(())
}

fn new_key(context: &Context, file: &Path, dry_run: bool) -> anyhow::Result<KeyPair> {
    if dry_run {
        let missing = || format!("there is no key in {} yet; without --dry-run it is made", file.display());
        return person::load(file)?.with_context(missing);
    }
    let (key, made) = person::load_or_create(file)?;
    if made {
        let message = format!("made the new key {} in {}; keep a copy", key.id(), file.display());
        notice(context.json, &message);
    }
    Ok(key)
}

async fn show(context: &Context, name: &str) -> anyhow::Result<()> {
    let held = context.client.held::<StateError>().await?;
    let found = rights::of_domain(&held, name)?;
    if context.json {
        return emit_json(&serde_json::to_value(&found)?);
    }
    emit(&render(&found))
}

fn called(holder: &Holder) -> String {
    match &holder.name {
        Some(name) => format!("{name} ({})", holder.id),
        None => holder.id.clone(),
    }
}

fn all(holders: &[Holder]) -> String {
    holders.iter().map(called).collect::<Vec<_>>().join(", ")
}

fn render(rights: &DomainRights) -> String {
    let owner = match &rights.owner {
        Some(owner) => called(owner),
        None => "nobody: whoever may create it may do everything in it".into(),
    };
    let mut out =
        format!("domain   {}\nowner    {owner}\ncreators {}\n", rights.domain, all(&rights.creators));
    if !rights.contested.is_empty() {
        out.push_str(&format!("contested: claimed by {}; the first stands\n", all(&rights.contested)));
    }
    if rights.grants.is_empty() {
        out.push_str("no grants\n");
        return out;
    }
    let mut table = Table::new(&["ROLE", "STATE", "FROM", "UNTIL", "KINDS", "TO", "BY"]);
    rights.grants.iter().for_each(|grant| table.row(row(grant)));
    out.push_str(&table.render());
    out
}

fn row(grant: &GrantView) -> Vec<String> {
    let from = if grant.from_unix_ms == 0 { "-".into() } else { moment::show(grant.from_unix_ms) };
    let kinds = if grant.kinds.is_empty() { "-".into() } else { grant.kinds.join(" ") };
    vec![
        grant.role.as_str().into(),
        grant.state.into(),
        from,
        grant.until_unix_ms.map_or("for ever".into(), moment::show),
        kinds,
        called(&grant.to),
        called(&grant.by),
    ]
}
