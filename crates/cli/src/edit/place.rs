//! `nearmost geo override …`

use crate::args::{PlaceArgs, country};
use crate::broker::Context;
use crate::change::{make, view};
use crate::output::emit_json;
use crate::table::Table;
use clap::{Args, Subcommand};
use nearmost_client::prefix;
use nearmost_client::registry::{
    Content, Edit, EntryKey, OverrideBody, PlaceBody, Plan, PlanError, RegistryView,
};
use serde_json::json;

/// Places that people corrected.
#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// Say where the clients of a prefix are, instead of what was said of it before
    Add {
        /// The prefix, e.g. 192.0.2.0/24
        prefix: String,
        /// Where they are
        #[command(flatten)]
        place: OverridePlace,
    },
    /// Go back to what databases say of a prefix
    Remove {
        /// The prefix
        prefix: String,
    },
    /// All of them, in the order of their prefixes
    List,
}

/// A place in one word, or in options.
#[derive(Debug, Args)]
pub struct OverridePlace {
    /// What is known, separated by commas, in this order: latitude and longitude, a country's two
    /// letters, AS and a number. So GB, 51.5,-0.1 or 51.5,-0.1,GB or AS64496; or use the options
    #[arg(
        value_parser = short_place,
        allow_hyphen_values = true,
        required_unless_present_any = ["latitude", "country", "asn"],
        conflicts_with_all = ["latitude", "longitude", "country", "asn"]
    )]
    place: Option<PlaceBody>,
    /// The same as options
    #[command(flatten)]
    options: PlaceArgs,
}

impl OverridePlace {
    fn body(&self) -> OverrideBody {
        let mut place = self.place;
        self.options.patch(&mut place);
        OverrideBody::from(place.unwrap_or_default())
    }
}

const EXPECTED: &str = "a place such as GB, 51.5,-0.1 or 51.5,-0.1,GB or AS64496";

/// A place in one word: `[LATITUDE,LONGITUDE][,COUNTRY][,ASNUMBER]`.
fn short_place(text: &str) -> Result<PlaceBody, String> {
    let mut place = PlaceBody::default();
    let mut parts = text.split(',').map(str::trim).peekable();
    // No country begins with a digit or a sign.
    if parts.peek().is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))) {
        place.latitude = Some(degrees("latitude", parts.next(), 90.0)?);
        place.longitude = Some(degrees("longitude", parts.next(), 180.0)?);
    }
    if let Some(code) = parts.next_if(|p| country(p).is_ok()) {
        place.country = Some(country(code)?);
    }
    if let Some(number) = parts.peek().and_then(|p| p.strip_prefix("AS").or(p.strip_prefix("as"))) {
        let asn = number.parse().ok().filter(|asn| *asn > 0);
        place.asn = Some(asn.ok_or_else(|| format!("AS{number}: expected a number from 1 to {}", u32::MAX))?);
        parts.next();
    }
    match parts.next() {
        Some(rest) => Err(format!("found {rest:?}, expected {EXPECTED}")),
        None => Ok(place),
    }
}

fn degrees(what: &str, text: Option<&str>, most: f64) -> Result<f64, String> {
    let text = text.ok_or_else(|| format!("no {what}; expected {EXPECTED}"))?;
    let found: Option<f64> = text.parse().ok().filter(|d| (-most..=most).contains(d));
    found.ok_or_else(|| format!("{what} {text:?}: expected a number from -{most} to {most}"))
}

/// Carries out a command.
pub async fn run(context: &Context, command: OverrideCommand) -> anyhow::Result<()> {
    match command {
        OverrideCommand::Add { prefix, place } => {
            let key = EntryKey::place_override(&prefix)?;
            let plan = |view: &RegistryView| {
                Plan::of_edits(view, vec![Edit::put(key.clone(), Content::Override(place.body()))])
            };
            make(context, &format!("add {key}"), plan).await
        }
        OverrideCommand::Remove { prefix } => {
            let key = EntryKey::place_override(&prefix)?;
            let plan = |view: &RegistryView| -> Result<Plan, PlanError> {
                Plan::of_edits(view, vec![Edit::remove(key.clone())])
            };
            make(context, &format!("remove {key}"), plan).await
        }
        OverrideCommand::List => list(context).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let view = view(context).await?;
    let mut all: Vec<(&str, PlaceBody)> =
        view.overrides().map(|(key, body)| (key.id.as_str(), body.place())).collect();
    // As text, 10.0.0.0/8 would come before 9.0.0.0/8.
    all.sort_by_key(|(prefix, _)| prefix::parse(prefix).ok());
    if context.json {
        let each = all.iter().map(|(prefix, place)| {
            json!({
                "prefix": prefix,
                "latitude": place.latitude,
                "longitude": place.longitude,
                "country": place.country.map(|c| String::from_utf8_lossy(&c).into_owned()),
                "asn": place.asn,
            })
        });
        return emit_json(&each.collect());
    }
    let mut table = Table::new(&["PREFIX", "POSITION", "COUNTRY", "AS"]);
    let shown = |part: Option<String>| part.unwrap_or("-".into());
    for (prefix, place) in all {
        table.row(vec![
            prefix.into(),
            shown(place.latitude.zip(place.longitude).map(|(lat, lon)| format!("{lat},{lon}"))),
            shown(place.country.map(|c| String::from_utf8_lossy(&c).into_owned())),
            shown(place.asn.map(|asn| asn.to_string())),
        ]);
    }
    table.print("no overrides")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<(f64, f64)>, Option<String>, Option<u32>) {
        let place = short_place(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let country = place.country.map(|c| String::from_utf8_lossy(&c).into_owned());
        (place.latitude.zip(place.longitude), country, place.asn)
    }

    #[test]
    fn places_are_read_from_one_word() {
        let london = Some((51.5, -0.1));
        assert_eq!(read("GB"), (None, Some("GB".into()), None));
        assert_eq!(read("as"), (None, Some("AS".into()), None), "American Samoa");
        assert_eq!(read("51.5,-0.1"), (london, None, None));
        assert_eq!(read("51.5, -0.1, gb"), (london, Some("GB".into()), None));
        assert_eq!(read("AS64496"), (None, None, Some(64496)));
        assert_eq!(read("-33.9,151.2,AU,AS1"), (Some((-33.9, 151.2)), Some("AU".into()), Some(1)));
        assert_eq!(read("AS,as7"), (None, Some("AS".into()), Some(7)));
    }

    #[test]
    fn wrong_places_say_what_is_wrong() {
        for (text, says) in [
            ("", "found \"\", expected a place such as GB, 51.5,-0.1 or"),
            ("GBR", "found \"GBR\", expected a place such as GB"),
            ("51.5", "no longitude; expected a place such as"),
            ("51.5,GB", "longitude \"GB\": expected a number from -180 to 180"),
            ("95,0", "latitude \"95\": expected a number from -90 to 90"),
            ("1e999,0", "latitude \"1e999\""),
            ("GB,51.5,-0.1", "found \"51.5\", expected a place such as"),
            ("GB,", "found \"\", expected"),
            ("AS0", "AS0: expected a number from 1 to 4294967295"),
            ("ASX", "ASX: expected a number"),
            ("inf,0", "found \"inf\""),
        ] {
            let said = short_place(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
