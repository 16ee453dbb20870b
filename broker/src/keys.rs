//! The broker's own secrets, in its data directory.

use nearmost_dns::dnssec::KeyDerivation;
use nearmost_wire::beacon::SiteKey;
use nearmost_wire::identity::{KeyError, KeyPair, Role};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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
    /// From the same: the keys that domains are signed with.
    pub zones: KeyDerivation,
    /// Whether the identity was made just now.
    pub new: bool,
}

/// Makes the data directory (mode 0700) unless it is there; says so when others may write in one
/// that is, as they could put their keys in place of the broker's.
pub fn prepare_data_dir(path: &Path) -> Result<(), DataDirError> {
    let error = |source| DataDirError { path: path.into(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
    let mode = std::fs::metadata(path).map_err(error)?.permissions().mode();
    if open_to_others(mode) {
        tracing::warn!(
            path = %path.display(),
            mode = format!("{:o}", mode & 0o7777),
            "others than the owner may write in the data directory: whoever can replaces the broker's keys; make its mode 0700"
        );
    }
    Ok(())
}

/// Whether group or others may write.
fn open_to_others(mode: u32) -> bool {
    mode & 0o022 != 0
}

/// Reads the keys, making those that are not there.
pub fn load_or_create(data_dir: &Path) -> Result<Keys, KeyError> {
    let (broker, new) = KeyPair::load_or_create(&data_dir.join("broker.key"), Role::Broker)?;
    let (site, _) = KeyPair::load_or_create(&data_dir.join("site.key"), Role::Broker)?;
    let seed = site.seed();
    Ok(Keys { broker, site: SiteKey::new(&seed), zones: KeyDerivation::new(&seed), new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_write_is_told_from_a_private_one() {
        for (mode, open) in [(0o700, false), (0o755, false), (0o770, true), (0o702, true), (0o1777, true)] {
            assert_eq!(open_to_others(mode), open, "{mode:o}");
        }
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        prepare_data_dir(&own).unwrap();
        assert!(!open_to_others(std::fs::metadata(&own).unwrap().permissions().mode()));
        prepare_data_dir(&own).unwrap();
    }
}
