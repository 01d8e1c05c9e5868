//! Copies of dead letters for a topic of their own. A copy says where it comes from in headers, and is published in the same
//! entry that settles the message (I15).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use brigade_index::{
    batch::{Attributes, Columns, MessageRef, Messages},
    command::{Command, DeadLetter, Publish, Settle, TopicSettings},
    ids::{Partition, TopicId},
    names::TopicName,
    shard::FetchError,
    state::BatchLocation,
};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::handle::{Around, Of};
use crate::{
    dispatch::At,
    flush::{SentBatch, encode_batches},
    open::OpenBatch,
    placement::Route,
    source::Source,
};

/// Bytes of copies in one entry, about.
const COPIES_BYTES: usize = 32 * 1024 * 1024;

/// Where the copies go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    topic: TopicId,
    settings: Arc<TopicSettings>,
    /// Name of the topic that the messages come from.
    from: TopicName,
    /// Dead letters that may be copied together.
    pub(super) most: usize,
}

impl Target {
    /// `None` when there is no such topic any more: then dead letters stay where they are.
    pub(super) fn find(around: &Around, of: &Of, name: &TopicName) -> Option<Self> {
        let state = around.log.state();
        let (topic, from) = (state.topic_named(name)?, state.topic(of.topic)?);
        let most = (COPIES_BYTES / from.settings.max_message_bytes.max(1) as usize).clamp(1, 1_000);
        Some(Self { topic: topic.id, settings: topic.settings.clone(), from: from.name.clone(), most })
    }
}

/// A dead letter that is to be copied, and where its message is.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub(super) at: At,
    pub(super) letter: DeadLetter,
    pub(super) source: Source,
}

/// Copies, encoded.
pub(super) struct Copies {
    pub(super) command: Command,
    pub(super) body: Vec<Bytes>,
    /// The batches, for the cache.
    pub(super) batches: Vec<SentBatch>,
}

impl Copies {
    /// Where a batch is when the copies are in an entry.
    pub(super) fn location(batch: &SentBatch, sequence: brigade_index::ids::Sequence, body_at: u64) -> BatchLocation {
        BatchLocation { sequence, at: body_at + batch.at, len: batch.bytes.len() as u32, crc: batch.crc }
    }
}

/// Copies dead letters.
///
/// # Errors
/// When a message cannot be fetched, or the copies cannot be encoded.
pub(super) async fn copy(
    around: &Around,
    of: &Of,
    target: &Target,
    originals: &[Original],
    settle: Settle,
) -> Result<Copies, FetchError> {
    let mut batches: BTreeMap<Partition, Columns> = BTreeMap::new();
    for original in originals {
        let (partition, offset) = (original.at.partition(), original.at.offset());
        let found = around.cache.chunks(of.topic, partition, &original.source, (offset, offset.next())).await?;
        // What is not kept any more cannot be copied, and needs no copy.
        if let Some((chunk, row)) = found.find(offset) {
            let messages = &chunk.messages;
            let (partition, headers) =
                (self::partition(target, messages, row), headers(of, target, original, messages, row));
            let attributes = messages.attributes(row);
            // Its delay is over, and so may be its time: here it is kept.
            let attributes =
                Attributes { group: attributes.group, priority: attributes.priority, ..Attributes::default() };
            batches.entry(partition).or_default().push(&MessageRef {
                key: messages.key(row),
                value: messages.value(row),
                kind: messages.kind(row),
                headers: &headers,
                timestamp_ms: messages.timestamps()[row],
                attributes,
            });
        }
    }
    let open = |(partition, columns)| OpenBatch { partition, columns, ..OpenBatch::default() };
    let (mut sent, mut at) = (Vec::new(), 0);
    let refs = encode_batches(batches.into_iter().map(open).collect(), target.settings.compression, &mut at, &mut sent);
    let refs = refs.map_err(|error| FetchError::Unavailable(error.to_string()))?;
    let copies = Publish { topic: target.topic, requests: Vec::new(), batches: refs };
    let body = sent.iter().map(|batch| batch.bytes.clone()).collect();
    Ok(Copies { command: Command::Bury { copies, settle }, body, batches: sent })
}

fn partition(target: &Target, messages: &Messages, row: usize) -> Partition {
    let group = messages.attributes(row).group.map(str::as_bytes);
    let route = match group.or_else(|| messages.key(row)) {
        Some(name) => Route::Hash(xxh3_64(name)),
        None => Route::Keyless,
    };
    route.partition(target.settings.partitions, Partition(0))
}

type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The headers of the message, those of an earlier burial replaced by this one's.
fn headers<'a>(of: &Of, target: &Target, original: &Original, messages: &'a Messages, row: usize) -> Headers<'a> {
    let kept = messages.headers(row).filter(|(name, _)| !name.starts_with(PREFIX));
    let mut headers: Headers<'a> = kept.map(|(name, value)| (name.into(), value.into())).collect();
    let DeadLetter { reason, deliveries, first_ms, time_ms } = original.letter;
    let told = [
        ("reason", reason.name().to_owned()),
        ("topic", target.from.to_string()),
        ("subscription", of.name.to_string()),
        ("partition", original.at.partition().to_string()),
        ("offset", original.at.offset().to_string()),
        ("delivery-count", deliveries.to_string()),
        ("first-delivered-at", first_ms.to_string()),
        ("dead-at", time_ms.to_string()),
    ];
    headers.extend(told.into_iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), value.into())));
    headers
}

const PREFIX: &str = "brigade-dead-letter-";
