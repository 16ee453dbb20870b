//! `nearmost domain …`

use super::acme::{AcmeArgs, acme};
use super::dnssec::{DnssecArgs, dnssec};
use super::drain::{DrainArgs, drain, undrain};
use super::failover::FailoverFields;
use super::force::{freeze, unfreeze};
use super::rights::{self, RightsCommand};
use super::sharing::SharingFields;
use super::trust::{DelegateArgs, TokenArgs, delegate, token};
use super::{clearable, current, mirrors_of, must_not_exist};
use crate::args::{Item, text_item};
use crate::broker::Context;
use crate::change::make;
use crate::output::emit_json;
use crate::table::Table;
use crate::time::parse_duration;
use clap::{Args, Subcommand};
use nearmost_client::registry::{
    AllDownBody, Content, DomainBody, Edit, EntryKey, Plan, PlanError, RecordBody, RegistryView,
};
use std::net::IpAddr;
use std::time::Duration;

/// Domains.
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// Register a domain
    Add {
        /// Its name
        name: String,
        /// What it says
        #[command(flatten)]
        fields: DomainFields,
    },
    /// Change what is given, leave the rest
    Set {
        /// Its name
        name: String,
        /// What it says
        #[command(flatten)]
        fields: DomainFields,
    },
    /// Remove a domain
    Remove {
        /// Its name
        name: String,
        /// And all of its mirrors
        #[arg(long)]
        with_mirrors: bool,
    },
    /// All domains
    List,
    /// Send no new users to any of its mirrors, from now on or within a planned maintenance
    Drain(DrainArgs),
    /// Lift the drain of all of its mirrors, and their planned maintenance
    Undrain {
        /// Its name
        name: String,
    },
    /// Keep the verdicts of all of its mirrors as they are for a while
    Freeze {
        /// Its name
        name: String,
        /// How long, e.g. 1h
        #[arg(long = "for", value_parser = parse_duration, allow_hyphen_values = true, value_name = "DURATION")]
        duration: Duration,
    },
    /// End the freeze of all of its mirrors
    Unfreeze {
        /// Its name
        name: String,
    },
    /// Have a certificate authority find what it asked for, as TXT record at _acme-challenge.NAME; for the
    /// hooks of certbot, lego and acme.sh
    Acme(AcmeArgs),
    /// What it is signed with (DNSSEC): its keys, and the DS for its parent. Keys are made, rolled and removed
    /// for the site of the broker that is asked
    Dnssec(DnssecArgs),
    /// Sign, as its owner, that a broker may say who its mirrors are. Needs no broker: prints what
    /// `nearmost domain set DOMAIN --owner ID --delegation TEXT` takes
    Delegate(DelegateArgs),
    /// Print what clients begin with: a text that names the domain, its owner, and this broker
    Token(TokenArgs),
    /// Whose it is, and who may do what in it
    #[command(flatten)]
    Rights(RightsCommand),
}

/// Fields of a domain.
#[derive(Debug, Default, Args)]
pub struct DomainFields {
    /// Most addresses in one DNS answer, 1 to 8
    #[arg(long)]
    answers: Option<u8>,
    /// TTL of address answers that may change as ever, in seconds
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    ttl: Option<u32>,
    /// TTL of negative answers, in seconds
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    negative_ttl: Option<u32>,
    /// What is answered when no mirror is eligible: last-known, all, no-answer, or addresses
    /// separated by commas
    #[arg(long, value_parser = all_down, value_name = "POLICY")]
    all_down: Option<AllDownBody>,
    /// What happens when mirrors fail and come back
    #[command(flatten)]
    failover: FailoverFields,
    /// Protocol offered in HTTPS records, e.g. h2; repeat for more, replaces all, an empty text
    /// clears
    #[arg(long, value_parser = text_item)]
    alpn: Vec<Item<String>>,
    /// Host whose plain HTTP requests are redirected to the nearest mirror; replaces all, an empty
    /// text clears
    #[arg(long, value_name = "HOST", value_parser = text_item)]
    redirect_host: Vec<Item<String>>,
    /// Static record "NAME TYPE TTL VALUE", @ for the domain itself; replaces all, an empty text
    /// clears
    #[arg(long, value_parser = record_item, value_name = "RECORD")]
    record: Vec<Item<RecordBody>>,
    /// Id of its owner (np1…), whose word clients ask for where they know it; an empty text clears it
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// The owner's delegation to a broker, as `nearmost domain delegate` prints it; replaces all, an empty
    /// text clears
    #[arg(long, value_parser = text_item)]
    delegation: Vec<Item<String>>,
    /// How its mirrors are shared out
    #[command(flatten)]
    sharing: SharingFields,
}

fn all_down(text: &str) -> Result<AllDownBody, String> {
    match text {
        "last-known" => Ok(AllDownBody::LastKnown),
        "all" => Ok(AllDownBody::All),
        "no-answer" => Ok(AllDownBody::NoAnswer),
        list => {
            let parse = |a: &str| {
                a.trim().parse::<IpAddr>().map_err(|_| format!("{a:?} is neither a policy nor an IP address"))
            };
            Ok(AllDownBody::Fallback(list.split(',').map(parse).collect::<Result<_, _>>()?))
        }
    }
}

fn record(text: &str) -> Result<RecordBody, String> {
    let mut rest = text.trim();
    let mut word = |what: &str| {
        let (word, after) = rest.split_once(char::is_whitespace).ok_or_else(|| format!("no {what}"))?;
        rest = after.trim_start();
        Ok::<&str, String>(word)
    };
    let (name, kind, ttl) = (word("type")?, word("TTL")?, word("value")?);
    let ttl_s = ttl.parse().map_err(|_| format!("{ttl:?} is not a TTL in seconds"))?;
    Ok(RecordBody { name: name.into(), kind: kind.into(), ttl_s, value: rest.into() })
}

impl DomainFields {
    fn patch(&self, body: &mut DomainBody) {
        body.answers = self.answers.unwrap_or(body.answers);
        body.ttl_s = self.ttl.unwrap_or(body.ttl_s);
        body.negative_ttl_s = self.negative_ttl.unwrap_or(body.negative_ttl_s);
        if let Some(policy) = &self.all_down {
            body.all_down = policy.clone();
        }
        Item::replace(&mut body.alpn, &self.alpn);
        Item::replace(&mut body.redirect_hosts, &self.redirect_host);
        Item::replace(&mut body.records, &self.record);
        clearable(&self.owner, &mut body.owner);
        Item::replace(&mut body.delegations, &self.delegation);
        self.failover.patch(&mut body.failover);
        self.sharing.patch(&mut body.sharing);
    }
}

fn record_item(text: &str) -> Result<Item<RecordBody>, String> {
    Item::read(text, record)
}

/// Carries out a command.
pub async fn run(context: &Context, command: DomainCommand) -> anyhow::Result<()> {
    match command {
        DomainCommand::Add { name, fields } => {
            let key = EntryKey::domain(&name)?;
            let plan = |view: &RegistryView| {
                must_not_exist(view, &key)?;
                let mut body = DomainBody::default();
                fields.patch(&mut body);
                Plan::of_edits(view, vec![Edit::put(key.clone(), Content::Domain(body))])
            };
            make(context, &format!("add {key}"), plan).await
        }
        DomainCommand::Set { name, fields } => {
            let key = EntryKey::domain(&name)?;
            let plan = |view: &RegistryView| {
                let mut content = current(view, &key)?.clone();
                if let Content::Domain(body) = &mut content {
                    fields.patch(body);
                }
                Plan::of_edits(view, vec![Edit::put(key.clone(), content)])
            };
            make(context, &format!("set {key}"), plan).await
        }
        DomainCommand::Remove { name, with_mirrors } => {
            let key = EntryKey::domain(&name)?;
            make(context, &format!("remove {key}"), |view| remove(view, &key, with_mirrors)).await
        }
        DomainCommand::List => list(context).await,
        DomainCommand::Drain(args) => drain(context, &args, EntryKey::domain).await,
        DomainCommand::Undrain { name } => undrain(context, &EntryKey::domain(&name)?).await,
        DomainCommand::Freeze { name, duration } => freeze(context, &name, duration).await,
        DomainCommand::Unfreeze { name } => unfreeze(context, &name).await,
        DomainCommand::Acme(args) => acme(context, &args).await,
        DomainCommand::Dnssec(args) => dnssec(context, &args).await,
        DomainCommand::Delegate(args) => delegate(context, &args),
        DomainCommand::Token(args) => token(context, &args).await,
        DomainCommand::Rights(command) => rights::run(context, command).await,
    }
}

fn remove(view: &RegistryView, key: &EntryKey, with_mirrors: bool) -> Result<Plan, PlanError> {
    let mirrors = mirrors_of(view, key)?;
    if !mirrors.is_empty() && !with_mirrors {
        let mirrors = mirrors.into_iter().map(|m| m.id).collect();
        return Err(PlanError::HasMirrors { domain: key.clone(), mirrors });
    }
    let keys = view.zone_keys(&key.scope).map(|(key, _)| key.clone());
    Plan::of_edits(view, mirrors.into_iter().chain(keys).chain([key.clone()]).map(Edit::remove).collect())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let fleet = context.client.fleet().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&fleet.domains)?);
    }
    let mut table = Table::new(&["DOMAIN", "MIRRORS", "ELIGIBLE"]);
    for domain in &fleet.domains {
        let mirrors = fleet.mirrors.iter().filter(|m| m.domain == *domain);
        let eligible = mirrors.clone().filter(|m| m.verdicts.iter().any(|v| v.eligible)).count();
        table.row(vec![domain.clone(), mirrors.count().to_string(), eligible.to_string()]);
    }
    table.print("no domains")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_from_one_text() {
        let read = record("@  MX 300   10 mail.example.com.").unwrap();
        assert_eq!((read.name.as_str(), read.kind.as_str(), read.ttl_s), ("@", "MX", 300));
        assert_eq!(read.value, "10 mail.example.com.");
        assert_eq!(record("@ MX"), Err("no TTL".into()));
        assert_eq!(record("@ A x 1.2.3.4"), Err("\"x\" is not a TTL in seconds".into()));
    }

    #[test]
    fn policies_are_read() {
        assert_eq!(all_down("no-answer"), Ok(AllDownBody::NoAnswer));
        assert_eq!(
            all_down("192.0.2.1, ::1").unwrap(),
            AllDownBody::Fallback(vec![[192, 0, 2, 1].into(), "::1".parse().unwrap()])
        );
        assert!(all_down("panic").unwrap_err().contains("panic"));
    }
}
