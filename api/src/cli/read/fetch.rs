//! Fetches pages ahead of the printing.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::{Client, ClientError, Page, ReadFormat, ReadRequest, RetryPolicy, Start};

/// Pages that may wait for the printer: one is printed, one waits, one is on its way.
const PAGES_AHEAD: usize = 1;

/// How long a follower's request waits on the server.
const FOLLOW_WAIT: Duration = Duration::from_secs(20);

/// What to fetch of each partition.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: String,
    pub(super) start: Start,
    pub(super) max_messages: u64,
    pub(super) max_bytes: u64,
    pub(super) follow: bool,
    pub(super) give_up_after: Duration,
}

type Pages = mpsc::Sender<Result<Page, ClientError>>;

/// Starts fetching: one partition after the other, or all at once when following. Stops when the receiver is dropped.
pub(super) fn start(client: &Client, plan: Plan, partitions: Vec<u32>) -> mpsc::Receiver<Result<Page, ClientError>> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    if plan.follow {
        for partition in partitions {
            let (client, plan, sender) = (client.clone(), plan.clone(), sender.clone());
            tokio::spawn(async move { fetch(&client, &plan, partition, &sender).await });
        }
    } else {
        let client = client.clone();
        tokio::spawn(async move {
            for partition in partitions {
                if !fetch(&client, &plan, partition, &sender).await {
                    return;
                }
            }
        });
    }
    receiver
}

/// Fetches a partition; says whether to go on with the next one.
async fn fetch(client: &Client, plan: &Plan, partition: u32, pages: &Pages) -> bool {
    let policy = RetryPolicy { give_up_after: plan.give_up_after, ..RetryPolicy::default() };
    let mut start = plan.start;
    let mut end = None;
    loop {
        let request = ReadRequest {
            partition,
            start,
            max_messages: plan.max_messages,
            max_bytes: plan.max_bytes,
            wait: if plan.follow { FOLLOW_WAIT } else { Duration::ZERO },
            format: ReadFormat::NdJson,
        };
        let page = match client.retry(&policy, || client.read(&plan.topic, &request)).await {
            Ok((page, _)) => page,
            Err(error) => {
                // The printer may have gone already.
                let _ = pages.send(Err(error)).await;
                return false;
            }
        };
        let end = *end.get_or_insert(page.high_watermark);
        let (next, empty) = (page.next_offset, page.body.is_empty());
        start = Start::Offset(next);
        if !empty && pages.send(Ok(page)).await.is_err() {
            return false;
        }
        if !plan.follow && (next >= end || empty) {
            return true;
        }
    }
}
