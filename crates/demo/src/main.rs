//! A broker and five mirrors on one machine, each mirror a process of its own.
//!
//! `cargo run --release` starts this. It re-executes itself: once as a broker, through the library
//! main of `nearmost-broker`, and five times as a mirror, which is the library main of
//! `nearmost-agent` beside a small HTTP service and a game over UDP. A user plays over a session that
//! outlives its mirrors, and users around the world ask over DNS, as their resolvers would. Nothing is simulated: the mirrors join with
//! one-time tokens, send beacons, are probed and are chosen as in production; only the addresses
//! are loopback ones, and each node says where it would be.

mod audience;
mod cast;
mod child;
mod mirror;
mod script;
mod stage;
mod user;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "nearmost-demo", version, about = "A broker and five mirrors on this machine")]
struct Args {
    /// Where the broker answers DNS.
    #[arg(long, default_value = "127.0.0.1:5300")]
    dns: SocketAddr,
    /// Where the broker answers HTTP.
    #[arg(long, default_value = "127.0.0.1:8053")]
    http: SocketAddr,
    /// Port of the mirrors' service, each on its own loopback address; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    service_port: u16,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// The broker of the demo.
    #[command(name = "__broker", hide = true)]
    Broker {
        /// Arguments of `nearmost-broker`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// One mirror of the demo.
    #[command(name = "__mirror", hide = true)]
    Mirror(mirror::MirrorArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.part {
        Some(Part::Broker { args }) => {
            child::end_with_parent();
            return nearmost_broker::args::program(std::iter::once("nearmost-broker".into()).chain(args));
        }
        Some(Part::Mirror(mirror)) => {
            child::end_with_parent();
            mirror::main(mirror)
        }
        None => stage::main(args.dns, args.http, args.service_port),
    };
    ended.unwrap_or_else(nearmost_agent::cli::failed)
}
