//! Tables of text.

use crate::output::emit;
use nearmost_client::text::printable;

/// Rows under headings; the last column may be of any length.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Table {
        Table { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; what would break out of its cell is shown escaped.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|c| printable(c)).collect());
    }

    /// The text: columns aligned, two spaces between them.
    pub fn render(&self) -> String {
        let headings: Vec<String> = self.headings.iter().map(|h| (*h).to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width =
            |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let padded =
                cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect::<Vec<_>>().join("  ");
            format!("{}\n", padded.trim_end())
        };
        lines.into_iter().map(line).collect()
    }

    /// Prints it, or a sentence where there is nothing.
    pub fn print(&self, when_empty: &str) -> anyhow::Result<()> {
        if self.rows.is_empty() { emit(&format!("{when_empty}\n")) } else { emit(&self.render()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec!["São".into(), "x".into()]);
        table.row(vec!["y".into(), String::new()]);
        assert_eq!(table.render(), "a    long\nSão  x\ny\n");
        table.row(vec!["z\nforged".into(), "\u{1b}]0;x".into()]);
        assert!(table.render().ends_with("\nz\\u{a}forged  \\u{1b}]0;x\n"), "{}", table.render());
    }
}
