//! Figures beside their targets.

use serde::Serialize;
use std::time::Duration;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// The most that it should be; figures without one only explain others.
    target: Option<f64>,
    /// The value by its target: at most 1 is a pass.
    ratio: Option<f64>,
    pass: Option<bool>,
}

impl Figure {
    /// A figure that should be at most `target`.
    pub fn of(what: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Figure {
        let (ratio, pass) = (Some(value / target), Some(value <= target));
        Figure { what: what.into(), value, unit, target: Some(target), ratio, pass }
    }

    /// A figure that explains others.
    pub fn told(what: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { what: what.into(), value, unit, target: None, ratio: None, pass: None }
    }
}

/// Figures that were taken together.
#[derive(Debug, Default, Serialize)]
pub struct Taken {
    /// Of what.
    pub name: String,
    /// They.
    pub figures: Vec<Figure>,
    /// What one has to know to read them.
    pub notes: Vec<String>,
    /// Why there are none, or not all.
    pub error: Option<String>,
}

impl Taken {
    /// None yet.
    pub fn new(name: &str) -> Taken {
        Taken { name: name.into(), ..Taken::default() }
    }

    /// None at all.
    pub fn failed(name: &str, error: &anyhow::Error) -> Taken {
        Taken { error: Some(format!("{error:#}")), ..Taken::new(name) }
    }

    /// Prints a table.
    pub fn show(&self) {
        println!("\n{}", self.name);
        for f in &self.figures {
            let (what, value) = (&f.what, format!("{:.2} {}", f.value, f.unit));
            match (f.target, f.ratio, f.pass) {
                (Some(target), Some(ratio), Some(pass)) => println!(
                    "  {what:<58} {value:>16}  {} (≤ {target}; {ratio:.2} of it)",
                    if pass { "pass" } else { "MISS" }
                ),
                _ => println!("  {what:<58} {value:>16}"),
            }
        }
        for note in &self.notes {
            println!("  note: {note}");
        }
        if let Some(error) = &self.error {
            println!("  not measured: {error}");
        }
    }
}

/// The value below which this part of all lies; 0 of none.
pub fn quantile(all: &[Duration], part: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// In milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// In mebibytes.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
