//! How many bytes of queries and beacons may wait while the broker is busy.

use super::{bytes, ok, warn};
use nearmost_wire::api::FindingView;

/// What the broker asks for at each socket of DNS; the kernel gives no more than it is told to.
const WANTED: u64 = 1 << 20;

/// The kernel's bound for receive buffers, in bytes.
pub(super) fn gather() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?.trim().parse().ok()
}

pub(super) fn judge(most: Option<u64>) -> FindingView {
    let Some(most) = most else {
        return ok("receive buffers", "not known: net.core.rmem_max cannot be read here");
    };
    let message = format!("net.core.rmem_max is {}, and sockets ask for {}", bytes(most), bytes(WANTED));
    let fix = format!(
        "bursts of queries are dropped sooner: `echo net.core.rmem_max={WANTED} > /etc/sysctl.d/nearmost.conf && sysctl \
         --system`, then restart the broker"
    );
    if most < WANTED { warn("receive buffers", message, fix) } else { ok("receive buffers", message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_told() {
        assert_eq!(judge(Some(212_992)).level, "warn");
        assert_eq!(judge(Some(WANTED)).level, "ok");
        let unknown = judge(None);
        assert!(unknown.level == "ok" && unknown.message.starts_with("not known"), "{unknown:?}");
    }
}
