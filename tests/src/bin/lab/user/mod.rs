//! A user's process: sessions that use the service until they are told to stop.
//!
//! It is told on standard input, a word a line: `primaries`, `network-changed`, `stop`; and it answers each
//! with a line of JSON. Before that it says `"ready"`, when all sessions are attached.

mod http;
mod log;
mod ready;
mod rival;
mod tcp;
mod udp;

use anyhow::{Context, Result, bail};
use log::Log;
use nearmost_client::session::{Duplicate, Event, FailureDomain, Known, Mode as Carried, Session};
use nearmost_lab::scenario::Doubled;
use nearmost_lab::seen::{Mode, Sessions, Told, Way};
use rival::At;
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
    /// By what.
    pub way: Way,
    /// The broker to ask, as `ID@IP:PORT`; without one, the mirrors are given.
    pub broker: Option<String>,
    /// Its mirrors, the nearest first.
    pub mirrors: Vec<Mirror>,
    /// How the service is used.
    pub modes: Vec<Mode>,
    /// By how many sessions, in each way.
    pub users: u32,
    /// When packets go over the standby as well.
    pub doubled: Doubled,
    /// Bytes of a packet …
    pub packet: usize,
    /// … and of a block.
    pub block: usize,
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
    by: By,
    log: Log,
}

/// What carries it.
enum By {
    /// A session of the SDK.
    Session(Session),
    /// Something else, which notes the host of the mirror that it is at; 0 while it is at none.
    Rival(At),
}

/// Uses the service until it is told to stop.
pub async fn run(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("what to do")?;
    for mirror in &task.mirrors {
        ready::until_ready(mirror).await?;
    }
    let _proxy = match task.way {
        Way::Haproxy => Some(rival::haproxy(&task.mirrors).await?),
        _ => None,
    };
    let mut users = Vec::new();
    for (number, mode) in (0..task.users).flat_map(|n| task.modes.iter().map(move |mode| (n, *mode))) {
        let log = Log::default();
        log.name(&format!("{}-{}", task.trial, users.len()));
        let by = match task.way {
            Way::Nearmost => {
                let seed = task.seed.wrapping_mul(1000).wrapping_add(u64::from(number) * 10 + mode as u64);
                let session = session(&task, mode, seed)?;
                tokio::spawn(follow(session.events(), log.clone(), hosts(&task)));
                By::Session(session)
            }
            way => By::Rival(rival::start(way, &task, log.clone())),
        };
        users.push(User { mode, by, log });
    }
    for user in &users {
        user.attached().await?;
    }
    users.iter().for_each(|user| user.begin(&task));
    println!("\"ready\"");
    obey(&task, &users).await
}

impl User {
    async fn attached(&self) -> Result<()> {
        let within = Duration::from_secs(20);
        match &self.by {
            By::Session(session) => match tokio::time::timeout(within, session.attached()).await {
                Ok(Some(_)) => Ok(()),
                _ => bail!("not attached within {within:?}: {:?}", session.problems()),
            },
            By::Rival(at) => {
                let mut tick = rhythm();
                let answered = async {
                    while at.get() == 0 {
                        tick.tick().await;
                    }
                };
                tokio::time::timeout(within, answered).await.context("nobody answers")
            }
        }
    }

    /// Sessions are used from now on; what else there is uses the service from its start.
    fn begin(&self, task: &Task) {
        let By::Session(session) = &self.by else { return };
        let (session, log) = (session.clone(), self.log.clone());
        match self.mode {
            Mode::Udp => drop(tokio::spawn(udp::use_it(session, log, task.packet))),
            Mode::Tcp => drop(tokio::spawn(tcp::use_it(session, log, task.block))),
            Mode::Http => {
                let open = move || {
                    let session = session.clone();
                    async move { session.open_stream().await }
                };
                drop(tokio::spawn(http::use_it(open, log)));
            }
        }
    }
}

/// The one place where a user gets its session.
fn session(task: &Task, mode: Mode, seed: u64) -> Result<Session> {
    let carried = match mode {
        Mode::Udp => Carried::Datagram(match task.doubled {
            Doubled::Degraded => Duplicate::WhileDegraded,
            Doubled::Always => Duplicate::Always,
        }),
        Mode::Tcp | Mode::Http => Carried::Stream,
    };
    let mut builder = Session::builder(&task.domain).mode(carried).seed(seed);
    if let Some(broker) = &task.broker {
        return Ok(builder.broker(broker.parse()?).start()?);
    }
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
                    let at = match &user.by {
                        By::Session(session) => {
                            let id = session.primary().map(|id| id.to_string());
                            id.and_then(|id| hosts.get(&id).copied()).unwrap_or(0)
                        }
                        By::Rival(at) => at.get(),
                    };
                    (user.mode, at)
                };
                println!("{}", serde_json::to_string(&users.iter().map(primary).collect::<Vec<_>>())?);
            }
            "network-changed" => {
                for user in users {
                    if let By::Session(session) = &user.by {
                        session.network_changed().await;
                    }
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
