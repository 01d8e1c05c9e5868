//! Fetches pages ahead of the writing.

use std::{ops::Range, time::Duration};

use arrow::{
    array::{AsArray, BooleanArray},
    compute::filter_record_batch,
    datatypes::{UInt32Type, UInt64Type},
    ipc::reader::StreamReader,
};
use brigade_index::batch::Messages;
use tokio::sync::mpsc;

use crate::client::{Client, ClientError, Page, ReadFormat, ReadRequest, RetryPolicy, Start};

/// Pages that may wait to be written.
const PAGES_AHEAD: usize = 2;

/// Bounds of a page.
const PAGE_MESSAGES: u64 = 20_000;
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// Archive files asked for in one request.
const FILES_PAGE: u32 = 1_000;

/// Timestamps that are wanted, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Not before.
    pub(super) from: Option<i64>,
    /// Only before.
    pub(super) until: Option<i64>,
}

impl Times {
    /// Whether every timestamp is wanted.
    pub(super) fn are_all(self) -> bool {
        self.from.is_none() && self.until.is_none()
    }

    fn has(self, time: i64) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }

    /// Whether one of these timestamps, the smallest and the largest of some, may be wanted.
    fn may_have(self, smallest: i64, largest: i64) -> bool {
        self.from.is_none_or(|from| from <= largest) && self.until.is_none_or(|until| smallest < until)
    }
}

/// What to fetch.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: String,
    pub(super) times: Times,
    /// Where to begin in every partition; otherwise at its first message.
    pub(super) offset: Option<u64>,
    pub(super) policy: RetryPolicy,
}

/// Messages of a partition with their offsets.
pub(super) type Batch = (u32, Vec<u64>, Messages);

/// A page that was fetched, with those of its messages that are wanted.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) partition: u32,
    pub(super) batches: Vec<Batch>,
    /// Where the next page begins.
    pub(super) next: u64,
}

/// Starts fetching one partition after the other, each up to the offset given with it. Stops when the receiver is dropped.
pub(super) fn start(
    client: &Client,
    plan: Plan,
    partitions: Vec<(u32, u64)>,
) -> mpsc::Receiver<Result<Fetched, ClientError>> {
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    let fetcher = Fetcher { client: client.clone(), plan, pages };
    tokio::spawn(async move {
        for (partition, end) in partitions {
            match fetcher.partition(partition, end).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The writer may have gone already.
                    let _ = fetcher.pages.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    receiver
}

struct Fetcher {
    client: Client,
    plan: Plan,
    pages: mpsc::Sender<Result<Fetched, ClientError>>,
}

impl Fetcher {
    /// Fetches a partition up to `end`; says whether anybody wants the next one.
    async fn partition(&self, partition: u32, end: u64) -> Result<bool, ClientError> {
        let skips = self.skips(partition).await?;
        let mut start = match (self.plan.offset, self.plan.times.from) {
            (Some(offset), _) => Start::Offset(offset),
            (None, None) => Start::Earliest,
            // Everything before the first message of this time or later is older.
            (None, Some(time)) => Start::Offset(first_offset(&self.read(partition, Start::Timestamp(time), 1).await?)?),
        };
        let mut read_before = false;
        loop {
            let mut most = PAGE_MESSAGES;
            if let Start::Offset(next) = &mut start {
                *next = behind(&skips, *next);
                if *next >= end {
                    return Ok(true);
                }
                most = most.min(stop(&skips, *next, end) - *next);
            }
            let page = match self.read(partition, start, most).await {
                // Retention has dropped it since the export began.
                Err(error) if read_before && error.code() == "offset_expired" => {
                    self.read(partition, Start::Earliest, most).await?
                }
                page => page?,
            };
            let next = page.next_offset;
            let stuck = matches!(start, Start::Offset(start) if next <= start);
            let batches = self.wanted(&page, end)?;
            let fetched = Fetched { partition, batches, next };
            if self.pages.send(Ok(fetched)).await.is_err() {
                return Ok(false);
            }
            if next >= end || stuck {
                return Ok(true);
            }
            (start, read_before) = (Start::Offset(next), true);
        }
    }

    async fn read(&self, partition: u32, start: Start, max_messages: u64) -> Result<Page, ClientError> {
        let (max_bytes, wait, format) = (PAGE_BYTES, Duration::ZERO, ReadFormat::Arrow);
        let request = ReadRequest { partition, start, max_messages, max_bytes, wait, format };
        let read = || self.client.read(&self.plan.topic, &request);
        self.client.retry(&self.plan.policy, read).await.map(|(page, _)| page)
    }

    /// Offsets without a message of the wanted times, ascending: what archive files cover, whatever becomes of these.
    async fn skips(&self, partition: u32) -> Result<Vec<Range<u64>>, ClientError> {
        let (mut skips, mut after) = (Vec::new(), None::<String>);
        if self.plan.times.are_all() {
            return Ok(skips);
        }
        loop {
            let (topic, place) = (&self.plan.topic, after.as_deref());
            let list = || self.client.topic_files(topic, Some(partition), place, FILES_PAGE);
            let (page, _) = self.client.retry(&self.plan.policy, list).await?;
            for file in page.files {
                if !self.plan.times.may_have(file.min_timestamp, file.max_timestamp) {
                    skips.push(file.first_offset..file.end_offset);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(skips);
            }
        }
    }

    /// The messages of a page that are wanted.
    fn wanted(&self, page: &Page, end: u64) -> Result<Vec<Batch>, ClientError> {
        let mut kept = Vec::new();
        for (partition, offsets, messages) in batches(page).map_err(|why| ClientError::Answer { why })? {
            let all = offsets.iter().zip(messages.timestamps());
            let wanted: Vec<_> = all.map(|(offset, time)| *offset < end && self.plan.times.has(*time)).collect();
            if wanted.iter().all(|wanted| *wanted) {
                kept.push((partition, offsets, messages));
            } else if wanted.contains(&true) {
                let offsets = offsets.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(offset, _)| *offset);
                let rows = filter_record_batch(messages.record_batch(), &BooleanArray::from(wanted.clone()));
                let rows = rows.map_err(|error| error.to_string()).map(Messages::new);
                let messages = rows.and_then(|rows| rows.map_err(|error| error.to_string()));
                kept.push((partition, offsets.collect(), messages.map_err(|why| ClientError::Answer { why })?));
            }
        }
        Ok(kept)
    }
}

/// The first offset from `next` on that is not skipped.
fn behind(skips: &[Range<u64>], next: u64) -> u64 {
    skips.iter().fold(next, |next, skip| if skip.contains(&next) { skip.end } else { next })
}

/// The first offset behind `next` that is skipped, at most `end`.
fn stop(skips: &[Range<u64>], next: u64, end: u64) -> u64 {
    skips.iter().map(|skip| skip.start).find(|start| *start > next).map_or(end, |start| start.min(end))
}

/// Offset of the first message of a page; where the next one would be if it has none.
fn first_offset(page: &Page) -> Result<u64, ClientError> {
    let batches = batches(page).map_err(|why| ClientError::Answer { why })?;
    let first = batches.first().filter(|(_, offsets, _)| !offsets.is_empty());
    Ok(first.map_or(page.next_offset, |(_, offsets, _)| offsets[0]))
}

/// The messages of a page in Arrow format: partition, offsets, and what is stored.
fn batches(page: &Page) -> Result<Vec<Batch>, String> {
    if page.body.is_empty() {
        return Ok(Vec::new());
    }
    let reader = StreamReader::try_new(&page.body[..], None).map_err(|error| error.to_string())?;
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let partition = batch.column(0).as_primitive_opt::<UInt32Type>().ok_or("no partition")?;
        let offsets = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or("no offset")?;
        if batch.num_rows() == 0 {
            continue;
        }
        let columns: Vec<_> = (2..batch.num_columns()).collect();
        let stored = batch.project(&columns).map_err(|error| error.to_string())?;
        let messages = Messages::new(stored).map_err(|error| error.to_string())?;
        batches.push((partition.value(0), offsets.values().to_vec(), messages));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_jumped_over() {
        let skips = [0..10, 10..15, 20..30];
        let jumps = [(0, 15), (14, 15), (15, 15), (19, 19), (20, 30), (30, 30)];
        assert!(jumps.into_iter().all(|(next, jump)| behind(&skips, next) == jump));
        assert_eq!((stop(&skips, 15, 40), stop(&skips, 15, 18), stop(&skips, 30, 40)), (20, 18, 40));
    }

    #[test]
    fn times_that_overlap_are_looked_at() {
        let times = Times { from: Some(10), until: Some(20) };
        assert!(times.has(10) && times.has(19) && !times.has(9) && !times.has(20));
        assert!(times.may_have(0, 10) && times.may_have(19, 90) && !times.may_have(0, 9) && !times.may_have(20, 90));
        assert!(Times::default().are_all() && Times::default().may_have(i64::MIN, i64::MAX));
    }
}
