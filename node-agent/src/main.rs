//! The `nearmost-agent` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    nearmost_agent::main_from_args(std::env::args_os()).await
}
