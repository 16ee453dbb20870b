//! Every input that is kept goes through its decoder, with any toolchain and in seconds.

use nearmost_fuzz::{TARGETS, Target, seeds};
use std::collections::BTreeMap;
use std::path::Path;

/// Most bytes of all that is kept.
const MOST: u64 = 200_000;

/// The inputs of a target, by their names.
fn inputs(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = target.corpus();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(&path).expect("an input"))
    };
    entries.map(read).collect()
}

#[test]
fn every_decoder_keeps_its_promises_for_what_is_kept() {
    for target in TARGETS {
        for (name, bytes) in inputs(&target) {
            let run = std::panic::catch_unwind(|| target.run(&bytes));
            assert!(run.is_ok(), "corpus/{}/{name}", target.name);
        }
    }
}

#[test]
fn the_corpus_holds_what_encoders_make_now() {
    let mut made: BTreeMap<&str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for seed in seeds::all() {
        made.entry(seed.target).or_default().insert(format!("seed-{}", seed.name), seed.bytes);
    }
    for target in TARGETS {
        let mut kept = inputs(&target);
        kept.retain(|name, _| name.starts_with("seed-"));
        let made = made.remove(target.name).unwrap_or_default();
        assert!(!made.is_empty(), "{} has no seeds", target.name);
        let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&kept), names(&made), "{}: cargo run -p nearmost-fuzz --bin seeds", target.name);
        for (name, bytes) in made {
            assert!(kept[&name] == bytes, "{}/{name}: cargo run -p nearmost-fuzz --bin seeds", target.name);
        }
    }
    assert!(made.is_empty(), "seeds of no target: {:?}", made.keys());
}

#[test]
fn the_corpus_is_small_and_has_no_other_folders() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut total = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let target = Target::named(&name).unwrap_or_else(|| panic!("corpus/{name} is of no target"));
        total += inputs(&target).values().map(|bytes| bytes.len() as u64).sum::<u64>();
    }
    assert!(total <= MOST, "{total} bytes, at most {MOST}");
}

/// libFuzzer drops what it finds where it is started: it is kept in the corpus or not at all.
#[test]
fn no_finding_lies_beside_the_corpus() {
    const KNOWN: [&str; 8] =
        ["Cargo.toml", "README.md", "artifacts", "corpus", "found", "src", "target", "tests"];
    // Of this machine's own, which are not kept.
    const FOUND: [&str; 5] = ["crash-", "leak-", "oom-", "slow-unit-", "timeout-"];
    let listed = std::process::Command::new("git")
        .args(["ls-files", "-z", "."])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    // Sources that were packed up are not a checkout.
    let Ok(listed) = listed else { return };
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let first = name.split('/').next().unwrap_or_default();
        assert!(KNOWN.contains(&first), "fuzz/{name} does not belong there");
        let file = name.rsplit('/').next().unwrap_or_default();
        assert!(!FOUND.iter().any(|found| file.starts_with(found)), "fuzz/{name}: name it by what it is");
    }
}

#[test]
fn every_target_is_described() {
    let readme = include_str!("../README.md");
    for target in TARGETS {
        assert!(readme.contains(&format!("| `{}` |", target.name)), "{} is not in README.md", target.name);
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, TARGETS.len(), "README.md describes targets that are not there");
}
