//! `brigade export`: a fetching task (`export/fetch.rs`) stays a page ahead of the file that is written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::{
    CliError, Context,
    output::{bytes, count, print_json},
    progress::Progress,
    transfer::FileFormat,
};
use crate::client::{RetryPolicy, Start};

mod csv;
mod fetch;
mod parquet;
mod sink;

use sink::{Counting, Sink};

const AFTER_HELP: &str = "\
Examples:
  brigade export orders orders.parquet
  brigade export orders orders.ndjson --partition 0 --partition 3
  brigade export orders yesterday.csv --from 1767139200000 --until 1767225600000
  brigade export orders - --format ndjson | gzip > orders.ndjson.gz

Writes what the topic holds when the export begins, partition after partition, each in the order of
its offsets, with keys, headers, timestamps and attributes. A file appears under its name only when
it is whole. Parquet has the columns of the archive (docs/archive.md); NDJSON the message objects of
a read; CSV the columns partition, offset, timestamp, key, key_encoding (text, base64 or empty for
no key), value, kind (text, json, binary as base64, or tombstone), headers (a JSON object), group,
priority, deliver_at and expires_at. brigade import reads all three.";

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
    /// Begin at the first message of this time or later, in milliseconds since the Unix epoch
    #[arg(long, value_name = "MS")]
    from: Option<i64>,
    /// End before the first message of this time or later, in milliseconds since the Unix epoch
    #[arg(long, value_name = "MS")]
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
    if args.from.zip(args.until).is_some_and(|(from, until)| until <= from) {
        let hint = "--until is the first time that is left out".to_owned();
        return Err(CliError::Input { message: "--until is not later than --from".to_owned(), hint });
    }
    let topic = context.client.topic(&args.topic).await?;
    let known: Vec<_> = topic.partitions.iter().map(|partition| partition.partition).collect();
    if let Some(unknown) = args.partition.iter().find(|wanted| !known.contains(wanted)) {
        let message = format!("topic {} has no partition {unknown}", args.topic);
        return Err(CliError::Input { message, hint: format!("it has partitions 0 to {}", known.len() - 1) });
    }
    let messages =
        topic.partitions.iter().filter(|p| args.partition.is_empty() || args.partition.contains(&p.partition));
    let expected: u64 = messages.clone().map(|partition| partition.high_watermark - partition.log_start).sum();
    let partitions: Vec<_> = messages.map(|partition| partition.partition).collect();
    let plan = fetch::Plan {
        topic: args.topic.clone(),
        from: args.from.map_or(Start::Earliest, Start::Timestamp),
        until: args.until,
        policy: RetryPolicy { give_up_after: Duration::from_secs(args.retry_seconds.into()), ..RetryPolicy::default() },
    };
    let whole = args.from.is_none() && args.until.is_none();
    let mut progress = Progress::new(None, context.json());
    if whole {
        progress.expect(expected);
    }
    let target = Target::open(&args.file, args.force)?;
    let mut sink = Sink::new(format, &args.topic, target.writer()?)?;
    let mut pages = fetch::start(&context.client, plan, partitions);
    let (mut exported, mut last) = (0, 0);
    while let Some(page) = pages.recv().await {
        let rows = sink.page(&page?)?;
        exported += rows;
        let written = sink.written();
        progress.add(rows, written - last);
        last = written;
    }
    let written = sink.finish()?;
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
        args.file.display(),
        bytes(written)
    );
    Ok(())
}

/// Where the file goes: beside its place until it is whole.
enum Target {
    Stdout,
    Other(PathBuf),
    File { part: PathBuf, whole: PathBuf },
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
        Ok(Self::File { part: part.into(), whole: file.to_owned() })
    }

    fn writer(&self) -> Result<Counting<Box<dyn Write + Send>>, CliError> {
        Ok(Counting::new(match self {
            Self::Stdout => Box::new(BufWriter::with_capacity(256 * 1024, io::stdout())),
            Self::Other(path) => {
                let file = OpenOptions::new().write(true).open(path).map_err(|source| failed(path, source))?;
                Box::new(BufWriter::with_capacity(256 * 1024, file))
            }
            Self::File { part, .. } => {
                let file = File::create(part).map_err(|source| failed(part, source))?;
                Box::new(BufWriter::with_capacity(256 * 1024, file))
            }
        }))
    }

    fn keep(self) -> Result<(), CliError> {
        match self {
            Self::Stdout | Self::Other(_) => Ok(()),
            Self::File { part, whole } => {
                let synced = File::open(&part).and_then(|file| file.sync_all());
                synced.and_then(|()| fs::rename(&part, &whole)).map_err(|source| failed(&whole, source))
            }
        }
    }
}

fn failed(file: &Path, source: io::Error) -> CliError {
    CliError::Io { what: file.display().to_string(), source }
}
