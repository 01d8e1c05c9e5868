//! Fetches pages ahead of the writing.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::{Client, ClientError, Page, ReadFormat, ReadRequest, RetryPolicy, Start};

/// Pages that may wait to be written.
const PAGES_AHEAD: usize = 2;

/// Bounds of a page.
const PAGE_MESSAGES: u64 = 20_000;
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// What to fetch of each partition.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: String,
    pub(super) from: Start,
    /// End before the first message of this time or later.
    pub(super) until: Option<i64>,
    pub(super) policy: RetryPolicy,
}

/// Starts fetching one partition after the other. Stops when the receiver is dropped.
pub(super) fn start(client: &Client, plan: Plan, partitions: Vec<u32>) -> mpsc::Receiver<Result<Page, ClientError>> {
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    let client = client.clone();
    tokio::spawn(async move {
        for partition in partitions {
            match fetch(&client, &plan, partition, &pages).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The writer may have gone already.
                    let _ = pages.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    receiver
}

/// Fetches a partition; says whether anybody wants the next one.
async fn fetch(
    client: &Client,
    plan: &Plan,
    partition: u32,
    pages: &mpsc::Sender<Result<Page, ClientError>>,
) -> Result<bool, ClientError> {
    let read = async |start, max_messages| {
        let request = ReadRequest {
            partition,
            start,
            max_messages,
            max_bytes: PAGE_BYTES,
            wait: Duration::ZERO,
            format: ReadFormat::Arrow,
        };
        client.retry(&plan.policy, || client.read(&plan.topic, &request)).await.map(|(page, _)| page)
    };
    let mut end = match plan.until {
        None => None,
        Some(time) => Some(first_offset(&read(Start::Timestamp(time), 1).await?)?),
    };
    let mut start = plan.from;
    loop {
        let left = match (start, end) {
            (Start::Offset(next), Some(end)) if next >= end => return Ok(true),
            (Start::Offset(next), Some(end)) => PAGE_MESSAGES.min(end - next),
            _ => PAGE_MESSAGES,
        };
        // Where the first page begins is known only when it is there.
        let page = match (start, end) {
            (Start::Offset(_), _) | (_, None) => read(start, left).await?,
            (_, Some(_)) => {
                start = Start::Offset(first_offset(&read(start, 1).await?)?);
                continue;
            }
        };
        let end = *end.get_or_insert(page.high_watermark);
        let next = page.next_offset;
        let stuck = matches!(start, Start::Offset(start) if next <= start);
        start = Start::Offset(next);
        if pages.send(Ok(page)).await.is_err() {
            return Ok(false);
        }
        if next >= end || stuck {
            return Ok(true);
        }
    }
}

/// Offset of the first message of a page; where the next one would be if it has none.
fn first_offset(page: &Page) -> Result<u64, ClientError> {
    let batches = super::sink::batches(page).map_err(|why| ClientError::Answer { why })?;
    let first = batches.first().filter(|(_, offsets, _)| !offsets.is_empty());
    Ok(first.map_or(page.next_offset, |(_, offsets, _)| offsets[0]))
}
