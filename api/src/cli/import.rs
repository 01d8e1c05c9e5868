//! `brigade import`: a thread cuts a file into publish bodies (`import/{lines,csv,parquet}.rs`), which are sent one after
//! the other, each repeated under its sequence until it is acknowledged.

use std::{
    fs::File,
    io::{self, Read},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    pin::pin,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    CliError, Context,
    interrupt::Interrupt,
    output::{bytes, count, print_json, print_line},
    progress::Progress,
    transfer::FileFormat,
};
use crate::client::{ClientError, ContentType, Payload, PublishIdentity, RetryPolicy, TopicSettings};

mod columns;
mod csv;
mod lines;
mod parquet;

const AFTER_HELP: &str = "\
Examples:
  brigade import orders orders.parquet --create
  brigade import orders orders.ndjson --create --partitions 4 --keep-partitions
  brigade import people people.csv --key-column id --value-column profile
  zcat orders.ndjson.gz | brigade import orders - --format ndjson
  brigade import orders orders.parquet --skip 120000     go on where an import broke off

Reads what brigade export writes, and files of others: NDJSON with the message objects of a publish,
CSV under a line of names, and Parquet with a column value and, if they are there,
  key, value          text or bytes; numbers and times become text
  timestamp, deliver_at, expires_at
                      timestamps (UTC if they have no zone), dates, or milliseconds since the Unix epoch
  headers             a map of text to text, or lists of structs of a name and a value
  kind                text, json or binary
  group, priority, partition
Other columns are left out. Parquet may be compressed with Snappy, gzip, LZ4 or Zstandard.
Timestamps, keys, headers and attributes are kept; offsets are given anew, and messages that have
expired are left out. Messages are published in the order of the file, one request at a time, so
their order stays.";

/// Bounds of a publish body.
const BODY_MESSAGES: usize = 20_000;
const BODY_BYTES: usize = 4 * 1024 * 1024;

/// A message that expires so soon could expire on its way.
const EXPIRES_SOON_MS: i64 = 60_000;

/// How long a signal waits for the answer to a request that is under way.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Arguments of `brigade import`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ImportArgs {
    /// Name of the topic
    topic: String,
    /// File to read; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Format of the file [default: what its name ends in]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Create the topic if it does not exist
    #[arg(long)]
    create: bool,
    /// Partitions of a topic that is created
    #[arg(long, value_name = "N", requires = "create")]
    partitions: Option<u32>,
    /// Put each message into the partition that the file names [default: by its key, or the server's choice]
    #[arg(long)]
    keep_partitions: bool,
    /// Column of a CSV or Parquet file that is the key
    #[arg(long, value_name = "NAME", default_value = "key")]
    key_column: String,
    /// Column of a CSV or Parquet file that is the value
    #[arg(long, value_name = "NAME", default_value = "value")]
    value_column: String,
    /// Leave so many messages out at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// How long a request is repeated while the server is away or busy
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_seconds: u32,
}

/// What every reader of files must know.
#[derive(Clone, Debug)]
struct Wanted {
    /// A message that expires before is left out: the server would refuse it.
    expired_ms: i64,
    keep_partitions: bool,
    key_column: String,
    value_column: String,
}

/// What is imported.
struct Input {
    /// Its name.
    what: String,
    content: Content,
    /// Its size in bytes, if that is known before it is read.
    length: Option<u64>,
}

enum Content {
    File(File),
    /// What is read once, from the beginning to the end.
    Stream(Stream),
}

type Stream = Box<dyn Read + Send>;

impl Content {
    fn stream(self) -> Stream {
        match self {
            Self::File(file) => Box::new(file),
            Self::Stream(stream) => stream,
        }
    }
}

impl Input {
    fn open(args: &ImportArgs) -> Result<Self, CliError> {
        if args.file.as_os_str() == "-" {
            return Ok(Self {
                what: "standard input".to_owned(),
                content: Content::Stream(Box::new(io::stdin())),
                length: None,
            });
        }
        let what = args.file.display().to_string();
        let file = File::open(&args.file).and_then(|file| Ok((file.metadata()?, file)));
        let (data, file) = file.map_err(|source| CliError::Io { what: what.clone(), source })?;
        if data.is_dir() {
            let hint = "import its files one by one".to_owned();
            return Err(CliError::Input { message: format!("{what} is a directory"), hint });
        }
        Ok(if data.is_file() {
            Self { what, content: Content::File(file), length: Some(data.len()) }
        } else {
            Self { what, content: Content::Stream(Box::new(file)), length: None }
        })
    }
}

/// A publish body.
#[derive(Debug)]
struct Body {
    payload: Payload,
    messages: u64,
    /// Messages before them, or among them, that have expired.
    expired: u64,
    /// Bytes of the file that it was made of, about.
    input_bytes: u64,
}

/// A file cut into bodies.
trait Source: Send {
    /// Leaves messages out; gives how many there were.
    fn skip(&mut self, messages: u64) -> Result<u64, CliError>;

    /// The next body; `None` at the end.
    fn next(&mut self) -> Result<Option<Body>, CliError>;
}

/// Runs `brigade import`.
pub(super) async fn run(context: &Context, args: ImportArgs) -> Result<(), CliError> {
    let format = FileFormat::choose(args.format, &args.file)?;
    let Input { what, content, length } = Input::open(&args)?;
    let named = what.clone();
    let wanted = Wanted {
        expired_ms: context.client.env().clock.now_ms() + EXPIRES_SOON_MS,
        keep_partitions: args.keep_partitions,
        key_column: args.key_column.clone(),
        value_column: args.value_column.clone(),
    };
    let source: Box<dyn Source> = match format {
        FileFormat::Ndjson => Box::new(lines::Lines::new(content.stream(), what, &wanted)),
        FileFormat::Csv => Box::new(csv::Rows::new(content.stream(), what, wanted)?),
        FileFormat::Parquet => match content {
            Content::File(file) => Box::new(parquet::Batches::new(file, what, wanted, length.unwrap_or(0))?),
            Content::Stream(_) => {
                let hint = "write it to a file first, or send NDJSON or CSV".to_owned();
                let message = format!("{what} is read from its beginning to its end, and Parquet cannot be");
                return Err(CliError::Input { message, hint });
            }
        },
    };
    if args.create {
        create(context, &args.topic, args.partitions).await?;
    }
    let policy =
        RetryPolicy { give_up_after: Duration::from_secs(args.retry_seconds.into()), ..RetryPolicy::default() };
    let id = format!("{:032x}", context.client.env().entropy.next_u128());
    let mut interrupt = Interrupt::new()?;
    let (mut bodies, started) = (start(source, args.skip), Instant::now());
    let mut progress = Progress::new(length, context.json());
    let (mut imported, mut left_out, mut sequence, mut input) = (0, 0, 0, 0);
    let failed = |error: CliError, done: u64| broke_off(error, &args, done);
    loop {
        let done = imported + left_out;
        let body = tokio::select! {
            biased;
            code = interrupt.asked() => return Err(interrupted(code, &args, done, 0)),
            body = bodies.recv() => body,
        };
        let Some(body) = body else { break };
        let Body { payload, messages, expired, input_bytes } = body.map_err(|error| failed(error, done))?;
        left_out += expired;
        if messages == 0 {
            continue;
        }
        let identity = PublishIdentity::Producer { id: id.clone(), sequence };
        let mut publish = pin!(context.client.publish(&args.topic, &payload, &identity, &policy));
        let published = tokio::select! {
            biased;
            published = &mut publish => published,
            // What is under way is waited for, so that it is known what is done.
            code = interrupt.asked() => match timeout(LAST_ANSWER, publish).await {
                Ok(Ok(_)) => return Err(interrupted(code, &args, done + messages + expired, 0)),
                _ => return Err(interrupted(code, &args, done, messages)),
            },
        };
        let stored = published.map_err(|error| failed(error.into(), done))?.messages.len() as u64;
        if stored != messages {
            let why = format!("it acknowledges {stored} messages of {messages}");
            return Err(failed(ClientError::Answer { why }.into(), done));
        }
        imported += messages;
        sequence += 1;
        input += input_bytes;
        progress.add(messages, input_bytes);
    }
    drop(progress);
    let seconds = started.elapsed().as_secs_f64();
    if context.json() {
        return print_json(&json!({
            "messages": imported, "skipped": args.skip, "expired": left_out, "bytes": length.unwrap_or(input),
            "seconds": seconds
        }));
    }
    let expired = if left_out == 0 { String::new() } else { format!("; {} had expired", count(left_out)) };
    print_line(format_args!(
        "imported {} messages of {named} ({}) into {} in {seconds:.2} s{expired}",
        count(imported),
        bytes(length.unwrap_or(input)),
        args.topic
    ))
}

async fn create(context: &Context, topic: &str, partitions: Option<u32>) -> Result<(), CliError> {
    match context.client.topic(topic).await {
        Err(error) if error.code() == "topic_not_found" => {
            let settings = TopicSettings { partitions, ..TopicSettings::default() };
            context.client.create_topic(topic, &settings).await?;
            Ok(())
        }
        other => Ok(other.map(|_| ())?),
    }
}

/// Cuts the file in a thread, since reading and taking it apart block; two bodies wait to be sent at most.
fn start(mut source: Box<dyn Source>, skip: u64) -> mpsc::Receiver<Result<Body, CliError>> {
    let (sender, receiver) = mpsc::channel(2);
    thread::spawn(move || {
        let cut = || -> Result<(), CliError> {
            let skipped = source.skip(skip)?;
            if skipped < skip {
                let message = format!("the file has only {skipped} messages, and {skip} were to be skipped");
                return Err(CliError::Input { message, hint: "there is nothing left to be imported".to_owned() });
            }
            while let Some(body) = source.next()? {
                if sender.blocking_send(Ok(body)).is_err() {
                    // The sending side has given up, and says why itself.
                    return Ok(());
                }
            }
            Ok(())
        };
        // The Parquet library panics on some files that are none. That must not look like the end of the file.
        let result = panic::catch_unwind(AssertUnwindSafe(cut)).unwrap_or_else(|_| {
            let message = "the file is damaged: taking it apart failed in the middle".to_owned();
            Err(CliError::Input { message, hint: "write it anew; what is named as done is in the topic".to_owned() })
        });
        if let Err(error) = result {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// Says how much was done before an error, and how to go on.
fn broke_off(error: CliError, args: &ImportArgs, done: u64) -> CliError {
    if done == 0 {
        return error;
    }
    let done = args.skip + done;
    let so_far = format!("{} messages of the file are done; go on with --skip {done}", count(done));
    match error {
        CliError::Client(source) => CliError::Partly { source, done: so_far },
        CliError::Input { message, hint } => CliError::Input { message: format!("{message}; {so_far}"), hint },
        other => other,
    }
}

/// What is told when a signal ends an import: how much of the file is done, and what may be.
fn interrupted(code: u8, args: &ImportArgs, done: u64, unknown: u64) -> CliError {
    let done = args.skip + done;
    let message = format!("{} messages of the file are done", count(done));
    let (message, hint) = match unknown {
        0 => (message, format!("go on with --skip {done}")),
        unknown => (
            format!("{message}, and whether the next {} are is not known", count(unknown)),
            format!("--skip {done} publishes these, perhaps again; --skip {} leaves them out", done + unknown),
        ),
    };
    CliError::Interrupted { code, message, hint }
}

/// Lines of NDJSON that become a body.
#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<u8>,
    messages: u64,
    expired: u64,
    input_bytes: u64,
}

impl Gathered {
    fn is_full(&self) -> bool {
        (self.messages + self.expired) as usize >= BODY_MESSAGES || self.lines.len() >= BODY_BYTES
    }

    fn add(&mut self, line: &[u8], input_bytes: u64) {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.messages += 1;
        self.input_bytes += input_bytes;
    }

    fn body(self) -> Option<Body> {
        let Self { lines, messages, expired, input_bytes } = self;
        let payload = Payload { content_type: ContentType::NdJson, bytes: lines.into() };
        (messages + expired > 0).then_some(Body { payload, messages, expired, input_bytes })
    }
}
