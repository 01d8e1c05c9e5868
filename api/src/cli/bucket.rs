//! `brigade bucket`.

use clap::{Args, Subcommand};

use super::{CliError, OutputFormat};

const AFTER_HELP: &str = "\
Examples:
  brigade bucket create s3://my-bucket --endpoint http://localhost:4566
  brigade bucket check s3://my-bucket/prefix
  brigade bucket check file:///srv/brigade

The check writes and deletes small objects under the prefix. It refuses a store on which two
conditional creates of one key can both succeed: such a store would lose acknowledged messages.";

/// Arguments of `brigade bucket`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct BucketArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BucketCommand,
}

/// What to do with a bucket.
#[derive(Clone, Debug, Subcommand)]
pub enum BucketCommand {
    /// Create an S3 bucket; one that is yours already is no error
    Create(StoreArgs),
    /// Check that a store does what Brigade relies on
    Check(CheckArgs),
}

/// Which store.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The store: s3://BUCKET[/PREFIX]; a check also takes gs://, az://, file:// and memory://
    pub url: String,
    /// Endpoint of an S3 server that is not AWS
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, env = "AWS_REGION", value_name = "NAME")]
    pub region: Option<String>,
}

/// Arguments of a check.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Which store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Rounds of the conditional-create race
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub rounds: u32,
    /// Writers that race for one key in each round
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub writers: u32,
}

/// Runs `brigade bucket`.
pub(super) async fn run(args: BucketArgs, _output: OutputFormat) -> Result<(), CliError> {
    let what = match args.command {
        BucketCommand::Create(_) => "create buckets",
        BucketCommand::Check(_) => "check stores",
    };
    Err(CliError::Failed(format!("this build of the command line cannot {what}")))
}
