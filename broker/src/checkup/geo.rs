//! Geo databases: how old, and whether a new one was refused.

use super::{fail, ok, warn};
use crate::geoip::{EMBEDDED_NAME, GeoStatus};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;

const DAY_S: u64 = 86_400;
/// City databases are published weekly or monthly; networks move.
const FILE_DAYS: u64 = 60;
/// Countries of networks change slowly.
const EMBEDDED_DAYS: u64 = 400;

pub(super) fn judge(status: &GeoStatus, now: UnixMillis) -> Vec<FindingView> {
    let mut findings = Vec::new();
    if let Some(why) = &status.last_error {
        let fix = "replace the file by a whole one of the MaxMind format (download it to another name, then rename it); the \
                   old one stays in use until then";
        findings.push(fail("geo", format!("the last reload was refused: {why}"), fix));
    }
    if !status.complete {
        let fix = "wait; large files take some seconds";
        findings.push(warn("geo", "the configured databases are not compiled yet", fix));
    }
    if status.databases.is_empty() {
        let fix = "set geo.databases to a city database, or geo.embedded = true";
        findings.push(warn("geo", "there is no database: nobody's place is known but by overrides", fix));
    }
    for database in status.databases.iter() {
        let days = (now.0 / 1000).saturating_sub(database.build_epoch_s) / DAY_S;
        let embedded = database.name == EMBEDDED_NAME;
        let message = format!("{} ({}) is {days} days old", database.name, database.database_type);
        let most = if embedded { EMBEDDED_DAYS } else { FILE_DAYS };
        let fix = match embedded {
            true => "update the broker, or set geo.databases to a newer one".to_owned(),
            false => format!(
                "write a newer one to {} (geoipupdate, or your provider's download): it is taken over by itself",
                database.name
            ),
        };
        findings.push(if days > most { warn("geo", message, fix) } else { ok("geo", message) });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geoip::{DatabaseInfo, Parts};

    fn status(name: &str, build_epoch_s: u64) -> GeoStatus {
        let database = DatabaseInfo {
            name: name.into(),
            database_type: "City".into(),
            build_epoch_s,
            networks: 1,
            parts: Parts::default(),
        };
        GeoStatus { databases: [database].into(), complete: true, ..GeoStatus::default() }
    }

    #[test]
    fn old_databases_and_refused_ones_are_told() {
        let now = UnixMillis(1000 * DAY_S * 1000);
        let levels =
            |status: &GeoStatus| -> Vec<String> { judge(status, now).into_iter().map(|f| f.level).collect() };
        assert_eq!(levels(&status("/a.mmdb", 990 * DAY_S)), ["ok"]);
        assert_eq!(levels(&status("/a.mmdb", 900 * DAY_S)), ["warn"]);
        assert_eq!(levels(&status(EMBEDDED_NAME, 900 * DAY_S)), ["ok"]);
        assert_eq!(levels(&status(EMBEDDED_NAME, 0)), ["warn"]);
        let refused =
            GeoStatus { last_error: Some("a.mmdb: is empty".into()), ..status("/a.mmdb", 990 * DAY_S) };
        assert_eq!(levels(&refused), ["fail", "ok"]);
        assert_eq!(levels(&GeoStatus::default()), ["warn", "warn"]);
    }
}
