//! The command line.

use crate::audit::AuditArgs;
use crate::colour::When;
use crate::connect::ConnectArgs;
use crate::edit::{domain::DomainCommand, mirror::MirrorCommand, node::NodeCommand, place::OverrideCommand};
use crate::loglevel::LogLevelArgs;
use crate::outages::OutagesArgs;
use crate::peer::PeerCommand;
use crate::record::RecordCommand;
use crate::token::TokenCommand;
use clap::{Args as ClapArgs, Parser, Subcommand};
use nearmost_client::identity::Id;
use std::net::IpAddr;
use std::path::PathBuf;

/// Asks a nearmost broker where users should go, and administers its registry.
#[derive(Debug, Parser)]
#[command(
    name = "nearmost",
    version,
    max_term_width = 100,
    after_help = "`nearmost doctor` finds what is wrong, `nearmost exit-codes` lists how commands end."
)]
pub struct Args {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub struct Global {
    /// The broker: unix:/path, http://host:port or https://host:port. Default: the admin socket of
    /// this machine
    #[arg(long, global = true, env = "NEARMOST_BROKER", value_name = "URL")]
    pub broker: Option<String>,
    /// Bearer token; otherwise requests beyond this machine's socket are signed with your key
    #[arg(long, global = true, env = "NEARMOST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Sign requests for this broker (nb1…) only, instead of asking it who it is; over QUIC, talk to
    /// no other
    #[arg(long, global = true, env = "NEARMOST_BROKER_ID", value_name = "ID")]
    pub broker_id: Option<Id>,
    /// Certificate authorities (PEM) trusted besides the public ones
    #[arg(long, global = true, env = "NEARMOST_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON; errors too, as {"error": …} on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour states; also NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM=dumb are heeded
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: When,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The mirrors of a domain, best first
    Resolve {
        /// The domain
        domain: String,
        /// On behalf of this client
        #[arg(long, value_name = "IP")]
        client: Option<IpAddr>,
    },
    /// Why each mirror stands where it stands for a client
    Explain {
        /// The domain
        domain: String,
        /// The client
        #[arg(long, value_name = "IP", required_unless_present = "resolver")]
        client: Option<IpAddr>,
        /// As if asked by this resolver without a client subnet
        #[arg(long, value_name = "IP", conflicts_with = "client")]
        resolver: Option<IpAddr>,
    },
    /// Measure how far the mirrors are from here, and report it to the broker
    Measure {
        /// The domain
        domain: String,
        /// Over QUIC to a broker's port for clients, whose id --broker-id says
        #[arg(long, value_name = "HOST:PORT")]
        quic: Option<String>,
        /// Look up no one-time name, which tells the broker which resolver this machine is behind
        #[arg(long)]
        no_lookup: bool,
    },
    /// Carry programs that know nothing of nearmost to a domain's mirrors, and on to another one when
    /// theirs fails
    Connect(Box<ConnectArgs>),
    /// What is wrong, worst first, and how many mirrors are well
    Status(StatusArgs),
    /// What people ordered: drains, maintenance windows, forced verdicts
    Orders {
        /// Only of a domain, a mirror (DOMAIN/NAME) or a node
        name: Option<String>,
    },
    /// Changes of state: those the broker retains, and with --follow those that come
    Events(EventsArgs),
    /// Look for what is wrong with the broker and the way to it, and say how to fix each
    Doctor(DoctorArgs),
    /// Domains
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Mirrors, written DOMAIN/NAME
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Other brokers: letting them in, what they may do, and who is behind
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Records of applications: short bodies that every broker holds
    #[command(subcommand)]
    Record(RecordCommand),
    /// Write a copy of everything that the broker holds to a file on its machine
    Backup {
        /// The file
        file: PathBuf,
        /// Replace one that is there
        #[arg(long)]
        overwrite: bool,
    },
    /// Make the registry say what a file says
    Apply {
        /// The registry file; - reads standard input
        file: PathBuf,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Remove what the file does not hold, if your key made it
        #[arg(long)]
        prune: bool,
    },
    /// Write the registry as a file that `apply` takes
    Export {
        /// Where to; default: standard output
        file: Option<PathBuf>,
    },
    /// Who changed what
    History {
        /// Only a domain, a mirror (DOMAIN/NAME), a node or an override's prefix
        key: Option<String>,
        /// Most records
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Who did what with the broker: the audit log
    Audit(AuditArgs),
    /// Tokens of the API for programs that read, such as Prometheus
    #[command(subcommand)]
    Token(TokenCommand),
    /// Which mirrors were out, for how long, and why
    Outages(OutagesArgs),
    /// What the broker logs; with levels, set them
    LogLevel(LogLevelArgs),
    /// Take a change back; undoing the undoing, as a second `undo` does, makes the change again
    Undo {
        /// Its number in the history; default: your own last change
        change: Option<u64>,
    },
    /// What is known of addresses
    #[command(subcommand)]
    Geo(GeoCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a command
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// How commands end: the exit codes
    #[command(after_help = crate::failure::table())]
    ExitCodes,
}

/// What `status` shows.
#[derive(Debug, Default, ClapArgs)]
pub struct StatusArgs {
    /// All mirrors with their places and addresses
    #[arg(long)]
    pub all: bool,
    /// Show it anew each second until interrupted
    #[arg(long, conflicts_with_all = ["all", "check"])]
    pub watch: bool,
    /// For monitoring: exit with 8 when a mirror that should be up is out, a domain has none, or the broker
    /// itself is not well
    #[arg(long)]
    pub check: bool,
}

/// Which events.
#[derive(Debug, Default, ClapArgs)]
pub struct EventsArgs {
    /// Go on with what happens, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Begin after the event of this number
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
    /// Only of this domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Only of this mirror: NAME, or DOMAIN/NAME
    #[arg(long, value_name = "MIRROR")]
    pub mirror: Option<String>,
}

/// What `doctor` looks at beside the broker's own examination.
#[derive(Debug, Default, ClapArgs)]
pub struct DoctorArgs {
    /// The broker's configuration, looked at where no broker answers
    #[arg(long, value_name = "FILE", default_value = "/etc/nearmost/broker.toml")]
    pub config: std::path::PathBuf,
    /// Only these domains; default: the first 20 of the broker
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Vec<String>,
    /// Where the broker answers DNS, as its users see it; repeat for more. Default: where it says it listens
    #[arg(long, value_name = "IP[:PORT]", value_parser = crate::doctor::at)]
    pub address: Vec<std::net::SocketAddr>,
    /// The resolver that finds the parents of domains. Default: the system's
    #[arg(long, value_name = "IP[:PORT]", value_parser = crate::doctor::at)]
    pub resolver: Option<std::net::SocketAddr>,
    /// The port of name servers, for private roots and tests
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    pub dns_port: u16,
    /// Ask no name server but the broker: nothing of delegation
    #[arg(long)]
    pub offline: bool,
}

/// What is known of addresses.
#[derive(Debug, Subcommand)]
pub enum GeoCommand {
    /// Where an address is, and how that is known
    Lookup {
        /// The address
        address: IpAddr,
    },
    /// Places that people corrected, for all brokers that share the registry
    #[command(subcommand)]
    Override(OverrideCommand),
}

/// One of several values of an option that replaces a whole list; an empty text clears the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<T>(pub Option<T>);

impl<T: Clone> Item<T> {
    /// An item read by `read`.
    pub fn read(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Item<T>, String> {
        if text.is_empty() { Ok(Item(None)) } else { read(text).map(|value| Item(Some(value))) }
    }

    /// Puts what was given, if anything, in the place of what is there.
    pub fn replace(field: &mut Vec<T>, given: &[Item<T>]) {
        if !given.is_empty() {
            *field = given.iter().filter_map(|item| item.0.clone()).collect();
        }
    }
}

/// An item that is any text.
pub fn text_item(text: &str) -> Result<Item<String>, String> {
    Item::read(text, |t| Ok(t.to_owned()))
}

/// An item that is an address.
pub fn address_item(text: &str) -> Result<Item<IpAddr>, String> {
    Item::read(text, |t| t.parse().map_err(|_| format!("{t:?} is not an IP address")))
}

/// Where something is.
#[derive(Debug, Default, ClapArgs)]
pub struct PlaceArgs {
    /// Degrees north
    #[arg(long, allow_hyphen_values = true, requires = "longitude")]
    pub latitude: Option<f64>,
    /// Degrees east
    #[arg(long, allow_hyphen_values = true, requires = "latitude")]
    pub longitude: Option<f64>,
    /// Two letters
    #[arg(long, value_parser = country, value_name = "CC")]
    pub country: Option<[u8; 2]>,
    /// Autonomous system
    #[arg(long)]
    pub asn: Option<u32>,
}

impl PlaceArgs {
    /// Puts what was given into a place.
    pub fn patch(&self, place: &mut Option<nearmost_client::registry::PlaceBody>) {
        if self.latitude.is_none() && self.country.is_none() && self.asn.is_none() {
            return;
        }
        let place = place.get_or_insert_default();
        place.latitude = self.latitude.or(place.latitude);
        place.longitude = self.longitude.or(place.longitude);
        place.country = self.country.or(place.country);
        place.asn = self.asn.or(place.asn);
    }
}

/// Two letters.
pub fn country(text: &str) -> Result<[u8; 2], String> {
    match text.to_ascii_uppercase().as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok([*a, *b]),
        _ => Err("expected two letters such as GB".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    mod lines {
        include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lines.rs"));
    }

    /// The words of every command that has none below it.
    fn leaves(command: &clap::Command, above: &str, out: &mut Vec<String>) {
        let below: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        for command in &below {
            leaves(command, &format!("{above}{} ", command.get_name()), out);
        }
        if below.is_empty() {
            out.push(above.trim_end().to_owned());
        }
    }

    #[test]
    fn every_command_is_among_those_that_are_run_with_json() {
        let mut all = Vec::new();
        leaves(&Args::command(), "", &mut all);
        assert!(all.len() > 50, "{all:?}");
        for command in all {
            let line = |l: &&&str| {
                format!("{} ", l.trim_start_matches(['!', '~'])).starts_with(&format!("{command} "))
            };
            assert!(lines::LINES.iter().any(|l| line(&l)), "tests/lab/lines.rs has no line for `{command}`");
        }
    }

    #[test]
    fn countries_are_two_letters() {
        assert_eq!(country("gb"), Ok(*b"GB"));
        assert!(country("GBR").is_err() && country("é").is_err());
    }
}
