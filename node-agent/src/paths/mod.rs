//! Round trips to the services' users, as the kernel knows them.
//!
//! | file | does |
//! |---|---|
//! | [`message`] | the bytes of `INET_DIAG` |
//! | [`diag`] | the netlink socket |
//! | [`aggregate`] | connections → what is told of each service's client networks |
//!
//! Every established TCP connection on a service's port has a round trip that the kernel keeps anyway
//! (`TCP_INFO`), so the service needs no change. A reading is made each `paths.interval_ms` on a
//! blocking thread and put where all sessions see it; a session that is slow misses readings and
//! makes no queue. To these come the clients of the ingress, whose round trips QUIC knows.

pub mod aggregate;
pub mod diag;
pub mod message;

pub use aggregate::{Reading, Telling, Watched};

use crate::ingress::paths::SessionPaths;
use crate::metrics::PathMetrics;
use aggregate::Aggregate;
use diag::{Diag, DiagError};
use nearmost_config::PathsConfig;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Reads the connections of the services again and again, for as long as anybody listens.
pub async fn follow(
    settings: PathsConfig,
    services: watch::Receiver<Vec<Watched>>,
    readings: watch::Sender<Arc<Reading>>,
    sessions: SessionPaths,
    metrics: PathMetrics,
) {
    let read = move |services: &[Watched], settings: &PathsConfig| read(services, settings, &sessions);
    follow_by(read, settings, services, readings, metrics).await;
}

async fn follow_by(
    read: impl Fn(&[Watched], &PathsConfig) -> Result<Reading, DiagError> + Clone + Send + 'static,
    settings: PathsConfig,
    services: watch::Receiver<Vec<Watched>>,
    readings: watch::Sender<Arc<Reading>>,
    metrics: PathMetrics,
) {
    let mut tick = tokio::time::interval(settings.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = false;
    while !readings.is_closed() {
        tick.tick().await;
        let watched = services.borrow().clone();
        let (settings, read) = (settings.clone(), read.clone());
        match tokio::task::spawn_blocking(move || read(&watched, &settings)).await {
            Ok(Ok(reading)) => {
                refused = false;
                metrics.read(&reading);
                readings.send_replace(Arc::new(reading));
            }
            Ok(Err(e)) => {
                metrics.not_read();
                // A sandbox refuses for good: once is enough.
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(error = %e, "round trips of connections cannot be read; brokers learn nothing from them");
                }
            }
            Err(e) => tracing::error!(error = %e, "the reading of connections failed"),
        }
    }
}

/// What is established now on the ports of the services, and at the ingress. Blocks.
///
/// # Errors
/// Why connections cannot be read.
pub fn read(
    services: &[Watched],
    settings: &PathsConfig,
    sessions: &SessionPaths,
) -> Result<Reading, DiagError> {
    let mut aggregate = Aggregate::new(services, settings.networks);
    let mut ports: Vec<u16> = services.iter().map(|s| s.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut diag = Diag::open()?;
    for port in ports {
        diag.established(port, |c| aggregate.add(&c))?;
    }
    sessions.each(|service, peer, rtt_us| aggregate.add_session(service, peer, rtt_us));
    Ok(aggregate.finish(settings.max_networks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_system_that_refuses_is_counted_and_asked_again() {
        fn at_times(services: &[Watched], _: &PathsConfig) -> Result<Reading, DiagError> {
            match services.first() {
                Some(_) => Ok(Reading { connections: 7, ..Reading::default() }),
                None => Err(DiagError::Socket(std::io::ErrorKind::PermissionDenied.into())),
            }
        }
        let metrics = Metrics::new().expect("metrics");
        let page = || String::from_utf8(metrics.render().expect("a page")).expect("text");
        let settings =
            PathsConfig { interval: std::time::Duration::from_millis(1), ..PathsConfig::default() };
        let (services, watched) = watch::channel(Vec::new());
        let (read, mut readings) = watch::channel(Arc::default());
        tokio::spawn(follow_by(at_times, settings, watched, read, metrics.paths.clone()));
        let refusals = || {
            let page = page();
            let series = "nearmost_agent_path_readings_total{result=\"refused\"} ";
            page.lines().find_map(|l| l.strip_prefix(series)?.parse::<u64>().ok()).unwrap_or(0)
        };
        while refusals() < 3 {
            assert!(!readings.has_changed().expect("it goes on"));
            tokio::task::yield_now().await;
        }
        let (domain, mirror) = ("play.example".into(), "lon".into());
        services.send_replace(vec![Watched { domain, mirror, port: 1, addresses: Vec::new() }]);
        readings.changed().await.expect("it goes on");
        assert_eq!(readings.borrow().connections, 7);
        assert!(page().contains("nearmost_agent_path_connections 7"));
    }

    #[test]
    fn connections_that_are_held_are_read_with_plausible_round_trips() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut held = Vec::new();
        for _ in 0..5 {
            let mut client = TcpStream::connect(address).expect("connected");
            let (mut server, _) = listener.accept().expect("accepted");
            client.write_all(b"hello").expect("written");
            server.read_exact(&mut [0; 5]).expect("read");
            held.push((client, server));
        }
        let settings = PathsConfig::default();
        let mut service = Watched {
            domain: "play.example".into(),
            mirror: "lon".into(),
            port: address.port(),
            addresses: vec![address.ip()],
        };
        let none = SessionPaths::default();
        let reading = read(std::slice::from_ref(&service), &settings, &none).expect("read");
        let [paths] = &reading.services[..] else { panic!("{reading:?}") };
        let [sample] = paths.samples[..] else { panic!("{reading:?}") };
        assert_eq!((sample.network.to_string().as_str(), sample.connections), ("127.0.0.0/24", 5));
        assert!((1..100_000).contains(&sample.rtt_us), "{sample:?}");
        assert_eq!(reading.connections, 5);
        // A service that is not declared on loopback has no users there.
        service.addresses.clear();
        assert_eq!(read(&[service], &settings, &none).expect("read"), Reading::default());
    }
}
