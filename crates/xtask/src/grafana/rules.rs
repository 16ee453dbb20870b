//! Prometheus' rules, and the tests of alerts.
//!
//! YAML is written by hand here: strings as JSON writes them, which YAML reads, and queries as block scalars,
//! which people read.

use super::Settings;
use anyhow::{Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// `recording.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    record: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: String,
    expr: String,
    /// For people who read the rules.
    what: String,
}

/// `alerts.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alerts {
    pub alert: Vec<Alert>,
}

/// One alert: `value when [and]` for so long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alert {
    /// Also of its page.
    pub name: String,
    value: String,
    when: String,
    and: Option<String>,
    #[serde(rename = "for")]
    hold: String,
    severity: Severity,
    summary: String,
    description: String,
    fires: Vec<Fires>,
    /// None where it always fires.
    #[serde(default)]
    silent: Vec<Silent>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Wakes somebody up.
    Critical,
    /// Can wait for the morning.
    Warning,
    /// Is good to know.
    Info,
}

/// A case that fires, once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fires {
    /// A series and its values, a minute apart.
    series: Vec<(String, String)>,
    at: String,
    labels: BTreeMap<String, String>,
    /// What summary and description then say.
    says: (String, String),
}

/// A case that does not fire.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silent {
    series: Vec<(String, String)>,
    at: String,
}

/// The alert that always fires, so that its absence tells of what is broken.
const WATCHDOG: &str = "Watchdog";
const HEAD: &str = "# Written by `cargo xtask grafana` from grafana/source; change it there.\n";

fn quoted(text: &str) -> String {
    serde_json::Value::from(text.trim()).to_string()
}

/// A query as a block, so far to the right.
fn block(query: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    query.lines().map(|l| format!("\n{indent}{}", l.trim_end())).collect()
}

impl Alert {
    fn expr(&self, settings: &Settings) -> Result<String> {
        let mut expr = format!("{} {}", settings.written_out(&self.value)?, self.when);
        if let Some(and) = &self.and {
            let _ = write!(expr, "\nand {}", settings.written_out(and)?);
        }
        Ok(expr)
    }

    fn severity(&self) -> &'static str {
        match self.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// `rules/recording.yml`.
pub(crate) fn recording(recording: &Recording, settings: &Settings) -> Result<String> {
    let mut out = format!("{HEAD}groups:\n  - name: nearmost-recording\n    interval: 30s\n    rules:\n");
    for record in &recording.record {
        let expr = settings.written_out(&record.expr)?;
        let _ = write!(
            out,
            "      # {}\n      - record: {}\n        expr: |{}\n",
            record.what,
            record.name,
            block(&expr, 10)
        );
    }
    Ok(out)
}

/// `rules/alerts.yml`.
pub(crate) fn alerts(alerts: &Alerts, settings: &Settings) -> Result<String> {
    let mut out = format!("{HEAD}groups:\n  - name: nearmost-alerts\n    rules:\n");
    let mut names = BTreeSet::new();
    for alert in &alerts.alert {
        ensure!(names.insert(&alert.name), "{} is there twice", alert.name);
        let _ = write!(
            out,
            "      - alert: {}\n        expr: |{}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          description: {}\n          runbook_url: {}\n",
            alert.name,
            block(&alert.expr(settings)?, 10),
            alert.hold,
            alert.severity(),
            quoted(&alert.summary),
            quoted(&alert.description),
            quoted(&settings.runbook(&alert.name)),
        );
    }
    Ok(out)
}

fn series(out: &mut String, series: &[(String, String)]) {
    for (name, values) in series {
        let _ = write!(out, "      - series: {}\n        values: {}\n", quoted(name), quoted(values));
    }
}

/// `tests/alerts.yml`.
pub(crate) fn tests(alerts: &Alerts, settings: &Settings) -> Result<String> {
    let mut out = format!(
        "{HEAD}rule_files:\n  - ../rules/recording.yml\n  - ../rules/alerts.yml\nevaluation_interval: 1m\ntests:\n"
    );
    for alert in &alerts.alert {
        let name = &alert.name;
        ensure!(!alert.fires.is_empty(), "{name} has no case in which it fires");
        ensure!(!alert.silent.is_empty() || name == WATCHDOG, "{name} has no case in which it does not fire");
        for case in &alert.fires {
            fires(&mut out, alert, case, settings);
        }
        for case in &alert.silent {
            let _ = write!(out, "  - name: {name} does not fire\n    interval: 1m\n    input_series:\n");
            series(&mut out, &case.series);
            let _ = write!(
                out,
                "    alert_rule_test:\n      - eval_time: {}\n        alertname: {name}\n        exp_alerts: []\n",
                case.at
            );
        }
    }
    Ok(out)
}

fn fires(out: &mut String, alert: &Alert, case: &Fires, settings: &Settings) {
    let name = &alert.name;
    let _ = write!(out, "  - name: {name} fires\n    interval: 1m\n    input_series:\n");
    series(out, &case.series);
    let _ = write!(
        out,
        "    alert_rule_test:\n      - eval_time: {}\n        alertname: {name}\n        exp_alerts:\n          - exp_labels:\n              severity: {}\n",
        case.at,
        alert.severity()
    );
    for (label, value) in &case.labels {
        let _ = writeln!(out, "              {label}: {}", quoted(value));
    }
    let (summary, description) = &case.says;
    let _ = write!(
        out,
        "            exp_annotations:\n              summary: {}\n              description: {}\n              runbook_url: {}\n",
        quoted(summary),
        quoted(description),
        quoted(&settings.runbook(name)),
    );
}
