//! Processes that measure, and must not wait for those that only work.

use tokio::process::Command;

/// Real-time scheduling where it is allowed, else priority where that is, else neither. What the process
/// starts itself is not urgent.
const SCRIPT: &str = "chrt --reset-on-fork --rr -p 1 $$ >/dev/null 2>&1 || renice -n -10 -p $$ >/dev/null 2>&1; \
                      exec \"$@\"";

/// A command line as a process that goes before others.
pub fn command(line: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "lab"]).args(line);
    command
}
