//! A user's process: sessions that use the service until they are told to stop.
//!
//! It is told on standard input, a word a line: `primaries`, `network-changed`, `stop`; and it answers each
//! with a line of JSON. Before that it says `"ready"`, when all sessions are attached.

mod http;
mod log;
mod ready;
mod tcp;
mod udp;

use anyhow::{Context, Result, bail};
use log::Log;
use nearmost_client::session::{Event, FailureDomain, Known, Mode as Carried, Session};
use nearmost_lab::seen::{Mode, Sessions, Told};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a user does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The domain.
    pub domain: String,
    /// Its mirrors.
    pub mirrors: Vec<Mirror>,
    /// How the service is used.
    pub modes: Vec<Mode>,
    /// By how many sessions, in each way.
    pub users: u32,
    /// Of all chance.
    pub seed: u64,
    /// Makes ids of requests unlike those of other trials.
    pub trial: String,
}

/// A mirror of the domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mirror {
    /// The number of its host.
    pub host: u8,
    /// Its node.
    pub id: String,
    /// Its address.
    pub ip: IpAddr,
    /// Of its ingress.
    pub port: u16,
    /// Round trip that is expected.
    pub rtt_ms: u32,
    /// What it fails together with.
    pub region: u32,
}

/// A session at work.
struct User {
    mode: Mode,
    session: Session,
    log: Log,
}

/// Uses the service until it is told to stop.
pub async fn run(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("what to do")?;
    for mirror in &task.mirrors {
        ready::until_ready(mirror).await?;
    }
    let mut users = Vec::new();
    for (number, mode) in (0..task.users).flat_map(|n| task.modes.iter().map(move |mode| (n, *mode))) {
        let seed = task.seed.wrapping_mul(1000).wrapping_add(u64::from(number) * 10 + mode as u64);
        let session = session(&task, mode, seed)?;
        let log = Log::default();
        tokio::spawn(follow(session.events(), log.clone(), hosts(&task)));
        users.push(User { mode, session, log });
    }
    for user in &users {
        let within = Duration::from_secs(20);
        match tokio::time::timeout(within, user.session.attached()).await {
            Ok(Some(_)) => {}
            _ => bail!("not attached within {within:?}: {:?}", user.session.problems()),
        }
    }
    for (number, user) in users.iter().enumerate() {
        let (session, log) = (user.session.clone(), user.log.clone());
        let name = format!("{}-{number}", task.trial);
        log.name(&name);
        match user.mode {
            Mode::Udp => tokio::spawn(udp::use_it(session, log)),
            Mode::Tcp => tokio::spawn(tcp::use_it(session, log)),
            Mode::Http => tokio::spawn(http::use_it(session, log, name)),
        };
    }
    println!("\"ready\"");
    obey(&task, &users).await
}

/// The one place where a user gets its session.
fn session(task: &Task, mode: Mode, seed: u64) -> Result<Session> {
    let carried = match mode {
        Mode::Udp => Carried::Datagram(Default::default()),
        Mode::Tcp | Mode::Http => Carried::Stream,
    };
    let mut builder = Session::builder(&task.domain).mode(carried).seed(seed);
    for mirror in &task.mirrors {
        let known = Known::new(&mirror.id, vec![mirror.ip]).context("a mirror's id")?;
        builder = builder.mirror(Known {
            name: Some(format!("m{}", mirror.host)),
            port: mirror.port,
            predicted: Duration::from_millis(mirror.rtt_ms.into()),
            domain: FailureDomain {
                region: mirror.region,
                site: mirror.host.into(),
                ..FailureDomain::default()
            },
            ..known
        });
    }
    Ok(builder.start()?)
}

fn hosts(task: &Task) -> HashMap<String, u8> {
    task.mirrors.iter().map(|m| (m.id.clone(), m.host)).collect()
}

async fn obey(task: &Task, users: &[User]) -> Result<()> {
    let hosts = hosts(task);
    let mut words = words();
    while let Some(line) = words.recv().await {
        match line.as_str() {
            "primaries" => {
                let primary = |user: &User| {
                    let id = user.session.primary().map(|id| id.to_string());
                    (user.mode, id.and_then(|id| hosts.get(&id).copied()).unwrap_or(0))
                };
                println!("{}", serde_json::to_string(&users.iter().map(primary).collect::<Vec<_>>())?);
            }
            "network-changed" => {
                for user in users {
                    user.session.network_changed().await;
                }
                println!("null");
            }
            "stop" => {
                println!("{}", serde_json::to_string(&seen(task, users))?);
                return Ok(());
            }
            other => bail!("what is {other:?}?"),
        }
    }
    Ok(())
}

/// Lines of standard input, until it ends.
fn words() -> mpsc::Receiver<String> {
    let (say, heard) = mpsc::channel(8);
    // A thread, since this one must not wait; it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if say.blocking_send(line).is_err() {
                break;
            }
        }
    });
    heard
}

fn seen(task: &Task, users: &[User]) -> Vec<Sessions> {
    let of = |mode: Mode| users.iter().filter(move |u| u.mode == mode).map(|u| u.log.take()).collect();
    task.modes.iter().map(|mode| Sessions { mode: *mode, sessions: of(*mode) }).collect()
}

async fn follow(mut events: nearmost_client::session::Events, log: Log, hosts: HashMap<String, u8>) {
    let host = |id: nearmost_wire::identity::Id| hosts.get(&id.to_string()).copied().unwrap_or(0);
    while let Some(event) = events.next().await {
        log.told(match event {
            Event::Attached { to } => Told::Attached(host(to)),
            Event::Moved { to, reason, .. } => Told::Moved(host(to), format!("{reason:?}").to_lowercase()),
            Event::Degraded { .. } => Told::Degraded,
            Event::Restored { .. } => Told::Restored,
            Event::Lost { .. } => Told::Lost,
        });
    }
}

/// Ticks in the rhythm of users, of which a machine that is busy leaves some out.
fn rhythm() -> tokio::time::Interval {
    let mut tick = tokio::time::interval(Duration::from_micros(nearmost_lab::gap::PERIOD_US));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    tick
}
