//! The `brigade` binary: parses arguments and hands them to [`brigade::cli::run`].

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    brigade::cli::run(brigade::cli::Cli::parse())
}
