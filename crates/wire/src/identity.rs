//! Ed25519 keys of brokers, nodes and persons: their text form and their files.
//!
//! An id is a public key: a three-character prefix that names the role and the key in base32
//! (RFC 4648, lower case, no padding). A key file holds the 32-byte seed as PKCS #8 PEM, readable
//! by its owner only.

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use nearmost_core::id::NodeId;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `nb1…`
    Broker,
    /// `nn1…`
    Node,
    /// `np1…`
    Person,
}

impl Role {
    const ALL: [Role; 3] = [Role::Broker, Role::Node, Role::Person];

    /// The prefix of ids of this role.
    pub fn prefix(self) -> &'static str {
        match self {
            Role::Broker => "nb1",
            Role::Node => "nn1",
            Role::Person => "np1",
        }
    }

    /// What people call it.
    pub fn noun(self) -> &'static str {
        match self {
            Role::Broker => "broker",
            Role::Node => "node",
            Role::Person => "person",
        }
    }
}

/// A public key with the role it is used in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Whose it is.
    pub role: Role,
    /// The Ed25519 public key.
    pub key: [u8; 32],
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// None of the known prefixes.
    #[error("{0:?} is not an id: ids begin with nb1 (broker), nn1 (node) or np1 (person)")]
    Prefix(String),
    /// A right prefix and a wrong rest.
    #[error("{0:?} is not an id: after the prefix come 52 characters of base32 (a-z, 2-7)")]
    Encoding(String),
    /// An id of another role than was asked for.
    #[error("{text} is the id of a {found}, expected that of a {expected}")]
    Role {
        /// What was given.
        text: String,
        /// Its role.
        found: &'static str,
        /// The role asked for.
        expected: &'static str,
    },
}

impl Id {
    /// An id from its text, which must be of `role`.
    pub fn parse(text: &str, role: Role) -> Result<Id, IdError> {
        let id: Id = text.parse()?;
        if id.role == role {
            return Ok(id);
        }
        Err(IdError::Role { text: text.into(), found: id.role.noun(), expected: role.noun() })
    }

    /// A node's id as the fleet's logic knows it.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.key)
    }
}

impl From<NodeId> for Id {
    fn from(id: NodeId) -> Id {
        Id { role: Role::Node, key: id.0 }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = data_encoding::BASE32_NOPAD.encode(&self.key).to_ascii_lowercase();
        write!(f, "{}{text}", self.role.prefix())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Id, IdError> {
        let role = Role::ALL.into_iter().find(|r| text.starts_with(r.prefix()));
        let Some(role) = role else { return Err(IdError::Prefix(text.into())) };
        let rest = text[role.prefix().len()..].to_ascii_uppercase();
        let key = data_encoding::BASE32_NOPAD.decode(rest.as_bytes()).ok();
        match key.and_then(|k| <[u8; 32]>::try_from(k).ok()) {
            Some(key) => Ok(Id { role, key }),
            None => Err(IdError::Encoding(text.into())),
        }
    }
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read, or written.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there and is not a key.
    #[error("key file {path}: not an Ed25519 private key in PKCS #8 PEM: {detail}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        detail: String,
    },
    /// Others can read the file.
    #[error("key file {path}: readable by others (mode {mode:o}); make it private with chmod 600")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}

/// A private key.
#[derive(Clone)]
pub struct KeyPair {
    signing: ed25519_dalek::SigningKey,
    role: Role,
}

impl KeyPair {
    /// A new key.
    pub fn generate(role: Role) -> Result<KeyPair, KeyError> {
        let mut seed = zeroize::Zeroizing::new([0u8; 32]);
        SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(KeyPair::from_seed(role, &seed))
    }

    /// The key of a 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed(role: Role, seed: &[u8; 32]) -> KeyPair {
        KeyPair { signing: ed25519_dalek::SigningKey::from_bytes(seed), role }
    }

    /// The key in a file; a file that is not there is an error of kind `NotFound`.
    pub fn load(path: &Path, role: Role) -> Result<KeyPair, KeyError> {
        use std::os::unix::fs::PermissionsExt;
        let io = |source| KeyError::Io { path: path.into(), source };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.into(), mode });
        }
        let pem = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
        let signing = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem)
            .map_err(|e| KeyError::Format { path: path.into(), detail: e.to_string() })?;
        Ok(KeyPair { signing, role })
    }

    /// The key in a file, made there (mode 0600) when there is none. Says whether it was made.
    pub fn load_or_create(path: &Path, role: Role) -> Result<(KeyPair, bool), KeyError> {
        match KeyPair::load(path, role) {
            Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            other => return other.map(|k| (k, false)),
        }
        let key = KeyPair::generate(role)?;
        key.save_new(path)?;
        Ok((key, true))
    }

    /// Writes the key to a file that must not exist yet, mode 0600, synced.
    pub fn save_new(&self, path: &Path) -> Result<(), KeyError> {
        use std::os::unix::fs::OpenOptionsExt;
        let io = |source| KeyError::Io { path: path.into(), source };
        let pem = self
            .signing
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| KeyError::Format { path: path.into(), detail: e.to_string() })?;
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
    }

    /// The public side.
    pub fn id(&self) -> Id {
        Id { role: self.role, key: self.signing.verifying_key().to_bytes() }
    }

    /// The 32-byte seed, for signers of records.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.signing.to_bytes())
    }

    /// An Ed25519 signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer;
        self.signing.sign(message).to_bytes()
    }

    /// PKCS #8 DER, for TLS.
    pub fn pkcs8_der(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyError> {
        // A key in memory always encodes; the error is kept for the type's sake.
        let der = self.signing.to_pkcs8_der().map_err(|_| KeyError::Random)?;
        Ok(zeroize::Zeroizing::new(der.as_bytes().to_vec()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.id())
    }
}

/// Whether `signature` over `message` is by `key`, by the strict rules (no malleable signatures, no
/// keys of small order).
pub fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(key).is_ok_and(|k| k.verify_strict(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_id_round_trips_through_its_text() {
        for role in Role::ALL {
            let id = KeyPair::from_seed(role, &[7; 32]).id();
            assert_eq!(id.to_string().len(), 55);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(Id::parse(&id.to_string(), role), Ok(id));
        }
    }

    #[test]
    fn a_wrong_id_says_what_is_wrong() {
        let node = KeyPair::from_seed(Role::Node, &[7; 32]).id().to_string();
        assert!(matches!(Id::parse(&node, Role::Broker), Err(IdError::Role { .. })));
        assert!(matches!(node[..54].parse::<Id>(), Err(IdError::Encoding(_))));
        assert!(matches!("xx1abc".parse::<Id>(), Err(IdError::Prefix(_))));
    }

    #[test]
    fn a_key_file_is_private_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let (made, new) = KeyPair::load_or_create(&path, Role::Node).unwrap();
        assert!(new);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (read, new) = KeyPair::load_or_create(&path, Role::Node).unwrap();
        assert!(!new);
        assert_eq!(made.id(), read.id());

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyPair::load(&path, Role::Node), Err(KeyError::Permissions { .. })));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken.key");
        std::fs::write(&path, "hello").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(KeyPair::load_or_create(&path, Role::Node), Err(KeyError::Format { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello");
    }
}
