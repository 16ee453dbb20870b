//! What is wrong with a registry file, and where.

use std::fmt;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Position {
    /// The place of a byte of `text`.
    pub(super) fn of(text: &str, byte: usize) -> Position {
        let end = (0..=byte.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}:{}: {}{problem}", at.line, at.column, entry.as_ref().map(|e| format!("{e}: ")).unwrap_or_default())]
pub struct FileError {
    /// The file.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// The entry, e.g. `mirror play.example.com/lon`; `None` outside entries.
    pub entry: Option<String>,
    /// What was found and what was expected.
    pub problem: String,
}

/// All mistakes of a file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}
