//! A user whose stream never stops: it plays over a session, and tells when it is moved.
//!
//! It sends a small packet each [`EVERY`] and has it echoed by the game beside its mirror, as a player
//! would; what it prints is what a player would feel.

use crate::cast::{DOMAIN, MIRRORS};
use crate::script::Running;
use anyhow::{Context, Result};
use nearmost_client::Client;
use nearmost_client::clock::mono_now;
use nearmost_client::identity::{Id, Role};
use nearmost_client::session::{BrokerAt, Event, Session};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two packets.
const EVERY: Duration = Duration::from_millis(20);
/// What is not answered by then is lost.
const LOST: Duration = Duration::from_secs(1);
/// After a move its figures are told when answers have come for so long.
const SETTLED: Duration = Duration::from_secs(1);

/// Plays until the session ends, which it does not by itself.
pub async fn play(client: &Client, at: SocketAddr, running: &[Running]) -> Result<()> {
    let id = Id::parse(&client.health().await?.broker, Role::Broker)?;
    let cities = cities(client, running).await?;
    let broker = BrokerAt { id, at: at.to_string() };
    let session = Session::builder(DOMAIN).broker(broker).connect().await?;
    let mut events = session.events();
    let first = session.primary().context("the session lost its mirror at once")?;
    println!("{}", begins(&cities, first));
    let (mut felt, mut tick) = (Felt::new(mono_now()), tokio::time::interval(EVERY));
    let mut at = first;
    let mut told: Option<(Id, Id, Instant)> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let now = mono_now();
                let number = felt.sends(now);
                // A packet that finds no mirror is lost, and counted as that.
                let _ = session.send(1, &number.to_be_bytes());
                if let Some((from, to, since)) = told
                    && now.duration_since(since) >= SETTLED
                {
                    println!("{}", felt.tells(&cities, from, to));
                    told = None;
                }
            }
            Some(packet) = session.recv() => {
                if let Ok(number) = packet.payload.as_slice().try_into() {
                    felt.hears(u64::from_be_bytes(number), mono_now());
                }
            }
            event = events.next() => match event.context("the user's session ended")? {
                Event::Moved { to, .. } | Event::Attached { to } if to != at => {
                    let from = told.map_or(at, |(from, ..)| from);
                    told = Some((from, to, mono_now()));
                    at = to;
                }
                Event::Lost { .. } => println!("user: no mirror is left that answers"),
                _ => {}
            },
        }
    }
}

/// City and process of each node.
async fn cities(client: &Client, running: &[Running]) -> Result<HashMap<Id, (&'static str, u32)>> {
    let mut cities = HashMap::new();
    for node in client.fleet().await?.nodes {
        let city = MIRRORS.iter().find(|m| m.name == node.name).map(|m| m.city);
        let pid = running.iter().find(|r| r.role.name == node.name).map(|r| r.pid);
        if let (Some(id), Some(city), Some(pid)) = (node.id, city, pid) {
            cities.insert(Id::parse(&id, Role::Node)?, (city, pid));
        }
    }
    Ok(cities)
}

fn begins(cities: &HashMap<Id, (&'static str, u32)>, at: Id) -> String {
    let (city, pid) = cities.get(&at).copied().unwrap_or(("somewhere", 0));
    format!("user: plays at {city}, a packet each 20 ms. End that mirror and watch:  kill -9 {pid}")
}

/// What a player feels.
struct Felt {
    number: u64,
    waiting: BTreeMap<u64, Instant>,
    heard: Instant,
    /// Longest time without an answer since it was told last, beyond the time between packets.
    pause: Duration,
    lost: u64,
}

impl Felt {
    fn new(now: Instant) -> Felt {
        Felt { number: 0, waiting: BTreeMap::new(), heard: now, pause: Duration::ZERO, lost: 0 }
    }

    fn sends(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.waiting.insert(self.number, now);
        while let Some(first) = self.waiting.first_entry()
            && now.duration_since(*first.get()) > LOST
        {
            first.remove();
            self.lost += 1;
        }
        self.number
    }

    fn hears(&mut self, number: u64, now: Instant) {
        self.waiting.remove(&number);
        self.pause = self.pause.max(now.duration_since(self.heard).saturating_sub(EVERY));
        self.heard = now;
    }

    fn tells(&mut self, cities: &HashMap<Id, (&'static str, u32)>, from: Id, to: Id) -> String {
        let name = |id: &Id| cities.get(id).map_or("somewhere", |(city, _)| city);
        let (_, pid) = cities.get(&to).copied().unwrap_or(("somewhere", 0));
        let (pause, lost, sent) = (self.pause.as_millis(), self.lost, self.number);
        (self.pause, self.lost) = (Duration::ZERO, 0);
        format!(
            "user: plays on at {} instead of {}: {pause} ms without an answer, {lost} of {sent} packets lost so far. \
             Again?  kill -9 {pid}",
            name(&to),
            name(&from),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_and_losses_are_what_a_player_feels() {
        let start = mono_now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut felt = Felt::new(start);
        for n in 0..5 {
            assert_eq!(felt.sends(at(n * 20)), n + 1);
        }
        felt.hears(1, at(10));
        felt.hears(3, at(110));
        felt.hears(3, at(111));
        assert_eq!(felt.pause, Duration::from_millis(80));
        felt.sends(at(1100));
        assert_eq!((felt.lost, felt.waiting.len()), (3, 1), "two, four and five");
    }
}
