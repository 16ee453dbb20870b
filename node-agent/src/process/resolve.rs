//! Which process is a service's: read from `/proc`, the pid file or the unit's control group. Blocks.

use nearmost_config::ProcessSource;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes read of a pid file, a `stat` or a list of processes.
const MOST: u64 = 64 * 1024;

/// Where the system tells of processes.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into() }
    }
}

/// One process among all that ever were: another one with the same number started at another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub start: u64,
}

/// What a process does just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which it is.
    pub process: Process,
    /// It is stopped, by a signal or a debugger.
    pub halted: bool,
}

impl Roots {
    /// The process of a number; `None` when there is none, or when it ended and is only remembered.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        let text = read(&self.proc.join(pid.to_string()).join("stat")).ok()?;
        let (state, start) = parse_stat(&text)?;
        let ended = matches!(state, 'Z' | 'X' | 'x');
        (!ended).then_some(Stat { process: Process { pid, start }, halted: matches!(state, 'T' | 't') })
    }

    /// The process that a service's setting leads to.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn resolve(&self, source: &ProcessSource) -> Result<Process, String> {
        match source {
            ProcessSource::PidFile(path) => self.of_pid_file(path),
            ProcessSource::SystemdUnit(unit) => self.of_unit(unit),
            ProcessSource::Exe(path) => self.of_exe(path),
        }
    }

    fn of_pid_file(&self, path: &Path) -> Result<Process, String> {
        let told = path.display();
        let text = read(path).map_err(|e| format!("pid file {told}: {e}"))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        let pid: u32 = first.parse().map_err(|_| format!("pid file {told} does not begin with a number"))?;
        let stat = self.stat(pid).ok_or_else(|| format!("pid file {told}: there is no process {pid}"))?;
        Ok(stat.process)
    }

    /// The oldest process of the unit is its main one: it started the others.
    fn of_unit(&self, unit: &str) -> Result<Process, String> {
        let mut lists = self.unit_folders(unit).into_iter().map(|folder| folder.join("cgroup.procs"));
        let text = lists.find_map(|list| read(&list).ok());
        let text = text.ok_or_else(|| format!("unit {unit} has no control group below system.slice"))?;
        let pids = text.lines().filter_map(|line| line.trim().parse().ok());
        self.oldest(pids).ok_or_else(|| format!("unit {unit} has no process"))
    }

    /// Where a unit's group may be: with the unified hierarchy, or the one beside older ones; an
    /// instance of a template has its template's slice around it.
    fn unit_folders(&self, unit: &str) -> Vec<PathBuf> {
        let slices = match unit.split_once('@') {
            Some((template, _)) => format!("system.slice/system-{}.slice", template.replace('-', "\\x2d")),
            None => "system.slice".into(),
        };
        let roots = [self.cgroup.clone(), self.cgroup.join("unified"), self.cgroup.join("systemd")];
        roots.into_iter().map(|root| root.join(&slices).join(unit)).collect()
    }

    /// The oldest process of a program: a parent is older than its workers.
    fn of_exe(&self, path: &Path) -> Result<Process, String> {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        // A program that was replaced on disk while it runs.
        let replaced = PathBuf::from(format!("{} (deleted)", real.display()));
        let entries = std::fs::read_dir(&self.proc).map_err(|e| format!("{}: {e}", self.proc.display()))?;
        let (mut pids, mut hidden) = (Vec::new(), 0u32);
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            match std::fs::read_link(entry.path().join("exe")) {
                Ok(exe) if exe == real || exe == replaced => pids.push(pid),
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => hidden += 1,
                Ok(_) | Err(_) => {}
            }
        }
        self.oldest(pids.into_iter()).ok_or_else(|| match hidden {
            0 => format!("no process runs {}", path.display()),
            _ => format!("no process runs {}, of those that this user may look at", path.display()),
        })
    }

    fn oldest(&self, pids: impl Iterator<Item = u32>) -> Option<Process> {
        pids.filter_map(|pid| self.stat(pid)).map(|s| s.process).min_by_key(|p| (p.start, p.pid))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    // A program's name, which `stat` holds, may be anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// State and start of `/proc/<pid>/stat`. The name before them is in parentheses and may hold any
/// character, these included.
pub(crate) fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start field 22.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// A `/proc` and a `/sys/fs/cgroup` of a test's making.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Fake {
            Fake(tempfile::tempdir().expect("a folder"))
        }

        fn roots(&self) -> Roots {
            Roots { proc: self.0.path().join("proc"), cgroup: self.0.path().join("cgroup") }
        }

        fn write(&self, path: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, text).expect("written");
            path
        }

        fn process(&self, pid: u32, state: char, start: u64) {
            let zeros = "0 ".repeat(18);
            self.write(&format!("proc/{pid}/stat"), &format!("{pid} (a) b) {state} {zeros}{start} 0 0\n"));
        }

        fn runs(&self, pid: u32, exe: &str) {
            let link = self.0.path().join(format!("proc/{pid}/exe"));
            std::os::unix::fs::symlink(exe, link).expect("linked");
        }
    }

    #[test]
    fn a_pid_file_names_a_living_process_or_the_reason_is_told() {
        let fake = Fake::new();
        let path = fake.0.path().join("x.pid");
        let resolve = || fake.roots().resolve(&ProcessSource::PidFile(path.clone()));
        assert!(resolve().expect_err("none").contains("x.pid: "));
        fake.write("x.pid", "nginx\n");
        assert!(resolve().expect_err("none").contains("does not begin with a number"));
        fake.write("x.pid", " 77\nmore\n");
        assert!(resolve().expect_err("none").contains("there is no process 77"));
        fake.process(77, 'Z', 5);
        assert!(resolve().is_err(), "one that ended");
        fake.process(77, 'S', 5);
        assert_eq!(resolve(), Ok(Process { pid: 77, start: 5 }));
    }

    #[test]
    fn of_a_unit_and_of_a_program_the_oldest_counts() {
        let fake = Fake::new();
        let of = |source: &ProcessSource| fake.roots().resolve(source).map(|p| p.pid);
        for (pid, start) in [(30, 9), (20, 7), (10, 8)] {
            fake.process(pid, 'S', start);
            fake.runs(pid, if pid == 30 { "/opt/web (deleted)" } else { "/opt/game" });
        }
        fake.process(5, 'Z', 1);
        let unit = ProcessSource::SystemdUnit("web-1.service".into());
        assert!(of(&unit).expect_err("none").contains("web-1.service"));
        fake.write("cgroup/system.slice/web-1.service/cgroup.procs", "30\n10\n20\n5\n");
        assert_eq!(of(&unit), Ok(20));
        let instance = ProcessSource::SystemdUnit("we-b@1.service".into());
        fake.write(
            "cgroup/systemd/system.slice/system-we\\x2db.slice/we-b@1.service/cgroup.procs",
            "30\n10\n",
        );
        assert_eq!(of(&instance), Ok(10));
        assert_eq!(of(&ProcessSource::Exe("/opt/game".into())), Ok(20));
        assert_eq!(of(&ProcessSource::Exe("/opt/web".into())), Ok(30), "replaced on disk");
        assert_eq!(of(&ProcessSource::Exe("/opt/none".into())), Err("no process runs /opt/none".into()));
    }

    #[test]
    fn a_stopped_process_is_seen() {
        let fake = Fake::new();
        for (state, halted) in [('S', false), ('R', false), ('D', false), ('T', true), ('t', true)] {
            fake.process(7, state, 3);
            assert_eq!(fake.roots().stat(7).map(|s| s.halted), Some(halted), "{state}");
        }
    }

    #[test]
    fn this_process_is_found() {
        let stat = Roots::default().stat(std::process::id()).expect("found");
        assert!(stat.process.start > 0 && !stat.halted);
        let exe = std::env::current_exe().expect("a program");
        assert!(Roots::default().resolve(&ProcessSource::Exe(exe)).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = parse_stat(&text);
        }
    }
}
