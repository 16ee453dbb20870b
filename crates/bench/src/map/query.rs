//! What a query costs as mirrors and domains grow in number: through the whole answer function, and
//! the choice of mirrors alone, with cells and without.

use super::database::Database;
use super::fleet::{self, Machine};
use crate::meter::thread_cpu_ns;
use crate::random::Random;
use anyhow::{Context, Result};
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::Family;
use nearmost_core::ranking;
use nearmost_core::registry::DomainIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::{Client, DnsConfig, Responder, Transport};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

/// Queries of a round.
const QUERIES: usize = 20_000;
/// Rounds through all cases.
const ROUNDS: usize = 21;
/// Domains of the large cases.
const DOMAINS: usize = 10_000;

/// Cost of queries in all cases.
#[derive(Debug, Serialize, Deserialize)]
pub struct Queries(Vec<Case>);

/// Cost of a query in one case.
#[derive(Debug, Serialize, Deserialize)]
struct Case {
    what: String,
    mirrors: usize,
    domains: usize,
    cells: bool,
    /// Nanoseconds of CPU for a whole answer, the least of the rounds, and its ratio to the small case
    /// with or without cells.
    answer_ns: f64,
    answer_ratio: f64,
    /// The same of view and choice alone.
    choose_ns: f64,
    choose_ratio: f64,
}

/// A case in the making.
struct Running {
    case: Case,
    snapshot: Snapshot,
    /// The case that it is compared with.
    small: usize,
    asked: Vec<Asked>,
    answers: Vec<f64>,
    choices: Vec<f64>,
}

/// A query, ready to be asked.
struct Asked {
    domain: DomainIndex,
    client: IpAddr,
    wire: Vec<u8>,
}

/// Asks and compares.
///
/// # Errors
/// When a query is not answered.
pub fn run(database: &Database, places: &Arc<PlaceTable>, large: usize, seed: u64) -> Result<Queries> {
    let mut random = Random::new(seed ^ 2);
    let machines = fleet::machines(database.places(), large, &mut random);
    let clients: Vec<IpAddr> = (0..QUERIES).map(|_| database.client(&mut random)).collect();
    let mut cases = Vec::new();
    let six = fleet::some(&machines, 6, &mut random);
    let alike = vec![six.clone(); DOMAINS];
    let different: Vec<Vec<Machine>> = (0..DOMAINS).map(|_| fleet::some(&machines, 6, &mut random)).collect();
    for (what, domains, cells) in [
        ("small", &vec![six.clone()], true),
        ("many mirrors", &vec![machines.clone()], true),
        ("many domains of the same mirrors", &alike, true),
        ("small", &vec![six], false),
        ("many mirrors", &vec![machines], false),
        ("many domains of different mirrors", &different, false),
    ] {
        let snapshot = fleet::snapshot(places, domains);
        let snapshot = if cells { fleet::built(&snapshot) } else { snapshot };
        let small = if cells { 0 } else { 3 };
        let (mirrors, domains) = (domains[0].len(), domains.len());
        let case = Case {
            what: what.to_owned(),
            mirrors,
            domains,
            cells,
            answer_ns: 0.0,
            answer_ratio: 0.0,
            choose_ns: 0.0,
            choose_ratio: 0.0,
        };
        let asked = clients.iter().map(|client| asked(random.below(domains), *client)).collect();
        cases.push(Running { case, snapshot, small, asked, answers: Vec::new(), choices: Vec::new() });
    }
    let responder = Responder::new(DnsConfig::default())?;
    for round in 0..=ROUNDS {
        for case in &mut cases {
            let (answer, choice) = (answer_all(case, &responder)?, choose_all(case)?);
            // The first round warms up.
            if round > 0 {
                case.answers.push(answer);
                case.choices.push(choice);
            }
        }
    }
    Ok(Queries(summarised(cases)))
}

fn asked(domain: usize, client: IpAddr) -> Asked {
    let mut wire = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in fleet::name(domain).split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    // The root, A, IN; then OPT with 1232 bytes and a client subnet of /24 or /48 (RFC 7871 §6).
    wire.extend([0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0]);
    let (family, source, octets) = match client {
        IpAddr::V4(a) => (1, 24, a.octets()[..3].to_vec()),
        IpAddr::V6(a) => (2, 48, a.octets()[..6].to_vec()),
    };
    wire.extend([0, 8 + octets.len() as u8, 0, 8, 0, 4 + octets.len() as u8, 0, family, source, 0]);
    wire.extend(octets);
    Asked { domain: DomainIndex(domain as u32), client, wire }
}

/// Nanoseconds of CPU for each answer.
fn answer_all(case: &Running, responder: &Responder) -> Result<f64> {
    let client =
        Client { source: IpAddr::from([192, 0, 2, 1]), transport: Transport::Udp, now: UnixMillis(0) };
    let (mut out, mut answered) = (Vec::with_capacity(1232), 0);
    let begin = thread_cpu_ns();
    for asked in &case.asked {
        let outcome = responder.answer(&case.snapshot, &asked.wire, &client, &mut out);
        answered += usize::from(!outcome.mirrors.is_empty());
        black_box(&out);
    }
    let took = thread_cpu_ns() - begin;
    anyhow::ensure!(answered == QUERIES, "{}: {answered} of {QUERIES} answered", case.case.what);
    Ok(took / QUERIES as f64)
}

/// Nanoseconds of CPU for each choice.
fn choose_all(case: &Running) -> Result<f64> {
    let Snapshot { registry, map, live, .. } = &case.snapshot;
    let begin = thread_cpu_ns();
    for asked in &case.asked {
        let view = map.view(asked.domain, asked.client).context("the map knows no such domain")?;
        black_box(ranking::choose(registry, live, asked.domain, &view, Family::V4));
    }
    Ok((thread_cpu_ns() - begin) / QUERIES as f64)
}

/// What others do on the machine only ever adds, to the clock and by what it pushes out of the caches: the
/// least of the rounds is the nearest to what the work itself costs.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn summarised(cases: Vec<Running>) -> Vec<Case> {
    let figures: Vec<(f64, f64)> = cases.iter().map(|c| (least(&c.answers), least(&c.choices))).collect();
    let summary = |(running, (answer_ns, choose_ns)): (Running, &(f64, f64))| {
        let small = figures[running.small];
        let (answer_ratio, choose_ratio) = (answer_ns / small.0, choose_ns / small.1);
        Case { answer_ns: *answer_ns, answer_ratio, choose_ns: *choose_ns, choose_ratio, ..running.case }
    };
    cases.into_iter().zip(&figures).map(summary).collect()
}

impl Queries {
    /// For people.
    pub fn print(&self) {
        println!(
            "\n{:36} {:>8} {:>8} {:>6} {:>10} {:>6} {:>10} {:>6}",
            "a query", "mirrors", "domains", "cells", "answer ns", "ratio", "choose ns", "ratio"
        );
        for c in &self.0 {
            println!(
                "{:36} {:>8} {:>8} {:>6} {:>10.0} {:>6.2} {:>10.0} {:>6.2}",
                c.what,
                c.mirrors,
                c.domains,
                if c.cells { "built" } else { "-" },
                c.answer_ns,
                c.answer_ratio,
                c.choose_ns,
                c.choose_ratio
            );
        }
    }
}
