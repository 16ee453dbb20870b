//! The broker's own secrets, in its data directory.

use nearmost_wire::beacon::SiteKey;
use nearmost_wire::identity::{KeyError, KeyPair, Role};
use std::path::{Path, PathBuf};

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("data directory {path}: {source}")]
pub struct DataDirError {
    path: PathBuf,
    source: std::io::Error,
}

/// Secrets of a broker.
pub struct Keys {
    /// Its identity: `broker.key`.
    pub broker: KeyPair,
    /// The site's master key: `site.key`; brokers of one site share it.
    pub site: SiteKey,
    /// Whether the identity was made just now.
    pub new: bool,
}

/// Makes the data directory (mode 0700) unless it is there.
pub fn prepare_data_dir(path: &Path) -> Result<(), DataDirError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| DataDirError { path: path.into(), source })
}

/// Reads the keys, making those that are not there.
pub fn load_or_create(data_dir: &Path) -> Result<Keys, KeyError> {
    let (broker, new) = KeyPair::load_or_create(&data_dir.join("broker.key"), Role::Broker)?;
    let (site, _) = KeyPair::load_or_create(&data_dir.join("site.key"), Role::Broker)?;
    Ok(Keys { broker, site: SiteKey::new(&site.seed()), new })
}
