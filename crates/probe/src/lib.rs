//! Carries out checks of services: tcp, tls, http(s) by HTTP/1.1 and HTTP/2, send and expect, udp, dns,
//! quic, command.
//!
//! The broker uses it to probe mirrors from outside, the node agent to check its own services. What
//! a check *is* lives in [`nearmost_core::check`]; here is only how it is done:
//!
//! * [`run`] carries out one check and always returns within its timeout (a check that has to wait
//!   for a free command slot waits outside of it). Each step is bounded by the one deadline, so a
//!   reason says which step ran out of time.
//! * [`RiseFall`] turns a row of results into good or bad; it knows no clock and no socket.
//! * [`CheckRunner`] runs any number of named checks, each in a task of its own: a slow check delays
//!   no other and never overlaps itself.
//!
//! A reason for a failure names what was expected and what was found, in at most
//! [`MAX_REASON_CHARS`] characters with everything unprintable escaped: parts of it come from the
//! network and end up in logs and on terminals.

mod clock;
mod command;
mod deadline;
mod dns;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod h2_check;
mod http_check;
mod prober;
mod pulse;
mod quic;
mod reason;
mod rise_fall;
mod scheduler;
mod spread;
mod talk;
mod tls;
mod tls_check;
mod udp;

pub use prober::{Prober, ProberError, ProberOptions};
pub use pulse::Stuck;
pub use reason::{MAX_REASON_CHARS, harmless};
pub use rise_fall::RiseFall;
pub use scheduler::{CheckRunner, CheckStatus, NamedCheck};

use deadline::Deadline;
use failure::Failure;
use nearmost_core::check::{CheckKind, CheckOutcome};
use prober::Slot;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Carries out one check of the service at `target`.
///
/// Never takes longer than `timeout`, except for commands, which first wait for a slot
/// ([`ProberOptions::max_commands`]); dropping the future ends the check and everything it started.
/// `target` is not used by commands.
pub async fn run(prober: &Prober, target: SocketAddr, kind: &CheckKind, timeout: Duration) -> CheckOutcome {
    match prober.slot(kind).await {
        Ok(slot) => run_in(&slot, prober, target, kind, timeout).await,
        Err(refused) => Failure::silence(refused).outcome(),
    }
}

/// Carries out one check that has its slot.
async fn run_in(
    _slot: &Slot<'_>,
    prober: &Prober,
    target: SocketAddr,
    kind: &CheckKind,
    timeout: Duration,
) -> CheckOutcome {
    #[cfg(test)]
    if let Some(hangs) = &prober.hangs {
        let _ = hangs.acquire().await;
    }
    let started = clock::now();
    let deadline = Deadline::new(started, timeout);
    // What is large stands on the heap, and only while it lasts: each of thousands of checks has a task as
    // large as the largest kind would be.
    let verdict = match kind {
        CheckKind::Tcp => connect(&deadline, target).await.map(drop),
        CheckKind::Tls(check) => Box::pin(tls_check::run(prober, &deadline, target, check)).await.map(drop),
        CheckKind::Http(check) => Box::pin(http_check::run(prober, &deadline, target, check)).await,
        CheckKind::Talk(check) => Box::pin(talk::run(prober, &deadline, target, check)).await,
        CheckKind::Udp { send, expect } => udp::run(&deadline, target, send, expect).await,
        CheckKind::Dns(check) => Box::pin(dns::run(&deadline, target, check)).await,
        CheckKind::Quic(check) => Box::pin(quic::run(prober, &deadline, target, check)).await,
        CheckKind::Command { argv, max_output } => Box::pin(command::run(&deadline, argv, *max_output)).await,
    };
    match verdict {
        Ok(()) => CheckOutcome::Pass { took: clock::now() - started },
        Err(failure) => failure.outcome(),
    }
}

/// Opens a TCP connection.
async fn connect(deadline: &Deadline, target: SocketAddr) -> Result<TcpStream, Failure> {
    let connecting = TcpStream::connect(target);
    let step = format!("expected a TCP connection to {target}");
    deadline.bound(&step, connecting).await?.map_err(|e| Failure::io(&step, &e))
}

/// To bind to before sending to `target`.
fn any_address(target: SocketAddr) -> SocketAddr {
    match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_check_takes_little_memory() {
        let prober = Prober::new(ProberOptions::default()).expect("a prober");
        let future = run(&prober, any_address(([127, 0, 0, 1], 1).into()), &CheckKind::Tcp, Duration::MAX);
        let size = size_of_val(&future);
        assert!(size <= 2048, "{size} bytes");
    }
}
