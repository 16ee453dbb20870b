//! Tables of text.

use crate::colour::{Tone, of_state, paint};
use crate::output::emit_painted;
use nearmost_client::text::printable;

/// Columns whose words are states.
const STATES: [&str; 3] = ["STATE", "SESSION", "NEW USERS"];

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

    /// The text without colours: columns aligned, two spaces between them.
    pub fn render(&self) -> String {
        self.lines(usize::MAX, |_, text| text.to_owned())
    }

    /// The text with the colours of states, its lines cut at `width` characters.
    pub fn painted(&self, width: usize) -> String {
        self.lines(width, paint)
    }

    fn lines(&self, most: usize, paint: impl Fn(Tone, &str) -> String) -> String {
        let headings: Vec<String> = self.headings.iter().map(|h| (*h).to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width =
            |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let line = |(at, cells): (usize, &&Vec<String>)| {
            let last = cells.iter().rposition(|c| !c.is_empty()).unwrap_or(0);
            let (mut out, mut left) = (String::new(), most);
            for (i, cell) in cells.iter().enumerate().take(last + 1) {
                let gap = if i == 0 { 0 } else { 2 };
                let cell = cut(cell, left.saturating_sub(gap));
                let tone = match (at, self.headings.get(i)) {
                    (0, _) => Tone::Heading,
                    (_, Some(heading)) if STATES.contains(heading) => of_state(cell.as_str()),
                    _ => Tone::Plain,
                };
                out.push_str(&"  "[..gap.min(left)]);
                out.push_str(&paint(tone, &cell));
                let used = cell.chars().count();
                let pad = if i < last { widths[i].saturating_sub(used) } else { 0 };
                out.push_str(&" ".repeat(pad.min(left.saturating_sub(gap + used))));
                left = left.saturating_sub(gap + used + pad);
            }
            format!("{}\n", out.trim_end())
        };
        lines.iter().enumerate().map(line).collect()
    }

    /// Prints it, or a sentence where there is nothing.
    pub fn print(&self, when_empty: &str) -> anyhow::Result<()> {
        match self.rows.is_empty() {
            true => emit_painted(&format!("{when_empty}\n")),
            false => emit_painted(&self.painted(usize::MAX)),
        }
    }
}

/// The text with at most so many characters, with `…` where something is missing.
pub fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        false => text.to_owned(),
        true => text.chars().take(most.saturating_sub(1)).chain((most > 0).then_some('…')).collect(),
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

    #[test]
    fn lines_are_cut_where_a_terminal_ends() {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        table.row(vec!["lon".into(), "down".into(), "its agent is silent".into()]);
        assert_eq!(table.painted(20), "NAME  STATE  WHY\nlon   down   its ag…\n");
        assert!(table.painted(5).lines().all(|l| l.chars().count() <= 5), "{}", table.painted(5));
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3), cut("ab", 0)),
            ("abc".into(), "ab…".into(), String::new())
        );
        let coloured = table.lines(80, |tone, text| format!("<{tone:?}>{text}"));
        assert!(coloured.contains("<Bad>down   <Plain>its"), "{coloured}");
    }
}
