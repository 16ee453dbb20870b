//! The `nearmost-agent` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    nearmost_agent::cli::main(std::env::args_os()).await
}
