//! `brigade export`: a fetching task (`export/fetch.rs`) stays a page ahead of the file that is written.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::{
    CliError, Context,
    interrupt::Interrupt,
    output::{bytes, count, print_json},
    progress::Progress,
    times,
    transfer::FileFormat,
};
use crate::client::{PartitionState, RetryPolicy, Topic};

mod csv;
mod fetch;
mod parquet;
mod sink;

use fetch::{Plan, Times};
use sink::{Counting, Sink};

const AFTER_HELP: &str = "\
Examples:
  brigade export orders orders.parquet
  brigade export orders orders.ndjson --partition 0 --partition 3
  brigade export orders yesterday.csv --from 2025-12-31 --until 2026-01-01
  brigade export orders hour.csv --from 2025-12-31T23:00:00+01:00 --until 2026-01-01T00:00:00+01:00
  brigade export orders - --format ndjson | gzip > orders.ndjson.gz

Writes what the topic holds when the export begins, partition after partition, each in the order of
its offsets, with keys, headers, timestamps and attributes. --from and --until go by the timestamps
of the messages, in whatever order these are; archive files without one of that time are not read.
A file appears under its name only when it is whole. Parquet has the columns of the archive
(docs/archive.md); NDJSON the message objects of a read; CSV the columns partition, offset,
timestamp, key, key_encoding (text, base64 or empty for no key), value, kind (text, json, binary as
base64, or tombstone), headers (a JSON object), group, priority, deliver_at and expires_at.
brigade import reads all three.";

/// Arguments of `brigade export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ExportArgs {
    /// Name of the topic
    topic: String,
    /// File to write; - is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Format of the file [default: what its name ends in]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Only this partition; may be repeated
    #[arg(long, short, value_name = "N")]
    partition: Vec<u32>,
    /// Begin at this offset; needs one --partition
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    offset: Option<u64>,
    /// Only messages of this time or later: 2026-01-31, 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "TIME", value_parser = times::point, allow_negative_numbers = true)]
    from: Option<i64>,
    /// Only messages of before this time, written like --from
    #[arg(long, value_name = "TIME", value_parser = times::point, allow_negative_numbers = true)]
    until: Option<i64>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// How long a request is repeated while the server is away
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_seconds: u32,
}

/// Runs `brigade export`.
pub(super) async fn run(context: &Context, args: ExportArgs) -> Result<(), CliError> {
    let format = FileFormat::choose(args.format, &args.file)?;
    check(&args)?;
    let topic = context.client.topic(&args.topic).await?;
    let partitions = chosen(&topic, &args)?;
    let times = Times { from: args.from, until: args.until };
    let plan = Plan {
        topic: args.topic.clone(),
        times,
        offset: args.offset,
        policy: RetryPolicy { give_up_after: Duration::from_secs(args.retry_seconds.into()), ..RetryPolicy::default() },
    };
    let mut interrupt = Interrupt::new()?;
    let target = Target::open(&args.file, args.force)?;
    let mut progress = Progress::new(None, context.json() || target.is_seen());
    if times.are_all() {
        progress
            .expect(partitions.iter().map(|at| at.high_watermark - at.log_start.max(args.offset.unwrap_or(0))).sum());
    }
    let mut sink = Sink::new(format, &args.topic, target.writer()?).map_err(|error| target.named(error))?;
    let ends = partitions.iter().map(|at| (at.partition, at.high_watermark)).collect();
    let mut pages = fetch::start(&context.client, plan, ends);
    let (mut exported, mut last, mut reached) = (0, 0, None);
    loop {
        let page = tokio::select! {
            biased;
            code = interrupt.asked() => {
                // What was written to a pipe ends with a whole message.
                sink.finish().map_err(|error| target.named(error))?;
                return Err(interrupted(code, format, &target, &partitions, (exported, reached)));
            }
            page = pages.recv() => page,
        };
        let Some(page) = page else { break };
        let page = page?;
        let rows = sink.write(&page.batches).map_err(|error| target.named(error))?;
        reached = Some((page.partition, page.next));
        exported += rows;
        let written = sink.written();
        progress.add(rows, written - last);
        last = written;
    }
    let written = sink.finish().map_err(|error| target.named(error))?;
    target.keep()?;
    drop(progress);
    if context.json() {
        return print_json(&json!({"messages": exported, "bytes": written, "file": args.file}));
    }
    // Standard output may be the file.
    eprintln!(
        "exported {} messages of {} to {} ({})",
        count(exported),
        args.topic,
        if matches!(target, Target::Stdout) { "standard output".into() } else { args.file.display().to_string() },
        bytes(written)
    );
    Ok(())
}

fn check(args: &ExportArgs) -> Result<(), CliError> {
    if args.from.zip(args.until).is_some_and(|(from, until)| until <= from) {
        let hint = "--until is the first time that is left out".to_owned();
        return Err(CliError::Input { message: "--until is not later than --from".to_owned(), hint });
    }
    if args.offset.is_some() && args.partition.len() != 1 {
        return Err(CliError::Usage("--offset is of one partition: name exactly one with --partition".to_owned()));
    }
    Ok(())
}

/// The partitions that are exported.
fn chosen<'a>(topic: &'a Topic, args: &ExportArgs) -> Result<Vec<&'a PartitionState>, CliError> {
    let all = &topic.partitions;
    if let Some(unknown) = args.partition.iter().find(|wanted| all.iter().all(|at| at.partition != **wanted)) {
        let message = format!("topic {} has no partition {unknown}", args.topic);
        return Err(CliError::Input { message, hint: format!("it has partitions 0 to {}", all.len() - 1) });
    }
    let chosen: Vec<_> =
        all.iter().filter(|at| args.partition.is_empty() || args.partition.contains(&at.partition)).collect();
    if let Some((offset, at)) = args.offset.zip(chosen.first())
        && !(at.log_start..=at.high_watermark).contains(&offset)
    {
        let message = format!("partition {} of topic {} has no offset {offset}", at.partition, args.topic);
        return Err(CliError::Input { message, hint: format!("it has {} to {}", at.log_start, at.high_watermark) });
    }
    Ok(chosen)
}

/// What is told when a signal ends an export.
fn interrupted(
    code: u8,
    format: FileFormat,
    target: &Target,
    partitions: &[&PartitionState],
    (exported, reached): (u64, Option<(u32, u64)>),
) -> CliError {
    let mut message = format!("{} messages were exported", count(exported));
    let mut hint = "begin anew".to_owned();
    match (target, reached) {
        (Target::File { whole, .. }, _) => {
            message.push_str(&format!("; {} is kept only when it is whole", whole.display()))
        }
        (_, Some((partition, next))) if format != FileFormat::Parquet => {
            let behind: Vec<_> = partitions.iter().map(|at| at.partition).filter(|at| *at > partition).collect();
            hint = format!("go on with --partition {partition} --offset {next}");
            if !behind.is_empty() {
                let behind: Vec<_> = behind.iter().map(|partition| format!("--partition {partition}")).collect();
                hint.push_str(&format!(", and then with {}", behind.join(" ")));
            }
        }
        _ => {}
    }
    CliError::Interrupted { code, message, hint }
}

/// Where the file goes: beside its place until it is whole.
enum Target {
    Stdout,
    Other(PathBuf),
    /// A part until it is whole; `made` once it is there.
    File {
        part: PathBuf,
        whole: PathBuf,
        made: Cell<bool>,
    },
}

impl Target {
    fn open(file: &Path, force: bool) -> Result<Self, CliError> {
        if file.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        // A pipe or device is written to as it is.
        if fs::metadata(file).is_ok_and(|data| !data.is_file()) {
            return Ok(Self::Other(file.to_owned()));
        }
        // What a link leads to is replaced, not the link.
        let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        if file.exists() && !force {
            let message = format!("{} is there already", file.display());
            return Err(CliError::Input {
                message,
                hint: "name another file, or write over it with --force".to_owned(),
            });
        }
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        Ok(Self::File { part: part.into(), whole: file.to_owned(), made: Cell::new(false) })
    }

    /// Whether what is written is seen where progress would be.
    fn is_seen(&self) -> bool {
        matches!(self, Self::Stdout) && io::stdout().is_terminal()
    }

    /// An error of writing, with the name of what is written.
    fn named(&self, error: CliError) -> CliError {
        match (error, self) {
            (CliError::Io { source, .. }, Self::Other(path) | Self::File { part: path, .. }) => failed(path, source),
            (error, _) => error,
        }
    }

    fn writer(&self) -> Result<Counting<Box<dyn Write + Send>>, CliError> {
        Ok(Counting::new(match self {
            Self::Stdout => Box::new(BufWriter::with_capacity(256 * 1024, io::stdout())),
            Self::Other(path) => {
                let file = OpenOptions::new().write(true).open(path).map_err(|source| failed(path, source))?;
                Box::new(BufWriter::with_capacity(256 * 1024, file))
            }
            Self::File { part, made, .. } => {
                let file = File::create(part).map_err(|source| failed(part, source))?;
                made.set(true);
                Box::new(BufWriter::with_capacity(256 * 1024, file))
            }
        }))
    }

    fn keep(&self) -> Result<(), CliError> {
        match self {
            Self::Stdout | Self::Other(_) => Ok(()),
            Self::File { part, whole, .. } => {
                let synced = File::open(part).and_then(|file| file.sync_all());
                synced.and_then(|()| fs::rename(part, whole)).map_err(|source| failed(whole, source))
            }
        }
    }
}

/// A part that did not become whole is of no use to anybody.
impl Drop for Target {
    fn drop(&mut self) {
        if let Self::File { part, made, .. } = self
            && made.get()
        {
            // It has its name now, or there never was one.
            let _ = fs::remove_file(part);
        }
    }
}

fn failed(file: &Path, source: io::Error) -> CliError {
    CliError::Io { what: file.display().to_string(), source }
}
