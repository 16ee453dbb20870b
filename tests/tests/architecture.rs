//! The arrows of the house: who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Folder of each of our crates, and which of our crates it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("crates/core", &[]),
    ("crates/replica", &[]),
    ("crates/dns", &["nearmost-core"]),
    ("crates/probe", &["nearmost-core"]),
    ("config", &["nearmost-core"]),
    ("crates/wire", &["nearmost-core", "nearmost-replica"]),
    ("crates/service", &["nearmost-config"]),
    ("crates/xdp", &[]),
    ("crates/client", &["nearmost-wire", "nearmost-core", "nearmost-replica"]),
    ("crates/cli", &["nearmost-client"]),
    (
        "broker",
        &[
            "nearmost-core",
            "nearmost-dns",
            "nearmost-replica",
            "nearmost-wire",
            "nearmost-probe",
            "nearmost-config",
            "nearmost-service",
            "nearmost-xdp",
        ],
    ),
    (
        "node-agent",
        &["nearmost-core", "nearmost-wire", "nearmost-probe", "nearmost-config", "nearmost-service"],
    ),
    ("crates/demo", &["nearmost-broker", "nearmost-agent", "nearmost-client", "nearmost-wire"]),
    (
        "crates/bench",
        &[
            "nearmost-broker",
            "nearmost-agent",
            "nearmost-client",
            "nearmost-config",
            "nearmost-core",
            "nearmost-dns",
            "nearmost-replica",
            "nearmost-sim",
            "nearmost-wire",
        ],
    ),
    ("crates/xtask", &[]),
    (
        "tests",
        &[
            "nearmost-core",
            "nearmost-wire",
            "nearmost-client",
            "nearmost-config",
            "nearmost-replica",
            "nearmost-lab",
        ],
    ),
    ("tests/sim", &["nearmost-core", "nearmost-replica", "nearmost-wire"]),
    ("tests/lab", &["nearmost-core"]),
    (
        "fuzz",
        &[
            "nearmost-broker",
            "nearmost-agent",
            "nearmost-client",
            "nearmost-config",
            "nearmost-core",
            "nearmost-dns",
            "nearmost-probe",
            "nearmost-replica",
            "nearmost-wire",
            "nearmost-xdp",
        ],
    ),
];

/// Crates of pure logic know none of these.
const NO_IO: [&str; 3] = ["crates/core", "crates/dns", "crates/replica"];
const IO: [&str; 12] = [
    "tokio",
    "tokio-util",
    "quinn",
    "axum",
    "hyper",
    "hyper-util",
    "socket2",
    "libc",
    "rustix",
    "notify",
    "redb",
    "maxminddb",
];

fn manifest(folder: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().expect("a manifest")
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let table = manifest.get("dependencies").and_then(|d| d.as_table());
    table.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_arrow_is_allowed() {
    for (folder, allowed) in ARROWS {
        let own = dependencies(&manifest(folder));
        for dependency in own.iter().filter(|d| d.starts_with("nearmost-")) {
            assert!(allowed.contains(&dependency.as_str()), "{folder} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_crate_is_in_the_table() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let members: BTreeSet<&str> = members.iter().filter_map(|m| m.as_str()).collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members, known);
}

#[test]
fn logic_does_no_io() {
    for folder in NO_IO {
        let own = dependencies(&manifest(folder));
        let io: Vec<_> = own.iter().filter(|d| IO.contains(&d.as_str())).collect();
        assert!(io.is_empty(), "{folder} depends on {io:?}");
    }
}

/// What the sources themselves name, beyond what their manifests allow: std has clocks and sockets.
#[test]
fn logic_names_no_clock_socket_or_file() {
    const BANNED: [&str; 6] =
        ["std::net::Udp", "std::net::Tcp", "std::fs", "Instant::now", "SystemTime", "std::thread"];
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for folder in NO_IO {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src");
        sources(&root, &mut |path, text| {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let hits: Vec<_> = BANNED.into_iter().filter(|b| code.contains(b)).collect();
            if !hits.is_empty() {
                found.insert(path.display().to_string(), hits);
            }
        });
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn sources(dir: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            visit(&path, &std::fs::read_to_string(&path).expect("a source"));
        }
    }
}
