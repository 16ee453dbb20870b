//! What is made from the command line's own description: completions of shells, manual pages, and the
//! table of exit codes.

use crate::args::Args;
use crate::failure::{Kind, table};
use crate::output::{emit, emit_json};
use anyhow::Context as _;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;
use std::path::Path;

/// Prints completions for a shell.
pub fn completions(shell: Shell, as_json: bool) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "nearmost", &mut script);
    let script = String::from_utf8(script).context("completions")?;
    match as_json {
        true => emit_json(&json!({ "shell": shell.to_string(), "script": script })),
        // What the shell runs goes out as it is: it is ours, and tabs belong to it.
        false => crate::output::emit_painted(&script),
    }
}

/// Writes a manual page for each command into a folder.
pub fn man(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
    // Of this program's own pages; others may be in the folder.
    clap_mangen::generate_to(Args::command(), folder)
        .with_context(|| format!("folder {}", folder.display()))?;
    let own = |name: &String| name.starts_with("nearmost") && name.ends_with(".1");
    let files = std::fs::read_dir(folder).with_context(|| format!("folder {}", folder.display()))?;
    let mut pages: Vec<String> =
        files.flatten().map(|f| f.file_name().to_string_lossy().into_owned()).filter(own).collect();
    pages.sort();
    match as_json {
        true => emit_json(&json!({ "folder": folder.display().to_string(), "pages": pages })),
        false => {
            emit(&format!("{} pages are in {}; read one with `man -l FILE`\n", pages.len(), folder.display()))
        }
    }
}

/// Prints how commands end.
pub fn exit_codes(as_json: bool) -> anyhow::Result<()> {
    match as_json {
        true => {
            let codes = Kind::ALL.map(|kind| json!({ "exit_code": kind.code(), "kind": kind.name() }));
            let ok = json!({ "exit_code": 0, "kind": "ok" });
            emit_json(&std::iter::once(ok).chain(codes).collect())
        }
        false => emit(&format!("CODE   KIND          MEANING\n{}", table())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path(), true).unwrap();
        for page in
            ["nearmost.1", "nearmost-status.1", "nearmost-domain-add.1", "nearmost-geo-override-add.1"]
        {
            let text =
                std::fs::read_to_string(dir.path().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
            assert!(text.contains(".SH NAME"), "{page}: {text}");
        }
    }

    #[test]
    fn the_table_of_exit_codes_is_in_the_documentation() {
        let docs = include_str!("../../../docs/commands.md");
        for kind in Kind::ALL {
            let row = format!("| {} | `{}` |", kind.code(), kind.name());
            assert!(docs.contains(&row), "docs/commands.md lacks {row}");
        }
    }
}
