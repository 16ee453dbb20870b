//! The disk of the data directory: room, and whether it can be written.

use super::{bytes, fail, ok, warn};
use nearmost_wire::api::FindingView;
use std::io;
use std::path::{Path, PathBuf};

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

/// Writes a file and removes it.
fn write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".checkup-{}", std::process::id()));
    let written = std::fs::write(&path, b"can this be written?");
    // Where it was not written there is nothing to remove.
    let removed = std::fs::remove_file(&path);
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
