//! Measurements that anyone can rerun: `cargo xtask bench NAME`.
//!
//! Every figure is a ratio or a unit cost within one run, because absolute figures drift from
//! machine to machine and from minute to minute. What they gave is kept in BENCHMARKS.md.

mod agents;
mod broker;
mod checks;
mod decisions;
mod detection;
mod dns;
mod federation;
mod figure;
mod map;
mod meter;
mod proc;
mod random;
mod subscribers;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "nearmost-bench", about = "Side-by-side measurements")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What a DNS query costs, beside gdnsd, Knot, PowerDNS and a bare echo.
    Dns(dns::DnsArgs),
    /// The bare echo of `dns`, at an address.
    #[command(hide = true)]
    DnsFloor { at: std::net::SocketAddrV4 },
    /// Memory and CPU an agent, with real QUIC sessions and beacons.
    Agents(agents::AgentsArgs),
    /// Memory and CPU a client that follows a list, and how soon changes reach it.
    Subscribers(subscribers::SubscribersArgs),
    /// CPU of a broker that checks many mirrors, and whether any check is late.
    Checks(checks::ChecksArgs),
    /// How good the chosen mirrors are, on a measured round-trip matrix.
    Decisions(decisions::DecisionsArgs),
    /// How fast dead hosts are found, and how often serving ones are taken out, in simulation.
    Detection(detection::DetectionArgs),
    /// How soon brokers of a federation hold the same, and what their peers cost them.
    Federation(federation::FederationArgs),
    /// Time and memory of the map, and what a query costs as mirrors and domains grow in number.
    Map(map::MapArgs),
}

fn main() -> anyhow::Result<()> {
    let bench = Args::parse().bench;
    if let Bench::DnsFloor { at } = bench {
        return dns::floor::run(at);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match bench {
        Bench::Dns(args) => runtime.block_on(dns::run(args)),
        Bench::DnsFloor { at } => dns::floor::run(at),
        Bench::Agents(args) => runtime.block_on(agents::run(args)),
        Bench::Subscribers(args) => runtime.block_on(subscribers::run(args)),
        Bench::Checks(args) => runtime.block_on(checks::run(args)),
        Bench::Decisions(args) => decisions::run(&args),
        Bench::Detection(args) => detection::run(&args),
        Bench::Federation(args) => runtime.block_on(federation::run(args)),
        Bench::Map(args) => map::run(&args),
    }
}
