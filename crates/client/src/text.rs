//! Text of others for a terminal: names, URLs and notes come from agents and people, and a terminal
//! obeys control characters.

/// The text with control characters, line ends included, and those that turn the direction of writing
/// or hide themselves (Unicode's `Bidi_Control`, line separators, the byte order mark) as `\u{…}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out
}

/// Whether a terminal does something else with it than show it.
pub fn is_harmful(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(printable("São → é"), "São → é");
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\u{a}c\\u{9b}");
        assert_eq!(printable("x\u{202e}y\u{2066}\u{feff}"), "x\\u{202e}y\\u{2066}\\u{feff}");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(is_harmful));
        }
    }
}
