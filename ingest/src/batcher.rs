//! The batcher: the one task that owns what is open, and drives the rules of [`open`](crate::open).

use std::{
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use brigade_index::{
    shard::{Proposal, ProposeError},
    state::Known,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    IngestError, IngestMetrics,
    cache::BatchCache,
    flush::{Encoded, INLINE_BYTES, encode_flush},
    log::Log,
    open::{Flush, OpenBatches, Request, Trigger},
    pending::Pending,
    settle::{Answer, Flight, Ticket},
};

/// Requests that may wait for the batcher; admission bounds their bytes.
pub(crate) const INBOX: usize = 4_096;

/// Requests taken from the inbox at a time.
const TAKE: usize = 256;

/// What the batcher shares with the flushes in flight.
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) cache: Arc<BatchCache>,
    pub(crate) metrics: IngestMetrics,
    pub(crate) pending: Pending<Ticket>,
    /// Flushes that are over and that the batcher has not counted yet.
    over: AtomicUsize,
    wake: Notify,
}

impl Shared {
    pub(crate) fn new(log: Log, cache: Arc<BatchCache>, metrics: IngestMetrics) -> Arc<Self> {
        let (pending, over, wake) = (Pending::default(), AtomicUsize::new(0), Notify::new());
        Arc::new(Self { log, cache, metrics, pending, over, wake })
    }

    /// A flush is over, however it ended.
    pub(crate) fn flight_over(&self) {
        self.over.fetch_add(1, Ordering::Release);
        self.wake.notify_one();
    }
}

/// A proposal that is ready, or being encoded on another task; `None` if it could not be encoded.
type Encoding = BoxFuture<'static, Option<Proposal>>;

pub(crate) struct Batcher {
    shared: Arc<Shared>,
    open: OpenBatches<Ticket>,
    /// Proposals in the order in which they are to be submitted.
    encoding: FuturesOrdered<Encoding>,
    started: Instant,
}

impl Batcher {
    pub(crate) fn new(shared: Arc<Shared>, linger: Duration, pace: Duration) -> Self {
        let (open, encoding) = (OpenBatches::new(linger, pace), FuturesOrdered::new());
        Self { shared, open, encoding, started: Instant::now() }
    }

    /// Runs until `closing` is cancelled or every sender is gone, and then until everything is answered.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Request<Ticket>>, closing: CancellationToken) {
        let mut arrived = Vec::with_capacity(TAKE);
        let (mut closed, mut draining) = (false, false);
        let mut linger = pin!(tokio::time::sleep_until(self.started));
        loop {
            self.open.finished(self.shared.over.swap(0, Ordering::Acquire));
            while let Some((flush, trigger)) = self.open.take(self.started.elapsed()) {
                self.send(flush, trigger).await;
            }
            if closed && self.open.is_idle() {
                return;
            }
            let deadline = self.open.deadline().map(|after| self.started + after);
            if let Some(deadline) = deadline.filter(|deadline| *deadline != linger.deadline()) {
                linger.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                Some(proposal) = self.encoding.next(), if !self.encoding.is_empty() => self.submit(proposal).await,
                () = self.shared.wake.notified() => {}
                () = closing.cancelled(), if !draining => {
                    draining = true;
                    inbox.close();
                    self.open.drain();
                }
                taken = inbox.recv_many(&mut arrived, TAKE), if !closed => {
                    closed = taken == 0;
                    arrived.drain(..).for_each(|request| self.accept(request));
                }
                () = linger.as_mut(), if deadline.is_some() => {}
            }
        }
    }

    /// Opens a request, unless another of the same identity is pending or stored.
    fn accept(&mut self, mut request: Request<Ticket>) {
        if let Some(wanted) = &request.identity {
            let (topic, identity) = (request.topic, wanted.identity.clone());
            let Some(waiting) = self.shared.pending.attach(topic, &identity, request.waiting) else {
                return;
            };
            let known = self.shared.log.state().topic(topic).map(|topic| topic.dedup.look_up(&identity));
            match known {
                Some(Known::Duplicate(placement)) => return waiting.settle(Ok(Answer::Duplicate(placement))),
                Some(Known::TooOld) => return waiting.settle(Err(IngestError::SequenceTooOld)),
                // A topic that is gone is refused when the publish is applied.
                Some(Known::New) | None => {}
            }
            self.shared.pending.begin(topic, identity);
            request.waiting = waiting;
        }
        self.open.push(request, self.started.elapsed());
    }

    /// Encodes a flush and submits it after those before it: here when small, on a task of its own when large.
    async fn send(&mut self, flush: Flush<Ticket>, trigger: Trigger) {
        self.shared.metrics.flushed(trigger);
        let shared = self.shared.clone();
        if flush.bytes >= INLINE_BYTES {
            let task = tokio::spawn(async move { propose(shared, flush) });
            self.encoding.push_back(task.map(Result::unwrap_or_default).boxed());
        } else if self.encoding.is_empty() {
            let proposal = propose(shared, flush);
            self.submit(proposal).await;
        } else {
            self.encoding.push_back(ready(propose(shared, flush)).boxed());
        }
    }

    async fn submit(&mut self, proposal: Option<Proposal>) {
        if let Some(proposal) = proposal {
            self.shared.log.submit(proposal).await;
        }
    }
}

/// Makes a flush into a proposal whose outcome is answered to everyone in it.
fn propose(shared: Arc<Shared>, flush: Flush<Ticket>) -> Option<Proposal> {
    let (Encoded { commands, body, topics }, problem) = encode_flush(flush);
    let flight = Flight { topics, shared };
    if let Some(problem) = problem {
        tracing::error!(error = %problem, "a batch could not be encoded");
        flight.settle(Err(ProposeError::Unavailable(problem.to_string())));
        return None;
    }
    Some(Proposal { commands, body, done: Box::new(move |result| flight.settle(result)) })
}
