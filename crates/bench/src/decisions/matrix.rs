//! A measured matrix, as read from two CSV files.

use super::Part;
use anyhow::{Context, Result, bail};
use nearmost_core::geo::Position;
use std::collections::HashMap;
use std::path::Path;

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) position: Position,
    /// Number of its country among those in the file.
    pub(super) country: usize,
}

/// Servers and the round trips between them.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    servers: Vec<Server>,
    /// Mean round trip in milliseconds, row by row; `None` where none was measured.
    rtt: Vec<Option<f32>>,
}

impl Matrix {
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn server(&self, i: usize) -> &Server {
        &self.servers[i]
    }

    /// From one server to another, in milliseconds.
    pub(super) fn rtt(&self, from: usize, to: usize) -> Option<f32> {
        self.rtt[from * self.servers.len() + to]
    }

    /// Great circle in kilometres.
    pub(super) fn distance_km(&self, a: usize, b: usize) -> f64 {
        self.servers[a].position.distance_km(self.servers[b].position)
    }

    /// Reads the two files.
    pub(super) fn read(servers: &Path, pings: &Path) -> Result<Matrix> {
        let (mut index, mut countries) = (HashMap::new(), HashMap::new());
        let mut list = Vec::new();
        for (line, fields) in rows(servers, ["id", "country", "latitude", "longitude"])? {
            let place = || format!("{}:{line}", servers.display());
            let [id, country, lat, lon] = fields;
            let degrees = |text: &str| text.parse::<f64>().with_context(|| format!("{}: {text:?}", place()));
            let Some(position) = Position::from_degrees(degrees(&lat)?, degrees(&lon)?) else {
                bail!("{}: {lat}, {lon} is not on the sphere", place());
            };
            let n = countries.len();
            let country = *countries.entry(country).or_insert(n);
            if index.insert(id.clone(), list.len()).is_some() {
                bail!("{}: server {id:?} is there twice", place());
            }
            list.push(Server { position, country });
        }
        let mut rtt = vec![None; list.len() * list.len()];
        for (line, [source, destination, ms]) in rows(pings, ["source", "destination", "avg_ms"])? {
            let (Some(a), Some(b)) = (index.get(&source), index.get(&destination)) else { continue };
            let ms: f32 = ms.parse().with_context(|| format!("{}:{line}: {ms:?}", pings.display()))?;
            if !(ms.is_finite() && ms > 0.0) {
                bail!("{}:{line}: {ms} ms is no round trip", pings.display());
            }
            rtt[a * list.len() + b] = Some(ms);
        }
        Ok(Matrix { servers: list, rtt })
    }

    /// Some of its servers only.
    pub(super) fn part(self, part: Part) -> Matrix {
        let mut order: Vec<usize> = (0..self.len()).collect();
        // The split that constants were chosen by; it must stay as it is.
        crate::random::Random::new(99).shuffle(&mut order);
        let (tuned, other) = order.split_at(order.len() / 2);
        let wanted = match part {
            Part::All => return self,
            Part::Tuned => tuned,
            Part::Other => other,
        };
        let rtt = wanted.iter().flat_map(|a| wanted.iter().map(|b| self.rtt(*a, *b))).collect();
        Matrix { servers: wanted.iter().map(|i| self.servers[*i].clone()).collect(), rtt }
    }
}

/// The wanted columns of a CSV file, with line numbers.
fn rows<const N: usize>(path: &Path, wanted: [&str; N]) -> Result<Vec<(usize, [String; N])>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().zip(1..).filter(|(l, _)| !l.trim().is_empty());
    let (head, _) = lines.next().with_context(|| format!("{} is empty", path.display()))?;
    let head: Vec<&str> = head.split(',').map(str::trim).collect();
    let mut at = [0; N];
    for (at, name) in at.iter_mut().zip(wanted) {
        let column = head.iter().position(|h| *h == name);
        *at = column.with_context(|| format!("{} has no column {name:?}", path.display()))?;
    }
    let row = |(line, number): (&str, usize)| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let missing = || format!("{}:{number}: too few columns", path.display());
        let mut row = [const { String::new() }; N];
        for (field, at) in row.iter_mut().zip(at) {
            *field = (*fields.get(at).with_context(missing)?).to_owned();
        }
        Ok((number, row))
    };
    lines.map(row).collect()
}
