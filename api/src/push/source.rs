//! The queue subscription as the source of what is pushed.

use std::{collections::BTreeMap, time::Duration};

use brigade_index::shard::ProposeError;
use brigade_ingest::{Action, Delivery, IngestError, QueueHandle, QueuePoll, Slice};
use futures::future::join_all;

use super::{
    deliver::PushMessage,
    worker::{Settlement, Source, SourceError, Taken},
};

/// Most bytes taken at once; a single message may have more.
const TAKE_BYTES: usize = 4 * 1024 * 1024;

/// How long one poll waits for messages. It costs nothing while it waits, so only the end of the wait costs something.
const WAIT: Duration = Duration::from_secs(60 * 60);

/// Takes from a queue subscription like any other consumer. A take that is dropped gives back what it was given.
pub struct QueueSource(QueueHandle);

impl QueueSource {
    /// Takes from this subscription.
    pub const fn new(queue: QueueHandle) -> Self {
        Self(queue)
    }

    fn problem(&self, error: IngestError) -> SourceError {
        let over = match &error {
            IngestError::Propose(ProposeError::NotLeader { .. } | ProposeError::ShuttingDown) => true,
            // A task that ends is no sign that the subscription is gone.
            IngestError::Refused(_) | IngestError::TopicNotFound(_) => self.0.settings().is_err(),
            _ => false,
        };
        if over { SourceError::Ended } else { SourceError::Unavailable(error.to_string()) }
    }

    async fn settle_all(&self, action: Action, receipts: Vec<String>) -> Result<(), SourceError> {
        if receipts.is_empty() {
            return Ok(());
        }
        let settled = self.0.settle(action, &receipts).await.map_err(|error| self.problem(error))?;
        for refused in settled.iter().filter_map(|settled| settled.as_ref().err()) {
            tracing::debug!(error = %refused, "what was pushed is not settled by its receipt");
        }
        Ok(())
    }
}

impl Source for QueueSource {
    type Receipt = String;

    async fn take(&self, max: usize, visibility: Duration) -> Result<Vec<Taken<String>>, SourceError> {
        let poll = QueuePoll { max_messages: max, max_bytes: TAKE_BYTES, wait: WAIT, visibility: Some(visibility) };
        loop {
            let deliveries = self.0.poll(poll).await.map_err(|error| self.problem(error))?;
            let taken: Vec<_> = deliveries.into_iter().flat_map(taken).collect();
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    async fn settle(&self, settlements: Vec<(String, Settlement)>) -> Result<(), SourceError> {
        let (mut accepted, mut retries) = (Vec::new(), BTreeMap::<Duration, Vec<String>>::new());
        for (receipt, settlement) in settlements {
            match settlement {
                Settlement::Accept => accepted.push(receipt),
                Settlement::Retry(delay) => retries.entry(delay).or_default().push(receipt),
            }
        }
        // All at once, so that they share an entry: nearly every delay is another one.
        let retries = retries.into_iter().map(|(delay, receipts)| (Action::Nack { delay: Some(delay) }, receipts));
        let calls = std::iter::once((Action::Ack, accepted)).chain(retries);
        let settled = join_all(calls.map(|(action, receipts)| self.settle_all(action, receipts))).await;
        settled.into_iter().collect()
    }
}

/// Each message of a delivery.
fn taken(delivery: Delivery) -> impl Iterator<Item = Taken<String>> {
    let Delivery { slice: Slice { partition, base, messages, first, rows }, receipts } = delivery;
    (0..rows).zip(receipts).map(move |(at, handed)| {
        let message = PushMessage {
            partition: partition.0,
            offset: base.0 + at as u64,
            messages: messages.clone(),
            row: first + at,
            delivery_count: handed.deliveries,
            first_delivered_ms: handed.first_ms,
        };
        Taken { message, receipt: handed.receipt }
    })
}
