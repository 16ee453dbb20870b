//! One dashboard as Grafana reads it (version 39 of its schema: Grafana 10.4 and later).

use super::Settings;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// A variable: one of a metric's labels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    label: String,
    /// `label_values(…)`.
    query: String,
}

/// A dashboard in short.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dashboard {
    uid: String,
    title: String,
    description: String,
    /// Names of those in the settings.
    variables: Vec<String>,
    /// How far back it looks.
    #[serde(default = "six_hours")]
    from: String,
    row: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    panel: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    kind: Kind,
    description: String,
    /// As Grafana names units.
    unit: String,
    /// Of 24.
    #[serde(default = "third")]
    width: u32,
    #[serde(default = "eight")]
    height: u32,
    /// From which value which colour.
    #[serde(default)]
    thresholds: Vec<(f64, String)>,
    /// The alerts whose pages help here.
    #[serde(default)]
    runbooks: Vec<String>,
    /// What values are called, and their colours.
    #[serde(default)]
    mappings: Vec<(i64, String, String)>,
    #[serde(default)]
    stack: bool,
    /// The column of a table with names of alerts, each of which leads to its page.
    to_runbooks: Option<String>,
    query: Vec<Query>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Stat,
    Lines,
    Table,
    Timeline,
    Bars,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    expr: String,
    #[serde(default)]
    legend: String,
}

fn six_hours() -> String {
    "now-6h".into()
}

fn third() -> u32 {
    8
}

fn eight() -> u32 {
    8
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// The whole of it.
pub(crate) fn json(board: &Dashboard, settings: &Settings) -> Result<Value> {
    let mut panels = Vec::new();
    let (mut y, mut id) = (0, 0);
    for row in &board.row {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 },
        }));
        y += 1;
        let (mut x, mut line) = (0, 0);
        for panel in &row.panel {
            if x + panel.width > 24 {
                (x, y, line) = (0, y + line, 0);
            }
            id += 1;
            let place = json!({ "x": x, "y": y, "w": panel.width, "h": panel.height });
            panels.push(self::panel(panel, id, place, settings).with_context(|| panel.title.clone())?);
            x += panel.width;
            line = line.max(panel.height);
        }
        y += line;
    }
    Ok(json!({
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["nearmost"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": { "from": board.from, "to": "now" },
        "templating": { "list": templating(board, settings)? },
        "annotations": { "list": [alarms()] },
        "links": [{
            "type": "dashboards", "tags": ["nearmost"], "title": "nearmost", "asDropdown": true,
            "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link", "url": "",
        }],
        "panels": panels,
    }))
}

/// Alerts that fire, as marks in all panels.
fn alarms() -> Value {
    json!({
        "name": "Alerts", "enable": true, "hide": false, "iconColor": "red",
        "datasource": datasource(),
        "expr": "ALERTS{alertname=~\".+\",alertstate=\"firing\",severity=\"critical\",site=~\"$site\"}",
        "titleFormat": "{{alertname}}", "textFormat": "{{domain}} {{mirror}} {{broker}} {{peer}}",
        "step": "30s",
    })
}

fn templating(board: &Dashboard, settings: &Settings) -> Result<Vec<Value>> {
    let mut list = vec![json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
        "hide": 0, "refresh": 1, "includeAll": false, "multi": false, "options": [], "regex": "",
    })];
    for name in &board.variables {
        let variable = settings.variables.get(name).with_context(|| format!("no variable {name}"))?;
        let query = settings.written_out(&variable.query)?;
        list.push(json!({
            "name": name, "label": variable.label, "type": "query", "datasource": datasource(),
            "definition": query,
            "query": { "query": query, "refId": "StandardVariableQuery" },
            "refresh": 2, "sort": 1, "hide": 0, "includeAll": true, "multi": true,
            // Also what has no such label.
            "allValue": ".*",
            "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
            "options": [], "regex": "",
        }));
    }
    Ok(list)
}

fn panel(panel: &Panel, id: u32, place: Value, settings: &Settings) -> Result<Value> {
    ensure!(!panel.description.trim().is_empty(), "a panel needs a description");
    ensure!(!panel.query.is_empty(), "a panel needs a query");
    let instant = matches!(panel.kind, Kind::Table | Kind::Bars | Kind::Stat);
    let mut targets = Vec::new();
    for (query, letter) in panel.query.iter().zip('A'..='Z') {
        targets.push(json!({
            "refId": letter.to_string(),
            "datasource": datasource(),
            "editorMode": "code",
            "expr": settings.written_out(&query.expr)?,
            "legendFormat": if query.legend.is_empty() { "__auto" } else { &query.legend },
            "instant": instant,
            "range": !instant,
            "format": if panel.kind == Kind::Table { "table" } else { "time_series" },
        }));
    }
    let link = |title: String, name: &str| json!({ "title": title, "url": settings.runbook(name), "targetBlank": true });
    let mut links: Vec<Value> =
        panel.runbooks.iter().map(|name| link(format!("Runbook: {name}"), name)).collect();
    if links.is_empty() {
        links.push(link("All runbooks".into(), "README"));
    }
    Ok(json!({
        "id": id,
        "type": kind(panel.kind),
        "title": panel.title,
        "description": panel.description.trim(),
        "datasource": datasource(),
        "gridPos": place,
        "targets": targets,
        "links": links,
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel, settings) },
        "options": options(panel.kind),
        "transformations": transformations(panel.kind),
    }))
}

/// What differs by column.
fn overrides(panel: &Panel, settings: &Settings) -> Vec<Value> {
    let column = panel.to_runbooks.iter();
    let of = |column: &String| {
        let link =
            json!({ "title": "Runbook", "url": settings.runbook("${__value.raw}"), "targetBlank": true });
        json!({
            "matcher": { "id": "byName", "options": column },
            "properties": [{ "id": "links", "value": [link] }],
        })
    };
    column.map(of).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat => "stat",
        Kind::Lines => "timeseries",
        Kind::Table => "table",
        Kind::Timeline => "state-timeline",
        Kind::Bars => "bargauge",
    }
}

fn defaults(panel: &Panel) -> Value {
    let first = [json!({ "value": null, "color": "green" })];
    let steps = panel.thresholds.iter().map(|(value, color)| json!({ "value": value, "color": color }));
    let mappings: serde_json::Map<String, Value> = (0..)
        .zip(&panel.mappings)
        .map(|(index, (value, text, color))| {
            (value.to_string(), json!({ "text": text, "color": color, "index": index }))
        })
        .collect();
    let mappings = match mappings.is_empty() {
        true => json!([]),
        false => json!([{ "type": "value", "options": mappings }]),
    };
    let by_threshold = panel.kind != Kind::Lines && !panel.thresholds.is_empty();
    json!({
        "unit": panel.unit,
        "color": { "mode": if by_threshold { "thresholds" } else { "palette-classic" } },
        "thresholds": { "mode": "absolute", "steps": first.into_iter().chain(steps).collect::<Vec<_>>() },
        "mappings": mappings,
        "noValue": if panel.kind == Kind::Stat { "no data" } else { "–" },
        "custom": custom(panel),
    })
}

fn custom(panel: &Panel) -> Value {
    match panel.kind {
        Kind::Lines => json!({
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": if panel.stack { 40 } else { 8 },
            "showPoints": "never", "spanNulls": false,
            "stacking": { "mode": if panel.stack { "normal" } else { "none" }, "group": "A" },
            "thresholdsStyle": { "mode": if panel.thresholds.is_empty() { "off" } else { "line" } },
        }),
        Kind::Timeline => json!({ "fillOpacity": 80, "lineWidth": 0 }),
        Kind::Table => json!({ "align": "auto", "filterable": true, "cellOptions": { "type": "auto" } }),
        Kind::Stat | Kind::Bars => json!({}),
    }
}

fn options(kind: Kind) -> Value {
    let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
    match kind {
        Kind::Stat => json!({
            "colorMode": "background", "graphMode": "none", "justifyMode": "auto", "textMode": "auto",
            "orientation": "auto", "reduceOptions": last,
        }),
        Kind::Bars => json!({
            "displayMode": "gradient", "orientation": "horizontal", "showUnfilled": true, "reduceOptions": last,
        }),
        Kind::Lines => json!({
            "legend": { "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        Kind::Timeline => json!({
            "mergeValues": true, "showValue": "auto", "rowHeight": 0.8, "alignValue": "left",
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "single", "sort": "none" },
        }),
        Kind::Table => json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } }),
    }
}

fn transformations(kind: Kind) -> Value {
    match kind {
        Kind::Table => json!([
            { "id": "merge", "options": {} },
            { "id": "organize", "options": { "excludeByName": { "Time": true, "__name__": true, "job": true, "instance": true }, "indexByName": {}, "renameByName": {} } },
        ]),
        _ => json!([]),
    }
}
