//! How much a server answers without losing any, and how soon it answers at half of that.
//!
//! kxdpgun asks at a rate from thousands of addresses, past the kernel's sockets, so that most of the
//! machine is the server's. The most that is answered without loss is found by halving an interval of
//! rates on a logarithmic scale; later rounds begin around what the first one found.

use super::checks::Asker;
use super::lab::Client;
use super::load;
use super::queries::{Kind, network};
use crate::random::Random;
use anyhow::Result;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

/// Rates that are tried, in queries a second.
const LOWEST: f64 = 2_000.0;
const HIGHEST: f64 = 600_000.0;
/// Halvings of the first round, and of those after it.
const FIRST_STEPS: usize = 7;
const LATER_STEPS: usize = 3;
/// How far around the first round's rate later ones look.
const AROUND: f64 = 1.3;
/// Seconds of each attempt.
const SECONDS: u32 = 1;
/// Seconds at half of the rate while answers are timed.
const TIMED: u32 = 1;
/// One query is timed each so often.
const PERIOD: Duration = Duration::from_millis(1);
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);

#[expect(clippy::disallowed_methods, reason = "measures time, decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// An interval of rates: all below it were answered, and not all above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bracket {
    low: f64,
    high: f64,
    steps: usize,
}

impl Bracket {
    /// Where the first round begins.
    pub fn first() -> Bracket {
        Bracket { low: LOWEST, high: HIGHEST, steps: FIRST_STEPS }
    }

    /// Where a later one begins, given what the first one found.
    pub fn around(rate: f64) -> Bracket {
        Bracket { low: rate / AROUND, high: (rate * AROUND).min(HIGHEST), steps: LATER_STEPS }
    }

    /// The next rate to try; `None` when it is known well enough.
    fn next(&self) -> Option<f64> {
        (self.steps > 0).then(|| (self.low * self.high).sqrt())
    }

    /// Halves it.
    fn tried(self, rate: f64, lost: bool) -> Bracket {
        let steps = self.steps.saturating_sub(1);
        if lost { Bracket { high: rate, steps, ..self } } else { Bracket { low: rate, steps, ..self } }
    }
}

/// The highest rate found without loss, as measured by the generator, in queries a second; 0 when each
/// attempt lost some.
///
/// # Errors
/// When kxdpgun does not run.
pub async fn lossless(
    client: &Client,
    at: SocketAddrV4,
    queries: &Path,
    mut bracket: Bracket,
) -> Result<f64> {
    let mut best = 0.0_f64;
    while let Some(rate) = bracket.next() {
        let seen = load::kxdpgun(client, at, queries, SECONDS, rate as u32).await?;
        let lost = seen.lost() > 0;
        if !lost {
            best = best.max(seen.rate);
        }
        // The generator has a limit, too: when it does not send what it should, more is no use.
        if !lost && seen.rate < rate * 0.8 {
            break;
        }
        bracket = bracket.tried(rate, lost);
    }
    Ok(best)
}

/// Times of answers, sorted, while kxdpgun asks at a rate; those that were lost count as `PATIENCE`.
///
/// # Errors
/// When kxdpgun does not run or the server is gone.
pub async fn latencies(
    client: &Client,
    at: SocketAddrV4,
    queries: &Path,
    kind: &Kind,
    rate: f64,
) -> Result<Vec<Duration>> {
    let load = load::kxdpgun(client, at, queries, TIMED, rate as u32);
    tokio::pin!(load);
    let asker = Asker::of(at).await?;
    let (mut random, mut times) = (Random::new(3), Vec::new());
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut load => {
                done?;
                break;
            }
            time = timed(&asker, kind, &mut random, &mut tick) => times.push(time?),
        }
    }
    // While kxdpgun attaches itself and ends there is no load: those are the first and last fifth.
    let part = times.len() / 5;
    let mut loaded = times.get(part..times.len() - part).unwrap_or_default().to_vec();
    loaded.sort_unstable();
    Ok(loaded)
}

async fn timed(
    asker: &Asker,
    kind: &Kind,
    random: &mut Random,
    tick: &mut tokio::time::Interval,
) -> Result<Duration> {
    tick.tick().await;
    let query = kind.query(random.next() as u16, &kind.name(random), network(random))?;
    let begun = now();
    let reply = asker.ask(&query, PATIENCE).await?;
    Ok(reply.map_or(PATIENCE, |_| begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64, mut bracket: Bracket) -> f64 {
        let mut best = 0.0;
        while let Some(rate) = bracket.next() {
            if rate <= limit {
                best = rate;
            }
            bracket = bracket.tried(rate, rate > limit);
        }
        best
    }

    #[test]
    fn halving_finds_the_limit() {
        for limit in [3_000.0, 40_000.0, 123_456.0, 590_000.0] {
            let first = found(limit, Bracket::first());
            assert!(first <= limit && first > limit * 0.94, "{limit}: {first}");
            let later = found(limit, Bracket::around(first));
            assert!(later <= limit && later > limit * 0.92, "{limit}: {later}");
        }
    }
}
