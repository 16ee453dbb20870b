//! The demo as a process: a broker and five mirrors with real agents.

use crate::PATIENCE;
use crate::process::binary;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running demo.
pub struct Demo {
    _child: Child,
    /// Of the broker's HTTP, without a path.
    pub url: String,
    /// Where the broker answers DNS.
    pub dns: SocketAddr,
    /// What it printed.
    text: Vec<String>,
}

impl Demo {
    /// Starts it and waits until all mirrors are up.
    pub async fn start() -> Demo {
        let mut child = Command::new(binary("nearmost-demo"))
            .args(["--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--service-port", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start nearmost-demo");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut text = Vec::new();
        let said = async {
            while !text.last().is_some_and(|line: &String| line.contains("Ctrl-C")) {
                text.push(lines.next_line().await.expect("read").expect("the demo goes on"));
            }
        };
        tokio::time::timeout(2 * PATIENCE, said).await.expect("the demo is ready in time");
        // What it says later is not of interest; unread, it would stop.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let word = |line: &str, start: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(start).map(str::to_owned));
            found.unwrap_or_else(|| panic!("nothing begins with {start} in {line:?}"))
        };
        let line = |what: &str| text.iter().find(|l| l.contains(what)).expect("a line").clone();
        let url = word(&line("/v1/fleet"), "http://");
        let dig = line("dig ");
        let port = dig.split(" -p ").nth(1).and_then(|r| r.split(' ').next()).expect("a port");
        let dns = format!("{}:{port}", word(&dig, "@")).parse().expect("an address");
        let host = url.split('/').next().expect("a host");
        Demo { _child: child, url: format!("http://{host}"), dns, text }
    }

    /// Kills the process of a mirror, without any warning.
    pub fn kill(&self, mirror: &str) {
        let own = format!("  {mirror} ");
        let line = self.text.iter().find(|l| l.starts_with(&own) && l.contains(" pid ")).expect("a mirror");
        let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    }
}
