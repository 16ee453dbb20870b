//! Load: dnsperf over loopback, which sends what it is given and waits for replies, and kxdpgun through
//! a link to another namespace, which sends at a rate and past the kernel's sockets.

use super::lab::Client;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How many sockets dnsperf asks from, each a client with a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// Eight: a server that joins replies to one client (UDP_SEGMENT) can send dozens at once.
    Few,
    /// As many as dnsperf opens for a thread, and more than it has queries under way: there is nothing to
    /// join, as with resolvers, each of which asks now and then.
    Many,
}

impl Sockets {
    /// As dnsperf takes it.
    fn count(self) -> &'static str {
        match self {
            Sockets::Few => "8",
            Sockets::Many => "256",
        }
    }
}

/// Queries that it has under way at most.
const OUTSTANDING: &str = "200";
/// Packets that kxdpgun writes at once. More come as bursts that no socket's buffer holds.
const BATCH: &str = "16";

/// kxdpgun cannot always attach itself: the kernel takes away what its last run attached a little later.
const ATTEMPTS: usize = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(300);

/// What a generator saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Queries sent.
    pub sent: u64,
    /// Replies that came.
    pub answered: u64,
    /// Replies without an error (NOERROR).
    pub good: u64,
    /// Replies a second.
    pub rate: f64,
}

impl Seen {
    /// Queries without a reply.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Replies that are errors.
    pub fn refused(&self) -> u64 {
        self.answered.saturating_sub(self.good)
    }
}

/// Asks a server for so long as fast as it answers.
///
/// # Errors
/// When dnsperf does not run or says something else than it used to.
pub async fn dnsperf(at: SocketAddrV4, queries: &Path, seconds: f64, sockets: Sockets) -> Result<Seen> {
    let mut command = Command::new("dnsperf");
    command.args(["-s", &at.ip().to_string(), "-p", &at.port().to_string(), "-B", "-d"]).arg(queries);
    command.args(["-c", sockets.count(), "-T", "1", "-q", OUTSTANDING, "-l", &seconds.to_string()]);
    let said = output(&mut command).await?;
    of_dnsperf(&said).with_context(|| format!("dnsperf said: {said}"))
}

/// Asks a server for so long at a rate, from changing addresses.
///
/// # Errors
/// When kxdpgun does not run or says something else than it used to.
pub async fn kxdpgun(
    client: &Client,
    at: SocketAddrV4,
    queries: &Path,
    seconds: u32,
    rate: u32,
) -> Result<Seen> {
    let mut command = client.command("kxdpgun");
    command.args(["-t", &seconds.to_string(), "-Q", &rate.to_string(), "-b", BATCH]);
    command.args(["-l", super::lab::SOURCES, "-p", &at.port().to_string(), "-i"]).arg(queries);
    command.arg(at.ip().to_string());
    let mut failed = None;
    for attempt in 1..=ATTEMPTS {
        let said = output(&mut command).await?;
        match of_kxdpgun(&said, seconds).with_context(|| format!("kxdpgun said: {said}")) {
            Ok(seen) => return Ok(seen),
            Err(e) => failed = Some(e.context(format!("attempt {attempt}"))),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(failed.context("kxdpgun")?)
}

/// Runs a program to its end; what it printed, complaints last.
async fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let done = command.output().await.with_context(|| format!("cannot start {program}"))?;
    let mut said = String::from_utf8_lossy(&done.stdout).into_owned();
    said += &String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        bail!("{program}: {}: {said}", done.status);
    }
    Ok(said)
}

fn of_dnsperf(said: &str) -> Result<Seen> {
    let answered = number(said, "Queries completed:")?;
    let seen = Seen {
        sent: number(said, "Queries sent:")?,
        answered,
        good: code(said, "NOERROR"),
        rate: real(said, "Queries per second:")?,
    };
    ensure!(answered > 0, "nothing was answered");
    Ok(seen)
}

/// The count of a code in a line like `Response codes: NOERROR 990 (99.00%), SERVFAIL 10 (1.00%)`.
fn code(said: &str, code: &str) -> u64 {
    let line = said.lines().find_map(|l| l.trim().strip_prefix("Response codes:"));
    let mut words = line.unwrap_or_default().split_whitespace();
    words.find(|w| *w == code);
    words.next().and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn of_kxdpgun(said: &str, seconds: u32) -> Result<Seen> {
    let answered = number(said, "total replies:")?;
    Ok(Seen {
        sent: number(said, "total queries:")?,
        answered,
        good: number(said, "responded NOERROR:").unwrap_or_default(),
        rate: answered as f64 / f64::from(seconds),
    })
}

fn real(said: &str, label: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(label));
    let word = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {label}"))?;
    word.parse().with_context(|| format!("{label} {word}"))
}

fn number(said: &str, label: &str) -> Result<u64> {
    Ok(real(said, label)? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNSPERF: &str = "Statistics:

  Queries sent:         100000
  Queries completed:    99990 (99.99%)
  Queries lost:         10 (0.01%)

  Response codes:       NOERROR 99900 (99.91%), SERVFAIL 90 (0.09%)
  Average packet size:  request 56, response 72
  Run time (s):         1.021500
  Queries per second:   97885.462555

  Average Latency (s):  0.001821 (min 0.000100, max 0.012000)
";
    const KXDPGUN: &str = "using interface cli0, XDP threads 1, UDP, native mode
thread#00: sent 109142, received 108317
total queries:     109142 (36380 pps)
total replies:     108317 (36105 pps) (99%)
average DNS reply size: 45 B
average Ethernet reply rate: 25129544 bps (25.13 Mbps)
responded NOERROR:   108300
responded SERVFAIL:   17
duration: 3 s
";

    #[test]
    fn what_dnsperf_says_is_understood() {
        let seen = of_dnsperf(DNSPERF).unwrap();
        assert_eq!((seen.sent, seen.answered, seen.good), (100_000, 99_990, 99_900));
        assert_eq!((seen.lost(), seen.refused()), (10, 90));
        assert!((seen.rate - 97885.46).abs() < 0.01);
        let nothing = DNSPERF.replace("99990 (", "0 (");
        assert!(of_dnsperf(&nothing).unwrap_err().to_string().contains("nothing"));
        assert!(of_dnsperf("usage").is_err());
    }

    #[test]
    fn what_kxdpgun_says_is_understood() {
        let seen = of_kxdpgun(KXDPGUN, 3).unwrap();
        assert_eq!((seen.sent, seen.answered, seen.good), (109_142, 108_317, 108_300));
        assert_eq!((seen.lost(), seen.refused()), (825, 17));
        assert!(of_kxdpgun("cannot attach", 3).is_err());
    }
}
