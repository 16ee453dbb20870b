//! The layers, and who said what in them.
//!
//! Each layer is read on its own first, so that what is wrong in the file is told even where the
//! environment overrules it; then figment merges them and keeps the origin of every value, which
//! rules between keys need for their errors.

use crate::error::{ConfigError, Fault, Origin};
use crate::explain;
use crate::given::Given;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What the names of our environment variables start with.
const PREFIX: &str = "NEARMOST__";
/// Deeper lists and tables than this in one environment variable or flag are taken as text.
const MAX_NESTING: usize = 32;

/// One source of values.
#[derive(Clone)]
pub(crate) struct Layer {
    origin: Origin,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        match &self.origin {
            Origin::Defaults => Metadata::named("defaults"),
            Origin::File(path) => Metadata::from("file", path.as_path()),
            Origin::Environment(name) => Metadata::from("environment", name.as_str()),
            Origin::Flag => Metadata::named("flag"),
        }
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The origin that a layer's metadata stands for.
fn origin_of(metadata: &Metadata) -> Origin {
    match (metadata.name.as_ref(), &metadata.source) {
        ("file", Some(Source::File(path))) => Origin::File(path.clone()),
        ("environment", Some(Source::Custom(name))) => Origin::Environment(name.clone()),
        ("flag", _) => Origin::Flag,
        _ => Origin::Defaults,
    }
}

/// All layers, weakest first, and their merge.
pub(crate) struct Layers {
    layers: Vec<Layer>,
    merged: Figment,
}

impl Layers {
    /// The file (if one is given), our variables of `env`, and the flags, in that order.
    pub(crate) fn read(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Layers, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = path {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable { file: path.to_owned(), error })?;
            layers.push(file_layer(path, &text)?);
        }
        layers.extend(upper_layers(env, flags)?);
        Ok(Layers::merge(layers))
    }

    /// As [`Layers::read`], with the file's text in hand.
    #[cfg(test)]
    pub(crate) fn of_text(
        path: &Path,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Layers, ConfigError> {
        let mut layers = vec![file_layer(path, text)?];
        layers.extend(upper_layers(env, flags)?);
        Ok(Layers::merge(layers))
    }

    fn merge(layers: Vec<Layer>) -> Layers {
        let merged = layers.iter().cloned().fold(Figment::new(), Figment::merge);
        Layers { layers, merged }
    }

    /// The merged values as the spec of the only `supported` version.
    pub(crate) fn spec<S: DeserializeOwned>(&self, supported: u64) -> Result<S, ConfigError> {
        for layer in &self.layers {
            layer.check_version(supported)?;
            let alone = Figment::from(layer.clone()).extract::<S>();
            alone.map_err(|error| explain::error::<S>(error, layer.origin.clone()))?;
        }
        self.merged.extract::<S>().map_err(|error| {
            let origin = error.metadata.as_ref().map_or(Origin::Defaults, origin_of);
            explain::error::<S>(error, origin)
        })
    }

    /// Every key that some layer gives, with the value that counts.
    pub(crate) fn given(&self) -> Given {
        self.merged.extract::<Dict>().map_or_else(|_| Given::default(), |values| Given::of(&values))
    }

    /// The error for a rule broken between keys.
    pub(crate) fn blame(&self, fault: Fault) -> ConfigError {
        let origin = self.origin(fault.key());
        fault.at(origin)
    }

    /// Who gave the value of a key, or of the nearest table around it.
    fn origin(&self, key: &str) -> Origin {
        // A list is one layer's as a whole, so its position in it does not matter.
        let mut path = key.split('[').next().unwrap_or(key);
        loop {
            if let Some(metadata) = self.merged.find_metadata(path) {
                return origin_of(metadata);
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return Origin::Defaults,
            }
        }
    }
}

impl Layer {
    /// A file of another version is refused as that, not for the keys this version does not know.
    fn check_version(&self, supported: u64) -> Result<(), ConfigError> {
        match self.values.get("version") {
            Some(Value::Num(_, number)) => {
                let whole =
                    number.to_u128().map(|n| n.to_string()).or(number.to_i128().map(|n| n.to_string()));
                let found = whole.unwrap_or_else(|| number.to_f64().unwrap_or(f64::NAN).to_string());
                match found == supported.to_string() {
                    true => Ok(()),
                    false => {
                        Err(ConfigError::UnsupportedVersion { origin: self.origin.clone(), found, supported })
                    }
                }
            }
            _ => Ok(()),
        }
    }
}

fn upper_layers(
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Vec<Layer>, ConfigError> {
    let mut ours: Vec<_> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // The environment has no order; errors and merges should.
    ours.sort();
    let mut layers = Vec::new();
    for (name, value) in ours {
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        let path = key.split("__").map(str::to_owned).collect();
        layers.push(setting_layer(Origin::Environment(name), path, &value)?);
    }
    for (key, value) in flags {
        let path = key.trim().split('.').map(str::to_owned).collect();
        layers.push(setting_layer(Origin::Flag, path, value)?);
    }
    Ok(layers)
}

/// One value at one path.
fn setting_layer(origin: Origin, path: Vec<String>, text: &str) -> Result<Layer, ConfigError> {
    if path.iter().any(String::is_empty) {
        return Err(ConfigError::UnknownKey { origin, key: crate::keys::show(&path), nearest: None });
    }
    let mut value = match nesting(text) <= MAX_NESTING {
        true => text.parse().unwrap_or_else(|never| match never {}),
        false => Value::from(text),
    };
    let mut values = Dict::new();
    for (depth, segment) in path.into_iter().enumerate().rev() {
        match depth {
            0 => values = Dict::from([(segment, value.clone())]),
            _ => value = Value::from(Dict::from([(segment, value)])),
        }
    }
    Ok(Layer { origin, values })
}

/// How deep brackets are nested at most, whatever they mean; the parser of values recurses.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn file_layer(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = position(text, at);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        ConfigError::Syntax { file: path.to_owned(), line, column, message }
    })?;
    let origin = Origin::File(path.to_owned());
    let values = from_table(table, &mut Vec::new()).map_err(|fault| fault.at(origin.clone()))?;
    Ok(Layer { origin, values })
}

/// Line and column, from 1, of a byte of a text.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn from_table(table: toml::Table, path: &mut Vec<String>) -> Result<Dict, Fault> {
    let mut dict = Dict::new();
    for (key, value) in table {
        path.push(key.clone());
        dict.insert(key, from_toml(value, path)?);
        path.pop();
    }
    Ok(dict)
}

fn from_toml(value: toml::Value, path: &mut Vec<String>) -> Result<Value, Fault> {
    Ok(match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::from(truth),
        toml::Value::Datetime(date) => {
            return Err(Fault::value(
                crate::keys::show(path),
                format!("date {date}"),
                "a value; no key is a date",
            ));
        }
        toml::Value::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (i, item) in items.into_iter().enumerate() {
                path.push(i.to_string());
                list.push(from_toml(item, path)?);
                path.pop();
            }
            Value::from(list)
        }
        toml::Value::Table(table) => Value::from(from_table(table, path)?),
    })
}

/// The variables of this process whose names start with `NEARMOST__`, for `load`.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    // Not `vars()`, which panics on text that is not Unicode; replaced characters fail as values do.
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// Splits `key=value`, as given to `--set`, for `load`.
///
/// # Errors
/// [`ConfigError::NotASetting`] without `=` or without a key.
pub fn parse_setting(text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(ConfigError::NotASetting { text: text.to_owned() }),
    }
}

/// The file to read: the one that was `given`, which must then be there, or the program's default,
/// which need not be.
pub fn file_to_read(given: Option<&Path>, default: &Path) -> Option<PathBuf> {
    match given {
        Some(given) => Some(given.to_owned()),
        // One that cannot be looked for is read all the same: the error then says what is wrong.
        None => default.try_exists().unwrap_or(true).then(|| default.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_was_asked_for_must_be_there() {
        let (there, missing) = (Path::new("Cargo.toml"), Path::new("no/such/file.toml"));
        assert_eq!(file_to_read(None, missing), None);
        assert_eq!(file_to_read(None, there).as_deref(), Some(there));
        assert_eq!(file_to_read(Some(missing), there).as_deref(), Some(missing));
        // A path through a file is no missing file: it cannot be looked up.
        let through = Path::new("Cargo.toml/config.toml");
        assert_eq!(file_to_read(None, through).as_deref(), Some(through));
    }

    #[test]
    fn settings_are_split_at_the_first_equals_sign() {
        assert_eq!(parse_setting("a.b=c=d").unwrap(), ("a.b".to_owned(), "c=d".to_owned()));
        assert_eq!(parse_setting("a=").unwrap(), ("a".to_owned(), String::new()));
        for text in ["", "a", "=b", " =b"] {
            let message = parse_setting(text).unwrap_err().to_string();
            assert_eq!(message, format!("--set {text}: expected key=value, such as dns.workers=4"));
        }
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(position("é = 1\näö x", 0), (1, 1));
        assert_eq!(position("é = 1\näö x", 12), (2, 4));
        assert_eq!(position("a\nb", 99), (2, 2));
    }

    #[test]
    fn deep_brackets_do_not_overflow_the_stack() {
        let deep = "[".repeat(100_000);
        let layer = setting_layer(Origin::Flag, vec!["a".into()], &deep).unwrap();
        assert_eq!(layer.values["a"].as_str(), Some(deep.as_str()));
    }

    #[test]
    fn only_our_variables_are_taken() {
        let env = [
            ("NEARMOST_LOG", "x"),
            ("nearmost__dns__workers", "x"),
            ("NEARMOST__DNS__WORKERS", "4"),
            ("PATH", "x"),
        ];
        let env = env.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let layers = upper_layers(env, &[]).unwrap();
        let origins: Vec<_> = layers.iter().map(|l| l.origin.clone()).collect();
        assert_eq!(origins, [Origin::Environment("NEARMOST__DNS__WORKERS".into())]);
    }
}
