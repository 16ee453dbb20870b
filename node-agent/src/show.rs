//! `nearmost-agent status`: what a running agent tells of itself on its page `/healthz`.

use crate::status::AgentStatus;
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

fn read(page: &[u8]) -> Result<(AgentStatus, bool), String> {
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

/// For people: a line for the node, each broker, the ingress and each check that does not pass.
pub fn lines(status: &AgentStatus, alive: bool) -> String {
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
        let error = broker.error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
        line("broker", &broker.id, broker.session.as_str(), &error);
        broker
            .warnings
            .iter()
            .for_each(|warning| line("broker", &broker.id, "warns", &format!(": {warning}")));
    }
    if let Some(i) = &status.ingress {
        let sessions = format!("{} sessions served, {} kept warm", i.served, i.warm);
        let flows = format!("; {} UDP flows, {} TCP connections", i.udp_flows, i.tcp_flows);
        line("ingress", &format!("port {}", i.port), &sessions, &flows);
    }
    match status.checks.is_empty() {
        true => line("checks", "all", "pass", ""),
        false => status.checks.iter().for_each(|check| line("check", &check.name, &check.problem, "")),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{FailingCheck, IngressStatus, SessionState};
    use nearmost_wire::identity::{KeyPair, Role};

    fn status() -> AgentStatus {
        let key = |role| KeyPair::from_seed(role, &[1; 32]).id();
        AgentStatus::new(key(Role::Node), [key(Role::Broker)])
    }

    #[test]
    fn what_is_wrong_is_shown_and_harmless() {
        let mut s = status();
        let all_well = lines(&s, true);
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
        let shown = lines(&s, false);
        for part in [
            ": HANGS\n",
            ": attached\n",
            ": warns: no such domain\n",
            "ingress port 7850: 3 sessions served, 2 kept warm; 1 UDP flows, 4 TCP connections\n",
            "check play.example/lon/check/tcp: stuck: has run for 9 s, beyond its timeout\\u{1b}[2J\n",
        ] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
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
