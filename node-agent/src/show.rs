//! `nearmost-agent status`: what a running agent tells of itself on its page `/healthz`.

use crate::status::{
    AgentStatus, BrokerStatus, MirrorUsageStatus, ServiceStatus, SessionState, StandingStatus, UsageStatus,
};
use nearmost_probe::harmless;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The agent answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any page.
const MAX_BYTES: u64 = 16 << 20;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// Nobody answers, or not in time.
    #[error("no agent answers at {at} (metrics.listen): {source}")]
    Silent {
        /// Where it was looked for.
        at: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Something answers that is no agent of this version.
    #[error("what answers at {at} (metrics.listen) is no agent of this version: {what}")]
    Stranger {
        /// Where it was looked for.
        at: SocketAddr,
        /// What is wrong with the answer.
        what: String,
    },
}

/// What the agent at `at` tells, and whether its loop turns.
///
/// # Errors
/// When there is no such agent.
pub async fn ask(at: SocketAddr) -> Result<(AgentStatus, bool), ShowError> {
    let silent = |source| ShowError::Silent { at, source };
    let page = tokio::time::timeout(PATIENCE, fetch(at)).await;
    let page = page.map_err(|_| silent(std::io::ErrorKind::TimedOut.into()))?.map_err(silent)?;
    read(&page).map_err(|what| ShowError::Stranger { at, what })
}

/// HTTP/1.0: one request, and the answer ends with the connection.
async fn fetch(at: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut page = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut page).await?;
    Ok(page)
}

pub(crate) fn read(page: &[u8]) -> Result<(AgentStatus, bool), String> {
    let end = page.windows(4).position(|w| w == b"\r\n\r\n").ok_or("not HTTP")?;
    let head = String::from_utf8_lossy(&page[..end]);
    let alive = match head.split(' ').nth(1) {
        Some("200") => true,
        Some("503") => false,
        _ => return Err(format!("{:?}", head.lines().next().unwrap_or_default())),
    };
    let status = serde_json::from_slice(&page[end + 4..]).map_err(|e| e.to_string())?;
    Ok((status, alive))
}

/// For machines: the agent's page, and whether its loop turns.
///
/// # Errors
/// Never for the types there are now.
pub fn json(status: &AgentStatus, alive: bool) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(status)?;
    if let Some(all) = value.as_object_mut() {
        all.insert("alive".into(), alive.into());
    }
    // Others' texts may hold what a terminal obeys; JSON escapes them.
    let text = format!("{value:#}\n");
    Ok(text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c == '\n' || harmless(c.encode_utf8(&mut [0; 4])) == c.to_string() {
            true => out.push(c),
            false => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
        out
    }))
}

/// For people: a line for the node, each broker and what it thinks of the node, each service and how many use
/// it, the ingress and each check that does not pass.
pub fn lines(status: &AgentStatus, alive: bool, now_unix_ms: u64) -> String {
    let mut out = String::new();
    let state = match (alive, status.draining) {
        (false, _) => "HANGS",
        (true, true) => "drains",
        (true, false) => "runs",
    };
    let mut line = |what: &str, name: &str, state: &str, more: &str| {
        // Texts of brokers and services go to a terminal.
        let text = harmless(&format!("{what} {name}: {state}{more}"));
        // Writing to a string does not fail.
        let _ = writeln!(out, "{text}");
    };
    line("node", &status.node, state, "");
    for broker in &status.brokers {
        line("broker", &broker.id, broker.session.as_str(), &trust(broker));
        broker
            .warnings
            .iter()
            .for_each(|warning| line("broker", &broker.id, "warns", &format!(": {warning}")));
        for said in &broker.standing {
            let name = format!("{}/{} {}", said.domain, said.mirror, said.family);
            line("  says", &name, &said.state, &standing(said, now_unix_ms));
        }
        for (name, users, more) in broker.usage.iter().flat_map(usage) {
            line("  says", &name, &users, &more);
        }
    }
    let attached = status.attached();
    if attached == 0 && !status.brokers.is_empty() {
        line("trust", "no broker", "has a session with this node", ", so none sends it users");
    }
    for service in &status.services {
        let name = format!("{}/{}", service.domain, service.mirror);
        line("service", &name, if service.healthy { "healthy" } else { "NOT healthy" }, &used(service));
    }
    if let Some(i) = &status.ingress {
        let sessions = format!("{} sessions served, {} kept warm", i.served, i.warm);
        let flows = format!("; {} UDP flows, {} TCP connections", i.udp_flows, i.tcp_flows);
        line("ingress", &format!("port {}", i.port), &sessions, &flows);
    }
    let (cpu, memory) = (status.machine.cpu * 100.0, status.machine.memory * 100.0);
    line("machine", "load", &format!("{cpu:.0} % of CPU"), &format!(", {memory:.0} % of memory in use"));
    match status.checks.is_empty() {
        true => line("checks", "all", "pass", ""),
        false => status.checks.iter().for_each(|check| line("check", &check.name, &check.problem, "")),
    }
    out
}

/// ` (enrolled; 12 reports taken)`, or why there is no session and what to do.
fn trust(broker: &BrokerStatus) -> String {
    if broker.session == SessionState::Attached {
        let seen = broker.observed.map(|ip| format!("; seen from {ip}")).unwrap_or_default();
        return format!(" (enrolled; {} reports taken{seen})", broker.reports_taken);
    }
    let Some(error) = &broker.error else { return String::new() };
    let next = match () {
        () if error.contains("revoked") => {
            "; its operator revoked this node: ask why, `nearmost node set NAME --revoked false` there admits it again"
        }
        () => "",
    };
    format!(" ({error}{next})")
}

/// ` for 3m, gets new users: proven (agent+broker)`
fn standing(said: &StandingStatus, now_unix_ms: u64) -> String {
    let takes = if said.eligible { "gets new users" } else { "gets NO new users" };
    format!(
        " for {}, {takes}: {} ({})",
        age(now_unix_ms.saturating_sub(said.since_unix_ms)),
        said.reason.replace('_', " "),
        said.vantage
    )
}

/// Of each mirror its name, `12 users`, `, 40 % of its domain's`; and what was refused, if anything was.
fn usage(said: &UsageStatus) -> Vec<(String, String, String)> {
    let mirror = |m: &MirrorUsageStatus| {
        let users = format!("{:.0} users", m.users);
        let share = m.share.map(|s| format!(", {:.0} % of its domain's", s * 100.0)).unwrap_or_default();
        (format!("{}/{}", m.domain, m.mirror), users, share)
    };
    let mut lines: Vec<_> = said.mirrors.iter().map(mirror).collect();
    if said.beacons_refused > 0 {
        let refused = format!("{} refused", said.beacons_refused);
        let why = ": their signature was wrong, so somebody forges them or this node's key is in use twice";
        lines.push(("beacons".into(), refused, why.into()));
    }
    lines
}

/// `4s`, `3m`, `2h`, `5d`
fn age(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// `, ready; 120 of 500 connections`
fn used(service: &ServiceStatus) -> String {
    let ready = if service.ready { "ready" } else { "not ready" };
    let connections = match service.capacity {
        0 => format!("{} connections", service.connections),
        most => format!("{} of {most} connections", service.connections),
    };
    let problem = service.problem.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!(", {ready}; {connections}{problem}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{FailingCheck, IngressStatus};
    use nearmost_wire::identity::{KeyPair, Role};

    fn status() -> AgentStatus {
        let key = |role| KeyPair::from_seed(role, &[1; 32]).id();
        AgentStatus::new(key(Role::Node), [key(Role::Broker)])
    }

    #[test]
    fn what_is_wrong_is_shown_and_harmless() {
        let mut s = status();
        let all_well = lines(&s, true, 0);
        assert!(all_well.starts_with(&format!("node {}: runs\n", s.node)), "{all_well}");
        assert!(all_well.ends_with("checks all: pass\n"), "{all_well}");
        s.brokers[0].session = SessionState::Attached;
        s.brokers[0].warnings = vec!["no such domain".into()];
        s.checks = vec![FailingCheck {
            name: "play.example/lon/check/tcp".into(),
            stuck: true,
            problem: "stuck: has run for 9 s, beyond its timeout\u{1b}[2J".into(),
        }];
        s.ingress = Some(IngressStatus { port: 7850, served: 3, warm: 2, udp_flows: 1, tcp_flows: 4 });
        s.brokers[0].reports_taken = 12;
        s.brokers[0].standing = vec![StandingStatus {
            domain: "play.example".into(),
            mirror: "lon".into(),
            family: "v4".into(),
            state: "up".into(),
            reason: "proven".into(),
            vantage: "agent+broker".into(),
            since_unix_ms: 0,
            eligible: true,
        }];
        s.brokers[0].usage = Some(UsageStatus {
            mirrors: vec![MirrorUsageStatus {
                domain: "play.example".into(),
                mirror: "lon".into(),
                users: 12.0,
                share: Some(0.4),
            }],
            beacons_refused: 3,
        });
        s.services = vec![ServiceStatus {
            domain: "play.example".into(),
            mirror: "lon".into(),
            healthy: true,
            ready: true,
            problem: None,
            connections: 120,
            capacity: 500,
        }];
        let shown = lines(&s, false, 180_000);
        for part in [
            ": HANGS\n",
            ": attached (enrolled; 12 reports taken)\n",
            "  says play.example/lon v4: up for 3m, gets new users: proven (agent+broker)\n",
            "  says play.example/lon: 12 users, 40 % of its domain's\n",
            "  says beacons: 3 refused: their signature was wrong",
            "service play.example/lon: healthy, ready; 120 of 500 connections\n",
            "machine load: 0 % of CPU, 0 % of memory in use\n",
            ": warns: no such domain\n",
            "ingress port 7850: 3 sessions served, 2 kept warm; 1 UDP flows, 4 TCP connections\n",
            "check play.example/lon/check/tcp: stuck: has run for 9 s, beyond its timeout\\u{1b}[2J\n",
        ] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
    }

    #[test]
    fn it_is_told_whether_the_node_is_trusted() {
        let mut s = status();
        s.brokers[0].error = Some("refused: revoked".into());
        let shown = lines(&s, true, 0);
        assert!(shown.contains("(refused: revoked; its operator revoked this node"), "{shown}");
        assert!(
            shown.contains("trust no broker: has a session with this node, so none sends it users\n"),
            "{shown}"
        );
        s.brokers[0].warnings = vec!["a\u{1b}\u{202e}b".into()];
        let text = json(&s, true).expect("JSON");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&value["alive"], &value["brokers"][0]["warnings"][0]),
            (&true.into(), &"a\u{1b}\u{202e}b".into())
        );
    }

    #[test]
    fn only_an_agents_page_is_read() {
        let s = status();
        let page = |code: u16, body: &str| format!("HTTP/1.0 {code} X\r\nA: b\r\n\r\n{body}");
        let json = serde_json::to_string(&s).expect("JSON");
        assert_eq!(read(page(200, &json).as_bytes()), Ok((s.clone(), true)));
        assert_eq!(read(page(503, &json).as_bytes()), Ok((s, false)));
        for wrong in [page(404, &json), page(200, "{}"), "SSH-2.0".into(), String::new(), "\r\n\r\n".into()] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
