//! `brigade bucket`.

use std::error::Error;

use brigade_index::{
    env::Env,
    store::{
        self, StoreOptions,
        conformance::{self, ConformanceOptions},
    },
};
use brigade_localstack::{BucketError, Provisioned};
use clap::{Args, Subcommand};
use object_store::path::Path;
use serde_json::json;

use super::{
    CliError, OutputFormat,
    output::{print_json, print_line},
};

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
pub(super) async fn run(args: BucketArgs, output: OutputFormat) -> Result<(), CliError> {
    match args.command {
        BucketCommand::Create(store) => create(&store, output).await,
        BucketCommand::Check(check) => run_check(&check, output).await,
    }
}

impl StoreArgs {
    fn options(&self) -> StoreOptions {
        StoreOptions {
            endpoint: self.endpoint.clone(),
            provider_region: self.region.clone(),
            ..StoreOptions::default()
        }
    }
}

async fn create(args: &StoreArgs, output: OutputFormat) -> Result<(), CliError> {
    let provisioned = brigade_localstack::create_bucket(&args.url, &args.options()).await?;
    let created = provisioned == Provisioned::Created;
    match output {
        OutputFormat::Json => print_json(&json!({"url": args.url, "created": created})),
        OutputFormat::Table if created => print_line(format_args!("{} created", args.url)),
        OutputFormat::Table => print_line(format_args!("{} is there already", args.url)),
    }
}

async fn run_check(args: &CheckArgs, output: OutputFormat) -> Result<(), CliError> {
    let options = args.store.options();
    let store = store::open(&args.store.url, &options).map_err(|error| refused(&error, error.hint()))?;
    let findings = match args.store.url.starts_with("s3://") {
        true => brigade_localstack::inspect_bucket(&args.store.url, &options).await?,
        false => Vec::new(),
    };
    let conformance = ConformanceOptions {
        rounds: args.rounds as usize,
        writers: args.writers as usize,
        ..ConformanceOptions::new(Env::system())
    };
    let report = conformance::check(store, &Path::default(), conformance).await;
    let report = report.map_err(|failure| refused(&failure, failure.hint()))?;
    if output == OutputFormat::Json {
        let promises = report.promises.iter().map(|kept| json!({"name": kept.name, "ms": kept.elapsed.as_millis()}));
        let warnings = findings.iter().map(|f| json!({"code": f.code, "message": f.message, "hint": f.hint}));
        let (promises, warnings) = (promises.collect::<Vec<_>>(), warnings.collect::<Vec<_>>());
        return print_json(
            &json!({"url": args.store.url, "trusted": true, "promises": promises, "warnings": warnings}),
        );
    }
    print_line(format_args!("{report}{} keeps every promise that Brigade relies on", args.store.url))?;
    findings
        .iter()
        .try_for_each(|found| print_line(format_args!("warning: {} ({}): {}", found.message, found.code, found.hint)))
}

fn refused(problem: &dyn Error, hint: &str) -> CliError {
    CliError::Input { message: problem.to_string(), hint: hint.to_owned() }
}

impl From<BucketError> for CliError {
    fn from(error: BucketError) -> Self {
        refused(&error, error.hint())
    }
}
