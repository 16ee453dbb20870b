//! The units of systemd and the files for containers are right, as far as that is seen without running them.

use nearmost_tests::process::binary;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Highest exposure that `systemd-analyze security` may find, in tenths: what is left is the network, which is
/// what a broker is for.
const EXPOSURE: &str = "20";

const UNITS: [&str; 2] = ["nearmost-broker", "nearmost-agent"];

fn docs(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(docs(path)).expect("a file of docs")
}

/// The units with the binaries that were built in the place of installed ones.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |unit: &str| {
        let built = binary(unit).display().to_string();
        let text = read(&format!("systemd/{unit}.service"));
        let installed = format!("/usr/local/bin/{unit}");
        assert!(text.contains(&format!("ExecStart={installed} run --config /etc/nearmost/")), "{unit}");
        let path = dir.path().join(format!("{unit}.service"));
        std::fs::write(&path, text.replace(&installed, &built)).expect("write the unit");
        path
    };
    let paths = UNITS.map(write).to_vec();
    (dir, paths)
}

fn analyze(args: &[&str], units: &[PathBuf]) -> Output {
    let output = Command::new("systemd-analyze").args(args).args(units).output();
    output.expect("systemd-analyze; `cargo xtask test` installs it")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let (_dir, units) = units();
    let output = analyze(&["verify", "--man=no"], &units);
    assert!(output.status.success(), "{}", said(&output));
    // Keys that it does not know are only warned of; of other units of the machine nothing is asked here.
    let said = said(&output);
    let ours = said.lines().filter(|line| line.contains("nearmost"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
}

/// The drop-in for AF_XDP adds to what the unit allows, and is what the documentation says.
#[test]
fn the_drop_in_for_xdp_adds_to_the_unit() {
    let (drop_in, told) = (read("systemd/nearmost-broker-xdp.conf"), read("running.md"));
    let lines: Vec<_> = drop_in.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(told.contains(&lines.join("\n")), "docs/running.md says otherwise than:\n{drop_in}");
    let unit = read("systemd/nearmost-broker.service");
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let words = line.unwrap_or_else(|| panic!("no {key}")).split(' ');
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    for key in ["AmbientCapabilities", "CapabilityBoundingSet", "RestrictAddressFamilies"] {
        let (before, after) = (value(&unit, key), value(&drop_in, key));
        assert!(before.iter().all(|word| after.contains(word)), "{key}: {before:?} {after:?}");
    }
}

#[test]
fn the_units_expose_little() {
    let (_dir, units) = units();
    for unit in &units {
        let args = ["security", "--no-pager", "--offline=true", &*format!("--threshold={EXPOSURE}")];
        let output = analyze(&args, std::slice::from_ref(unit));
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("Overall exposure level"), "{}", said(&output));
    }
    // What users of port 53 and services are promised in so many words.
    let broker = read("systemd/nearmost-broker.service");
    for line in
        ["NoNewPrivileges=yes", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "WatchdogSec=30", "Type=notify"]
    {
        assert!(broker.lines().any(|l| l == line), "{line}");
    }
    let agent = read("systemd/nearmost-agent.service");
    for line in ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "WatchdogSec=10", "Type=notify"] {
        assert!(agent.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn users_and_folders_are_written_as_systemd_reads_them() {
    let users = read("systemd/nearmost.sysusers.conf");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(dir.path().join("etc")).expect("a folder");
    let root = format!("--root={}", dir.path().display());
    let path = dir.path().join("nearmost.conf");
    std::fs::write(&path, &users).expect("write");
    // Into a folder of the test's own: nothing of this machine changes.
    let output = Command::new("systemd-sysusers").arg(root).arg(&path).output().expect("systemd-sysusers");
    assert!(output.status.success(), "{}", said(&output));
    let passwd = std::fs::read_to_string(dir.path().join("etc/passwd")).expect("users were made");
    for (unit, user) in [("nearmost-broker", "nearmost"), ("nearmost-agent", "nearmost-agent")] {
        assert!(passwd.contains(&format!("{user}:x:")), "{passwd}");
        let text = read(&format!("systemd/{unit}.service"));
        assert!(text.contains(&format!("\nUser={user}\n")), "{unit} runs as {user}");
    }
    for line in read("systemd/nearmost.tmpfiles.conf").lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<_> = line.split_whitespace().collect();
        assert!(fields.len() == 6 && fields[1].starts_with("/etc/nearmost"), "{line}");
    }
}

/// YAML as JSON, by the one program for it that is on every Debian.
fn yaml(path: &str) -> serde_json::Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new("/usr/bin/python3").args(["-c", script]).arg(docs(path)).output();
    let output = output.expect("python3 with yaml; `cargo xtask test` installs it");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_compose_file_is_yaml_and_names_what_is_there() {
    let compose = yaml("containers/compose.yaml");
    let services = compose["services"].as_object().expect("services");
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let volumes = compose["volumes"].as_object().expect("volumes");
    let folder = docs("containers");
    for (name, service) in services {
        if let Some(file) = service["build"]["dockerfile"].as_str() {
            let context = service["build"]["context"].as_str().expect("a context");
            assert!(folder.join(context).join(file).is_file(), "{name}: {file}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(|v| v.as_str()) {
            let source = volume.split(':').next().expect("a source");
            match source.starts_with('.') {
                true => assert!(folder.join(source).exists(), "{name}: {source}"),
                false => assert!(volumes.contains_key(source), "{name}: {source}"),
            }
        }
        assert_eq!(service["network_mode"], "host", "{name}: nothing may hide where questions come from");
    }
    let scraped = yaml("containers/prometheus.yml");
    assert_eq!(scraped["scrape_configs"][0]["static_configs"][0]["targets"][0], "127.0.0.1:8053");
    let alerting = &scraped["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0];
    let told = compose["services"]["alertmanager"]["command"].to_string();
    assert!(told.contains(alerting.as_str().expect("where alerts go")), "{alerting} {told}");
}

/// The packages of the workspace, and which programs each makes.
fn packages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.join("broker"), root.join("node-agent")];
    let crates = std::fs::read_dir(root.join("crates")).expect("crates");
    folders.extend(crates.map(|entry| entry.expect("a folder").path()));
    let named = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"').map(str::to_owned))
    };
    folders.into_iter().filter_map(named).collect()
}

#[test]
fn what_the_documents_have_built_is_there_and_is_all_that_is_installed() {
    let packages = packages();
    for document in ["running.md", "containers/Containerfile.broker", "containers/Containerfile.agent"] {
        let text = read(document);
        let commands: Vec<&str> = text.lines().filter(|l| l.contains("cargo build --release")).collect();
        assert!(!commands.is_empty(), "{document}");
        for command in commands {
            let words: Vec<&str> = command.split(|c: char| c.is_whitespace() || c == '`').collect();
            let built: Vec<&str> = words.windows(2).filter(|w| w[0] == "-p").map(|w| w[1]).collect();
            // Without names only the default member would be built.
            assert_eq!(built.len(), 3, "{document}: {command}");
            for package in built {
                let package = package.trim_end_matches([':', ')']);
                assert!(packages.iter().any(|p| p == package), "{document}: {package}");
            }
        }
    }
}

#[test]
fn what_a_container_copies_is_sent_to_its_builder_and_nothing_else() {
    for program in ["broker", "agent"] {
        let text = read(&format!("containers/Containerfile.{program}"));
        let copied = text.lines().filter_map(|line| line.strip_prefix("COPY "));
        let copied: Vec<&str> =
            copied.flat_map(str::split_whitespace).filter(|w| w.starts_with("target/")).collect();
        let ignored = read(&format!("containers/Containerfile.{program}.dockerignore"));
        assert!(ignored.lines().any(|line| line == "**"), "{ignored}");
        let sent: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
        assert_eq!(sent, copied, "{program}");
    }
}

#[test]
fn the_container_files_fetch_nothing() {
    for program in ["broker", "agent"] {
        let text = read(&format!("containers/Containerfile.{program}"));
        let steps: Vec<&str> =
            text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
        assert_eq!(steps[0], "FROM debian:bookworm-slim");
        assert_eq!(steps.iter().filter(|s| s.starts_with("FROM")).count(), 1);
        for step in steps.iter().filter(|step| step.starts_with("RUN")) {
            for fetching in ["apt", "curl", "wget", "git", "cargo", "http"] {
                assert!(!step.contains(fetching), "{step}");
            }
        }
        for copied in text.lines().filter(|line| line.starts_with("COPY")) {
            for program in copied.split_whitespace().filter_map(|w| w.strip_prefix("target/release/")) {
                binary(program);
            }
        }
    }
}

#[test]
fn what_the_units_run_is_what_the_programs_take() {
    for unit in UNITS {
        let config = match unit {
            "nearmost-broker" => Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/broker.toml"),
            _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/node-agent.toml"),
        };
        let output = Command::new(binary(unit)).args(["check-config", "--config"]).arg(config).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{unit}: {}", said(&output));
    }
}
