//! Rounds through all servers in turn.

use super::city::City;
use super::lab::Client;
use super::load::Sockets;
use super::ours::Variant;
use super::rate::{self, Bracket};
use super::report::Report;
use super::servers::{Name, Server};
use super::{checks, cpu, load};
use anyhow::{Context, Result};
use std::time::Duration;

const PLAIN: Name = Name::Ours(Variant::Plain);
/// Answers of each server that are judged before the load, and after it.
const SAMPLE: u16 = 500;
/// Queries a second of kxdpgun where only CPU is of interest: fewer than any server here can answer.
const STRANGERS: u32 = 15_000;
/// Seconds of load that are not measured: caches fill, signatures are made.
const WARM: f64 = 1.0;

/// Judges a sample of each server's answers.
///
/// # Errors
/// When a server cannot be asked.
pub async fn check(servers: &[Server], city: &City, report: &mut Report) -> Result<()> {
    for server in servers {
        let Some(rule) = &server.rule else { continue };
        let checked = checks::sample(server.at, city, &server.kind, rule, SAMPLE).await;
        let checked = checked.with_context(|| server.name.text())?;
        if checked.wrong > 0 {
            let (wrong, asked, told) = (checked.wrong, checked.asked, checked.told.join("; "));
            blame(server, report, format!("{wrong} of {asked} answers wrong: {told}"));
        }
    }
    Ok(())
}

/// Ours fail the run; those of others are told.
fn blame(server: &Server, report: &mut Report, what: String) {
    let what = format!("{}: {what}", server.name.text());
    match server.is_ours() {
        true => report.faults.push(what),
        false => report.taken.notes.push(what),
    }
}

/// CPU a query of clients with addresses of their own, that is, under kxdpgun at a low rate.
///
/// # Errors
/// When a server or kxdpgun fails.
pub async fn cpu_strangers(servers: &mut [Server], rounds: usize, client: &Client) -> Result<()> {
    for round in 1..=rounds {
        for server in servers.iter_mut() {
            let pid = server.pid()?;
            let (before, machine) = (cpu::ns(pid)?, cpu::Machine::now()?);
            let seen = load::kxdpgun(client, server.at, &server.files.text, 1, STRANGERS).await;
            let seen = seen.context(server.name.text())?;
            let all = machine.us_each(seen.answered)?;
            let used = cpu::us_each(pid, before, seen.answered).context(server.name.text())?;
            let (name, lost) = (server.name.text(), seen.lost());
            eprintln!(
                "round {round}: {name:<26} {used:6.2} µs under kxdpgun, {all:.2} µs of the machine, {lost} lost"
            );
            server.measured.strangers_us.push(used);
            server.measured.machine_us.push(all);
        }
    }
    Ok(())
}

/// CPU a query, and queries a second: of few sockets and of many.
///
/// # Errors
/// When a server or dnsperf fails.
pub async fn cpu(servers: &mut [Server], rounds: usize, seconds: f64, report: &mut Report) -> Result<()> {
    for server in servers.iter().filter(|s| s.over_loopback()) {
        let warm = load::dnsperf(server.at, &server.files.binary, WARM, Sockets::Few).await;
        warm.context(server.name.text())?;
    }
    for round in 1..=rounds {
        for sockets in [Sockets::Few, Sockets::Many] {
            for server in servers.iter_mut().filter(|s| s.over_loopback()) {
                cpu_of(server, round, seconds, sockets, report).await?;
            }
        }
    }
    Ok(())
}

async fn cpu_of(
    server: &mut Server,
    round: usize,
    seconds: f64,
    sockets: Sockets,
    report: &mut Report,
) -> Result<()> {
    let (pid, name) = (server.pid()?, server.name.text());
    let before = cpu::ns(pid)?;
    let seen = load::dnsperf(server.at, &server.files.binary, seconds, sockets).await.context(name)?;
    let used = cpu::us_each(pid, before, seen.answered).context(name)?;
    let (rate, lost, refused) = (seen.rate, seen.lost(), seen.refused());
    eprintln!(
        "round {round}: {name:<26} {used:6.2} µs, {rate:6.0} queries/s, {lost} lost, {sockets:?} sockets"
    );
    match sockets {
        Sockets::Few => {
            server.measured.cpu_us.push(used);
            server.measured.dnsperf.push(rate);
        }
        Sockets::Many => server.measured.many_us.push(used),
    }
    if lost + refused > 0 {
        blame(server, report, format!("{lost} of {} lost, {refused} errors", seen.sent));
    }
    Ok(())
}

/// Queries a second without loss, and times of answers at half of that; of the broker only with six sites.
///
/// # Errors
/// When a server or kxdpgun fails.
pub async fn rates(servers: &mut [Server], rounds: usize, client: &Client) -> Result<()> {
    for round in 1..=rounds {
        for server in servers.iter_mut().filter(|s| !s.is_ours() || s.name == PLAIN || !s.over_loopback()) {
            let first = server.measured.lossless.first().copied().filter(|rate| *rate > 0.0);
            let bracket = first.map_or_else(Bracket::first, Bracket::around);
            let text = &server.files.text;
            let found = rate::lossless(client, server.at, text, bracket).await;
            let found = found.context(server.name.text())?;
            server.measured.lossless.push(found);
            if !server.over_loopback() {
                // Times are taken over loopback, where it answers by a socket.
                eprintln!("round {round}: {:<26} {found:7.0} queries/s without loss", server.name.text());
                continue;
            }
            let half = server.measured.lossless.iter().copied().fold(0.0, f64::max) / 2.0;
            let times = rate::latencies(client, server.at, text, &server.kind, half.max(1000.0)).await;
            let times = times.context(server.name.text())?;
            let us = |part: f64| {
                let at = (times.len() as f64 * part) as usize;
                times.get(at.min(times.len().saturating_sub(1))).map_or(f64::NAN, micros)
            };
            eprintln!(
                "round {round}: {:<26} {found:7.0} queries/s without loss; {:.0} µs p50, {:.0} µs p99 at half",
                server.name.text(),
                us(0.5),
                us(0.99)
            );
            server.measured.p50_us.push(us(0.5));
            server.measured.p99_us.push(us(0.99));
        }
    }
    Ok(())
}

fn micros(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
