//! The replay itself: everything goes through the learner, the model and the choice of probes that
//! brokers use.

use super::matrix::Matrix;
use crate::random::Random;
use nearmost_core::geo::{CountryCode, Place};
use nearmost_core::rtt::routes::Routes;
use nearmost_core::rtt::{
    Learner, LearnerConfig, Memory, Model, Observation, Row, Site, Source, Target, World, measure,
};
use nearmost_core::time::UnixMillis;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Regret of every network in every set, by the way to choose.
#[derive(Default)]
pub(super) struct Regrets {
    pub(super) distance: Vec<f32>,
    pub(super) distance_probed: Vec<f32>,
    pub(super) cold: Vec<f32>,
    pub(super) unseen: Vec<f32>,
    pub(super) reported: Vec<f32>,
}

impl Regrets {
    fn extend(&mut self, other: Regrets) {
        self.distance.extend(other.distance);
        self.distance_probed.extend(other.distance_probed);
        self.cold.extend(other.cold);
        self.unseen.extend(other.unseen);
        self.reported.extend(other.reported);
    }
}

/// Replays all sets, on all cores.
pub(super) fn all(matrix: &Matrix, mirrors: usize, probes: usize, sets: usize, seed: u64) -> Regrets {
    let routes = Arc::new(Routes::new());
    let mut random = Random::new(seed);
    let draw = |_| {
        let mut order: Vec<usize> = (0..matrix.len()).collect();
        random.shuffle(&mut order);
        order
    };
    let orders: Vec<Vec<usize>> = (0..sets).map(draw).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Regrets::default();
    std::thread::scope(|scope| {
        let routes = &routes;
        let handles: Vec<_> = orders
            .chunks(sets.div_ceil(workers))
            .map(|orders| {
                scope.spawn(move || {
                    let mut regrets = Regrets::default();
                    for order in orders {
                        let (mirrors, clients) = order.split_at(mirrors);
                        Replay::new(matrix, mirrors, clients, probes, routes.clone()).run(&mut regrets);
                    }
                    regrets
                })
            })
            .collect();
        for handle in handles {
            match handle.join() {
                Ok(regrets) => all.extend(regrets),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all
}

/// One set of mirrors.
struct Replay<'a> {
    matrix: &'a Matrix,
    mirrors: &'a [usize],
    clients: &'a [usize],
    probes: usize,
    sites: HashMap<Target, Place>,
    routes: Arc<Routes>,
}

impl<'a> Replay<'a> {
    fn new(
        matrix: &'a Matrix,
        mirrors: &'a [usize],
        clients: &'a [usize],
        probes: usize,
        routes: Arc<Routes>,
    ) -> Replay<'a> {
        let sites = mirrors.iter().map(|m| (target(*m), place(matrix, *m))).collect();
        Replay { matrix, mirrors, clients, probes, sites, routes }
    }

    fn run(&self, regrets: &mut Regrets) {
        let cold = self.model(&[]);
        let mut reports: Vec<Report> = Vec::new();
        for clients in self.clients.chunks(REFIT) {
            // Who reports later profits from those before.
            let model = self.model(&reports);
            let new: Vec<Report> = clients.iter().flat_map(|c| self.reports_of(&model, *c)).collect();
            reports.extend(new);
        }
        for client in self.clients {
            let Some(truth) = Truth::new(self, *client) else { continue };
            let km = |m: usize| self.matrix.distance_km(*client, self.mirrors[m]) as f32;
            regrets.distance.push(truth.regret(km));
            regrets.distance_probed.push(truth.best_of_nearest(km, self.probes));
            regrets.cold.push(truth.regret(self.predicted(&cold, *client, &[])));
            let others: Vec<Report> = reports.iter().filter(|r| r.client != *client).copied().collect();
            let model = self.model(&others);
            regrets.unseen.push(truth.regret(self.predicted(&model, *client, &[])));
            let own = self.reports_of(&model, *client);
            regrets.reported.push(truth.regret(self.predicted(&model, *client, &own)));
        }
    }

    /// The model of a federation whose mirrors probed one another, and to which networks reported.
    fn model(&self, reports: &[Report]) -> Model {
        let mut learner = Learner::new(LearnerConfig::default(), self.routes.clone(), Memory::default());
        for from in self.mirrors {
            for to in self.mirrors.iter().filter(|to| *to != from) {
                if let Some(ms) = self.matrix.rtt(*from, *to) {
                    // Positive and finite, as the matrix was read.
                    let _ = learner.probed(&target(*from), &target(*to), ms, NOW);
                }
            }
        }
        for report in reports {
            let observation = Observation {
                network: address(report.client).into(),
                target: target(report.mirror),
                rtt_ms: report.ms,
                source: Source::Client,
                reporter: 1,
                users: 1,
            };
            let _ = learner.observe(&observation, NOW);
        }
        let locate = |addr: IpAddr| server_at(addr).map_or(Place::default(), |i| place(self.matrix, i));
        learner.fit(&World { sites: &self.sites, locate: &locate }, NOW)
    }

    fn sites(&self, model: &Model) -> Vec<Site> {
        self.mirrors.iter().map(|m| model.site(&target(*m), &place(self.matrix, *m), None)).collect()
    }

    /// The round trip that a model predicts for each mirror, given what the client measured itself.
    fn predicted(&self, model: &Model, client: usize, own: &[Report]) -> impl Fn(usize) -> f32 {
        let sites = self.sites(model);
        let seen = model.client(&place(self.matrix, client), Some(address(client)));
        let site = |server: usize| self.mirrors.iter().position(|m| *m == server).map(|m| &sites[m]);
        let row = Row::fresh(&seen, own.iter().filter_map(|r| Some((site(r.mirror)?, r.ms))));
        let seen = row.as_ref().map_or(seen, |row| seen.with(row));
        let ms: Vec<f32> = sites.iter().map(|s| seen.ms(s)).collect();
        move |mirror| ms[mirror]
    }

    /// What a client reports when it measures what the model asks for, one after the other.
    fn reports_of(&self, model: &Model, client: usize) -> Vec<Report> {
        let sites = self.sites(model);
        let plain = model.client(&place(self.matrix, client), Some(address(client)));
        let mut measured: Vec<(usize, f32)> = Vec::new();
        while measured.len() < self.probes {
            let row = Row::fresh(&plain, measured.iter().map(|(m, ms)| (&sites[*m], *ms)));
            let seen = row.as_ref().map_or(plain, |row| plain.with(row));
            let answers = |m: &usize| self.matrix.rtt(client, self.mirrors[*m]).is_some();
            let open = (0..sites.len()).filter(answers).map(|m| (m, &sites[m]));
            let Some(next) = measure::next(&seen, open) else { break };
            let Some(ms) = self.matrix.rtt(client, self.mirrors[next]) else { break };
            measured.push((next, ms));
        }
        measured.into_iter().map(|(m, ms)| Report { client, mirror: self.mirrors[m], ms }).collect()
    }
}

/// What a network reported of one mirror.
#[derive(Clone, Copy)]
struct Report {
    client: usize,
    mirror: usize,
    ms: f32,
}

/// Networks that report between two models.
const REFIT: usize = 5;

const NOW: UnixMillis = UnixMillis(1_600_000_000_000);

/// Each server is in a /16 of its own: what they have in common is country and region.
fn address(server: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0100_0000 + ((server as u32) << 16)).into()
}

fn server_at(addr: IpAddr) -> Option<usize> {
    match addr {
        IpAddr::V4(a) => usize::try_from((a.to_bits() - 0x0100_0000) >> 16).ok(),
        IpAddr::V6(_) => None,
    }
}

fn target(server: usize) -> Target {
    Target::Mirror { domain: "bench".into(), mirror: server.to_string().into() }
}

/// A server's place; its country by a made-up code, as the files have names.
fn place(matrix: &Matrix, server: usize) -> Place {
    let server = matrix.server(server);
    let letter = |n: usize| char::from(b'A' + (n % 26) as u8);
    let code = format!("{}{}", letter(server.country / 26), letter(server.country));
    Place { position: Some(server.position), country: CountryCode::new(&code), asn: None }
}

/// What one client would have measured of all mirrors.
struct Truth {
    ms: Vec<Option<f32>>,
    best: f32,
}

impl Truth {
    /// `None` when it measured none.
    fn new(replay: &Replay<'_>, client: usize) -> Option<Truth> {
        let ms: Vec<Option<f32>> = replay.mirrors.iter().map(|m| replay.matrix.rtt(client, *m)).collect();
        let best = ms.iter().flatten().copied().reduce(f32::min)?;
        Some(Truth { ms, best })
    }

    /// Mirrors that were measured, with their round trips.
    fn answering(&self) -> impl Iterator<Item = (usize, f32)> {
        self.ms.iter().enumerate().filter_map(|(m, ms)| Some((m, (*ms)?)))
    }

    /// Of the mirror with the least score.
    fn regret(&self, score: impl Fn(usize) -> f32) -> f32 {
        let chosen = self.answering().min_by(|a, b| score(a.0).total_cmp(&score(b.0)));
        chosen.map_or(0.0, |(_, ms)| ms - self.best)
    }

    /// Of the best of those with the least scores.
    fn best_of_nearest(&self, score: impl Fn(usize) -> f32, probes: usize) -> f32 {
        let mut near: Vec<(usize, f32)> = self.answering().collect();
        near.sort_by(|a, b| score(a.0).total_cmp(&score(b.0)));
        let best = near.into_iter().take(probes).map(|(_, ms)| ms).reduce(f32::min);
        best.map_or(0.0, |ms| ms - self.best)
    }
}
