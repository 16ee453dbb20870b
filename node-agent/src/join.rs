//! Redeeming an invitation: token in, key and configuration out.
//!
//! What could fail on this machine is tried before the token is spent: the key is made and the
//! configuration's file opened first. The configuration then gets its name by a rename, so it is
//! there whole or not at all.

use crate::dial::{Dialled, LinkError, STEP, dial};
use nearmost_config::{JoinedAgent, JoinedBroker, JoinedService, render_agent_config};
use nearmost_wire::agent::{ToAgent, ToBroker};
use nearmost_wire::armor::ArmorError;
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyError, KeyPair, Role};
use nearmost_wire::token::JoinToken;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The key's file in the data folder.
pub const KEY_FILE: &str = "node.key";

/// What to join with.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The invitation.
    pub token: String,
    /// Where the configuration is written.
    pub config: PathBuf,
    /// Where the key is kept.
    pub data_dir: PathBuf,
    /// The name the operator wants, if the invitation names none.
    pub name: Option<String>,
    /// Port of the services that are written to the configuration.
    pub port: u16,
}

/// What joining brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The node's id.
    pub id: Id,
    /// The node's name.
    pub name: String,
    /// Domains it may mirror.
    pub domains: Vec<String>,
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not a token.
    #[error(transparent)]
    Token(#[from] ArmorError),
    /// The token names no broker address.
    #[error("the token names no address of a broker; ask for a new one")]
    NoAddress,
    /// There is a configuration already.
    #[error("{0} is there already; remove it first, or give another file with --config")]
    Exists(PathBuf),
    /// A file or folder cannot be written.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was wanted of it.
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key cannot be had.
    #[error("cannot read or make the node's key: {0}")]
    Key(#[from] KeyError),
    /// The broker cannot be reached, or refused.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Redeems the token.
///
/// # Errors
/// The first thing that stands in the way; the token is spent only when all went well, or when the
/// configuration could not be renamed at the very end.
pub async fn join(options: &JoinOptions) -> Result<Joined, JoinError> {
    let token = JoinToken::decode(&options.token)?;
    if options.config.exists() {
        return Err(JoinError::Exists(options.config.clone()));
    }
    // The agent may be started in another directory than this one.
    let data_dir = std::path::absolute(&options.data_dir).map_err(|source| JoinError::File {
        act: "find",
        path: options.data_dir.clone(),
        source,
    })?;
    let key = own_key(&data_dir)?;
    let draft = Draft::open(&options.config)?;
    let (name, domains) = redeem(&key, &token, options.name.clone()).await?;
    let service =
        |domain: &String| JoinedService { domain: domain.clone(), mirror: String::new(), port: options.port };
    let broker = JoinedBroker { id: token.broker_id().to_string(), addresses: token.addresses };
    let text = render_agent_config(&JoinedAgent {
        name: name.clone(),
        data_dir,
        brokers: vec![broker],
        services: domains.iter().map(service).collect(),
    });
    draft.publish(&text, &options.config)?;
    Ok(Joined { id: key.id(), name, domains })
}

fn own_key(data_dir: &Path) -> Result<KeyPair, JoinError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(|source| JoinError::File {
        act: "create the data directory",
        path: data_dir.into(),
        source,
    })?;
    Ok(KeyPair::load_or_create(&data_dir.join(KEY_FILE), Role::Node)?.0)
}

/// Tries the token's addresses in turn; a broker that answers has the last word.
async fn redeem(
    key: &KeyPair,
    token: &JoinToken,
    name: Option<String>,
) -> Result<(String, Vec<String>), JoinError> {
    let mut last = JoinError::NoAddress;
    for address in &token.addresses {
        match dial(key, token.broker_id(), address).await {
            Ok(dialled) => return Ok(ask(dialled, token.secret, name).await?),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

async fn ask(
    dialled: Dialled,
    secret: [u8; 16],
    name: Option<String>,
) -> Result<(String, Vec<String>), LinkError> {
    let opened = dialled.connection.open_bi().await;
    let (mut send, mut recv) = opened.map_err(|e| dialled.lost(e))?;
    let join = ToBroker::Join { secret, name };
    frame::write(&mut send, &join).await.map_err(|e| dialled.frame_error(e))?;
    let answer = tokio::time::timeout(STEP, frame::read(&mut recv)).await;
    let answer = answer.map_err(|_| dialled.slow("answer to the token"))?;
    match answer.map_err(|e| dialled.frame_error(e))? {
        ToAgent::Joined { name, domains } => {
            dialled.farewell(send).await;
            Ok((name, domains))
        }
        _ => Err(dialled.out_of_order("an answer to the token")),
    }
}

/// The configuration's file before it has its name; removed if it never gets it.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn open(config: &Path) -> Result<Draft, JoinError> {
        let mut name = config.as_os_str().to_owned();
        name.push(".new");
        let path = PathBuf::from(name);
        let error = |act, path: &Path, source| JoinError::File { act, path: path.into(), source };
        if let Some(dir) = config.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(|e| error("create the directory", dir, e))?;
        }
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path);
        let file = opened.map_err(|e| error("write the configuration", &path, e))?;
        Ok(Draft { path, file })
    }

    fn publish(mut self, text: &str, config: &Path) -> Result<(), JoinError> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.and_then(|()| std::fs::rename(&self.path, config)).map_err(|source| JoinError::File {
            act: "write the configuration",
            path: config.into(),
            source,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}
