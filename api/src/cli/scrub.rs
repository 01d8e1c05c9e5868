//! `brigade scrub`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use brigade_compactor::scrub::{Done, Finding, NothingToSee, Progress, Report, Scrub, ScrubSettings, Severity, Target};
use brigade_index::{
    env::Env,
    ids::ShardId,
    names::RegionName,
    store::{self, RegionStore, StoreMetrics, StoreTiming},
};
use clap::Args;
use parking_lot::Mutex;

use super::{
    CliError, Context,
    interrupt::Interrupt,
    output::{bytes, count, print_json, print_line, print_table, table},
    progress::LongWork,
    serve::{RegionArg, ServeArgs},
};
use crate::settings::{self, RegionSettings, Settings, absolute_url, redact_url};

const AFTER_HELP: &str = "\
Examples:
  brigade scrub --data /var/lib/brigade
  brigade scrub --region a=s3://bucket-a --region b=s3://bucket-b --region c=s3://bucket-c
  brigade scrub --config /etc/brigade.toml --bandwidth-mib 50 --resume scrub.json
      goes on where it broke off: objects that were found whole are not read again
  brigade scrub --data ./brigade-data --dev-regions 3 --repair
      copies what a region misses from the others, and deletes what nothing refers to any more

Everything is read from the buckets: no server is needed, and one may run meanwhile.
Without --repair nothing is written. The exit code is 0 when nothing is left to be done, and 1 otherwise.";

/// Arguments of `brigade scrub`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ScrubArgs {
    /// Which stores.
    #[command(flatten)]
    pub stores: StoresArgs,
    /// Repair what can be repaired: copy missing and damaged objects from other regions, delete dead ones
    #[arg(long)]
    pub repair: bool,
    /// File that keeps what was found whole, to go on from after a break
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Most bytes read and written a second, of all regions together; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    pub bandwidth_mib: u64,
    /// Entries of a region that are read at the same time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

/// The regions' stores, named as for `brigade serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct StoresArgs {
    /// Directory of the one local region [default: ./brigade-data]
    #[arg(long, env = "BRIGADE_DATA", value_name = "DIR", conflicts_with = "region")]
    pub data: Option<PathBuf>,
    /// A region and its store: s3://, gs://, az:// or file://; once for each region
    #[arg(long, env = "BRIGADE_REGIONS", value_name = "NAME=URL", value_delimiter = ',')]
    pub region: Vec<RegionArg>,
    /// 1, 3 or 5 local regions in directories inside --data
    #[arg(long, env = "BRIGADE_DEV_REGIONS", value_name = "N", conflicts_with = "region")]
    pub dev_regions: Option<u32>,
    /// TOML file with settings, as for `brigade serve`
    #[arg(long, env = "BRIGADE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl StoresArgs {
    /// The settings that a server with these arguments would have.
    fn settings(&self) -> Result<Settings, CliError> {
        let args = ServeArgs {
            data: self.data.clone(),
            region: self.region.clone(),
            dev_regions: self.dev_regions,
            config: self.config.clone(),
            ..ServeArgs::default()
        };
        settings::load(&args, |name| std::env::var(name).ok()).map_err(|error| CliError::Usage(error.to_string()))
    }
}

/// The store of a region. One that cannot be opened is told of later, like one that does not answer.
pub(super) fn target(region: &RegionSettings, metrics: &StoreMetrics, env: &Env) -> Result<Target, CliError> {
    let name = RegionName::new(&region.name).map_err(|error| CliError::Usage(error.to_string()))?;
    let url = absolute_url(&region.url);
    let store = match url.strip_prefix("file://") {
        // To open a directory makes it.
        Some(path) if !Path::new(path).is_dir() => Err(format!("there is no directory {path}")),
        _ => store::open(&url, &region.store).map_err(|error| format!("{error} ({})", error.hint())),
    };
    let store =
        store.map(|store| RegionStore::new(name.clone(), store, metrics.clone(), StoreTiming::default(), env.clone()));
    Ok(Target { name, url: redact_url(&url), store })
}

/// Runs `brigade scrub`.
pub(super) async fn run(context: &Context, args: ScrubArgs) -> Result<(), CliError> {
    let (env, metrics) = (Env::system(), StoreMetrics::new());
    let regions = args.stores.settings()?.regions();
    let targets = regions.iter().map(|region| target(region, &metrics, &env)).collect::<Result<Vec<_>, _>>()?;
    let done = Arc::new(Mutex::new(args.resume.as_deref().map_or_else(|| Ok(Done::default()), read_done)?));
    let settings = ScrubSettings {
        repair: args.repair,
        bytes_per_second: args.bandwidth_mib.saturating_mul(1 << 20),
        concurrency: args.concurrency.into(),
    };
    // A file that cannot be written is told of before everything is read.
    args.resume.as_deref().map_or(Ok(()), |path| write_done(path, &done))?;
    let mut interrupt = Interrupt::new()?;
    let progress = Arc::new(Progress::default());
    let scrub = Scrub::new(ShardId(0), targets, settings, progress.clone(), done.clone());
    let shown = LongWork::new(progress, context.json());
    let report = tokio::select! {
        biased;
        report = scrub.run() => report,
        code = interrupt.asked() => {
            drop(shown);
            return Err(interrupted(code, args.resume.as_deref(), &done));
        }
        () = keep(args.resume.as_deref(), &done) => return Ok(()),
    };
    drop(shown);
    if let Some(path) = &args.resume {
        write_done(path, &done)?;
    }
    let report = report.map_err(|NothingToSee(problem)| CliError::Input {
        message: format!("no region of a cluster can be read: {problem}"),
        hint:
            "name the regions as for brigade serve: --region NAME=URL, --data DIR (with --dev-regions N, if there are \
               several) or --config FILE"
                .to_owned(),
    })?;
    show(context, &report)?;
    if report.is_clean() {
        return Ok(());
    }
    let open = report.findings.iter().filter(|finding| finding.severity > Severity::Info && !finding.repaired);
    let left = open.count() as u64 + report.findings_left_out;
    let findings = if left == 1 { "1 finding is".to_owned() } else { format!("{} findings are", count(left)) };
    Err(CliError::Failed(format!("{findings} left")))
}

/// Keeps what was found whole, and says how to go on.
fn interrupted(code: u8, resume: Option<&Path>, done: &Mutex<Done>) -> CliError {
    let message = format!("objects found whole so far: {}", count(done.lock().objects() as u64));
    match resume.map(|path| (path, write_done(path, done))) {
        Some((_, Err(error))) => error,
        Some((path, Ok(()))) => {
            let hint = format!("go on with --resume {}", path.display());
            CliError::Interrupted { code, message, hint }
        }
        None => {
            CliError::Interrupted { code, message, hint: "with --resume FILE it can go on after a break".to_owned() }
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> CliError {
    CliError::Io { what: path.display().to_string(), source }
}

fn read_done(path: &Path) -> Result<Done, CliError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Done::default()),
        Err(error) => return Err(io(path, error)),
    };
    serde_json::from_slice(&text).map_err(|error| CliError::Input {
        message: format!("{} is no file that brigade scrub --resume wrote: {error}", path.display()),
        hint: "name another file, or delete it to begin anew".to_owned(),
    })
}

/// Written aside first, so that a break leaves the old file or the new one.
fn write_done(path: &Path, done: &Mutex<Done>) -> Result<(), CliError> {
    let text = serde_json::to_vec(&*done.lock()).map_err(|error| CliError::Failed(error.to_string()))?;
    let aside = path.with_extension("new");
    fs::write(&aside, text).and_then(|()| fs::rename(&aside, path)).map_err(|error| io(path, error))
}

/// Pause before what was found whole is kept: a second, and one more for so many objects, which take longer to write.
const KEEP_EVERY: Duration = Duration::from_secs(1);
const KEEP_OBJECTS: usize = 50_000;

/// Keeps what was found whole from time to time. Never ends.
async fn keep(path: Option<&Path>, done: &Mutex<Done>) {
    let Some(path) = path else { return std::future::pending().await };
    loop {
        let seconds = 1 + done.lock().objects() / KEEP_OBJECTS;
        tokio::time::sleep(KEEP_EVERY * u32::try_from(seconds).unwrap_or(u32::MAX)).await;
        if let Err(error) = write_done(path, done) {
            tracing::warn!(%error, "what was found whole could not be kept");
        }
    }
}

fn show(context: &Context, report: &Report) -> Result<(), CliError> {
    if context.json() {
        let mut value = serde_json::to_value(report).map_err(|error| CliError::Failed(error.to_string()))?;
        if let Some(value) = value.as_object_mut() {
            value.insert("clean".to_owned(), report.is_clean().into());
        }
        return print_json(&value);
    }
    print_line(format_args!("cluster {}, compared after entry {}\n", report.cluster_id, report.sequence))?;
    let header = ["region", "checked", "accepted", "floor", "objects", "bytes", "entries read", "files read"];
    let mut rows = table(&header, &[2, 3, 4, 5, 6, 7]);
    for region in &report.regions {
        let tallies = region.objects.values();
        let (objects, size) =
            tallies.fold((0, 0), |(objects, size), tally| (objects + tally.objects, size + tally.bytes));
        rows.add_row([
            region.region.clone(),
            if region.checked { "yes" } else { "no" }.to_owned(),
            region.accepted.to_string(),
            region.floor.to_string(),
            count(objects),
            bytes(size),
            count(region.entries_checked),
            count(region.files_checked),
        ]);
    }
    print_table(&rows)?;
    print_line("")?;
    let header = ["topic", "partition", "from", "to", "messages", "files", "region", "found", "whole", "set hash"];
    let mut rows = table(&header, &[1, 2, 3, 4, 5, 7]);
    for partition in &report.partitions {
        for region in &partition.regions {
            rows.add_row([
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.log_start.to_string(),
                partition.high_watermark.to_string(),
                count(partition.messages),
                count(partition.files),
                region.region.clone(),
                count(region.messages),
                if region.complete { "yes" } else { "no" }.to_owned(),
                region.set_hash.clone(),
            ]);
        }
    }
    print_table(&rows)?;
    show_findings(report)
}

fn show_findings(report: &Report) -> Result<(), CliError> {
    for finding in &report.findings {
        let Finding { code, severity, region, key, problem, hint, objects, repaired } = finding;
        let severity = match severity {
            _ if *repaired => "repaired",
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let place = [region.as_str(), key.as_str()].into_iter().filter(|part| !part.is_empty());
        let place = place.collect::<Vec<_>>().join(" ");
        let more = if *objects > 1 { format!(" and {} more", count(objects - 1)) } else { String::new() };
        print_line(format_args!("\n{severity}: {code}: {place}{more}: {problem}"))?;
        print_line(format_args!("  {hint}"))?;
    }
    if report.findings_left_out > 0 {
        print_line(format_args!("\nand {} more", count(report.findings_left_out)))?;
    }
    let known = report.regions.iter().map(|region| region.known_before).sum::<u64>();
    if known > 0 {
        print_line(format_args!("\n{} objects were found whole before, and not read again", count(known)))?;
    }
    let to_know = report.findings.iter().filter(|finding| finding.severity == Severity::Info && !finding.repaired);
    let verdict = match (report.is_clean(), to_know.count()) {
        (false, _) => "not clean".to_owned(),
        (true, 0) => "clean".to_owned(),
        (true, 1) => "clean (1 thing to know)".to_owned(),
        (true, several) => format!("clean ({several} things to know)"),
    };
    print_line(format_args!("\n{verdict}"))
}
