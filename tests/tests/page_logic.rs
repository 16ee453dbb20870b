//! The live page's logic that needs no browser, tested by node: `tests/page/logic.test.js`.

use nearmost_wire::api::reason::{REASONS, WANTED};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_pages_logic_holds() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a directory");
    let copy = |from: &Path| {
        let name = from.file_name().expect("a file");
        std::fs::copy(from, dir.path().join(name)).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    };
    for entry in std::fs::read_dir(here.join("../broker/src/page/assets")).expect("assets") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "js") {
            copy(&path);
        }
    }
    copy(&here.join("page/logic.test.js"));
    std::fs::copy(here.join("../data/natural-earth/countries-110m.json"), dir.path().join("world.json"))
        .expect("the map");
    let reasons: BTreeMap<&str, &str> = REASONS.into_iter().collect();
    let words = serde_json::json!({ "reasons": reasons, "wanted": WANTED });
    std::fs::write(dir.path().join("words.json"), words.to_string()).expect("write");
    // What a browser takes for a module because of how it is loaded, node does because of this.
    std::fs::write(dir.path().join("package.json"), r#"{"type": "module"}"#).expect("write");
    let node = Command::new("node")
        .args(["--test", "logic.test.js"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("node; `cargo xtask test` installs it");
    let said = String::from_utf8_lossy(&node.stdout);
    assert!(node.status.success(), "{said}{}", String::from_utf8_lossy(&node.stderr));
    // Nothing found is no success.
    let passed = said.lines().find_map(|line| line.split("pass ").nth(1)?.trim().parse::<u32>().ok());
    assert!(passed.is_some_and(|n| n >= 20), "{said}");
}
