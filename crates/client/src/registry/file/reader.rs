//! Reads the fields of a TOML table strictly: a wrong type says what was found and expected, an
//! unknown key names the nearest right one, and all mistakes are gathered.

use super::error::{FileError, FileErrors, Lines, Position};
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most mistakes gathered; more would only scroll the first ones away.
pub(super) const MAX_ERRORS: usize = 50;

/// A value with its place in bytes.
pub(super) type At<T> = (T, Range<usize>);

/// A file under way.
pub(super) struct Source<'a> {
    file: &'a str,
    lines: Lines<'a>,
    errors: Vec<FileError>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Source<'a> {
        Source { file, lines: Lines::of(text), errors: Vec::new() }
    }

    pub(super) fn position(&self, byte: usize) -> Position {
        self.lines.position(byte)
    }

    pub(super) fn fail(&mut self, byte: usize, entry: Option<&str>, problem: String) {
        if self.errors.len() < MAX_ERRORS {
            let at = self.position(byte);
            self.errors.push(FileError { file: self.file.into(), at, entry: entry.map(Into::into), problem });
        }
    }

    pub(super) fn finish<T>(mut self, value: T) -> Result<T, FileErrors> {
        self.errors.sort_by_key(|e| e.at);
        if self.errors.is_empty() { Ok(value) } else { Err(FileErrors(self.errors)) }
    }
}

/// The fields of one table; each is asked for once, then [`Fields::finish`] names the rest.
pub(super) struct Fields<'s, 'a, 't> {
    pub(super) source: &'s mut Source<'a>,
    /// The entry, for messages.
    pub(super) entry: Option<String>,
    /// Where the table begins.
    pub(super) start: usize,
    /// Put before keys in messages: `probe.`.
    prefix: &'static str,
    left: Vec<(&'t str, usize, &'t Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

impl<'s, 'a, 't> Fields<'s, 'a, 't> {
    pub(super) fn new(
        source: &'s mut Source<'a>,
        entry: Option<String>,
        prefix: &'static str,
        (table, span): At<&'t DeTable<'t>>,
    ) -> Self {
        let left = table.iter().map(|(k, v)| (k.get_ref().as_ref(), k.span().start, v)).collect();
        Fields { source, entry, start: span.start, prefix, left, known: Vec::new() }
    }

    pub(super) fn fail(&mut self, byte: usize, problem: String) {
        let entry = self.entry.clone();
        self.source.fail(byte, entry.as_deref(), problem);
    }

    /// A mistake in the value of `key`.
    pub(super) fn fail_value(&mut self, key: &str, span: &Range<usize>, problem: impl std::fmt::Display) {
        self.fail(span.start, format!("{}{key}: {problem}", self.prefix));
    }

    /// Whether `key` is there and was not asked for yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.iter().any(|(k, _, _)| *k == key)
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        let at = self.left.iter().position(|(k, _, _)| *k == key)?;
        Some(self.left.swap_remove(at).2)
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = shown(value.get_ref());
        self.fail_value(key, &value.span(), format!("found {found}, expected {expected}"));
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<At<&'t str>> {
        let value = self.take(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((text, value.span())),
            None => {
                self.wrong(key, value, "a string");
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn required(&mut self, key: &'static str) -> Option<At<&'t str>> {
        if !self.has(key) {
            self.known.push(key);
            let start = self.start;
            self.fail(start, format!("{}{key} is missing", self.prefix));
            return None;
        }
        self.string(key)
    }

    pub(super) fn int<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<T>> {
        let value = self.take(key)?;
        match whole(value.get_ref()).filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok()) {
            Some(n) => Some((n, value.span())),
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, value, &expected);
                None
            }
        }
    }

    /// A number; whole ones are numbers too.
    pub(super) fn number<T: std::str::FromStr>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        let text = match value.get_ref() {
            DeValue::Float(f) if !f.as_str().contains(['n', 'N']) => Some(f.as_str()),
            DeValue::Integer(i) if i.radix() == 10 => Some(i.as_str()),
            _ => None,
        };
        let number = text.and_then(|t| t.parse().ok());
        if number.is_none() {
            self.wrong(key, value, "a number");
        }
        number
    }

    pub(super) fn bool(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(key, value, "true or false");
        }
        found
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<At<&'t str>>> {
        let value = self.take(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of strings, e.g. [\"a\", \"b\"]");
            return None;
        };
        let mut out = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => out.push((text, item.span())),
                None => self.wrong(key, item, "a string"),
            }
        }
        Some(out)
    }

    /// A list of two whole numbers.
    pub(super) fn pair(&mut self, key: &'static str) -> Option<(u16, u16)> {
        let value = self.take(key)?;
        let items =
            value.get_ref().as_array().map(|a| a.iter().map(|i| whole(i.get_ref())).collect::<Vec<_>>());
        if let Some([Some(a), Some(b)]) = items.as_deref()
            && let (Ok(a), Ok(b)) = (u16::try_from(*a), u16::try_from(*b))
        {
            return Some((a, b));
        }
        self.wrong(key, value, "two whole numbers, e.g. [200, 399]");
        None
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<At<&'t DeTable<'t>>> {
        let value = self.take(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(key, value, "a table");
        }
        table.map(|t| (t, value.span()))
    }

    pub(super) fn tables(&mut self, key: &'static str) -> Vec<At<&'t DeTable<'t>>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let expected = format!("[[{}{key}]] entries", self.prefix);
            self.wrong(key, value, &expected);
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => out.push((table, item.span())),
                None => self.wrong(key, item, "a table"),
            }
        }
        out
    }

    /// The value of `key` whatever its type.
    pub(super) fn any(&mut self, key: &'static str) -> Option<At<&'t DeValue<'t>>> {
        self.take(key).map(|v| (v.get_ref(), v.span()))
    }

    /// Names the keys nobody asked for.
    pub(super) fn finish(mut self) {
        for (key, start, _) in std::mem::take(&mut self.left) {
            let near = self.known.iter().map(|k| (strsim::damerau_levenshtein(key, k), *k)).min();
            let hint = match near {
                Some((distance, near)) if distance <= near.len().div_ceil(2) => {
                    format!("; did you mean {near:?}?")
                }
                _ => {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    format!("; known here: {}", known.join(", "))
                }
            };
            self.fail(start, format!("unknown key {:?}{hint}", format!("{}{key}", self.prefix)));
        }
    }
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A found value in a message.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) => format!("{:?}", s.chars().take(80).collect::<String>()),
        DeValue::Integer(i) => i.to_string(),
        DeValue::Float(x) => x.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {d}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
