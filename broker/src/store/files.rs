//! Files beside each other: made under a name that nobody uses, given their own once they are whole.

use super::StoreError;
use super::error::from_io;
use redb::{Builder, Database};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// Files that crashed while being made and were left behind, at most.
const MAX_UNFINISHED: u32 = 100;

/// Memory for pages; redb's default of 1 GiB is for larger stores than a registry.
const CACHE_BYTES: usize = 64 << 20;

/// redb's settings, alike for every way to the file.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Runs what reads a file. Where its bytes contradict one another redb panics instead of saying so: that is an
/// error of the file like any other, and must not end the thread that everybody's store is on. What can panic is
/// not only reading: to close a file redb writes into it, so its handles are dropped in here too.
///
/// A panic while another one is cleaned up after cannot be caught. redb does not write while it unwinds, so a handle
/// that is dropped by the first panic does not bring the second.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // Whatever it was in the middle of belongs to the file's handle, which is not used after an error.
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        let cause = format!("its bytes contradict one another: {said}");
        Err(StoreError::Corrupted { path: path.to_owned(), cause })
    })
}

/// Closes a file. Into a damaged one redb may fail to write that it was closed: whoever opens it next falls back to
/// the last transaction that is whole, as after a crash.
pub(super) fn close(path: &Path, db: Database) {
    let closed = guarded(path, || {
        drop(db);
        Ok(())
    });
    if let Err(error) = closed {
        tracing::warn!(path = %path.display(), %error, "the store was not closed in order");
    }
}

/// Whether there is a directory of this name.
pub(super) fn check_dir(dir: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::NotADirectory { path: dir.to_owned() }),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(StoreError::DirMissing { path: dir.to_owned() }),
        Err(e) => Err(from_io(dir, &e)),
    }
}

/// A new file beside `path` for its owner only, under a name that nobody uses.
pub(super) fn new_file(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut n = 0;
    loop {
        let unfinished = path.with_extension(format!("new-{n}"));
        match options.open(&unfinished) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && n < MAX_UNFINISHED => n += 1,
            opened => return opened.map(|file| (unfinished, file)),
        }
    }
}

/// Gives a finished file its own name too, durably. Fails with [`ErrorKind::AlreadyExists`] when there
/// is a file of that name.
pub(super) fn link_and_sync(unfinished: &Path, path: &Path) -> io::Result<()> {
    std::fs::hard_link(unfinished, path)?;
    sync_parent(path)
}

/// Makes durable which names are in the directory of `path`.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file that is no longer needed.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a file that is no longer needed stays behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_file() {
        let path = Path::new("registry.redb");
        let run = |panics: bool| {
            guarded(path, || {
                assert!(!panics, "index {} is out of bounds", 7);
                Ok(1)
            })
        };
        assert_eq!(run(false), Ok(1));
        let Err(StoreError::Corrupted { path: named, cause }) = run(true) else { panic!("it is no error") };
        assert_eq!(named, path);
        assert_eq!(cause, "its bytes contradict one another: index 7 is out of bounds");
    }
}
