//! The servers that are compared with: gdnsd with its plugin geoip, Knot with its module geoip, PowerDNS
//! with its backend geoip, each with one worker, on the same city database and the same six sites.
//!
//! gdnsd sends each client network to the site nearest on the globe. Knot and PowerDNS know no
//! distances that cost as little: they go by continent.

use super::{lab, scenario};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Gdnsd,
    Knot,
    Pdns,
}

/// One that runs.
pub struct Running {
    /// Its process; killed when dropped.
    pub child: Child,
    /// Where it answers.
    pub at: SocketAddrV4,
}

impl Running {
    /// Its process id.
    ///
    /// # Errors
    /// When it ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("it ended")
    }
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 3] = [Peer::Gdnsd, Peer::Knot, Peer::Pdns];

    /// As people know it.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Gdnsd => "gdnsd",
            Peer::Knot => "Knot with mod-geoip",
            Peer::Pdns => "PowerDNS with geoip",
        }
    }

    /// Where it answers.
    pub fn at(self) -> SocketAddrV4 {
        let port = match self {
            Peer::Gdnsd => 5510,
            Peer::Knot => 5520,
            Peer::Pdns => 5530,
        };
        SocketAddrV4::new(lab::SERVER, port)
    }

    /// Starts it with a city database and a folder of its own. That it answers is for the caller to await.
    ///
    /// # Errors
    /// When its files cannot be written or it is not installed.
    pub fn start(self, city: &Path, dir: &Path) -> Result<Running> {
        std::fs::create_dir_all(dir)?;
        let (city, here) = (text(city)?, text(dir)?);
        let mut command = match self {
            Peer::Gdnsd => gdnsd(self.at(), city, dir, here),
            Peer::Knot => knot(self.at(), city, dir, here),
            Peer::Pdns => pdns(self.at(), city, dir, here),
        }?;
        let log = std::fs::File::create(dir.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name()))?;
        Ok(Running { child, at: self.at() })
    }

    /// What it said when it was started in a folder.
    pub fn log(self, dir: &Path) -> String {
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("paths must be UTF-8")
}

/// A program of a Debian package, which puts servers where only root's path leads.
fn server(program: &str) -> Result<Command> {
    for dir in ["/usr/sbin", "/usr/local/sbin", "/usr/bin"] {
        let path = Path::new(dir).join(program);
        if path.is_file() {
            return Ok(Command::new(path));
        }
    }
    bail!("{program} is not installed: run this through `cargo xtask bench`")
}

fn gdnsd(at: SocketAddrV4, city: &str, dir: &Path, here: &str) -> Result<Command> {
    for folder in ["zones", "run", "state"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let (mut names, mut places, mut addresses) = (Vec::new(), String::new(), String::new());
    for site in scenario::SITES {
        names.push(site.name);
        writeln!(places, "        {} => [{:?}, {:?}]", site.name, site.latitude, site.longitude)?;
        writeln!(addresses, "        {} => {}", site.name, site.address())?;
    }
    let names = names.join(", ");
    let config = format!(
        "options => {{
  listen => {at}
  run_dir => {here}/run
  state_dir => {here}/state
  udp_threads => 1
  tcp_threads => 1
  edns_client_subnet => true
}}
plugins => {{
  geoip => {{
    maps => {{
      sites => {{
        geoip2_db => {city}
        datacenters => [{names}]
        auto_dc_coords => {{
{places}        }}
      }}
    }}
    resources => {{
      play => {{
        map => sites
        service_types => up
        dcmap => {{
{addresses}        }}
      }}
    }}
  }}
}}
"
    );
    std::fs::write(dir.join("config"), config)?;
    let ttl = scenario::TTL;
    let zone = zone(&format!("play {ttl} DYNA geoip!play\n"));
    std::fs::write(dir.join("zones").join(scenario::ZONE), zone)?;
    let mut command = server("gdnsd")?;
    command.args(["-c", here, "start"]);
    Ok(command)
}

fn knot(at: SocketAddrV4, city: &str, dir: &Path, here: &str) -> Result<Command> {
    for folder in ["run", "db"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let (ip, port, zone_name, ttl) = (at.ip(), at.port(), scenario::ZONE, scenario::TTL);
    let config = format!(
        "server:
  rundir: {here}/run
  listen: {ip}@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  edns-client-subnet: on
database:
  storage: {here}/db
mod-geoip:
- id: sites
  config-file: {here}/sites.conf
  ttl: {ttl}
  mode: geodb
  geodb-file: {city}
  geodb-key: [ continent/code, country/iso_code ]
template:
- id: default
  storage: {here}
zone:
- domain: {zone_name}
  file: zone
  module: mod-geoip/sites
"
    );
    std::fs::write(dir.join("knot.conf"), config)?;
    let first = scenario::SITES[0].address();
    let zone = zone(&format!("play {ttl} A {first}\n"));
    std::fs::write(dir.join("zone"), format!("$ORIGIN {zone_name}.\n{zone}"))?;
    let mut sites = format!("{}:\n", scenario::NAME);
    for site in scenario::SITES {
        for continent in site.continents {
            writeln!(sites, "  - geo: \"{continent};*\"\n    A: {}", site.address())?;
        }
    }
    std::fs::write(dir.join("sites.conf"), sites)?;
    let mut command = server("knotd")?;
    command.arg("-c").arg(dir.join("knot.conf"));
    Ok(command)
}

fn pdns(at: SocketAddrV4, city: &str, dir: &Path, here: &str) -> Result<Command> {
    let (zone, name, ttl) = (scenario::ZONE, scenario::NAME, scenario::TTL);
    let config = format!(
        "launch=geoip
geoip-database-files=mmdb:{city}
geoip-zones-file={here}/zones.yaml
edns-subnet-processing=yes
local-address={}
local-port={}
receiver-threads=1
distributor-threads=1
socket-dir={here}
daemon=no
guardian=no
",
        at.ip(),
        at.port()
    );
    std::fs::write(dir.join("pdns.conf"), config)?;
    let mut zones = format!(
        "domains:
- domain: {zone}
  ttl: {ttl}
  records:
    {zone}:
      - soa: ns1.{zone} hostmaster.{zone} 1 7200 1800 259200 900
      - ns: ns1.{zone}
    ns1.{zone}:
      - a: 192.0.2.1
"
    );
    for site in scenario::SITES {
        for continent in site.continents {
            let continent = continent.to_lowercase();
            writeln!(zones, "    {continent}.on.{zone}:\n      - a: {}", site.address())?;
        }
    }
    write!(zones, "  services:\n    {name}: '%cn.on.{zone}'\n")?;
    std::fs::write(dir.join("zones.yaml"), zones)?;
    let mut command = server("pdns_server")?;
    command.arg(format!("--config-dir={here}"));
    Ok(command)
}

/// A zone's text, with one line for the name that is asked for.
fn zone(play: &str) -> String {
    format!("@ 3600 SOA ns1 hostmaster 1 7200 1800 259200 900\n@ 3600 NS ns1\nns1 3600 A 192.0.2.1\n{play}")
}
