//! The loop of one push subscription: takes messages when its endpoint's pace has room for them, posts them, and settles
//! what became of them, in batches. It waits without polling when there is nothing to do.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use brigade_index::env::Env;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Fuse, FusedFuture},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    deliver::{Fault, Post, PushMessage, PushTarget, Verdict},
    metrics::PushMetrics,
    pace::{Outcome, Pace, Room, Ticket},
};

/// Messages taken at once: enough to fill a fast endpoint, few enough to be posted long before they time out.
const MAX_TAKE: usize = 256;

/// Settlements that wait for the ones before them. With so many waiting nothing more is taken.
const MAX_GATHERED: usize = 4_096;

/// Time for recording what became of a post, beyond that for the post.
const SETTLE_MARGIN: Duration = Duration::from_secs(10);

/// Time for the answers to posts in flight when the worker is stopped, and again for recording what came of them.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Pauses after the source could give nothing.
const SOURCE_BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };

/// A message taken from the queue.
#[derive(Debug)]
pub struct Taken<R> {
    /// The message.
    pub message: PushMessage,
    /// What settles it.
    pub receipt: R,
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It was accepted: it is done with.
    Accept,
    /// It was not: it is delivered again after this time, or becomes a dead letter.
    Retry(Duration),
}

/// Why a source did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It may do it later.
    #[error("{0}")]
    Unavailable(String),
    /// The subscription, or this node's part in it, has ended.
    #[error("the subscription is not served here any more")]
    Ended,
}

/// Where the messages of a subscription come from.
pub trait Source: Send + Sync + 'static {
    /// What settles a message.
    type Receipt: Send + 'static;

    /// Takes at least one message and at most `max`; nobody else gets them for the time `visibility`. Waits until there
    /// is one.
    ///
    /// # Errors
    /// When it cannot, now or for ever.
    fn take(
        &self,
        max: usize,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Taken<Self::Receipt>>, SourceError>> + Send;

    /// Records what is to become of messages. A receipt that is good no longer is passed over.
    ///
    /// # Errors
    /// When nothing could be recorded. The messages are delivered again when their time is over.
    fn settle(
        &self,
        settlements: Vec<(Self::Receipt, Settlement)>,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// How a worker goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Most posts in flight.
    pub max_in_flight: usize,
    /// Most posts a second; 0 for no limit.
    pub max_per_second: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
}

/// Delivers the messages of one subscription to its endpoint.
pub struct Worker<S> {
    /// Where they come from.
    pub source: S,
    /// What posts them.
    pub post: Arc<dyn Post>,
    /// Where they go.
    pub target: PushTarget,
    /// How fast.
    pub settings: WorkerSettings,
    /// Randomness for pauses.
    pub env: Env,
    /// Figures.
    pub metrics: PushMetrics,
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, settings) = (&self.target, &self.settings);
        f.debug_struct("Worker").field("target", target).field("settings", settings).finish_non_exhaustive()
    }
}

type Taking<'a, R> = Fuse<BoxFuture<'a, (usize, Result<Vec<Taken<R>>, SourceError>)>>;
type Settling<'a> = Fuse<BoxFuture<'a, (usize, Result<(), SourceError>)>>;

/// A post that has ended.
struct Ended<R> {
    ticket: Ticket,
    receipt: R,
    deliveries: u32,
    verdict: Verdict,
}

/// What a running worker has going.
struct Running<'a, S: Source> {
    worker: &'a Worker<S>,
    pace: Pace,
    started: Instant,
    posts: FuturesUnordered<BoxFuture<'a, Ended<S::Receipt>>>,
    /// A take is dropped before its end only when the worker is stopped: what it had taken may be nobody's until its time
    /// is over.
    taking: Taking<'a, S::Receipt>,
    settling: Settling<'a>,
    gathered: Vec<(S::Receipt, Settlement)>,
    /// Cancelled when the answers to posts in flight are waited for no longer.
    give_up: CancellationToken,
    /// How often in a row the source could give nothing, and when it is asked again.
    refusals: u32,
    take_at: Instant,
}

impl<S: Source> Worker<S> {
    /// For how long a taken message must be nobody else's: it may wait for a place in the node and then be posted, each
    /// for as long as the endpoint's time-out, and is then settled.
    pub fn visibility(&self) -> Duration {
        self.target.endpoint.timeout().saturating_mul(2).saturating_add(SETTLE_MARGIN)
    }

    /// Delivers until `stop` is cancelled or the source ends. Stopped, it begins no posts any more, gives those in flight a
    /// moment, and gives back the messages of those that are not answered by then.
    pub async fn run(self, stop: CancellationToken) {
        let started = Instant::now();
        let WorkerSettings { max_in_flight, max_per_second, backoff } = self.settings;
        let mut running = Running {
            worker: &self,
            pace: Pace::new(max_in_flight, max_per_second, backoff),
            started,
            posts: FuturesUnordered::new(),
            taking: Fuse::terminated(),
            settling: Fuse::terminated(),
            gathered: Vec::new(),
            give_up: CancellationToken::new(),
            refusals: 0,
            take_at: started,
        };
        while !running.step(&stop).await {}
        if stop.is_cancelled() {
            running.finish().await;
        }
    }
}

impl<S: Source> Running<'_, S> {
    /// Begins what can be begun and waits for one thing to happen. Says whether it was the end.
    async fn step(&mut self, stop: &CancellationToken) -> bool {
        let wake = self.begin_take();
        self.begin_settle();
        tokio::select! {
            biased;
            () = stop.cancelled() => return true,
            (count, settled) = &mut self.settling => return self.settled(count, settled),
            Some(ended) = self.posts.next() => self.ended(ended),
            (asked, taken) = &mut self.taking => return self.taken(asked, taken),
            () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => {}
        }
        false
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn random(&self) -> u64 {
        self.worker.env.entropy.next_u64()
    }

    /// Asks for messages if there is room for some. Otherwise says when there will be, if only time is wanting.
    fn begin_take(&mut self) -> Option<Instant> {
        if !self.taking.is_terminated() || self.gathered.len() >= MAX_GATHERED {
            return None;
        }
        if self.take_at > Instant::now() {
            return Some(self.take_at);
        }
        let now = self.now();
        match self.pace.room(now) {
            Room::Full => None,
            Room::At(later) => Some(self.started + later),
            Room::Now(count) => {
                let count = count.min(MAX_TAKE);
                self.pace.reserve(count, now);
                let worker = self.worker;
                let take = async move { (count, worker.source.take(count, worker.visibility()).await) };
                self.taking = take.boxed().fuse();
                None
            }
        }
    }

    /// Records what was gathered, once what was gathered before is recorded.
    fn begin_settle(&mut self) {
        if self.settling.is_terminated() && !self.gathered.is_empty() {
            let (worker, settlements) = (self.worker, std::mem::take(&mut self.gathered));
            let settle = async move { (settlements.len(), worker.source.settle(settlements).await) };
            self.settling = settle.boxed().fuse();
        }
    }

    /// Says whether the source has ended.
    fn taken(&mut self, asked: usize, taken: Result<Vec<Taken<S::Receipt>>, SourceError>) -> bool {
        let now = self.now();
        let taken = match taken {
            Ok(taken) => taken,
            Err(SourceError::Ended) => return true,
            Err(error) => {
                self.pace.give_back(asked);
                self.refusals = self.refusals.saturating_add(1);
                let delay = SOURCE_BACKOFF.delay(self.refusals, None, self.random());
                self.take_at = Instant::now() + delay;
                tracing::debug!(subscription = %self.worker.target.subscription, %error, "nothing taken to be pushed");
                return false;
            }
        };
        self.refusals = 0;
        self.pace.give_back(asked.saturating_sub(taken.len()));
        self.pace.reserve(taken.len().saturating_sub(asked), now);
        let pause = self.pace.pause(now);
        if pause > Duration::ZERO {
            // The endpoint began to fail while this take was waiting: it is not to be posted to now.
            self.pace.give_back(taken.len());
            self.gathered.extend(taken.into_iter().map(|taken| (taken.receipt, Settlement::Retry(pause))));
            return false;
        }
        for Taken { message, receipt } in taken {
            let (worker, ticket, give_up) = (self.worker, self.pace.begin(), self.give_up.clone());
            let post = async move {
                let posted = give_up.run_until_cancelled(worker.post.post(&worker.target, &message)).await;
                let verdict = posted.unwrap_or_else(given_up);
                Ended { ticket, receipt, deliveries: message.delivery_count, verdict }
            };
            self.posts.push(post.boxed());
        }
        false
    }

    fn ended(&mut self, ended: Ended<S::Receipt>) {
        let (now, random) = (self.now(), self.random());
        let outcome = ended.verdict.outcome();
        let was_paused = self.pace.pause(now) > Duration::ZERO;
        self.pace.end(&ended.ticket, outcome, now, random);
        let pause = self.pace.pause(now);
        let backoff = &self.worker.settings.backoff;
        let settlement = match &ended.verdict {
            Verdict::Accepted => Settlement::Accept,
            Verdict::Retry { .. } if outcome == Outcome::Unsent => Settlement::Retry(backoff.min),
            Verdict::Retry { after, .. } => Settlement::Retry(backoff.delay(ended.deliveries, *after, random)),
            Verdict::Refused { .. } => Settlement::Retry(backoff.max),
        };
        if let Verdict::Retry { reason, .. } | Verdict::Refused { reason } = &ended.verdict {
            let (topic, subscription) = (&self.worker.target.topic, &self.worker.target.subscription);
            if pause > Duration::ZERO && !was_paused {
                tracing::warn!(%topic, %subscription, reason, ?pause, "pushing pauses");
            } else {
                tracing::debug!(%topic, %subscription, reason, "a pushed message was not accepted");
            }
        }
        self.gathered.push((ended.receipt, settlement));
    }

    /// Says whether the source has ended.
    fn settled(&mut self, count: usize, settled: Result<(), SourceError>) -> bool {
        let Err(error) = settled else { return false };
        self.worker.metrics.unsettled(count);
        let (topic, subscription) = (&self.worker.target.topic, &self.worker.target.subscription);
        tracing::warn!(%topic, %subscription, count, %error, "pushed messages stay unsettled and are pushed again");
        error == SourceError::Ended
    }

    /// Waits a moment for what is in flight, gives back the rest, and records all that, if that is possible without waiting
    /// long.
    async fn finish(mut self) {
        self.taking = Fuse::terminated();
        let _ = timeout(STOP_TIMEOUT, self.end_posts()).await;
        self.give_up.cancel();
        self.end_posts().await;
        let record = async {
            while !self.settling.is_terminated() || !self.gathered.is_empty() {
                self.begin_settle();
                let (count, settled) = (&mut self.settling).await;
                if self.settled(count, settled) {
                    break;
                }
            }
        };
        let _ = timeout(STOP_TIMEOUT, record).await;
    }

    async fn end_posts(&mut self) {
        while let Some(ended) = self.posts.next().await {
            self.ended(ended);
        }
    }
}

/// What becomes of a post when the worker is stopped.
fn given_up() -> Verdict {
    let reason = "the post was given up, because pushing to this endpoint stops or its settings have changed";
    Verdict::Retry { after: None, fault: Fault::Node, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
