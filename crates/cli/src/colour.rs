//! Colours: only on a terminal, and never the only bearer of what is said.
//!
//! `--color` decides; else `CLICOLOR_FORCE` (anything but `0`) switches them on, `NO_COLOR` (not empty),
//! `CLICOLOR=0` and `TERM=dumb` switch them off, and what remains is whether standard output is a
//! terminal.

use clap::ValueEnum;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether words are coloured; set once, before anything is printed.
static ON: AtomicBool = AtomicBool::new(false);

/// When words are coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What a word means for whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Doubtful,
    /// Wrong.
    Bad,
    /// As people ordered it.
    Ordered,
    /// A heading.
    Heading,
}

/// Decides for the whole run. Nothing is coloured in JSON.
pub fn decide(when: When, json: bool) {
    let env = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
    ON.store(!json && wanted(when, env, std::io::stdout().is_terminal()), Ordering::Relaxed);
}

fn wanted(when: When, env: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    let set = |name: &str| env(name).filter(|v| !v.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("CLICOLOR_FORCE").is_some_and(|v| v != "0") => true,
        When::Auto if set("NO_COLOR").is_some() => false,
        When::Auto => {
            terminal && env("CLICOLOR").as_deref() != Some("0") && env("TERM").as_deref() != Some("dumb")
        }
    }
}

/// A text, which holds nothing that a terminal obeys, in its tone's colour.
pub fn paint(tone: Tone, text: &str) -> String {
    paint_if(ON.load(Ordering::Relaxed), tone, text)
}

fn paint_if(on: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        _ if !on || text.is_empty() => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Doubtful => "33",
        Tone::Bad => "1;31",
        Tone::Ordered => "36",
        Tone::Heading => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The tone of a state's word, as tables have it: `up`, `down 3m`, `suspect (stale)`.
pub fn of_state(state: &str) -> Tone {
    if state.contains("(stale)") {
        return Tone::Doubtful;
    }
    match state.split([' ', ',', ':']).next().unwrap_or_default() {
        "up" | "ok" | "connected" | "attached" | "yes" | "active" => Tone::Good,
        "down" | "fail" | "no" | "HANGS" => Tone::Bad,
        "suspect" | "unknown" | "unattended" | "warming" | "warn" | "dialling" | "connecting" => {
            Tone::Doubtful
        }
        "draining" | "drained" | "revoked" => Tone::Ordered,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        let decide = |when, vars: &[(&str, &str)], terminal| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            wanted(when, env, terminal)
        };
        for (when, vars, terminal, expected) in [
            (When::Auto, &[][..], true, true),
            (When::Auto, &[], false, false),
            (When::Auto, &[("NO_COLOR", "1")], true, false),
            (When::Auto, &[("NO_COLOR", "")], true, true),
            (When::Auto, &[("TERM", "dumb")], true, false),
            (When::Auto, &[("CLICOLOR", "0")], true, false),
            (When::Auto, &[("CLICOLOR_FORCE", "1")], false, true),
            (When::Auto, &[("CLICOLOR_FORCE", "0")], false, false),
            (When::Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, true),
            (When::Always, &[("NO_COLOR", "1")], false, true),
            (When::Never, &[("CLICOLOR_FORCE", "1")], true, false),
        ] {
            assert_eq!(decide(when, vars, terminal), expected, "{when:?} {vars:?} {terminal}");
        }
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(paint_if(true, Tone::Bad, "down"), "\x1b[1;31mdown\x1b[0m");
        assert_eq!(paint_if(false, Tone::Bad, "down"), "down");
        assert_eq!(paint_if(true, Tone::Plain, "x"), "x");
        assert_eq!(
            [of_state("down 3m"), of_state("up (stale)"), of_state("up 3h")],
            [Tone::Bad, Tone::Doubtful, Tone::Good]
        );
    }
}
