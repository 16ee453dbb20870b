//! One mirror: joins, serves a page that says where it is, and runs the agent.

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::OriginalUri;
use axum::response::IntoResponse;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the demo tells a mirror.
#[derive(clap::Args)]
pub struct MirrorArgs {
    /// Its own directory.
    #[arg(long)]
    dir: PathBuf,
    /// Invitation.
    #[arg(long)]
    token: String,
    /// City, for its page.
    #[arg(long)]
    city: String,
    /// Degrees north.
    #[arg(long, allow_hyphen_values = true)]
    latitude: f64,
    /// Degrees east.
    #[arg(long, allow_hyphen_values = true)]
    longitude: f64,
    /// Country.
    #[arg(long)]
    country: String,
    /// Where its service listens.
    #[arg(long)]
    listen: SocketAddr,
}

/// Runs the mirror to its end.
pub fn main(args: MirrorArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: MirrorArgs) -> Result<ExitCode> {
    let listener = tokio::net::TcpListener::bind(args.listen);
    let listener =
        listener.await.with_context(|| format!("the service of {} asked for {}", args.city, args.listen))?;
    let address = listener.local_addr()?;
    let service = tokio::spawn(async move { axum::serve(listener, service(args.city, address)).await });

    let config = args.dir.join("node-agent.toml");
    let data_dir = [format!("--data-dir={}", args.dir.display())];
    let joined =
        agent(["join".into(), args.token.into(), "--config".into(), config.clone().into()], &data_dir);
    if joined.await? != ExitCode::SUCCESS {
        bail!("the node did not join");
    }
    let game = tokio::net::UdpSocket::bind((address.ip(), 0)).await.context("a socket for the game")?;
    let ingress = format!("{{ udp = \"{}\" }}", game.local_addr()?);
    let game = tokio::spawn(echo(game));
    let check = format!("{{ name = \"page\", kind = \"http\", address = \"{address}\", interval_ms = 500 }}");
    let services = format!(
        "--set=services=[{{ domain = \"{}\", addresses = [\"{}\"], port = {}, ingress = {ingress}, checks = [{check}] }}]",
        crate::cast::DOMAIN,
        address.ip(),
        address.port(),
    );
    let place = format!(
        "--set=node.place={{ latitude = {}, longitude = {}, country = \"{}\" }}",
        args.latitude, args.longitude, args.country
    );
    let sessions = format!("--set=ingress.listen=[\"{}:0\"]", address.ip());
    let settings = [
        services,
        place,
        sessions,
        "--set=ingress.enabled=true".into(),
        "--set=metrics.listen=".into(),
        "--set=drain.grace_ms=100".into(),
    ];
    let ended = agent(["run".into(), "--config".into(), config.into()], &settings).await;
    service.abort();
    game.abort();
    ended
}

/// The game: every packet comes back.
async fn echo(socket: tokio::net::UdpSocket) {
    let mut packet = [0; 2048];
    loop {
        // A packet that cannot be answered is lost, as any may be.
        if let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let _ = socket.send_to(&packet[..length], from).await;
        }
    }
}

/// The agent's own main.
async fn agent<const N: usize>(args: [OsString; N], more: &[String]) -> Result<ExitCode> {
    let program = std::iter::once(OsString::from("nearmost-agent"));
    nearmost_agent::cli::main_from_args(program.chain(args).chain(more.iter().map(OsString::from))).await
}

fn service(city: String, address: SocketAddr) -> Router {
    Router::new().fallback(move |uri: OriginalUri| async move {
        let body = format!(
            "Hello from {city} ({address}, pid {}), you asked for {}\n",
            std::process::id(),
            uri.path()
        );
        ([("content-type", "text/plain; charset=utf-8")], body).into_response()
    })
}
