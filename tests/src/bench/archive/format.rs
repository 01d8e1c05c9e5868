//! Scenario `format`: the archive format on one core, without a store: how fast files are written, merged and read.

use tokio::time::Instant;

use brigade_index::{
    archive::{FileHead, FileMerger, FileWriter, Footer, FooterStep, WriterSettings, Written},
    batch::{Attributes, Columns, Compression, MessageRef, Messages, ValueKind, decode, encode},
    ids::{FileId, Offset, Partition, TopicId},
    names::TopicName,
};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::super::Report;
use crate::dataset::json_lines;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct FormatArgs {
    /// Bytes of messages in MiB
    #[arg(long, default_value_t = 256)]
    mib: usize,
    /// Bytes of a message; they are JSON log lines
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Messages of a batch, as publishing makes them
    #[arg(long, default_value_t = 1_000)]
    batch_rows: usize,
    /// KiB of a page before compression
    #[arg(long, default_value_t = WriterSettings::default().page_bytes >> 10)]
    page_kib: usize,
    /// Level of Zstandard
    #[arg(long, default_value_t = WriterSettings::default().compression_level)]
    level: i32,
}

/// Targets: MiB of messages a second and core, and the share of the journal's size.
const ENCODE_MIB: f64 = 150.0;
const SIZE_SHARE: f64 = 0.6;

fn head(id: u64, first: u64, end: u64) -> FileHead {
    FileHead {
        cluster: "benchmark".to_owned(),
        topic: TopicName::new("log").expect("a name"),
        topic_id: TopicId(1),
        partition: Partition(0),
        id: FileId(id),
        first: Offset(first),
        end: Offset(end),
    }
}

/// Batches as they are in the journal.
fn batches(arguments: &FormatArgs) -> Vec<Bytes> {
    let messages = (arguments.mib << 20) / arguments.message_bytes;
    let mut lines = json_lines(1, arguments.message_bytes);
    let mut batches = Vec::new();
    for begin in (0..messages).step_by(arguments.batch_rows) {
        let mut columns = Columns::default();
        for (row, line) in (begin..messages.min(begin + arguments.batch_rows)).zip(&mut lines) {
            columns.push(&MessageRef {
                key: Some(format!("user-{}", row % 10_000).as_bytes()),
                value: Some(line.as_bytes()),
                kind: ValueKind::Json,
                headers: &[],
                timestamp_ms: 1_760_000_000_000 + row as i64,
                attributes: Attributes::default(),
            });
        }
        batches.push(encode(&columns.into_record_batch(), Compression::Lz4).expect("a batch"));
    }
    batches
}

/// Writes files of 64 MiB or so, as the compactor does.
fn write(batches: &[Bytes], settings: &WriterSettings) -> Vec<(Bytes, FileHead, Written)> {
    let mut files = Vec::new();
    let mut first = 0;
    let per_file = batches.len().div_ceil(4).max(1);
    for (number, batches) in batches.chunks(per_file).enumerate() {
        let head = head(number as u64, first, u64::MAX >> 1);
        let (head, mut next) = (head, first);
        let decoded: Vec<Messages> = batches.iter().map(|batch| decode(batch).expect("a batch")).collect();
        let end = first + decoded.iter().map(|batch| batch.rows() as u64).sum::<u64>();
        let head = FileHead { end: Offset(end), ..head };
        let mut writer = FileWriter::new(head.clone(), settings).expect("settings");
        for batch in &decoded {
            writer.push(batch, 0..batch.rows(), Offset(next)).expect("rows");
            next += batch.rows() as u64;
        }
        let (bytes, written) = writer.finish().expect("a file");
        files.push((bytes, head, written));
        first = end;
    }
    files
}

fn open(file: &Bytes) -> Footer {
    let size = file.len() as u64;
    match Footer::decode(size, 0, file.clone()).expect("a footer") {
        FooterStep::Ready(footer) => footer,
        FooterStep::Need(range) => panic!("the whole file is there, {range:?} is wanted"),
    }
}

fn merge(files: &[(Bytes, FileHead, Written)], settings: &WriterSettings) -> (Vec<u8>, Written) {
    let head = head(99, 0, files.last().map_or(0, |(_, head, _)| head.end.0));
    let mut merger = FileMerger::new(head, settings).expect("settings");
    let mut out = Vec::new();
    for (file, _, _) in files {
        let footer = open(file);
        for row_group in 0..footer.row_groups() {
            let range = footer.row_group_range(row_group);
            let bytes = file.slice(range.start as usize..range.end as usize);
            merger.append(&footer, row_group, bytes).expect("a row group");
            out.extend_from_slice(&merger.take());
        }
    }
    let (rest, written) = merger.finish().expect("a file");
    out.extend_from_slice(&rest);
    (out, written)
}

/// Reads all blocks; returns messages, ranges, and bytes in them.
fn read(file: &Bytes) -> (usize, usize, u64) {
    let footer = open(file);
    let (mut messages, mut ranges, mut bytes) = (0, 0, 0);
    for block in 0..footer.blocks().len() {
        let wanted = footer.ranges(block);
        let parts: Vec<_> =
            wanted.iter().map(|range| (range.clone(), file.slice(range.start as usize..range.end as usize))).collect();
        messages += footer.decode_block(block, &parts).expect("a block").messages.rows();
        ranges += wanted.len();
        bytes += wanted.iter().map(|range| range.end - range.start).sum::<u64>();
    }
    (messages, ranges, bytes)
}

/// Seconds of this thread on a core: what else the machine does is not counted. Elsewhere than on Linux, seconds.
fn seconds(begin: Instant) -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = times.as_deref().and_then(|times| times.split(' ').next()?.parse::<u64>().ok());
    nanoseconds.map_or_else(|| begin.elapsed().as_secs_f64(), |nanoseconds| nanoseconds as f64 / 1e9)
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begin = Instant::now();
    let before = seconds(begin);
    let result = work();
    (seconds(begin) - before, result)
}

/// Runs the scenario.
pub(super) fn run(arguments: &FormatArgs) -> Report {
    let settings = WriterSettings {
        page_bytes: arguments.page_kib << 10,
        compression_level: arguments.level,
        ..WriterSettings::default()
    };
    let batches = batches(arguments);
    let journal: usize = batches.iter().map(Bytes::len).sum();
    let (write_seconds, files) = timed(|| write(&batches, &settings));
    let payload: u64 = files.iter().map(|(_, _, written)| written.payload_bytes).sum();
    let (merge_seconds, (merged, written)) = timed(|| merge(&files, &settings));
    let merged = Bytes::from(merged);
    let (read_seconds, (messages, ranges, fetched)) = timed(|| read(&merged));
    assert_eq!(messages as u64, written.rows);
    let mib = |bytes: f64, seconds: f64| bytes / f64::from(1 << 20) / seconds;
    let (encode, merge) = (mib(payload as f64, write_seconds), mib(payload as f64, merge_seconds));
    let decode = mib(payload as f64, read_seconds);
    let share = written.bytes as f64 / journal as f64;
    let footer = open(&merged);
    let json = json!({
        "scenario": "format",
        "payload_bytes": payload,
        "journal_bytes": journal,
        "archive_bytes": written.bytes,
        "archive_share_of_journal": share,
        "archive_share_of_payload": written.bytes as f64 / payload as f64,
        "write_mib_per_second": encode,
        "merge_mib_per_second": merge,
        "read_mib_per_second": decode,
        "read_stored_mib_per_second": mib(fetched as f64, read_seconds),
        "blocks": footer.blocks().len(),
        "ranges": ranges,
        "fetched_share": fetched as f64 / written.bytes as f64,
        "footer_bytes_of_memory": footer.memory(),
    });
    let lines = vec![
        format!("MiB of messages a second and core: {encode:.0} written, {merge:.0} merged, {decode:.0} read"),
        format!("{:.1} % of the bytes in the journal", 100.0 * share),
    ];
    Report { json, lines, met: encode >= ENCODE_MIB && share <= SIZE_SHARE }
}
