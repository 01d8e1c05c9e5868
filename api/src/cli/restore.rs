//! `brigade restore`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use brigade_compactor::{
    restore::{Restore, RestoreError, RestoreReport},
    scrub::Progress,
};
use brigade_index::{
    env::Env,
    store::{StoreMetrics, StoreOptions},
};
use clap::Args;

use super::{
    CliError, Context,
    interrupt::Interrupt,
    output::{count, print_json, print_line, print_table, table},
    progress::LongWork,
    scrub::target,
    serve::{RegionArg, ServeArgs},
};
use crate::settings::{self, RegionSettings, Settings, absolute_url, check_regions, overlap};

const AFTER_HELP: &str = "\
Examples:
  brigade restore --from s3://surviving-bucket --to eu-1=s3://new-bucket
  brigade restore --from s3://b --to a=s3://new-a --to b=s3://new-b --to c=s3://new-c --bandwidth-mib 200
  brigade restore --from file:///backup/region --to local=file:///var/lib/brigade
      brigade serve --region local=file:///var/lib/brigade (or --data /var/lib/brigade) then serves it

The new cluster has its own identity, and everything that the region had accepted: messages, topics with their
settings, subscriptions with what is settled, transactions. It is compared with the source before it can be served.
After a break the same command goes on. No server of the old cluster may write to the source meanwhile.";

/// Arguments of `brigade restore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct RestoreArgs {
    /// URL of the store of the region that is left
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// A region of the new cluster and its empty store; 1, 3 or 5 times
    #[arg(long, required = true, value_name = "NAME=URL")]
    pub to: Vec<RegionArg>,
    /// TOML file with settings, for credentials and endpoints of the regions that it names
    #[arg(long, env = "BRIGADE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Most bytes read and written a second; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    pub bandwidth_mib: u64,
    /// Restore what lies before a missing object of the source's journal, and leave out what lies behind it
    #[arg(long)]
    pub despite_gaps: bool,
}

/// Runs `brigade restore`.
pub(super) async fn run(context: &Context, args: RestoreArgs) -> Result<(), CliError> {
    let known = known(&args)?;
    let (env, metrics) = (Env::system(), StoreMetrics::new());
    let options = |matches: &dyn Fn(&RegionSettings) -> bool| {
        known.iter().find(|region| matches(region)).map_or_else(StoreOptions::default, |region| region.store.clone())
    };
    let regions: Vec<_> = args
        .to
        .iter()
        .map(|to| {
            let store = options(&|region| region.name == to.name);
            RegionSettings { name: to.name.clone(), url: to.url.clone(), store }
        })
        .collect();
    check_regions(&regions).map_err(|problem| CliError::Usage(problem.to_string()))?;
    let store = options(&|region| region.url.trim_end_matches('/') == args.from.trim_end_matches('/'));
    let source = RegionSettings { name: "source".to_owned(), url: args.from.clone(), store };
    check_apart(&source, &regions)?;
    let source = target(&source, &metrics, &env)?;
    let source = source.store.map_err(|problem| CliError::Input {
        message: format!("the source cannot be opened: {problem}"),
        hint: "name the store of a region: s3://, gs://, az:// or file://".to_owned(),
    })?;
    let mut made = Made::default();
    let targets = regions.iter().map(|region| {
        if let Some(path) = region.url.strip_prefix("file://") {
            made.make(Path::new(path)).map_err(|source| CliError::Io { what: path.to_owned(), source })?;
        }
        target(region, &metrics, &env)
    });
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let progress = Arc::new(Progress::default());
    let rate = args.bandwidth_mib.saturating_mul(1 << 20);
    let restore = Restore::new(source, targets, rate, env, progress.clone())?.despite_gaps(args.despite_gaps);
    let shown = LongWork::new(progress, context.json());
    let mut interrupt = Interrupt::new()?;
    let report = tokio::select! {
        biased;
        report = restore.run() => report,
        code = interrupt.asked() => {
            let hint = "the same command goes on".to_owned();
            return Err(CliError::Interrupted { code, message: "the new cluster cannot be served yet".to_owned(), hint });
        }
    };
    drop(shown);
    drop(made);
    show(context, &report?)
}

/// Directories made for targets. Those that are empty at the end, since nothing was restored, are removed.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn make(&mut self, path: &Path) -> std::io::Result<()> {
        let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
        self.0.extend(missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()));
        std::fs::create_dir_all(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What holds something stays.
        self.0.iter().rev().for_each(|path| _ = std::fs::remove_dir(path));
    }
}

/// A directory without links and dots in its path, as far as it is there; other URLs as they are.
fn real(region: &RegionSettings) -> RegionSettings {
    let url = absolute_url(&region.url);
    let resolved = url.strip_prefix("file://").and_then(|path| {
        let (there, whole) = Path::new(path).ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)))?;
        let rest = Path::new(path).strip_prefix(there).ok()?;
        Some(format!("file://{}", whole.join(rest).display()))
    });
    RegionSettings { url: resolved.unwrap_or(url), ..region.clone() }
}

/// Checks that every target is a store that lasts, and none shares a place with the source.
fn check_apart(source: &RegionSettings, targets: &[RegionSettings]) -> Result<(), CliError> {
    let refused = |message: String, hint: &str| {
        Err(CliError::Refused { code: "invalid_targets", message, hint: hint.to_owned() })
    };
    let source = real(source);
    for target in targets {
        if target.url.starts_with("memory://") {
            let message = format!("target {} is in memory: what is restored there is gone at once", target.name);
            return refused(message, "name a store that lasts: s3://, gs://, az:// or file://");
        }
        if overlap(&source, &real(target)) {
            let message =
                format!("target {} shares a store with the source, or one lies inside the other", target.name);
            return refused(message, "restore into empty buckets or prefixes outside the source");
        }
    }
    Ok(())
}

/// The regions that the settings file names.
fn known(args: &RestoreArgs) -> Result<Vec<RegionSettings>, CliError> {
    let Some(config) = &args.config else { return Ok(Vec::new()) };
    let serve = ServeArgs { config: Some(config.clone()), ..ServeArgs::default() };
    let Settings { regions, .. } =
        settings::load(&serve, |_| None).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(regions)
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        Self::Refused { code: error.code(), message: error.to_string(), hint: error.hint().to_owned() }
    }
}

fn show(context: &Context, report: &RestoreReport) -> Result<(), CliError> {
    if context.json() {
        return print_json(report);
    }
    if !report.partitions.is_empty() {
        let header = ["topic", "partition", "from", "to", "messages", "source and targets hold"];
        let mut rows = table(&header, &[1, 2, 3, 4]);
        for partition in &report.partitions {
            rows.add_row([
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.log_start.to_string(),
                partition.high_watermark.to_string(),
                count(partition.messages),
                partition.set_hash.clone(),
            ]);
        }
        print_table(&rows)?;
        print_line("")?;
    }
    let resumed = if report.resumed { ", going on where it had broken off" } else { "" };
    let (entries, files) = (count(report.entries), count(report.files));
    print_line(format_args!(
        "restored up to entry {}{resumed}: {entries} entries, {files} archive files",
        report.sequence
    ))?;
    if report.beyond_known > 0 {
        // Of a cluster that was stopped it is the last one: only what comes behind an entry says that it is committed.
        match report.beyond_known {
            1 => print_line("the last entry was accepted; whether it was acknowledged is not known here")?,
            beyond => print_line(format_args!(
                "the last {} entries were accepted; whether they were acknowledged is not known here",
                count(beyond)
            ))?,
        }
    }
    if report.left_out > 0 {
        print_line(format_args!(
            "left out: {} objects of the source's journal, which lie behind a missing one",
            count(report.left_out)
        ))?;
    }
    print_line(format_args!(
        "cluster {} (it was {}) in {}",
        report.cluster_id,
        report.source_cluster_id,
        report.regions.join(", ")
    ))
}
