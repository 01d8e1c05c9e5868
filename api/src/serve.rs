//! The place where `brigade serve` enters the server.

use std::process::ExitCode;

use crate::cli::serve::ServeArgs;

/// Runs the server until it is told to stop.
pub async fn main(args: ServeArgs) -> ExitCode {
    eprintln!("error: this build of the command line has no server in it ({args:?})");
    ExitCode::FAILURE
}
