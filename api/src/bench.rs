//! x
use crate::cli::{CliError, Context};
use clap::Args;
/// x
#[derive(Args, Debug)]
pub struct BenchArgs {}
pub(crate) async fn run(_c: &Context, _a: BenchArgs) -> Result<(), CliError> {
    Ok(())
}
