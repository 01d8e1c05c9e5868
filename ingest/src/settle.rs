//! What each request of a flush is answered, and everything else that happens when a proposal is done.

use std::sync::Arc;

use brigade_index::{
    command::{Applied, DuplicateRows, Outcome, Placement, Published, Rejection, RequestOutcome, StoredRows},
    ids::{Partition, Sequence},
    shard::{Committed, ProposeError},
    state::BatchLocation,
};
use tokio::sync::oneshot;

use crate::{
    Admission, IngestError,
    batcher::Shared,
    flush::SentTopic,
    open::{Batched, Span},
    placement::PartPlaces,
};

/// What came of a request; its caller still knows its messages and makes the answer from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Stored now: where its messages are in each partition, in the order in which it used them.
    Stored(Vec<PartPlaces>),
    /// Stored before.
    Duplicate(Arc<Placement>),
}

/// Whoever waits for a request, and its permit, which lives as long as the request is pending.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) answer: oneshot::Sender<Result<Answer, IngestError>>,
    pub(crate) admission: Admission,
}

impl Ticket {
    /// Answers and releases the permit. The client may have gone away; then nobody hears it.
    pub(crate) fn settle(self, answer: Result<Answer, IngestError>) {
        let Self { answer: sender, admission } = self;
        drop(admission);
        let _ = sender.send(answer);
    }
}

/// A flush in flight. However it ends, even if it is dropped unsettled, requests that repeat one of its own are let go
/// and the batcher learns that it is over.
pub(crate) struct Flight {
    pub(crate) topics: Vec<SentTopic<Ticket>>,
    pub(crate) shared: Arc<Shared>,
}

impl Flight {
    /// Answers everyone. Runs on the shard's task.
    pub(crate) fn settle(mut self, result: Result<Committed, ProposeError>) {
        match result {
            Ok(committed) => {
                let (outcomes, place) = (committed.outcomes, (committed.sequence, committed.body_at));
                let mut outcomes = outcomes.into_iter();
                for topic in &mut self.topics {
                    let applied = outcomes.next().unwrap_or(Err(Rejection::Malformed("no outcome")));
                    settle_topic(&self.shared, topic, place, applied);
                }
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, error: &ProposeError) {
        for topic in &mut self.topics {
            settle_all(&self.shared, topic, |_| Err(error.clone().into()));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.refuse(&ProposeError::Unknown("the shard stopped".to_owned()));
        self.shared.flight_over();
    }
}

fn settle_topic(
    shared: &Shared,
    topic: &mut SentTopic<Ticket>,
    (sequence, body_at): (Sequence, u64),
    applied: Applied,
) {
    let published = match applied {
        Ok(Outcome::Published(published)) => published,
        other => {
            let rejection = other.err().unwrap_or(Rejection::Malformed("not a publish"));
            let error = match rejection {
                Rejection::TopicNotFound => IngestError::TopicNotFound(topic.name.clone()),
                other => IngestError::Refused(other),
            };
            return settle_all(shared, topic, |_| Err(error.clone()));
        }
    };
    for (batch, stored) in topic.batches.iter().zip(&published.batches) {
        if !stored.is_empty() {
            let (at, len) = (body_at + batch.at, batch.bytes.len() as u32);
            let location = BatchLocation { sequence, at, len, crc: batch.crc };
            shared.cache.published(location, batch.bytes.clone());
        }
    }
    let partitions: Vec<_> = topic.batches.iter().map(|batch| batch.partition).collect();
    settle_all(shared, topic, |batched| find(&batched.spans, batched.request, &partitions, &published));
}

/// Answers every request of a topic, and those that repeat it.
fn settle_all(
    shared: &Shared,
    topic: &mut SentTopic<Ticket>,
    outcome: impl Fn(&Batched<Ticket>) -> Result<Stored, IngestError>,
) {
    for batched in topic.batched.drain(..) {
        let outcome = outcome(&batched);
        if let Some(request) = batched.request.and_then(|index| topic.requests.get(index as usize)) {
            for repeat in shared.pending.finish(topic.topic, &request.identity) {
                repeat.settle(outcome.clone().and_then(Stored::repeated));
            }
        }
        batched.waiting.settle(outcome.map(Stored::answer));
    }
}

/// What came of a request that the shard took.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stored {
    /// A request without an identity: where it is.
    Plain(Vec<PartPlaces>),
    /// A request with an identity: where it is, and what the shard remembers of it.
    Remembered(Vec<PartPlaces>, Arc<Placement>),
    /// A request with an identity that was stored before.
    Before(Arc<Placement>),
}

impl Stored {
    fn answer(self) -> Answer {
        match self {
            Self::Plain(parts) | Self::Remembered(parts, _) => Answer::Stored(parts),
            Self::Before(placement) => Answer::Duplicate(placement),
        }
    }

    /// The answer of a request that repeats this one.
    fn repeated(self) -> Result<Answer, IngestError> {
        match self {
            Self::Remembered(_, placement) | Self::Before(placement) => Ok(Answer::Duplicate(placement)),
            Self::Plain(_) => Err(faulty("a request without identity was repeated")),
        }
    }
}

/// Finds what came of a request in the outcome of its publish.
fn find(
    spans: &[Span],
    request: Option<u32>,
    partitions: &[Partition],
    published: &Published,
) -> Result<Stored, IngestError> {
    let remembered = match request {
        None => None,
        Some(index) => match published.requests.get(index as usize) {
            Some(RequestOutcome::Stored(placement)) => Some(placement.clone()),
            Some(RequestOutcome::Duplicate(placement)) => return Ok(Stored::Before(placement.clone())),
            Some(RequestOutcome::SequenceTooOld) => return Err(IngestError::SequenceTooOld),
            None => return Err(faulty("a request has no outcome")),
        },
    };
    let mut parts = Vec::with_capacity(spans.len());
    for span in spans {
        let part = partitions.get(span.batch as usize).and_then(|partition| find_span(span, *partition, published));
        parts.push(part.ok_or_else(|| faulty("rows of a request were neither stored nor duplicates"))?);
    }
    Ok(match remembered {
        None => Stored::Plain(parts),
        Some(placement) => Stored::Remembered(parts, placement),
    })
}

/// Where the rows of a span are; `None` if that is not known of each of them.
fn find_span(span: &Span, partition: Partition, published: &Published) -> Option<PartPlaces> {
    let (batch, end) = (span.batch as usize, span.first + span.rows);
    let (base, stored) = StoredRows::within(published.batches.get(batch)?, span.first, end);
    let dropped = published.duplicates.get(batch).map(Vec::as_slice).unwrap_or_default();
    let duplicates: Vec<_> = DuplicateRows::within(dropped, span.first, end).collect();
    let known = stored + duplicates.iter().map(|run| run.rows).sum::<u32>();
    (known == span.rows).then(|| PartPlaces { partition, base: base.unwrap_or_default(), duplicates })
}

/// An outcome that does not fit its publish. Cannot happen while both sides follow the same rules; then the answer must
/// not claim anything.
fn faulty(what: &str) -> IngestError {
    ProposeError::Unknown(what.to_owned()).into()
}

#[cfg(test)]
mod tests;
