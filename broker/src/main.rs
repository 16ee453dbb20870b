//! `nearmost-broker`: see [`nearmost_broker::args`].

use std::process::ExitCode;

fn main() -> ExitCode {
    nearmost_broker::args::program(std::env::args_os())
}
