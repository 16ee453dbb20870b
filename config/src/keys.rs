//! Which keys exist, asked of the serde types themselves, and which of them a wrong one meant.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// The path of every key that `T` reads, tables before what they hold; list positions left out.
pub(crate) fn keys_of<T: DeserializeOwned>() -> Vec<Vec<&'static str>> {
    let mut all = Vec::new();
    walk::<T>(&mut Vec::new(), &mut all);
    all
}

fn walk<T: DeserializeOwned>(path: &mut Vec<&'static str>, all: &mut Vec<Vec<&'static str>>) {
    let mut fields: &'static [&'static str] = &[];
    // The tracer ends every attempt with an error; what it saw is in `fields`.
    let _ = T::deserialize(Tracer { path, fields: &mut fields });
    for field in fields {
        path.push(field);
        all.push(path.clone());
        walk::<T>(path, all);
        path.pop();
    }
}

/// A deserializer that goes down one path and notes the fields of the structure at its end.
struct Tracer<'a> {
    path: &'a [&'static str],
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            None => {
                *self.fields = fields;
                Err(Stop)
            }
            Some((first, rest)) => {
                visitor.visit_map(OneKey(Some(first), Tracer { path: rest, fields: self.fields }))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct tuple tuple_struct map enum identifier ignored_any
    }
}

struct One<'a>(Option<Tracer<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.0.take().map(|tracer| seed.deserialize(tracer)).transpose()
    }
}

struct OneKey<'a>(Option<&'static str>, Tracer<'a>);

impl<'de> MapAccess<'de> for OneKey<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let key: Option<StrDeserializer<'_, Stop>> = self.0.take().map(IntoDeserializer::into_deserializer);
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(Tracer { path: self.1.path, fields: self.1.fields })
    }
}

/// The tracer has seen what it came for.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stop")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Stop
    }
}

/// A path as people write it: `geo.overrides[0].prefix`; odd keys are quoted.
pub(crate) fn show(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            text.push_str(&format!("[{segment}]"));
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        match !segment.is_empty() && segment.chars().all(plain) {
            true => text.push_str(segment),
            false => text.push_str(&format!("{segment:?}")),
        }
    }
    text
}

/// The existing key that an unknown one most probably meant: a sibling spelled alike, else the same
/// word elsewhere, else the same words with other separators.
pub(crate) fn nearest(unknown: &[String], siblings: &[&str], all: &[Vec<&'static str>]) -> Option<String> {
    let (last, parents) = unknown.split_last()?;
    let last = last.to_ascii_lowercase().replace('-', "_");
    let limit = (last.chars().count() / 3).max(1);
    let unit_forgotten = |key: &str| matches!(key.strip_prefix(last.as_str()), Some("_ms" | "_s"));
    let distance = |key: &str| if unit_forgotten(key) { 1 } else { strsim::damerau_levenshtein(&last, key) };
    let alike = siblings
        .iter()
        .map(|key| (distance(key), *key))
        .filter(|(distance, key)| *distance <= limit && *distance < key.len())
        .min();
    if let Some((_, key)) = alike {
        let mut path = parents.to_vec();
        path.push(key.to_owned());
        return Some(show(&path));
    }
    let elsewhere =
        all.iter().filter(|path| path.last().is_some_and(|k| *k == last)).min_by_key(|path| path.len());
    if let Some(path) = elsewhere {
        return Some(path.join("."));
    }
    let flat = unknown.join("_").to_ascii_lowercase().replace('-', "_");
    all.iter()
        .map(|path| (strsim::damerau_levenshtein(&flat, &path.join("_")), path))
        .filter(|(distance, _)| *distance <= 2 && *distance * 3 < flat.len())
        .min()
        .map(|(_, path)| path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn keys_come_from_the_types() {
        let keys: Vec<String> =
            keys_of::<crate::broker::spec::BrokerSpec>().iter().map(|k| k.join(".")).collect();
        for key in [
            "version",
            "dns",
            "dns.tcp.max_per_source",
            "http.tokens",
            "http.tokens.sha256",
            "geo.overrides.asn",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} is not among {keys:?}");
        }
        assert!(!keys.iter().any(|k| k.starts_with("dns.listen.")));
    }

    #[test]
    fn paths_are_shown_as_people_write_them() {
        assert_eq!(show(&path("geo.overrides.0.prefix")), "geo.overrides[0].prefix");
        assert_eq!(show(&["dns".into(), "a b".into()]), "dns.\"a b\"");
        assert_eq!(show(&["dns".into(), "".into()]), "dns.\"\"");
        assert_eq!(show(&["7".into()]), "7");
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
        let all = vec![
            vec!["dns"],
            vec!["dns", "workers"],
            vec!["dns", "listen"],
            vec!["http"],
            vec!["http", "max_connections"],
        ];
        let near = |unknown: &str, siblings: &[&str]| nearest(&path(unknown), siblings, &all);
        assert_eq!(near("dns.lisen", &["workers", "listen"]).as_deref(), Some("dns.listen"));
        assert_eq!(near("dns.Listen", &["workers", "listen"]).as_deref(), Some("dns.listen"));
        assert_eq!(
            near("http.max-connections", &["max_connections"]).as_deref(),
            Some("http.max_connections")
        );
        assert_eq!(near("workers", &["dns", "http"]).as_deref(), Some("dns.workers"));
        assert_eq!(near("dns_workers", &["dns", "http"]).as_deref(), Some("dns.workers"));
        assert_eq!(near("x.0.lisen", &["listen"]).as_deref(), Some("x[0].listen"));
        assert_eq!(near("colour", &["dns", "http"]), None);
        assert_eq!(near("q", &["a", "b"]), None);
    }
}
