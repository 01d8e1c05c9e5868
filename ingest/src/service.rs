//! The handle through which messages are published and read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use brigade_index::{
    command::{Identity, Rejection},
    env::Env,
    ids::{Offset, Partition, TopicId},
    limits::MAX_MESSAGES_PER_PUBLISH,
    names::{SubscriptionName, TopicName, TransactionId},
    shard::{ProposeError, Shard},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Admission, Draft, IngestError, IngestMetrics, IngestSettings, MAX_REQUEST_BYTES, Members, PollReply, PollRequest,
    ReadReply, ReadRequest,
    admission::Gate,
    ahead::ReadAhead,
    batcher::{Batcher, INBOX, Shared},
    cache::BatchCache,
    log::Log,
    membership::Membership,
    open::Request,
    placement::{self, Places},
    queue::{Around, QueueHandle, Queues},
    reader::Reader,
    settle::{Answer, Ticket},
    transaction::{self, Ask, TransactionDraft, TransactionRecord, TransactionReply, Transactions},
};

/// Publishing and reading. A handle; cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    log: Log,
    settings: IngestSettings,
    env: Env,
    gate: Arc<Gate>,
    metrics: IngestMetrics,
    reader: Reader,
    transactions: Arc<Transactions>,
    membership: Membership,
    queues: Arc<Queues>,
    inbox: mpsc::Sender<Request<Ticket>>,
    /// Turn of the partitions for messages without a key.
    turn: AtomicU64,
    /// Cancelled when nothing more is taken.
    closing: CancellationToken,
    /// Cancelled when the batcher has answered everything and ended.
    closed: CancellationToken,
}

/// The answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishReply {
    /// Partition and offset of each message, or of the one stored before it with the same deduplication id, in the order
    /// in which they were pushed.
    pub placed: Vec<(Partition, Offset)>,
    /// Indexes of the messages that were not stored because one with the same deduplication id was; ascending.
    pub duplicates: Vec<usize>,
    /// Whether the request had been stored before; `placed` is then the original answer.
    pub duplicate: bool,
}

impl PublishReply {
    pub(crate) fn new(Places { placed, duplicates }: Places, duplicate: bool) -> Self {
        Self { placed, duplicates, duplicate }
    }
}

impl Ingest {
    /// Starts the batcher task (tracked by `tasks`). `metrics` go on from reign to reign.
    pub fn start(
        shard: Shard,
        settings: IngestSettings,
        metrics: IngestMetrics,
        env: Env,
        tasks: &TaskTracker,
    ) -> Self {
        Self::start_on(Log::Shard(shard), settings, metrics, env, tasks)
    }

    pub(crate) fn start_on(
        log: Log,
        settings: IngestSettings,
        metrics: IngestMetrics,
        env: Env,
        tasks: &TaskTracker,
    ) -> Self {
        let gate = metrics.gate().clone();
        let cache = Arc::new(BatchCache::new(log.clone(), settings.cache_bytes, metrics.clone()));
        metrics.watch(&cache);
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let ahead = ReadAhead::new(cache.clone(), tasks.clone(), closing.clone());
        let reader = Reader::new(log.clone(), cache.clone(), ahead.clone(), metrics.clone());
        let membership = Membership::new(log.clone());
        let (inbox, requests) = mpsc::channel(INBOX);
        let queues = Queues::new(Around {
            log: log.clone(),
            cache: cache.clone(),
            ahead,
            metrics: metrics.clone(),
            env: env.clone(),
            tasks: tasks.clone(),
            closing: closing.clone(),
            request_timeout: settings.request_timeout,
        });
        let transactions = Transactions::new(transaction::Around {
            log: log.clone(),
            cache: cache.clone(),
            queues: queues.clone(),
            env: env.clone(),
            tasks: tasks.clone(),
            request_timeout: settings.request_timeout,
        });
        let batcher = Batcher::new(Shared::new(log.clone(), cache, metrics.clone()), settings.linger, settings.pace);
        let (stop, ended) = (closing.clone(), closed.clone().drop_guard());
        tasks.spawn(async move {
            let _ended = ended;
            batcher.run(requests, stop).await;
        });
        let turn = AtomicU64::new(env.entropy.next_u64());
        Self(Arc::new(Inner {
            log,
            settings,
            env,
            gate,
            metrics,
            reader,
            transactions,
            membership,
            queues,
            inbox,
            turn,
            closing,
            closed,
        }))
    }

    /// Figures of publishing and reading.
    pub fn metrics(&self) -> &IngestMetrics {
        &self.0.metrics
    }

    /// Room for `bytes` of request body, before it is read. Refused at once when there is none.
    ///
    /// # Errors
    /// `Busy` when there is no room now, `TooLarge` when there can never be, `Propose` when the shard takes nothing.
    pub fn admit(&self, bytes: usize) -> Result<Admission, IngestError> {
        let admitted = self.ready().and_then(|()| self.0.gate.admit(bytes));
        admitted.inspect_err(|error| self.0.metrics.refused(error))
    }

    /// An empty draft of a publish to a topic.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn draft(&self, topic: &TopicName, identity: Option<Identity>) -> Result<Draft, IngestError> {
        let found = self.0.log.state().topic_named(topic).map(|topic| (topic.id, topic.settings.clone()));
        let (id, settings) = found.ok_or_else(|| IngestError::TopicNotFound(topic.clone()))?;
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let keyless = Partition((turn % u64::from(settings.partitions.max(1))) as u32);
        Ok(Draft::new((topic.clone(), id), settings, identity, keyless, self.0.env.clock.now_ms()))
    }

    /// Publishes; answers when committed. A request is stored whole or not at all.
    ///
    /// When the caller goes away, the request goes on.
    ///
    /// # Errors
    /// `TimedOut` and `Propose(Unknown)` leave open whether it was stored; after all others it was not.
    pub async fn publish(&self, draft: Draft, admission: Admission) -> Result<PublishReply, IngestError> {
        let started = Instant::now();
        let (messages, bytes, payload) = (draft.messages(), draft.bytes(), draft.payload_bytes());
        let reply = self.publish_draft(draft, bytes, admission).await;
        match &reply {
            Ok(reply) if reply.duplicate => self.0.metrics.duplicate(),
            Ok(_) => self.0.metrics.acknowledged(messages, payload, started.elapsed()),
            Err(error) => self.0.metrics.refused(error),
        }
        reply
    }

    async fn publish_draft(
        &self,
        mut draft: Draft,
        bytes: usize,
        mut admission: Admission,
    ) -> Result<PublishReply, IngestError> {
        if draft.messages() == 0 {
            return Ok(PublishReply::new(Places::default(), false));
        }
        debug_assert!(draft.messages() <= MAX_MESSAGES_PER_PUBLISH, "drafts are bounded");
        if bytes > MAX_REQUEST_BYTES {
            return Err(IngestError::TooLarge { bytes, limit: MAX_REQUEST_BYTES });
        }
        admission.cover(bytes)?;
        self.ready()?;
        let (answer, answered) = oneshot::channel();
        let identity = draft.request();
        let Draft { name, topic, settings, parts, order, routes, .. } = draft;
        let (compression, waiting) = (settings.compression, Ticket { answer, admission });
        let request = Request { name, topic, compression, parts, identity, waiting };
        let limit = self.0.settings.request_timeout;
        let answer = timeout(limit, async {
            self.0.inbox.send(request).await.map_err(|_| ProposeError::ShuttingDown)?;
            answered.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the batcher stopped".to_owned()).into()))
        });
        match answer.await.unwrap_or(Err(IngestError::TimedOut(limit)))? {
            Answer::Stored(parts) => Ok(PublishReply::new(order.place(&parts), false)),
            Answer::Duplicate(original) => {
                let places = placement::replay(&routes, &original).ok_or(IngestError::IdentityReused)?;
                Ok(PublishReply::new(places, true))
            }
        }
    }

    /// Reads messages of one partition, waiting for some if asked to.
    ///
    /// # Errors
    /// When topic or partition do not exist, the offset is outside the log, or messages cannot be fetched.
    pub async fn read(&self, request: ReadRequest) -> Result<ReadReply, IngestError> {
        self.0.reader.read(request).await
    }

    /// Reads on from the given position of every partition, each in fair turn.
    ///
    /// # Errors
    /// Like [`Self::read`].
    pub async fn poll(&self, request: PollRequest) -> Result<PollReply, IngestError> {
        self.0.reader.poll(request).await
    }

    /// An empty draft of what a transaction publishes to a topic.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn transaction_draft(&self, topic: &TopicName, id: &TransactionId) -> Result<Draft, IngestError> {
        // With a space no client's own key is like it.
        self.draft(topic, Some(Identity::Key(format!("transaction {id}").into())))
    }

    /// Carries a transaction out, or prepares it; answers when that is committed. A repeated one gets the first answer.
    ///
    /// When the caller goes away, the transaction goes on.
    ///
    /// # Errors
    /// `TimedOut` and `Propose(Unknown)` leave open whether it has happened; after all others it has not.
    pub async fn transact(
        &self,
        draft: TransactionDraft,
        admission: Admission,
    ) -> Result<TransactionReply, IngestError> {
        let (started, messages, payload) = (Instant::now(), draft.messages(), draft.payload_bytes());
        let reply = match self.ready() {
            Ok(()) => self.0.transactions.transact(draft, admission).await,
            Err(error) => Err(error),
        };
        match &reply {
            Ok(reply) if reply.repeated => self.0.metrics.duplicate(),
            Ok(_) => self.0.metrics.acknowledged(messages, payload, started.elapsed()),
            Err(error) => self.0.metrics.refused(error),
        }
        reply
    }

    /// Decides a transaction that was prepared; deciding alike once more changes nothing. Gives what has become of it.
    ///
    /// # Errors
    /// `Refused` when there is no such transaction, or it was decided otherwise; like [`Self::transact`].
    pub async fn decide(&self, id: &TransactionId, commit: bool) -> Result<TransactionRecord, IngestError> {
        self.ready()?;
        self.0.transactions.decide(id, commit).await?;
        self.transaction(id)
    }

    /// What is known of a transaction.
    ///
    /// # Errors
    /// `Refused` when there is no such transaction, or it was decided long ago.
    pub fn transaction(&self, id: &TransactionId) -> Result<TransactionRecord, IngestError> {
        transaction::record(&self.0.log.state(), id).ok_or_else(|| Rejection::TransactionNotFound.into())
    }

    /// Transactions that wait for a decision, in the order of their ids: at most `limit` behind `after`.
    pub fn undecided(&self, after: Option<&TransactionId>, limit: usize) -> Vec<TransactionRecord> {
        transaction::undecided(&self.0.log.state(), after, limit)
    }

    /// Rolls transactions back that nobody has decided in time, and asks about the others where they say so. Only the
    /// leader's may do so: one task for each reign, until `stop` is cancelled.
    pub async fn watch_transactions(&self, ask: Ask, stop: CancellationToken) {
        self.0.transactions.watch(ask, stop).await;
    }

    /// The members of a subscription.
    ///
    /// # Errors
    /// When there is no such topic or subscription.
    pub fn members(&self, topic: &TopicName, subscription: &SubscriptionName) -> Result<Members, IngestError> {
        Members::new(self.clone(), topic, subscription)
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// A queue subscription.
    ///
    /// # Errors
    /// When there is no such topic or subscription, or it is of another kind.
    pub fn queue(&self, topic: &TopicName, name: &SubscriptionName) -> Result<QueueHandle, IngestError> {
        self.0.queues.handle(topic, name)
    }

    /// First offset whose message has that timestamp (milliseconds since the Unix epoch) or a later one; the high
    /// watermark if there is none.
    ///
    /// # Errors
    /// When topic or partition do not exist or messages cannot be fetched.
    pub async fn offset_at(
        &self,
        topic: TopicId,
        partition: Partition,
        timestamp_ms: i64,
    ) -> Result<Offset, IngestError> {
        self.0.reader.offset_at(topic, partition, timestamp_ms).await
    }

    /// Flushes what is open and refuses more; resolves when all is answered.
    pub async fn drain(&self) {
        self.0.closing.cancel();
        self.0.transactions.finish().await;
        self.0.closed.cancelled().await;
    }

    pub(crate) fn ready(&self) -> Result<(), IngestError> {
        if self.0.closing.is_cancelled() {
            return Err(ProposeError::ShuttingDown.into());
        }
        Ok(self.0.log.ready()?)
    }
}

#[cfg(test)]
mod tests;
