//! `nearmost status --all`: every mirror with its place and addresses.

use super::trouble::state;
use crate::ask::place;
use crate::output::emit;
use crate::table::Table;
use crate::time::age;
use nearmost_client::api::{FleetMirror, FleetResponse, VerdictView};

/// Prints it.
pub fn print(fleet: &FleetResponse) -> anyhow::Result<()> {
    emit(&super::screen::head(fleet))?;
    let headings = ["MIRROR", "PLACE", "FAMILY", "ADDRESS", "STATE", "REASON", "VANTAGE", "SINCE"];
    let mut table = Table::new(&headings);
    fleet.mirrors.iter().flat_map(rows).for_each(|row| table.row(row));
    table.print("no mirrors")
}

fn rows(mirror: &FleetMirror) -> Vec<Vec<String>> {
    let name = format!("{}/{}", mirror.domain, mirror.mirror);
    let place = place(&mirror.place);
    if mirror.verdicts.is_empty() {
        return vec![vec![name, place, "-".into(), "-".into(), "unknown".into()]];
    }
    let row = |(i, v): (usize, &VerdictView)| {
        let (name, place) = if i == 0 { (name.clone(), place.clone()) } else { Default::default() };
        let address = v.address.clone().unwrap_or("-".into());
        let family = v.family.clone();
        vec![name, place, family, address, state(v), v.reason.clone(), v.vantage.clone(), age(v.age_ms)]
    };
    mirror.verdicts.iter().enumerate().map(row).collect()
}
