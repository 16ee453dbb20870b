//! The `nearmost` command: asks a broker, and administers its registry.
//!
//! A command line becomes a question to the broker or a change of its registry; both are the
//! client library's business. Here are only the words, the tables and the exit code: 0 when it was
//! done or there was nothing to do, 1 when not, 2 when the command line makes no sense.

mod args;
mod ask;
mod audit;
mod backup;
mod broker;
mod change;
mod connect;
mod edit;
mod explain;
mod history;
mod loglevel;
mod measure;
mod orders;
mod outages;
mod output;
mod peer;
mod preview;
mod reason;
mod record;
mod state;
mod status;
mod table;
mod time;

use args::{Args, Command, GeoCommand};
use broker::Context;
use clap::Parser;
use nearmost_client::Endpoint;
use nearmost_client::measure::Options;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has read enough, as `head` does.
        Err(e) if output::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", told(&e));
            ExitCode::FAILURE
        }
    }
}

/// The error and those of its causes that it does not tell itself.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, said| match told.is_empty() {
        true => said,
        false if told.contains(&said) => told,
        false => format!("{told}: {said}"),
    })
}

async fn run(args: Args) -> anyhow::Result<()> {
    if let Command::Measure { domain, quic: Some(at), no_lookup } = &args.command {
        // Over QUIC no way over HTTP need be there.
        let options = Options { look_up: !no_lookup };
        return measure::over_quic(&args.global, at, domain, options).await;
    }
    if let Command::Connect(connect) = args.command {
        // It may ask none, or find others in DNS: only one that was named counts here.
        let url = args.global.broker.as_deref().map(str::parse::<Endpoint>).transpose()?;
        let url = url.map(|url| url.with_ca_file(args.global.ca.clone()));
        return connect::run(*connect, url, args.global.json).await;
    }
    let context = Context::new(&args.global)?;
    match args.command {
        // Begun above.
        Command::Connect(_) => Ok(()),
        Command::Resolve { domain, client } => ask::resolve(&context, &domain, client).await,
        Command::Explain { domain, client, resolver } => {
            explain::explain(&context, &domain, client, resolver).await
        }
        Command::Measure { domain, no_lookup, .. } => {
            measure::over_http(&context, &domain, Options { look_up: !no_lookup }).await
        }
        Command::Status { all } => status::status(&context, all).await,
        Command::Orders { name } => orders::orders(&context, name.as_deref()).await,
        Command::Events { after } => ask::events(&context, after).await,
        Command::Geo(GeoCommand::Lookup { address }) => ask::geo(&context, address).await,
        Command::Geo(GeoCommand::Override(command)) => edit::place::run(&context, command).await,
        Command::Domain(command) => edit::domain::run(&context, command).await,
        Command::Node(command) => edit::node::run(&context, command).await,
        Command::Mirror(command) => edit::mirror::run(&context, command).await,
        Command::Peer(command) => peer::run(&context, command).await,
        Command::Record(command) => record::run(&context, command).await,
        Command::Backup { file, overwrite } => backup::backup(&context, &file, overwrite).await,
        Command::Apply { file, dry_run, prune } => change::apply(&context, &file, dry_run, prune).await,
        Command::Export { file } => change::export(&context, file.as_deref()).await,
        Command::History { key, limit } => history::history(&context, key.as_deref(), limit).await,
        Command::Audit(wanted) => audit::audit(&context, &wanted).await,
        Command::Outages(wanted) => outages::outages(&context, &wanted).await,
        Command::LogLevel(wanted) => loglevel::levels(&context, &wanted).await,
        Command::Undo { change } => history::undo(&context, change).await,
    }
}
