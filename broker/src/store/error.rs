//! Why the store refuses, with the path and the cause.

use crate::clock::utc;
use nearmost_replica::PublicKey;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store refuses. Cheap to clone: a failing transaction is reported to all who shared it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The data directory does not exist.
    #[error("the data directory {path} does not exist; create it, or set data_dir")]
    DirMissing {
        /// The directory.
        path: PathBuf,
    },
    /// What is given as the data directory is something else.
    #[error("{path} is not a directory, so it cannot be the data directory")]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// The directory or the file in it must not be written.
    #[error("{path} is not writable: {cause}")]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// The file's lock is held.
    #[error("another broker uses this data directory: {path} is open there")]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// No space for the write; nothing that was written before is lost.
    #[error("the disk of {path} is full ({cause}): the write is refused, nothing written before is lost")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// The file is no store, or not any more.
    #[error("{path} is damaged: {cause}; restore it from a backup, or move it away to start empty")]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The file was written by a newer program.
    #[error("{path} was written by a newer version: its schema is {found}, this program knows {known}")]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: u64,
        /// Schema of this program.
        known: u64,
    },
    /// The system failed in another way.
    #[error("{path} cannot be read or written: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// The registry changed since the writer looked.
    #[error(
        "the registry is at version {found}, the change was made for version {expected}; look again and repeat it"
    )]
    VersionMismatch {
        /// The writer's.
        expected: u64,
        /// The registry's.
        found: u64,
    },
    /// An author used one of its numbers for two records: its key runs in two places, or it lost
    /// count after a restore.
    #[error("the author {author} used its number {epoch}.{seq} for two different records")]
    AuthorForked {
        /// The author.
        author: PublicKey,
        /// Its epoch.
        epoch: u32,
        /// Its number in the epoch.
        seq: u64,
    },
    /// Two records are no proof that their author forked.
    #[error("the two records do not show that {author} used one number twice")]
    NoFork {
        /// The author that was to be proven to have forked.
        author: PublicKey,
    },
    /// No store is there.
    #[error("there is no registry at {path}")]
    NoStore {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file is there that is not to be overwritten.
    #[error("{path} is there already and is not overwritten")]
    AlreadyThere {
        /// The file.
        path: PathBuf,
    },
    /// A one-time token is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store thread has stopped.
    #[error("the store has stopped")]
    Stopped,
}

/// Why a one-time token is not good. Times are milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No such token was made here, or it was long ago.
    #[error("the token is not known here")]
    Unknown,
    /// It was good until then.
    #[error("the token expired at {}", utc(*expired_unix_ms))]
    Expired {
        /// When.
        expired_unix_ms: u64,
    },
    /// It was redeemed already.
    #[error("the token was used already, at {}", utc(*used_unix_ms))]
    Used {
        /// When.
        used_unix_ms: u64,
    },
}

impl StoreError {
    /// Whether the store may work again by itself, so that the write is worth repeating later.
    pub fn is_disk(&self) -> bool {
        matches!(self, StoreError::DiskFull { .. } | StoreError::NotWritable { .. } | StoreError::Io { .. })
    }
}

/// A system's error, about a file.
pub(super) fn from_io(path: &Path, error: &io::Error) -> StoreError {
    let (path, cause) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::DiskFull { path, cause }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::NotWritable { path, cause }
        }
        // A file that ends before what it says it holds.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => StoreError::Corrupted { path, cause },
        _ => StoreError::Io { path, cause },
    }
}

/// redb's error, about a file.
pub(super) fn from_redb(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::AlreadyOpen { path: path.to_owned() },
        redb::Error::Io(e) => from_io(path, &e),
        e @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_)) => {
            StoreError::Io { path: path.to_owned(), cause: e.to_string() }
        }
        // What is left speaks of a file that does not hold what this program writes: a wrong magic
        // number, a table of other types, an old file format.
        e => StoreError::Corrupted { path: path.to_owned(), cause: e.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let at = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_795_229_510_401, "2026-11-21T02:51:50Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (ms, text) in at {
            assert_eq!(utc(ms), text);
        }
        let used = TokenError::Used { used_unix_ms: 0 }.to_string();
        assert_eq!(used, "the token was used already, at 1970-01-01T00:00:00Z");
        utc(u64::MAX);
    }
}
