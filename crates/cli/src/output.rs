//! Standard output, where a reader may go away.

use anyhow::Context as _;
use nearmost_client::text::{is_harmful, printable};
use std::io::{ErrorKind, Write};

/// Prints a text that brings its line ends; whatever else a terminal would obey is shown escaped.
pub fn emit(text: &str) -> anyhow::Result<()> {
    let text = shown(text);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// Prints a text whose parts are escaped already, with colours.
pub fn emit_painted(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// Says something on standard error. Where that is closed nobody is left to be told, and the work goes on.
pub fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Says on standard error what happened beside the answer: a line, or an object in JSON.
pub fn notice(json: bool, message: &str) {
    complain(&match json {
        true => escaped(&format!("{}\n", serde_json::json!({ "notice": message }))),
        false => shown(&format!("{message}\n")),
    });
}

/// What was printed for somebody who went away is printed well enough: the exit code still tells the verdict.
pub fn unless_gone(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(e) if is_broken_pipe(&e) => Ok(()),
        printed => printed,
    }
}

/// Prints a value as JSON on one line: one of many.
pub fn emit_json_line(value: &serde_json::Value) -> anyhow::Result<()> {
    emit(&escaped(&format!("{value}\n")))
}

/// Columns of the terminal; 80 where there is none.
pub fn columns() -> usize {
    console::Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns).max(40))
}

/// Rows of the terminal; 24 where there is none.
pub fn rows() -> usize {
    console::Term::stdout().size_checked().map_or(24, |(rows, _)| usize::from(rows).max(12))
}

/// The text with what a terminal would obey escaped, but for its line ends.
pub fn shown(text: &str) -> String {
    text.split_inclusive('\n').map(line).collect()
}

/// Prints a value as JSON.
pub fn emit_json(value: &serde_json::Value) -> anyhow::Result<()> {
    emit(&escaped(&format!("{value:#}\n")))
}

/// JSON whose strings hold nothing that a terminal would obey.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c == '\n' || !is_harmful(c) {
            true => out.push(c),
            // Outside ASCII only strings have them, and none is beyond the basic plane.
            false => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out
}

fn line(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => format!("{}\n", printable(line)),
        None => printable(line),
    }
}

/// Whether the reader of standard output went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
        && error.to_string() == "standard output"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "url": "a\u{202e}b\u{9b}c\u{7f}\n" });
        let shown = escaped(&format!("{value:#}"));
        assert!(!shown.chars().any(|c| c != '\n' && is_harmful(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn lines_keep_their_ends_and_nothing_else() {
        assert_eq!(line("a\u{1b}[31m\n"), "a\\u{1b}[31m\n");
    }
}
