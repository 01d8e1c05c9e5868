//! How a queue subscription is reached: its task is started when it is first used, and ends when it is not used any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use brigade_index::{
    command::{Command, QueuePatch, QueueSettings, Rejection},
    env::Env,
    ids::{Offset, Partition, SubscriptionId, TopicId},
    names::{SubscriptionName, TopicName},
    shard::{Committed, Proposal, ProposeError},
    state::{Queue, Topic},
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Action, DeadLetterPage, DeadLetterPick, DeadLetterQuery, Delivery, QueueCounts, QueuePoll, ReceiptError, Settled,
    TransactionHold, dead,
    hold::tell_at_once,
    receipt::{Receipt, Sealer},
    task::{Message, Task},
};
use crate::{IngestError, IngestMetrics, ahead::ReadAhead, cache::BatchCache, log::Log};

/// Calls that may wait for a task.
const INBOX: usize = 1_024;

/// What every queue subscription works with.
pub(crate) struct Around {
    pub(crate) log: Log,
    pub(crate) cache: Arc<BatchCache>,
    pub(crate) ahead: ReadAhead,
    pub(crate) metrics: IngestMetrics,
    pub(crate) env: Env,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when nothing more is taken.
    pub(crate) closing: CancellationToken,
    pub(crate) request_timeout: Duration,
}

/// The tasks of the queue subscriptions that are used at present.
pub(crate) struct Queues {
    around: Arc<Around>,
    tasks: Mutex<HashMap<SubscriptionId, mpsc::Sender<Message>>>,
}

impl Queues {
    pub(crate) fn new(around: Around) -> Arc<Self> {
        Arc::new(Self { around: Arc::new(around), tasks: Mutex::default() })
    }

    pub(crate) fn handle(
        self: &Arc<Self>,
        topic: &TopicName,
        name: &SubscriptionName,
    ) -> Result<QueueHandle, IngestError> {
        let state = self.around.log.state();
        let topic = state.topic_named(topic).ok_or_else(|| IngestError::TopicNotFound(topic.clone()))?;
        let queue = queue_named(topic, name)?;
        let of = Of { topic: topic.id, name: name.clone(), id: queue.id };
        let sealer = Sealer::new(queue.id, &queue.secret);
        Ok(QueueHandle { queues: self.clone(), of, sealer })
    }

    /// The task of a subscription, started if it does not run; `None` when the subscription is gone.
    fn task(self: &Arc<Self>, of: &Of) -> Option<mpsc::Sender<Message>> {
        let mut tasks = self.tasks.lock();
        if let Some(task) = tasks.get(&of.id).filter(|task| !task.is_closed()) {
            return Some(task.clone());
        }
        tasks.retain(|_, task| !task.is_closed());
        let (inbox, messages) = mpsc::channel(INBOX);
        let task = Task::new(self.around.clone(), of.clone(), (inbox.downgrade(), messages))?;
        tasks.insert(of.id, inbox.clone());
        self.around.tasks.spawn(task.run());
        Some(inbox)
    }

    /// The task, if it runs.
    pub(super) fn running(&self, id: SubscriptionId) -> Option<mpsc::Sender<Message>> {
        self.tasks.lock().get(&id).filter(|task| !task.is_closed()).cloned()
    }
}

/// Which subscription it is.
#[derive(Clone, Debug)]
pub(super) struct Of {
    pub(super) topic: TopicId,
    pub(super) name: SubscriptionName,
    pub(super) id: SubscriptionId,
}

impl Of {
    /// The subscription, if it is still there.
    pub(super) fn find<'a>(&self, topic: Option<&'a Topic>) -> Option<&'a Queue> {
        topic?.subscriptions.get(&self.name)?.queue().filter(|queue| queue.id == self.id)
    }
}

fn queue_named<'a>(topic: &'a Topic, name: &SubscriptionName) -> Result<&'a Queue, Rejection> {
    let subscription = topic.subscriptions.get(name).ok_or(Rejection::SubscriptionNotFound)?;
    subscription.queue().ok_or(Rejection::WrongKind(subscription.kind_name()))
}

/// A queue subscription. Cheap to clone.
#[derive(Clone)]
pub struct QueueHandle {
    queues: Arc<Queues>,
    of: Of,
    sealer: Sealer,
}

/// A receipt as the task is given it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) receipt: Receipt,
    /// Its place in the call.
    pub(super) place: usize,
}

impl QueueHandle {
    /// Receives messages, waiting for some if asked to. When the caller goes away, nothing is delivered to it.
    ///
    /// # Errors
    /// When the subscription is gone, or messages cannot be fetched.
    pub async fn poll(&self, poll: QueuePoll) -> Result<Vec<Delivery>, IngestError> {
        self.queues.around.log.ready()?;
        let picked = self.ask(|answer| Message::Poll(poll, answer), Self::gone).await??;
        Ok(picked.into_iter().map(|picked| picked.seal(&self.sealer)).collect())
    }

    /// Settles messages by their receipts, and answers for each receipt, in their order. What is answered is committed.
    ///
    /// # Errors
    /// When it is not committed, or not known to be: then the call can be repeated.
    pub async fn settle(
        &self,
        action: Action,
        receipts: &[String],
    ) -> Result<Vec<Result<Settled, ReceiptError>>, IngestError> {
        let mut results: Vec<_> = Vec::with_capacity(receipts.len());
        let mut asked = Vec::with_capacity(receipts.len());
        for (place, text) in receipts.iter().enumerate() {
            let opened = self.sealer.open(text);
            asked.extend(opened.ok().map(|receipt| Asked { receipt, place }));
            results.push(opened.map(|_| Settled { extended: None }));
        }
        if asked.is_empty() {
            return Ok(results);
        }
        self.queues.around.log.ready()?;
        let answered = self.ask(
            |answer| Message::Settle(action, asked, answer),
            |_| ProposeError::Unknown("the subscription is not served here any more".to_owned()).into(),
        );
        let limit = self.queues.around.request_timeout;
        for (place, result) in timeout(limit, answered).await.map_err(|_| IngestError::TimedOut(limit))??? {
            results[place] =
                result.map(|extended| Settled { extended: extended.map(|to| (self.sealer.seal(&to), to.deadline_ms)) });
        }
        Ok(results)
    }

    /// Holds messages whose receipts are good, so that a transaction can acknowledge them.
    ///
    /// # Errors
    /// The first receipt that is not good and its place; then nothing is held.
    pub async fn hold(
        &self,
        receipts: &[String],
    ) -> Result<Result<TransactionHold, (usize, ReceiptError)>, IngestError> {
        let opened = receipts.iter().enumerate().map(|(place, text)| {
            let receipt = self.sealer.open(text).map_err(|error| (place, error))?;
            Ok(Asked { receipt, place })
        });
        let asked = match opened.collect::<Result<Vec<_>, _>>() {
            Ok(asked) => asked,
            Err(problem) => return Ok(Err(problem)),
        };
        self.ask(|answer| Message::Hold(asked, answer), Self::gone).await
    }

    /// How many messages are where.
    ///
    /// # Errors
    /// When the subscription is gone.
    pub async fn counts(&self) -> Result<QueueCounts, IngestError> {
        let mut counts = {
            let state = self.queues.around.log.state();
            let topic = state.topic(self.of.topic);
            let queue = self.of.find(topic).ok_or(Rejection::SubscriptionNotFound)?;
            let logs = topic.map(|topic| topic.partitions.as_slice()).unwrap_or_default();
            let mut counts = QueueCounts::default();
            for (number, log) in (0..).zip(logs) {
                match queue.partition(Partition(number)) {
                    Some(part) => {
                        counts.unsettled += part.unsettled(log.high_watermark);
                        counts.held += part.held().len() as u64;
                        counts.dead_letters += part.dead().len() as u64;
                    }
                    None => counts.unsettled += log.messages(),
                }
            }
            counts
        };
        if let Some(task) = self.queues.running(self.of.id) {
            let (answer, answered) = oneshot::channel();
            let _ = task.send(Message::Counts(answer)).await;
            // A task that ends has nothing in flight.
            let known = answered.await.unwrap_or_default();
            (counts.in_flight, counts.delayed) = (known.in_flight, known.delayed);
        }
        Ok(counts)
    }

    /// Changes settings. When they change what is delivered in which order, what is in flight is delivered again.
    ///
    /// # Errors
    /// When the settings are refused.
    pub async fn alter(&self, patch: QueuePatch) -> Result<(), IngestError> {
        let (topic, name) = (self.of.topic, self.of.name.clone());
        self.propose(Command::AlterQueue { topic, name, patch }, News::Always(|| Message::Refresh)).await
    }

    /// Moves the subscription: everything before the positions is settled, nothing behind them. What is in flight is
    /// delivered again.
    ///
    /// # Errors
    /// When a position is outside the log.
    pub async fn seek(&self, positions: Vec<(Partition, Offset)>) -> Result<(), IngestError> {
        let (topic, name) = (self.of.topic, self.of.name.clone());
        let seek = Command::CommitPositions { topic, name, positions, seek: true };
        self.propose(seek, News::Always(|| Message::BeginAgain)).await
    }

    /// Forgets what is in flight and looks at the committed state anew: something else than this handle has changed it.
    pub async fn begin_again(&self) {
        self.tell(Message::BeginAgain).await;
    }

    /// Tells the task something, if it runs.
    async fn tell(&self, message: Message) {
        if let Some(task) = self.queues.running(self.of.id) {
            // One that ends at this moment begins again anyway.
            let _ = task.send(message).await;
        }
    }

    /// Settings at present.
    ///
    /// # Errors
    /// When the subscription is gone.
    pub fn settings(&self) -> Result<Arc<QueueSettings>, IngestError> {
        let state = self.queues.around.log.state();
        let queue = self.of.find(state.topic(self.of.topic)).ok_or(Rejection::SubscriptionNotFound)?;
        Ok(queue.settings.clone())
    }

    /// Lists dead letters.
    ///
    /// # Errors
    /// When the subscription is gone, or messages cannot be fetched.
    pub async fn dead_letters(&self, query: DeadLetterQuery) -> Result<DeadLetterPage, IngestError> {
        dead::list(&self.queues.around, &self.of, query).await
    }

    /// Gives dead letters back: they are delivered again as if for the first time. Gives their number.
    ///
    /// # Errors
    /// When the subscription is gone, messages cannot be fetched to be filtered, or it is not committed.
    pub async fn redrive(&self, pick: DeadLetterPick) -> Result<u64, IngestError> {
        let _looking = LookAgain(self);
        dead::redrive(self, pick).await
    }

    /// Forgets dead letters. Gives their number.
    ///
    /// # Errors
    /// Like [`Self::redrive`].
    pub async fn purge(&self, pick: DeadLetterPick) -> Result<u64, IngestError> {
        dead::purge(self, pick).await
    }

    pub(super) fn around(&self) -> &Arc<Around> {
        &self.queues.around
    }

    pub(super) fn of(&self) -> &Of {
        &self.of
    }

    /// Proposes a command. The task hears the news even if the caller has gone away: the command stands all the same.
    pub(super) async fn propose(&self, command: Command, news: News) -> Result<(), IngestError> {
        let around = &self.queues.around;
        let (answer, answered) = oneshot::channel();
        let (queues, id) = (self.queues.clone(), self.of.id);
        let tell = move |message| {
            if let Some(task) = queues.running(id) {
                tell_at_once(&task, message);
            }
        };
        let done = Box::new(move |result: Result<Committed, ProposeError>| {
            let took_effect = result.as_ref().is_ok_and(|it| it.outcomes.iter().all(Result::is_ok));
            if let News::Always(news) = news
                && took_effect
            {
                tell(news());
                let _ = answer.send(result);
            } else if answer.send(result).is_err()
                && let News::IfLeft(news) = news
                && took_effect
            {
                tell(news());
            }
        });
        around.log.submit(Proposal { commands: vec![command], body: Vec::new(), done }).await;
        let limit = around.request_timeout;
        let answered = timeout(limit, answered).await.map_err(|_| IngestError::TimedOut(limit))?;
        let committed = answered.map_err(|_| ProposeError::Unknown("the shard stopped".to_owned()))??;
        for outcome in committed.outcomes {
            outcome?;
        }
        Ok(())
    }

    /// Asks the task. One that ends at this moment is asked again in its next life.
    /// `lost` says what it means that it ended without an answer.
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
        lost: impl FnOnce(&Self) -> IngestError,
    ) -> Result<T, IngestError> {
        let (answer, answered) = oneshot::channel();
        let mut message = message(answer);
        for _ in 0..ATTEMPTS {
            let Some(task) = self.queues.task(&self.of) else { break };
            match task.send(message).await {
                Ok(()) => return answered.await.map_err(|_| lost(self)),
                Err(refused) => message = refused.0,
            }
        }
        Err(self.gone())
    }

    /// Why a task gave no answer.
    fn gone(&self) -> IngestError {
        let around = &self.queues.around;
        if around.closing.is_cancelled() {
            return ProposeError::ShuttingDown.into();
        }
        match around.log.ready() {
            Err(problem) => problem.into(),
            Ok(()) => Rejection::SubscriptionNotFound.into(),
        }
    }
}

/// What the task is told when a command has taken effect.
#[derive(Clone, Copy)]
pub(super) enum News {
    /// In any case.
    Always(fn() -> Message),
    /// Only if the caller has gone away, who would tell it otherwise.
    IfLeft(fn() -> Message),
    Nothing,
}

/// When this is dropped, the task looks again for what is open, if it runs.
struct LookAgain<'a>(&'a QueueHandle);

impl Drop for LookAgain<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.0.queues.running(self.0.of.id) {
            tell_at_once(&task, Message::LookAgain);
        }
    }
}

/// Lives of a task that a call is brought to before it is given up.
const ATTEMPTS: usize = 4;
