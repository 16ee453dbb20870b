//! What people use without nearmost, put to the same work.

use super::log::Log;
use super::{Mirror, Task, http};
use anyhow::{Context, Result};
use nearmost_lab::seen::Way;
use nearmost_tests::dns;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::tls;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Where HAProxy takes requests, on the client's own host.
const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 8888);
/// Of the lab's services.
const SERVICE: u16 = 8080;
/// Of plain QUIC.
const QUIC: u16 = 8443;
/// How long an answer of DNS is good, as the zone says.
const TTL: Duration = Duration::from_secs(5);
/// The broker's name server.
const NAMES: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, nearmost_tests::netns::BROKER, 0, 2)), 53);

/// The host of the mirror that somebody is at.
#[derive(Clone, Default)]
pub struct At(Arc<AtomicU8>);

impl At {
    /// The host, 0 for none.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, host: u8) {
        self.0.store(host, Ordering::Relaxed);
    }
}

/// Begins to use the service.
pub fn start(way: Way, task: &Task, log: Log) -> At {
    let at = At::default();
    match way {
        Way::Quinn => {
            let (tell, connection) = watch::channel(None);
            tokio::spawn(stay_connected(task.mirrors.clone(), tell, at.clone(), log.clone()));
            tokio::spawn(send(connection, log));
        }
        Way::Dns => drop(tokio::spawn(curl(task.domain.clone(), at.clone(), log))),
        Way::Haproxy | Way::Nearmost => {
            let here = at.clone();
            let open = move || {
                // Whoever is nearest serves, as long as it is up.
                here.set(1);
                TcpStream::connect(PROXY)
            };
            tokio::spawn(http::use_it(open, log));
        }
    }
    at
}

/// Plain quinn: to the nearest mirror, and to the next when that connection ends.
async fn stay_connected(
    mirrors: Vec<Mirror>,
    tell: watch::Sender<Option<quinn::Connection>>,
    at: At,
    log: Log,
) {
    for mirror in mirrors.iter().cycle() {
        let Ok((_endpoint, connection)) = connect(mirror).await else { continue };
        at.set(mirror.host);
        tell.send_replace(Some(connection.clone()));
        while let Ok(answer) = connection.read_datagram().await {
            match answer.split_first_chunk::<8>() {
                Some((seq, &[by])) => log.answered(u64::from_be_bytes(*seq), by),
                _ => log.corrupt(),
            }
        }
        tell.send_replace(None);
    }
}

async fn connect(mirror: &Mirror) -> Result<(quinn::Endpoint, quinn::Connection)> {
    let key = KeyPair::generate(Role::Person)?;
    let server = KeyPair::from_seed(Role::Node, &[mirror.host; 32]).id();
    // The defaults of quinn but for the certificates.
    let config = quinn::ClientConfig::new(Arc::new(tls::client_config(&key, server, b"lab")?));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let connection = endpoint.connect_with(config, (mirror.ip, QUIC).into(), tls::SERVER_NAME)?.await?;
    Ok((endpoint, connection))
}

async fn send(connection: watch::Receiver<Option<quinn::Connection>>, log: Log) {
    let mut tick = super::rhythm();
    loop {
        tick.tick().await;
        let seq = log.next();
        if let Some(connection) = &*connection.borrow() {
            // What is not taken is lost, and shows as that.
            let _ = connection.send_datagram(seq.to_be_bytes().to_vec().into());
        }
    }
}

/// A curl for each request. It asks again what may be asked again, and what no connection came about for.
async fn curl(domain: String, at: At, log: Log) {
    let mut known: Option<(IpAddr, Instant)> = None;
    let mut tick = super::rhythm();
    loop {
        tick.tick().await;
        let (seq, what, told) = http::next(&log);
        let (method, path) = what.split_once(' ').unwrap_or_default();
        loop {
            let Some(ip) = resolve(&domain, &mut known).await else { continue };
            let mut command = Command::new("curl");
            command.args(["-sS", "--connect-timeout", "1", "--max-time", "2", "-X", method]);
            if http::is_safe(seq) {
                command.args(["--retry", "2", "--retry-connrefused", "--retry-delay", "1"]);
            }
            command.arg(format!("http://{ip}:{SERVICE}{path}")).kill_on_drop(true);
            let Ok(output) = command.output().await else { continue };
            let body = String::from_utf8_lossy(&output.stdout);
            match (output.status.code(), http::whose(&body, &told)) {
                (Some(0), Some(by)) => {
                    at.set(by);
                    break log.answered(seq, by);
                }
                (Some(0), None) => break log.corrupt(),
                // Refused, so that nothing was sent.
                (Some(7), _) => {}
                _ if http::is_safe(seq) => {}
                _ => break log.unsure(seq),
            }
        }
    }
}

/// The first address of the last answer that is still good.
async fn resolve(domain: &str, known: &mut Option<(IpAddr, Instant)>) -> Option<IpAddr> {
    if known.is_none_or(|(_, at)| at.elapsed() >= TTL) {
        let query = dns::query(domain, hickory_proto::rr::RecordType::A, None);
        let answer = dns::exchange(NAMES, &query).await?;
        let now = crate::clock::instant();
        *known = dns::addresses(&answer).first().map(|ip| (*ip, now)).or(*known);
    }
    known.map(|(ip, _)| ip)
}

/// HAProxy beside the user: the first mirror serves while its checks pass, then the second, and so on.
/// Checks go as fast as round trips allow, and two that fail are enough.
pub async fn haproxy(mirrors: &[Mirror]) -> Result<(Child, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let mut text = String::from(
        "global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 500ms\n  timeout client 5s\n  \
         timeout server 2s\n  retries 3\n  option redispatch 1\n  retry-on conn-failure empty-response \
         response-timeout\nlisten lab\n  bind 127.0.0.1:8888\n  option httpchk GET /\n  \
         http-request disable-l7-retry if METH_POST\n",
    );
    let farthest = mirrors.iter().map(|m| m.rtt_ms).max().unwrap_or(0);
    let _ = writeln!(text, "  timeout check {}ms", 2 * farthest + 50);
    for (number, mirror) in mirrors.iter().enumerate() {
        let every = (2 * mirror.rtt_ms).max(100);
        let backup = if number == 0 { "" } else { " backup" };
        let _ = writeln!(
            text,
            "  server m{} {}:{SERVICE} check inter {every}ms fastinter 50ms rise 2 fall 2 \
             on-marked-down shutdown-sessions{backup}",
            mirror.host, mirror.ip
        );
    }
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let haproxy = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn();
    Ok((haproxy.context("haproxy is not installed")?, dir))
}
