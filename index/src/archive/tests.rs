use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{Attributes, Columns, MessageRef, ValueKind};

mod damage;
mod golden;
mod merge;
mod read;

/// A message with its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    offset: u64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    kind: u8,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    timestamp_ms: i64,
    group: Option<String>,
    priority: Option<u8>,
    times: [Option<i64>; 2],
}

impl Owned {
    fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            kind: ValueKind::from_u8(self.kind),
            headers: &self.headers,
            timestamp_ms: self.timestamp_ms,
            attributes: Attributes {
                group: self.group.as_deref(),
                priority: self.priority,
                deliver_at_ms: self.times[0],
                expires_at_ms: self.times[1],
            },
        }
    }
}

/// A message whose offset is so many behind the one before.
fn message() -> impl Strategy<Value = (u64, Owned)> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let header = (".{0,8}", ".{0,8}").prop_map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
    let timestamp = prop_oneof![4 => -5..5_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let plain = (bytes(), bytes(), 0..3u8, proptest::collection::vec(header, 0..4), timestamp);
    let rarely = |chance| proptest::option::weighted(chance, any::<i64>());
    let attributes = (
        proptest::option::weighted(0.3, ".{0,6}"),
        proptest::option::weighted(0.3, 0..=9u8),
        [rarely(0.2), rarely(0.2)],
    );
    let attributes = prop_oneof![4 => Just((None, None, [None, None])), 1 => attributes];
    let gap = prop_oneof![8 => Just(0_u64), 1 => 1..5_u64, 1 => 1..1_000_000_000_u64];
    (gap, plain, attributes).prop_map(|(gap, plain, (group, priority, times))| {
        let (key, value, kind, headers, timestamp_ms) = plain;
        (gap, Owned { offset: 0, key, value, kind, headers, timestamp_ms, group, priority, times })
    })
}

/// Messages from offset `first` on, with gaps between them or without.
fn messages(count: Range<usize>, first: u64) -> impl Strategy<Value = Vec<Owned>> {
    let messages = proptest::collection::vec(message(), count);
    (messages, any::<bool>()).prop_map(move |(messages, gaps)| {
        let mut next = first;
        let place = |(gap, mut message): (u64, Owned)| {
            message.offset = next + if gaps { gap } else { 0 };
            next = message.offset + 1;
            message
        };
        messages.into_iter().map(place).collect()
    })
}

fn batch(messages: &[Owned]) -> Messages {
    let mut columns = Columns::default();
    messages.iter().for_each(|message| columns.push(&message.as_ref()));
    Messages::new(columns.into_record_batch()).unwrap()
}

fn owned(rows: &Rows) -> Vec<Owned> {
    let (own, messages) = (|text: &str| Cow::Owned(text.to_owned()), &rows.messages);
    assert_eq!(messages.rows(), rows.offsets.len());
    let message = |row: usize| Owned {
        offset: rows.offsets[row],
        key: messages.key(row).map(<[u8]>::to_vec),
        value: messages.value(row).map(<[u8]>::to_vec),
        kind: messages.kind(row) as u8,
        headers: messages.headers(row).map(|(name, value)| (own(name), own(value))).collect(),
        timestamp_ms: messages.timestamps()[row],
        group: messages.attributes(row).group.map(str::to_owned),
        priority: messages.attributes(row).priority,
        times: [messages.attributes(row).deliver_at_ms, messages.attributes(row).expires_at_ms],
    };
    (0..messages.rows()).map(message).collect()
}

const PARTITION: Partition = Partition(3);

fn head(id: u64, first: u64, end: u64) -> FileHead {
    FileHead {
        cluster: "c1".to_owned(),
        topic: TopicName::new("orders").unwrap(),
        topic_id: TopicId(7),
        partition: PARTITION,
        id: FileId(id),
        first: Offset(first),
        end: Offset(end),
    }
}

/// Pages of a few messages, row groups of a few pages.
fn small() -> WriterSettings {
    WriterSettings { row_group_bytes: 1_000, row_group_rows: 25, page_bytes: 100, ..WriterSettings::default() }
}

/// Writes messages in pushes of so many, with offsets given one by one when there are gaps.
fn write(head: FileHead, settings: &WriterSettings, messages: &[Owned], push: usize) -> (Vec<u8>, Written) {
    let mut writer = FileWriter::new(head, settings).unwrap();
    let mut out = Vec::new();
    for (number, part) in messages.chunks(push).enumerate() {
        let dense = part.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset);
        if dense && number % 2 == 0 {
            // Not from the first row on.
            let with_more: Vec<_> = part[..1].iter().chain(part).cloned().collect();
            writer.push(&batch(&with_more), 1..with_more.len(), Offset(part[0].offset)).unwrap();
        } else {
            let with_more: Vec<_> = part.iter().flat_map(|message| [message.clone(), message.clone()]).collect();
            let rows: Vec<usize> = (0..part.len()).map(|row| 2 * row + 1).collect();
            let offsets: Vec<Offset> = part.iter().map(|message| Offset(message.offset)).collect();
            writer.push_rows(&batch(&with_more), &rows, &offsets).unwrap();
        }
        if number % 3 == 2 {
            out.extend_from_slice(&writer.take());
        }
    }
    let (rest, written) = writer.finish().unwrap();
    out.extend_from_slice(&rest);
    (out, written)
}

/// Opens a file as over a store: asks for what it needs, and only that is there.
fn open(file: &[u8]) -> Result<Footer, ArchiveError> {
    let size = file.len() as u64;
    let mut range = Footer::first_range(size);
    for _ in 0..3 {
        let tail = Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]);
        match Footer::decode(size, range.start, tail)? {
            FooterStep::Ready(footer) => return Ok(footer),
            FooterStep::Need(more) => range = more,
        }
    }
    panic!("a footer takes more than three reads");
}

fn fetch(file: &[u8], ranges: &[Range<u64>]) -> Vec<(Range<u64>, Bytes)> {
    let part = |range: &Range<u64>| Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]);
    ranges.iter().map(|range| (range.clone(), part(range))).collect()
}

fn read_block(file: &[u8], footer: &Footer, block: usize) -> Result<Vec<Owned>, ArchiveError> {
    footer.decode_block(block, &fetch(file, &footer.ranges(block))).map(|rows| owned(&rows))
}

fn read_all(file: &[u8], footer: &Footer) -> Result<Vec<Owned>, ArchiveError> {
    let blocks = (0..footer.blocks().len()).map(|block| read_block(file, footer, block));
    Ok(blocks.collect::<Result<Vec<_>, _>>()?.concat())
}

fn set_hash(messages: &[Owned]) -> SetHash {
    let mut scratch = Vec::new();
    let hash = |message: &Owned| {
        let one = batch(std::slice::from_ref(message));
        SetHash::of(&one, 0, PARTITION, Offset(message.offset), &mut scratch)
    };
    messages.iter().map(hash).fold(SetHash::default(), SetHash::and)
}

fn span(messages: &[Owned]) -> (u64, u64) {
    (messages[0].offset, messages[messages.len() - 1].offset + 1)
}
