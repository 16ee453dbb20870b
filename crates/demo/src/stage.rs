//! Starts everybody, says what to try, tells what happens, and ends everybody.

use crate::audience;
use crate::cast::{DOMAIN, MIRRORS, Role};
use crate::child;
use crate::script::{self, Running};
use crate::user;
use anyhow::{Context, Result, bail};
use nearmost_client::api::InviteRequest;
use nearmost_client::events::Notice;
use nearmost_client::registry::commit::{Author, change};
use nearmost_client::registry::{Plan, PlanError, RegistryFile};
use nearmost_client::{Auth, Client, Endpoint, EventStream};
use nearmost_wire::identity::{KeyPair, Role as KeyRole};
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// Longest that the curtain may take to rise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the demo's broker said it is.
#[derive(serde::Deserialize)]
struct Addresses {
    dns: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    admin: PathBuf,
}

/// A mirror's process.
struct Mirror {
    running: Running,
    child: Child,
    log: PathBuf,
}

/// Runs the demo until Ctrl-C.
pub fn main(dns: SocketAddr, http: SocketAddr, service_port: u16) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(dns, http, service_port))
}

async fn play(dns: SocketAddr, http: SocketAddr, service_port: u16) -> Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("nearmost-demo-").tempdir()?;
    let mut signals = Signals::new()?;
    let (mut broker, at) = start_broker(dir.path(), dns, http).await?;
    let mut mirrors = Vec::new();
    let played = tokio::select! {
        played = perform(dir.path(), &at, service_port, &mut mirrors) => played,
        () = signals.stop() => Ok(()),
    };
    for mirror in &mirrors {
        child::terminate(&mirror.child);
    }
    for mirror in &mut mirrors {
        child::stop(&mut mirror.child).await;
    }
    child::stop(&mut broker).await;
    println!("\neverything has ended");
    played.map(|()| ExitCode::SUCCESS)
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn perform(dir: &Path, at: &Addresses, service_port: u16, mirrors: &mut Vec<Mirror>) -> Result<()> {
    let admin: Endpoint = format!("unix:{}", at.admin.display()).parse()?;
    let client = Client::new(admin, Auth::None);
    let events = client.events(None);
    register(&client).await?;
    for role in MIRRORS {
        mirrors.push(start_mirror(dir, &client, role, service_port).await?);
    }
    tokio::time::timeout(PATIENCE, all_up(&client, mirrors))
        .await
        .context("the mirrors did not come up in time")??;
    let running: Vec<Running> = mirrors.iter().map(|m| m.running).collect();
    print!("{}", script::mirrors(&running));
    let [dns, http] = [at.dns.first(), at.http.first()].map(|a| a.copied());
    let (dns, http) = (dns.context("no DNS address")?, http.context("no HTTP address")?);
    print!("{}", script::things_to_try(&client, dns, http, &running).await);
    let clients = at.clients.first().copied().context("no address for clients")?;
    tokio::select! {
        told = tell(events) => told,
        asked = audience::ask(dns) => asked,
        played = user::play(&client, clients, &running) => played,
    }
}

/// Prints what happens, until the broker is gone for good.
async fn tell(mut events: EventStream) -> Result<()> {
    loop {
        match events.next().await? {
            Notice::Event(event) => println!("{}", script::event(&event)),
            Notice::Missed(_) => println!("some events were missed"),
            Notice::Lost { .. } => println!("the broker's event stream broke; connecting again"),
        }
    }
}

async fn start_broker(dir: &Path, dns: SocketAddr, http: SocketAddr) -> Result<(Child, Addresses)> {
    let setting = |text: String| [OsString::from("--set"), text.into()];
    let mut args = vec![OsString::from("run")];
    args.extend(setting(format!("data_dir={}", toml_text(&dir.join("broker")))));
    args.extend(setting(format!("dns.listen=[\"{dns}\"]")));
    args.extend(setting(format!("http.listen=[\"{http}\"]")));
    for key in ["agents.listen", "agents.beacon_listen", "clients.listen", "peers.listen"] {
        args.extend(setting(format!("{key}=[\"127.0.0.1:0\"]")));
    }
    let log = dir.join("broker.log");
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let mut broker = child::start("__broker", &args, &log)?;
    let stdout = broker.stdout.take().context("the broker's output")?;
    let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
    match line.context("the broker did not start in time")?? {
        Some(line) => Ok((broker, serde_json::from_str(&line)?)),
        None => bail!("the broker did not start:\n{}", std::fs::read_to_string(&log).unwrap_or_default()),
    }
}

fn toml_text(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Registers the domain with a person's key that lives as long as the demo.
async fn register(client: &Client) -> Result<()> {
    let text =
        format!("version = 1\n[[domain]]\nname = \"{DOMAIN}\"\nttl_s = 5\nredirect_hosts = [\"{DOMAIN}\"]\n");
    let file = RegistryFile::parse_complete("the demo's registry", &text)?;
    let key = KeyPair::generate(KeyRole::Person)?;
    let author = Author { key: &key, name: "demo", note: "the demo begins" };
    change::<PlanError>(client, &author, |view| Plan::of_file(&file, view, &key.id(), false)).await?;
    Ok(())
}

async fn start_mirror(dir: &Path, client: &Client, role: Role, service_port: u16) -> Result<Mirror> {
    let own = dir.join(role.name);
    std::fs::create_dir(&own)?;
    let request = InviteRequest { domains: vec![DOMAIN.into()], name: Some(role.name.into()), ttl_s: 600 };
    let token = client.invite(&request).await?.token;
    let listen = SocketAddr::new(role.address.parse()?, free_port(role.address, service_port)?);
    let pairs: [(&str, OsString); 7] = [
        ("--dir", own.clone().into()),
        ("--token", token.into()),
        ("--city", role.city.into()),
        ("--latitude", role.latitude.to_string().into()),
        ("--longitude", role.longitude.to_string().into()),
        ("--country", role.country.into()),
        ("--listen", listen.to_string().into()),
    ];
    let args: Vec<&OsStr> =
        pairs.iter().flat_map(|(flag, value)| [OsStr::new(flag), value.as_os_str()]).collect();
    let log = own.join("mirror.log");
    let child = child::start("__mirror", &args, &log)?;
    let pid = child.id().context("the mirror ended at once")?;
    Ok(Mirror { running: Running { role, service: listen, pid }, child, log })
}

/// The port asked for, or a free one where any will do.
fn free_port(address: &str, asked: u16) -> Result<u16> {
    match asked {
        0 => Ok(std::net::TcpListener::bind((address, 0))?.local_addr()?.port()),
        port => Ok(port),
    }
}

/// Waits until every mirror is up; a mirror that ends instead says why.
async fn all_up(client: &Client, mirrors: &mut [Mirror]) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        for mirror in mirrors.iter_mut() {
            if let Some(status) = mirror.child.try_wait()? {
                let log = std::fs::read_to_string(&mirror.log).unwrap_or_default();
                bail!("{} ended with {status}:\n{log}", mirror.running.role.city);
            }
        }
        let fleet = client.fleet().await?;
        let up = fleet.mirrors.iter().filter(|m| m.verdicts.iter().any(|v| v.state == "up"));
        if up.count() == mirrors.len() {
            return Ok(());
        }
    }
}
