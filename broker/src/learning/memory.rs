//! What was learned, kept over a restart: one file in the data directory.
//!
//! ```text
//!  "nearmost-rtt 1\n" ∥ SHA-256 of the rest (32 bytes) ∥ postcard(Memory)
//! ```
//!
//! Written beside and renamed, so that a crash leaves the old one whole. A file that is damaged, or of
//! another version, is put aside under another name and learning starts anew: what it held are hints.

use nearmost_core::rtt::Memory;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
const FILE: &str = "round-trips";
const HEADER: &[u8] = b"nearmost-rtt 1\n";
/// A larger file is taken for a mistake: ten million networks take less.
const MAX_BYTES: u64 = 4 << 30;

/// Why what was learned before is not there.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{path}: cannot be written: {source}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the file is not what was written.
    #[error("{path}: {what}; put aside as {aside}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// Where it is now.
        aside: PathBuf,
    },
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    path: PathBuf,
}

impl MemoryFile {
    /// In a data directory.
    pub fn new(data_dir: &Path) -> MemoryFile {
        MemoryFile { path: data_dir.join(FILE) }
    }

    /// What was written last; nothing when there is no file.
    ///
    /// # Errors
    /// [`MemoryError::Unreadable`], and [`MemoryError::Damaged`] when the file was put aside.
    pub fn load(&self) -> Result<Memory, MemoryError> {
        let unreadable = |source| MemoryError::Unreadable { path: self.path.clone(), source };
        let length = match std::fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(e) => return Err(unreadable(e)),
        };
        if length > MAX_BYTES {
            return Err(
                self.put_aside(format!("has {length} bytes, more than the {MAX_BYTES} that are read"))
            );
        }
        let bytes = std::fs::read(&self.path).map_err(unreadable)?;
        decode(&bytes).map_err(|what| self.put_aside(what))
    }

    /// Removes what was kept, as it is not to be kept any longer.
    ///
    /// # Errors
    /// [`MemoryError::Unwritable`] when a file stays.
    pub fn remove(&self) -> Result<(), MemoryError> {
        for path in [self.path.clone(), self.path.with_extension("bad"), self.path.with_extension("new")] {
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "what was learned of round trips is removed")
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(MemoryError::Unwritable { path, source }),
            }
        }
        Ok(())
    }

    fn put_aside(&self, what: String) -> MemoryError {
        let aside = self.path.with_extension("bad");
        let what = match std::fs::rename(&self.path, &aside) {
            Ok(()) => what,
            Err(e) => format!("{what} (and cannot be renamed: {e})"),
        };
        MemoryError::Damaged { path: self.path.clone(), what, aside }
    }

    /// Writes.
    ///
    /// # Errors
    /// [`MemoryError::Unwritable`]; what was written before is still there.
    pub fn save(&self, bytes: &[u8]) -> Result<(), MemoryError> {
        let new = self.path.with_extension("new");
        let write = || {
            // Where people are is nobody else's business.
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)
        };
        write().map_err(|source| MemoryError::Unwritable { path: self.path.clone(), source })
    }
}

/// As it stands in the file; `None` for what cannot be written, which is never.
pub fn encode(memory: &Memory) -> Option<Vec<u8>> {
    let body = postcard::to_allocvec(memory).ok()?;
    Some([HEADER, &Sha256::digest(&body), &body].concat())
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Memory, String> {
    let rest = bytes.strip_prefix(HEADER).ok_or("is not what this version of the broker wrote")?;
    let (sum, body) = rest.split_at_checked(32).ok_or("is cut short")?;
    if Sha256::digest(body)[..] != *sum {
        return Err("is damaged: its checksum does not match".into());
    }
    postcard::from_bytes(body).map_err(|e| format!("cannot be decoded: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::rtt::routes::Routes;
    use nearmost_core::rtt::{Learner, LearnerConfig, Observation, Source, Target};
    use nearmost_core::time::UnixMillis;

    fn learned() -> Memory {
        let mut learner = Learner::new(LearnerConfig::default(), Routes::new().into(), Memory::default());
        let observation = Observation {
            network: "192.0.2.0/24".parse().unwrap(),
            target: Target::Address([198, 51, 100, 1].into()),
            rtt_ms: 20.0,
            source: Source::Client,
            reporter: 1,
            users: 1,
        };
        learner.observe(&observation, UnixMillis(1)).unwrap();
        learner.memory().clone()
    }

    #[test]
    fn what_is_kept_comes_back_and_a_missing_file_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = MemoryFile::new(dir.path());
        assert_eq!(encode(&file.load().unwrap()), encode(&Memory::default()));
        let bytes = encode(&learned()).unwrap();
        file.save(&bytes).unwrap();
        assert_eq!(encode(&file.load().unwrap()).unwrap(), bytes);
    }

    #[test]
    fn only_the_owner_may_read_it_and_nothing_is_left_when_it_is_removed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = MemoryFile::new(dir.path());
        file.save(b"damaged").unwrap();
        let mode = std::fs::metadata(dir.path().join("round-trips")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        file.load().unwrap_err();
        file.save(b"again").unwrap();
        file.remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        file.remove().unwrap();
    }

    #[test]
    fn a_damaged_file_is_named_and_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = MemoryFile::new(dir.path());
        let whole = encode(&learned()).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let damaged = [whole[..20].to_vec(), flipped, b"something else".to_vec(), Vec::new()];
        for bytes in damaged {
            file.save(&bytes).unwrap();
            let said = file.load().unwrap_err().to_string();
            assert!(said.contains("round-trips: ") && said.contains("put aside as"), "{said}");
            assert_eq!(std::fs::read(dir.path().join("round-trips.bad")).unwrap(), bytes);
            file.load().unwrap();
        }
    }
}
