//! `nearmost-broker`: see [`nearmost_broker::args`].

fn main() -> anyhow::Result<()> {
    nearmost_broker::args::main(std::env::args_os())
}
