//! How long connections take to be established.

use super::{Round, Target};
use crate::clock::mono_now;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections to each mirror; the shortest time is what the path needs, the rest is chance.
const ATTEMPTS: usize = 3;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Measures all at once: what a few handshakes cost is too little to disturb each other.
pub(super) async fn measure(targets: Vec<Target>) -> Vec<Round> {
    let mut tasks = JoinSet::new();
    for (at, target) in targets.into_iter().enumerate() {
        tasks.spawn(async move { (at, round(target).await) });
    }
    let mut rounds = tasks.join_all().await;
    rounds.sort_by_key(|(at, _)| *at);
    rounds.into_iter().map(|(_, round)| round).collect()
}

async fn round(target: Target) -> Round {
    let Target { mirror, predicted_ms, addresses } = target;
    let mut rtt = Err("it has no address".into());
    for at in addresses {
        match least(at).await {
            Ok(least) => return Round { mirror, predicted_ms, at: Some(at), rtt: Ok(least) },
            Err(error) => rtt = Err(format!("{at}: {error}")),
        }
    }
    Round { mirror, predicted_ms, at: None, rtt }
}

/// The least of three; whoever does not answer the first is not asked again.
async fn least(at: SocketAddr) -> io::Result<Duration> {
    let mut least = once(at).await?;
    for _ in 1..ATTEMPTS {
        if let Ok(time) = once(at).await {
            least = least.min(time);
        }
    }
    Ok(least)
}

async fn once(at: SocketAddr) -> io::Result<Duration> {
    let begun = mono_now();
    let stream = tokio::time::timeout(WITHIN, TcpStream::connect(at)).await;
    let took = mono_now().saturating_duration_since(begun);
    match stream {
        Ok(stream) => stream.map(|_| took),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", WITHIN.as_secs())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn target(mirror: &str, addresses: Vec<SocketAddr>) -> Target {
        Target { mirror: mirror.into(), predicted_ms: 1.0, addresses }
    }

    #[tokio::test]
    async fn mirrors_are_measured_in_order_and_failures_are_named() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = here.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = gone.local_addr().unwrap();
        drop(gone);
        let targets = vec![
            target("second", vec![closed, open]),
            target("closed", vec![closed]),
            target("nowhere", Vec::new()),
            target("first", vec![open]),
        ];
        let rounds = measure(targets).await;
        let seen: Vec<_> = rounds.iter().map(|r| (r.mirror.as_str(), r.at, r.rtt.is_ok())).collect();
        assert_eq!(
            seen,
            [
                ("second", Some(open), true),
                ("closed", None, false),
                ("nowhere", None, false),
                ("first", Some(open), true)
            ]
        );
        assert!(rounds[1].rtt.as_ref().unwrap_err().contains(&closed.to_string()), "{rounds:?}");
        for rtt in rounds.iter().filter_map(|r| r.rtt.as_ref().ok()) {
            assert!(*rtt < WITHIN, "{rtt:?}");
        }
    }
}
