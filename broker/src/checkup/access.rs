//! Who may open the admin socket: its file's mode is the credential.

use super::{fail, ok, warn};
use nearmost_wire::api::FindingView;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The socket's file.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Mode, user and group; `None` when it is not there.
    file: Option<(u32, u32, u32)>,
}

pub(super) fn gather(path: &Path) -> Socket {
    let file = std::fs::metadata(path).ok().map(|m| (m.mode() & 0o777, m.uid(), m.gid()));
    Socket { path: path.into(), file }
}

/// To connect one needs the right to write, and no other.
pub(super) fn judge(socket: &Socket) -> Option<FindingView> {
    let path = socket.path.display();
    Some(match socket.file {
        None => warn(
            "admin socket",
            format!("{path} is not there any more: somebody removed it"),
            "restart the broker; let nothing tidy up its folder",
        ),
        Some((mode, ..)) if mode & 0o002 != 0 => fail(
            "admin socket",
            format!("{path} has mode {mode:03o}: everyone on this machine may change everything"),
            format!("`chmod o= {path}`"),
        ),
        Some((mode, user, group)) => {
            ok("admin socket", format!("{path}: mode {mode:03o}, user {user}, group {group}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_for_everyone_is_wrong() {
        let level = |file| judge(&Socket { path: "/x".into(), file }).unwrap().level;
        assert_eq!(
            [level(Some((0o660, 0, 0))), level(Some((0o664, 0, 0))), level(Some((0o666, 0, 0))), level(None)],
            ["ok", "ok", "fail", "warn"]
        );
    }
}
