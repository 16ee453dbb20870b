//! `cargo xtask grafana`: dashboards, rules and their tests from what `grafana/source` says in short.
//!
//! ```text
//! source/settings.toml ─ where runbooks are, shorthands in queries, variables
//! source/NN-*.toml ────► dashboards/*.json                 one file a dashboard
//! source/recording.toml ► prometheus/rules/recording.yml
//! source/alerts.toml ──► prometheus/rules/alerts.yml        each alert …
//!                   └──► prometheus/tests/alerts.yml        … with a case that fires and one that does not
//! ```
//!
//! What is written depends on nothing but the sources, and a test keeps both equal.

mod dashboard;
mod rules;

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `settings.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where the pages of `docs/runbooks` are served.
    pub runbooks: String,
    /// What stands for what in queries: `@NAME@`.
    pub shorthands: BTreeMap<String, String>,
    /// Variables of dashboards.
    pub variables: BTreeMap<String, dashboard::Variable>,
}

impl Settings {
    fn runbook(&self, name: &str) -> String {
        format!("{}/{name}.md", self.runbooks)
    }

    /// A query with its shorthands written out.
    fn written_out(&self, query: &str) -> Result<String> {
        let mut out = query.trim().to_owned();
        // A shorthand may use others.
        for _ in 0..3 {
            for (name, means) in &self.shorthands {
                out = out.replace(&format!("@{name}@"), means.trim());
            }
        }
        anyhow::ensure!(!out.contains('@'), "a shorthand is not known in {out}");
        Ok(out)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Every file that follows from the sources in a folder, below that folder's parent.
pub(crate) fn files(source: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let settings: Settings = read(&source.join("settings.toml"))?;
    let mut files = BTreeMap::new();
    let entries = std::fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // The number before the name is the dashboards' order.
        let Some((number, name)) = stem.split_once('-').filter(|(n, _)| n.parse::<u8>().is_ok()) else {
            continue;
        };
        let board: dashboard::Dashboard = read(&path)?;
        let json = dashboard::json(&board, &settings).with_context(|| format!("{number}-{name}.toml"))?;
        files.insert(format!("dashboards/{name}.json").into(), serde_json::to_string_pretty(&json)? + "\n");
    }
    let recording: rules::Recording = read(&source.join("recording.toml"))?;
    let alerts: rules::Alerts = read(&source.join("alerts.toml"))?;
    files.insert("prometheus/rules/recording.yml".into(), rules::recording(&recording, &settings)?);
    files.insert("prometheus/rules/alerts.yml".into(), rules::alerts(&alerts, &settings)?);
    files.insert("prometheus/tests/alerts.yml".into(), rules::tests(&alerts, &settings)?);
    Ok(files)
}

/// Writes them.
pub(crate) fn write(grafana: &Path) -> Result<()> {
    for (path, text) in files(&grafana.join("source"))? {
        let path = grafana.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../grafana")
    }

    #[test]
    fn what_is_there_is_what_the_sources_say() {
        let files = files(&folder().join("source")).unwrap();
        assert!(files.len() >= 10);
        for (path, text) in &files {
            let there = std::fs::read_to_string(folder().join(path)).unwrap_or_default();
            assert!(
                there == *text,
                "{} is not what the sources say: run `cargo xtask grafana`",
                path.display()
            );
        }
        let there: BTreeSet<_> =
            std::fs::read_dir(folder().join("dashboards")).unwrap().map(|e| e.unwrap().file_name()).collect();
        let made: BTreeSet<_> = files
            .keys()
            .filter(|p| p.starts_with("dashboards"))
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(there, made);
    }

    #[test]
    fn every_alert_has_its_page_and_every_page_its_alert() {
        let alerts: rules::Alerts = read(&folder().join("source/alerts.toml")).unwrap();
        let named: BTreeSet<String> = alerts.alert.iter().map(|a| format!("{}.md", a.name)).collect();
        let pages = folder().join("../docs/runbooks");
        let there: BTreeSet<String> = std::fs::read_dir(&pages)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        assert_eq!(named, there);
        let index = std::fs::read_to_string(pages.join("README.md")).unwrap();
        for name in &named {
            let page = std::fs::read_to_string(pages.join(name)).unwrap();
            let parts = [
                "## What it means",
                "## Who is affected",
                "## How to check",
                "## What to do",
                "## How it ends",
            ];
            for part in parts {
                assert!(page.contains(part), "{name} has no {part:?}");
            }
            assert!(index.contains(&format!("({name})")), "README.md does not name {name}");
        }
    }

    #[test]
    fn panels_say_what_they_show_and_link_to_pages_that_are_there() {
        let settings: Settings = read(&folder().join("source/settings.toml")).unwrap();
        for (path, text) in files(&folder().join("source")).unwrap() {
            for link in text.split('"').filter_map(|t| t.strip_prefix(&settings.runbooks)) {
                // Of the alert that is shown.
                if link == "/${__value.raw}.md" {
                    continue;
                }
                let page = folder().join("../docs/runbooks").join(link.trim_start_matches('/'));
                assert!(page.is_file(), "{}: no {}", path.display(), page.display());
            }
        }
    }
}
