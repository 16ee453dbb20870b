//! The configuration that joining writes: the annotated file with what the token told filled in.

use crate::AGENT_TOML;
use std::path::PathBuf;

/// What a node knows once it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedAgent {
    /// The node's name.
    pub name: String,
    /// Where its key is.
    pub data_dir: PathBuf,
    /// Whom it may talk to.
    pub brokers: Vec<JoinedBroker>,
    /// What it was invited to mirror.
    pub services: Vec<JoinedService>,
}

/// A broker that the token named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedBroker {
    /// `nb1…`.
    pub id: String,
    /// `host:port` each.
    pub addresses: Vec<String>,
}

/// A domain that the token named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedService {
    /// The domain's name.
    pub domain: String,
    /// The mirror's name; empty for the node's.
    pub mirror: String,
    /// The service's port.
    pub port: u16,
}

/// The lines of the shipped file that are replaced, and those before which entries are put.
const DATA_DIR: &str = "data_dir = \"/var/lib/nearmost-agent\"";
const NAME: &str = "name = \"\"";
const BROKERS: &str = "#[[brokers]]";
const SERVICES: &str = "#[[services]]";

/// The text of a `node-agent.toml` for a node that joined, with all comments of the shipped one.
/// It reads back as what was given, where the values are such as the reader takes.
pub fn render_agent_config(joined: &JoinedAgent) -> String {
    // Entries go before the first example of their kind; there may be more examples.
    let mut brokers: String = joined.brokers.iter().map(broker_entry).collect();
    let mut services: String = joined.services.iter().map(service_entry).collect();
    let mut text = String::with_capacity(AGENT_TOML.len() + brokers.len() + services.len());
    for line in AGENT_TOML.lines() {
        match line {
            DATA_DIR => text.push_str(&format!("data_dir = {}", quoted(&joined.data_dir.to_string_lossy()))),
            NAME => text.push_str(&format!("name = {}", quoted(&joined.name))),
            BROKERS => text.push_str(&(std::mem::take(&mut brokers) + line)),
            SERVICES => text.push_str(&(std::mem::take(&mut services) + line)),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn broker_entry(broker: &JoinedBroker) -> String {
    let addresses: Vec<String> = broker.addresses.iter().map(|a| quoted(a)).collect();
    format!("[[brokers]]\nid = {}\naddresses = [{}]\n\n", quoted(&broker.id), addresses.join(", "))
}

fn service_entry(service: &JoinedService) -> String {
    let JoinedService { domain, mirror, port } = service;
    let (domain, mirror) = (quoted(domain), quoted(mirror));
    // The check's address follows the port when that is changed later.
    format!(
        "[[services]]\ndomain = {domain}\nmirror = {mirror}\nport = {port}\n\n\
         # Is 127.0.0.1:{port} open? A check of kind http says more; see below.\n\
         [[services.checks]]\nkind = \"tcp\"\n\n"
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
