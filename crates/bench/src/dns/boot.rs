//! How soon a server answers after it is started, and what memory it has then.

use super::checks::{self, Rule};
use super::city::City;
use super::peers::Peer;
use super::queries::{Files, Kind};
use super::{lab, load, ours};
use crate::broker::Broker;
use crate::proc;
use anyhow::{Context, Result};
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, Instant};

/// Nobody takes longer, with any database.
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds of load before memory is read: what a server allocates with its first queries is in it.
const WARM: f64 = 2.0;
/// Where the broker of these measurements answers.
const AT: SocketAddrV4 = SocketAddrV4::new(lab::SERVER, 5490);

#[expect(clippy::disallowed_methods, reason = "measures time, decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// Seconds from the start of a program to the first answer, of the broker and of gdnsd: one pair a
/// round, in turn.
pub struct Starts {
    /// The broker's. Until it has read the city database, it answers by countries.
    pub ours: Vec<f64>,
    /// Until it answers by the city database.
    pub city: Vec<f64>,
    /// Of gdnsd.
    pub gdnsd: Vec<f64>,
}

/// Starts both so many times with a database; the broker with its registry on disk.
///
/// # Errors
/// When one does not answer in time.
pub async fn starts(city: &City, dir: &Path, rounds: usize) -> Result<Starts> {
    let (own, other) = (dir.join("start"), dir.join("start-gdnsd"));
    ours::with_sites(AT, &city.path, &own).await?.stop().await?;
    let plain = Kind::default();
    let rule = Rule::near(checks::sites());
    let mut starts = Starts { ours: Vec::new(), city: Vec::new(), gdnsd: Vec::new() };
    for _ in 0..rounds {
        let begun = now();
        let settings = ours::settings(AT, &city.path);
        let answered = async {
            ours::first_answer(AT, &plain).await?;
            let first = begun.elapsed();
            checks::settled(AT, city, &plain, &rule, PATIENCE).await?;
            anyhow::Ok((first, begun.elapsed()))
        };
        let both = async { tokio::try_join!(Broker::start(&own, &settings), answered) };
        let (mut broker, (first, by_city)) =
            tokio::time::timeout(PATIENCE, both).await.context("the broker")??;
        starts.ours.push(first.as_secs_f64());
        starts.city.push(by_city.as_secs_f64());
        broker.stop().await?;

        let begun = now();
        let mut gdnsd = Peer::Gdnsd.start(&city.path, &other)?;
        let answered = ours::first_answer(gdnsd.at, &plain);
        tokio::time::timeout(PATIENCE, answered).await.with_context(|| Peer::Gdnsd.log(&other))??;
        starts.gdnsd.push(begun.elapsed().as_secs_f64());
        gdnsd.child.kill().await?;
    }
    Ok(starts)
}

/// Resident memory in bytes after some load, and the most so far, which is what reading the database took.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most.
    pub peak: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Memory> {
        Ok(Memory { resident: proc::resident(pid)?, peak: proc::peak(pid)? })
    }
}

/// Memory of the broker and of gdnsd with a database, one after the other.
///
/// # Errors
/// When one does not answer in time.
pub async fn memory(city: &City, dir: &Path, queries: &Files) -> Result<(Memory, Memory)> {
    let plain = Kind::default();
    let mut broker = ours::with_sites(AT, &city.path, &dir.join("memory")).await?;
    checks::settled(AT, city, &plain, &Rule::near(checks::sites()), PATIENCE).await?;
    load::dnsperf(AT, &queries.binary, WARM, load::Sockets::Few).await?;
    let own = Memory::of(broker.pid()?)?;
    broker.stop().await?;

    let other = dir.join("memory-gdnsd");
    let mut gdnsd = Peer::Gdnsd.start(&city.path, &other)?;
    let answered = ours::first_answer(gdnsd.at, &plain);
    tokio::time::timeout(PATIENCE, answered).await.with_context(|| Peer::Gdnsd.log(&other))??;
    load::dnsperf(gdnsd.at, &queries.binary, WARM, load::Sockets::Few).await?;
    let theirs = Memory::of(gdnsd.pid()?)?;
    gdnsd.child.kill().await?;
    Ok((own, theirs))
}
