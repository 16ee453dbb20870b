//! The disk of the data directory: room, and whether it can be written.

use super::{bytes, fail, ok, warn};
use nearmost_wire::api::FindingView;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Less free room is wrong, or to be looked at.
const FAIL_BELOW: u64 = 32 << 20;
const WARN_BELOW: u64 = 512 << 20;

/// What the file system says.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    /// Free and all bytes, free and all inodes; why they are not known else.
    room: Result<Room, String>,
    /// Why nothing can be written.
    unwritable: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    free: u64,
    all: u64,
    free_inodes: u64,
    inodes: u64,
}

pub(super) fn gather(dir: &Path) -> Disk {
    let room = rustix::fs::statvfs(dir).map(|s| Room {
        free: s.f_bavail.saturating_mul(s.f_frsize),
        all: s.f_blocks.saturating_mul(s.f_frsize),
        free_inodes: s.f_favail,
        inodes: s.f_files,
    });
    Disk {
        dir: dir.into(),
        room: room.map_err(|e| io::Error::from(e).to_string()),
        unwritable: write(dir).err().map(|e| e.to_string()),
    }
}

/// Writes a file down to the disk and removes it.
fn write(dir: &Path) -> io::Result<()> {
    // A name of its own: a look that hung does not stand in the way of the next.
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let look = LOOKS.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".checkup-{}-{look}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let written = file.write_all(b"can this be written?").and_then(|()| file.sync_all());
    let removed = match std::fs::remove_file(&path) {
        // Somebody tidied up.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    written.and(removed)
}

pub(super) fn judge(disk: &Disk) -> Vec<FindingView> {
    let dir = disk.dir.display();
    let mut findings = Vec::new();
    if let Some(why) = &disk.unwritable {
        let fix = format!(
            "make room, remount it writable, or give {dir} to the user that the broker runs as; until then no change is \
             accepted, while answers go on"
        );
        findings.push(fail("disk", format!("data_dir {dir} cannot be written: {why}"), fix));
    }
    match &disk.room {
        Err(why) => {
            findings.push(fail(
                "disk",
                format!("data_dir {dir}: {why}"),
                "look whether it is there (`ls -ld`)",
            ));
        }
        Ok(room) => findings.push(judge_room(&dir.to_string(), room)),
    }
    findings
}

fn judge_room(dir: &str, room: &Room) -> FindingView {
    let message = format!("data_dir {dir}: {} free of {}", bytes(room.free), bytes(room.all));
    let fix = format!("free room on the disk of {dir} (`du -xh {dir} | sort -h | tail`), or move data_dir");
    match () {
        // Some file systems count no inodes.
        () if room.inodes > 0 && room.free_inodes == 0 => {
            fail("disk", format!("{dir}: no inodes are left"), fix)
        }
        () if room.free < FAIL_BELOW => fail("disk", message, fix),
        () if room.free < WARN_BELOW => warn("disk", message, fix),
        () => ok("disk", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged() {
        let level = |free, free_inodes| {
            judge_room("/d", &Room { free, all: 100 << 30, free_inodes, inodes: 10 }).level
        };
        assert_eq!(
            [level(50 << 30, 5), level(100 << 20, 5), level(1 << 20, 5), level(50 << 30, 0)],
            ["ok", "warn", "fail", "fail"]
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let found = judge(&gather(Path::new("/nowhere/at/all")));
        assert!(found.iter().all(|f| f.level == "fail") && found.len() == 2, "{found:?}");
        let dir = tempfile::tempdir().unwrap();
        let found = judge(&gather(dir.path()));
        assert!(found.len() == 1 && std::fs::read_dir(dir.path()).unwrap().next().is_none(), "{found:?}");
    }
}
