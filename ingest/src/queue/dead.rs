//! Dead letters: they stay where they are, in the log, and the subscription remembers them. Listing reads them there;
//! giving one back makes its message open again, for this subscription alone.

use std::pin::pin;

use brigade_index::{
    batch::{Columns, MessageRef, Messages},
    command::{Command, DeadLetter, Rejection, Retry, Settle, SettlePartition},
    filter::Filter,
    ids::{Offset, Partition, TopicId},
};
use futures::{Stream, StreamExt, TryStreamExt};

use super::{
    DeadLetterPage, DeadLetterPick, DeadLetterQuery, QueueHandle,
    handle::{Around, News, Of},
    load::FETCHES,
    task::Message,
};
use crate::{
    IngestError, Slice, plan,
    source::{Source, sources_from},
};

/// Dead letters that are looked at together, and decided on in one entry.
const CHUNK: usize = 1_000;

/// Dead letters that are looked at for one page, which then may have fewer than were asked for, or none: the answer does not
/// let its client wait for the rest.
const LOOKED: usize = 10 * CHUNK;

/// A dead letter and where its message is.
struct Found {
    partition: Partition,
    offset: Offset,
    letter: DeadLetter,
    /// Where its message is; `None` when it is not kept any more.
    source: Option<Source>,
}

impl Found {
    fn place(&self) -> (Partition, Offset) {
        (self.partition, self.offset)
    }
}

/// The next dead letters behind `after`, at most `most`.
fn next(around: &Around, of: &Of, after: Option<(Partition, Offset)>, most: usize) -> Result<Vec<Found>, IngestError> {
    let state = around.log.state();
    let topic = state.topic(of.topic);
    let queue = of.find(topic).ok_or(Rejection::SubscriptionNotFound)?;
    let logs = topic.map(|topic| topic.partitions.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for (partition, log) in (0..).map(Partition).zip(logs) {
        let from = match after {
            Some((behind, _)) if partition < behind => continue,
            Some((behind, offset)) if partition == behind => offset.next(),
            _ => Offset(0),
        };
        let Some(part) = queue.partition(partition) else { continue };
        for (offset, letter) in part.dead().range(from.max(log.log_start)..) {
            let source = sources_from(log, *offset).next().filter(|source| source.first() <= *offset);
            found.push(Found { partition, offset: *offset, letter: *letter, source });
            if found.len() >= most {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Fetches the messages of dead letters, in their order and some ahead. Those that the filter does not match, and those whose
/// messages are not kept any more, come without.
fn fetch<'a>(
    around: &'a Around,
    topic: TopicId,
    found: Vec<Found>,
    filter: Option<&'a Filter>,
) -> impl Stream<Item = Result<(Found, Option<Slice>), IngestError>> + 'a {
    let fetch = move |found: Found| async move {
        let (partition, base) = found.place();
        let Some(source) = &found.source else { return Ok((found, None)) };
        let there = around.cache.chunks(topic, partition, source, (base, base.next())).await?;
        let there = there.find(base).map(|(chunk, row)| (&chunk.messages, row));
        let wanted = there.filter(|(messages, row)| filter.is_none_or(|filter| filter.matches_row(messages, *row)));
        let slice = |(messages, row)| Slice { partition, base, messages: alone(messages, row), first: 0, rows: 1 };
        Ok((found, wanted.map(slice)))
    };
    futures::stream::iter(found).map(fetch).buffered(FETCHES)
}

/// A batch of one message only: letters lie far apart, and a page of them would keep all of their batches in memory.
fn alone(messages: &Messages, row: usize) -> Messages {
    let headers: Vec<_> = messages.headers(row).map(|(name, value)| (name.into(), value.into())).collect();
    let mut columns = Columns::default();
    columns.push(&MessageRef {
        key: messages.key(row),
        value: messages.value(row),
        kind: messages.kind(row),
        headers: &headers,
        timestamp_ms: messages.timestamps()[row],
        attributes: messages.attributes(row),
    });
    Messages::new(columns.into_record_batch()).expect("columns have the schema of batches")
}

pub(super) async fn list(around: &Around, of: &Of, query: DeadLetterQuery) -> Result<DeadLetterPage, IngestError> {
    let (mut letters, mut after, mut bytes, mut looked) = (Vec::new(), query.after, 0, 0);
    loop {
        let most = if query.filter.is_some() { CHUNK } else { CHUNK.min(query.max_messages.max(1)) };
        let found = next(around, of, after, most)?;
        if found.is_empty() {
            return Ok(DeadLetterPage { letters, next: None });
        }
        let mut fetched = pin!(fetch(around, of.topic, found, query.filter.as_ref()));
        while let Some(one) = fetched.next().await {
            let (found, slice) = one?;
            if let Some(slice) = slice {
                bytes += plan::bytes(&slice);
                if !letters.is_empty() && (letters.len() >= query.max_messages || bytes > query.max_bytes) {
                    return Ok(DeadLetterPage { letters, next: after });
                }
                letters.push((slice, found.letter));
            }
            (after, looked) = (Some(found.place()), looked + 1);
            if looked >= LOOKED {
                return Ok(DeadLetterPage { letters, next: after });
            }
        }
    }
}

/// Dead letters that are picked, some at a time.
async fn pick_some(
    queue: &QueueHandle,
    pick: &DeadLetterPick,
    after: &mut Option<(Partition, Offset)>,
    left: u64,
) -> Result<Option<Vec<(Partition, Offset)>>, IngestError> {
    let most = if pick.filter.is_some() { CHUNK } else { CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)) };
    let found = next(queue.around(), queue.of(), *after, most)?;
    let Some(end) = found.last().map(Found::place) else { return Ok(None) };
    *after = Some(end);
    let mut places: Vec<_> = match &pick.filter {
        // Without a filter nothing has to be read.
        None => found.iter().map(Found::place).collect(),
        filter => {
            let place = |(found, slice): (Found, Option<Slice>)| async move { Ok(slice.map(|_| found.place())) };
            fetch(queue.around(), queue.of().topic, found, filter.as_ref()).try_filter_map(place).try_collect().await?
        }
    };
    places.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    Ok(Some(places))
}

/// Decides on the dead letters that are picked, an entry for some at a time. Gives their number.
async fn decide(
    queue: &QueueHandle,
    pick: DeadLetterPick,
    news: News,
    mut decide: impl FnMut(&mut SettlePartition, Offset, u64),
) -> Result<u64, IngestError> {
    let (mut after, mut done) = (None, 0);
    let most = pick.max_messages.unwrap_or(u64::MAX);
    while done < most {
        let Some(places) = pick_some(queue, &pick, &mut after, most - done).await? else { break };
        let mut partitions: Vec<SettlePartition> = Vec::new();
        for (partition, offset) in places {
            if partitions.last().is_none_or(|part| part.partition != partition) {
                partitions.push(SettlePartition::new(partition));
            }
            partitions.last_mut().into_iter().for_each(|part| decide(part, offset, done));
            done += 1;
        }
        if !partitions.is_empty() {
            let of = queue.of();
            let settle = Settle { topic: of.topic, name: of.name.clone(), subscription: of.id, partitions };
            queue.propose(Command::Settle(settle), news).await?;
        }
    }
    Ok(done)
}

pub(super) async fn redrive(queue: &QueueHandle, pick: DeadLetterPick) -> Result<u64, IngestError> {
    let (now_ms, rate) = (queue.around().env.clock.now_ms(), pick.per_second);
    decide(queue, pick, News::IfLeft(|| Message::LookAgain), |part, offset, number| {
        part.restored.push(offset);
        // The rate is a plan that is committed at once: nobody has to stay alive to keep to it.
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            let after = i64::try_from(number.saturating_mul(1_000) / u64::from(rate)).unwrap_or(i64::MAX);
            let not_before_ms = now_ms.saturating_add(after);
            part.retries.push((offset, Retry { not_before_ms, ..Retry::default() }));
        }
    })
    .await
}

pub(super) async fn purge(queue: &QueueHandle, pick: DeadLetterPick) -> Result<u64, IngestError> {
    decide(queue, pick, News::Nothing, |part, offset, _| part.purged.push(offset)).await
}
