//! A person's key: who signs what is changed.
//!
//! It is made on first use, readable by its owner only. A broker learns it on the first change made
//! over its Unix socket.

use nearmost_wire::identity::{KeyError, KeyPair, Role};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The variable that names another file.
pub const PERSON_KEY_VARIABLE: &str = "NEARMOST_PERSON_KEY";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    /// Nowhere to keep it.
    #[error("no place for your key: neither {PERSON_KEY_VARIABLE}, XDG_CONFIG_HOME nor HOME is set")]
    NoPlace,
    /// Its folder cannot be made.
    #[error("folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is of no use.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Where the key is: `$NEARMOST_PERSON_KEY`, else `$XDG_CONFIG_HOME/nearmost/person.key`, else
/// `~/.config/nearmost/person.key`.
///
/// # Errors
/// [`PersonError::NoPlace`].
pub fn default_path() -> Result<PathBuf, PersonError> {
    path_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn path_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, PersonError> {
    if let Some(path) = variable(PERSON_KEY_VARIABLE) {
        return Ok(path);
    }
    let config = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|h| h.join(".config")));
    config.map(|c| c.join("nearmost").join("person.key")).ok_or(PersonError::NoPlace)
}

/// The key in `path` if there is one.
///
/// # Errors
/// [`PersonError::Key`] for a file that is there and is no key.
pub fn load(path: &Path) -> Result<Option<KeyPair>, PersonError> {
    match KeyPair::load(path, Role::Person) {
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The key in `path`, made there when there is none; says whether it was made.
///
/// # Errors
/// [`PersonError`].
pub fn load_or_create(path: &Path) -> Result<(KeyPair, bool), PersonError> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| PersonError::Folder { path: folder.into(), source })?;
    }
    Ok(KeyPair::load_or_create(path, Role::Person)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_set_counts() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, PathBuf)> = set.iter().map(|(k, v)| (k.to_string(), v.into())).collect();
            path_from(move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        let all = [(PERSON_KEY_VARIABLE, "/k"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all).unwrap(), PathBuf::from("/k"));
        assert_eq!(with(&all[1..]).unwrap(), PathBuf::from("/x/nearmost/person.key"));
        assert_eq!(with(&all[2..]).unwrap(), PathBuf::from("/h/.config/nearmost/person.key"));
        assert!(matches!(with(&[]), Err(PersonError::NoPlace)));
    }

    #[test]
    fn a_key_is_made_once_in_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/person.key");
        assert!(load(&path).unwrap().is_none());
        let (key, made) = load_or_create(&path).unwrap();
        assert!(made);
        assert_eq!(load_or_create(&path).unwrap().0.id(), key.id());
        assert_eq!(load(&path).unwrap().unwrap().id(), key.id());
    }
}
