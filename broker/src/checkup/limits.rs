//! How many files may be open, and how many are needed at most.

use super::{fail, ok, warn};
use nearmost_config::BrokerConfig;
use nearmost_wire::api::FindingView;
use rustix::process::{Resource, getrlimit};

/// Files besides connections: the store, logs, watched directories, sockets of tasks.
const OTHERS: u64 = 128;
/// A broker with fewer runs out under any load.
const LEAST: u64 = 1024;

/// What the system allows, and what the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Most files; `None` for no limit.
    limit: Option<u64>,
    /// To which the process may raise it.
    hard: Option<u64>,
    /// Open now; 0 where that is not known.
    open: u64,
    /// Open at once when every limit of the configuration is reached.
    need: u64,
    whose: Whose,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// That of this broker.
    Own,
    /// That which the unit will give it.
    Unit,
    /// That of the shell in which this is asked; there is no unit.
    Shell,
}

/// The unit of a broker, as docs/systemd has it.
const UNIT: &str = "nearmost-broker";

pub(super) fn gather(config: &BrokerConfig) -> Files {
    let limit = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    Files { limit: limit.current, hard: limit.maximum, open, need: need(config), whose: Whose::Own }
}

/// What a broker that does not run would have: by its unit, else as this shell has it. It raises the soft limit to the
/// hard one itself.
pub(super) fn foresee(config: &BrokerConfig) -> Files {
    let shown = std::process::Command::new("systemctl")
        .args(["show", "--property=LoadState,LimitNOFILE", UNIT])
        .stdin(std::process::Stdio::null())
        .output();
    let unit = shown.ok().and_then(|output| of_unit(&String::from_utf8_lossy(&output.stdout)));
    let (limit, whose) = match unit {
        Some(limit) => (limit, Whose::Unit),
        None => (getrlimit(Resource::Nofile).maximum, Whose::Shell),
    };
    Files { limit, hard: limit, open: 0, need: need(config), whose }
}

/// The limit by what systemd shows of a unit, which may be none; `None` without a unit.
fn of_unit(shown: &str) -> Option<Option<u64>> {
    let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("LoadState") != Some("loaded") {
        return None;
    }
    match value("LimitNOFILE")? {
        "infinity" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn need(config: &BrokerConfig) -> u64 {
    let dns = &config.dns;
    let encrypted = if dns.tls.files_in_use().is_some() { dns.tls.max_connections } else { 0 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if dns.udp.workers == 0 { cores } else { dns.udp.workers };
    // Those whose UDP is blocked come over TCP, each with a socket of its own.
    let peers = if config.peers.enabled { config.peers.max_connections } else { 0 };
    let all = [
        config.clients.max_connections,
        peers,
        config.http.max_connections,
        dns.tcp.max_connections,
        encrypted,
        config.mirrors.probe.max_in_flight,
        workers * dns.listen.len(),
    ];
    OTHERS + all.into_iter().sum::<usize>() as u64
}

pub(super) fn judge(files: &Files) -> FindingView {
    let Files { limit, hard, open, need, whose } = *files;
    let most = limit.map_or_else(|| "any number of".to_owned(), |n| n.to_string());
    let may = match whose {
        Whose::Own => format!("{most} files may be open, {open} are"),
        Whose::Unit => format!("{most} files may be open by the unit {UNIT}"),
        Whose::Shell => {
            format!("{most} files may be open by the limit of this shell (there is no unit {UNIT} here)")
        }
    };
    let message = format!("{may}; up to {need} are needed when every configured limit is reached");
    let Some(limit) = limit else { return ok("file limit", message) };
    let raise = match hard {
        Some(hard) if hard < need => "",
        _ => " (the hard limit allows it)",
    };
    let fix = format!(
        "set LimitNOFILE={} in the unit (`systemctl edit nearmost-broker`), or `ulimit -n` before it starts{raise}; or \
         lower clients.max_connections, http.max_connections and dns.tcp.max_connections",
        need.next_power_of_two().max(4096)
    );
    match () {
        () if open * 10 >= limit * 9 => fail("file limit", format!("nearly all are used: {message}"), fix),
        () if limit < need && limit < LEAST => fail("file limit", message, fix),
        () if limit < need => warn("file limit", message, fix),
        () => ok("file limit", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_told() {
        let level =
            |limit, open, need| judge(&Files { limit, hard: None, open, need, whose: Whose::Own }).level;
        assert_eq!(level(Some(65_536), 40, 3000), "ok");
        assert_eq!(level(None, 40, 3000), "ok");
        assert_eq!(level(Some(2048), 40, 3000), "warn");
        assert_eq!(level(Some(256), 40, 3000), "fail");
        assert_eq!(level(Some(65_536), 60_000, 3000), "fail");
        let said =
            judge(&Files { limit: Some(256), hard: Some(256), open: 0, need: 3000, whose: Whose::Shell });
        assert!(said.fix.contains("LimitNOFILE=4096") && said.message.contains("this shell"), "{said:?}");
    }

    #[test]
    fn a_broker_that_does_not_run_has_the_limit_of_its_unit() {
        assert_eq!(of_unit("LimitNOFILE=65536\nLoadState=loaded\n"), Some(Some(65_536)));
        assert_eq!(of_unit("LimitNOFILE=infinity\nLoadState=loaded\n"), Some(None));
        // systemd has a default for units that are not there.
        assert_eq!(of_unit("LimitNOFILE=524288\nLoadState=not-found\n"), None);
        assert_eq!(of_unit(""), None);
    }

    #[test]
    fn what_is_needed_follows_from_the_configuration() {
        let mut config = BrokerConfig::default();
        let before = need(&config);
        config.http.max_connections += 10;
        assert_eq!(need(&config), before + 10);
    }
}
