//! One run of a scenario's script in a standing world.

use crate::clock::now;
use crate::urgent;
use crate::user::{Mirror, Task};
use crate::world::{CLIENT, World};
use anyhow::{Context, Result, bail, ensure};
use nearmost_lab::dice::Dice;
use nearmost_lab::gap::{Felt, Window, felt};
use nearmost_lab::order::{Change, Order, Report};
use nearmost_lab::report::Counts;
use nearmost_lab::scenario::{Act, Direction, Lists, Process, Scenario, Step};
use nearmost_lab::seen::{Mode, Sessions};
use nearmost_tests::netns::{BROKER, DOMAIN, Signal};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// What a user is given to get attached.
const ATTACHED: Duration = Duration::from_secs(60);
/// What a user is given to answer.
const ANSWERED: Duration = Duration::from_secs(20);
/// Steps begin at a moment of chance within this, so that no beat of anybody is always hit alike.
const PHASE: Duration = Duration::from_millis(250);

/// Which run it is.
pub struct Which<'a> {
    /// Of this scenario.
    pub scenario: &'a Scenario,
    /// Round trip to the primary.
    pub r_ms: u32,
    /// Round trip to the standby.
    pub s_ms: u32,
    /// Number of the run.
    pub number: u32,
}

/// What came of it.
pub struct Outcome {
    /// What each session felt.
    pub felt: BTreeMap<Mode, Vec<Felt>>,
    /// What no session knows.
    pub counts: BTreeMap<Mode, Counts>,
    /// How the router did.
    pub router: Report,
    /// All that sessions saw.
    pub seen: Vec<Sessions>,
    /// When what was looked at.
    pub window: Window,
    /// What was done when.
    pub marks: Vec<(u64, String)>,
}

/// A user's process.
struct User {
    _child: Child,
    words: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// Hosts by the words that steps use.
struct Cast {
    primary: u8,
    standby: u8,
}

/// Runs the script once, and mends what it broke.
pub async fn run(world: &mut World, which: &Which<'_>) -> Result<Outcome> {
    let mirrors = world.place(which.scenario, which.r_ms, which.s_ms).await?;
    world.report().await?;
    let outcome = watched(world, which, mirrors).await;
    world.mend().await?;
    outcome
}

async fn watched(world: &mut World, which: &Which<'_>, mirrors: Vec<Mirror>) -> Result<Outcome> {
    let scenario = which.scenario;
    let name = format!("{}-{}-{}-{}", scenario.name, which.r_ms, which.s_ms, which.number);
    let mut dice =
        Dice::new(scenario.seed ^ u64::from(which.number) << 32 ^ u64::from(which.r_ms << 16 | which.s_ms));
    let task = Task {
        domain: DOMAIN.into(),
        way: scenario.traffic.way,
        broker: (scenario.ways.lists == Lists::Broker).then(|| world.broker()),
        mirrors: mirrors.clone(),
        modes: scenario.traffic.modes.clone(),
        users: scenario.traffic.users,
        doubled: scenario.traffic.doubled,
        packet: scenario.traffic.packet_bytes,
        block: scenario.traffic.block_bytes,
        seed: dice.draw(),
        trial: name.clone(),
    };
    let mut user = User::start(world, &task).await?;
    let ready: String = user.answer(ATTACHED).await.context("the user does not get attached")?;
    ensure!(ready == "ready", "the user says {ready:?}");
    let settled = now() + Duration::from_millis(scenario.pace.settle_ms) / 2;
    tokio::time::sleep(Duration::from_millis(scenario.pace.settle_ms) + dice.up_to(PHASE)).await;
    let primaries: Vec<(Mode, u8)> = user.ask("primaries").await?;
    let cast = cast(&primaries, &mirrors)?;
    let begun = now();
    let marks = script(world, &mut user, scenario, &cast, begun).await?;
    let until = begun + Duration::from_millis(scenario.pace.watch_ms);
    tokio::time::sleep(until.saturating_sub(now())).await;
    let seen: Vec<Sessions> = user.ask("stop").await?;
    // Half a second, or three of the longest round trips, for the last answers.
    let longest = mirrors.iter().map(|m| m.rtt_ms).max().unwrap_or(0);
    let window = Window {
        settled: micros(settled),
        fault: micros(begun),
        end: micros(until),
        grace: u64::from(longest * 3).max(500) * 1000,
    };
    let router = world.report().await?;
    let (felt, mut counts) = judge(&seen, &primaries, cast.primary, window);
    if let Some(requests) = seen.iter().find(|s| s.mode == Mode::Http) {
        ledger(requests, &world.ledgers(&format!("{name}-"))?, counts.entry(Mode::Http).or_default());
    }
    Ok(Outcome { felt, counts, router, seen, window, marks })
}

/// Most sessions' primary, and its standby: the nearest of those farthest apart from it.
fn cast(primaries: &[(Mode, u8)], mirrors: &[Mirror]) -> Result<Cast> {
    let votes = |host: u8| primaries.iter().filter(|(_, h)| *h == host).count();
    let primary = mirrors.iter().max_by_key(|m| (votes(m.host), u8::MAX - m.host)).context("no mirrors")?;
    let others = mirrors.iter().filter(|m| m.host != primary.host);
    let standby = others.min_by_key(|m| (m.region == primary.region, m.rtt_ms)).unwrap_or(primary);
    ensure!(votes(primary.host) > 0, "no session has a primary");
    Ok(Cast { primary: primary.host, standby: standby.host })
}

/// Does the steps at their times; when each was done.
async fn script(
    world: &mut World,
    user: &mut User,
    scenario: &Scenario,
    cast: &Cast,
    begun: Duration,
) -> Result<Vec<(u64, String)>> {
    let mut steps: Vec<&Step> = scenario.steps.iter().collect();
    steps.sort_by_key(|s| s.at_ms);
    let mut marks = Vec::new();
    for step in steps {
        let at = begun + Duration::from_millis(step.at_ms);
        tokio::time::sleep(at.saturating_sub(now())).await;
        let host = cast.host(&step.on)?;
        marks.push((micros(now()), format!("{} {}", word(step.act), step.on)));
        act(world, step, host, cast).await?;
        if step.told {
            user.ask::<()>("network-changed").await?;
        }
    }
    Ok(marks)
}

async fn act(world: &mut World, step: &Step, host: u8, cast: &Cast) -> Result<()> {
    let (agent, service) = (step.process != Process::Service, step.process != Process::Agent);
    let with = step.with.as_ref().map(|with| cast.host(with)).transpose()?;
    let change = match step.act {
        Act::Drain => {
            world.drain(host);
            return Ok(());
        }
        Act::Kill | Act::Stop | Act::Continue => {
            let what = match step.act {
                Act::Kill => Signal::Kill,
                Act::Stop => Signal::Stop,
                _ => Signal::Continue,
            };
            world.signal(host, agent, service, what);
            return Ok(());
        }
        Act::Heal => return world.order(Order::Reset).await.map(drop),
        Act::Rebind => return world.order(Order::Rebind { host }).await.map(drop),
        Act::ChangeNetwork => {
            world.change_network().await;
            return Ok(());
        }
        Act::Blackhole => Change { blackhole: Some(true), ..Change::default() },
        Act::Shape => step.change.unwrap_or_default(),
    };
    for (direction, out) in [(Direction::From, true), (Direction::To, false)] {
        if [direction, Direction::Both].contains(&step.direction) {
            world.shape(host, with, out, change).await?;
        }
    }
    Ok(())
}

impl Cast {
    fn host(&self, word: &str) -> Result<u8> {
        Ok(match word {
            "primary" => self.primary,
            "standby" => self.standby,
            "broker" => BROKER,
            "client" => CLIENT,
            mirror => mirror.trim_start_matches('m').parse().context("a mirror")?,
        })
    }
}

fn word(act: Act) -> &'static str {
    match act {
        Act::Drain => "drain",
        Act::Kill => "kill",
        Act::Stop => "stop",
        Act::Continue => "continue",
        Act::Blackhole => "blackhole",
        Act::Shape => "shape",
        Act::Heal => "heal",
        Act::Rebind => "rebind",
        Act::ChangeNetwork => "change-network",
    }
}

type Judged = (BTreeMap<Mode, Vec<Felt>>, BTreeMap<Mode, Counts>);

/// What sessions felt, of those that were where the script expects them.
fn judge(seen: &[Sessions], primaries: &[(Mode, u8)], primary: u8, window: Window) -> Judged {
    let (mut all, mut counts) = Judged::default();
    for sessions in seen {
        let own = primaries.iter().filter(|(mode, _)| *mode == sessions.mode);
        for ((_, at), session) in own.zip(&sessions.sessions) {
            if *at == primary {
                all.entry(sessions.mode).or_insert_with(Vec::new).push(felt(sessions.mode, session, window));
            } else {
                counts.entry(sessions.mode).or_insert_with(Counts::default).elsewhere += 1;
            }
        }
    }
    (all, counts)
}

/// Holds what was answered against what services carried out.
fn ledger(requests: &Sessions, ledger: &BTreeMap<String, u64>, counts: &mut Counts) {
    counts.twice_in_ledger += ledger.values().filter(|times| **times > 1).count() as u64;
    for session in &requests.sessions {
        let posts = session.answers.iter().filter(|a| a.seq % 2 == 1);
        let missing = posts.filter(|a| !ledger.contains_key(&format!("{}-{}", session.name, a.seq)));
        counts.not_in_ledger += missing.count() as u64;
    }
}

impl User {
    async fn start(world: &World, task: &Task) -> Result<User> {
        let mut line = world.lab.network.command_line(CLIENT);
        line.push(std::env::current_exe()?.display().to_string());
        line.extend(["user".into(), serde_json::to_string(task)?]);
        let mut command = urgent::command(&line);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = spawned.context("start the user")?;
        let words = child.stdin.take().context("piped")?;
        let answers = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(User { _child: child, words, answers })
    }

    async fn ask<T: serde::de::DeserializeOwned>(&mut self, word: &str) -> Result<T> {
        self.words.write_all(format!("{word}\n").as_bytes()).await.context("the user is gone")?;
        self.answer(ANSWERED).await.with_context(|| format!("the user was asked {word:?}"))
    }

    async fn answer<T: serde::de::DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        match tokio::time::timeout(within, self.answers.next_line()).await {
            Ok(line) => Ok(serde_json::from_str(&line?.context("the user is gone")?)?),
            Err(_) => bail!("the user does not answer within {within:?}"),
        }
    }
}

fn micros(at: Duration) -> u64 {
    at.as_micros() as u64
}
