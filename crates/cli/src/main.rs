//! The `nearmost` command: asks a broker, and administers its registry.
//!
//! A command line becomes a question to the broker or a change of its registry; both are the
//! client library's business. Here are only the words, the tables and the exit code, which tells kinds of ends
//! apart: see [`failure`].

mod args;
mod ask;
mod audit;
mod backup;
mod broker;
mod change;
mod colour;
mod connect;
mod doctor;
mod edit;
mod events;
mod explain;
mod failure;
mod generate;
mod history;
mod loglevel;
mod measure;
mod orders;
mod outages;
mod output;
mod peer;
mod preview;
mod progress;
mod reason;
mod record;
mod state;
mod status;
mod table;
mod time;
mod token;

use args::{Args, Command, GeoCommand};
use broker::Context;
use clap::Parser;
use failure::Kind;
use nearmost_client::Endpoint;
use nearmost_client::measure::Options;
use std::process::ExitCode;

/// How a command ends that did what it was asked: with 0, or with what it found.
type Ended = Option<Kind>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => return misread(&e),
    };
    let json = args.global.json;
    colour::decide(args.global.color, json);
    match run(args).await {
        Ok(ended) => ended.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.code())),
        // Who reads has read enough, as `head` does.
        Err(e) if output::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::complain(&failure::report(&e, json));
            ExitCode::from(failure::kind(&e).code())
        }
    }
}

/// Help and version, or what is wrong with the command line.
fn misread(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|a| a != "--").any(|a| a == "--json");
    if !error.use_stderr() || !json {
        // Nobody is left to be told where this fails.
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(Kind::Usage.code()) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.trim_start_matches("error: ").trim();
    let tip = rest.lines().find_map(|l| l.trim().strip_prefix("tip: "));
    let hint = tip.unwrap_or("`nearmost help` lists the commands, `nearmost COMMAND --help` their arguments");
    output::complain(&failure::object(Kind::Usage, message, Some(hint), true));
    ExitCode::from(Kind::Usage.code())
}

async fn run(args: Args) -> anyhow::Result<Ended> {
    match &args.command {
        Command::Doctor(doctor) => return Box::pin(doctor::run(&args.global, doctor)).await,
        Command::Completions { shell } => {
            return generate::completions(*shell, args.global.json).map(|()| None);
        }
        Command::Man { folder } => return generate::man(folder, args.global.json).map(|()| None),
        Command::ExitCodes => return generate::exit_codes(args.global.json).map(|()| None),
        Command::Status(status) => {
            return Box::pin(status::status(&Context::new(&args.global)?, status)).await;
        }
        _ => {}
    }
    // On the heap: one of many commands runs, and the largest decides how much room all of them take.
    Box::pin(work(args)).await.map(|()| None)
}

async fn work(args: Args) -> anyhow::Result<()> {
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
        Command::Connect(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::ExitCodes => Ok(()),
        Command::Resolve { domain, client } => ask::resolve(&context, &domain, client).await,
        Command::Explain { domain, client, resolver } => {
            explain::explain(&context, &domain, client, resolver).await
        }
        Command::Measure { domain, no_lookup, .. } => {
            measure::over_http(&context, &domain, Options { look_up: !no_lookup }).await
        }
        Command::Orders { name } => orders::orders(&context, name.as_deref()).await,
        Command::Events(args) => events::events(&context, &args).await,
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
        Command::Token(command) => token::run(&context, command).await,
        Command::Outages(wanted) => outages::outages(&context, &wanted).await,
        Command::LogLevel(wanted) => loglevel::levels(&context, &wanted).await,
        Command::Undo { change } => history::undo(&context, change).await,
    }
}
